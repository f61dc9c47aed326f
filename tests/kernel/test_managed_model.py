"""ManagedDevice against the lifecycle's rules, under any order of requests and deaths (hypothesis)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vfab.kernel.managed import ManagedDevice
from vfab.kernel.spawner import HostProcess
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.errors import Cancelled, DriverError, HardwareError
from vfab.model.lifecycle import DriverState, RestartPolicy
from vfab.model.manifest import manifest_from_dict
from vfab.protocols.hostwire import Call, Cancel, Decoder, Failure, Handshake, Message, Reply, encode, handshake_line
from vfab.protocols.zygotewire import HostSpec

S = DriverState
MANIFEST = manifest_from_dict(
    {
        "name": "m",
        "version": "1",
        "author": "a",
        "description": "d",
        "driver_class": "d.D",
        "runtime": {"connect_timeout_s": 0.2, "initialize_timeout_s": 0.2, "start_timeout_s": 1.0},
    }
)


class FakeHost(HostProcess):
    """A host that lives in the test's own event loop and does what the spawner's script says."""

    def __init__(self, pid: int, spawner: FakeSpawner) -> None:
        control, theirs = socket.socketpair()
        links, self._links_end = socket.socketpair()
        log, self._log_end = os.pipe()
        super().__init__(pid, control, links, log)
        self._theirs = theirs
        self._theirs.setblocking(False)
        self._spawner = spawner
        self._held: list[int] = []
        self._life = asyncio.create_task(self._live())

    async def _live(self) -> None:
        loop, decoder = asyncio.get_running_loop(), Decoder()
        try:
            await loop.sock_sendall(self._theirs, handshake_line(Handshake(driver="m")))
            while data := await loop.sock_recv(self._theirs, 65536):
                for message in decoder.receive(data):
                    await self._answer(message)
        except OSError:
            pass
        self.die(0)

    async def _answer(self, message: Message) -> None:
        answer: Message
        if isinstance(message, Cancel):
            if message.id not in self._held:
                return
            self._held.remove(message.id)
            answer = Failure(message.id, Cancelled("cancelled").to_wire())
        else:
            assert isinstance(message, Call)
            how = self._spawner.script.pop(0) if self._spawner.script else "ok"
            if how == "hang":
                self._held.append(message.id)
                return
            if how == "die":
                self.die(-signal.SIGSEGV)
                raise OSError
            fails = how == "fail"
            answer = Failure(message.id, HardwareError("no").to_wire()) if fails else Reply(message.id)
        for buffer in encode(answer):
            await asyncio.get_running_loop().sock_sendall(self._theirs, bytes(buffer))

    def die(self, status: int) -> None:
        """End, however it came to that."""
        if self.exited.done():
            return
        self._spawner.alive.discard(self)
        for sock in (self._theirs, self._links_end):
            sock.close()
        os.close(self._log_end)
        self.ended(status)

    def kill(self) -> None:
        if not self.exited.done():
            self._life.cancel()
            self.die(-signal.SIGKILL)


class FakeSpawner:
    """Implements the Spawner port. `script` says what becomes of each call, in order: ok, fail, hang, die."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.alive: set[FakeHost] = set()
        self.count = 0
        self.refuse = False

    async def spawn(self, spec: HostSpec) -> HostProcess:
        await asyncio.sleep(0)
        if self.refuse:
            self.refuse = False
            raise HardwareError("no process could be started")
        self.count += 1
        host = FakeHost(1_000_000_000 + self.count, self)
        self.alive.add(host)
        assert len(self.alive) == 1, "two hosts for one device"
        return host

    async def close(self) -> None:
        for host in list(self.alive):
            host.kill()


REQUESTS = ["initialize", "connect", "disconnect", "reset", "close", "operate"]
STEP = st.tuples(
    st.sampled_from([*REQUESTS, "kill", "refuse", "wait", "turn"]),
    st.lists(st.sampled_from(["ok", "ok", "ok", "fail", "hang", "die"]), max_size=3),
    st.booleans(),
)


async def quietly(work: Any) -> None:
    with contextlib.suppress(DriverError):
        await work


@settings(deadline=None, max_examples=120)
@given(st.lists(STEP, max_size=12))
@example([("initialize", [], True), ("kill", [], False)])
def test_whatever_happens_in_whatever_order_nothing_hangs_and_nothing_is_left(steps: list[Any]) -> None:
    async def main() -> None:
        spawner = FakeSpawner()
        policy = RestartPolicy(first_s=0.002, longest_s=0.005, max_attempts=3)
        supervisor = Supervisor(spawner, policy=policy)
        device = supervisor.adopt(DeviceInfo(id="d", bus="t", address="/dev/null"), MANIFEST, Path("/"))
        pending: list[asyncio.Task[None]] = []
        for action, script, wait in steps:
            spawner.script[:] = script
            if action == "kill":
                for host in list(spawner.alive):
                    host.kill()
            elif action == "refuse":
                spawner.refuse = True
            elif action == "wait":
                await asyncio.sleep(0.004)
            elif action == "turn":
                await asyncio.sleep(0)
            else:
                work = device.operate("work", timeout_s=0.2) if action == "operate" else getattr(device, action)()
                pending.append(asyncio.create_task(quietly(work)))
                if wait:
                    await asyncio.wait(pending[-1:], timeout=5)
        spawner.script.clear()
        await asyncio.wait_for(settle(device, pending), 20)
        assert device.life.host_alive == bool(spawner.alive)
        await asyncio.wait_for(supervisor.close(), 20)
        assert device.state is S.SHUTDOWN
        assert not spawner.alive
        assert not device._tasks
        assert not device._operations
        assert not device._waiters

    asyncio.run(main())


async def settle(device: ManagedDevice, pending: list[asyncio.Task[None]]) -> None:
    """Until every request has ended and the device rests."""
    await asyncio.gather(*pending)
    moving = {S.INITIALIZING, S.CONNECTING, S.DISCONNECTING, S.SHUTTING_DOWN}
    while device.state in moving or (device.state is S.ERROR and device.life.wanted) or ending(device):
        await device._next_change()


def ending(device: ManagedDevice) -> bool:
    """A host that is about to die, or has died, and nobody was told yet."""
    process, connection = device._process, device._connection
    return process is not None and (process.exited.done() or connection is None or connection.closed)
