"""Kinds of devices that are found over networks, and by other people's libraries."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from needs import program
from vfab.kernel.finders import visa_list
from vfab.kernel.finders.genicam import GenicamHandler, read_discovery
from vfab.kernel.finders.hosts import HostsHandler
from vfab.kernel.finders.interfaces import Interface, chosen_interfaces
from vfab.kernel.finders.mdns import MdnsHandler, service_device
from vfab.kernel.finders.visa import VisaHandler, has_visa_library, list_in_child
from vfab.model.errors import ConfigurationError, ConnectError, TimeoutExceeded

LOOPBACK = {
    "lo": [SimpleNamespace(family=socket.AF_INET, address="127.0.0.1", broadcast=None)],
    "eth0": [
        SimpleNamespace(family=socket.AF_INET6, address="fe80::1", broadcast=None),
        SimpleNamespace(family=socket.AF_INET, address="192.0.2.5", broadcast="192.0.2.255"),
    ],
}


def test_interfaces_are_named_by_name_or_address() -> None:
    found = chosen_interfaces(["192.0.2.5", "lo"], addresses=lambda: LOOPBACK)
    assert found == [Interface("eth0", "192.0.2.5", "192.0.2.255"), Interface("lo", "127.0.0.1", "127.0.0.1")]
    assert [each.address for each in chosen_interfaces(["127.0.0.1"])] == ["127.0.0.1"]


def test_an_interface_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="no network interface 'wlan7'") as caught:
        chosen_interfaces(["wlan7"], addresses=lambda: LOOPBACK)
    assert "eth0 (192.0.2.5)" in caught.value.remedy


# --- hosts of the configuration ------------------------------------------------------------------------------------


def test_a_host_that_listens_is_accessible_and_one_that_does_not_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        there = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        gone = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        other.close()
        handler = HostsHandler([there, gone, there, "udp://127.0.0.1:9"])
        answers, refuses, unknown = handler.find()
    assert (answers.address, answers.accessible) == (there, True)
    assert float(answers.attributes["response_ms"]) >= 0
    assert (refuses.accessible, refuses.problem) == (False, f"{gone} does not answer: Connection refused")
    assert "detection.hosts" in refuses.remedy
    assert unknown.accessible
    assert handler.is_compatible(answers)
    assert HostsHandler().find() == []


def test_a_host_in_use_is_not_disturbed() -> None:
    def refuse(address: str, timeout_s: float) -> None:
        raise AssertionError(address)

    (found,) = HostsHandler(["tcp://192.0.2.1:1"], connect=refuse, in_use=lambda own: own == "tcp:192.0.2.1:1").find()
    assert found.accessible


def test_a_host_that_is_silent_costs_its_patience_only() -> None:
    def silent(address: str, timeout_s: float) -> None:
        raise TimeoutError("timed out")

    (found,) = HostsHandler(["tcp://192.0.2.1:1"], connect=silent).find()
    assert found.problem == "tcp://192.0.2.1:1 does not answer: timed out"


def test_a_host_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not an address"):
        HostsHandler(["192.0.2.1"]).find()


# --- GigE Vision ---------------------------------------------------------------------------------------------------


def discovery(**texts: str) -> bytes:
    body = bytearray(0xF8)
    body[0x0A:0x10] = bytes(range(6))
    body[0x24:0x28] = socket.inet_aton("192.0.2.9")
    places = {"manufacturer": 0x48, "model": 0x68, "version": 0x88, "serial": 0xD8, "name": 0xE8}
    for key, text in texts.items():
        body[places[key] : places[key] + len(text)] = text.encode()
    return bytes.fromhex("0000000300f80fab") + bytes(body)


def test_a_camera_says_who_it_is() -> None:
    said = read_discovery(discovery(manufacturer="Basler", model="acA640", serial="21", name="left", version="1"))
    assert said == {
        "mac": "00:01:02:03:04:05",
        "address": "192.0.2.9",
        "manufacturer": "Basler",
        "model": "acA640",
        "version": "1",
        "serial_number": "21",
        "name": "left",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        discovery()[:-1],
        b"\x80" + discovery()[1:],
        b"\0\0\0\x02" + discovery()[4:],
        discovery()[:6] + b"\0\1" * 200,
    ],
)
def test_what_is_no_answer_to_our_question_is_no_camera(data: bytes) -> None:
    assert read_discovery(data) is None


@pytest.mark.xdist_group("gige-vision")
@pytest.mark.referee
def test_aravis_fake_camera_is_found_on_loopback() -> None:
    camera = program("arv-fake-gv-camera-0.8", package="aravis-tools")
    apart = [program("unshare", package="util-linux"), "-rn"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make network namespaces")
    work = """
import json, subprocess, sys, msgspec
from vfab.kernel.finders.genicam import GenicamHandler
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
nobody = GenicamHandler().find()
with subprocess.Popen([sys.argv[1], "-i", "127.0.0.1", "-s", "GV 7"], stderr=subprocess.DEVNULL) as camera:
    found = []
    while not found and camera.poll() is None:
        found = GenicamHandler(["lo"]).find()
    camera.terminate()
print(json.dumps([len(nobody), msgspec.to_builtins(found)]))
"""
    done = subprocess.run(
        [*apart, sys.executable, "-c", work, camera], capture_output=True, text=True, check=True, timeout=60
    )
    nobody, (found,) = json.loads(done.stdout)
    assert nobody == 0
    assert (found["id"], found["address"]) == ("genicam:Aravis-Fake-GV_7", "genicam://127.0.0.1")
    assert (found["manufacturer"], found["product"], found["serial_number"]) == ("Aravis", "Fake", "GV 7")


@pytest.mark.xdist_group("gige-vision")
def test_without_a_camera_nothing_is_found() -> None:
    assert GenicamHandler(wait_s=0.0).find() == []


# --- mDNS ----------------------------------------------------------------------------------------------------------


def service(**changes: Any) -> SimpleNamespace:
    told = {
        "server": "cam.local.",
        "port": 8554,
        "properties": {b"path": b"/live", b"model": b"X1", b"empty": None},
        "parsed_addresses": lambda: ["fe80::1", "192.0.2.9"],
    }
    return SimpleNamespace(**{**told, **changes})


def test_a_service_is_a_device_with_the_address_that_it_announces() -> None:
    found = service_device("_rtsp._tcp.local.", "Front door._rtsp._tcp.local.", service())
    assert (found.id, found.address) == ("mdns:_rtsp._tcp:Front_door", "rtsp://192.0.2.9:8554/live")
    assert (found.name, found.product) == ("Front door", "X1")
    assert found.attributes == {
        "service": "_rtsp._tcp",
        "host": "cam.local",
        "txt.path": "/live",
        "txt.model": "X1",
    }


@pytest.mark.parametrize(
    ("type_", "changes", "address"),
    [
        ("_vxi-11._tcp.local.", {}, "tcp://192.0.2.9:8554"),
        ("_osc._udp.local.", {}, "udp://192.0.2.9:8554"),
        ("_http._tcp.local.", {"properties": {b"path": b"/a b\x1b"}}, "http://192.0.2.9:8554"),
        ("_http._tcp.local.", {"parsed_addresses": lambda: ["fe80::1"], "properties": {}}, "http://[fe80::1]:8554"),
        ("_mqtt._tcp.local.", {"parsed_addresses": list, "properties": None}, "mqtt://cam.local:8554"),
    ],
)
def test_the_scheme_is_that_of_the_service(type_: str, changes: dict[str, Any], address: str) -> None:
    assert service_device(type_, f"a.{type_}", service(**changes)).address == address


@pytest.mark.referee
def test_a_service_that_zeroconf_announces_on_loopback_is_found() -> None:
    zeroconf = pytest.importorskip("zeroconf")
    type_ = "_vfab-test._tcp.local."
    info = zeroconf.ServiceInfo(
        type_,
        f"Bench 1.{type_}",
        port=4321,
        addresses=[socket.inet_aton("127.0.0.1")],
        properties={"Manufacturer": "Acme"},
        server="bench.local.",
    )
    with zeroconf.Zeroconf(interfaces=["127.0.0.1"]) as network:
        network.register_service(info)
        types = ["_vfab-test._tcp", "_nobody._tcp.local."]
        named = MdnsHandler(lambda: types, ["lo"], wait_s=10.0)
        assert not named.on_request
        (found,) = named.find()
    assert (found.id, found.address) == ("mdns:_vfab-test._tcp:Bench_1", "tcp://127.0.0.1:4321")
    assert found.manufacturer == "Acme"


def test_nobody_answers_in_the_time_that_is_given() -> None:
    pytest.importorskip("zeroconf")
    handler = MdnsHandler(lambda: ["_nobody-at-all._tcp"], wait_s=0.05)
    assert handler.on_request
    assert handler.find() == []


def test_without_a_type_to_look_for_or_without_zeroconf_nothing_is_looked_for() -> None:
    assert MdnsHandler().find() == []
    without = MdnsHandler(lambda: ["_a._tcp"], installed=lambda: False)
    assert without.find() == []
    assert "pip install 'vfab[net]'" in without.limitation()
    assert MdnsHandler(installed=lambda: True).limitation() == ""


# --- VISA ----------------------------------------------------------------------------------------------------------


def test_resources_become_devices_and_serial_ports_are_left_to_their_own_kind() -> None:
    asked: list[tuple[str, bool]] = []

    def listed(library: str, network: bool, timeout_s: float) -> dict[str, list[str]]:
        asked.append((library, network))
        usb = ["USB0::0x0957::0x1A07::MY1::INSTR", "USB0::2391::6663::MY2::0::INSTR"]
        others = ["ASRL/dev/ttyS0::INSTR", "PRLGX-ASRL::/dev/ttyS0::INTFC", "GPIB0::INTFC"]
        return {"resources": ["GPIB0::12::INSTR", *usb, *others]}

    handler = VisaHandler(["@py", "@ivi"], network=True, list_resources=listed, installed=lambda: True)
    gpib, usb, decimal = handler.find()
    assert (decimal.vid, decimal.pid, decimal.serial_number) == ("0957", "1a07", "MY2")
    assert handler.on_request
    assert asked == [("@py", True), ("@ivi", True)]
    assert (gpib.id, gpib.address, gpib.bus) == ("visa:GPIB0::12::INSTR", "GPIB0::12::INSTR", "visa")
    assert gpib.attributes == {"interface": "gpib", "library": "@py"}
    assert (usb.vid, usb.pid, usb.serial_number) == ("0957", "1a07", "MY1")


def test_without_pyvisa_the_loss_is_told() -> None:
    handler = VisaHandler(always=True, installed=lambda: False)
    assert not handler.on_request
    assert handler.find() == []
    assert "pip install 'vfab[visa]'" in handler.limitation()
    assert VisaHandler(installed=lambda: True).limitation() == ""


@pytest.mark.referee
def test_pyvisa_sims_instruments_are_listed_by_a_child_process() -> None:
    pytest.importorskip("pyvisa")
    pytest.importorskip("pyvisa_sim")
    found = VisaHandler(["@sim"], timeout_s=60).find()
    assert "visa:GPIB0::8::INSTR" in {device.id for device in found}


@pytest.mark.referee
def test_pyvisa_py_lists_what_is_plugged_in_without_asking_on_networks(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyvisa_py")
    assert visa_list.main(["@py", "here"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert not [name for name in answer["resources"] if name.startswith("TCPIP")]


def test_a_library_that_cannot_list_one_kind_lists_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for pyvisa and pyvisa_py: two kinds of sessions, one of which fails."""
    (tmp_path / "pyvisa.py").write_text(
        "class ResourceManager:\n    def __init__(self, library): pass\n"
        "    def list_resources(self, query): return ('GPIB0::1::INSTR',)\n"
    )
    (tmp_path / "pyvisa_py").mkdir()
    (tmp_path / "pyvisa_py" / "__init__.py").touch()
    (tmp_path / "pyvisa_py" / "sessions.py").write_text(
        "from types import SimpleNamespace as S\n"
        "def fail(): raise OSError('no driver')\n"
        "def refuse(): raise AssertionError('a broadcast')\n"
        "class Session:\n"
        "    def iter_valid_session_classes():\n"
        "        yield (S(name='gpib'), 'INSTR'), S(list_resources=fail)\n"
        "        yield (S(name='usb'), 'INSTR'), S(list_resources=lambda: ['USB0::1::INSTR'])\n"
        "        yield (S(name='tcpip'), 'INSTR'), S(list_resources=refuse)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pyvisa", "pyvisa_py", "pyvisa_py.sessions"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert visa_list.main(["@py", "here"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"resources": ["USB0::1::INSTR"], "problems": ["gpib INSTR: no driver"]}
    assert visa_list.main(["@py", "network"]) == 0
    assert json.loads(capsys.readouterr().out)["resources"] == ["GPIB0::1::INSTR"]
    for name in ("pyvisa", "pyvisa_py", "pyvisa_py.sessions"):
        sys.modules.pop(name, None)


def test_a_library_that_hangs_is_ended_and_one_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyvisa.py").write_text(
        "import sys, threading\nthreading.Event().wait() if sys.argv[1] == 'slow' else 1/0"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConnectError, match="ZeroDivisionError"):
        list_in_child("broken", False, 30)
    with pytest.raises(TimeoutExceeded, match="listed nothing within"):
        list_in_child("slow", False, 1.0)


def test_a_vendors_library_or_a_gpib_board_is_noticed(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert not has_visa_library([none], tmp_path, none)
    (tmp_path / "libvisa.so").touch()
    assert has_visa_library([tmp_path], none, none)
    (tmp_path / "gpib0").touch()
    assert has_visa_library([none], tmp_path, none)
    assert has_visa_library([none], none, tmp_path)
