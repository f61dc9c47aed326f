"""The zygote: a small process that has the SDK imported and forks hosts; milliseconds and few private pages each.

It runs no plugin code, holds no device and has one thread. When the kernel is gone (its socket is closed) it asks every
host to end, gives them a moment to leave their devices safe, ends those that did not, and ends itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import vfab.sdk.plotter
import vfab.sdk.stream  # noqa: F401
from vfab.host.confine.birth import Birth, die_by_signals, fork, how_it_ended
from vfab.host.confine.cgroup import Cell, clean, own_group, prepare
from vfab.host.confine.environment import close_all_but
from vfab.host.confine.itself import confine, get_ready, refusal
from vfab.host.confine.reach import starts_programs
from vfab.host.failures import error_fields
from vfab.host.init import beside_an_init
from vfab.host.limits import keep_within
from vfab.host.main import LAST_WORDS_S, run_host
from vfab.host.sharing import settle
from vfab.host.system import die_with_parent, name_process
from vfab.model.errors import ProtocolError
from vfab.protocols.hostwire import Handshake, handshake_line
from vfab.protocols.zygotewire import (
    DESCRIPTORS,
    HEADER,
    Exited,
    HostSpec,
    SpawnFailed,
    SpawnRequest,
    confinement_report,
    decode,
    encode,
)
from vfab.protocols.zygotewire import Spawned as SpawnedHost

__all__ = ["Zygote", "main"]


class Zygote:
    """Serves the kernel's spawn requests on `kernel` until it is closed."""

    def __init__(self, kernel: socket.socket) -> None:
        self._kernel = kernel
        self._hosts: dict[int, str] = {}
        """By number, the names of their cgroups."""
        self._group: Path | None = None
        with contextlib.suppress(OSError):
            self._group = own_group()
        self._child_died, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._child_died.setblocking(False)

    def serve(self) -> None:
        """Fork hosts until the kernel goes away, then see to it that none is left."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        poller = select.poll()
        poller.register(self._kernel, select.POLLIN)
        poller.register(self._child_died, select.POLLIN)
        alive = True
        while alive:
            for fd, _ in poller.poll():
                if fd == self._child_died.fileno():
                    with contextlib.suppress(BlockingIOError):
                        self._child_died.recv(4096)
                    self._reap()
                else:
                    alive = self._take_request()
        self._end_hosts()

    def _take_request(self) -> bool:
        """Read one request and fork; False once the kernel is gone."""
        try:
            header, descriptors, _, _ = socket.recv_fds(self._kernel, HEADER.size, DESCRIPTORS)
            if len(header) < HEADER.size:
                return False
            (length,) = HEADER.unpack(header)
            body = self._kernel.recv(length, socket.MSG_WAITALL)
        except OSError:
            return False
        try:
            request = decode(body)
        except ProtocolError:  # the kernel went away within a frame, or is none
            return False
        if not isinstance(request, SpawnRequest) or len(descriptors) != DESCRIPTORS:
            return False
        plan, group = request.spec.confinement, f"{os.getpid()}-{request.id}"
        confined = plan.mode == "on"
        cell = prepare(request.spec.manifest.runtime.limits, self._group, group) if confined else Cell()
        try:
            birth = fork(namespaces=confined and plan.namespaces)
        except OSError as error:
            self._tell(encode(SpawnFailed(request.id, str(error))))
        else:
            if birth.pid == 0:
                self._become_host(request, descriptors, birth, cell)
            self._hosts[birth.pid] = group
            self._tell(encode(SpawnedHost(request.id, birth.pid)))
        cell.close()
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _become_host(self, request: SpawnRequest, descriptors: list[int], birth: Birth, cell: Cell) -> None:
        """In the forked child: let go of everything of the zygote's, and be a host. Never returns."""
        status = 4
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            cell = cell.entered()
            keep_within(request.spec.manifest.runtime.limits)  # the init too, which stands for its host
            if "pid" in birth.own and starts_programs(request.spec):
                beside_an_init()
            parent = os.getppid()  # 0 where that is outside of its namespace: it was looked after at birth
            os.setsid()  # Ctrl-C in the terminal is for the kernel: it ends hosts in good order
            die_with_parent(parent)
            for sock in (self._kernel, self._child_died, self._waker):
                sock.close()
            control, links, log = descriptors
            for descriptor in descriptors:  # recv_fds has no use for its flags
                os.set_inheritable(descriptor, False)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            name_process(f"vfab:{request.spec.manifest.name}")
            ends = socket.socket(fileno=control), socket.socket(fileno=links)
            status = self._run_confined(request.spec, *ends, birth, cell)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        except BaseException:  # a defect of the host itself: the kernel shows the last lines of a dead host
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _run_confined(
        self, spec: HostSpec, control: socket.socket, links: socket.socket, birth: Birth, cell: Cell
    ) -> int:
        """Confine this process, say how far that got, and be the host; or refuse to. Returns its exit status."""
        if spec.confinement.mode == "on":
            close_all_but({0, 1, 2, control.fileno(), links.fileno()})
        reached, node = confine(spec, birth, cell)
        links.sendall(confinement_report(reached))
        refused = refusal(spec, reached)
        if refused is not None:
            control.sendall(handshake_line(Handshake(pid=os.getpid(), error=error_fields(refused))))
            return 3
        return run_host(spec, control, links, node)

    def _reap(self) -> None:
        while self._hosts:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            pid = ended.si_pid
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # programs that the driver started; before its number is free again
            _, status = os.waitpid(pid, 0)
            group = self._hosts.pop(pid)
            starved = self._group is not None and clean(group, self._group)
            self._tell(encode(Exited(pid, how_it_ended(status), starved)))

    def _tell(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            self._kernel.sendall(frame)

    def _end_hosts(self) -> None:
        """Hosts see their control socket close and leave their devices safe; whoever stays longer is killed."""
        deadline = time.monotonic() + LAST_WORDS_S + 0.5
        while self._hosts and time.monotonic() < deadline:
            self._reap()
            select.select([self._child_died], [], [], 0.02)
        for pid in self._hosts:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._hosts:  # a namespace takes a moment to end, and whoever waits for us may look at once
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _speak_by_lines() -> None:
    """Have what drivers print go out line by line, and the stack of a crash in native code as well.

    Done once, here, for the hosts that will be forked: it costs each of them 0.3 MiB to do it themselves. Streams
    look at their descriptor when they are made, and would seek if that was a file: so they are made on a pipe.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # whoever started vfab closed it; the lowest free number is this one
            os.open(os.devnull, os.O_RDWR)
    reader, writer = os.pipe()
    for descriptor in (1, 2):
        kept = os.dup(descriptor)
        os.dup2(writer, descriptor)
        raw = io.FileIO(descriptor, "w", closefd=False)
        stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
        if descriptor == 1:
            sys.stdout = sys.__stdout__ = stream  # type: ignore[misc]
        else:
            sys.stderr = sys.__stderr__ = stream  # type: ignore[misc]
        os.dup2(kept, descriptor)
        os.close(kept)
    os.close(reader)
    os.close(writer)
    with contextlib.suppress(OSError, ValueError):
        faulthandler.enable(2)


def main(argv: list[str]) -> int:
    """`python -m vfab.host.zygote FD`: serve the kernel on the inherited stream socket FD."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process("vfab:zygote")
    die_by_signals()  # before the handlers of crashes, which pass on to it
    _speak_by_lines()
    logging.captureWarnings(True)
    logging.getLogger().setLevel(logging.INFO)  # what nearly every host wants
    get_ready()
    settle()
    Zygote(socket.socket(fileno=int(argv[0]))).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
