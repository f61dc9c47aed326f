"""`vfab plot`: a file becomes a drawing; what interrupts it loses nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apps.programs import LONG, SMALL, Vfab, ask, pen_is_up, processes_of
from vfab.apps.plotting import REPORT_KEYS
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.svg import SvgOptions, read_drawing
from vfab.sdk.testing import patience, soon

MEDIUM = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="140mm" height="60mm" viewBox="0 0 140 60">'
    + "".join(
        f'<path d="M 10 {y} C 40 {y - 8} 90 {y + 8} 130 {y}" fill="none" stroke="black"/>' for y in range(10, 56, 5)
    )
    + "</svg>"
)
STEP_MM = 0.0125
"""One motor step moves the carriage of an AxiDraw by half of this along x and along y."""


def deviation_mm(drawn_svg: str, wanted_svg: str) -> float:
    as_it_is = SvgOptions(sort=False, merge=False, tolerance_mm=0.001)
    drawn = read_drawing(drawn_svg.encode(), options=as_it_is)
    wanted = read_drawing(wanted_svg.encode())
    return max_deviation_mm([path.points for path in drawn.paths], [path.points for path in wanted.paths])


def drawing_began(vfab: Vfab) -> None:
    """Wait until a good part is drawn: the place to go on from is saved every half second."""

    def done_mm() -> float:
        found = [json.loads(path.read_text()) for path in (vfab.home / "home" / "state").glob("**/*.json")]
        return max((float(saved.get("done_mm", 0.0)) for saved in found), default=0.0)

    soon(lambda: done_mm() > 150, 20)


@pytest.mark.parametrize("firmware", ["2.8", "3"])
def test_a_file_becomes_a_drawing_and_a_report(vfab: Vfab, firmware: str) -> None:
    simulator = vfab.simulator("--speed", "instant", "--firmware", firmware)
    file = vfab.file(SMALL)
    done = vfab("plot", file, "--report", vfab.home / "r.json")
    assert done.code == 0, done.err
    assert "from the file" in done.out
    report = json.loads((vfab.home / "r.json").read_text())
    assert tuple(report) == REPORT_KEYS
    assert report["completed"] is True
    assert report["device"].startswith("sim:axidraw")
    assert (report["resumed_from"], report["lifts"]) == (None, 1)
    assert report["max_deviation_mm"] <= STEP_MM
    assert deviation_mm(simulator.end(), SMALL) <= STEP_MM


def test_with_json_a_plot_prints_one_document_and_nothing_else(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    done = vfab("plot", vfab.file(SMALL), "--device", simulator.address, "--json")
    assert done.err == ""
    assert set(REPORT_KEYS) <= set(done.json)


def test_a_dry_run_plans_without_a_device(vfab: Vfab) -> None:
    done = vfab("plot", vfab.file(SMALL), "--dry-run", "--json", "--picture", vfab.home / "p.png")
    assert done.code == 0, done.err
    assert done.json["dry_run"] is True
    assert done.json["planned_s"] > 1
    assert (vfab.home / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "nothing was drawn" in vfab("plot", vfab.file(SMALL), "--dry-run").out


def test_the_report_of_a_dry_run_is_the_plan_and_says_that_nothing_is_complete(vfab: Vfab) -> None:
    assert vfab("plot", vfab.file(SMALL), "--dry-run", "--report", vfab.home / "r.json").code == 0
    report = json.loads((vfab.home / "r.json").read_text())
    assert tuple(report) == REPORT_KEYS
    assert report["planned_s"] > 0
    assert (report["elapsed_s"], report["completed"], report["max_deviation_mm"]) == (0.0, False, None)


def _planned_for(vfab: Vfab, *arguments: object, env: dict[str, str] | None = None) -> tuple[str, str]:
    plan = vfab("plot", vfab.file(SMALL), "--dry-run", "--json", *arguments, env=env).json
    return plan["driver"], plan["driver_from"]


def test_a_dry_run_says_which_driver_it_is_planned_for_and_why(vfab: Vfab) -> None:
    assert _planned_for(vfab) == ("axidraw", "assumed")
    assert "planned for axidraw: no plotter was found" in vfab("plot", vfab.file(SMALL), "--dry-run").out
    assert _planned_for(vfab, "--driver", "grbl") == ("grbl", "option")
    simulator = vfab.simulator(name="grbl")
    assert _planned_for(vfab) == ("grbl", "found")
    assert "planned for grbl, the plotter that was found" in vfab("plot", vfab.file(SMALL), "--dry-run").out
    assert _planned_for(vfab, "--device", simulator.address) == ("grbl", "device")
    assert vfab("config", "set", "plot.driver", "axidraw").code == 0
    assert _planned_for(vfab) == ("axidraw", "setting")
    assert _planned_for(vfab, env={"VFAB_PLOT_DRIVER": "grbl"}) == ("grbl", "setting")


def test_a_setting_names_the_plotter_among_several_and_at_an_address_that_nobody_knows(vfab: Vfab) -> None:
    vfab.simulator(name="grbl")
    vfab.simulator("--speed", "instant")
    assert "more than one plotter" in vfab("plot", vfab.file(SMALL)).err
    chosen = {"VFAB_PLOT_DRIVER": "axidraw"}
    done = vfab("plot", vfab.file(SMALL), "--json", env=chosen)
    assert done.json["completed"] is True
    unknown = vfab("plot", vfab.file(SMALL), "--device", "tcp://127.0.0.1:9", "--json")
    assert unknown.error["code"] == "bad_configuration"
    assert "grbl" in unknown.error["remedy"]
    assert "gpio" not in unknown.error["remedy"], "only plotters are named"
    tried = vfab("plot", vfab.file(SMALL), "--device", "tcp://127.0.0.1:9", "--json", env=chosen)
    assert tried.error["code"] != "bad_configuration"


def test_a_setting_that_names_no_driver_is_told(vfab: Vfab) -> None:
    failed = vfab("plot", vfab.file(SMALL), "--dry-run", "--json", env={"VFAB_PLOT_DRIVER": "axidrew"})
    assert failed.error["code"] == "driver_not_found"
    assert vfab("config", "set", "plot.driver", "grbl").code == 0
    assert "plot.driver grbl config.yaml line" in " ".join(vfab("config", "show", "plot").out.split())
    assert vfab("config", "check").code == 0
    assert vfab("config", "set", "plot.driver", "--unset").code == 0
    assert vfab("config", "set", "plot.colour", "red").code == 13


def test_a_driver_that_nobody_has_is_told_before_devices_are_looked_for(vfab: Vfab) -> None:
    failed = vfab("plot", vfab.file(SMALL), "--driver", "axidrew", "--json")
    assert failed.error["code"] == "driver_not_found"
    assert "axidraw" in failed.error["message"] + failed.error["remedy"]


def test_a_dry_run_on_a_device_moves_nothing(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    assert vfab("plot", vfab.file(SMALL), "--dry-run", "--device", simulator.address).code == 0
    assert ask(simulator.address, "QS").split()[0].removeprefix("QS,") == "0,0"
    assert "<polyline" not in simulator.end()


def test_options_of_the_plot_and_settings_of_the_driver_are_taken(vfab: Vfab) -> None:
    file = vfab.file(SMALL)
    slow = vfab("plot", file, "--dry-run", "--json", "--speed", 10).json
    fast = vfab("plot", file, "--dry-run", "--json", "--speed", 100).json
    assert slow["planned_s"] > fast["planned_s"]
    later = vfab("plot", file, "--dry-run", "--json", "--pen-up-delay-ms", 3000).json
    assert later["planned_s"] > vfab("plot", file, "--dry-run", "--json").json["planned_s"] + 2
    turned = vfab("plot", file, "--dry-run", "--json", "--rotate", 90).json
    assert (turned["width_mm"], turned["height_mm"]) == pytest.approx((40, 60))
    fitted = vfab("plot", file, "--dry-run", "--json", "--fit", "--page", "120x100", "--margin-mm", 20).json
    assert fitted["pen_down_mm"] > slow["pen_down_mm"]
    for option, value in (("--page", "b17"), ("--layers", "one"), ("--pen-up-percent", "600")):
        assert vfab("plot", file, "--dry-run", option, value).code == 13


def test_without_a_device_the_only_plotter_is_taken_and_several_are_listed(vfab: Vfab) -> None:
    file = vfab.file(SMALL)
    none = vfab("plot", file, "--json")
    assert (none.code, none.error["code"]) == (10, "device_not_found")
    assert "vfab sim run axidraw" in none.error["remedy"]
    first, second = vfab.simulator("--speed", "instant"), vfab.simulator("--speed", "instant")
    several = vfab("plot", file)
    assert several.code == 13
    assert first.address in several.err
    assert second.address in several.err
    assert "--device" in several.err
    assert vfab("plot", file, "--device", second.address).code == 0
    assert "<polyline" not in first.end()
    assert "<polyline" in second.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_plot_leaves_the_pen_up_says_how_to_go_on_and_is_completed(vfab: Vfab, number: int) -> None:
    simulator = vfab.simulator("--speed", "5")
    file, report = vfab.file(MEDIUM), vfab.home / "r.json"
    process = vfab.start("plot", file, "--device", simulator.address, "--report", report)
    drawing_began(vfab)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "--resume" in err
    assert pen_is_up(simulator.address)
    cut = json.loads(report.read_text())
    assert cut["completed"] is False
    assert 0 < cut["pen_down_mm"] < 1100
    soon(lambda: processes_of(vfab.home / "home") == [simulator.process.pid])
    done = vfab("plot", file, "--device", simulator.address, "--resume", "--json")
    assert done.code == 0, done.err
    assert 0 < done.json["resumed_from"] < 1
    assert deviation_mm(simulator.end(), MEDIUM) <= STEP_MM + 0.02


def test_with_json_an_interrupted_plot_is_an_error_document(vfab: Vfab) -> None:
    vfab.simulator("--speed", "2")
    process = vfab.start("plot", vfab.file(LONG), "--json")
    drawing_began(vfab)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert json.loads(err)["error"]["code"] == "interrupted"


def test_a_plot_whose_program_is_killed_leaves_no_process_and_the_pen_up(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "5")
    file = vfab.file(MEDIUM)
    process = vfab.start("plot", file, "--device", simulator.address)
    drawing_began(vfab)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    soon(lambda: processes_of(vfab.home / "home") == [simulator.process.pid])
    assert pen_is_up(simulator.address)
    done = vfab("plot", file, "--device", simulator.address, "--resume", "--json")
    assert done.code == 0, done.err
    assert done.json["resumed_from"] > 0


def test_a_second_program_is_told_who_uses_the_plotter(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "1")
    process = vfab.start("plot", vfab.file(LONG), "--device", simulator.address)
    drawing_began(vfab)
    done = vfab("driver", "run", "axidraw", "pen-down", "--json")
    assert (done.code, done.error["code"]) == (10, "device_busy")
    assert str(process.pid) in done.error["message"]
    held = vfab("device", "list", "--json").json["devices"][0]["holder"]
    assert held["pid"] == process.pid
    assert "vfab" in vfab("device", "state", "sim:").out
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def test_a_port_that_vanishes_ends_the_plot_and_resume_completes_it(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "10", "--fault", "unplug@150")
    file, report = vfab.file(MEDIUM), vfab.home / "r.json"
    done = vfab("plot", file, "--device", simulator.address, "--report", report, "--json")
    assert (done.code, done.error["code"]) == (10, "link_lost")
    assert "--resume" in done.error["remedy"]
    assert json.loads(report.read_text())["completed"] is False
    simulator.process.send_signal(signal.SIGUSR2)  # plugged in again
    soon(lambda: Path(simulator.address).exists())
    again = vfab("plot", file, "--device", simulator.address, "--resume", "--json")
    assert again.code == 0, again.err
    assert again.json["completed"] is True
    assert 0 < again.json["resumed_from"] < 1


def test_another_file_does_not_resume_the_interrupted_one(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "10")
    none = vfab("plot", vfab.file(SMALL), "--resume", "--json")
    assert (none.code, none.error["code"]) == (13, "refused")
    process = vfab.start("plot", vfab.file(MEDIUM), "--device", simulator.address)
    drawing_began(vfab)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    other = vfab("plot", vfab.file(SMALL, "other.svg"), "--resume", "--json")
    assert (other.code, other.error["code"]) == (13, "refused")
    assert "differs" in other.error["message"]


def spirals(count: int, points: int) -> str:
    """A drawing of `count` polylines of `points` segments each, in a grid on an A4 page."""
    lines = []
    for number in range(count):
        x, y = 10 + number % 50 * 5.2, 10 + number // 50 * 4.5
        dots = (
            f"{x + 2 * math.cos(k / 5) * (1 - k / points):.3f},{y + 2 * math.sin(k / 5) * (1 - k / points):.3f}"
            for k in range(points + 1)
        )
        lines.append(f'<polyline points="{" ".join(dots)}" fill="none" stroke="black"/>')
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="280mm" height="200mm" viewBox="0 0 280 200">'
    return head + "".join(lines) + "</svg>"


MEASURED = """import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr, "peak_kib": usage.ru_maxrss}))
"""
"""Runs a program from a small process: a child counts the pages that its parent had when it was forked."""


@pytest.mark.slow
def test_200_000_segments_are_planned_within_60_s_and_500_mb(vfab: Vfab) -> None:
    command = [vfab.program, "plot", str(vfab.file(spirals(2000, 100))), "--dry-run", "--json"]
    began = time.monotonic()
    measured = json.loads(
        subprocess.run([sys.executable, "-c", MEASURED, *command], env=vfab.env, capture_output=True, check=True).stdout
    )
    assert measured["code"] == 0, measured["err"]
    assert json.loads(measured["out"])["input_segments"] == 200_000
    assert time.monotonic() - began < patience(60)  # the limit that was asked for, some thirty times what it takes
    assert measured["peak_kib"] < 500 * 1024  # of the largest process among it and its hosts


def test_a_zero_on_the_command_line_is_a_zero(vfab: Vfab) -> None:
    drawing = vfab.file(SMALL)
    fitted = [
        vfab("plot", drawing, "--dry-run", "--json", "--fit", *margin).json["pen_down_mm"]
        for margin in ((), ("--margin-mm", 0))
    ]
    assert fitted[1] > fitted[0] * 1.2
    assert vfab("plot", drawing, "--dry-run", "--json", "--tolerance-mm", 0).error["code"] == "bad_configuration"


def test_a_file_without_an_end_is_refused(vfab: Vfab) -> None:
    done = vfab("plot", "/dev/zero", "--dry-run", "--json")
    assert (done.code, done.error["code"]) == (13, "bad_input")
