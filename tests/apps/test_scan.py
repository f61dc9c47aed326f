"""Looking for devices with everything wired together: plugins that find for themselves, and `vfab device scan`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.nodes import node_of
from apps.programs import Vfab, plugin
from vfab.apps.finding import drivers_of, scan
from vfab.apps.plugin_detection import PluginHandler, detection_of, finding_manifest
from vfab.apps.session import Session
from vfab.kernel.detection import ScanResult
from vfab.model.errors import HostDied
from vfab.sdk.testing import patience

FINDS = """
from vfab.sdk.detection import DetectionHandler

class Finder(DetectionHandler):
    def detect(self):
        assert self.config["floor"] == 3
        devices = [
            {"host": "192.0.2.7", "port": 4000, "device_name": "Stage", "floor": 3, "id": "lab:stage"},
            {"address": "tcp://192.0.2.8:1", "attributes": {"deep": {"er": 1}}},
        ]
        return {"count": 2, "devices": devices, "accessible": True}

    def is_compatible(self, device_info):
        return "host" in device_info
"""
SCHEMA = "config_schema: {type: object, properties: {floor: {type: integer, default: 3}}}\n"

Looks = Callable[[str], ScanResult]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VFAB_")}
    return {**kept, "VFAB_HOME": str(tmp_path / "home"), "VFAB_PLUGIN_PATH": str(tmp_path / "plugins")}


def finder(folder: Path, name: str, code: str, more: str = "") -> None:
    """A plugin with a driver and a detection class of its own."""
    home = plugin(folder / "plugins", name, "from vfab.sdk import BaseDriver\nclass Driver(BaseDriver): ...\n", more)
    manifest = home / "plugin.yaml"
    manifest.write_text(manifest.read_text().partition("commands:")[0] + f"detection: finder.Finder\n{more}")
    (home / "finder.py").write_text(code)


def looked(env: dict[str, str], *kinds: str) -> ScanResult:
    drivers = drivers_of(env)
    registry = detection_of(env, drivers)
    return scan(drivers, registry, kinds=kinds)


def looked_in_a_session(env: dict[str, str], *kinds: str) -> ScanResult:
    async def work() -> ScanResult:
        async with Session.open(env) as session:
            return await session.scan(kinds=kinds)

    return asyncio.run(work())


@pytest.mark.parametrize("look", [looked, looked_in_a_session])
def test_a_plugin_finds_devices_in_a_process_of_its_own(
    look: Callable[..., ScanResult], env: dict[str, str], tmp_path: Path
) -> None:
    finder(tmp_path, "lab", FINDS, SCHEMA)
    result = look(env, "lab")
    assert result.problems == ()
    stage, other = result.devices
    assert (stage.id, stage.bus, stage.address, stage.name) == ("lab:stage", "lab", "tcp://192.0.2.7:4000", "Stage")
    assert stage.attributes == {"floor": "3", "identified": "lab"}
    assert stage.drivers == ("lab",)
    assert (other.id, other.drivers, other.attributes) == ("lab:tcp://192.0.2.8:1", (), {"deep": "{'er': 1}"})


@pytest.mark.parametrize("look", [looked, looked_in_a_session])
def test_plugins_that_hang_crash_or_answer_nonsense_cost_only_themselves(
    look: Callable[..., ScanResult], env: dict[str, str], tmp_path: Path
) -> None:
    finder(tmp_path, "good", FINDS, SCHEMA)
    finder(tmp_path, "hangs", "import threading\nclass Finder:\n    def detect(self): threading.Event().wait()\n")
    finder(tmp_path, "crashes", "import os\nclass Finder:\n    def detect(self): os._exit(3)\n")
    finder(
        tmp_path, "nonsense", "class Finder:\n    def __init__(self, name): self.n = name\n    def detect(self): 7\n"
    )
    finder(tmp_path, "broken", "import nothing_like_this\nclass Finder: ...\n")
    result = look(env, "good", "hangs", "crashes", "nonsense", "broken", "simulator")
    assert [device.id for device in result.devices] == ["good:tcp://192.0.2.8:1", "lab:stage"]
    told = {problem.handler: problem.message for problem in result.problems}
    assert set(told) == {"hangs", "crashes", "nonsense", "broken"}
    assert "1.6 s" in told["hangs"]
    assert "vfab driver disable hangs" in next(p.remedy for p in result.problems if p.handler == "hangs")
    assert "a mapping with a list of devices was expected" in told["nonsense"]
    assert "nothing_like_this" in told["broken"]
    assert result.elapsed_s < patience(10)


def test_a_plugin_that_lacks_a_library_is_told_and_not_run(env: dict[str, str], tmp_path: Path) -> None:
    finder(tmp_path, "lab", "raise SystemExit", 'dependencies: ["no-such-library-anywhere>=3"]\n')
    result = looked(env, "lab")
    assert (result.devices, result.problems) == ((), ())
    assert "no-such-library-anywhere>=3" in result.limitations["lab"]


def test_a_plugin_called_like_a_kind_of_detection_does_not_replace_it(env: dict[str, str], tmp_path: Path) -> None:
    finder(tmp_path, "usb", FINDS, SCHEMA)
    drivers = drivers_of(env)
    (info,) = [info for info in drivers.drivers if info.name == "usb"]

    def died(info: object, timeout_s: float) -> dict[str, object]:
        raise HostDied("it died")

    handler = PluginHandler(info, died, {"usb"})
    assert handler.name == "usb-plugin"
    result = detection_of(env, drivers, died).scan(kinds=["usb-plugin", "usb"])
    assert [problem.handler for problem in result.problems] == ["usb-plugin"]
    assert "usb" in result.found_by
    assert finding_manifest(info.manifest).driver_class == "finder.Finder"


# --- vfab device scan ----------------------------------------------------------------------------------------------


def test_the_kinds_to_look_for_can_be_chosen(vfab: Vfab) -> None:
    simulator = vfab.simulator()
    found = vfab("device", "scan", "--kind", "simulator,can", "--kind", "usb", "--json").json
    assert [device["address"] for device in found["devices"]] == [simulator.address]
    assert found["devices"][0]["fits"][0] == {
        "driver": "axidraw",
        "score": found["devices"][0]["fits"][0]["score"],
        "installed": True,
        "remedy": "",
    }
    assert vfab("device", "scan", "--kind", "can").out == "No device was found by can.\n"
    refused = vfab("device", "scan", "--kind", "sim", "--json")
    assert "there is no kind of detection 'sim'" in refused.error["message"]
    assert "v4l2" in refused.error["remedy"]


def test_a_port_is_asked_who_is_there_when_the_user_wants_it(vfab: Vfab) -> None:
    plugin(
        vfab.home / "home" / "plugins",
        "asker",
        "from vfab.sdk import BaseDriver\nclass Driver(BaseDriver): ...\n",
        "permissions: {probe: true}\nidentify:\n"
        "  - send: 'V\\r'\n    expect: '(?P<product>EBB)v\\S+ EB Firmware Version (?P<firmware>\\S+)'\n",
    )
    simulator = vfab.simulator(name="axidraw")
    for file in (vfab.home / "home" / "run" / "simulators").glob("*.json"):
        file.unlink()  # it does not say of itself what it is
    look = ("device", "scan", simulator.address, "--kind", "simulator", "--json")
    (unknown,) = vfab(*look).json["devices"]
    assert (unknown["bus"], unknown["product"], unknown["drivers"]) == ("pty", "", [])
    (known,) = vfab(*look, "--probe").json["devices"]
    assert (known["product"], known["drivers"][0]) == ("EBB", "asker")
    assert known["attributes"]["identified"] == "asker"
    assert known["attributes"]["firmware"]
    shown = vfab(*look[:-1], "--probe", "--refresh").out
    assert "EBB" in shown
    assert "asker" in shown


def test_hosts_of_the_configuration_are_listed_and_a_wrong_section_is_told(vfab: Vfab) -> None:
    config = vfab.home / "home" / "config.yaml"
    config.parent.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        config.write_text(f"detection:\n  hosts: [{address}]\n")
        assert [d["address"] for d in vfab("device", "scan", "--kind", "tcp", "--json").json["devices"]] == [address]
        assert vfab("config", "check").code == 0
    config.write_text("detection:\n  host: [x]\n")
    result = vfab("device", "scan", "--kind", "configuration", "--json").json
    assert "config.yaml:2: detection.host" in result["limitations"]["configuration"]
    checked = vfab("config", "check")
    assert checked.code != 0
    assert "detection.host" in checked.out + checked.err


def test_a_driver_that_lacks_a_library_is_named_with_what_to_install(vfab: Vfab) -> None:
    plugin(
        vfab.home / "home" / "plugins",
        "aaa",
        "from vfab.sdk import BaseDriver\nclass Driver(BaseDriver): ...\n",
        "match: [{vid: '04d8', pid: 'fd92', bus: simulator}]\ndependencies: ['no-such-library-anywhere>=3']\n",
    )
    vfab.simulator()
    done = vfab("device", "scan", "--kind", "simulator")
    assert "axidraw, aaa (not installed)" in done.out
    assert "aaa needs no-such-library-anywhere>=3" in done.out


def test_the_node_looks_with_the_same_options(vfab: Vfab) -> None:
    simulator = vfab.simulator()
    node = node_of(vfab)
    node.up()
    everything = vfab("device", "scan", "--json").json
    assert simulator.address in {device["address"] for device in everything["devices"]}
    assert "mdns" in everything["left_out"]
    assert vfab("device", "scan", "--kind", "can", "--refresh", "--json").json["devices"] == []
    refused = vfab("device", "scan", "--kind", "sim", "--json")
    assert "there is no kind of detection 'sim'" in refused.error["message"]
    node.down()
