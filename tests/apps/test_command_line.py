"""What holds for every command: help, speed, JSON, errors, pipes, completion."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer

from vfab.apps.cli.main import app

NEEDED_FOR_HELP = {"asyncio", "rich.console", "pydantic", "msgspec", "numpy", "vfab.kernel", "yaml"}


def commands_below(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    context = typer.Context(command)
    if not hasattr(command, "list_commands"):
        return [(path, command)]
    found = [(path, command)]
    for name in command.list_commands(context):
        if name != "bench":
            found += commands_below(command.get_command(context, name), (*path, name))
    return found


ALL = commands_below(typer.main.get_command(app))


def test_the_commands_are_those_of_the_design() -> None:
    paths = {" ".join(path) for path, _ in ALL}
    assert {
        "demo", "plot", "driver list", "driver info", "driver test", "driver run", "driver run axidraw pen-up",
        "device scan", "device list", "device init", "device connect", "device disconnect", "device reset",
        "device close", "device send", "device state", "sim list", "sim run", "config show", "config set",
        "config check", "config schema",
    } <= paths  # fmt: skip


@pytest.mark.parametrize(
    ("path", "command"), ALL, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_has_help_and_every_command_an_example(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        assert getattr(parameter, "help", "") or parameter.name == "help", f"{path}: {parameter.name}"
    if not hasattr(command, "list_commands"):
        assert "Example" in (command.epilog or ""), path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['vfab', '--help']\n"
        "from vfab.apps.cli.main import main\nmain()\n"
        f"print('HEAVY', sorted(n for n in {NEEDED_FOR_HELP!r} if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("HEAVY []")


def test_the_version_is_printed(vfab: Any) -> None:
    assert vfab("--version").out.startswith("vfab ")


def test_an_unknown_command_is_an_error_of_usage(vfab: Any) -> None:
    done = vfab("plott")
    assert (done.code, done.out) == (2, "")
    assert "plott" in done.err


def test_with_json_an_error_is_one_document_on_standard_error(vfab: Any) -> None:
    done = vfab("driver", "info", "axidrawn", "--json")
    assert (done.code, done.out) == (13, "")
    assert set(done.error) == {"code", "message", "remedy", "context"}
    assert done.error["code"] == "driver_not_found"
    assert "axidraw" in done.error["message"]


def test_without_json_an_error_is_a_few_lines_and_never_a_traceback(vfab: Any) -> None:
    done = vfab("device", "connect", "/dev/nothing-here")
    assert done.code == 10
    assert 2 <= len(done.err.splitlines()) <= 4
    assert "/dev/nothing-here" in done.err
    assert "what to do" in done.err
    assert "Traceback" not in done.err


def test_the_traceback_is_shown_to_who_asks_for_it(vfab: Any) -> None:
    assert "Traceback" in vfab("driver", "info", "nobody", env={"VFAB_DEBUG": "1"}).err


@pytest.mark.parametrize("words", [(), ("driver",), ("config",), ("driver", "run", "axidraw")])
def test_a_noun_without_a_verb_shows_its_help_as_help_and_not_as_an_error(vfab: Any, words: tuple[str, ...]) -> None:
    done = vfab(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: vfab")
    assert "what to do" not in done.err
    assert vfab(*words, "--json").code == 2


def test_a_locale_without_the_characters_that_are_printed_ends_nothing(vfab: Any) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    shown = vfab("driver", "info", "axidraw", env=env)
    assert (shown.code, shown.err) == (0, "")
    assert "mm/s?" in shown.out
    assert "mm/s²" in str(vfab("driver", "info", "axidraw", "--json", env=env).json)
    assert "mm²" in vfab("driver", "info", "mm²", "--json", env=env).error["message"]


def test_a_home_that_cannot_be_written_is_told_with_what_to_do(vfab: Any) -> None:
    env = {"VFAB_HOME": "/proc/vfab"}
    drawing = vfab.file('<svg xmlns="http://www.w3.org/2000/svg" width="9mm" height="9mm"><path d="M1 1h9"/></svg>')
    for words in (("config", "set", "axidraw", "pen_up_percent", "65"), ("plot", drawing, "--dry-run")):
        done = vfab(*words, env=env)
        assert done.code != 0
        assert "VFAB_HOME" in done.err.splitlines()[-1]
        assert "Errno" not in done.err


def test_a_setting_is_set_by_the_name_that_config_show_prints(vfab: Any) -> None:
    assert vfab("config", "set", "axidraw.pen_up_percent", "65", "--json").json["field"] == "pen_up_percent"
    assert "axidraw.pen_up_percent 65.0" in " ".join(vfab("config", "show").out.split())
    assert vfab("config", "set", "axidraw.pen_up_percent", "--unset").code == 0
    for words in (("axidraw",), ("axidraw.pen_up_percent",), ("axidraw.pen_up_percent", "65", "66")):
        assert vfab("config", "set", *words).code == 2


def test_an_address_without_its_scheme_is_told_with_it(vfab: Any) -> None:
    done = vfab("device", "connect", "127.0.0.1:4000")
    assert (done.code, "did you mean tcp://127.0.0.1:4000?" in done.err) == (10, True)


@pytest.mark.parametrize("arguments", [("--help",), ("config", "schema", "--manifest"), ("plot", "--help")])
def test_a_pipe_that_is_closed_early_is_no_error(vfab: Any, arguments: tuple[str, ...]) -> None:
    process = vfab.start(*arguments)
    process.stdout.close()
    process.wait(20)
    assert process.returncode == 0
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vfab dri", "driver"),
        ("vfab driver info axi", "axidraw"),
        ("vfab driver run axi", "axidraw"),
        ("vfab driver run axidraw pen-u", "pen-up"),
        ("vfab driver run axidraw pen-up --pen-up-per", "--pen-up-percent"),
        ("vfab driver run axidraw pen-up --resolution h", "high"),
        ("vfab sim run axi", "axidraw"),
    ],
)
def test_the_shell_completes_commands_drivers_and_settings(vfab: Any, words: str, expected: str) -> None:
    env = {"_VFAB_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert expected in vfab(env=env).out.split()


def test_the_shell_completes_devices(vfab: Any) -> None:
    vfab.simulator("--speed", "instant")
    env = {"_VFAB_COMPLETE": "complete_bash", "COMP_WORDS": "vfab device connect sim", "COMP_CWORD": "3"}
    assert "sim:axidraw" in vfab(env=env).out.replace("\\", "")
