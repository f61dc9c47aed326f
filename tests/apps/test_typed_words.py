"""What is typed is read as typer reads it, without what it costs; help shows names as everywhere."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer._coercion import build_runtime_param

from vfab.apps.cli.lean import lean
from vfab.apps.cli.main import app

TYPED = ["", "abc", "0", "-1", "5", "1.5", "1e3", "nan", "true", "No", "text", "active", "/tmp/x", "a=b", "1e400"]


def parameters_below(command: Any, path: str = "vfab") -> list[tuple[str, Any]]:
    found = [(f"{path} {parameter.name}", parameter) for parameter in command.params]
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            found += parameters_below(lean(command.get_command(context, name)), f"{path} {name}")
    return found


ALL = parameters_below(lean(typer.main.get_command(app)))


def outcome(reader: Any, parameter: Any, value: Any) -> Any:
    try:
        read = reader.coerce(value, param=parameter, ctx=typer.Context(typer.main.get_command(app)))
    except typer.BadParameter:
        return "refused"
    return repr(read)


def test_every_word_is_read_as_typer_reads_it() -> None:
    kinds = {}
    for name, parameter in ALL:
        info = parameter.type_descriptor.parameter_info
        assert type(parameter.get_runtime_param()).__module__ == lean.__module__, f"{name} is read by pydantic"
        kind = (parameter.type_descriptor.annotation, info.min, info.max, parameter.multiple, parameter.nargs)
        kinds[repr(kind)] = (name, parameter)
    for name, parameter in kinds.values():
        theirs, ours = build_runtime_param(parameter.type_descriptor), parameter.get_runtime_param()
        choices = parameter.type_descriptor.choices or ()
        for text in [None, *TYPED, *choices]:
            many = parameter.multiple or parameter.nargs != 1
            value = [text] if many and text is not None else text
            assert outcome(ours, parameter, value) == outcome(theirs, parameter, value), (name, value)
    assert len(ALL) > 500
    assert len(kinds) > 30


@pytest.mark.parametrize("words", ["config show axidraw", "driver info axidraw", "sim list", "device list"])
def test_a_command_with_options_imports_no_pydantic(words: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom vfab.apps.cli.main import main\n"
        f"assert main({words.split()!r}) == 0\n"
        "assert 'pydantic' not in sys.modules"
    )
    env = {"VFAB_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("device send", "vfab device send [OPTIONS] DEVICE COMMAND [NAME=VALUE...]"),
        ("device scan", "vfab device scan [OPTIONS] [ADDRESS...]"),
        ("config show", "vfab config show [OPTIONS] [DRIVER]"),
        ("plot", "vfab plot [OPTIONS] FILE.svg"),
    ],
)
def test_usage_shows_names_without_types_and_brackets_around_brackets(vfab: Any, words: str, usage: str) -> None:
    said = vfab(*words.split(), "--help").out
    assert said.splitlines()[0] == f"Usage: {usage}"
    assert not {"<str>", "<path>", "{", "[["} & {mark for mark in ("<str>", "<path>", "{", "[[") if mark in said}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plto", "x.svg"), "Did you mean 'plot'?"),
        (("stream", "x", "--count", "many"), "'many' is not a whole number"),
        (("stream", "x", "--count", "-3"), "'-3' is not in range: 0 or more"),
        (("driver", "mode", "axidraw", "idle"), "'idle' is not one of 'active', 'standby', 'maintenance', 'disabled'"),
        (("driver", "run", "axidraw", "move-to", "--x-mm", "far", "--y-mm", "1"), "'far' is not a number"),
    ],
)
def test_what_cannot_be_is_told_in_words(vfab: Any, words: tuple[str, ...], told: str) -> None:
    done = vfab(*words)
    assert done.code == 2
    assert told in done.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("axidraw --speed far", 13, "vfab: 'far' is not a speed\n  what to do:  Write real, instant"),
        ("replay --from no.rec", 13, "vfab: no.rec cannot be read"),
        ("nmea-gps --fault x", 13, "what to do:  Write KIND@AFTER"),
        ("keithley2400 --port 99999", 13, "port must be 0-65535"),
    ],
)
def test_a_simulator_that_does_not_start_says_why_as_every_command_does(
    vfab: Any, words: str, code: int, told: str
) -> None:
    done = vfab("sim", "run", *words.split())
    assert done.code == code
    assert told in done.err
    assert done.out == ""


def test_a_simulators_port_that_is_taken_is_told(vfab: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = vfab("sim", "run", "keithley2400", "--port", str(taken.getsockname()[1]))
    assert (done.code, done.out) == (13, "")
    assert "already in use" in done.err


def test_a_setting_that_names_a_driver_takes_those_that_there_are(vfab: Any) -> None:
    for wrong in ("axidrwa", "tcp"):  # none, and no plotter
        done = vfab("config", "set", "plot.driver", wrong)
        assert (done.code, done.out) == (13, "")
        assert "one of axidraw, eggbot, grbl" in done.err
    checked = vfab("config", "check", env={"VFAB_PLOT_DRIVER": "axidrwa"})
    assert checked.code == 13
    assert "VFAB_PLOT_DRIVER" in checked.out
    assert "plot.driver = grbl in" in vfab("config", "set", "plot.driver", "grbl").out
    assert "home_after_plot = false in" in vfab("config", "set", "axidraw", "home_after_plot", "no").out
    assert vfab("config", "check").code == 0
