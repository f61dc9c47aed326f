"""Boots the lab once, and tells each of its tests as a test here."""

from __future__ import annotations

import ast
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import lab_run
import pytest
from lab_boot import cpio
from lab_kernel import Kernel, find_kernel
from test_packages import PACKAGES, install_test_packages

from needs import program

HERE = Path(__file__).parent / "lab"
Verdict = Callable[[str], None]


def names() -> list[str]:
    """FILE::TEST of every test of the lab, read without importing them."""
    return [
        f"{path.stem}::{node.name}"
        for path in sorted(HERE.glob("test_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """The lab has been run; asked for a test, it fails or skips as that test did inside."""
    if why := lab_run.missing():
        pytest.skip(f"no lab on this machine: {why}")
    lab_run.compile_here()
    outcome = lab_run.run(lab_run.test_command([]), tmp_path_factory.mktemp("lab"))
    report = outcome.results / "junit.xml"
    cases: dict[str, list[ET.Element]] = {}
    if report.is_file():
        for case in ET.parse(report).iter("testcase"):
            name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '').partition('[')[0]}"
            cases.setdefault(name, []).append(case)

    def verdict(name: str) -> None:
        assert name in cases, outcome.problem or (outcome.results / "output.log").read_text(encoding="utf-8")
        bad = [found for case in cases[name] for found in (*case.iter("failure"), *case.iter("error"))]
        assert not bad, "\n\n".join(f"{found.get('message')}\n{found.text}" for found in bad)
        left_out = [found for case in cases[name] for found in case.iter("skipped")]
        if left_out and len(left_out) == len(cases[name]):
            pytest.skip(f"in the lab: {left_out[0].get('message')}")

    return verdict


@pytest.mark.slow
@pytest.mark.timeout(lab_run.TIME_LIMIT_S + 240)  # with the first download of the kernel
@pytest.mark.xdist_group("lab")
@pytest.mark.parametrize("name", names())
def test_in_the_lab(lab: Verdict, name: str) -> None:
    lab(name)


# -- the script itself ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(lab_run.TIME_LIMIT_S + 240)
@pytest.mark.xdist_group("lab")
def test_a_guest_that_never_ends_is_ended_and_its_last_words_are_shown(tmp_path: Path) -> None:
    if why := lab_run.missing():
        pytest.skip(f"no lab on this machine: {why}")
    told: list[str] = []
    slow = lab_run.run("echo here I am; sleep 1000", tmp_path / "slow", time_limit_s=30, tell=told.append)
    assert slow.code is None and "30 s" in slow.problem
    assert "here I am" in told and "here I am" in slow.problem and "lab: up after" in slow.problem
    quick = lab_run.run("exit 7", tmp_path / "quick")
    assert (quick.code, quick.problem) == (7, "")


def test_what_is_missing_for_the_lab_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFAB_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get" in lab_run.missing() or "amd64" in lab_run.missing()
    modules = tmp_path / "linux-image-6.1.0-9-amd64/lib/modules/6.1.0-9-amd64"
    newer = tmp_path / "linux-image-6.1.0-56-amd64/lib/modules/6.1.0-56-amd64"
    for folder in (modules, newer):
        folder.mkdir(parents=True)
        (folder / "modules.dep").write_text("")
    if os.uname().machine == "x86_64":
        assert find_kernel().version == "6.1.0-56-amd64", "numbers are compared as numbers"
        assert "busybox-static" in lab_run.missing()


def test_an_initrd_is_an_archive_that_cpio_reads(tmp_path: Path) -> None:
    archive = b"".join(cpio([("bin", 0o40755, b""), ("bin/a", 0o100755, b"hello"), ("b", 0o100644, b"")]))
    run([program("cpio", package="cpio"), "-id", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/a").read_bytes() == b"hello" and (tmp_path / "bin/a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "b").read_bytes() == b""


def test_the_kernels_of_both_debian_layouts_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the lab boots an amd64 kernel")
    monkeypatch.setenv("VFAB_LAB_CACHE", str(tmp_path))
    folder = tmp_path / "linux-image-6.12.0-1-amd64"
    modules = folder / "usr/lib/modules/6.12.0-1-amd64"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("")
    assert find_kernel() == Kernel("6.12.0-1-amd64", folder / "boot/vmlinuz-6.12.0-1-amd64", modules)


def test_packages_that_tests_use_are_named_where_they_cannot_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (told,) = install_test_packages(may_install=False)
    assert "mosquitto" in told and "qemu-system-x86" in told and "Skipped" in told
    dpkg = tmp_path / "dpkg-query"
    lines = "".join(f"echo installed {name}\n" for name in PACKAGES if name != "socat")
    dpkg.write_text(f"#!/bin/sh\n{lines}echo not-installed socat\n")
    dpkg.chmod(0o755)
    (told,) = install_test_packages(may_install=False)
    assert "socat" in told and "mosquitto" not in told
