"""A serial device that is not there: on a pseudo-terminal, or behind an RFC 2217 server on a TCP port.

Behind RFC 2217 its DTR is wired to DSR and CD, and its RTS to CTS, so that switching one shows on the others.

As a program: `python simulator.py [--mode lines|echo] [--rfc2217] [--port N]` prints one JSON line and serves until
SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from vfab.model.errors import DriverError
from vfab.protocols.rfc2217 import AccessServer, Code, Control, Data, LineState, ModemState, Request
from vfab.sdk.simulation import raw_pty, serve_until_told

if TYPE_CHECKING or __package__:
    from .device import LineDevice
else:
    from device import LineDevice

__all__ = ["SerialSimulator", "main"]

RATE_MAX = 4_000_000


class SerialSimulator:
    """The device, served by a thread of its own; use it as a context.

    Args:
        mode: lines or echo.
        rfc2217: on a TCP port instead of a pseudo-terminal.
        port: TCP port of 127.0.0.1; 0 for any that is free.

    Attributes:
        address: where a driver finds it.
        device: what it does with what it hears.
        settings: behind RFC 2217: what the client set, by code.
    """

    def __init__(self, mode: str = "lines", *, rfc2217: bool = False, port: int = 0) -> None:
        self.device = LineDevice(echo=mode == "echo")
        self.settings: dict[Code, int] = {}
        self._wake_read, self._wake_write = os.pipe()
        self._closing = False
        self._orders: list[tuple[str, bytes]] = []
        self._server: socket.socket | None = None
        self._client: socket.socket | None = None
        self._telnet = AccessServer()
        self._dtr = self._rts = True
        self._pty: list[int] = []
        if rfc2217:
            self._server = socket.create_server(("127.0.0.1", port))
            self.address = f"rfc2217://127.0.0.1:{self._server.getsockname()[1]}"
        else:
            *self._pty, self.address = raw_pty(blocking=True)
        self._thread = threading.Thread(target=self._serve, name="serial-simulator", daemon=True)

    def __enter__(self) -> SerialSimulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; the port is gone."""
        self._closing = True
        self._order("stop")
        self._thread.join()
        for end in (self._server, self._client):
            if end is not None:
                end.close()
        for fd in (*self._pty, self._wake_read, self._wake_write):
            os.close(fd)

    def say(self, data: bytes) -> None:
        """Send `data` unasked."""
        self._order("say", data)

    def hang_up(self) -> None:
        """Close the network connection; a new one is taken."""
        self._order("hang up")

    def happen(self, state: LineState) -> None:
        """Behind RFC 2217: something happened to the receiver."""
        self._order("line", bytes((int(state),)))

    # -- the thread --------------------------------------------------------------------------------------------------

    def _order(self, what: str, data: bytes = b"") -> None:
        self._orders.append((what, data))
        os.write(self._wake_write, b"x")

    def _serve(self) -> None:
        while not self._closing:
            ends = [self._pty[0]] if self._pty else [self._client or self._server]
            ready = select.select([self._wake_read, *ends], [], [])[0]
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                while self._orders:
                    self._obey(*self._orders.pop(0))
                continue
            if self._pty:
                with suppress(OSError):  # nobody has the other end open
                    os.write(self._pty[0], self.device.hear(os.read(self._pty[0], 65536)))
            elif self._client is None:
                assert self._server is not None
                self._client = self._server.accept()[0]
                self._telnet = AccessServer()
            else:
                self._hear(self._client)

    def _obey(self, what: str, data: bytes) -> None:
        if what == "hang up":
            self._drop()
        elif what == "say" and self._pty:
            os.write(self._pty[0], data)
        elif what == "say":
            self._telnet.write(data)
        elif what == "line":
            self._telnet.notify_line(LineState(data[0]))
        self._flush()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _flush(self) -> None:
        if self._client is not None:
            with suppress(OSError):
                self._client.sendall(self._telnet.data_to_send())

    def _hear(self, client: socket.socket) -> None:
        try:
            data = client.recv(65536)
            if not data:
                raise ConnectionResetError
            for event in self._telnet.feed(data):
                match event:
                    case Data(data=plain):
                        self._telnet.write(self.device.hear(plain))
                    case Request(code=code, value=value):
                        self._request(code, value)
                    case _:
                        pass
        except (OSError, DriverError):
            self._drop()
        self._flush()

    # -- the port ----------------------------------------------------------------------------------------------------

    def _request(self, code: Code, value: int | str) -> None:
        if code is Code.SIGNATURE:
            self._telnet.say(code, value or "vfab serial simulator")
        elif code is Code.SET_CONTROL:
            if value in set(Control):  # what RFC 2217 does not have is left without an answer
                self._control(Control(int(value)))
        elif code is Code.NOTIFY_MODEMSTATE:
            self._telnet.say(code, self._modem())
        else:
            default = {Code.SET_BAUDRATE: 9600, Code.SET_DATASIZE: 8, Code.SET_PARITY: 1, Code.SET_STOPSIZE: 1}
            asked = int(value)
            fits = asked and (code is not Code.SET_BAUDRATE or asked <= RATE_MAX)
            if fits:
                self.settings[code] = asked
            self._telnet.say(code, self.settings.get(code, default.get(code, asked)))

    def _control(self, control: Control) -> None:
        before = self._modem()
        match control:
            case Control.DTR_ON | Control.DTR_OFF:
                self._dtr = control is Control.DTR_ON
            case Control.RTS_ON | Control.RTS_OFF:
                self._rts = control is Control.RTS_ON
            case Control.BREAK_ON:
                self.device.breaks += 1
            case Control.ASK_DTR:
                control = Control.DTR_ON if self._dtr else Control.DTR_OFF
            case Control.ASK_RTS:
                control = Control.RTS_ON if self._rts else Control.RTS_OFF
            case Control.ASK_BREAK:
                control = Control.BREAK_OFF
            case Control.ASK_FLOW:
                control = Control(self.settings.get(Code.SET_CONTROL, Control.FLOW_NONE))
            case Control.FLOW_NONE | Control.FLOW_XON_XOFF | Control.FLOW_HARDWARE:
                self.settings[Code.SET_CONTROL] = control
            case _:
                pass
        self._telnet.say(Code.SET_CONTROL, control)
        now = self._modem()
        if now != before:
            self._telnet.notify_modem(ModemState(now | (now ^ before) >> 4))

    def _modem(self) -> int:
        state = ModemState(0)
        state |= ModemState.DSR | ModemState.CD if self._dtr else ModemState(0)
        state |= ModemState.CTS if self._rts else ModemState(0)
        return int(state)


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run serial-link", description="A simulated serial device.")
    parser.add_argument("--mode", choices=["lines", "echo"], default="lines", help="what it does with what it hears")
    parser.add_argument("--rfc2217", action="store_true", help="behind RFC 2217 on a TCP port of 127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="that TCP port; 0 = any")
    options = parser.parse_args(list(argv))
    return serve_until_told("serial-link", SerialSimulator(options.mode, rfc2217=options.rfc2217, port=options.port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
