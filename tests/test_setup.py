"""What a newcomer is told when something that set-up needs is missing, and that nothing is done twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import setup
from node_packages import install_node_packages

ROOT = Path(__file__).resolve().parent.parent


def _setup(root: Path, path: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `scripts/setup runtime` in a checkout whose `scripts/setup.py` only says which Python ran it."""
    (root / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts" / "setup", root / "scripts" / "setup")
    (root / "scripts" / "setup.py").write_text("import sys; print(sys.argv[1:])\n", encoding="utf-8")
    command = ["/bin/sh", str(root / "scripts" / "setup"), "runtime"]
    return subprocess.run(command, env={"PATH": path, **env}, capture_output=True, text=True, check=False)


def _tools(folder: Path, **scripts: str) -> str:
    """A PATH with nothing but what the shell script itself uses, and these scripts."""
    folder.mkdir()
    for tool in ("dirname", "sed"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return str(folder)


def test_without_any_python_the_newcomer_is_told_what_to_install(tmp_path: Path) -> None:
    done = _setup(tmp_path, _tools(tmp_path / "bin"))
    assert done.returncode == 1
    assert "no Python 3.11 or newer was found" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_a_python_that_is_named_but_does_not_run_is_refused_by_its_name(tmp_path: Path) -> None:
    done = _setup(tmp_path, _tools(tmp_path / "bin", python3=f'exec {sys.executable} "$@"'), PYTHON="python2")
    assert done.returncode == 1
    assert "PYTHON=python2 does not run" in done.stderr


def test_a_shim_that_is_on_the_path_but_does_not_run_is_passed_over(tmp_path: Path) -> None:
    shims = {"python3.13": "echo not installed >&2; exit 127", "python3": f'exec {sys.executable} "$@"'}
    done = _setup(tmp_path, _tools(tmp_path / "bin", **shims))
    assert (done.returncode, done.stdout) == (0, "['runtime']\n"), done.stderr


def test_the_python_that_made_the_venv_is_used_again(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"executable = {sys.executable}\n", encoding="utf-8")
    done = _setup(tmp_path, _tools(tmp_path / "bin"))
    assert (done.returncode, done.stdout) == (0, "['runtime']\n"), done.stderr


def _referee(root: Path) -> Path:
    folder = root / "tests" / "referees" / "peer"
    folder.mkdir(parents=True)
    (folder / "package-lock.json").write_text("{}", encoding="utf-8")
    return folder


def _node(path: Path, npm: str) -> str:
    path.mkdir()
    for name, text in {"node": "echo v20.1.0", "npm": npm}.items():
        (path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (path / name).chmod(0o755)
    return str(path)


def test_without_npm_and_the_right_to_install_it_the_skipped_tests_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _referee(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    (told,) = install_node_packages(tmp_path, may_install=False)
    assert "sudo apt-get install nodejs npm" in told
    assert "tests/referees/peer" in told


def test_node_packages_are_installed_once_until_their_lock_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _referee(tmp_path)
    path = _node(tmp_path / "bin", f'echo "$@" >> {tmp_path}/calls')
    monkeypatch.setenv("PATH", path + os.pathsep + os.environ["PATH"])
    assert [install_node_packages(tmp_path, may_install=False) for _ in range(2)] == [[], []]
    (folder / "package-lock.json").write_text('{"name": "changed"}', encoding="utf-8")
    assert install_node_packages(tmp_path, may_install=False) == []
    assert (tmp_path / "calls").read_text() == "ci --ignore-scripts --no-audit --no-fund --silent\n" * 2


def test_an_npm_that_fails_is_told_with_its_last_words_and_tried_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _referee(tmp_path)
    path = _node(tmp_path / "bin", "echo network is down >&2; exit 1")
    monkeypatch.setenv("PATH", path + os.pathsep + os.environ["PATH"])
    for _ in range(2):
        (told,) = install_node_packages(tmp_path, may_install=False)
        assert told == "npm ci failed in tests/referees/peer, whose tests are skipped: network is down"


def test_uv_is_told_of_the_index_and_the_certificates_that_pip_is_set_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://pip.example/simple\ncert = /etc/ca.pem\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").touch()
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup, "PYTHON", Path(sys.executable))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    told = setup.uv_environment()
    assert (told["UV_DEFAULT_INDEX"], told["SSL_CERT_FILE"]) == ("https://pip.example/simple", "/etc/ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", "/mine.pem")
    assert setup.uv_environment()["SSL_CERT_FILE"] == "/mine.pem"
