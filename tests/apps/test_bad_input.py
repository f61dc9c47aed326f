"""Bad input through the command line: each with its clear message, nothing half done, nothing left running."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import sys
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.programs import SMALL, Vfab, pen_is_up, plugin, processes_of
from vfab.apps.cli.output import print_error
from vfab.model.errors import HostDied
from vfab.sdk.testing import soon

EMPTY = '<svg xmlns="http://www.w3.org/2000/svg" width="60mm" height="40mm" viewBox="0 0 60 40"/>'
OFF_PAGE = EMPTY.replace("/>", '><path id="comet" d="M 5 5 H 90" fill="none" stroke="black"/></svg>')


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("this is a shopping list", "bad_input", "SVG"),
        ('{"type": "json"}', "bad_input", "SVG"),
        ("<html><body/></html>", "bad_input", "html"),
        ("", "bad_input", "empty"),
        (EMPTY, "bad_input", "draw"),
        (OFF_PAGE, "refused", "comet"),
    ],
    ids=["text", "json", "html", "an empty file", "an empty drawing", "off the page"],
)
def test_what_cannot_be_drawn_is_refused_before_the_pen_moves(vfab: Vfab, text: str, code: str, said: str) -> None:
    simulator = vfab.simulator("--speed", "instant")
    done = vfab("plot", vfab.file(text), "--json", "--report", vfab.home / "r.json")
    assert done.code == 13
    assert done.error["code"] == code
    assert said in done.error["message"]
    assert done.error["remedy"]
    assert not (vfab.home / "r.json").exists()
    assert "<polyline" not in simulator.end()
    soon(lambda: not processes_of(vfab.home / "home"))


def test_what_the_machine_cannot_reach_is_refused(vfab: Vfab) -> None:
    vfab.simulator("--speed", "instant")
    big = SMALL.replace(
        'width="60mm" height="40mm" viewBox="0 0 60 40"', 'width="900mm" height="600mm" viewBox="0 0 60 40"'
    )
    done = vfab("plot", vfab.file(big), "--json")
    assert (done.code, done.error["code"]) == (13, "refused")


def test_a_file_that_is_not_there_or_a_report_that_cannot_be_written_is_told_first(vfab: Vfab) -> None:
    done = vfab("plot", "nowhere.svg", "--json")
    assert (done.code, done.error["code"]) == (13, "bad_input")
    done = vfab("plot", vfab.file(SMALL), "--report", vfab.home / "no" / "folder" / "r.json", "--json")
    assert done.code == 13
    assert "folder" in done.error["remedy"]


HELLO = """
from vfab.sdk import BaseDriver, command

class Driver(BaseDriver):
    @command
    def hello(self):
        return "hello"
"""


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("import no_such_module_at_all\n" + HELLO, 16, "no_such_module_at_all"),
        ("this is not python\n", 14, "driver.py"),
        ("import os\nos._exit(7)\n", 10, "exit status 7"),
        ("import sys\nsys.exit(3)\n", 14, "3"),
        ("Nothing = None\n", 14, "Driver"),
        (HELLO.replace('return "hello"', "return 1 / 0"), 14, "division"),
    ],
    ids=["missing import", "no python", "ends at once", "sys.exit", "no class", "raises"],
)
def test_a_plugin_that_fails_costs_only_itself(
    vfab: Vfab, tmp_path: Path, code: str, exit_code: int, said: str
) -> None:
    plugin(tmp_path / "plugins", "broken", code)
    plugin(tmp_path / "plugins", "good", HELLO)
    vfab.env["VFAB_PLUGIN_PATH"] = str(tmp_path / "plugins")
    done = vfab("driver", "run", "broken", "hello", "--json")
    assert done.code == exit_code, done.err
    assert said in done.error["message"] + str(done.error["context"])
    people = vfab("driver", "run", "broken", "hello")
    assert "Traceback" not in people.err
    assert len(people.err.splitlines()) <= 4
    assert vfab("driver", "run", "good", "hello").out == "hello\n"
    soon(lambda: not processes_of(vfab.home / "home"))


@pytest.fixture
def port() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal that nobody serves."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    os.close(slave)
    yield master, name
    os.close(master)


def test_a_plugin_that_hangs_in_connect_is_ended(vfab: Vfab, tmp_path: Path, port: tuple[int, str]) -> None:
    code = HELLO + "    def connect(self):\n        import time\n        time.sleep(600)\n"
    plugin(tmp_path / "plugins", "deaf", code, "runtime:\n  connect_timeout_s: 0.5\n")
    vfab.env["VFAB_PLUGIN_PATH"] = str(tmp_path / "plugins")
    done = vfab("device", "connect", port[1], "--driver", "deaf", "--json")
    assert (done.code, done.error["code"]) == (11, "timeout")
    soon(lambda: not processes_of(vfab.home / "home"))


def test_a_port_where_nobody_answers_is_told(vfab: Vfab, port: tuple[int, str]) -> None:
    quick = ("--driver", "axidraw", "--timeout-s", "0.2", "--retry-count", "0")
    done = vfab("plot", vfab.file(SMALL), "--device", port[1], *quick, "--json")
    assert done.code in {10, 11}
    assert port[1] in done.error["message"] + str(done.error["context"])
    soon(lambda: not processes_of(vfab.home / "home"))


def _without_the_power_over_files() -> None:
    """Take from root what lets it open everything (PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    system = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        system.prctl(24, capability, 0, 0, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="permissions of root are taken by Linux capabilities")
def test_a_port_without_permission_is_told_with_the_fix(vfab: Vfab, port: tuple[int, str]) -> None:
    Path(port[1]).chmod(0)
    drop = _without_the_power_over_files if os.geteuid() == 0 else None
    process = vfab.start("plot", vfab.file(SMALL), "--device", port[1], "--json", preexec_fn=drop)
    out, err = process.communicate(timeout=30)
    _is_told_with_the_fix(process.returncode, json.loads(err)["error"])
    assert out == ""


def _is_told_with_the_fix(code: int, error: dict[str, object]) -> None:
    assert (code, error["code"]) == (12, "permission_refused")
    assert any(word in str(error["remedy"]) for word in ("usermod", "udev", "administrator"))


@pytest.mark.parametrize("fault", ["garble@60", "silent@60"])
def test_a_board_that_talks_nonsense_or_falls_silent_ends_the_plot(vfab: Vfab, fault: str) -> None:
    simulator = vfab.simulator("--speed", "20", "--fault", fault)
    done = vfab("plot", vfab.file(SMALL), "--timeout-s", "0.5", "--json")
    assert done.code in {10, 11, 15}
    assert done.error["remedy"]
    soon(lambda: processes_of(vfab.home / "home") == [simulator.process.pid])
    if fault.startswith("garble"):
        assert pen_is_up(simulator.address)


def test_a_camera_is_no_plotter(vfab: Vfab, tmp_path: Path) -> None:
    home = plugin(tmp_path / "plugins", "eye", HELLO)
    manifest = home / "plugin.yaml"
    manifest.write_text(manifest.read_text().replace("category: plotter", "category: camera"))
    vfab.env["VFAB_PLUGIN_PATH"] = str(tmp_path / "plugins")
    simulator = vfab.simulator("--speed", "instant")
    done = vfab("plot", vfab.file(SMALL), "--device", simulator.address, "--driver", "eye", "--json")
    assert done.code == 13
    assert "no plotter" in done.error["message"]


def test_what_a_driver_said_last_is_told_also_when_python_left_a_dump(capsys: pytest.CaptureFixture[str]) -> None:
    frames = ['  File "d.py", line 7 in go', '  File "main.py", line 300 in run']
    dump = ["Fatal Python error: Aborted", "", "Current thread 0x1 (most recent call first):", *frames]
    dump += ["", "Extension modules: msgspec._core (total: 1)"]
    print_error(HostDied("it ended", context={"last_lines": ["before", *dump]}), as_json=False)
    print_error(HostDied("it ended", context={"last_lines": ["before", "after"]}), as_json=False)
    told = [line for line in capsys.readouterr().err.splitlines() if "it said" in line]
    assert told == ['  it said: Fatal Python error: Aborted File "d.py", line 7 in go', "  it said: after"]
