"""A scan with all kinds: which are chosen, what is merged, what the configuration and the drivers say."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device_trees import ANYBODY, link, touch, usb_device, write
from vfab.kernel.addresses import device_at, find_device, is_address, kind_of_node
from vfab.kernel.config_file import ConfigFile
from vfab.kernel.detection import DetectionHandler, DetectionRegistry
from vfab.kernel.detection_settings import DETECTION_SCHEMA, DetectionSettings
from vfab.kernel.detector import default_detection, named_services
from vfab.kernel.finders.i2c import I2cHandler
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.usb import UsbHandler
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DeviceNotFound
from vfab.model.settings import faults


def device(own: str, **more: Any) -> DeviceInfo:
    return DeviceInfo(**{"id": own, "bus": "test", "address": f"/dev/{own}", **more})


class Handler(DetectionHandler):
    def __init__(self, name: str, *devices: DeviceInfo, on_request: bool = False, limitation: str = "") -> None:
        super().__init__(name)
        self.devices = list(devices)
        self.on_request = on_request
        self.told = limitation

    def find(self) -> list[DeviceInfo]:
        return self.devices

    def limitation(self) -> str:
        return self.told


def registry_of(*handlers: DetectionHandler, **options: Any) -> DetectionRegistry:
    registry = DetectionRegistry(**options)
    for handler in handlers:
        registry.register_handler(handler)
    return registry


# --- which are chosen ----------------------------------------------------------------------------------------------


def test_what_takes_long_looks_only_when_it_is_named() -> None:
    registry = registry_of(
        Handler("usb", device("a")), Handler("mdns", device("b"), on_request=True, limitation="needs zeroconf")
    )
    everything = registry.scan()
    assert ([d.id for d in everything.devices], everything.left_out) == (["a"], ("mdns",))
    assert everything.limitations == {}
    chosen = registry.scan(kinds=["mdns"])
    assert ([d.id for d in chosen.devices], chosen.left_out) == (["b"], ())
    assert chosen.to_dict()["limitations"] == {"mdns": "needs zeroconf"}
    assert registry.scan() is everything


def test_a_kind_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="'udb'; did you mean usb") as caught:
        registry_of(Handler("usb"), Handler("can")).scan(kinds=["udb"])
    assert caught.value.remedy == "There are: can, usb."
    with pytest.raises(ConfigurationError, match=r"no kind of detection 'zzz'$"):
        registry_of(Handler("usb")).scan(kinds=["zzz"])


def test_sources_are_asked_at_every_scan_and_replace_nobody() -> None:
    there = [Handler("lab", device("l1")), Handler("usb", device("impostor"))]
    registry = registry_of(Handler("usb", device("a")), ttl_s=0)
    registry.add_source(lambda: there)
    assert [d.id for d in registry.scan().devices] == ["a", "l1"]
    there.clear()
    assert [d.id for d in registry.scan().devices] == ["a"]


def test_what_costs_much_is_kept_until_a_fresh_look_is_wanted() -> None:
    class Costly(Handler):
        keep_s = 30.0
        looks = 0

        def find(self) -> list[DeviceInfo]:
            self.looks += 1
            return super().find()

    now = [0.0]
    costly, cheap = Costly("visa", device("v")), Handler("usb", device("u"))
    registry = registry_of(costly, cheap, clock=lambda: now[0])
    for at, looks in ((0.0, 1), (10.0, 1), (29.0, 1), (31.0, 2)):
        now[0] = at
        assert [d.id for d in registry.scan().devices] == ["u", "v"]
        assert costly.looks == looks
    registry.scan(refresh=True)
    registry.scan(kinds=["visa"])
    assert costly.looks == 4


def test_who_is_waited_for_is_told_again_and_again() -> None:
    class Waits(DetectionHandler):
        def __init__(self) -> None:
            super().__init__("slow", timeout_s=20)
            self.go_on = threading.Event()

        def find(self) -> list[DeviceInfo]:
            self.go_on.wait(20)
            return [device("s")]

    slow = Waits()
    told: list[tuple[str, ...]] = []

    def waiting(names: tuple[str, ...]) -> None:
        told.append(names)
        if len(told) == 2:
            slow.go_on.set()

    registry = registry_of(slow, Handler("quick"), told_after_s=0.01)
    assert [d.id for d in registry.scan(on_waiting=waiting).devices] == ["s"]
    assert told[:2] == [("slow",), ("slow",)]


# --- what is merged ------------------------------------------------------------------------------------------------


def test_a_usb_device_whose_function_has_a_node_of_its_own_is_told_once(tmp_path: Path) -> None:
    sys, dev = tmp_path / "sys", tmp_path / "dev"
    usb = usb_device(sys, "1-3", bDeviceClass="00", busnum="1", devnum="4")
    write(
        sys / "devices" / "usb1" / "1-4", idVendor="1234", idProduct="0001", bDeviceClass="00", busnum="1", devnum="5"
    )
    bus = write(tmp_path / "bus")
    for name in ("1-3", "1-4"):
        link(bus / name, sys / "devices" / "usb1" / name)
    link(sys / "i2c" / "i2c-5", write(usb / "i2c-5", name="i2c-tiny-usb"))
    touch(dev / "i2c-5")
    usb_handler = UsbHandler(bus, dev, user=ANYBODY)
    both = registry_of(usb_handler, I2cHandler(dev, sys / "i2c", user=ANYBODY)).scan()
    assert [d.bus for d in both.devices] == ["i2c", "usb"]
    assert both.devices[1].vid == "1234"
    assert len(both.found_by["usb"]) == 2
    assert [d.vid for d in registry_of(usb_handler).scan().devices] == ["046d", "1234"]


def test_an_instrument_on_usb_is_told_once_though_visa_lists_it_too() -> None:
    ids = {"vid": "0957", "pid": "1a07", "serial_number": "MY1"}
    node = device("usbtmc:1", bus="usbtmc", **ids)
    same, other = device("visa:USB0", bus="visa", **ids), device("visa:GPIB0", bus="visa")
    both = registry_of(Handler("usbtmc", node), Handler("visa", same, other)).scan()
    assert [d.id for d in both.devices] == ["usbtmc:1", "visa:GPIB0"]
    assert len(registry_of(Handler("visa", same, other)).scan().devices) == 2


def test_a_device_cannot_steer_the_terminal_of_who_looks() -> None:
    nasty = device("a", name="\x1b[2Jcamera", attributes={"txt.x": "a\nb\x9b"})
    (found,) = registry_of(Handler("mdns", nasty)).scan().devices
    assert (found.name, found.attributes) == ("?[2Jcamera", {"txt.x": "a?b?"})


# --- the configuration ---------------------------------------------------------------------------------------------


def settings(folder: Path, text: str) -> DetectionSettings:
    (folder / "config.yaml").write_text(text)
    return DetectionSettings.of(ConfigFile(folder / "config.yaml"))


def test_the_section_says_where_on_networks_to_look(tmp_path: Path) -> None:
    assert DetectionSettings.of(ConfigFile(tmp_path / "none")) == DetectionSettings()
    assert settings(tmp_path, "device: {}\n") == DetectionSettings()
    said = settings(
        tmp_path,
        "detection:\n  hosts: [tcp://192.0.2.7:23]\n  mdns: {interfaces: [lo], services: [_x._tcp]}\n"
        '  visa: {libraries: ["@sim"], network: true}\n',
    )
    assert (said.hosts, said.mdns.interfaces, said.mdns.services) == (("tcp://192.0.2.7:23",), ("lo",), ("_x._tcp",))
    assert (said.visa.libraries, said.visa.network, said.genicam.interfaces) == (("@sim",), True, ())
    assert faults(DETECTION_SCHEMA, msgspec.to_builtins(said)) == []


def test_a_wrong_section_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"config.yaml:3: detection\.mdns\.interfaces"):
        settings(tmp_path, "detection:\n  mdns:\n    interfaces: lo\n")


def test_a_broken_configuration_is_told_and_the_rest_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("detection: 5\n")
    registry = default_detection({"VFAB_HOME": str(tmp_path)})
    result = registry.scan(kinds=["configuration", "can"])
    assert result.problems == ()
    assert "config.yaml:1: detection: found 5" in result.limitations["configuration"]


MANIFEST = """name: {name}
version: '1'
author: me
description: d
driver_class: driver.D
{more}
"""


@pytest.fixture
def drivers(tmp_path: Path) -> DriverRegistry:
    plugins = {
        "asks": "permissions: {probe: true}\nidentify: [{send: 'V\\r', expect: '(?P<product>EBB)', timeout_s: 5}]",
        "watches": "match: [{attributes: {service: '_a._tcp*'}}, {attributes: {service: '_*._udp'}}, {bus: x}]",
        "board": "match: [{vid: '04d8', pid: 'fd92'}]\nsimulator: s.py",
        "lacks": "match: [{vid: '04d8'}]\ndependencies: ['no-such-library-anywhere']",
    }
    for name, more in plugins.items():
        folder = write(tmp_path / "plugins" / name)
        (folder / "plugin.yaml").write_text(MANIFEST.format(name=name, more=more))
        (folder / "driver.py").touch()
    return DriverRegistry(Places.only(tmp_path / "plugins"))


@pytest.fixture
def board() -> Iterator[str]:
    ours, theirs = pty.openpty()

    def serve() -> None:
        while b"V\r" not in os.read(ours, 100):
            pass
        os.write(ours, b"EBBv13\r\n")

    threading.Thread(target=serve, daemon=True).start()
    yield os.ttyname(theirs)
    os.close(theirs)
    os.close(ours)


def test_ports_are_asked_what_the_drivers_ask_and_the_one_that_knows_comes_first(
    drivers: DriverRegistry, tmp_path: Path, board: str
) -> None:
    registry = default_detection({"VFAB_HOME": str(tmp_path)}, drivers)
    result = registry.scan(kinds=["simulator"], probe=True, also=[device_at(board)])
    (found,) = drivers.with_drivers(result.devices)
    assert (found.product, found.drivers) == ("EBB", ("asks",))


def test_what_one_driver_alone_fits_by_its_ids_is_not_asked(
    tmp_path: Path, board: str, drivers: DriverRegistry
) -> None:
    registry = default_detection({"VFAB_HOME": str(tmp_path)}, drivers)
    (identifier,) = [handler for handler in registry.handlers if handler.name == "identify"]
    known = DeviceInfo(id="usb:1", bus="usb", address=board, vid="04d8", pid="fd92")
    assert len(drivers.drivers_for(known)) == 2
    assert identifier.probe((known,))  # two fit
    (tmp_path / "plugins" / "lacks" / "plugin.yaml").unlink()
    drivers.discover_drivers()
    assert identifier.probe((known,)) == []
    assert default_detection({"VFAB_HOME": str(tmp_path)}).scan(kinds=["can"], probe=True, also=[known]).devices == (
        known,
    )


def test_the_services_to_look_for_are_those_that_drivers_name(drivers: DriverRegistry) -> None:
    assert list(named_services(drivers)) == ["_a._tcp"]
    assert list(named_services(None)) == []


def test_a_fit_says_what_is_missing_and_a_simulators_own_driver_comes_first(drivers: DriverRegistry) -> None:
    (found,) = drivers.with_drivers([device("a", vid="04d8", pid="fd92")])
    assert found.drivers == ("board", "lacks")
    best, lacking = found.fits
    assert (best.score, best.installed, best.remedy) == (20, True, "")
    assert (lacking.score, lacking.installed) == (10, False)
    assert "no-such-library-anywhere" in lacking.remedy
    (simulated,) = drivers.with_drivers([device("s", vid="04d8", pid="fd92", attributes={"simulates": "asks"})])
    assert simulated.drivers == ("asks", "board", "lacks")


# --- addresses given by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "own", "bus"),
    [
        ("ws://cam.local/live", "ws:cam.local/live", "ws"),
        ("HTTPS://cam.local:444/", "https:cam.local:444", "https"),
        ("rtsp://ada:secret@192.0.2.9/live", "rtsp:192.0.2.9/live", "rtsp"),
        ("mqtt://broker", "mqtt:broker", "mqtt"),
        ("modbus://192.0.2.9", "modbus:192.0.2.9", "modbus"),
        ("rfc2217://192.0.2.9:2217", "rfc2217:192.0.2.9:2217", "rfc2217"),
        ("udp://192.0.2.9:9", "udp:192.0.2.9:9", "udp"),
        ("unix:///run/x.sock", "unix:/run/x.sock", "unix"),
        ("can://vcan0", "can:vcan0", "can"),
        ("genicam://192.0.2.9/", "genicam:192.0.2.9", "genicam"),
        ("TCPIP0::192.0.2.7::inst0::INSTR", "visa:TCPIP0::192.0.2.7::inst0::INSTR", "visa"),
        ("USB0::0x0957::0x1A07::MY1::INSTR", "visa:USB0::0x0957::0x1A07::MY1::INSTR", "visa"),
        ("GPIB0::12::INSTR", "visa:GPIB0::12::INSTR", "visa"),
    ],
)
def test_every_scheme_that_the_broker_opens_may_be_given_by_hand(address: str, own: str, bus: str) -> None:
    assert is_address(address)
    found = find_device(address, [])
    assert (found.id, found.bus) == (own, bus)
    assert "secret" not in found.name
    if bus not in {"https", "genicam"}:
        assert found.address == address


@pytest.mark.parametrize("address", ["genicam://", "can://a/b", "unix://x", "rfc2217://h", "://", "gopher://h:1"])
def test_what_the_broker_does_not_open_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an address") as caught:
        device_at(address)
    assert "TCPIP0::192.0.2.7::INSTR" in caught.value.remedy


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/dev/video0", "v4l2"),
        ("/dev/i2c-1", "i2c"),
        ("/dev/gpiochip0", "gpio"),
        ("/dev/spidev0.1", "spi"),
        ("/dev/usbtmc0", "usbtmc"),
        ("/dev/pts/3", "pty"),
        ("/dev/bus/usb/001/004", "usb"),
        ("/dev/ttyACM0", "serial"),
    ],
)
def test_the_kind_of_a_node_is_that_of_detection(path: str, kind: str) -> None:
    assert kind_of_node(path) == kind


def test_the_folder_of_an_iio_device_is_an_address(tmp_path: Path) -> None:
    folder = write(tmp_path / "bus" / "iio" / "devices" / "iio:device0")
    found = device_at(f"{folder}/", sysfs=tmp_path)
    assert (found.id, found.bus, found.address) == ("iio:iio:device0", "iio", str(folder))
    with pytest.raises(ConfigurationError, match="not a device node"):
        device_at(str(folder), sysfs=tmp_path / "other")
    with pytest.raises(DeviceNotFound):
        device_at(str(tmp_path / "none"))
