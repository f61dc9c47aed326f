"""GPIO lines: told by gpiozero's mock pins, which stand in for a chip, and by the kernel's events as bytes."""

from __future__ import annotations

import errno
import os
import queue
import socket
import struct
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from vfab.drivers.gpio import lines as lines_module
from vfab.drivers.gpio.driver import GpioDriver, spec_of
from vfab.drivers.gpio.lines import ChipLine, Edge, GpioLines, LineSpec, _request_bytes
from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DeviceBusy,
    IllegalTransition,
    LinkLost,
    PermissionRefused,
    Refused,
)
from vfab.sdk.cancel import current_token
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent
mock = pytest.importorskip("gpiozero.pins.mock")


class MockChip:
    """A Raspberry Pi's header as gpiozero simulates it, behind the driver's lines."""

    def __init__(self) -> None:
        self.factory = mock.MockFactory()
        self.count = 28
        self.busy: set[int] = set()
        self.gone = False
        self.edges: queue.Queue[Edge] = queue.Queue()
        self.sequence = 0
        self.specs: list[LineSpec] = []
        self.closed = 0
        self.callbacks: list[Callable[..., None]] = []  # the pins hold them weakly

    def pin(self, offset: int) -> Any:
        return self.factory.pin(f"GPIO{offset}")

    def __call__(self, fd: int) -> MockChip:
        return self

    def chip(self) -> tuple[str, str, int]:
        return "gpiochip0", "mock", self.count

    def lines(self) -> list[ChipLine]:
        return [
            ChipLine(n, f"GPIO{n}", "other" if n in self.busy else "", n in self.busy, "in", False) for n in range(28)
        ]

    def request(self, specs: Sequence[LineSpec]) -> None:
        if self.busy & {spec.offset for spec in specs}:
            raise DeviceBusy("a line is in use")
        _request_bytes(specs, "test")  # what the kernel would be asked can be said
        self.specs = list(specs)
        for spec in specs:
            pin = self.pin(spec.offset)
            if spec.direction == "out":
                pin.output_with_state(spec.value != spec.active_low)
                continue
            pull = {"pull-up": "up", "pull-down": "down"}.get(spec.bias, "floating")
            pin.input_with_pull(pull)
            pin.edges = "none" if spec.edges == "none" else "both"
            if spec.edges != "none":
                self.callbacks.append(lambda ticks, state, spec=spec: self.changed(spec, bool(state)))
                pin.when_changed = self.callbacks[-1]

    def changed(self, spec: LineSpec, high: bool) -> None:
        rising = high != spec.active_low
        if spec.edges in {"both", "rising" if rising else "falling"}:
            self.sequence += 1
            self.edges.put(Edge(spec.offset, rising, time.monotonic_ns(), self.sequence))

    def values(self) -> list[bool]:
        if self.gone:
            raise LinkLost("the GPIO chip is gone")
        return [bool(self.pin(spec.offset).state) != spec.active_low for spec in self.specs]

    def set(self, offset: int, active: bool) -> None:
        spec = next(spec for spec in self.specs if spec.offset == offset)
        self.pin(offset).state = active != spec.active_low

    def wait_edges(self, timeout_s: float) -> list[Edge]:
        token = current_token.get()
        assert token is not None, "a pump's waits can be cancelled"
        while True:
            token.check()
            if self.gone:
                raise LinkLost("the GPIO chip is gone")
            try:
                return [self.edges.get(timeout=0.01)]
            except queue.Empty:
                continue

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def node() -> Iterator[str]:
    """A node that the broker can open; the mock pins take the place of the chip behind it."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@contextmanager
def bench(chip: MockChip, node: str, **settings: Any) -> Iterator[DriverBench[Any]]:
    class OnChip(GpioDriver):
        lines_factory: ClassVar[Any] = chip

    with DriverBench(OnChip, manifest_in(FOLDER), node, config=settings) as made:
        yield made


SWITCH = {"line": "GPIO17", "name": "limit", "bias": "pull-up", "active_low": True, "debounce_ms": 5}
LAMP = {"line": 4, "name": "lamp", "direction": "out", "value": True, "safe_value": False}


def test_levels_are_read_by_the_lines_names(node: str) -> None:
    chip = MockChip()
    with bench(chip, node, lines=[SWITCH, "GPIO22", 5]) as b:
        assert b.driver.connect() is True
        assert b.driver.read_sensor().values == {"limit": 0.0, "GPIO22": 0.0, "GPIO5": 0.0}
        chip.pin(17).drive_low()  # a switch to ground, pulled up: pressed
        chip.pin(22).drive_high()
        reading = b.driver.read_sensor()
        assert reading.values == {"limit": 1.0, "GPIO22": 1.0, "GPIO5": 0.0}
        assert reading.units["limit"] == "1"
        assert b.driver.get_raw_value() == {"limit": True, "GPIO22": True, "GPIO5": False}
        assert chip.pin(17).pull == "up"


def test_an_edge_is_an_event_and_a_record_with_the_kernels_time(node: str) -> None:
    chip = MockChip()
    with bench(chip, node, lines=[SWITCH], interrupts=True) as b:
        b.driver.connect()
        b.driver.start_streaming()
        before = time.time()
        chip.pin(17).drive_low()
        chip.pin(17).drive_high()
        soon(lambda: sum(kind == "edge" for kind, _ in b.events) == 2)
        pressed, released = (data for kind, data in b.events if kind == "edge")
        assert (pressed["line"], pressed["offset"], pressed["edge"], pressed["active"]) == ("limit", 17, "rising", True)
        assert (released["edge"], released["active"], released["lost"]) == ("falling", False, 0)
        assert before - 1 < pressed["device_time_s"] <= released["device_time_s"] < time.time() + 1
        assert pressed["time_ns"] < released["time_ns"]
        reader = b.streams["main"]
        records = [reader.read(10) for _ in range(2)]
        assert [record and record.data for record in records] == [{"limit": 1.0}, {"limit": 0.0}]


def test_a_limit_switch_crosses_a_threshold_like_any_quantity(node: str) -> None:
    chip = MockChip()
    with bench(chip, node, lines=[SWITCH]) as b:
        b.driver.connect()
        b.driver.set_threshold(0.5)
        b.driver.enable_interrupts()
        chip.pin(17).drive_low()
        soon(lambda: any(kind == "threshold_crossed" for kind, _ in b.events))


def test_only_the_edges_that_were_asked_for_come(node: str) -> None:
    chip = MockChip()
    lines = [{**SWITCH, "edges": "rising"}, {"line": 5, "edges": "none"}]
    with bench(chip, node, lines=lines, interrupts=True) as b:
        b.driver.connect()
        for _ in range(3):
            chip.pin(17).drive_low()
            chip.pin(17).drive_high()
        soon(lambda: len(b.events) == 3)
        assert {data["edge"] for _, data in b.events} == {"rising"}


def test_edges_that_the_kernel_had_to_drop_are_told(node: str) -> None:
    chip = MockChip()
    with bench(chip, node, lines=[SWITCH], interrupts=True) as b:
        b.driver.connect()
        chip.sequence = 4
        chip.pin(17).drive_low()
        soon(lambda: len(b.events) == 1)
        assert b.events[0][1]["lost"] == 4


def test_outputs_are_switched_and_left_at_their_safe_value(node: str) -> None:
    chip = MockChip()
    with bench(chip, node, lines=[LAMP]) as b:
        b.driver.connect()
        assert chip.pin(4).state == 1
        assert b.driver.set_line("lamp", False) is True
        assert chip.pin(4).state == 0
        b.driver.set_line("4", True)
        assert b.driver.read_sensor().values == {"lamp": 1.0}
        with pytest.raises(Refused, match="no output"):
            b.driver.set_line("GPIO17", True)
        b.driver.disconnect()
        assert chip.pin(4).state == 0
        assert chip.closed == 1


def test_the_chips_lines_can_be_listed_before_any_is_chosen(node: str) -> None:
    with bench(MockChip(), node) as b:
        with pytest.raises(IllegalTransition):
            b.driver.list_lines()
        b.driver.connect()
        assert b.driver.list_lines()[17]["name"] == "GPIO17"
        with pytest.raises(ConfigurationError, match="no line was chosen"):
            b.driver.read_sensor()
        b.driver.configure_sensor({"lines": ["GPIO17"]})
        assert b.driver.read_sensor().values == {"GPIO17": 0.0}
        info = b.driver.get_sensor_info()
        assert (info.model, info.details["used"][0]["offset"]) == ("mock", 17)
        with pytest.raises(Refused) as caught:
            b.driver.set_line("GPIO17", True)
        assert "direction: out" in caught.value.remedy


@pytest.mark.parametrize(
    ("lines", "said"),
    [(["GPIO99"], "no line"), ([28], "no line"), ([1, "GPIO1"], "twice"), ([1, {"line": 2, "name": "GPIO1"}], "twice")],
)
def test_lines_that_are_not_there_or_named_twice_are_refused(node: str, lines: list[Any], said: str) -> None:
    with bench(MockChip(), node, lines=lines) as b:
        with pytest.raises(ConfigurationError, match=said):
            b.driver.connect()
        assert not b.driver.is_connected()
        assert all(link.closed for link in b.links)


def test_a_line_that_somebody_has_is_told(node: str) -> None:
    chip = MockChip()
    chip.busy = {17}
    with bench(chip, node, lines=[17]) as b, pytest.raises(DeviceBusy):
        b.driver.connect()


def test_a_name_that_several_lines_have_is_refused() -> None:
    lines = [ChipLine(n, "SW", "", False, "in", False) for n in (0, 1)]
    with pytest.raises(ConfigurationError, match="several lines"):
        spec_of("SW", lines)
    assert spec_of(1, lines).offset == 1


def test_a_chip_that_is_unplugged_is_told_and_comes_back(node: str) -> None:
    chip = MockChip()
    with bench(chip, node, lines=[SWITCH], interrupts=True) as b:
        b.driver.connect()
        b.driver.start_streaming()
        chip.gone = True
        soon(lambda: not b.driver.is_connected())
        with pytest.raises(LinkLost):
            b.driver.read_sensor()
        soon(lambda: {"interrupts_failed", "stream_failed"} <= {kind for kind, _ in b.events})
        chip.gone = False
        b.driver.connect()
        assert b.driver.read_sensor().values == {"limit": 0.0}


# -- the kernel's side ------------------------------------------------------------------------------------------------


def test_events_are_read_as_the_kernel_writes_them() -> None:
    """`struct gpio_v2_line_event`, from a socket in the place of the line's descriptor."""
    ours, kernels = socket.socketpair()
    with kernels:
        lines = GpioLines(-1)
        lines._fd = ours.detach()
        assert lines.wait_edges(0.0) == []
        kernels.sendall(struct.pack("=QIIII24x", 5_000, 1, 17, 1, 1) + struct.pack("=QIIII24x", 6_000, 2, 17, 2, 2))
        assert lines.wait_edges(5.0) == [Edge(17, True, 5_000, 1), Edge(17, False, 6_000, 2)]
        lines.close()
        lines.close()


class Kernel:
    """The GPIO part of one, as Documentation/userspace-api/gpio describes it: four lines, one taken."""

    def __init__(self) -> None:
        self.ours, self.events = socket.socketpair()
        self.levels = 0b0100
        self.mask = 0
        self.offsets: tuple[int, ...] = ()
        self.error = 0

    def __call__(self, fd: int, request: int, data: bytearray) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if request == lines_module.GET_CHIP_INFO:
            data[:] = struct.pack("=32s32sI", b"gpiochip7", b"fake", 4)
        elif request == lines_module.GET_LINE_INFO:
            (offset,) = struct.unpack_from("=I", data, 64)
            flags = 0b1001 if offset == 3 else 0b0100
            data[:72] = struct.pack("=32s32sII", f"L{offset}".encode(), b"cat" if offset == 3 else b"", offset, 0)
            data[72:80] = struct.pack("=Q", flags)
        elif request == lines_module.GET_LINE:
            (count,) = struct.unpack_from("=I", data, 560)
            self.offsets = struct.unpack_from(f"={count}I", data)
            if 3 in self.offsets:
                raise OSError(errno.EBUSY, "busy")
            data[588:592] = struct.pack("=i", os.dup(self.ours.fileno()))
        elif request == lines_module.GET_VALUES:
            _, mask = struct.unpack("=QQ", data)
            bits = sum((self.levels >> offset & 1) << n for n, offset in enumerate(self.offsets))
            data[:] = struct.pack("=QQ", bits & mask, mask)
        elif request == lines_module.SET_VALUES:
            bits, mask = struct.unpack("=QQ", data)
            for n, offset in enumerate(self.offsets):
                if mask >> n & 1:
                    self.levels = self.levels & ~(1 << offset) | (bits >> n & 1) << offset
        return 0


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.ours.close()
    made.events.close()


def test_what_the_kernel_says_of_chip_and_lines_is_read(kernel: Kernel) -> None:
    lines = GpioLines(7, ioctl=kernel)
    assert lines.chip() == ("gpiochip7", "fake", 4)
    assert lines.lines()[2] == ChipLine(2, "L2", "", False, "in", False)
    assert lines.lines()[3] == ChipLine(3, "L3", "cat", True, "out", False)


def test_lines_are_requested_read_and_set_by_the_kernel(kernel: Kernel) -> None:
    lines = GpioLines(7, ioctl=kernel)
    lines.request([LineSpec(2, "two"), LineSpec(0, "zero", direction="out")])
    assert lines.values() == [True, False]
    lines.set(0, True)
    assert kernel.levels == 0b0101
    assert lines.values() == [True, True]
    with pytest.raises(DeviceBusy) as caught:
        lines.request([LineSpec(3, "three")])
    assert "L3 by cat" in caught.value.remedy


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENODEV, LinkLost),
        (errno.EPERM, PermissionRefused),
        (errno.EINVAL, ConnectError),
        (errno.ENOTTY, ConnectError),
        (errno.ENOMEM, ConnectError),
    ],
)
def test_what_the_kernel_refuses_is_translated(kernel: Kernel, number: int, kind: type[Exception]) -> None:
    kernel.error = number
    with pytest.raises(kind) as caught:
        GpioLines(7, ioctl=kernel).chip()
    assert type(caught.value) is kind


def test_a_chip_that_goes_while_edges_are_waited_for_is_told(kernel: Kernel) -> None:
    lines = GpioLines(7, ioctl=kernel)
    lines.request([LineSpec(2, "two")])
    kernel.events.sendall(struct.pack("=QIIII24x", 5, 1, 2, 1, 1))
    kernel.events.shutdown(socket.SHUT_RDWR)
    assert len(lines.wait_edges(5.0)) == 1
    with pytest.raises(LinkLost):
        lines.wait_edges(5.0)
    lines.close()


@pytest.mark.parametrize("count", [0, 65])
def test_the_kernel_takes_64_lines_at_once(count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{count} lines"):
        _request_bytes([LineSpec(n, f"l{n}") for n in range(count)], "x")


def test_the_kernel_takes_ten_different_settings_at_once() -> None:
    with pytest.raises(ConfigurationError, match="11 different"):
        _request_bytes([LineSpec(n, f"l{n}", debounce_us=n + 1) for n in range(11)], "x")
    biases = ["as-is", "pull-up", "pull-down", "disabled"]
    asked = _request_bytes([LineSpec(n, f"l{n}", bias=bias) for n, bias in enumerate(biases)], "x")
    assert struct.unpack_from("=II", asked, 592 - 32) == (4, 0)
