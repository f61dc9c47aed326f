"""A host's life: become the driver of one device, say so, serve calls, leave the device safe."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import msgspec

from vfab.host.ahead import Ahead
from vfab.host.background import Background
from vfab.host.failures import error_fields, to_driver_error
from vfab.host.flood import FloodGate
from vfab.host.handover import Handover
from vfab.host.plugin import load_driver_class, methods_of
from vfab.host.rpc import CallLoop, Method
from vfab.host.turns import Turns
from vfab.model.errors import HostDied, LinkLost
from vfab.model.versions import PLATFORM_VERSION
from vfab.protocols.hostwire import (
    LET_GO,
    LOAD_STATE,
    OPEN_CHANNEL,
    SAFE_POINT,
    SAVE_STATE,
    TAKE_OVER,
    Handshake,
    Log,
    handshake_line,
)
from vfab.protocols.zygotewire import HostSpec
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import BaseDriver, Environment
from vfab.sdk.link import Link
from vfab.sdk.transport import FrameReader, FrameWriter

if TYPE_CHECKING:
    from vfab.dialects.js_start import StartedNode
    from vfab.sdk.stream_ends import StreamWriter
    from vfab.sdk.stream_words import StreamInfo

__all__ = ["LAST_WORDS_S", "run_host"]

LAST_WORDS_S = 1.0
"""How long a driver may take to leave its device safe once its parent is gone."""

_LEAVE_RUNNING_S = 0.4
LOGS_PER_S = 1000
_TOKEN_BYTES = 8


class HostPorts:
    """What this host does for its driver; the kernel is at the other end."""

    def __init__(self, loop: CallLoop, links: socket.socket) -> None:
        self._loop = loop
        self._links = links
        self._arrived: dict[int, int] = {}
        self._links_given: WeakSet[Link] = WeakSet()
        self.handing_over = False
        self._lock = threading.Lock()
        self.ahead = Ahead(self.receive)

    def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        """Send an event."""
        self._loop.emit(kind, data)

    def progress(self, data: Mapping[str, Any]) -> None:
        """Report progress of the running call."""
        self._loop.progress(data)

    def open_link(self, address: str, settings: Mapping[str, Any]) -> Link:
        """Have the broker open `address` and receive the descriptor."""
        link = self.ahead.link(address, settings)
        if link is None:
            token = int(self._loop.request("open_link", address, dict(settings), timeout_s=60.0))
            link = self.ahead.refilled(Link(self.receive(token), address))
        self._links_given.add(link)
        return link

    @property
    def links(self) -> list[Link]:
        """The links that the driver has, those included that it gave on to a library."""
        return [link for link in self._links_given if not link.closed or link.was_given_on]

    def receive(self, token: int) -> int:
        """The descriptor that the kernel sent with `token`.

        Raises LinkLost: the kernel is gone.
        """
        with self._lock:
            while token not in self._arrived:
                data, descriptors, _, _ = socket.recv_fds(self._links, _TOKEN_BYTES, 1)
                if not data or not descriptors:
                    raise LinkLost("the kernel did not hand over the descriptor that it announced")
                os.set_inheritable(descriptors[0], False)  # programs that the driver starts do not get it
                self._arrived[int.from_bytes(data, "little")] = descriptors[0]
            return self._arrived.pop(token)

    def open_stream(self, info: StreamInfo) -> StreamWriter:
        """Have the kernel make the memory of a stream, or take it up again, and receive it."""
        from vfab.sdk.ring import RingMemory
        from vfab.sdk.stream_ends import StreamWriter

        there = self.ahead.stream(info)
        if there is None:
            tokens = self._loop.request("open_stream", msgspec.to_builtins(info))
            there = self.receive(int(tokens[0])), self.receive(int(tokens[1]))
        return StreamWriter(info, RingMemory(*there))

    def close_link(self, address: str) -> None:
        """Tell the broker that the link is done with; a kernel that is gone has closed it already."""
        if self.handing_over:
            return
        with contextlib.suppress(HostDied):
            self._loop.request("close_link", address)


class WireLogHandler(logging.Handler):
    """Sends log records to the kernel; more than `LOGS_PER_S` in a second are counted, not sent."""

    def __init__(self, loop: CallLoop) -> None:
        super().__init__()
        self._loop = loop
        self._gate = FloodGate(LOGS_PER_S)

    def emit(self, record: logging.LogRecord) -> None:
        """Send `record`."""
        dropped = self._gate.take_dropped()
        if dropped:
            self._send(logging.WARNING, "vfab.host", f"{dropped} log records dropped: too many", record.created)
        if not self._gate.passes():
            return
        try:
            message = record.getMessage()
            if record.exc_info:
                message = f"{message}\n{logging.Formatter().formatException(record.exc_info)}"
        except Exception as error:  # a log call with wrong arguments must not end the driver
            message = f"{record.msg!r} (cannot be formatted: {error})"
        self._send(record.levelno, record.name, message[:16384], record.created)

    def _send(self, level: int, logger: str, message: str, time_s: float) -> None:
        text = message.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot be sent
        self._loop.log(Log(level, logger, text, time_s))


def run_host(spec: HostSpec, control: socket.socket, links: socket.socket, program: StartedNode | None = None) -> int:
    """Be the driver of `spec` until the kernel closes `control`. Returns the exit status of the process.

    `program`, where it was started already, is to run the driver.
    """
    manifest = spec.manifest
    methods: dict[str, Method] = {}
    turns, background = Turns(), Background()
    loop = CallLoop(FrameReader(control), FrameWriter(control), methods, manifest.name, turns, background=background)
    ports = HostPorts(loop, links)
    _route_logs(loop, spec.log_level)
    sys.path[:0] = list(spec.paths)
    try:
        driver = _make_driver(spec, ports, program)
        methods.update(methods_of(driver, manifest))
    except BaseException as error:  # whatever a plugin does while it is loaded, the kernel is told
        failure = to_driver_error(error, manifest.name, "loading the plugin")
        _say(control, Handshake(pid=os.getpid(), error=error_fields(failure)))
        loop.say_early()
        return 3
    concurrent = tuple(name for name, method in methods.items() if method.concurrent)
    _say(
        control,
        Handshake(
            driver=manifest.name,
            version=manifest.version,
            pid=os.getpid(),
            platform=PLATFORM_VERSION,
            methods=tuple(methods),
            concurrent=concurrent,
        ),
    )

    def open_channel(token: int) -> None:
        sock = socket.socket(fileno=ports.receive(token))
        channel = CallLoop(FrameReader(sock), FrameWriter(sock), commands, manifest.name, turns, background=background)

        def serve() -> None:
            with sock:
                channel.serve()

        threading.Thread(target=serve, name="vfab-channel", daemon=True).start()

    commands = dict(methods)
    handover = Handover(driver, ports, lambda done: _settled(done, background))
    methods[OPEN_CHANNEL] = Method(open_channel, concurrent=True)
    methods[LET_GO] = Method(handover.let_go)
    methods[TAKE_OVER] = Method(handover.take_over)
    methods[SAVE_STATE] = Method(driver.save_state)
    methods[LOAD_STATE] = Method(driver.load_state)
    methods[SAFE_POINT] = Method(driver.reach_safe_point, concurrent=True)
    loop.serve()
    if not handover.gone:
        _last_words(driver, turns, background)
    return 0


def _settled(done: Any, background: Background) -> Any:
    """What a driver's method returned, awaited where it is `async`."""
    if not inspect.isawaitable(done):
        return done
    return background.run(done, current_token.get() or CancelToken())


def _make_driver(spec: HostSpec, ports: HostPorts, program: StartedNode | None) -> BaseDriver:
    cls = load_driver_class(spec.folder, spec.manifest, program)
    environment = Environment(
        manifest=spec.manifest,
        device=spec.device,
        config=dict(spec.config),
        ports=ports,
        state_dir=Path(spec.state_dir) if spec.state_dir else None,
        log=logging.getLogger(f"vfab.drivers.{spec.manifest.name}"),
    )
    return cls(environment)


def _say(control: socket.socket, handshake: Handshake) -> None:
    try:
        control.sendall(handshake_line(handshake))
    except OSError:
        raise SystemExit(0) from None  # nobody listens any more


def _route_logs(loop: CallLoop, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [WireLogHandler(loop)]
    if root.level != level:  # setting it looks at every logger there is
        root.setLevel(level)


def _last_words(driver: BaseDriver, turns: Turns, background: Background) -> None:
    """The kernel is gone: give the driver a moment to leave its device safe.

    What runs was cancelled; it may end first, for a driver does one thing at a time.
    """
    done = threading.Event()

    def leave() -> None:
        turns.wait_idle(_LEAVE_RUNNING_S)
        try:
            result = driver.disconnect()
            if inspect.isawaitable(result):
                background.run(result, CancelToken(LAST_WORDS_S))
        except BaseException as error:  # the last thing that this process says
            print(f"leaving the device safe failed: {error}", file=sys.stderr)
        finally:
            done.set()

    threading.Thread(target=leave, daemon=True).start()
    done.wait(LAST_WORDS_S)
