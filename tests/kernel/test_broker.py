"""The broker: who is given which link, and what becomes of links when hosts and devices die."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from hosting import alive, descriptors, rig
from vfab.kernel.broker import Broker, LinkKeeper
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DeviceBusy,
    DeviceNotFound,
    DriverFailed,
    HostDied,
    LinkLost,
    PermissionRefused,
    TimeoutExceeded,
)
from vfab.model.lifecycle import DriverState
from vfab.model.manifest import manifest_from_dict
from vfab.sdk.link import open_address
from vfab.sdk.testing import patience

S = DriverState

LINKED = """
class D(BaseDriver):
    link = None
    def connect(self):
        self.link = self.open_link(**self.config)
        self.link.write(b"hello\\n")
    def disconnect(self):
        if self.link is not None:
            self.link.write(b"safe\\n")
            self.close_link(self.link)
            self.link = None
    @command
    def ask(self, text):
        self.link.write(text.encode() + b"\\n")
        return self.link.read_until(timeout_s=5).decode()
    @command
    def wait(self): return self.link.read(timeout_s=None)
    @command
    def open(self, address, **settings):
        link = self.open_link(address, **settings)
        link.write(b"opened\\n")
        return link.fileno()
    @command(concurrent=True)
    def open_beside(self, address): return self.open_link(address).fileno()
    @command
    async def aopen(self, address): return self.open_link(address).fileno()
    @command
    def shut(self, address): self.environment.ports.close_link(address)
    @command
    def ask_kernel(self, method, *args): return self.environment.ports._loop.request(method, *args)
    @command
    def hang(self):
        while True: time.sleep(1)
"""


class Pty:
    """A device on a pseudo-terminal: what came, and whether everybody hung up."""

    def __init__(self) -> None:
        import tty

        self.master, slave = pty.openpty()
        tty.setraw(self.master)
        self.path = os.ttyname(slave)
        os.close(slave)
        self.came = b""

    def hung_up(self) -> bool:
        poller = select.poll()
        poller.register(self.master, select.POLLIN)
        return any(mask & select.POLLHUP for _, mask in poller.poll(0))

    def read(self) -> bytes:
        poller = select.poll()
        poller.register(self.master, select.POLLIN)
        while any(mask & select.POLLIN for _, mask in poller.poll(0)):
            try:
                self.came += os.read(self.master, 65536)
            except OSError:
                break
        return self.came

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(patience(20.0)):
            while not self.read().endswith(end):
                await asyncio.sleep(0.005)
        return self.came

    def close(self) -> None:
        os.close(self.master)


def test_a_link_outlives_the_host_and_the_next_one_takes_it_over(tmp_path: Path) -> None:
    async def main() -> None:
        device_end = Pty()
        async with rig(tmp_path) as r:
            device = r.adopt(LINKED, address=device_end.path, safe_stop=["STOP\\r"])
            await device.connect()
            await device_end.until(b"hello\n")
            pid = device.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await r.until(lambda: device.pid not in {None, pid} and device.state is S.CONNECTED)
            assert not device_end.hung_up()
            assert await device_end.until(b"hello\n") == b"hello\nSTOP\rhello\n"
            os.write(device_end.master, b"answer\n")
            assert await device.call("ask", "what") == "answer\n"
            assert r.of("safe_stop")[0].data == {"links": [device_end.path]}
            await device.disconnect()
            await device_end.until(b"safe\n")
            assert device_end.hung_up(), "a device that is disconnected is let go"
            await device.connect()
            assert not device_end.hung_up()
            await device.close()
            assert device_end.hung_up()
            assert device_end.read().count(b"STOP\r") == 1
        device_end.close()

    asyncio.run(main())


def test_a_connection_that_a_driver_left_in_the_middle_of_a_conversation_is_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
            async with rig(tmp_path) as r:
                device = r.adopt(LINKED, address=address, safe_stop=["STOP\\r"])
                await device.connect()
                first, _ = server.accept()
                pid = device.pid
                assert pid is not None
                first.sendall(b"half of an ans")
                os.kill(pid, signal.SIGKILL)
                await r.until(lambda: device.pid not in {None, pid} and device.state is S.CONNECTED)
                with first, first.makefile("rb") as heard:
                    assert heard.read() == b"hello\nSTOP\r", "it was made safe, then left"
                second, _ = server.accept()
                with second:
                    second.sendall(b"answer\n")
                    assert await device.call("ask", "what") == "answer\n"
                await device.close()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["killed while disconnecting", "deaf in connect", "deaf while closing", "in error"])
def test_a_driver_that_did_not_leave_its_device_safe_is_replaced_by_the_safe_stop(tmp_path: Path, how: str) -> None:
    source = LINKED.replace('self.link.write(b"safe\\n")', "Path('bar').exists() or self.hang()")
    if how == "deaf in connect":
        source = source.replace('self.link.write(b"hello\\n")', 'self.link.write(b"hello\\n"); self.hang()')

    async def main() -> None:
        device_end = Pty()
        async with rig(tmp_path) as r:
            device = r.adopt(source, address=device_end.path, safe_stop=["STOP\\r"], runtime={"connect_timeout_s": 0.3})
            if how == "deaf in connect":
                with pytest.raises(TimeoutExceeded):
                    await device.connect()
            else:
                await device.connect()
            if how == "killed while disconnecting":
                leaving = asyncio.create_task(device.disconnect())
                await r.until_state(device, S.DISCONNECTING)
                assert device.pid is not None
                os.kill(device.pid, signal.SIGKILL)
                await leaving
            elif how == "deaf while closing":
                await device.close()
            elif how == "in error":
                with pytest.raises(TimeoutExceeded):
                    await device.operate("hang", timeout_s=0.05)
                await r.until(lambda: not device.life.host_alive)
            assert (await device_end.until(b"STOP\r")).count(b"STOP\r") == 1
            if how in {"in error", "deaf in connect"}:
                await r.until(lambda: not device.life.host_alive)
                await device.disconnect()
            await r.until(device_end.hung_up)
        device_end.close()

    asyncio.run(main())


def test_a_device_that_takes_no_bytes_does_not_keep_the_kernel(tmp_path: Path) -> None:
    """The safe stop waits half a second for it, in a thread; the device then counts as lost."""

    async def main() -> None:
        here, device_end = socket.socketpair()
        here.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                here.send(b"x" * 65536)
        fd = here.detach()
        manifest = manifest_from_dict(
            {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "d.D", "safe_stop": ["!"]}
        )
        keeper = Broker(lambda address: fd).keeper(DeviceInfo(id="d", bus="t", address="/a"), manifest)
        ours, theirs = socket.socketpair()
        await keeper.hand_over("/a", {}, ours)
        ticks = 0
        task = asyncio.create_task(keeper.safe_stop())
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.01)
        assert task.result() == []
        assert ticks > 10
        assert keeper.addresses == ()
        ours.close()
        theirs.close()
        device_end.close()

    asyncio.run(main())


def test_the_manifest_says_what_else_may_be_opened(tmp_path: Path) -> None:
    async def main() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        here = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        other = Pty()
        async with rig(tmp_path) as r:
            device = r.adopt(LINKED, address="/dev/null", permissions={"connect": ["tcp://127.0.0.0/8"]})
            await device.connect()
            with pytest.raises(PermissionRefused, match="may not open") as told:
                await device.call("open", other.path)
            assert other.path in told.value.remedy
            await device.call("open", here)
            peer, _ = server.accept()
            assert peer.recv(100) == b"opened\n"
            await device.call("open_beside", here)
            await device.call("aopen", here)
            await device.call("shut", here)
            peer.close()
            await device.call("open", here)
            again, _ = server.accept()
            again.close()
            for settings in ({"colour": 1}, {"baudrate": "fast"}, {"baudrate": 0}, {"baudrate": True}):
                with pytest.raises(ConfigurationError):
                    await device.call("open", here, **settings)
            for request in (["open_link"], ["close_link"], ["nonsense"], ["open_link", "/dev/null", 7]):
                with pytest.raises(DriverFailed):
                    await device.call("ask_kernel", *request)
            server.close()
        other.close()

    asyncio.run(main())


def test_a_port_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        busy = Pty()
        holder = open_address(busy.path)
        closed = socket.create_server(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        closed.close()
        for where, kind in (
            (str(tmp_path / "nothing"), DeviceNotFound),
            (busy.path, DeviceBusy),
            (address, ConnectError),
            (str(tmp_path), ConnectError),
        ):
            async with rig(tmp_path / where.replace("/", "_")) as r:
                device = r.adopt(LINKED, address=where)
                with pytest.raises(kind):
                    await device.connect()
                assert device.state is S.ERROR
        os.close(holder)
        busy.close()

    asyncio.run(main())


def test_an_unplugged_device_is_told_and_found_again_after_a_reset(tmp_path: Path) -> None:
    async def main() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        async with rig(tmp_path) as r:
            device = r.adopt(LINKED, address=f"tcp://127.0.0.1:{server.getsockname()[1]}")
            await device.connect()
            peer, _ = server.accept()
            task = asyncio.create_task(device.operate("wait"))
            await r.until_state(device, S.BUSY)
            peer.close()
            with pytest.raises(LinkLost):
                await task
            assert device.state is S.ERROR
            await device.reset()
            await device.disconnect()
            await device.connect()
            peer, _ = server.accept()
            assert peer.recv(6) == b"hello\n"
            peer.close()
        server.close()

    asyncio.run(main())


class SlowOpener:
    """Opens /dev/null when told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.opened: list[int] = []

    def __call__(self, address: str, **settings: Any) -> int:
        self.go.wait(10)
        self.opened.append(os.open("/dev/null", os.O_RDWR))
        return self.opened[-1]


def keeper_with(opener: Any) -> LinkKeeper:
    manifest = manifest_from_dict(
        {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "d.D"}
    )
    return Broker(opener).keeper(DeviceInfo(id="d", bus="t", address="/a"), manifest)


def test_a_patience_without_end_is_refused() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(ConfigurationError, match="timeout_s cannot be"):
            await keeper_with(SlowOpener()).hand_over("/a", {"timeout_s": 1e9}, ours)

    asyncio.run(main())


def test_two_that_ask_at_once_get_the_same_link(tmp_path: Path) -> None:
    async def main() -> None:
        opener = SlowOpener()
        keeper = keeper_with(opener)
        ours, theirs = socket.socketpair()
        both = asyncio.gather(keeper.hand_over("/a", {}, ours), keeper.hand_over("/a", {}, ours))
        await asyncio.sleep(0)
        opener.go.set()
        assert sorted(await both) == [1, 2]
        assert len(opener.opened) == 1
        keeper.close()
        ours.close()
        theirs.close()

    asyncio.run(main())


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_opened_when_nobody_waits_any_more_is_kept_or_closed_but_never_lost(closed: bool) -> None:
    async def main() -> None:
        opener = SlowOpener()
        keeper = keeper_with(opener)
        ours, theirs = socket.socketpair()
        before = descriptors()
        task = asyncio.create_task(keeper.hand_over("/a", {}, ours))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if closed:
            keeper.close()
        opener.go.set()
        async with asyncio.timeout(10):
            while not opener.opened or (not keeper.addresses and not closed):
                await asyncio.sleep(0.005)
            while closed and descriptors() > before:
                await asyncio.sleep(0.005)
        assert keeper.addresses == (() if closed else ("/a",))
        keeper.close("/a")
        keeper.close("/a")
        assert descriptors() == before
        ours.close()
        theirs.close()

    asyncio.run(main())


def test_a_host_that_is_gone_or_takes_nothing_gets_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        keeper = keeper_with(lambda address: os.open("/dev/null", os.O_RDWR))
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with pytest.raises(DriverFailed, match="does not take them"):
            while True:
                await keeper.hand_over("/a", {}, ours)
        theirs.close()
        with pytest.raises(HostDied):
            await keeper.hand_over("/a", {}, ours)
        keeper.close()
        ours.close()

    asyncio.run(main())


def test_a_host_that_dies_while_its_link_is_opened_does_not_lock_the_port(tmp_path: Path) -> None:
    async def main() -> None:
        device_end = Pty()
        go = threading.Event()

        def slow(address: str, **settings: Any) -> int:
            go.wait(10)
            return open_address(address, **settings)

        async with rig(tmp_path, broker=Broker(slow)) as r:
            device = r.adopt(LINKED, address=device_end.path)
            await device.initialize()
            connecting = asyncio.create_task(device.connect())
            await r.until_state(device, S.CONNECTING)
            await asyncio.sleep(0.05)
            pid = device.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(HostDied):
                await connecting
            go.set()
            await r.until(lambda: device.pid not in {None, pid} and device.state is S.CONNECTED)
            assert not alive(pid)
            await device.close()
            os.close(open_address(device_end.path))
        device_end.close()

    asyncio.run(main())


def test_a_cancelled_open_ends_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        go = threading.Event()

        def never(address: str, **settings: Any) -> int:
            go.wait(20)
            return os.open("/dev/null", os.O_RDWR)

        async with rig(tmp_path, broker=Broker(never)) as r:
            device = r.adopt(LINKED, runtime={"connect_timeout_s": 0.2})
            await device.initialize()
            pid = device.pid
            with pytest.raises(TimeoutExceeded):
                await device.connect()
            assert device.pid == pid
            go.set()

    asyncio.run(main())


def test_a_channel_may_open_links_too(tmp_path: Path) -> None:
    """The thread that leads a channel must not take the main connection's reader for its own."""

    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(LINKED)
            await device.initialize()
            with await device.open_channel() as channel:
                for _ in range(5):
                    assert await asyncio.to_thread(channel.call, "open", "/dev/null") >= 0
                    assert await device.call("open", "/dev/null") >= 0
                    burst = [device.call("open_beside", "/dev/null") for _ in range(10)]
                    assert min(await asyncio.gather(*burst)) >= 0

    asyncio.run(main())


def test_the_node_of_a_device_that_is_addressed_in_sysfs_is_its_own(tmp_path: Path) -> None:
    opened: list[str] = []

    def opener(address: str) -> int:
        opened.append(address)
        return os.open("/dev/null", os.O_RDWR)

    async def main() -> None:
        manifest = manifest_from_dict(
            {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "d.D"}
        )
        device = DeviceInfo(id="iio:adc", bus="iio", address="/sys/bus/iio/devices/iio:device0")
        keeper = Broker(opener).keeper(device, manifest)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            await keeper.hand_over("/dev/iio:device0", {}, ours)
            for other in ("/dev/iio:device1", "/sys/bus/iio/devices/iio:device1", "/dev/mem"):
                with pytest.raises(PermissionRefused):
                    await keeper.hand_over(other, {}, ours)
            _, descriptors, _, _ = socket.recv_fds(theirs, 8, 1)
            for fd in descriptors:
                os.close(fd)
        keeper.close()

    asyncio.run(main())
    assert opened == ["/dev/iio:device0"]
