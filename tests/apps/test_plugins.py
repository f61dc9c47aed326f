"""`vfab plugin new` and `vfab plugin check`: a plugin is begun, works at once, and what is wrong with it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apps.programs import Vfab
from vfab.apps.plugin_check import check_plugins, permissions_in_words
from vfab.apps.plugin_new import CATEGORIES, new_plugin
from vfab.model.errors import ConfigurationError
from vfab.model.permissions import Permissions

OF_CATEGORY = {"square", "image", "reading", "sensor-info", "identity", "capabilities", "answer", "connection-info"}
STREAMING = {"stop-streaming", "disconnect-streaming", "peer-gone-streaming"}


def fresh(folder: Path, category: str = "sensor") -> Path:
    return new_plugin("my-one", category, folder)


def changed(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def findings(folder: Path) -> list[Any]:
    (report,) = check_plugins(folder)
    return report.findings


def problem(folder: Path, field: str) -> Any:
    (found,) = [each for each in findings(folder) if each.level == "problem" and each.field == field]
    return found


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_a_fresh_plugin_passes_its_check_on_its_simulator(vfab: Vfab, category: str) -> None:
    made = vfab("plugin", "new", "my-one", "--category", category, "--json")
    assert made.code == 0, made.err
    checked = vfab("plugin", "check", made.json["folder"], "--json")
    assert checked.code == 0, checked.out
    (report,) = checked.json["plugins"]
    assert report["shape"]["dialect"] == "native"
    wrong = [check for check in report["checks"] if check["outcome"] not in {"passed", "skipped"}]
    assert not wrong
    assert len(report["checks"]) > 20
    skipped = {check["name"] for check in report["checks"] if check["outcome"] == "skipped"}
    assert not skipped & {"nobody-there", "peer-killed", "garbage-reply", "cancel", "leak", *OF_CATEGORY}
    assert (skipped & STREAMING == set()) is (category != "plotter")
    assert [finding["field"] for finding in report["findings"]] == ["match"]


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_the_tests_of_a_fresh_plugin_pass(tmp_path: Path, category: str) -> None:
    folder = fresh(tmp_path, category)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("category", "words", "told"),
    [
        ("sensor", ("driver", "run", "my-one", "read"), "21.5"),
        ("camera", ("capture", "-o", "now.png"), "16 × 12 pixels of GREY"),
        ("instrument", ("measure", "sweep", "points=3", "-o", "sweep.csv"), "3 points"),
        ("communication", ("driver", "run", "my-one", "query", "--command", "say hello"), "ok hello"),
    ],
)
def test_a_fresh_plugin_is_simulated_and_used_by_its_categorys_command(
    vfab: Vfab, category: str, words: tuple[str, ...], told: str
) -> None:
    vfab("plugin", "new", "my-one", "--category", category, "--out", "home/plugins")
    process = vfab.start("sim", "run", "my-one", "--speed", "instant")
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["name"] == "my-one"
    assert "my-one" in vfab("device", "scan", "--json").out
    done = vfab(*words, "--device", said["address"], *(() if words[0] == "driver" else ("--driver", "my-one")))
    assert told in done.out + done.err, done.out + done.err
    process.terminate()
    assert process.wait(20) == 0


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    (folder / "driver.py").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        fresh(tmp_path)
    assert (folder / "driver.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "My-one", "1st", "a/b", "..", "a b", "x" * 64])
def test_a_name_that_no_plugin_can_have_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        new_plugin(name, "sensor", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_category_that_is_none_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as told:
        new_plugin("my-one", "toaster", tmp_path)
    assert "plotter" in told.value.remedy


def test_every_problem_of_a_manifest_is_told_with_its_line(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "plugin.yaml", "version: 0.1.0", "version: soon")
    changed(folder / "plugin.yaml", "driver_class: driver.MyOneDeviceDriver", "driver_class: 7up")
    found = findings(folder)
    assert [(each.field, each.line) for each in found] == [("version", 2), ("driver_class", 6)]
    assert all(each.remedy and each.file.endswith("plugin.yaml") for each in found)


def test_a_class_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "driver.py", "class MyOneDeviceDriver", "class Other")
    assert "it has Other" in problem(folder, "driver_class").message


def test_a_command_without_a_method_is_told(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "driver.py", "def set_averaging", "def average")
    assert "has no method set_averaging" in problem(folder, "commands.set-averaging").message


def test_parameters_that_do_not_match_the_methods_are_told_with_the_methods_line(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "driver.py", "self, samples: int", "self, count: int")
    found = problem(folder, "commands.set-averaging.parameters.samples")
    assert "def set_averaging" in Path(found.file).read_text().splitlines()[found.line - 1]
    assert "needs count" in problem(folder, "commands.set-averaging.parameters").message


def test_a_parameter_that_the_method_needs_and_callers_may_leave_out_is_told(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "plugin.yaml", "required: true, ", "")
    assert "leave it out" in problem(folder, "commands.set-averaging.parameters.samples").message


def test_methods_of_a_base_beside_the_driver_count(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "driver.py", "(SensorDriver)", "(Common)")
    changed(folder / "driver.py", "def set_averaging", "def average")
    changed(folder / "driver.py", "\nclass ", "\nfrom .common import Common\n\nclass ")
    (folder / "common.py").write_text(
        "from vfab.sdk import SensorDriver\n\n"
        "class Common(SensorDriver):\n    def set_averaging(self, *, samples): ...\n"
    )
    assert not [each for each in findings(folder) if each.level == "problem"]


def test_a_base_that_cannot_be_read_makes_advice_and_no_problem(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "driver.py", "(SensorDriver)", "(somewhere.Else)")
    changed(folder / "driver.py", "def set_averaging", "def average")
    (told,) = [each for each in findings(folder) if each.field == "commands.set-averaging"]
    assert told.level == "advice"


def test_source_that_is_not_python_is_told_with_its_line(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    (folder / "driver.py").write_text("import vfab\nclass :\n")
    (told,) = [each for each in findings(folder) if "is not Python" in each.message]
    assert (told.level, told.line) == ("problem", 2)


def test_what_a_good_plugin_has_is_advised(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "plugin.yaml", "simulator: simulator.py\n", "")
    (folder / "test_driver.py").unlink()
    (folder / "README.md").unlink()
    told = " ".join(each.message for each in findings(folder))
    assert all(word in told for word in ("no simulator", "no tests", "no documentation"))


def test_a_file_that_the_manifest_names_and_is_not_there_is_a_problem(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    (folder / "simulator.py").unlink()
    found = problem(folder, "simulator")
    assert (found.line, bool(found.remedy)) == (7, True)


def test_a_plugin_for_a_newer_platform_does_not_pass(tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    changed(folder / "plugin.yaml", "version: 0.1.0", "version: 0.1.0\nmin_platform_version: 99.0.0")
    assert any("99.0.0" in each.message for each in findings(folder) if each.level == "problem")


def test_permissions_are_told_in_words() -> None:
    assert "Nothing else" in permissions_in_words(Permissions())[-1]
    given = Permissions(
        devices=("usb:1209:0001",), connect=("tcp://192.0.2.1:23",), probe=True, files=("read:$PLUGIN",),
        subprocess=True, network="host",
    )  # fmt: skip
    assert len(permissions_in_words(given)) == 7


def test_reading_alone_runs_nothing(vfab: Vfab) -> None:
    folder = fresh(vfab.home)
    (folder / "driver.py").write_text(f"open({str(vfab.home / 'ran')!r}, 'w')\n" + (folder / "driver.py").read_text())
    done = vfab("plugin", "check", folder, "--static")
    assert not (vfab.home / "ran").exists()
    assert "permission" in done.out


def test_a_driver_that_fails_on_its_simulator_does_not_pass(vfab: Vfab) -> None:
    folder = fresh(vfab.home)
    changed(folder / "simulator.py", 'return "21.5"', 'return "warm"')
    done = vfab("plugin", "check", folder)
    assert done.code == 1
    assert "FAIL    commands" in done.out
    assert "command read: protocol_error" in done.out
    assert "does not pass" in done.out


def test_an_older_shape_is_named_with_what_a_native_one_gains_and_is_loaded(vfab: Vfab) -> None:
    file = vfab.home / "lamp.py"
    file.write_text(
        "from vfab.dialects import DriverPlugin\n\n\nclass Lamp:\n    def connect(self):\n        return True\n\n"
        "    def disconnect(self):\n        pass\n\n    def is_connected(self):\n        return True\n\n"
        "    def test_connection(self):\n        return {'success': True}\n\n\n"
        "class LampPlugin(DriverPlugin):\n    def __init__(self):\n        super().__init__('lamp', '1.0')\n\n"
        "    def initialize(self, config):\n        return True\n\n"
        "    def get_manager_class(self):\n        return Lamp\n"
    )
    done = vfab("plugin", "check", file)
    assert done.code == 0, done.out + done.err
    assert "001 §7" in done.out
    assert "a native one gains:  `safe_stop`" in done.out
    assert "ok      starts" in done.out


def test_a_class_beside_its_plugin_is_found_from_any_folder_above(tmp_path: Path) -> None:
    (tmp_path / "deep" / "meter").mkdir(parents=True)
    (tmp_path / "deep" / "vendor").mkdir()
    (tmp_path / "deep" / "vendor" / "meter.py").write_text(
        "from plugin_manager import InstrumentDriver\n\n\nclass Meter(InstrumentDriver):\n    pass\n"
    )
    (tmp_path / "deep" / "meter" / "plugin.yaml").write_text(
        "name: meter\nversion: 1.0.0\nauthor: a test\ndescription: a meter\ndriver_class: vendor.meter.Meter\n"
    )
    for path in (tmp_path, tmp_path / "deep", tmp_path / "deep" / "meter"):
        (report,) = [each for each in check_plugins(path) if each.name == "meter"]
        assert report.shape is not None
        assert (report.passed, report.shape["dialect"]) == (True, "instrument_plugin")


def test_a_place_without_a_plugin_is_told(vfab: Vfab) -> None:
    (vfab.home / "empty").mkdir()
    done = vfab("plugin", "check", "empty", "--json")
    assert done.code != 0
    assert "holds no plugin" in done.error["message"]
    assert "does not exist" in vfab("plugin", "check", "nowhere", "--json").error["message"]


def test_a_plugin_is_checked_by_the_name_that_discovery_has_for_it(vfab: Vfab) -> None:
    place = vfab.home / "home" / "plugins"
    place.mkdir(parents=True)
    (place / "drv_lone.py").write_text(
        "from sat_toolkit.core.base_plugin import BaseDeviceDriver\nclass Lone(BaseDeviceDriver):\n    pass\n"
    )
    (report,) = vfab("plugin", "check", "drv_lone", "--static", "--json").json["plugins"]
    assert (report["name"], report["path"]) == ("drv_lone", str(place / "drv_lone.py"))
    (report,) = vfab("plugin", "check", "replay", "--static", "--json").json["plugins"]
    assert (report["name"], Path(report["path"]).name) == ("replay", "replay")
