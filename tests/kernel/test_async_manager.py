"""AsyncDriverManager: deadlines, answers instead of exceptions, and changes that are told."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from hosting import rig
from vfab.kernel.async_manager import AsyncDriverManager
from vfab.model.errors import ConnectError, Refused
from vfab.model.lifecycle import DriverState
from vfab.sdk.lifecycle import StateListeners

S = DriverState
PATIENCE_S = 20.0


class Device:
    """A device without a driver process: keeps a state, tells of changes, runs `operate` here."""

    id = "test:1"

    def __init__(self) -> None:
        self.state = S.READY
        self.listeners = StateListeners(self.id)
        self.add_state_listener = self.listeners.add
        self.error: Exception | None = None
        self.calls: list[tuple[Any, ...]] = []

    def become(self, state: S) -> None:
        old, self.state = self.state, state
        self.listeners.notify(old, state)

    async def connect(self) -> None:
        if self.error is not None:
            raise self.error
        self.become(S.CONNECTING)
        self.become(S.CONNECTED)

    async def disconnect(self) -> None:
        self.become(S.DISCONNECTED)

    async def operate(self, method: str, *args: Any, timeout_s: float = 30.0) -> Any:
        self.calls.append((method, args, timeout_s))
        if self.error is not None:
            raise self.error
        return sum(args)


def test_connecting_says_whether_it_worked() -> None:
    async def work() -> None:
        device = Device()
        manager = AsyncDriverManager(device)
        device.error = ConnectError("nobody there")
        assert await manager.connect_async() is False
        assert manager.last_error is device.error
        device.error = None
        assert await manager.connect_async() is True
        assert manager.last_error is None
        assert await manager.get_state_async() is S.CONNECTED
        assert await manager.disconnect_async() is True
        assert await manager.get_state_async() is S.DISCONNECTED

    asyncio.run(work())


def test_a_method_of_the_driver_runs_by_its_name_with_the_devices_own_deadline() -> None:
    async def work() -> None:
        device = Device()
        manager = AsyncDriverManager(device)
        assert await manager.execute_operation("add", 1, 2, timeout=3.0) == {"success": True, "result": 3}
        assert device.calls == [("add", (1, 2), 3.0)]
        device.error = Refused("off the page")
        assert await manager.execute_operation("add") == {"success": False, "error": device.error}

    asyncio.run(work())


def test_functions_of_the_callers_own_run_on_threads_or_as_they_are() -> None:
    async def work() -> None:
        manager = AsyncDriverManager(Device())
        here = threading.get_ident()

        async def on_loop(number: int) -> bool:
            return number == 5 and threading.get_ident() == here

        assert (await manager.execute_operation(on_loop, 5))["result"] is True
        assert (await manager.execute_operation(threading.get_ident))["result"] != here
        assert (await manager.execute_operation(int, "12"))["result"] == 12

        def stops() -> None:
            raise StopIteration

        for function, code in ((lambda: {}["x"], "driver_failed"), (stops, "driver_failed")):
            answer = await manager.execute_operation(function)
            assert (answer["success"], answer["error"].code) == (False, code)

    asyncio.run(work())


def test_what_takes_too_long_is_told_and_what_cannot_be_ended_counts() -> None:
    async def work() -> None:
        manager = AsyncDriverManager(Device(), max_blocking=1)

        async def hangs() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        ended = asyncio.Event()
        late = await manager.execute_operation(hangs, timeout=0.001)
        assert late["error"].code == "timeout"
        assert late["error"].context["timeout"] == 0.001
        assert late["error"].context["method"] == "hangs"
        assert ended.is_set()
        released = threading.Event()
        assert (await manager.execute_operation(released.wait, timeout=0.001))["error"].code == "timeout"
        refused = await manager.execute_operation(print)
        assert refused["error"].code == "device_busy"
        released.set()
        while manager._blocking:
            await asyncio.sleep(0)
        assert (await manager.execute_operation(abs, -1))["result"] == 1

    asyncio.run(work())


def test_a_function_that_outlives_its_loop_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    released, ended = threading.Event(), threading.Event()

    def function() -> None:
        assert released.wait(PATIENCE_S)
        ended.set()

    async def work() -> None:
        await AsyncDriverManager(Device()).execute_operation(function, timeout=0.001)

    asyncio.run(work())
    threads = [thread for thread in threading.enumerate() if thread.name == "vfab-operation"]
    released.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert ended.is_set()
    assert "after its event loop" in caplog.text


def test_cancelling_is_not_swallowed() -> None:
    async def work() -> None:
        manager = AsyncDriverManager(Device())
        task = asyncio.create_task(manager.execute_operation(asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())


def test_a_real_device_is_connected_operated_and_watched(tmp_path: Path) -> None:
    code = """
class D(BaseDriver):
    @command
    def add(self, a, b): return a + b
    @command
    def sleepy(self):
        while True:
            self.checkpoint()
            time.sleep(0.005)
"""

    async def work() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(code)
            manager = AsyncDriverManager(device)
            seen: list[S] = []
            monitor = asyncio.create_task(manager.monitor_device(seen.append))
            removed: list[S] = []

            def failing(old: S, new: S) -> None:
                removed.append(new)
                raise ValueError

            device.add_state_listener(failing)
            await asyncio.sleep(0)
            assert await manager.connect_async()
            device.remove_state_listener(failing)
            assert await manager.execute_operation("add", 1, 2) == {"success": True, "result": 3}
            late = await manager.execute_operation("sleepy", timeout=0.05)
            assert late["error"].code == "timeout"
            assert (await manager.execute_operation("add", 1, 2))["error"].code == "illegal_transition"
            assert await manager.disconnect_async()
            while S.DISCONNECTED not in seen:
                await asyncio.sleep(0)
            monitor.cancel()
            told = [S.INITIALIZING, S.READY, S.CONNECTING, S.CONNECTED]
            assert removed == told
            assert seen[:7] == [S.UNINITIALIZED, *told, S.BUSY, S.CONNECTED]
            assert S.ERROR in seen

    asyncio.run(work())


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_whoever_monitors_is_told_the_state_and_every_change_in_order(kind: str) -> None:
    async def work() -> None:
        device, seen = Device(), []
        manager = AsyncDriverManager(device)

        def plain(state: S) -> None:
            seen.append(state)
            if state is S.CONNECTING:
                raise ValueError

        async def slow(state: S) -> None:
            await asyncio.sleep(0)
            plain(state)

        task = asyncio.create_task(manager.monitor_device(plain if kind == "plain" else slow))
        await asyncio.sleep(0)
        await manager.connect_async()
        await manager.disconnect_async()
        while len(seen) < 4:
            await asyncio.sleep(0)
        assert seen == [S.READY, S.CONNECTING, S.CONNECTED, S.DISCONNECTED]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(device.listeners) == 0

    asyncio.run(work())
