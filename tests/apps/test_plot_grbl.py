"""`vfab plot` on a GRBL machine, through the real command line: drawn, interrupted, resumed."""

from __future__ import annotations

import json
import signal

import pytest

from apps.programs import SMALL, Vfab
from apps.test_plot import MEDIUM, deviation_mm
from vfab.apps.plotting import REPORT_KEYS
from vfab.sdk.testing import soon

STEP_MM = 0.0125


@pytest.mark.parametrize("options", [(), ("--hal",), ("--pen", "z")])
def test_a_file_becomes_a_drawing_and_a_report(vfab: Vfab, options: tuple[str, ...]) -> None:
    simulator = vfab.simulator("--speed", "instant", *options, name="grbl")
    settings = ["--set", "pen=z"] if "z" in options else []
    done = vfab("plot", vfab.file(SMALL), "--device", simulator.address, "--report", vfab.home / "r.json", *settings)
    assert done.code == 0, done.err
    report = json.loads((vfab.home / "r.json").read_text())
    assert tuple(report) == REPORT_KEYS
    assert report["completed"] is True
    assert report["max_deviation_mm"] <= STEP_MM
    assert deviation_mm(simulator.end(), SMALL) <= STEP_MM


def test_ctrl_c_lifts_the_pen_and_resume_goes_on(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "3", "--set", "10=3", name="grbl")
    file = vfab.file(MEDIUM)
    plot = vfab.start("plot", file, "--device", simulator.address)

    def done_mm() -> float:
        found = [json.loads(path.read_text()) for path in (vfab.home / "home" / "state").glob("**/*.json")]
        return max((float(saved.get("done_mm", 0.0)) for saved in found), default=0.0)

    soon(lambda: done_mm() > 150, 30)
    plot.send_signal(signal.SIGINT)
    _, err = plot.communicate(timeout=30)
    assert plot.returncode != 0
    assert "--resume" in err
    done = vfab("plot", file, "--device", simulator.address, "--resume", "--json", timeout=120)
    assert done.code == 0, done.err
    assert 0 < done.json["resumed_from"] < 1
    assert deviation_mm(simulator.end(), MEDIUM) <= 2 * STEP_MM
