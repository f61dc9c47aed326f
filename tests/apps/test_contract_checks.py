"""The contract suite finds what it is there to find: a plugin that works is made worse, and the check for it fails."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from apps.programs import Vfab
from vfab.apps.contract import Report, Result, check_driver, check_folder
from vfab.apps.contract.bench import paced
from vfab.apps.plugin_check import check_plugins
from vfab.apps.plugin_new import new_plugin
from vfab.apps.plugin_quality import refuted_claims
from vfab.model.errors import ConfigurationError
from vfab.sdk.testing import TROUBLEMAKERS_FOLDER

IMPORTS = "import threading\n"
LINK = '        self.link = self.open_link(baudrate=self.config["baudrate"])\n'


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    return new_plugin("my-one", "sensor", tmp_path)


def changed(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def worse(folder: Path, before: str, after: str) -> None:
    changed(folder / "driver.py", IMPORTS, f"import os\nimport subprocess\nimport time\n{IMPORTS}")
    changed(folder / "driver.py", before, after)


def only(folder: Path, check: str) -> Result:
    (result,) = check_folder(folder, only=[check]).results
    return result


def failure(folder: Path, check: str) -> str:
    result = only(folder, check)
    assert result.outcome == "failed", result
    return result.note


READ = '        answer = self._ask("read")\n'
UNCHECKED = '        return Sample({"temperature": 1.0}, raw=self._line(self.link))\n'
LATE = "                self.link.discard_input()  # the late"
CLOSE = "                self.close_link(self.link)  # is_connected"
BEGIN = "    def open_sensor("
CLOSED = "        if self.link is not None and not self.link.closed:\n            try:"
WORSE = [
    ("leak", LINK, LINK + "        os.open('/dev/null', 0)\n", "descriptors"),
    ("leak", LINK, LINK + "        os.dup(self.link.fileno())\n", "device_busy"),
    ("leak", LINK, LINK + "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n", "threads"),
    ("leak", LINK, LINK + "        self.kept = [*getattr(self, 'kept', []), os.urandom(200_000)]\n", "memory"),
    ("leak", LINK, LINK + "        self.kept = subprocess.Popen(['sleep', '9'])\n", "programs"),
    ("nothing-left", LINK, LINK + "        subprocess.Popen(['sleep', '60'], start_new_session=True)\n", "left"),
    ("connects", "return self.link is not None and not self.link.closed", "return False", "is_connected says no"),
    ("starts", BEGIN, f"    def initialize(self):\n        1 / 0\n\n{BEGIN}", "ZeroDivisionError"),
    ("test-connection", "    def reset(", "    def test_connection(self):\n        return {}\n\n    def reset(", "no"),
    (
        "close-twice",
        CLOSED,
        CLOSED.replace("if self", "if self.link and self.link.closed:\n            1 / 0\n        if self"),
        "second",
    ),
    ("cancel", READ, '        answer = self.link.write(b"read\\n"), time.sleep(9)\n', "its process was ended"),
    ("garbage-reply", READ, '        self.link.write(b"read\\n")\n' + UNCHECKED, "claims success"),
    (
        "garbage-reply",
        'raise ProtocolError(f"my-one answered {answer!r} to {line',
        'raise RuntimeError(f"{line',
        "no DriverError",
    ),
    ("garbage-reply", ', remedy="Check `baudrate`."', "", "nothing of what to do"),
    (
        "silent-peer",
        "            self._greet(self.link)\n",
        "            self.link.write(b'id\\n')\n",
        "claims success",
    ),
    ("nobody-there", LINK, f"        try:\n    {LINK}        except ConnectError:\n            return\n", "claims"),
    ("peer-gone", CLOSE, "                pass  #", "not usable"),
    (
        "peer-killed",
        "                raise\n        word",
        "                return '1'\n        word",
        "claims success",
    ),
    ("reset", '            self._ask("reset")', "            raise ValueError('no')", "driver_failed"),
]


@pytest.mark.parametrize(("check", "before", "after", "told"), WORSE, ids=[f"{one[0]}-{one[3]}" for one in WORSE])
def test_a_driver_that_is_worse_fails_the_check_for_it(
    plugin: Path, check: str, before: str, after: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if told in {"programs", "left"}:  # confined drivers cannot; the check is for where they are not
        monkeypatch.setenv("VFAB_CONFINEMENT", "off")
    worse(plugin, before, after)
    assert told in failure(plugin, check)


@pytest.fixture
def confused(tmp_path: Path) -> Path:
    """A driver that takes the late answer to one question for the answer to the next, another one."""
    folder = new_plugin("my-one", "instrument", tmp_path / "confused")
    changed(folder / "driver.py", LATE, "                pass  #")
    return folder


def test_a_driver_that_takes_a_late_answer_for_the_next_one_is_found(confused: Path) -> None:
    assert "after the late answer" in failure(confused, "cancel")


def test_a_connect_that_never_ends_is_ended(plugin: Path) -> None:
    worse(
        plugin,
        "            self._greet(self.link)\n",
        "            while not self.link.wait_readable(0.1):\n                pass\n",
    )
    changed(plugin / "plugin.yaml", "category: sensor\n", "category: sensor\nruntime: {connect_timeout_s: 2}\n")
    report = check_folder(plugin, only=["connects", "silent-peer"])
    assert [result.outcome for result in report.results] == ["failed", "failed"]


def test_a_command_may_have_a_parameter_of_any_name(plugin: Path) -> None:
    changed(plugin / "plugin.yaml", "samples: {type", "timeout_s: {type: number, default: 1}\n      samples: {type")
    changed(plugin / "driver.py", "self, samples: int", "self, samples: int, timeout_s: float")
    told = only(plugin, "commands")
    assert (told.outcome, "refused" in told.note) == ("passed", False), told.note


def test_a_command_that_fails_is_named(plugin: Path) -> None:
    changed(plugin / "simulator.py", 'return "21.5"', 'return "warm"')
    assert "command read: protocol_error" in failure(plugin, "commands")


def test_safe_stop_bytes_that_arrive_pass(tmp_path: Path) -> None:
    assert only(new_plugin("my-one", "plotter", tmp_path), "safe-stop").outcome == "passed"


def test_when_it_does_not_start_nothing_else_is_run(plugin: Path) -> None:
    worse(plugin, BEGIN, f"    def initialize(self):\n        1 / 0\n\n{BEGIN}")
    report = check_folder(plugin)
    assert [result.name for result in report.failed] == ["starts"]
    assert {result.outcome for result in report.results[1:]} == {"skipped"}
    assert not report.passed


def test_an_exemption_makes_a_failure_exempt_and_one_that_is_not_needed_is_told(plugin: Path) -> None:
    exempt = "contract-exemptions: {commands: the sun shines, connects: no reason}\n"
    changed(plugin / "quality.yaml", "contract-suite:", f"{exempt}contract-suite:")
    changed(plugin / "simulator.py", 'return "21.5"', 'return "warm"')
    report = check_folder(plugin, only=["connects", "commands"])
    connects, commands = report.results
    assert (commands.outcome, connects.outcome, connects.needless) == ("exempt", "passed", True)
    assert "the sun shines" in commands.note and "protocol_error" in commands.note
    assert report.passed
    told = list(refuted_claims(plugin, report.results))
    assert [finding.field for finding in told] == ["contract-exemptions.connects"]


def test_a_claim_that_the_suite_refutes_is_a_problem_with_its_line(confused: Path) -> None:
    told = list(refuted_claims(confused, check_folder(confused, only=["cancel"]).results))
    assert [finding.field for finding in told] == ["cancel", "contract-suite"]
    assert all(finding.level == "problem" and finding.line for finding in told)


def test_claims_that_the_files_refute_are_problems(plugin: Path) -> None:
    changed(plugin / "plugin.yaml", "simulator: simulator.py\n", "")
    changed(plugin / "quality.yaml", "discovery-match: {status: todo, why: match in plugin.yaml is to be written}",
            "discovery-match: {status: done}")  # fmt: skip
    (plugin / "test_driver.py").unlink()
    (report,) = check_plugins(plugin)
    found = {finding.field for finding in report.findings if finding.level == "problem"}
    assert found == {"simulator", "tests-with-simulator", "contract-suite", "discovery-match"}


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        ("simulator: {status: don}\n", "simulator.status", 1),
        ("units: {status: done}\nstreams: {status: exempt}\n", "streams.why", 2),
        ("contract-exemptions:\n  cancell: x\n", "contract-exemptions.cancell", 2),
    ],
)
def test_what_is_wrong_in_quality_yaml_is_a_problem_with_its_line(
    plugin: Path, text: str, field: str, line: int
) -> None:
    (plugin / "quality.yaml").write_text(text)
    (report,) = check_plugins(plugin)
    (found,) = [finding for finding in report.findings if finding.level == "problem"]
    assert (found.field, found.line) == (field, line)
    assert found.file.endswith("quality.yaml") and found.remedy


def test_no_quality_yaml_is_advice(plugin: Path) -> None:
    (plugin / "quality.yaml").unlink()
    (report,) = check_plugins(plugin)
    assert report.passed
    assert any("no quality.yaml" in finding.message for finding in report.findings)


def test_a_check_that_there_is_not_is_told_with_a_near_one(plugin: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean cancel"):
        check_folder(plugin, only=["cancle"])


def test_a_folder_without_a_plugin_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no plugin"):
        check_folder(tmp_path)


def test_a_driver_without_a_simulator_needs_a_device(plugin: Path) -> None:
    changed(plugin / "plugin.yaml", "simulator: simulator.py\n", "")
    with pytest.raises(ConfigurationError, match="no simulator"):
        check_folder(plugin)


def test_a_real_device_is_not_moved_broken_or_worn_out(tmp_path: Path) -> None:
    env = {**os.environ, "VFAB_HOME": str(tmp_path), "VFAB_PLUGIN_PATH": str(TROUBLEMAKERS_FOLDER)}
    report = asyncio.run(check_driver(env, "troublemaker", device="tcp://127.0.0.1:1"))
    outcomes = {result.name: result for result in report.results}
    for name in ("commands", "host-killed", "peer-killed", "leak"):
        assert outcomes[name].note == "not on a real device"


def test_time_outs_are_shortened_and_lengthened_within_the_schema() -> None:
    schema = {
        "properties": {
            "timeout_s": {"type": "number", "minimum": 2},
            "read_timeout_ms": {"type": "integer", "maximum": 9000},
            "retry_count": {"type": "integer", "minimum": 1},
            "speed": {"type": "number"},
            "no_timeout": {"type": "boolean"},
        }
    }
    config = {"timeout_s": 5.0, "read_timeout_ms": 500, "retry_count": 4, "speed": 9.0, "no_timeout": True}
    assert paced(schema, config, 0.0) == config
    assert paced(schema, config, 1.0) == {**config, "timeout_s": 2.0, "read_timeout_ms": 500, "retry_count": 1}
    assert paced(schema, config, 30.0) == {**config, "timeout_s": 30.0, "read_timeout_ms": 9000}


def test_a_report_says_what_failed_first() -> None:
    report = Report("mine", "dev")
    assert not report.passed, "nothing was checked"
    report.results += [Result("a", "does a", "passed", 0.1), Result("b", "does b", "failed", 1.25, "it did c")]
    lines = report.table().splitlines()
    assert lines[0] == "mine: 1 passed, 1 failed, 0 exempt, 0 skipped"
    assert "b" in lines[1] and "it did c" in lines[1] and "does a" in lines[2]


def test_the_command_line_shows_a_table_and_fails_with_the_suite(vfab: Vfab) -> None:
    folder = new_plugin("my-one", "sensor", vfab.home / "home" / "plugins")
    done = vfab("driver", "test", "my-one", "--only", "connects", "--only", "commands")
    assert done.code == 0, done.out
    assert "RESULT" in done.out and "my-one: 2 passed, 0 failed, 0 exempt, 0 skipped" in done.out
    changed(folder / "simulator.py", 'return "21.5"', 'return "warm"')
    done = vfab("driver", "test", "my-one", "--only", "commands", "--json")
    assert done.code == 1
    assert done.json["passed"] is False and done.json["checks"][0]["outcome"] == "failed"
    listed = vfab("driver", "test", "--list", "--json").json["checks"]
    assert "cancel" in {check["name"] for check in listed}
    assert vfab("driver", "test").code == 2
