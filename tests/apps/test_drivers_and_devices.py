"""`vfab driver`, `vfab device`, `vfab sim` and `vfab config` on a simulated plotter, as programs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import vfab.drivers as vfab_drivers
from apps.programs import Vfab, ask, plugin, processes_of
from vfab.model.manifest import json_schema
from vfab.sdk.testing import soon


def test_drivers_are_listed_with_what_could_not_be_read(vfab: Vfab, tmp_path: Path) -> None:
    plugin(tmp_path / "plugins", "good_one", "")
    broken = plugin(tmp_path / "plugins", "broken_one", "")
    (broken / "plugin.yaml").write_text("name: broken_one\nversoin: 1.0.0\n")
    done = vfab("driver", "list", "--json", env={"VFAB_PLUGIN_PATH": str(tmp_path / "plugins")}).json
    assert {"axidraw", "good_one"} <= {driver["name"] for driver in done["drivers"]}
    assert "did you mean version" in done["problems"][0]["message"]
    people = vfab("driver", "list", env={"VFAB_PLUGIN_PATH": str(tmp_path / "plugins")}).out
    assert "good_one" in people
    assert "cannot be read" in people


def test_a_driver_is_shown_without_running_it(vfab: Vfab) -> None:
    done = vfab("driver", "info", "axidraw", "--json").json
    assert done["category"] == "plotter"
    people = vfab("driver", "info", "axidraw").out
    assert "pen-up" in people
    assert "pen_up_percent" in people
    meter = vfab("driver", "info", "keithley2400").out
    for line in (
        "models: 2400, 2401",
        "methods: iv_sweep, single",
        "needs: platform 1.0.0",
        r"sent when it dies: :ABOR\n",
    ):
        assert line in meter, line


def test_a_library_that_a_driver_lacks_is_told_with_the_command_that_installs_it(vfab: Vfab, tmp_path: Path) -> None:
    plugin(tmp_path / "plugins", "short_one", "", "dependencies: ['no-such-thing-anywhere>=2']\n")
    env = {"VFAB_PLUGIN_PATH": str(tmp_path / "plugins")}
    wanted = "pip install 'no-such-thing-anywhere>=2'"
    assert wanted in vfab("driver", "info", "short_one", env=env).out
    listed = vfab("driver", "list", env=env).out
    assert "lacks a library" in listed
    assert wanted in listed
    for told in vfab("driver", "list", "--json", env=env).json["drivers"]:
        assert (wanted in told["remedy"]) == (told["name"] == "short_one"), told


def test_a_driver_whose_class_has_no_file_is_listed_as_lacking_its_code(vfab: Vfab) -> None:
    folder = vfab.home / "home" / "plugins" / "hollow"
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text("name: hollow\nversion: 1\nauthor: a\ndescription: d\ndriver_class: gone.D\n")
    listed = vfab("driver", "list").out
    assert "lacks its code" in listed
    assert f"hollow is of the class gone.D: no gone.py in {folder}" in listed
    told = vfab("driver", "info", "hollow").out
    assert "status: lacks its code" in told
    (folder / "gone.py").write_text("class D: pass\n")
    assert "lacks its code" not in vfab("driver", "list").out


def test_a_library_that_an_older_plugin_imports_and_is_not_there_is_told(vfab: Vfab, tmp_path: Path) -> None:
    guarded = "try:\n    import no_such_two\nexcept ImportError:\n    no_such_two = None\nimport beside\n"
    home = tmp_path / "plugins"
    home.mkdir()
    (home / "beside.py").write_text("")
    for name, imports in (("drv_lame", "from no_such_one.deep import thing\n"), ("drv_whole", guarded)):
        (home / f"{name}.py").write_text(
            f"from sat_toolkit.core.base_plugin import BaseDeviceDriver\n{imports}"
            f"class Lamp(BaseDeviceDriver):\n    def scan(self):\n        return []\n"
        )
    env = {"VFAB_PLUGIN_PATH": str(home)}
    status = {driver["name"]: driver["remedy"] for driver in vfab("driver", "list", "--json", env=env).json["drivers"]}
    assert "needs no_such_one:" in status["drv_lame"]
    assert status["drv_whole"] == ""
    listed = vfab("driver", "list", env=env).out
    assert listed.count("no_such_one") == 1
    told = vfab("driver", "info", "drv_lame", env=env).out
    assert "status: lacks a library" in told
    [folder] = [line for line in told.splitlines() if line.startswith("folder: ")]
    assert folder == f"folder: {home} (VFAB_PLUGIN_PATH)"


def test_every_built_in_driver_is_shown(vfab: Vfab) -> None:
    names = [driver["name"] for driver in vfab("driver", "list", "--json").json["drivers"]]
    simulated = {entry["name"] for entry in vfab("sim", "list", "--json").json["simulators"]}
    folders = [path.parent for path in Path(vfab_drivers.__file__).parent.glob("*/plugin.yaml")]
    assert len(names) == len(folders)
    assert {f.name.replace("_", "-") for f in folders if (f / "simulator.py").exists()} == simulated
    for name in names:
        shown = vfab("driver", "info", name)
        assert shown.code == 0, shown.err
        assert f"vfab driver run {name} COMMAND" in shown.out
        assert ("simulator: vfab sim run" in shown.out) == (name in simulated)


_ANY_NAME = """from vfab.sdk import BaseDriver, command
class Driver(BaseDriver):
    def is_connected(self): return True
    @command
    def hello(self, timeout_s, on_progress, method, args, kwargs):
        return [timeout_s, on_progress, method, args, kwargs]
"""


def test_a_parameter_may_have_any_name(vfab: Vfab, tmp_path: Path) -> None:
    names = ("timeout_s", "on_progress", "method", "args", "kwargs")
    listed = "".join(f"      {name}: {{type: string, required: true}}\n" for name in names)
    home = plugin(tmp_path / "plugins", "words", _ANY_NAME, f"    parameters:\n{listed}")
    vfab.env["VFAB_PLUGIN_PATH"] = str(tmp_path / "plugins")
    options = [part for name in names for part in (f"--{name.replace('_', '-')}", f"my {name}")]
    wanted = [f"my {name}" for name in names]
    assert vfab("driver", "run", "words", "hello", *options, "--json").json["result"] == wanted
    manifest = home / "plugin.yaml"
    manifest.write_text(manifest.read_text().replace("needs: nothing", "needs: connected"))
    at = ("--device", "tcp://127.0.0.1:9", "--json")
    assert vfab("driver", "run", "words", "hello", *options, *at).json["result"] == wanted
    given = [f"{name}=my {name}" for name in names]
    sent = vfab("device", "send", "tcp://127.0.0.1:9", "hello", *given, "--driver", "words", "--json")
    assert sent.json["result"] == wanted, sent.err


def test_a_drivers_commands_have_generated_help(vfab: Vfab) -> None:
    text = vfab("driver", "run", "axidraw", "move-to", "--help").out
    assert "--x-mm" in text
    assert "to the right from home, mm" in text
    assert "--pen-up-percent" in text
    assert "required" in text


def test_parameters_of_generated_commands_are_checked_before_anything_is_started(vfab: Vfab) -> None:
    assert vfab("driver", "run", "axidraw", "move-to", "--x-mm", 5).code == 2
    done = vfab("driver", "run", "axidraw", "move-to", "--x-mm", -5, "--y-mm", 5, "--json")
    assert done.code == 2
    assert done.error["code"] == "usage"
    assert "x" in done.error["message"]
    assert vfab("driver", "run", "axidraw", "pen-upp", "--json").error["code"] == "unknown_command"
    done = vfab("driver", "run", "axidraw", "pen-up", "--set", "pen_up_percent=600", "--json", "--device", "/dev/null")
    assert done.code in {10, 13}


def test_parameters_may_be_named_like_words_of_python_and_of_vfab(vfab: Vfab, tmp_path: Path) -> None:
    code = "from vfab.sdk import BaseDriver\nclass Driver(BaseDriver):\n    def hello(self, **given): return given\n"
    names = ("class", "json", "device", "settings", "help", "as_json", "values")
    listed = "".join(f"      {name}: {{default: '{name}!'}}\n" for name in names)
    choice = "      c: {choices: [mro, '', _x_], default: mro}\n"
    plugin(tmp_path / "plugins", "words", code, f"    parameters:\n{listed}{choice}")
    env = {"VFAB_PLUGIN_PATH": str(tmp_path / "plugins")}
    given = ("--class", "k", "--parameter-json", "j", "--parameter-device", "d", "--c", "_x_")
    done = vfab("driver", "run", "words", "hello", "--json", *given, env=env)
    assert (done.code, done.err) == (0, "")
    wanted = {name: f"{name}!" for name in names}
    assert done.json["result"] == {**wanted, "class": "k", "json": "j", "device": "d", "c": "_x_"}
    assert "--parameter-help" in vfab("driver", "run", "words", "hello", "--help", env=env).out


def test_a_result_that_json_cannot_write_is_one_strict_document_all_the_same(vfab: Vfab, tmp_path: Path) -> None:
    code = (
        "from vfab.sdk import BaseDriver\nclass Driver(BaseDriver):\n"
        "    def hello(self): return {'n': [float('nan'), -float('inf')], 3: 1, (1, 2): (None,)}\n"
    )
    plugin(tmp_path / "plugins", "odd", code)
    done = vfab("driver", "run", "odd", "hello", "--json", env={"VFAB_PLUGIN_PATH": str(tmp_path / "plugins")})
    assert (done.code, done.err) == (0, "")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    result = json.loads(done.out, parse_constant=refuse)["result"]
    assert result == {"n": ["nan", "-inf"], "3": 1, "(1, 2)": [None]}


@pytest.mark.parametrize("firmware", ["2.8", "3"])
def test_a_generated_command_moves_the_simulated_plotter(vfab: Vfab, firmware: str) -> None:
    simulator = vfab.simulator("--speed", "instant", "--firmware", firmware)
    done = vfab("driver", "run", "axidraw", "move-to", "--x-mm", 12, "--y-mm", 34, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["result"]["x_mm"] == 12
    steps = ask(simulator.address, "QS").split()[0].removeprefix("QS,").split(",")
    assert [int(part) for part in steps] == [(12 + 34) * 80, (12 - 34) * 80]
    simulator.end()


def test_a_command_that_needs_no_device_gets_none(vfab: Vfab) -> None:
    done = vfab("driver", "run", "axidraw", "status", "--json")
    assert done.json["result"] == {"state": "disconnected", "position": None, "job": None}


def test_a_point_out_of_reach_is_told_as_a_point(vfab: Vfab) -> None:
    vfab.simulator("--speed", "instant")
    done = vfab("driver", "run", "axidraw", "move-to", "--x-mm", 1000, "--y-mm", 34)
    assert done.code == 13
    assert "the point is out of the pen's reach of 300 × 218 mm" in done.err
    assert "--fit" not in done.err


_LAMP = """name: lamp
version: "1.0"
author: A. Author
description: A lamp
category: instrument
driver_class: driver.Lamp
commands:
  boom: {help: Fail, needs: nothing}
  read: {help: Read}
"""
_LAMP_CODE = """from vfab.sdk import BaseDriver, command


class Lamp(BaseDriver):
    @command
    def boom(self):
        return 1 / 0

    @command
    def read(self):
        return 1
"""


def test_an_own_driver_without_match_rules_is_told_how_it_gets_its_device_and_where_it_failed(vfab: Vfab) -> None:
    folder = vfab.home / "home" / "plugins" / "lamp"
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(_LAMP)
    (folder / "driver.py").write_text(_LAMP_CODE)
    assert "fits: no device by itself" in vfab("driver", "info", "lamp").out
    assert "--device tcp://" in vfab("driver", "run", "lamp", "read").err
    failed = vfab("driver", "run", "lamp", "boom")
    assert "ZeroDivisionError" in failed.err
    assert "driver.py:7, in boom" in failed.err
    assert "Traceback" not in failed.err
    assert "Traceback" in vfab("driver", "run", "lamp", "boom", "--json").error["context"]["traceback"]


def test_a_scan_finds_a_running_simulator_and_not_one_that_ended(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    found = [d for d in vfab("device", "scan", "--json").json["devices"] if d["bus"] == "simulator"]
    # an EggBot has the same board, so its driver is named, too, after the one that fits best
    assert [(d["address"], d["drivers"]) for d in found] == [(simulator.address, ["axidraw", "eggbot"])]
    assert simulator.address in vfab("device", "scan").out
    simulator.end()
    assert not [d for d in vfab("device", "scan", "--json").json["devices"] if d["bus"] == "simulator"]


def test_a_simulator_on_tcp_is_found_and_used_by_its_address(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant", "--tcp", 0)
    assert simulator.address.startswith("tcp://127.0.0.1:")
    assert vfab("device", "connect", simulator.address, "--json").json["result"]["success"] is True
    assert simulator.address in {d["address"] for d in vfab("device", "scan", "--json").json["devices"]}


def test_a_simulator_prints_one_line_and_draws_until_it_is_ended(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    for command in (["pen-down"], ["pen-up"]):
        assert vfab("driver", "run", "axidraw", *command).code == 0
    assert "<polyline" in simulator.end()
    assert simulator.process.returncode == 0
    assert simulator.process.stdout is not None
    assert simulator.process.stdout.read() == ""


def test_simulators_are_listed_those_that_run_too(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    done = vfab("sim", "list", "--json").json
    assert "axidraw" in [found["name"] for found in done["simulators"]]
    assert done["running"] == [{"name": "axidraw", "address": simulator.address, "pid": simulator.process.pid}]


def test_wrong_options_of_a_simulator_are_told(vfab: Vfab) -> None:
    done = vfab("sim", "run", "axidraw", "--fault", "explode@3")
    assert done.code != 0
    assert "explode" in done.err
    assert vfab("sim", "run").code == 2
    assert vfab("sim", "run", "nobody", "--json").error["code"] == "driver_not_found"
    assert "--firmware" in vfab("sim", "run", "axidraw", "--help").out


def test_any_plugin_with_a_simulator_can_be_run_and_is_found(vfab: Vfab, tmp_path: Path) -> None:
    home = plugin(tmp_path / "plugins", "lamp", "", "simulator: fake_lamp.py\n")
    (home / "fake_lamp.py").write_text(
        "import json, os, signal, sys\nfrom helper import ADDRESS\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print(json.dumps({'name': 'lamp', 'address': ADDRESS, 'pid': os.getpid()}), flush=True)\n"
        "while True:\n    signal.pause()\n"
    )
    (home / "helper.py").write_text("ADDRESS = 'tcp://127.0.0.1:9'\n")
    vfab.env["VFAB_PLUGIN_PATH"] = str(tmp_path / "plugins")
    process = vfab.start("sim", "run", "lamp")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["pid"] == process.pid
    found = vfab("device", "scan", "--json").json["devices"]
    assert [d["drivers"] for d in found if d["bus"] == "simulator"] == [["lamp"]]
    process.terminate()
    assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("verb", "states"),
    [
        ("init", ["discovered", "initialized"]),
        ("connect", ["discovered", "initialized", "connected", "active", "connected"]),
        ("disconnect", ["discovered", "initialized", "connected", "disconnected"]),
        ("close", ["discovered", "initialized", "connected", "disconnected"]),
    ],
)
def test_each_step_with_a_device_tells_its_states_and_lets_it_go(vfab: Vfab, verb: str, states: list[str]) -> None:
    vfab.simulator("--speed", "instant")
    done = vfab("device", verb, "sim:", "--json")
    assert done.code == 0, done.err
    assert done.json["states"][: len(states)] == states
    assert done.json["released"] is True
    assert vfab("device", "list", "--json").json["devices"][0]["holder"] is None


def test_reset_brings_the_board_back_to_its_beginning(vfab: Vfab) -> None:
    vfab.simulator("--speed", "instant")
    done = vfab("device", "reset", "sim:", "--json")
    assert done.code == 0, done.err
    assert "let go" in vfab("device", "init", "sim:").out


def test_a_command_is_sent_with_parameters_by_name(vfab: Vfab) -> None:
    vfab.simulator("--speed", "instant")
    done = vfab("device", "send", "sim:", "move-to", "x_mm=7", "y_mm=8", "--json")
    assert done.json["result"] == {"x_mm": 7.0, "y_mm": 8.0, "pen": "up"}
    for wrong, said in (("x_mm=7", "y_mm"), ("x_mm=-1", "x_mm"), ("z_mm=1", "z_mm"), ("x_mm=abc", "x_mm")):
        refused = vfab("device", "send", "sim:", "move-to", wrong, "--json")
        assert (refused.code, refused.error["code"]) == (13, "bad_configuration")
        assert said in refused.error["message"]


def test_the_state_of_a_device_is_told_without_touching_it(vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    done = vfab("device", "state", simulator.address, "--json").json
    assert (done["state"], done["holder"]) == ("discovered", None)
    assert "used by nobody" in vfab("device", "state", "sim:").out


def test_the_drivers_checks_pass_against_its_simulator(vfab: Vfab) -> None:
    done = vfab("driver", "test", "axidraw", "--json")
    assert done.code == 0, done.out
    checks = {check["name"]: check["outcome"] for check in done.json["checks"]}
    assert checks["host-killed"] == "passed"
    assert checks["square"] == "passed"
    assert "failed" not in checks.values()
    soon(lambda: not processes_of(vfab.home / "home"))


def test_the_drivers_checks_name_what_fails(vfab: Vfab, tmp_path: Path) -> None:
    home = plugin(tmp_path / "plugins", "lamp", _BROKEN_LAMP, "simulator: fake_lamp.py\n")
    (home / "fake_lamp.py").write_text(_FAKE_LAMP)
    done = vfab("driver", "test", "lamp", env={"VFAB_PLUGIN_PATH": str(tmp_path / "plugins")})
    assert done.code == 1
    assert "FAIL  connects" in done.out
    assert "the lamp is dark" in done.out


_BROKEN_LAMP = """
from vfab.sdk import BaseDriver, command
from vfab.model.errors import HardwareError

class Driver(BaseDriver):
    def connect(self):
        raise HardwareError("the lamp is dark")

    @command
    def hello(self):
        return "hello"
"""
_FAKE_LAMP = """
import json, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(json.dumps({"name": "lamp", "address": "tcp://127.0.0.1:9", "pid": os.getpid()}), flush=True)
while True:
    signal.pause()
"""


def test_settings_are_set_shown_with_their_source_checked_and_removed(vfab: Vfab) -> None:
    assert vfab("config", "set", "axidraw", "pen_up_percent", "65").code == 0

    def shown(**env: str) -> dict[str, object]:
        fields = vfab("config", "show", "axidraw", "--json", env=env).json["drivers"]["axidraw"]
        return {field["field"]: (field["value"], field["source"]) for field in fields}

    assert shown()["pen_up_percent"] == (65.0, "config.yaml line 3")
    assert shown(VFAB_AXIDRAW_PEN_UP_PERCENT="70")["pen_up_percent"] == (70.0, "env VFAB_AXIDRAW_PEN_UP_PERCENT")
    assert vfab("config", "check").code == 0
    assert vfab("config", "set", "axidraw", "pen_up_percent", "--unset").code == 0
    assert shown()["pen_up_percent"][1] == "default"  # type: ignore[index]


def test_a_wrong_setting_is_refused_and_the_file_left_as_it_was(vfab: Vfab) -> None:
    assert vfab("config", "set", "axidraw", "pen_up_percent", "65").code == 0
    before = (vfab.home / "home" / "config.yaml").read_text()
    for field, value in (("pen_up_percent", "650"), ("pen_up_procent", "60")):
        done = vfab("config", "set", "axidraw", field, value, "--json")
        assert done.code == 13
        assert "pen_up_percent" in done.error["message"]
    assert (vfab.home / "home" / "config.yaml").read_text() == before


def test_mistakes_in_the_file_are_found_with_their_lines(vfab: Vfab) -> None:
    home = vfab.home / "home"
    home.mkdir()
    (home / "config.yaml").write_text("device:\n  axidraw:\n    pen_up_percent: high\n  axidrau: {}\ndevices: {}\n")
    done = vfab("config", "check", "--json")
    assert done.code == 13
    said = "\n".join(problem["message"] for problem in done.json["problems"])
    assert "config.yaml:3" in said
    assert "axidrau" in said
    assert "devices" in said


def test_schemas_are_printed(vfab: Vfab) -> None:
    assert vfab("config", "schema", "--manifest").json == json.loads(json.dumps(json_schema()))
    assert "pen_up_percent" in vfab("config", "schema", "--driver", "axidraw").json["properties"]
    assert "axidraw" in vfab("config", "schema").json["properties"]["device"]["properties"]


def test_a_simulator_whose_starter_was_killed_ends(vfab: Vfab) -> None:
    process = vfab.start("driver", "test", "axidraw", "--json")
    soon(lambda: len(processes_of(vfab.home / "home")) >= 3)
    os.kill(process.pid, signal.SIGKILL)
    soon(lambda: not [pid for pid in processes_of(vfab.home / "home") if pid != process.pid or process.poll() is None])
