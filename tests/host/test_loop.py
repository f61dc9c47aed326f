"""The host's parts in the test's own process: the call loop on a socket pair, the flood gate, the turns."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.host import system
from vfab.host.failures import error_fields, to_driver_error
from vfab.host.flood import FloodGate
from vfab.host.main import HostPorts, WireLogHandler, run_host
from vfab.host.rpc import CallLoop, Method
from vfab.host.turns import Turns
from vfab.model.devices import DeviceInfo
from vfab.model.errors import Cancelled, DriverError, HostDied, LinkLost, Refused
from vfab.model.manifest import manifest_from_dict
from vfab.protocols.hostwire import Call, Cancel, Event, Failure, Log, Reply
from vfab.protocols.zygotewire import HostSpec
from vfab.sdk.transport import FrameReader, FrameWriter


@contextmanager
def serving(**methods: Any) -> Iterator[tuple[CallLoop, FrameReader, FrameWriter, socket.socket]]:
    ours, theirs = socket.socketpair()
    table = {name: Method(function, name.startswith("c_")) for name, function in methods.items()}
    loop = CallLoop(FrameReader(ours), FrameWriter(ours), table, "d")
    thread = threading.Thread(target=loop.serve)
    thread.start()
    try:
        yield loop, FrameReader(theirs), FrameWriter(theirs), theirs
    finally:
        theirs.close()
        thread.join(10)
        assert not thread.is_alive()
        ours.close()


def test_rubbish_from_the_kernel_ends_the_loop() -> None:
    with serving() as (_, _, _, peer):
        peer.sendall(b"\xff" * 16)


def test_a_loop_can_be_stopped_and_what_runs_is_cancelled() -> None:
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        from vfab.sdk.cancel import current_token

        token = current_token.get()
        assert token is not None
        began.set()
        while not token.cancelled:
            ended.wait(0.001)
        ended.set()

    with serving(work=work) as (loop, _, writer, _):
        writer.write(Call(1, "work"))
        assert began.wait(10)
        loop.stop()
        assert ended.wait(10)


def test_cancels_of_strangers_and_answers_nobody_waits_for_change_nothing() -> None:
    with serving(ok=lambda: 1) as (_, reader, writer, _):
        for message in (Cancel(5), Reply(6), Failure(7, {}), Event("e", {}, 0.0), Call(1, "ok")):
            writer.write(message)
        assert reader.read() == Reply(1, 1)


def test_a_call_cancelled_before_its_turn_is_answered_before_the_one_that_runs() -> None:
    go = threading.Event()
    ran: list[int] = []
    with serving(wait=go.wait, mark=lambda: ran.append(1)) as (_, reader, writer, _):
        writer.write(Call(1, "wait", [10]))
        writer.write(Call(2, "mark"))
        writer.write(Cancel(2))
        first = reader.read()
        assert isinstance(first, Failure)
        assert (first.id, first.error["code"]) == (2, Cancelled.code)
        go.set()
        assert reader.read() == Reply(1, True)
        writer.write(Call(3, "c_none"))
        assert isinstance(reader.read(), Failure)
        assert ran == []


def test_a_request_ends_when_the_kernel_is_gone_or_does_not_answer() -> None:
    with serving() as (loop, reader, _, peer):
        with pytest.raises(HostDied):
            loop.request("open_link", timeout_s=0.01)
        assert isinstance(reader.read(), Call)

        def ask() -> None:
            with pytest.raises(HostDied):
                loop.request("x", timeout_s=60)

        asking = threading.Thread(target=ask)
        asking.start()
        assert isinstance(reader.read(), Call)
        peer.shutdown(socket.SHUT_RDWR)
        asking.join(10)
        assert not asking.is_alive()
        with pytest.raises(HostDied):
            loop.request("open_link")
        loop.emit("e", {})
        loop.log(Log(10, "l", "m", 0.0))
        loop.progress({})


def test_what_is_said_before_the_handshake_waits_and_is_bounded() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop = CallLoop(FrameReader(ours), FrameWriter(ours), {}, "d")
        with pytest.raises(Refused, match="while the driver is constructed"):
            loop.request("open_link")
        for number in range(1200):
            loop.log(Log(10, "l", str(number), 0.0))
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        theirs.setblocking(True)
        drain = threading.Thread(target=loop.say_early)
        drain.start()
        reader = FrameReader(theirs)
        messages = [reader.read() for _ in range(1000)]
        assert [m.message for m in messages if isinstance(m, Log)] == [str(n) for n in range(1000)]
        drain.join()
        loop.say_early()


def test_a_descriptor_that_does_not_come_is_a_lost_link() -> None:
    links, kernel = socket.socketpair()
    ours, theirs = socket.socketpair()
    with links, ours, theirs:
        ports = HostPorts(CallLoop(FrameReader(ours), FrameWriter(ours), {}, "d"), links)
        first, second = os.pipe()
        socket.send_fds(kernel, [(2).to_bytes(8, "little")], [first])
        socket.send_fds(kernel, [(1).to_bytes(8, "little")], [second])
        got = ports.receive(1), ports.receive(2)
        assert not any(os.get_inheritable(fd) for fd in got), "programs that a driver starts must not get its links"
        kernel.close()
        with pytest.raises(LinkLost):
            ports.receive(3)
        for fd in (first, second, *got):
            os.close(fd)


def test_a_flood_gate_counts_what_it_holds_back() -> None:
    now = 0.0
    gate = FloodGate(2, lambda: now)
    assert [gate.passes() for _ in range(5)] == [True, True, False, False, False]
    assert gate.take_dropped() == 0, "nothing may pass yet, so nothing is told"
    now = 1.0
    assert gate.take_dropped() == 3
    assert gate.take_dropped() == 0
    assert gate.passes()


def test_log_records_are_cut_off_and_the_loss_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop = CallLoop(FrameReader(ours), FrameWriter(ours), {}, "d")
        handler = WireLogHandler(loop)
        now = 0.0
        handler._gate = FloodGate(1, lambda: now)
        for text in ("first", "second", "third"):
            handler.emit(logging.LogRecord("l", 20, "", 1, text, (), None))
        now = 1.0
        handler.emit(logging.LogRecord("l", 20, "", 1, "fourth", (), None))
        loop.say_early()
        reader = FrameReader(theirs)
        told = [message.message for _ in range(3) if isinstance(message := reader.read(), Log)]
        assert told == ["first", "2 log records dropped: too many", "fourth"]


def test_turns_can_be_waited_for() -> None:
    turns = Turns()
    assert turns.wait_idle(0)

    class Work:
        def __init__(self) -> None:
            self.ran = threading.Event()

        def run(self) -> None:
            self.ran.set()

    assert turns.take(Work(), at_once=True)
    later = Work()
    assert not turns.take(later, at_once=True)
    assert not turns.wait_idle(0.01)
    turns.done()
    assert later.ran.wait(10)
    assert turns.wait_idle(10)
    slow = Work()
    assert not turns.take(slow, at_once=False)
    assert slow.ran.wait(10)


def test_an_error_of_any_kind_can_be_told() -> None:
    class Bad(Exception):
        __traceback__ = None

        def __str__(self) -> str:
            raise RuntimeError

    class BadRepr:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "without text" in to_driver_error(Bad(), "d", "m").message
    fields = error_fields(DriverError("m", context={"x": BadRepr(), "y": "z" * 100_000}))
    assert fields["context"]["x"] == "<BadRepr>"
    assert len(fields["context"]["y"]) == 1000


def test_elsewhere_the_system_does_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.name_process("pytest-vfab")
    monkeypatch.setattr(system, "_libc", None)
    assert not system.name_process("x")
    assert not system.die_with_parent(1)


def test_a_process_whose_parent_is_gone_ends_at_once() -> None:
    code = "from vfab.host.system import die_with_parent; die_with_parent(999999999); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout == b""


RUN = """
import socket, sys
sys.path[:0] = {paths!r}
import msgspec
from vfab.host.main import run_host
from vfab.protocols.zygotewire import HostSpec
spec = msgspec.json.decode({spec!r}, type=HostSpec)
sys.exit(run_host(spec, socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2]))))
"""

LEAVING = """
from vfab.sdk import BaseDriver
class D(BaseDriver):
    async def disconnect(self):
        print("left safe" if self.device.id == "good" else 1 / 0, flush=True)
"""


@pytest.mark.parametrize(("name", "said"), [("good", b"left safe"), ("bad", b"leaving the device safe failed")])
def test_the_last_thing_a_host_does_is_to_leave_its_device_safe(tmp_path: Path, name: str, said: bytes) -> None:
    import msgspec

    (tmp_path / "driver.py").write_text(LEAVING)
    manifest = manifest_from_dict(
        {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "driver.D"}
    )
    spec = HostSpec(folder=str(tmp_path), manifest=manifest, device=DeviceInfo(id=name, bus="b", address="/dev/null"))
    control, control_child = socket.socketpair()
    links, links_child = socket.socketpair()
    source = RUN.format(paths=sys.path, spec=msgspec.json.encode(spec))
    ends = [control_child.fileno(), links_child.fileno()]
    command = [sys.executable, "-c", source, *map(str, ends)]
    with control, links, control_child, links_child:
        host = subprocess.Popen(command, pass_fds=ends, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        control_child.close()
        assert FrameReader(control).read_line().startswith(b"vfab-host 1 ")
        control.close()
        out, _ = host.communicate(timeout=60)
    assert host.returncode == 0
    assert said in out


def test_a_host_nobody_listens_to_ends_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(LEAVING)
    manifest = manifest_from_dict(
        {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "driver.Nothing"}
    )
    spec = HostSpec(folder=str(tmp_path), manifest=manifest, device=DeviceInfo(id="d", bus="b", address="/dev/null"))
    control, gone = socket.socketpair()
    links, other = socket.socketpair()
    gone.close()
    handlers, path = logging.getLogger().handlers[:], sys.path[:]
    try:
        with control, links, other, pytest.raises(SystemExit) as ended:
            run_host(spec, control, links)
    finally:
        logging.getLogger().handlers[:], sys.path[:] = handlers, path
        logging.captureWarnings(False)
        for module in [name for name in sys.modules if name.startswith("vfab_plugin_m")]:
            del sys.modules[module]
    assert ended.value.code == 0
