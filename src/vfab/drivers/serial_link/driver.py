"""The serial driver: a line here, or behind RFC 2217, with messages as its settings frame them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from vfab.model.errors import ConfigurationError, LinkLost, Refused
from vfab.sdk.driver import Environment, command
from vfab.sdk.link import Link
from vfab.sdk.link_driver import LinkDriver
from vfab.sdk.serial_line import BREAK_MAX_S, Line, LineSettings, LocalLine

from .remote import RemoteLine

__all__ = ["SerialLinkDriver"]


class SerialLinkDriver(LinkDriver):
    """Speaks over a serial line.

    Events besides a link's own: `modem` (dtr, rts, cts, dsr, ri, cd) and `line` (break_detected, parity_error, …) from
    an RFC 2217 server.
    """

    kind: ClassVar[str] = "serial"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._line: Line | None = None

    @property
    def line(self) -> Line:
        """The open line. Raises LinkLost: there is none."""
        if self._line is None:
            raise LinkLost(f"there is no connection to {self.address}", context={"address": self.address})
        return self._line

    # -- the channel -------------------------------------------------------------------------------------------------

    def open_channel(self) -> None:
        """Open the link anew: an RFC 2217 conversation cannot be taken over in its middle."""
        if self.address.startswith("rfc2217://"):
            self.environment.ports.close_link(self.address)
        super().open_channel()

    def prepare_link(self, link: Link) -> None:
        """Set the line up as the settings say."""
        settings = LineSettings.of(self.config)
        if link.address.startswith("rfc2217://"):
            remote = RemoteLine(link, self.timeout_s, lambda kind, data: self.emit(kind, **data))
            remote.begin()
            self._set_up(remote, settings)
            remote.attended()
        else:
            self._set_up(LocalLine(link), settings)

    def _set_up(self, line: Line, settings: LineSettings) -> None:
        line.apply(settings)
        dtr, rts = self.config["dtr"], self.config["rts"]
        if dtr is not None or rts is not None:
            line.set_lines(dtr=dtr, rts=rts)
        self._line = line

    def close_channel(self) -> None:
        """Close the link."""
        self._line = None
        super().close_channel()

    def decode(self, data: bytes) -> bytes:
        """The line's bytes."""
        return self.line.decode(data)

    def send_message(self, data: bytes) -> None:
        """Frame `data` and write it to the line."""
        self.statistics.bytes_out += self.line.write(self._framer.encode(data), self.timeout_s)

    def channel_details(self) -> dict[str, Any]:
        """How the line is set up."""
        details: dict[str, Any] = {"line": LineSettings.of(self.config).shorthand, "flow": self.config["flow"]}
        details |= {"rs485": self.config["rs485"], "framing": self.config["framing"]}
        return details | (self._line.details() if self._line is not None else {})

    def status_details(self) -> dict[str, Any]:
        """The modem lines, and what the hardware counted."""
        if self._line is None:
            return {}
        try:
            return {"modem_lines": self._line.modem_lines(), **self._line.details()}
        except (Refused, LinkLost):
            return self._line.details()

    # -- what people do with a line ----------------------------------------------------------------------------------

    @command
    def set_baudrate(self, rate: int) -> bool:
        """Set the speed, bits per second, until the driver is started again.

        Raises ConfigurationError: the port cannot do it; the old speed stays.
        """
        if not 0 < rate <= 4_000_000_000:
            raise ConfigurationError(
                f"{rate} baud cannot be",
                context={"field": "rate", "value": rate},
                remedy="Write bits per second, such as 9600 or 115200.",
            )
        self.line.apply(replace(LineSettings.of(self.config), baudrate=rate))
        self.config["baudrate"] = rate
        return True

    @command
    def modem_lines(self) -> dict[str, bool]:
        """Which of dtr, rts (ours), cts, dsr, ri, cd (theirs) are on. Raises Refused: the port has none."""
        return self.line.modem_lines()

    @command
    def set_lines(self, dtr: bool | None = None, rts: bool | None = None) -> dict[str, bool]:
        """Switch DTR and RTS on or off; what is not given stays. Returns all lines afterwards."""
        self.line.set_lines(dtr=dtr, rts=rts)
        return self.line.modem_lines()

    @command
    def send_break(self, duration_s: float = 0.25) -> None:
        """Hold the line in its break state for `duration_s` seconds, at most 10."""
        if not 0 < duration_s <= BREAK_MAX_S:
            raise ConfigurationError(
                f"a break of {duration_s:g} s cannot be",
                context={"field": "duration_s", "value": duration_s},
                remedy=f"Write seconds over 0, at most {BREAK_MAX_S:g}.",
            )
        self.line.send_break(duration_s)

    @command
    def purge(self, which: str = "both") -> None:
        """Throw away what waits in the port: `received`, `to-send` or `both`."""
        self.line.purge(received=which != "to-send", to_send=which != "received")
        if which != "to-send":
            self._mailbox.clear()
