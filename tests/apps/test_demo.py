"""`vfab demo`: what a newcomer sees first."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from apps.programs import SMALL, Vfab, processes_of
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.svg import read_drawing
from vfab.sdk.testing import soon

STEP_MM = 0.0125
DRAWING = Path(__file__).parents[2] / "src/vfab/apps/demo/evening.svg"


@pytest.mark.slow
def test_the_demonstration_draws_measures_and_writes_what_the_pen_did(vfab: Vfab) -> None:
    done = vfab("demo", "--out", vfab.home / "out", "--json", "--speed", "40")
    assert done.code == 0, done.err
    told = done.json
    assert told["started_s"] > 0
    assert told["deviation_mm"] <= STEP_MM
    assert told["report"]["completed"] is True
    out = vfab.home / "out"
    assert (out / "drawn.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "report.json").read_text())["device"] == told["device"]
    drawn, wanted = read_drawing((out / "drawn.svg").read_bytes()), read_drawing(DRAWING.read_bytes())
    assert max_deviation_mm([p.points for p in drawn.paths], [p.points for p in wanted.paths]) <= STEP_MM + 0.02
    assert not processes_of(vfab.home / "home")


def test_the_drawing_of_the_demonstration_has_layers_and_takes_under_a_minute(vfab: Vfab) -> None:
    plan = vfab("plot", DRAWING, "--dry-run", "--json").json
    assert len(plan["layers"]) == 4
    assert 5 <= plan["planned_s"] <= 60


def test_each_step_of_the_demonstration_is_told_in_one_line(vfab: Vfab) -> None:
    done = vfab("demo", "--out", vfab.home / "out", "--drawing", vfab.file(SMALL), "--speed", "instant")
    assert done.code == 0, done.err
    words = [line.split()[0].rstrip(":") for line in done.out.splitlines()]
    assert [word for word in words if word != "drawing"] == ["found", "driver", "plan", "drawn", "measured", "wrote"]
    assert " mm " in done.out


def test_on_a_terminal_a_bar_shows_the_progress_and_the_remaining_time(vfab: Vfab) -> None:
    master, slave = pty.openpty()
    env = {**vfab.env, "TERM": "xterm-256color"}
    command = [vfab.program, "demo", "--out", str(vfab.home / "out"), "--drawing", str(vfab.file(SMALL))]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env) as process:
        os.close(slave)
        seen = b""
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError:  # the terminal's other end is closed
            pass
    os.close(master)
    assert process.returncode == 0, seen.decode()
    text = seen.decode()
    assert "━" in text
    assert "100%" in text
    assert "left" in text


def test_an_interrupted_demonstration_leaves_nothing_running(vfab: Vfab) -> None:
    process = vfab.start("demo", "--out", vfab.home / "out", "--speed", "real")
    soon(lambda: len(processes_of(vfab.home / "home")) >= 3)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("plan"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    soon(lambda: not processes_of(vfab.home / "home"))


def test_a_killed_demonstration_leaves_nothing_running(vfab: Vfab) -> None:
    process = vfab.start("demo", "--out", vfab.home / "out", "--speed", "real")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("plan"):
            break
    process.kill()
    process.wait()
    soon(lambda: not processes_of(vfab.home / "home"))


def test_after_the_demonstration_a_simulator_may_stay(vfab: Vfab) -> None:
    process = vfab.start("demo", "--serve", "--out", "out", "--drawing", vfab.file(SMALL), "--speed", "instant")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("serving"):
            break
    assert vfab("driver", "run", "axidraw", "position").code == 0
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    soon(lambda: not processes_of(vfab.home / "home"))
