"""A serial port of this machine: termios(3), ioctl_tty(2) and, for RS-485, the kernel's serial-rs485 document."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from vfab.model.errors import ConfigurationError, ConnectError, LinkLost, Refused
from vfab.sdk.link import Link

__all__ = ["BREAK_MAX_S", "Line", "LineSettings", "LocalLine"]

BREAK_MAX_S: Final = 10.0
_PTY_MAJORS: Final = range(136, 144)
_CMSPAR: Final = 0o10000000000  # mark and space parity: Linux has it, Python's termios does not name it
_CRTSCTS: Final = getattr(termios, "CRTSCTS", 0)
_TIOCSBRK, _TIOCCBRK = 0x5427, 0x5428  # Python's termios does not name them
_TIOCGRS485, _TIOCSRS485, _TIOCGICOUNT = 0x542E, 0x542F, 0x545D
_RS485 = struct.Struct("=III20x")
_RS485_ENABLED, _RS485_RTS_ON_SEND, _RS485_RTS_AFTER_SEND, _RS485_RX_DURING_TX = 1, 2, 4, 16
_TCGETS2, _TCSETS2, _BOTHER, _CBAUD = 0x802C542A, 0x402C542B, 0o010000, 0o010017
_TERMIOS2 = struct.Struct("=IIIIB19sII")
_COUNTERS = struct.Struct("=20i")
_BITS = {5: termios.CS5, 6: termios.CS6, 7: termios.CS7, 8: termios.CS8}
_PARITY = {
    "none": 0,
    "even": termios.PARENB,
    "odd": termios.PARENB | termios.PARODD,
    "space": termios.PARENB | _CMSPAR,
    "mark": termios.PARENB | termios.PARODD | _CMSPAR,
}
_LINES = {
    "dtr": termios.TIOCM_DTR,
    "rts": termios.TIOCM_RTS,
    "cts": termios.TIOCM_CTS,
    "dsr": termios.TIOCM_DSR,
    "ri": termios.TIOCM_RNG,
    "cd": termios.TIOCM_CAR,
}


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How bytes look on the line.

    Attributes:
        baudrate: bits per second.
        data_bits: 5 to 8.
        parity: none, even, odd, mark or space.
        stop_bits: 1, 1.5 or 2.
        flow: none, rtscts or xonxoff.
        rs485: off, kernel (the port's driver switches the direction) or rts (this driver does, with RTS).
        rs485_before_ms, rs485_after_ms: how long RTS is on before the first and after the last bit.
        rs485_hears_itself: what is sent is also received.
    """

    baudrate: int = 9600
    data_bits: int = 8
    parity: str = "none"
    stop_bits: float = 1
    flow: str = "none"
    rs485: str = "off"
    rs485_before_ms: int = 0
    rs485_after_ms: int = 0
    rs485_hears_itself: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> LineSettings:
        """Those of a driver's settings. Raises ConfigurationError: two of them exclude each other."""
        made = cls(**{name: config[name] for name in cls.__slots__ if name in config})
        if made.rs485 != "off" and made.flow == "rtscts":
            raise ConfigurationError(
                "RS-485 uses RTS for the direction: it cannot do RTS/CTS flow control, too",
                context={"field": "flow", "value": made.flow},
                remedy="Set flow to none, or rs485 to off.",
            )
        if made.stop_bits == 1.5 and made.data_bits != 5:
            raise ConfigurationError(
                f"1.5 stop bits exist only with 5 data bits, not with {made.data_bits}",
                context={"field": "stop_bits", "value": 1.5},
                remedy="Set stop_bits to 1 or 2.",
            )
        return made

    @property
    def shorthand(self) -> str:
        """As people write it: `9600 8N1`."""
        return f"{self.baudrate} {self.data_bits}{self.parity[0].upper()}{self.stop_bits:g}"


class Line(Protocol):
    """A serial port, wherever it is."""

    def apply(self, settings: LineSettings) -> None:
        """Set it up."""

    def write(self, data: bytes, timeout_s: float) -> int:
        """Write all of `data`; how many bytes went over the link."""

    def decode(self, data: bytes) -> bytes:
        """The line's bytes in what came over the link."""

    def modem_lines(self) -> dict[str, bool]:
        """Which of dtr, rts, cts, dsr, ri, cd are on, as far as it is known."""

    def set_lines(self, *, dtr: bool | None, rts: bool | None) -> None:
        """Switch lines on or off; None leaves one as it is."""

    def send_break(self, duration_s: float) -> None:
        """Hold the line in its break state for so long."""

    def purge(self, *, received: bool, to_send: bool) -> None:
        """Throw away what was received and not read, or written and not sent."""

    def details(self) -> dict[str, Any]:
        """What else is known of it."""


class LocalLine:
    """A port of this machine, on the broker's descriptor."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._fd = link.fileno()
        self._is_pty = os.isatty(self._fd) and os.major(os.fstat(self._fd).st_rdev) in _PTY_MAJORS
        self._settings = LineSettings()

    # -- settings ----------------------------------------------------------------------------------------------------

    def apply(self, settings: LineSettings) -> None:
        """Set the port up. Raises ConfigurationError: it cannot do it; ConnectError: it is no serial port."""
        if not os.isatty(self._fd):
            raise ConnectError(
                f"{self._link.address} is no serial port",
                context={"address": self._link.address},
                remedy="For a serial port behind a network connection write rfc2217://host:port.",
            )
        mode = termios.tcgetattr(self._fd)
        iflag = termios.IXON | termios.IXOFF if settings.flow == "xonxoff" else 0
        cflag = termios.CLOCAL | termios.CREAD | _BITS[settings.data_bits] | _PARITY[settings.parity]
        cflag |= termios.CSTOPB if settings.stop_bits > 1 else 0
        cflag |= _CRTSCTS if settings.flow == "rtscts" else 0
        iflag |= termios.INPCK if settings.parity != "none" else termios.IGNPAR
        speed = getattr(termios, f"B{settings.baudrate}", None)
        rate = termios.B38400 if speed is None else speed
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, [iflag, 0, cflag, 0, rate, rate, mode[6]])
            if speed is None:
                self._any_rate(settings.baudrate)
        except (termios.error, OSError) as error:
            raise self._cannot(settings, str(error.args[-1])) from error
        self._check(settings, cflag)
        self._direction(settings)
        self._settings = settings

    def _any_rate(self, baudrate: int) -> None:
        """A rate that has no name: Linux takes any number (TCSETS2 with BOTHER)."""
        held = bytearray(_TERMIOS2.size)
        fcntl.ioctl(self._fd, _TCGETS2, held)
        iflag, oflag, cflag, lflag, line, chars, _, _ = _TERMIOS2.unpack(held)
        cflag = cflag & ~_CBAUD | _BOTHER
        fcntl.ioctl(self._fd, _TCSETS2, _TERMIOS2.pack(iflag, oflag, cflag, lflag, line, chars, baudrate, baudrate))

    def _check(self, settings: LineSettings, cflag: int) -> None:
        """A driver of the kernel may pass over what its hardware lacks without a word."""
        now = termios.tcgetattr(self._fd)[2]
        asked = termios.CSIZE | termios.PARENB | termios.PARODD | termios.CSTOPB | _CRTSCTS
        if not self._is_pty and (now ^ cflag) & asked:
            raise self._cannot(settings, "it took other settings than those")

    def _cannot(self, settings: LineSettings, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._link.address} cannot do {settings.shorthand} with flow control {settings.flow}: {why}",
            context={"address": self._link.address, "settings": settings.shorthand},
            remedy="Choose settings that this port's hardware has.",
        )

    def _direction(self, settings: LineSettings) -> None:
        flags = 0
        if settings.rs485 == "kernel":
            flags = _RS485_ENABLED | _RS485_RTS_ON_SEND
            flags |= _RS485_RX_DURING_TX if settings.rs485_hears_itself else 0
        packed = _RS485.pack(flags, settings.rs485_before_ms, settings.rs485_after_ms)
        held = bytearray(_RS485.size)
        try:
            fcntl.ioctl(self._fd, _TIOCGRS485, held)
            if flags or _RS485.unpack(held)[0] & _RS485_ENABLED:
                fcntl.ioctl(self._fd, _TIOCSRS485, packed)
        except OSError as error:
            if settings.rs485 == "kernel":
                raise ConfigurationError(
                    f"the driver of {self._link.address} does not switch the direction of RS-485: {error.strerror}",
                    context={"address": self._link.address, "field": "rs485", "value": "kernel"},
                    remedy="Set rs485 to rts (this driver switches with RTS), or to off for an adapter that switches "
                    "by itself.",
                ) from error
        if settings.rs485 == "rts":
            self.set_lines(dtr=None, rts=False)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def decode(self, data: bytes) -> bytes:
        """They are the line's."""
        return data

    def write(self, data: bytes, timeout_s: float) -> int:
        """Write `data`; with rs485 "rts" RTS is on meanwhile."""
        if self._settings.rs485 != "rts":
            self._link.write(data, timeout_s=timeout_s)
            return len(data)
        self.set_lines(dtr=None, rts=True)
        try:
            threading.Event().wait(self._settings.rs485_before_ms / 1000)
            self._link.write(data, timeout_s=timeout_s)
            termios.tcdrain(self._fd)
            threading.Event().wait(self._settings.rs485_after_ms / 1000)
        finally:
            self.set_lines(dtr=None, rts=False)
        return len(data)

    def purge(self, *, received: bool, to_send: bool) -> None:
        """Throw away what waits in the kernel."""
        for wanted, queue in ((received, termios.TCIFLUSH), (to_send, termios.TCOFLUSH)):
            if wanted:
                termios.tcflush(self._fd, queue)

    # -- the other wires ---------------------------------------------------------------------------------------------

    def modem_lines(self) -> dict[str, bool]:
        """All six. Raises Refused: the port has none."""
        bits = struct.unpack("=i", self._ioctl(termios.TIOCMGET, bytes(4)))[0]
        return {name: bool(bits & bit) for name, bit in _LINES.items()}

    def set_lines(self, *, dtr: bool | None, rts: bool | None) -> None:
        """Switch DTR and RTS. Raises Refused: the port has none."""
        for name, on in (("dtr", dtr), ("rts", rts)):
            if on is not None:
                request = termios.TIOCMBIS if on else termios.TIOCMBIC
                self._ioctl(request, struct.pack("=i", _LINES[name]))

    def send_break(self, duration_s: float) -> None:
        """Raises Refused: the port cannot."""
        self._ioctl(_TIOCSBRK, None)
        try:
            threading.Event().wait(duration_s)
        finally:
            self._ioctl(_TIOCCBRK, None)

    def _ioctl(self, request: int, argument: bytes | None) -> bytes:
        try:
            if argument is None:
                fcntl.ioctl(self._fd, request)
                return b""
            return fcntl.ioctl(self._fd, request, argument)
        except OSError as error:
            if error.errno in {errno.ENOTTY, errno.EINVAL}:
                raise Refused(
                    f"{self._link.address} has no modem lines",
                    context={"address": self._link.address},
                    remedy="Pseudo-terminals and some adapters have data wires only.",
                ) from error
            raise LinkLost(
                f"the port {self._link.address} is gone: {error.strerror}", context={"address": self._link.address}
            ) from error

    def details(self) -> dict[str, Any]:
        """The speed that the port has; how often it saw errors and breaks, where the kernel counts them."""
        found: dict[str, Any] = {}
        held = bytearray(_TERMIOS2.size)
        with suppress(OSError):
            fcntl.ioctl(self._fd, _TCGETS2, held)
            found["port_baudrate"] = _TERMIOS2.unpack(held)[-1]
        held = bytearray(_COUNTERS.size)
        try:
            fcntl.ioctl(self._fd, _TIOCGICOUNT, held)
        except OSError:
            return found
        counts = _COUNTERS.unpack(held)
        return found | {
            "framing_errors": counts[6],
            "overruns": counts[7],
            "parity_errors": counts[8],
            "breaks": counts[9],
        }
