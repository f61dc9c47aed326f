"""A serial port behind RFC 2217, on the broker's TCP connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from vfab.model.errors import ConfigurationError, ProtocolError, Refused, TimeoutExceeded
from vfab.protocols.rfc2217 import (
    ClientPort,
    Code,
    Control,
    Data,
    LineState,
    ModemState,
    OptionOn,
    Parity,
    Purge,
    Said,
    StopSize,
)
from vfab.sdk.link import Link
from vfab.sdk.serial_line import LineSettings

__all__ = ["RemoteLine"]

_FLOW = {"none": Control.FLOW_NONE, "rtscts": Control.FLOW_HARDWARE, "xonxoff": Control.FLOW_XON_XOFF}
_STOP = {1: StopSize.ONE, 1.5: StopSize.ONE_AND_HALF, 2: StopSize.TWO}
_TROUBLE = LineState.OVERRUN_ERROR | LineState.PARITY_ERROR | LineState.FRAMING_ERROR | LineState.BREAK_DETECTED


class RemoteLine:
    """The client's side of RFC 2217.

    Until `attended` is called, requests read their answers themselves; afterwards another thread passes what comes to
    `decode`, and requests wait for it.

    Args:
        link: the TCP connection.
        timeout_s: how long an answer may take.
        on_event: told `modem` (the lines) and `line` (what happened to the receiver), from `decode`.
    """

    def __init__(self, link: Link, timeout_s: float, on_event: Callable[[str, dict[str, Any]], None]) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._tell = on_event
        self._port = ClientPort()
        self._writing = threading.Lock()
        self._heard = threading.Condition()
        self._said: dict[Code, int | str] = {}
        self._agreed: bool | None = None
        self._early = bytearray()
        self._attended = False
        self._modem = ModemState(0)
        self._out = {"dtr": True, "rts": True}

    def begin(self) -> None:
        """Agree on the protocol. Raises ProtocolError: the server does not speak it."""
        with self._writing:
            self._port.begin()
        self._flush()
        self._until(lambda: self._agreed is not None, "did not answer the offer of RFC 2217")
        if not self._agreed:
            raise ProtocolError(
                f"{self._link.address} is a Telnet server without COM-PORT-OPTION",
                context={"address": self._link.address},
                remedy="Switch RFC 2217 on at the server (ser2net: telnet(rfc2217=true)), or use the tcp driver.",
            )

    def attended(self) -> None:
        """From now on another thread reads the link."""
        self._attended = True

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _flush(self) -> int:
        with self._writing:
            out = self._port.data_to_send()
            if out:
                self._link.write(out, timeout_s=self._timeout_s)
            return len(out)

    def write(self, data: bytes, timeout_s: float) -> int:
        """Write `data`, escaped."""
        with self._writing:
            self._port.write(data)
            out = self._port.data_to_send()
            self._link.write(out, timeout_s=timeout_s)
            return len(out)

    def decode(self, data: bytes) -> bytes:
        """The line's bytes; what the server says of its port is taken note of, and answered."""
        plain, self._early = self._early, bytearray()
        with self._writing:
            events = self._port.feed(data)
        for event in events:
            match event:
                case Data(data=piece):
                    plain += piece
                case OptionOn(option=44, theirs=False) as option:
                    self._agreed = option.on
                case Said(code=code, value=value):
                    self._hear(code, value)
                case _:
                    pass
        self._flush()
        with self._heard:
            self._heard.notify_all()
        return bytes(plain)

    def _hear(self, code: Code, value: int | str) -> None:
        if code is Code.NOTIFY_MODEMSTATE:
            self._modem = ModemState(int(value))
            self._tell("modem", self.modem_lines())
        elif code is Code.NOTIFY_LINESTATE and LineState(int(value)) & _TROUBLE:
            state = LineState(int(value)) & _TROUBLE
            self._tell("line", {flag.name.lower(): True for flag in LineState if flag in state and flag.name})
        with self._heard:
            self._said[code] = value

    # -- requests ----------------------------------------------------------------------------------------------------

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + self._timeout_s
        while not holds():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutExceeded(
                    f"{self._link.address} {what} within {self._timeout_s:g} s",
                    context={"address": self._link.address, "timeout_s": self._timeout_s},
                    remedy="Check that an RFC 2217 server listens there; raise timeout_s if it is only slow.",
                )
            if self._attended:
                with self._heard:
                    self._heard.wait(min(left, 0.05))
            else:
                self._early = bytearray(self.decode(self._link.read(timeout_s=left)))

    def _ask(self, code: Code, value: int) -> int | str:
        with self._heard:
            self._said.pop(code, None)
        with self._writing:
            self._port.request(code, value)
        self._flush()
        self._until(lambda: code in self._said, f"did not answer {code.name}")
        return self._said[code]

    def _set(self, code: Code, value: int, what: str) -> None:
        got = self._ask(code, value)
        if got != value:
            raise ConfigurationError(
                f"the port behind {self._link.address} cannot do {what}",
                context={"address": self._link.address, "asked": value, "got": got},
                remedy="Choose settings that the port's hardware has.",
            )

    def apply(self, settings: LineSettings) -> None:
        """Set the port up. Raises ConfigurationError: it took other settings."""
        if settings.rs485 != "off":
            raise ConfigurationError(
                "RFC 2217 has no words for RS-485",
                context={"field": "rs485", "value": settings.rs485},
                remedy="Set the direction control up at the server, and rs485 to off here.",
            )
        self._set(Code.SET_BAUDRATE, settings.baudrate, f"{settings.baudrate} baud")
        self._set(Code.SET_DATASIZE, settings.data_bits, f"{settings.data_bits} data bits")
        self._set(Code.SET_PARITY, Parity[settings.parity.upper()], f"parity {settings.parity}")
        self._set(Code.SET_STOPSIZE, _STOP[settings.stop_bits], f"{settings.stop_bits:g} stop bits")
        self._set(Code.SET_CONTROL, _FLOW[settings.flow], f"flow control {settings.flow}")

    # -- the other wires ---------------------------------------------------------------------------------------------

    def modem_lines(self) -> dict[str, bool]:
        """What the server told last, and what was set from here."""
        inputs = {name: bool(self._modem & ModemState[name.upper()]) for name in ("cts", "dsr", "ri", "cd")}
        return {**self._out, **inputs}

    def set_lines(self, *, dtr: bool | None, rts: bool | None) -> None:
        """Switch DTR and RTS."""
        codes = {
            "dtr": (dtr, Control.DTR_ON, Control.DTR_OFF),
            "rts": (rts, Control.RTS_ON, Control.RTS_OFF),
        }
        for name, (on, yes, no) in codes.items():
            if on is not None:
                self._set(Code.SET_CONTROL, yes if on else no, f"{name.upper()} {'on' if on else 'off'}")
                self._out[name] = on

    def send_break(self, duration_s: float) -> None:
        """Raises ConfigurationError: the port cannot."""
        self._set(Code.SET_CONTROL, Control.BREAK_ON, "a break")
        try:
            threading.Event().wait(duration_s)
        finally:
            self._set(Code.SET_CONTROL, Control.BREAK_OFF, "the end of a break")

    def purge(self, *, received: bool, to_send: bool) -> None:
        """Throw away what waits in the server."""
        if not received and not to_send:
            raise Refused("nothing to purge", remedy="Purge what was received, what is to be sent, or both.")
        which = Purge.BOTH if received and to_send else Purge.RECEIVED if received else Purge.TO_SEND
        self._ask(Code.PURGE_DATA, which)

    def details(self) -> dict[str, Any]:
        """Who the server says it is, if it did."""
        signature = self._said.get(Code.SIGNATURE)
        return {"signature": signature} if signature else {}
