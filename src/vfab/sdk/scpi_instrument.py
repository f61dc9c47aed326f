"""ScpiInstrument: an `Instrument` that speaks SCPI, on whatever carries it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from vfab.model.errors import DriverError, LinkLost
from vfab.protocols.scpi import Identity, as_address, is_resource, resource_of
from vfab.sdk.driver import Environment, command
from vfab.sdk.measuring import Instrument
from vfab.sdk.scpi_link import ScpiLink, unbothered
from vfab.sdk.scpi_ports import LinkPort, MessagePort, UsbtmcPort

__all__ = ["SAFE_S", "ScpiInstrument"]

SAFE_S = 1.0
"""How long an instrument may be silent that is made safe: a driver that goes on with a cancelled call is soon ended."""

_PY = "@py"


class ScpiInstrument(Instrument):
    """Base of drivers for SCPI instruments: the link, who it is, its error queue after every command.

    Settings that it reads, if the manifest has them: `timeout_s` (2), `baudrate` (9600), `visa_library` (`@py`),
    `write_termination` and `read_termination` (line feeds).

    The device's address decides what carries the messages: `tcp://host:5025`, a serial port, `/dev/usbtmcN`, or a VISA
    resource, with `visa://` in front or not. Sockets and serial ports among those are opened by vfab's broker, too.
    """

    identity_query = "*IDN?"
    error_query = ":SYST:ERR?"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._link: ScpiLink | None = None
        self._closing = threading.Lock()

    # -- what an author overrides ---------------------------------------------------------------------------------

    def greet(self, link: ScpiLink) -> None:
        """What must be said before anything is asked. Nothing of it may need an answer."""

    def check_identity(self, identity: Identity) -> None:
        """Raise ProtocolError or HardwareError when this is not the right instrument."""

    def set_up(self, link: ScpiLink) -> None:
        """Bring the instrument from whatever state to: idle, outputs off, ready to be asked."""

    # -- the life -----------------------------------------------------------------------------------------------------

    def connect(self) -> bool:
        """Open the link, find out who answers, empty its error queue, set it up.

        Raises ProtocolError: something else answers. TimeoutExceeded: nothing does. ConnectError and its kind,
        DependencyError: the link cannot be opened. Nothing is left open then.
        """
        self._hang_up()
        link = ScpiLink(
            self.open_port(),
            timeout_s=float(self.config.get("timeout_s", 2.0)),
            identity_query=self.identity_query,
            error_query=self.error_query,
        )
        try:
            link.port.clear()
            self.greet(link)
            self.check_identity(link.identify())
            stale = link.errors()
            if stale:
                self.log.info("errors from before: %s", " · ".join(map(str, stale)))
            self.set_up(link)
        except BaseException:
            self._close(link)
            raise
        self._link = link
        self.log.info("%s %s at %s", link.identity.manufacturer, link.identity.model, link.address)
        return True

    def open_port(self) -> MessagePort:
        """What carries the messages to this driver's device."""
        address = self.device.address
        library = str(self.config.get("visa_library") or _PY)
        if is_resource(address):
            plain = as_address(address) if library == _PY else None
            if plain is None:
                from vfab.sdk.visa_port import VisaPort

                return VisaPort(resource_of(address), library)
            address = plain
        settings = {"baudrate": int(self.config.get("baudrate", 9600))} if address.startswith("/") else {}
        link = self.open_link(address, **settings)
        if address.startswith("/dev/usbtmc"):
            return UsbtmcPort(link)
        return LinkPort(link, write_end=self._end("write_termination"), read_end=self._end("read_termination"))

    def _end(self, setting: str) -> bytes:
        return str(self.config.get(setting) or "\n").encode("latin-1").decode("unicode_escape").encode("latin-1")

    def disconnect(self) -> None:
        """Abort what runs, switch the outputs off, close the link. Twice, or without a connection, nothing.

        Never raises: what fails is logged.
        """
        if self._run is not None:
            self.abort()
        self.stop_streaming()
        link = self._link
        if link is not None and not link.lost:
            self._make_safe_quietly()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._closing:
            link, self._link = self._link, None
            if link is not None:
                self._close(link)

    def _close(self, link: ScpiLink) -> None:
        port = link.port
        try:
            if isinstance(port, (LinkPort, UsbtmcPort)):
                self.close_link(port.link)
            port.close()
        except DriverError as error:
            self.log.warning("closing %s failed: %s", link.address, error.message)

    def reset(self) -> None:
        """`*RST` and `*CLS`; after a lost link, connect again. Raises what `connect` raises; HardwareError."""
        self.stop_streaming()
        link = self._link
        if link is None or link.lost:
            self.connect()
            return
        with unbothered():
            link.resynchronise()
            link.write("*RST", check=False)
            link.write("*CLS")
            self.set_up(link)

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """Whether an instrument was reached and the link has not broken since."""
        link = self._link
        return link is not None and not link.lost and not link.port.closed

    # -- the instrument -----------------------------------------------------------------------------------------------

    @property
    def link(self) -> ScpiLink:
        """The conversation. Raises IllegalTransition, LinkLost: there is none."""
        link = self._link
        if link is not None and link.lost:
            raise LinkLost(
                f"the link to {link.address} broke",
                context={"address": link.address},
                remedy="Connect it again: `vfab device connect`.",
            )
        if link is None:
            self.require_connected()
            raise AssertionError("it was disconnected meanwhile")
        return link

    def read_identity(self) -> dict[str, str]:
        """What the instrument said of itself when it was connected."""
        return self.link.identity.to_dict()

    def read_status(self) -> dict[str, Any]:
        """`{"status_byte", "address", "model"}`; what cannot be asked is left out."""
        link = self.link
        status: dict[str, Any] = {"address": link.address, "model": link.identity.model}
        if self.error_query and not self._streams_now():
            try:
                status["status_byte"] = int(float(link.query("*STB?", check=False)))
            except (DriverError, ValueError) as error:
                self.log.debug("no status byte: %s", error)
        return status

    def _streams_now(self) -> bool:
        return bool(self.streaming_status()["streaming"])

    @command
    def errors(self) -> list[dict[str, Any]]:
        """Take the entries out of the instrument's error queue: `[{"code", "message"}]`, oldest first."""
        return [{"code": entry.code, "message": str(entry)} for entry in self.link.errors()]

    @command
    def query(self, command: str) -> str:
        """Ask the instrument, and give its answer as text. Raises HardwareError, TimeoutExceeded, LinkLost."""
        return self.link.query(command)

    @command
    def write(self, command: str) -> None:
        """Send a command. Raises HardwareError: the instrument refuses it, in its own words."""
        self.link.write(command)

    @command
    def read_block(self, command: str, patience_s: float = 10.0) -> bytes:
        """Ask, and give the content of the binary block that it answers with: waveforms, screen pictures."""
        return self.link.query_block(command, timeout_s=patience_s)

    def make_safe(self) -> None:
        """Nothing can be known of any instrument; a link that was left in the middle of an answer is put in step.

        Raises TimeoutExceeded: it is silent for longer than `SAFE_S`, or than the link's patience.
        """
        self.link.resynchronise(min(SAFE_S, self.link.timeout_s))

    def perform_each(self, expressions: Mapping[str, str]) -> list[float]:
        """The first number of the answer to each expression."""
        return [self.link.query_numbers(text)[0] for text in expressions.values()]
