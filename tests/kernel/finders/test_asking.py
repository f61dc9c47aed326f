"""Asking who is there: at serial ports, TCP hosts and I2C buses; only when somebody wants it."""

from __future__ import annotations

import ctypes
import errno
import os
import pty
import socket
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_trees import ANYBODY, NOBODY, link, touch, usb_device, write
from vfab.kernel.detection import DetectionHandler, DetectionRegistry
from vfab.kernel.finders.i2c import I2cHandler, answering_chips
from vfab.kernel.finders.identify import Identifier, Question, ask_link
from vfab.kernel.leases import LeaseBook
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DeviceNotFound
from vfab.model.identify import Identify
from vfab.sdk.link import Link

EBB = Identify(send="V\\r", expect=r"(?P<product>EBB)\S+ .*Version (?P<firmware>\S+)", baudrates=(9600, 115200))


class Terminal:
    """Somebody at the other end of a pseudo-terminal, who answers with what `answer` says to what was sent."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.address = os.ttyname(self.slave)
        self.heard = bytearray()
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while data := os.read(self.master, 100):
                self.heard += data
                if said := self._answer(data):
                    os.write(self.master, said)
        except OSError:
            return

    @property
    def device(self) -> DeviceInfo:
        return DeviceInfo(id=f"pty:{Path(self.address).name}", bus="pty", address=self.address, name="port")

    def rate(self) -> int:
        return int(termios.tcgetattr(self.slave)[4])

    def close(self) -> None:
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminals() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(answer: Callable[[bytes], bytes] = lambda data: b"") -> Terminal:
        made.append(Terminal(answer))
        return made[-1]

    yield make
    for terminal in made:
        terminal.close()


@pytest.fixture
def leases(tmp_path: Path) -> LeaseBook:
    return LeaseBook(tmp_path / "leases")


def board(data: bytes) -> bytes:
    return b"EBBv13_and_above EB Firmware Version 2.8.1\r\n" if data.endswith(b"V\r") else b"?"


def identifier(leases: LeaseBook, *questions: Question, **options: object) -> Identifier:
    return Identifier(lambda: questions, leases, **options)  # type: ignore[arg-type]


def test_a_board_is_known_by_its_answer_and_its_ports_settings_are_put_back(
    terminals: Callable[..., Terminal], leases: LeaseBook
) -> None:
    terminal = terminals(board)
    before = termios.tcgetattr(terminal.slave)
    (found,) = identifier(leases, ("other", Identify(send="ID\\n", expect="ACME", timeout_s=0.02)), ("axi", EBB)).probe(
        (terminal.device,)
    )
    assert (found.id, found.product, found.name) == (terminal.device.id, "EBB", "EBB")
    assert found.attributes == {"identified": "axi", "baudrate": "9600", "firmware": "2.8.1"}
    assert bytes(terminal.heard) == b"ID\nV\r"
    assert termios.tcgetattr(terminal.slave) == before


def test_every_rate_is_tried_until_one_is_answered(terminals: Callable[..., Terminal], leases: LeaseBook) -> None:
    terminal = terminals(lambda data: b"GRBL 1.1h\r\n" if terminal.rate() == termios.B115200 else b"\xff\xfe")
    question = Identify(
        send="$I\\n", expect=r"(?P<model>GRBL) (?P<version>\S+)", baudrates=(9600, 115200), timeout_s=0.2
    )
    (found,) = identifier(leases, ("grbl", question)).probe((terminal.device,))
    assert (found.attributes["baudrate"], found.product, found.attributes["version"]) == ("115200", "GRBL", "1.1h")


def test_who_answers_nothing_that_was_asked_for_is_left_as_it_was(
    terminals: Callable[..., Terminal], leases: LeaseBook
) -> None:
    silent, babbling = terminals(), terminals(lambda data: b"x" * 5000)
    question = Identify(send="?", expect="EBB", timeout_s=0.05)
    assert identifier(leases, ("axi", question)).probe((silent.device, babbling.device)) == []


def test_one_may_only_listen(terminals: Callable[..., Terminal], leases: LeaseBook) -> None:
    receiver = terminals()
    os.write(receiver.master, b"$GPRMC,1,V*00\r\n")
    (found,) = identifier(leases, ("gps", Identify(expect=r"\$GP(?P<sentence>RMC)"))).probe((receiver.device,))
    assert found.attributes["sentence"] == "RMC"
    assert bytes(receiver.heard) == b""


def test_a_port_in_use_is_left_alone(terminals: Callable[..., Terminal], leases: LeaseBook) -> None:
    leased, locked = terminals(board), terminals(board)
    with leases.acquire(leased.device.id), Link(os.open(locked.address, os.O_RDWR | os.O_NOCTTY)) as held:
        import fcntl

        fcntl.flock(held.fileno(), fcntl.LOCK_EX)
        assert identifier(leases, ("axi", EBB)).probe((leased.device, locked.device)) == []
    assert bytes(leased.heard) == bytes(locked.heard) == b""


def test_a_port_that_cannot_be_asked_says_why(leases: LeaseBook) -> None:
    gone = DeviceInfo(id="serial:gone", bus="serial", address="/dev/ttyNONE")
    (found,) = identifier(leases, ("axi", EBB)).probe((gone,))
    assert "is not there" in found.attributes["not_identified"]


def test_nothing_is_asked_of_simulators_of_what_is_no_port_and_without_questions(
    terminals: Callable[..., Terminal], leases: LeaseBook
) -> None:
    terminal = terminals(board)
    simulated = DeviceInfo(id="sim:a:1", bus="simulator", address=terminal.address, attributes={"simulates": "a"})
    camera = DeviceInfo(id="v4l2:1", bus="v4l2", address="/dev/video0")
    refused = DeviceInfo(id="serial:x", bus="serial", address="/dev/ttyS0", accessible=False)
    handler = identifier(leases, ("axi", EBB))
    assert handler.probe((simulated, camera, refused)) == []
    assert identifier(leases).probe((terminal.device,)) == []
    assert identifier(leases, ("host", Identify(scheme="tcp", expect="x"))).probe((terminal.device,)) == []
    assert bytes(terminal.heard) == b""
    assert handler.find() == []


def test_hosts_are_asked_each_question_on_a_connection_of_its_own(leases: LeaseBook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []

        def serve() -> None:
            for answer in (b"", b"?\r\n", b"ACME,Model 7,0042\r\n"):
                connection, _ = server.accept()
                with connection:
                    heard.append(connection.recv(100))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        host = DeviceInfo(id="tcp:bench", bus="tcp", address=address)
        question = r"ACME,(?P<model>[^,]+),(?P<serial_number>\d+)"
        questions = [("x", Identify(scheme="tcp", send=send, expect=question)) for send in ("A\\n", "B\\n", "*IDN?\\n")]
        (found,) = identifier(leases, *questions).probe((host,))
        assert identifier(leases, ("x", Identify(scheme="tcp", expect="A"))).is_compatible(host)
        thread.join(10)
    assert (found.product, found.serial_number) == ("Model 7", "0042")
    assert heard == [b"A\n", b"B\n", b"*IDN?\n"]


def test_a_host_that_answers_no_question_stays_unknown(leases: LeaseBook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = DeviceInfo(id="tcp:x", bus="tcp", address=f"tcp://127.0.0.1:{server.getsockname()[1]}")
        assert identifier(leases, ("x", Identify(scheme="tcp", expect="A", timeout_s=0.02))).probe((host,)) == []


def test_old_noise_is_thrown_away_before_asking_and_no_more_than_some(terminals: Callable[..., Terminal]) -> None:
    noise = os.memfd_create("noise")
    os.write(noise, b"EBB" * 40_000)
    os.lseek(noise, 0, os.SEEK_SET)
    with Link(noise, "noise") as flood:
        assert ask_link(flood, Identify(expect="^EBBEBB")) == {}
    terminal = terminals(lambda data: b"new")
    os.write(terminal.master, b"EBB old\n")
    with Link(os.open(terminal.address, os.O_RDWR | os.O_NOCTTY), terminal.address) as line:
        assert line.wait_readable(5)
        assert ask_link(line, Identify(send="V", expect="EBB old", timeout_s=0.05)) is None


# --- I2C -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def buses(tmp_path: Path) -> tuple[Path, Path]:
    """Two adapters: one of the mainboard, one on USB with a chip that has a kernel driver."""
    sys, dev = tmp_path / "sys", tmp_path / "dev"
    usb = usb_device(sys, product="MCP2221")
    adapter = write(usb / "hid" / "i2c-7", name="MCP2221 usb-i2c bridge")
    write(sys / "devices" / "i2c-0", name="SMBus I801 adapter at f040")
    for name, folder in (("i2c-0", sys / "devices" / "i2c-0"), ("i2c-7", adapter)):
        link(sys / "i2c" / name, folder)
        touch(dev / name)
    touch(dev / "i2c-x")
    chip = write(sys / "i2c" / "7-0048", name="lm75")
    link(chip / "driver", write(sys / "drivers" / "lm75"))
    write(sys / "i2c" / "7-a050", name="slave")
    return dev, sys / "i2c"


def test_adapters_are_found_with_the_chips_that_the_kernel_knows(buses: tuple[Path, Path]) -> None:
    found = I2cHandler(*buses, user=ANYBODY).find()
    assert [d.id for d in found] == ["i2c:0", "i2c:hid", "i2c:hid:0x48", "i2c:hid:0x50"]
    assert {d.address for d in found[1:]} == {str(buses[0] / "i2c-7")}
    assert found[1].vid == "046d"
    assert found[2].name == "lm75 at 0x48 of MCP2221 usb-i2c bridge"
    assert {key: found[2].attributes[key] for key in ("chip", "chip_address", "kernel_driver")} == {
        "chip": "lm75",
        "chip_address": "0x48",
        "kernel_driver": "lm75",
    }
    assert I2cHandler(buses[0] / "none", buses[1]).find() == []


@pytest.mark.parametrize(
    ("name", "is_asked"),
    [
        ("SMBus stub driver", True),
        ("CP2112 SMBus Bridge on hidraw0", True),
        ("bcm2835 (i2c@7e804000)", True),
        ("SMBus PIIX4 adapter port 0 at 0b00", False),
        ("i915 gmbus dpb", False),
        ("AMDGPU DM aux hw bus 0", False),
    ],
)
def test_adapters_of_mainboards_and_graphics_cards_are_not_asked(name: str, is_asked: bool) -> None:
    adapter = DeviceInfo(id="i2c:1", bus="i2c", address="/dev/i2c-1", attributes={"adapter": name})
    assert bool(I2cHandler(chips=lambda path, known: [0x20]).probe((adapter,))) is is_asked


def test_only_adapters_that_are_not_the_machines_own_are_asked(buses: tuple[Path, Path]) -> None:
    asked: list[tuple[str, frozenset[int]]] = []

    def chips(path: str, known: frozenset[int]) -> list[int]:
        asked.append((Path(path).name, known))
        return [0x1D]

    handler = I2cHandler(*buses, chips=chips, user=ANYBODY)
    (found,) = handler.probe(tuple(handler.find()))
    assert asked == [("i2c-7", frozenset({0x48, 0x50}))]
    assert (found.id, found.attributes["chip_address"], found.name) == (
        "i2c:hid:0x1d",
        "0x1d",
        "chip at 0x1d of MCP2221 usb-i2c bridge",
    )
    closed = I2cHandler(*buses, chips=chips, user=NOBODY)
    assert closed.probe(tuple(closed.find())) == []


@pytest.mark.parametrize(
    ("functions", "answering", "known", "found"),
    [
        (0x00030000, {0x03, 0x1D, 0x30, 0x50, 0x77, 0x78}, set(), [0x1D, 0x30, 0x50, 0x77]),
        (0x00010000, {0x1D, 0x50}, set(), [0x1D]),
        (0x00020000, {0x1D, 0x50}, set(), [0x50]),
        (0x00030000, {0x1D, 0x50}, {0x1D}, [0x50]),
    ],
)
def test_chips_are_asked_as_i2cdetect_asks(
    functions: int, answering: set[int], known: set[int], found: list[int], tmp_path: Path
) -> None:
    ways: dict[int, tuple[int, int]] = {}
    at = 0

    def ioctl(fd: int, request: int, data: object) -> int:
        nonlocal at
        if request == 0x0705:
            assert isinstance(data, bytearray)
            data[:] = functions.to_bytes(ctypes.sizeof(ctypes.c_ulong), "little")
        elif request == 0x0703:
            assert isinstance(data, int)
            at = data
        else:
            ways[at] = (data.read_write, data.size)  # type: ignore[attr-defined]
            if at not in answering:
                raise OSError(errno.ENXIO, "nobody")
        return 0

    assert answering_chips(str(touch(tmp_path / "i2c-1")), frozenset(known), ioctl=ioctl) == found
    assert not set(ways) & known
    quick, byte = (0, 0), (1, 1)
    for chip, way in ways.items():
        assert 0x08 <= chip <= 0x77
        assert way == (byte if 0x30 <= chip <= 0x37 or 0x50 <= chip <= 0x5F else quick)


# --- in a scan -----------------------------------------------------------------------------------------------------


class Finds(DetectionHandler):
    def __init__(self, *devices: DeviceInfo) -> None:
        super().__init__("serial")
        self.devices = list(devices)
        self.probed = 0

    def find(self) -> list[DeviceInfo]:
        return self.devices

    def probe(self, devices: tuple[DeviceInfo, ...]) -> list[DeviceInfo]:
        self.probed += 1
        return [DeviceInfo(id="new", bus="i2c", address="/dev/i2c-1")]


def test_a_scan_asks_only_when_it_is_told_to(terminals: Callable[..., Terminal], leases: LeaseBook) -> None:
    terminal, named = terminals(board), terminals(board)
    finds = Finds(terminal.device)
    registry = DetectionRegistry()
    registry.register_handler(finds)
    registry.register_handler(identifier(leases, ("axi", EBB)))
    assert [d.id for d in registry.scan().devices] == [terminal.device.id]
    assert (finds.probed, bytes(terminal.heard)) == (0, b"")
    found = {d.id: d for d in registry.scan(probe=True, also=[named.device]).devices}
    assert set(found) == {terminal.device.id, named.device.id, "new"}
    assert found[terminal.device.id].attributes["identified"] == "axi"
    assert found[named.device.id].attributes["identified"] == "axi"
    assert [d.id for d in registry.scan().devices] == [terminal.device.id]


def test_a_port_that_cannot_be_opened_is_no_end_of_the_scan(leases: LeaseBook) -> None:
    def opener(address: str, **settings: object) -> int:
        raise DeviceNotFound(f"{address} is not there")

    registry = DetectionRegistry()
    registry.register_handler(Finds(DeviceInfo(id="a", bus="serial", address="/dev/ttyX")))
    registry.register_handler(identifier(leases, ("axi", EBB), opener=opener))
    result = registry.scan(probe=True)
    assert result.problems == ()
    assert "not_identified" in next(d for d in result.devices if d.id == "a").attributes
