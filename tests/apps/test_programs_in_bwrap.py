"""The level that a driver in JavaScript reaches within bwrap, as the command line shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.nodes import node_of
from apps.programs import Vfab
from bubbles import holds as _holds
from bubbles import script

holds = _holds
pytestmark = pytest.mark.usefixtures("holds")


def mine(vfab: Vfab) -> Path:
    """A driver in JavaScript that discovery finds."""
    file = script(vfab.home)
    vfab.env["VFAB_PLUGIN_PATH"] = str(file.parent)
    return file


def test_driver_info_shows_what_was_found_by_trying(vfab: Vfab) -> None:
    mine(vfab)
    (vfab.home / "home").mkdir(exist_ok=True)
    (vfab.home / "home" / "config.yaml").write_text("confinement:\n  programs: bwrap\n")
    told = vfab("driver", "info", "mine", "--json").json["confinement"]
    assert (told["program"], told["read_only"], told["capabilities"]) == ("bwrap", True, False)
    assert f"confined: {told['level']} here, in bwrap" in vfab("driver", "info", "mine").out
    vfab.env["VFAB_CONFINEMENT_PROGRAMS"] = "self"
    assert vfab("driver", "info", "mine", "--json").json["confinement"]["program"] == ""
    assert ", in bwrap" not in vfab("driver", "info", "mine").out


def test_a_bwrap_that_cannot_start_is_told_and_not_claimed(vfab: Vfab) -> None:
    mine(vfab)
    places = vfab.home / "bin"
    places.mkdir()
    (places / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    (places / "bwrap").chmod(0o755)
    vfab.env |= {"PATH": f"{places}:{vfab.env['PATH']}", "VFAB_CONFINEMENT_PROGRAMS": "bwrap"}
    told = vfab("driver", "info", "mine", "--json").json["confinement"]
    assert told["program"] == ""
    assert "bwrap: setting up uid map: Permission denied" in told["missing"]
    assert "lacks bwrap: setting up uid map: Permission denied" in vfab("driver", "info", "mine").out


def test_status_and_device_state_show_it_while_the_driver_runs(vfab: Vfab) -> None:
    mine(vfab)
    vfab.env["VFAB_CONFINEMENT_PROGRAMS"] = "bwrap"
    node = node_of(vfab)
    node.up()
    done = vfab("device", "connect", "tcp://127.0.0.1:9", "--driver", "mine")
    assert done.code == 0, done.err
    (kept,) = vfab("status", "--json").json["devices"]
    assert kept["confinement"]["program"] == "bwrap"
    level = kept["confinement"]["level"]
    assert f"{level}, in bwrap" in vfab("status").out
    assert f"confined: {level}, in bwrap" in vfab("device", "state", "tcp://127.0.0.1:9").out
