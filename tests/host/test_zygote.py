"""The zygote by its wire alone: what it answers when a host cannot be, or is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hosting import write_plugin
from lesser import EAGAIN, in_child, take_away
from vfab.host.confine.syscalls import MACHINE
from vfab.host.zygote import Zygote
from vfab.model.confinement import ConfinementPlan, Level
from vfab.model.devices import DeviceInfo
from vfab.model.errors import PermissionRefused, from_wire
from vfab.protocols.hostwire import parse_handshake
from vfab.protocols.zygotewire import Exited, FrameCutter, HostSpec, Spawned, SpawnFailed, SpawnRequest, encode
from vfab.sdk.testing import patience

PLAIN = "class D(BaseDriver): pass\n"


def request(folder: Path, source: str = PLAIN, number: int = 1, **fields: Any) -> SpawnRequest:
    """A request for a host that is not confined."""
    manifest = write_plugin(folder, source, **fields)
    device = DeviceInfo(id="d", bus="t", address="/dev/null")
    return SpawnRequest(number, HostSpec(folder=str(folder), manifest=manifest, device=device))


@dataclass
class Wire:
    """The kernel's end of a zygote."""

    sock: socket.socket
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._cutter = FrameCutter()
        self._held: list[Any] = []
        self.sock.settimeout(patience(20.0))

    def ask(self, what: SpawnRequest, *descriptors: int) -> None:
        socket.send_fds(self.sock, [encode(what)], list(descriptors))

    def hear(self) -> Any:
        """The next message."""
        while not self._held:
            data = self.sock.recv(65536)
            assert data, "the zygote is gone"
            self._held += self._cutter.receive(data)
        return self._held.pop(0)


@contextmanager
def zygote(**options: Any) -> Iterator[Wire]:
    """A zygote of its own, which has ended in good order at the end."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vfab.host.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                **options,
            )
        yield Wire(ours, process)
    assert process.wait(patience(20.0)) == 0


@contextmanager
def ends() -> Iterator[tuple[socket.socket, socket.socket, int, tuple[int, int, int]]]:
    """What a host is given: our ends of its control socket, links and log; and its own, which close with ours."""
    control, control_child = socket.socketpair()
    links, links_child = socket.socketpair()
    log, log_child = os.pipe()
    with control, control_child, links, links_child:
        control.settimeout(patience(20.0))
        try:
            yield control, links, log, (control_child.fileno(), links_child.fileno(), log_child)
        finally:
            os.close(log)
            os.close(log_child)


def test_a_zygote_whose_descriptors_were_closed_speaks_and_forks_all_the_same(tmp_path: Path) -> None:
    def close_all() -> None:
        os.closerange(0, 3)

    with zygote(preexec_fn=close_all) as wire, ends() as (control, _, _, theirs):
        wire.ask(request(tmp_path), *theirs)
        born = wire.hear()
        assert isinstance(born, Spawned)
        shake = parse_handshake(control.makefile("rb").readline())
        assert (shake.pid, shake.error) == (born.pid, None)
        control.shutdown(socket.SHUT_RDWR)
        assert wire.hear() == Exited(born.pid, 0)


def test_a_host_whose_descriptors_are_none_says_so_in_its_log(tmp_path: Path) -> None:
    with zygote() as wire, ends() as (_, _, log, theirs), Path(os.devnull).open("rb") as null:
        wire.ask(request(tmp_path), null.fileno(), null.fileno(), theirs[2])
        born = wire.hear()
        assert wire.hear() == Exited(born.pid, 4)
        assert "Socket operation on non-socket" in os.read(log, 65536).decode()


def test_a_host_that_nobody_listens_to_any_more_ends_quietly(tmp_path: Path) -> None:
    slow = f"open({str(tmp_path / 'gate')!r}).read()\n" + PLAIN
    os.mkfifo(tmp_path / "gate")
    with zygote() as wire, ends() as (control, links, log, theirs):
        wire.ask(request(tmp_path, slow), *theirs)
        born = wire.hear()
        with (tmp_path / "gate").open("w"):  # it is importing its plugin
            control.close()
            socket.socket(fileno=os.dup(theirs[0])).shutdown(socket.SHUT_RDWR)
        assert wire.hear() == Exited(born.pid, 0)
        os.set_blocking(log, False)
        with pytest.raises(BlockingIOError):
            os.read(log, 65536)
        links.close()


def test_a_plugin_that_must_be_confined_further_than_it_can_be_is_refused_before_it_runs(tmp_path: Path) -> None:
    asked = request(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w').close()\n" + PLAIN)
    plan = ConfinementPlan(mode="off", minimum=Level.ISOLATED)
    asked = msgspec.structs.replace(asked, spec=msgspec.structs.replace(asked.spec, confinement=plan))
    with zygote() as wire, ends() as (control, _, _, theirs):
        wire.ask(asked, *theirs)
        born = wire.hear()
        shake = parse_handshake(control.makefile("rb").readline())
        assert shake.error is not None
        refused = from_wire(shake.error)
        assert isinstance(refused, PermissionRefused) and "is not started" in refused.message
        assert wire.hear() == Exited(born.pid, 3)
    assert not (tmp_path / "ran").exists()


def test_a_kernel_that_dies_before_it_has_heard_an_answer_ends_the_zygote(tmp_path: Path) -> None:
    with zygote() as wire, ends() as (control, *_, theirs):
        wire.ask(request(tmp_path), *theirs)
        assert control.recv(1), "a host was born, and the answer lies unread"
        wire.sock.close()  # which is a reset of the connection


@pytest.mark.skipif(MACHINE is None, reason="system calls are taken away on Linux, on x86_64 and aarch64")
def test_no_more_processes_is_an_answer(tmp_path: Path) -> None:
    asked = request(tmp_path)

    def work() -> Any:
        take_away("clone", "clone3", "fork", "vfork", number=EAGAIN)
        ours, theirs = socket.socketpair()
        with ours, theirs, ends() as (*_, given):
            wire = Wire(ours)
            wire.ask(asked, *given)
            ours.shutdown(socket.SHUT_WR)
            Zygote(theirs).serve()
            told = wire.hear()
            return [isinstance(told, SpawnFailed), told.id, told.reason]

    failed, number, reason = in_child(work)
    assert failed and number == 1 and "Resource temporarily unavailable" in reason
