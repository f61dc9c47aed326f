"""Starting hosts: through a zygote that forks them, so that a start takes milliseconds and little memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from msgspec import structs

from vfab.kernel.confining import ConfinementPolicy, host_environment
from vfab.kernel.forks import held_here
from vfab.model.confinement import Confinement
from vfab.model.errors import DriverError, HardwareError, ProtocolError
from vfab.protocols.zygotewire import (
    Exited,
    FrameCutter,
    HostSpec,
    Spawned,
    SpawnFailed,
    SpawnRequest,
    confinement_in,
    encode,
)

__all__ = ["HostProcess", "Spawner", "ZygoteSpawner", "how_it_ended"]

SPAWN_S = 20.0
"""How long the zygote may take to fork, its own start included."""

CLOSE_S = 5.0
"""How long the zygote may take to end, its hosts with it."""

_LAST_LINES = 50
_READ_SIZE = 64 * 1024
_LAST_READS = 16
_REPORT_MAX = 64 * 1024
_PARTIAL_MAX = 8192


class HostProcess:
    """One host process.

    Attributes:
        pid: its process id.
        control: our end of its control socket.
        links: our end of the socket on which links are passed to it.
        exited: its exit status (minus the signal's number), once it has ended.
        last_lines: what it last wrote to standard output and error.
        on_line: told of each such line; answers False when it has had enough for now.
        on_skipped: told how many lines it was spared for that.
        why: why the kernel ended it; None when it did not.
        starved: the system ended it, because its cgroup had no more memory.
    """

    def __init__(self, pid: int, control: socket.socket, links: socket.socket, log: int) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.control = control
        self.links = links
        self.exited: asyncio.Future[int] = loop.create_future()
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self.on_line: Callable[[str], bool] = lambda line: True
        self.on_skipped: Callable[[int], None] = lambda count: None
        self.why: DriverError | None = None
        self.starved = False
        self._loop = loop
        self._log = log
        self._confinement: Confinement | None = None
        self._partial = b""
        self._pidfd = _pidfd(pid)
        os.set_blocking(log, False)
        links.setblocking(False)
        loop.add_reader(log, self._read_log)

    @property
    def confinement(self) -> Confinement | None:
        """How far it is confined, as it said before the plugin's code ran; None: it has not said it yet."""
        if self._confinement is None and self.links.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._confinement = confinement_in(self.links.recv(_REPORT_MAX, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return self._confinement

    def kill(self) -> None:
        """End it at once."""
        if self.exited.done():
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif not hasattr(os, "pidfd_open"):  # where it is, a process without one has ended, and its number is free
                os.kill(self.pid, signal.SIGKILL)

    def ended(self, status: int, *, starved: bool = False) -> None:
        """The zygote says that it ended; `starved`: for want of memory."""
        if not self.exited.done():
            self._read_rest()
            self.starved = starved and status == -signal.SIGKILL
            self.exited.set_result(status)
        self.release()

    def release(self) -> None:
        """Give the descriptors back."""
        if self._log >= 0:
            self._loop.remove_reader(self._log)
            os.close(self._log)
            self._log = -1
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self.links.close()

    def _read_log(self) -> bool:
        """Read once: whoever writes faster than we read must not keep the event loop. False: nothing more for now."""
        try:
            data = os.read(self._log, _READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._log)
            return False
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[-_PARTIAL_MAX:]
        for number, line in enumerate(lines, 1):
            if not self._take_line(line) and len(lines) - number > _LAST_LINES:
                self.on_skipped(len(lines) - number - _LAST_LINES)
                for last in lines[-_LAST_LINES:]:
                    self._take_line(last)
                break
        return True

    def _read_rest(self) -> None:
        reads = 0
        while self._log >= 0 and self._read_log() and reads < _LAST_READS:
            reads += 1
        if self._partial:
            self._take_line(self._partial)
            self._partial = b""

    def _take_line(self, line: bytes) -> bool:
        text = line[:2000].decode("utf-8", "replace")
        self.last_lines.append(text)
        return self.on_line(text)


def _pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


class Spawner(Protocol):
    """What the supervisor needs to start hosts."""

    async def spawn(self, spec: HostSpec) -> HostProcess:
        """Start a host for `spec`. Raises DriverError."""

    async def close(self) -> None:
        """End every host."""


class _Birth(NamedTuple):
    """A host that was asked for."""

    born: asyncio.Future[HostProcess]
    control: socket.socket
    links: socket.socket
    log: int

    def discard(self) -> None:
        """Close our ends."""
        self.control.close()
        self.links.close()
        os.close(self.log)


class ZygoteSpawner:
    """Starts hosts through one zygote, which it starts when first needed and again when it died.

    Args:
        interpreter: the Python that runs hosts.
        environment: the environment of which hosts see what they have a use for; default: this process's.
        policy: how far plugins must be confined; default: as `environment` says.

    Raises ConfigurationError: `environment` says something about confinement that makes no sense.
    """

    def __init__(
        self,
        interpreter: str = sys.executable,
        environment: dict[str, str] | None = None,
        policy: ConfinementPolicy | None = None,
    ) -> None:
        self._interpreter = interpreter
        whole = dict(os.environ) if environment is None else environment
        self.policy = policy or ConfinementPolicy.of(whole)
        off = self.policy.mode == "off"
        self._environment = whole if off else host_environment(whole, self.policy.environment)
        self._ids = itertools.count(1)
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._cutter = FrameCutter()
        self._births: dict[int, _Birth] = {}
        self._hosts: dict[int, HostProcess] = {}
        self.on_zygote_died: Callable[[], None] = lambda: None
        held_here(self)

    def let_go_in_child(self) -> None:
        """In a forked child: the zygote is the parent's, and ends with it."""
        sock, self._sock = self._sock, None
        if sock is not None:
            os.close(sock.detach())

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the zygote, None before the first start."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the zygote now rather than with the first host. Raises OSError: it cannot be started."""
        if self._sock is not None:
            return
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.enter_context(ours)
            # -P: the folder that somebody happened to be in is not where modules are looked for
            command = [self._interpreter, "-P", "-m", "vfab.host.zygote", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
            unless_started.pop_all()
        self._sock = ours
        self._cutter = FrameCutter()
        asyncio.get_running_loop().add_reader(ours, self._read)

    async def spawn(self, spec: HostSpec) -> HostProcess:
        """Fork a host for `spec`.

        Raises DriverError: no process could be started.
        """
        spec = structs.replace(spec, confinement=self.policy.plan(spec.folder))
        try:
            self.start()
            number, birth = self._ask(spec)
        except OSError as error:
            self._zygote_gone()
            raise _no_start(str(error)) from error
        try:
            return await asyncio.wait_for(birth.born, SPAWN_S)
        except TimeoutError:
            self._zygote_gone()  # it hangs; hosts go with it, and are started again by another
            raise _no_start(f"the zygote did not answer within {SPAWN_S:g} s") from None
        except asyncio.CancelledError:
            if birth.born.done() and not birth.born.cancelled() and birth.born.exception() is None:
                _abandon(birth.born.result())
            raise
        finally:
            if self._births.pop(number, None) is not None:
                birth.discard()

    def _ask(self, spec: HostSpec) -> tuple[int, _Birth]:
        """Send the request; what the host gets is closed here once it is sent."""
        assert self._sock is not None
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            control, control_child = socket.socketpair()
            ours.enter_context(control)
            theirs.enter_context(control_child)
            links, links_child = socket.socketpair()
            ours.enter_context(links)
            theirs.enter_context(links_child)
            log, log_child = os.pipe()
            ours.callback(os.close, log)
            theirs.callback(os.close, log_child)
            number = next(self._ids)
            frame = encode(SpawnRequest(number, spec))
            sent = socket.send_fds(self._sock, [frame], [control_child.fileno(), links_child.fileno(), log_child])
            self._sock.sendall(frame[sent:])
            ours.pop_all()
        birth = _Birth(asyncio.get_running_loop().create_future(), control, links, log)
        self._births[number] = birth
        return number, birth

    async def close(self) -> None:
        """End the zygote, and with it every host; returns when all are gone."""
        process, sock = self._process, self._sock
        if sock is None or process is None:
            return
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()
        self._sock = None
        self._refuse_births("vfab is closing")
        try:
            await asyncio.wait_for(asyncio.to_thread(process.wait), CLOSE_S)
        except TimeoutError:
            process.kill()
            await asyncio.to_thread(process.wait)
        for host in list(self._hosts.values()):
            host.ended(-signal.SIGKILL)
        self._hosts.clear()
        self._process = None

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(65536, socket.MSG_DONTWAIT)
            messages = list(self._cutter.receive(data))
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            data = b""
        if not data:
            self._zygote_gone()
            return
        for message in messages:
            if isinstance(message, Spawned):
                self._born(message)
            elif isinstance(message, SpawnFailed):
                birth = self._births.get(message.id)
                if birth is not None and not birth.born.done():
                    birth.born.set_exception(_no_start(message.reason))
            elif isinstance(message, Exited):
                host = self._hosts.pop(message.pid, None)
                if host is not None:
                    host.ended(message.status, starved=message.starved)

    def _born(self, message: Spawned) -> None:
        """Made here, not where it is awaited: the news that it ended may be the next message."""
        birth = self._births.pop(message.id, None)
        if birth is None or birth.born.done():  # nobody waits any more, and it may hang before it sees its socket close
            with contextlib.suppress(ProcessLookupError):
                os.kill(message.pid, signal.SIGKILL)
            if birth is not None:
                birth.discard()
            return
        host = HostProcess(message.pid, birth.control, birth.links, birth.log)
        self._hosts[message.pid] = host
        birth.born.set_result(host)

    def _refuse_births(self, why: str) -> None:
        for birth in self._births.values():
            if not birth.born.done():
                birth.born.set_exception(_no_start(why))

    def _zygote_gone(self) -> None:
        """The zygote died, and with it every host: they are told to by the system."""
        if self._sock is None:
            return
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        self._sock = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._refuse_births("the zygote ended")
        hosts, self._hosts = self._hosts, {}
        for host in hosts.values():
            host.kill()
            host.ended(-signal.SIGKILL)
        self.on_zygote_died()


def _abandon(host: HostProcess) -> None:
    """Whoever asked for it was cancelled in the moment it was born."""
    host.kill()
    host.control.close()


def _no_start(reason: str) -> DriverError:
    return HardwareError(
        f"no process could be started for the driver: {reason}",
        remedy="Check memory and the limit on processes (ulimit -u).",
        retryable=True,
    )


def how_it_ended(status: int) -> str:
    """An exit status, or minus the number of a signal, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
