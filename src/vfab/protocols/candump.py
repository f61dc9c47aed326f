"""CAN frames as can-utils write them, and as Linux hands them over.

Text: `123#DEADBEEF`, `18DAF110#0201` (eight digits: an extended identifier), `123#R4` (a remote frame: asks for four
bytes), `123##1DEADBEEF` (CAN FD; the digit after `##` has bit 0 for the bit-rate switch, bit 1 for the error state
indicator), and lines of `candump -L`: `(1436509052.249713) vcan0 123#DEADBEEF`. Error frames have bit 29 of the
identifier set (`20000004#000C000000000000`). Binary: `struct can_frame` and `struct canfd_frame` of linux/can.h.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from vfab.model.errors import ConfigurationError, ProtocolError

__all__ = ["FD_SIZES", "CanFrame", "ErrorClass", "parse_filter", "parse_frame", "parse_log_line", "unpack"]

FD_SIZES: Final = (*range(9), 12, 16, 20, 24, 32, 48, 64)
"""How many bytes a CAN FD frame can have."""
_EFF, _RTR, _ERR = 1 << 31, 1 << 30, 1 << 29
_BRS, _ESI, _FDF = 1, 2, 4
_HEAD: Final = struct.Struct("=IBBBB")
_CLASSIC_SIZE, _FD_SIZE = 16, 72
_FRAME = re.compile(
    r"(?P<id>[0-9A-F]{3}|[0-9A-F]{8})#(?:(?P<remote>R(?P<length>[0-8])?)|#(?P<flags>[0-9A-F])(?P<fd>(?:[0-9A-F]{2})*)"
    r"|(?P<data>(?:[0-9A-F]{2}){0,8}))",
    re.IGNORECASE,
)
_LINE = re.compile(r"\((?P<time>\d+(?:\.\d+)?)\)\s+(?P<channel>\S+)\s+(?P<frame>\S+)(?:\s+(?P<way>[RT]))?")
_FILTER = re.compile(r"(?P<id>[0-9A-F]{1,8})(?P<how>[:~])(?P<mask>[0-9A-F]{1,8})", re.IGNORECASE)


class ErrorClass(IntFlag):
    """What an error frame is about (linux/can/error.h)."""

    TX_TIMEOUT = 0x001
    LOST_ARBITRATION = 0x002
    CONTROLLER = 0x004
    PROTOCOL = 0x008
    TRANSCEIVER = 0x010
    NO_ACK = 0x020
    BUS_OFF = 0x040
    BUS_ERROR = 0x080
    RESTARTED = 0x100
    COUNTERS = 0x200


@dataclass(frozen=True, slots=True)
class CanFrame:
    """One frame.

    Attributes:
        id: 11 bits, or 29 where it is extended; of an error frame its `ErrorClass`.
        data: 0 to 8 bytes, with CAN FD up to 64.
        extended, remote, error, fd: which kind of frame it is.
        bitrate_switch, error_state: flags of CAN FD.
        length: how many bytes a remote frame asks for; otherwise that of `data`.
    """

    id: int
    data: bytes = b""
    extended: bool = False
    remote: bool = False
    error: bool = False
    fd: bool = False
    bitrate_switch: bool = False
    error_state: bool = False
    length: int = -1

    def __post_init__(self) -> None:
        if self.length < 0:
            object.__setattr__(self, "length", len(self.data))

    def problem(self) -> str:
        """What makes it no frame that can be sent; "" when nothing does."""
        if not 0 <= self.id < (1 << 29 if self.extended or self.error else 1 << 11):
            return f"the identifier {self.id:X} does not fit {29 if self.extended else 11} bits"
        if self.remote and (self.fd or self.data):
            return "a remote frame has no data, and CAN FD has no remote frames"
        if self.fd and len(self.data) not in FD_SIZES:
            return f"a CAN FD frame cannot have {len(self.data)} bytes, only {', '.join(map(str, FD_SIZES))}"
        if not self.fd and (len(self.data) > 8 or not 0 <= self.length <= 8):
            return f"a frame cannot have {max(len(self.data), self.length)} bytes; CAN FD can (write ## after the id)"
        return ""

    def __str__(self) -> str:
        shown = f"{self.id | (_ERR if self.error else 0):08X}" if self.extended or self.error else f"{self.id:03X}"
        if self.remote:
            return f"{shown}#R{self.length or ''}"
        if self.fd:
            return f"{shown}##{self.bitrate_switch | self.error_state << 1:X}{self.data.hex().upper()}"
        return f"{shown}#{self.data.hex().upper()}"

    def log_line(self, time_s: float, channel: str) -> str:
        """As `candump -L` writes it; `canplayer` and python-can's CanutilsLogReader read it."""
        return f"({time_s:017.6f}) {channel} {self}"

    def pack(self) -> bytes:
        """As a raw CAN socket takes it: 16 bytes, CAN FD 72."""
        ident = self.id | _EFF * self.extended | _RTR * self.remote | _ERR * self.error
        flags = (_FDF | _BRS * self.bitrate_switch | _ESI * self.error_state) if self.fd else 0
        size = _FD_SIZE if self.fd else _CLASSIC_SIZE
        return (_HEAD.pack(ident, self.length, flags, 0, 0) + self.data).ljust(size, b"\0")


def unpack(data: bytes) -> CanFrame:
    """The frame that a raw CAN socket gave. Raises ProtocolError: it is none."""
    if len(data) not in {_CLASSIC_SIZE, _FD_SIZE}:
        raise ProtocolError(f"{len(data)} bytes are no CAN frame", context={"size_bytes": len(data)})
    ident, length, flags, _, _ = _HEAD.unpack_from(data)
    fd = len(data) == _FD_SIZE
    extended, remote, error = bool(ident & _EFF), bool(ident & _RTR), bool(ident & _ERR)
    if length > len(data) - _HEAD.size:
        raise ProtocolError(f"a CAN frame says that it has {length} bytes", context={"frame": data.hex()})
    return CanFrame(
        ident & (0x1FFFFFFF if extended or error else 0x7FF),
        b"" if remote else data[8 : 8 + length],
        extended=extended,
        remote=remote,
        error=error,
        fd=fd,
        bitrate_switch=fd and bool(flags & _BRS),
        error_state=fd and bool(flags & _ESI),
        length=length,
    )


def parse_frame(text: str) -> CanFrame:
    """The frame that `text` writes, dots between bytes allowed. Raises ConfigurationError: it writes none."""
    match = _FRAME.fullmatch(text.strip().replace(".", ""))
    if match is None:
        raise _bad(text, "that is no CAN frame")
    ident = int(match["id"], 16)
    wide = len(match["id"]) == 8
    error = wide and bool(ident & _ERR)
    ident &= ~_ERR
    flags = int(match["flags"] or "0", 16)
    fd = match["flags"] is not None
    frame = CanFrame(
        ident,
        bytes.fromhex(match["fd"] if fd else match["data"] or ""),
        extended=wide and not error,
        remote=match["remote"] is not None,
        error=error,
        fd=fd,
        bitrate_switch=bool(flags & 1),
        error_state=bool(flags & 2),
        length=int(match["length"] or 0) if match["remote"] else -1,
    )
    problem = frame.problem()
    if problem:
        raise _bad(text, problem)
    return frame


def _bad(text: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r}: {problem}",
        context={"field": "frame", "value": text},
        remedy="Write it as 123#DEADBEEF, 18DAF110#0201 (extended), 123#R4 (remote) or 123##1DEADBEEF (CAN FD).",
    )


def parse_log_line(line: str) -> tuple[float, str, CanFrame]:
    """(seconds, channel, frame) of a line of `candump -L`. Raises ConfigurationError: it is none."""
    match = _LINE.fullmatch(line.strip())
    if match is None:
        raise _bad(line, "that is no line of candump -L")
    return float(match["time"]), match["channel"], parse_frame(match["frame"])


def parse_filter(text: str) -> tuple[int, int, bool, bool]:
    """(identifier, mask, extended, inverted) of a filter as candump writes it: `123:7FF` passes what matches.

    `123~7FF` passes what does not match. Eight digits in the identifier mean extended frames.

    Raises ConfigurationError: it is no filter.
    """
    match = _FILTER.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(
            f"{text!r} is no CAN filter",
            context={"field": "filters", "value": text},
            remedy="Write identifier:mask in hex, such as 123:7FF; identifier~mask passes all others.",
        )
    extended = len(match["id"]) == 8
    limit = 0x1FFFFFFF if extended else 0x7FF
    return int(match["id"], 16) & limit, int(match["mask"], 16) & limit, extended, match["how"] == "~"
