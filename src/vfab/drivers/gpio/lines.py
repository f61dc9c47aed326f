"""The lines of a GPIO chip, over the broker's descriptor of `/dev/gpiochipN`: the kernel's v2 interface, by hand.

libgpiod opens the node itself and takes no descriptor (docs/adr/0165). `GpioLines` is the driver's lowest seam.

Source: Linux include/uapi/linux/gpio.h, Documentation/userspace-api/gpio/chardev.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vfab.model.errors import ConfigurationError, ConnectError, DeviceBusy, DriverError, LinkLost, PermissionRefused
from vfab.sdk.cancel import current_token

__all__ = ["ChipLine", "Edge", "GpioLines", "LineSpec", "Lines", "flags_of"]

LINES_MAX = 64
_ATTRIBUTES_MAX = 10
_CHIP_INFO = struct.Struct("=32s32sI")
_ATTRIBUTE = struct.Struct("=IIQ")
_CONFIG_ATTRIBUTE = struct.Struct("=IIQQ")
_CONFIG = struct.Struct(f"=QI20x{_CONFIG_ATTRIBUTE.size * _ATTRIBUTES_MAX}s")
_REQUEST = struct.Struct(f"={LINES_MAX * 4}s32s{_CONFIG.size}sII20xi")
_LINE_INFO = struct.Struct(f"=32s32sIIQ{_ATTRIBUTE.size * _ATTRIBUTES_MAX}s16x")
_VALUES = struct.Struct("=QQ")
_EVENT = struct.Struct("=QIIII24x")
_FLAGS, _OUTPUT_VALUES, _DEBOUNCE = 1, 2, 3
_RISING = 1

USED, ACTIVE_LOW, INPUT, OUTPUT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_BY_BIAS = {"as-is": 0, "pull-up": 1 << 8, "pull-down": 1 << 9, "disabled": 1 << 10}
_BY_EDGES = {"none": 0, "rising": 1 << 4, "falling": 1 << 5, "both": 3 << 4}
_BY_DRIVE = {"push-pull": 0, "open-drain": 1 << 6, "open-source": 1 << 7}


def _request(number: int, size: int, *, write: bool = True) -> int:
    return (3 if write else 2) << 30 | size << 16 | 0xB4 << 8 | number


GET_CHIP_INFO = _request(0x01, _CHIP_INFO.size, write=False)
GET_LINE_INFO = _request(0x05, _LINE_INFO.size)
GET_LINE = _request(0x07, _REQUEST.size)
GET_VALUES = _request(0x0E, _VALUES.size)
SET_VALUES = _request(0x0F, _VALUES.size)


@dataclass(frozen=True, slots=True)
class LineSpec:
    """How a line is to be used.

    Attributes:
        offset: which one.
        name: what readings call it.
        direction: `in` or `out`.
        active_low: active means low.
        bias: `as-is`, `pull-up`, `pull-down`, `disabled`.
        edges: of an input: `both`, `rising` (to active), `falling`, `none`.
        debounce_us: how long a level must last, µs; 0 for no debouncing.
        drive: of an output: `push-pull`, `open-drain`, `open-source`.
        value: of an output: active from the start.
        safe_value: of an output: what it is left at.
    """

    offset: int
    name: str
    direction: str = "in"
    active_low: bool = False
    bias: str = "as-is"
    edges: str = "both"
    debounce_us: int = 0
    drive: str = "push-pull"
    value: bool = False
    safe_value: bool = False


@dataclass(frozen=True, slots=True)
class ChipLine:
    """What the chip says of a line: its name there ("" for none), who uses it, and how."""

    offset: int
    name: str
    consumer: str
    used: bool
    direction: str
    active_low: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """A line became active (`rising`) or not.

    Attributes:
        time_ns: when, by the kernel's monotonic clock.
        sequence: counts the events of all requested lines from 1; a gap is a loss.
    """

    offset: int
    rising: bool
    time_ns: int
    sequence: int


class Lines(Protocol):
    """What the driver needs of a chip."""

    def chip(self) -> tuple[str, str, int]:
        """Name, label and number of lines."""

    def lines(self) -> list[ChipLine]:
        """Every line."""

    def request(self, specs: Sequence[LineSpec]) -> None:
        """Take lines for oneself."""

    def values(self) -> list[bool]:
        """Which of the requested lines are active, in their order, all at one moment."""

    def set(self, offset: int, active: bool) -> None:
        """Switch an output."""

    def wait_edges(self, timeout_s: float) -> list[Edge]:
        """Edges that have come; waits for the first. Nothing: none came in time."""

    def close(self) -> None:
        """Give the lines back."""


def flags_of(spec: LineSpec) -> int:
    """The kernel's flags for a line."""
    flags = (ACTIVE_LOW if spec.active_low else 0) | _BY_BIAS[spec.bias]
    if spec.direction == "out":
        return flags | OUTPUT | _BY_DRIVE[spec.drive]
    return flags | INPUT | _BY_EDGES[spec.edges]


class GpioLines:
    """The lines of the chip whose node is open as `fd`; that descriptor stays its owner's.

    Every method raises LinkLost when the chip is gone (unplugged).
    """

    def __init__(self, fd: int, consumer: str = "vfab", *, ioctl: Callable[..., object] = fcntl.ioctl) -> None:
        self._chip_fd = fd
        self._consumer = consumer
        self._ioctl = ioctl
        self._fd = -1
        self._offsets: list[int] = []

    def chip(self) -> tuple[str, str, int]:
        """Name, label and number of lines. Raises ConnectError: the node is no GPIO chip."""
        name, label, count = _CHIP_INFO.unpack(self._ask(self._chip_fd, GET_CHIP_INFO, bytes(_CHIP_INFO.size)))
        return _text(name), _text(label), count

    def lines(self) -> list[ChipLine]:
        """Every line."""
        found = []
        for number in range(self.chip()[2]):
            asked = _LINE_INFO.pack(b"", b"", number, 0, 0, b"")
            name, consumer, offset, _, flags, _ = _LINE_INFO.unpack(self._ask(self._chip_fd, GET_LINE_INFO, asked))
            direction = "out" if flags & OUTPUT else "in"
            used, low = bool(flags & USED), bool(flags & ACTIVE_LOW)
            found.append(ChipLine(offset, _text(name), _text(consumer), used, direction, low))
        return found

    def request(self, specs: Sequence[LineSpec]) -> None:
        """Take lines for oneself.

        Raises DeviceBusy: somebody has one of them. ConfigurationError: too many, or too many different settings.
        ConnectError: the chip cannot do what is asked.
        """
        self.close()
        asked = _request_bytes(specs, self._consumer)
        try:
            answer = self._ask(self._chip_fd, GET_LINE, asked)
        except DeviceBusy:
            busy = [
                f"{line.name or line.offset} by {line.consumer or 'the kernel'}" for line in self.lines() if line.used
            ]
            raise DeviceBusy(
                "a line is in use",
                context={"used": busy},
                remedy=f"Choose other lines, or end who has them. In use: {', '.join(busy)}.",
            ) from None
        self._fd = _REQUEST.unpack(answer)[5]
        os.set_inheritable(self._fd, False)
        self._offsets = [spec.offset for spec in specs]

    def values(self) -> list[bool]:
        """Which of the requested lines are active, in their order, all at one moment."""
        mask = (1 << len(self._offsets)) - 1
        bits, _ = _VALUES.unpack(self._ask(self._fd, GET_VALUES, _VALUES.pack(0, mask)))
        return [bool(bits >> number & 1) for number in range(len(self._offsets))]

    def set(self, offset: int, active: bool) -> None:
        """Switch an output."""
        bit = 1 << self._offsets.index(offset)
        self._ask(self._fd, SET_VALUES, _VALUES.pack(bit if active else 0, bit))

    def wait_edges(self, timeout_s: float) -> list[Edge]:
        """Edges that have come; waits for the first. Nothing: none came in time, or the caller was cancelled."""
        token = current_token.get()
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if token is not None:
            poller.register(token.fileno(), select.POLLIN)
        ready = dict(poller.poll(max(0, int(timeout_s * 1000))))
        if token is not None:
            token.check()
        state = ready.get(self._fd, 0)
        if not state:
            return []
        if state & (select.POLLHUP | select.POLLERR | select.POLLNVAL) and not state & select.POLLIN:
            raise LinkLost("the GPIO chip is gone")
        try:
            data = os.read(self._fd, _EVENT.size * 16)
        except OSError as error:
            raise _problem(error) from error
        if not data:
            raise LinkLost("the GPIO chip is gone")
        return [
            Edge(offset, kind == _RISING, time_ns, number)
            for time_ns, kind, offset, number, _ in _EVENT.iter_unpack(data[: len(data) // _EVENT.size * _EVENT.size])
        ]

    def close(self) -> None:
        """Give the lines back; twice is fine."""
        fd, self._fd, self._offsets = self._fd, -1, []
        if fd >= 0:
            os.close(fd)

    def _ask(self, fd: int, request: int, data: bytes) -> bytes:
        buffer = bytearray(data)
        try:
            self._ioctl(fd, request, buffer)
        except OSError as error:
            raise _problem(error) from error
        return bytes(buffer)


def _request_bytes(specs: Sequence[LineSpec], consumer: str) -> bytes:
    """`struct gpio_v2_line_request` for `specs`: the first line's flags for all, differences as attributes."""
    if not 0 < len(specs) <= LINES_MAX:
        raise ConfigurationError(
            f"{len(specs)} lines cannot be used at once",
            context={"field": "lines", "most": LINES_MAX},
            remedy=f"Name 1 to {LINES_MAX} lines.",
        )
    masks: dict[tuple[int, int], int] = {}
    base = flags_of(specs[0])
    outputs = values = 0
    for number, spec in enumerate(specs):
        bit = 1 << number
        if flags_of(spec) != base:
            masks[_FLAGS, flags_of(spec)] = masks.get((_FLAGS, flags_of(spec)), 0) | bit
        if spec.direction == "out":
            outputs, values = outputs | bit, values | (bit if spec.value else 0)
        elif spec.debounce_us:
            masks[_DEBOUNCE, spec.debounce_us] = masks.get((_DEBOUNCE, spec.debounce_us), 0) | bit
    if outputs:
        masks[_OUTPUT_VALUES, values] = outputs
    if len(masks) > _ATTRIBUTES_MAX:
        raise ConfigurationError(
            f"the lines have {len(masks)} different settings; the kernel takes {_ATTRIBUTES_MAX} at once",
            context={"field": "lines"},
            remedy="Give more lines the same bias, edges and debounce time.",
        )
    attributes = b"".join(_CONFIG_ATTRIBUTE.pack(kind, 0, value, mask) for (kind, value), mask in masks.items())
    offsets = struct.pack(f"={len(specs)}I", *(spec.offset for spec in specs))
    config = _CONFIG.pack(base, len(masks), attributes)
    return _REQUEST.pack(offsets, consumer.encode()[:31], config, len(specs), 0, 0)


def _text(padded: bytes) -> str:
    return padded.split(b"\0", 1)[0].decode("utf-8", "replace")


def _problem(error: OSError) -> DriverError:
    context = {"errno": error.errno}
    match error.errno:
        case errno.ENODEV | errno.EBADF:
            return LinkLost("the GPIO chip is gone", context=context, original_error=error)
        case errno.EBUSY:
            return DeviceBusy("a line is in use", context=context, original_error=error)
        case errno.EPERM | errno.EACCES:
            return PermissionRefused(
                "the kernel does not allow this on this line",
                context=context,
                original_error=error,
                remedy="An input cannot be set; some lines belong to the firmware.",
            )
        case errno.EINVAL | errno.ENXIO | errno.ENOTSUP:
            return ConnectError(
                f"the chip cannot do that: {error.strerror}",
                context=context,
                original_error=error,
                remedy="Does the line exist? Chips without interrupts want edges: none; those on USB cannot debounce.",
                retryable=False,
            )
        case errno.ENOTTY:
            return ConnectError(
                "the node is no GPIO chip, or its kernel is older than 5.10",
                context=context,
                original_error=error,
                remedy="GPIO chips are /dev/gpiochip0 and so on; `vfab device scan` lists them.",
                retryable=False,
            )
        case _:
            return ConnectError(f"the GPIO chip: {error.strerror or error}", context=context, original_error=error)
