"""A recorded device: it answers as it answered when it was recorded, or streams what it streamed.

In a test::

    with ReplaySimulator("conversation.rec", speed=0) as sim:
        ...  # talk to sim.address
        assert sim.difference is None

As a program: `python simulator.py --from FILE [--speed N|instant] [--loop] [--strict] [--port N]` prints one JSON line
and serves until SIGTERM: a recorded serial line on a pseudo-terminal, everything else on a TCP port of 127.0.0.1. With
`--strict` the first thing that a client says otherwise than in the recording ends it, with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from vfab.model.errors import ConfigurationError, DriverError
from vfab.protocols.recording import Recording, StreamEntry, header_line, parse_recording, stream_line
from vfab.protocols.replaying import Replay
from vfab.sdk.simulation import PtyLink, TcpLink, refused

__all__ = ["SAMPLE", "ReplaySimulator", "main", "read_recording"]

SAMPLE = Path(__file__).parent / "sample.rec"
"""A room's temperature, two seconds of it."""


def read_recording(file: str | Path) -> Recording:
    """The recording in `file`. Raises ConfigurationError: it is none, or cannot be read."""
    try:
        with Path(file).open(encoding="utf-8", newline="\n") as lines:
            return parse_recording(lines, str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error}",
            context={"file": str(file), "field": "--from"},
            remedy="Name a file that `vfab sim record` or `vfab stream --record` wrote.",
        ) from error


class _Port(TcpLink):
    """A TCP port that counts its clients."""

    clients = 0

    def _accept(self, client: socket.socket) -> None:
        if self._client is None:
            self.clients += 1
        super()._accept(client)


class ReplaySimulator:
    """Serves a recording on a thread of its own; use it as a context.

    Args:
        file: the recording.
        speed: how many times faster than it was; 0 is without pauses.
        loop: begin again at the end.
        strict: stop serving at the first difference.
        port: of TCP; 0 for any.

    Attributes:
        recording: what is served.
        address: where.
        ended: set at the first difference, if it is strict.

    Raises ConfigurationError: the file is no recording. DeviceBusy: the port is taken.
    """

    def __init__(
        self, file: str | Path, *, speed: float = 1.0, loop: bool = False, strict: bool = False, port: int = 0
    ) -> None:
        self.recording = read_recording(file)
        self.ended = threading.Event()
        self._strict = strict
        self._link: PtyLink | _Port = PtyLink() if self.recording.header.link == "serial" else _Port(port)
        self._played: Replay | _Streamed
        if self.recording.header.kind == "stream":
            self._played = _Streamed(self.recording, speed, loop)
        else:
            self._played = Replay(self.recording, speed=speed, loop=loop, now_s=time.monotonic())
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)

    @property
    def address(self) -> str:
        """Where it serves, with the scheme and the path of the recorded address."""
        where = self._link.address
        scheme, found, _ = self.recording.header.address.partition("://")
        if not found or self.recording.header.kind == "stream" or isinstance(self._link, PtyLink) or scheme == "unix":
            return where
        return urlsplit(self.recording.header.address)._replace(netloc=where.removeprefix("tcp://")).geturl()

    @property
    def difference(self) -> str:
        """What the first difference was; "" for none."""
        found = self._played.difference if isinstance(self._played, Replay) else None
        return f"{self.recording.name}: {found}" if found is not None else ""

    def missing(self) -> str:
        """What no client has said until now; "" for nothing."""
        found = self._played.missing() if isinstance(self._played, Replay) else None
        return f"{self.recording.name}: {found}" if found is not None else ""

    def __enter__(self) -> ReplaySimulator:
        self._link.plug_in()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._link.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        clients = 0
        while True:
            next_s = None if self._link.writers() else self._played.next_s()
            wait_s = None if next_s is None else max(0.0, next_s - time.monotonic())
            ready, _, _ = select.select([self._wake_read, *self._link.readers()], self._link.writers(), [], wait_s)
            if self._wake_read in ready:
                return
            self._link.flush()
            heard = self._link.read() if set(ready) & set(self._link.readers()) else b""
            now_s = time.monotonic()
            if isinstance(self._link, _Port) and self._link.clients != clients:
                clients = self._link.clients
                self._played.connected(now_s)
            if heard:
                self._played.receive(heard, now_s)
            if self._strict and self.difference:
                self._link.unplug()
                self.ended.set()
                return
            if not self._link.writers():
                with suppress(OSError):
                    self._link.write(self._played.due(now_s))


class _Streamed:
    """A recorded stream's side of the conversation with the driver `replay`; as `Replay`, but told what to do."""

    def __init__(self, recording: Recording, speed: float, loop: bool) -> None:
        self._recording = recording
        self._entries = [entry for entry in recording.entries if isinstance(entry, StreamEntry)]
        self._options: dict[str, Any] = {"speed": speed, "loop": loop}
        self._now = dict(self._options)
        self._next: int | None = None
        self._began_s = 0.0
        self._held = b""
        self._say = b""

    def connected(self, now_s: float) -> None:
        """A driver has come."""
        self._next, self._held, self._say = None, b"", b""

    def receive(self, data: bytes, now_s: float) -> None:
        """The driver says `hello`, `play` or `stop`."""
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                told = json.loads(line)
                if "play" in told:
                    self._now = self._options | told["play"]
                    self._next, self._began_s = 0, now_s
                elif "hello" in told:
                    self._next = None
                    self._say += header_line(self._recording.header).encode()
                elif "stop" in told:
                    self._next = None
                    self._say += b'{"stopped": true}\n'

    def next_s(self) -> float | None:
        """When there is something to say."""
        if self._say:
            return 0.0
        if self._next is None:
            return None
        if self._next >= len(self._entries):
            return 0.0
        speed = float(self._now["speed"])
        return self._began_s + (self._entries[self._next].t - self._entries[0].t) / speed if speed else 0.0

    def due(self, now_s: float) -> bytes:
        """What is said now, one record at most: who reads slowly is waited for."""
        if self._say:
            said, self._say = self._say, b""
            return said
        when = self.next_s()
        if when is None or when > now_s or self._next is None:
            return b""
        if self._next < len(self._entries):
            self._next += 1
            return stream_line(self._entries[self._next - 1]).encode()
        if self._now["loop"] and self._entries:
            self._next, self._began_s = 0, now_s
            return b""
        self._next = None
        return b'{"end": true}\n'


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or, when it is strict, the first difference; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run replay", description="A device from a recording of it.")
    parser.add_argument("--from", dest="file", type=Path, metavar="FILE", help="the recording; default: a sample")
    parser.add_argument("--speed", type=_speed, default=1.0, metavar="N|instant", help="how many times faster")
    parser.add_argument("--loop", action="store_true", help="begin again at the end")
    parser.add_argument("--strict", action="store_true", help="end with exit code 1 when a client says something else")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="TCP port of 127.0.0.1; 0 = any")
    options = parser.parse_args(list(argv))
    try:
        simulator = ReplaySimulator(
            options.file or SAMPLE,
            speed=options.speed,
            loop=options.loop or options.file is None,
            strict=options.strict,
            port=options.port,
        )
        with simulator:
            return _serve(simulator, options.strict)
    except DriverError as error:
        return refused(error)


def _speed(text: str) -> float:
    if text == "instant":
        return 0.0
    speed = 1.0 if text == "real" else float(text)
    if speed <= 0:
        raise ValueError
    return speed


def _serve(simulator: ReplaySimulator, strict: bool) -> int:
    told = threading.Event()

    def end(*_: object) -> None:
        told.set()
        simulator.ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    header = simulator.recording.header
    said: dict[str, Any] = {"name": "replay", "address": simulator.address, "pid": os.getpid()}
    if header.kind == "link":
        keys = {"vid": "vid", "pid": "pid_usb", "product": "product", "manufacturer": "manufacturer"}
        keys["serial_number"] = "serial_number"
        identity = {keys[key]: value for key, value in header.device.items() if key in keys}
        said |= {"simulates": header.driver or "recording", "identity": identity}
    print(json.dumps(said), flush=True)
    simulator.ended.wait()
    problem = simulator.difference or (simulator.missing() if told.is_set() else "")
    if strict and problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
