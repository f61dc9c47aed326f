"""A simulator that starts is awaited by a scan that begins meanwhile, and only such a one, and not for long."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vfab.kernel.simulators import SimulatorHandler, announce_simulator
from vfab.kernel.starting import await_starting, starting


class Clock:
    """Time that passes when somebody sleeps; `then` is told how often that was."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept = 0
        self.then: Callable[[int], None] = lambda slept: None

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept += 1
        self.then(self.slept)


def test_a_simulator_that_starts_is_awaited_until_it_serves(tmp_path: Path) -> None:
    clock = Clock()
    with starting(tmp_path) as serves:
        assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}.starting"]
        clock.then = lambda slept: serves() if slept == 7 else None
        await_starting(tmp_path, 3.0, clock=clock, sleep=clock.sleep)
    assert clock.slept == 7
    assert list(tmp_path.iterdir()) == []


def test_one_that_never_serves_is_awaited_no_longer_than_allowed(tmp_path: Path) -> None:
    clock = Clock()
    with starting(tmp_path):
        await_starting(tmp_path, 3.0, clock=clock, sleep=clock.sleep)
        assert 3.0 <= clock.now_s - 100.0 < 3.2
    await_starting(tmp_path, 3.0, clock=clock, sleep=lambda seconds: pytest.fail("nobody starts"))


def test_marks_of_processes_that_ended_or_hang_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"{ended.pid}.starting").touch()
    (tmp_path / "nonsense.starting").touch()
    old = tmp_path / f"{os.getpid()}.starting"
    old.touch()
    os.utime(old, (1.0, 1.0))
    await_starting(tmp_path, 3.0, sleep=lambda seconds: pytest.fail("nobody starts"))
    assert list(tmp_path.iterdir()) == []


def test_a_scan_finds_a_simulator_that_was_starting_when_it_began(tmp_path: Path) -> None:
    with starting(tmp_path) as serves, announce_simulator("axidraw", "/dev/pts/99", folder=tmp_path):
        serves()
        assert [device.address for device in SimulatorHandler(tmp_path).find()] == ["/dev/pts/99"]
