"""Checks of a driver's life: start, connect, twice and again, reset, kill, close."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable

import psutil

from vfab.apps.contract.bench import ContractBench, Pace, bring_up
from vfab.apps.contract.expect import answer_of, must_be_error, must_be_usable, must_work
from vfab.apps.contract.model import Broken, Skip
from vfab.kernel.managed import ManagedDevice
from vfab.model.lifecycle import DriverState

__all__ = [
    "close_twice",
    "connect_twice",
    "connects",
    "host_killed",
    "nothing_left",
    "reconnect",
    "reset",
    "safe_stop",
    "starts",
    "test_connection",
]

_GONE_S = 10.0


async def starts(bench: ContractBench) -> str:
    """Starts in a process of its own and initialises; also learns what the driver offers."""
    async with bench.managed() as managed:
        await managed.initialize()
        if managed.state is not DriverState.READY:
            raise Broken(f"after initialize the state is {managed.state.value}")
        if managed.handshake is not None:
            bench.methods = frozenset(managed.handshake.methods)
        return f"process {managed.pid}"


async def connects(bench: ContractBench) -> str:
    """Connected, by the state and by the driver."""
    async with bench.connected() as managed:
        if managed.state is not DriverState.CONNECTED:
            raise Broken(f"after connect the state is {managed.state.value}")
        if not await managed.call("is_connected"):
            raise Broken("connect succeeded and is_connected says no")
    return ""


async def test_connection(bench: ContractBench) -> str:
    """The driver says that its device works."""
    async with bench.connected() as managed:
        return await must_work(managed)


async def connect_twice(bench: ContractBench) -> str:
    """Of the kernel it is nothing new; of the driver itself it succeeds or is refused, and harms nothing."""
    async with bench.connected() as managed:
        pid = managed.pid
        await managed.connect()
        if managed.state is not DriverState.CONNECTED or managed.pid != pid:
            raise Broken("a second connect disturbed the first")
        timeout_s = bench.manifest.runtime.connect_timeout_s
        answer = await answer_of(bench, managed.call("connect", timeout_s=timeout_s), "connect, connected already")
        if answer.error is not None:
            must_be_error(bench, answer, "connect, connected already")
        await must_be_usable(bench, managed, "a second connect")
    return ""


async def close_twice(bench: ContractBench) -> str:
    """Disconnect and close, each twice, of the kernel and of the driver itself."""
    async with bench.connected() as managed:
        await managed.disconnect()
        if managed.state is not DriverState.DISCONNECTED:
            raise Broken(f"after disconnect the state is {managed.state.value}")
        await managed.disconnect()
        answer = await answer_of(bench, managed.call("disconnect", timeout_s=30.0), "disconnect, disconnected already")
        if answer.error is not None:
            raise Broken(f"a second disconnect of the driver: {answer.error.code}: {answer.error.message}")
        await managed.close()
        await managed.close()
        _is_shut_down(managed)
    return ""


def _is_shut_down(managed: ManagedDevice) -> None:
    """Raises Broken: it is not, or its process lives."""
    if managed.state is not DriverState.SHUTDOWN or managed.pid is not None:
        raise Broken(f"after close the state is {managed.state.value}, process {managed.pid}")


async def reset(bench: ContractBench) -> str:
    """Reset, and used again."""
    async with bench.connected() as managed:
        await managed.reset()
        if managed.state is not DriverState.CONNECTED:
            await managed.connect()
        return await must_work(managed)


async def reconnect(bench: ContractBench) -> str:
    """Disconnected and connected in one process."""
    async with bench.connected() as managed:
        pid = managed.pid
        for _ in range(3):
            await managed.disconnect()
            if await managed.call("is_connected"):
                raise Broken("is_connected says yes after disconnect")
            await managed.connect()
            await must_work(managed)
        if managed.pid != pid:
            raise Broken("it needed another process")
    return "three times in one process"


async def host_killed(bench: ContractBench) -> str:
    """SIGKILL to its process: the kernel starts another, and the device works again."""
    async with bench.connected() as managed:
        began = time.monotonic()
        await kill_host(managed)
        await bring_up(managed)
        await must_work(managed)
        return f"again after {time.monotonic() - began:.2f} s"


async def safe_stop(bench: ContractBench) -> str:
    """SIGKILL to its process: what the manifest says is sent on the link."""
    data = bench.manifest.safe_stop_bytes()
    if not data:
        raise Skip("its manifest has no safe_stop")
    async with bench.proxied(Pace.USUAL) as (managed, proxy):
        await managed.connect()
        proxy.forget()
        await kill_host(managed)
        if not await asyncio.to_thread(proxy.wait_heard, data, timeout_s=_GONE_S):
            raise Broken(f"{data!r} did not reach the device; it got {proxy.recorded[:200]!r}")
    return f"{data!r}"


async def nothing_left(bench: ContractBench) -> str:
    """Close ends the process, and every program that it started."""
    async with bench.connected() as managed:
        await must_work(managed)
        pid = managed.pid
        if pid is None:
            raise Broken("there is no process")
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        await managed.close()
        left = await _still_there(family)
        if left:
            raise Broken(f"processes were left: {', '.join(f'{each.pid} {each.name()}' for each in left)}")
    return "" if len(family) == 1 else f"{len(family)} processes ended"


async def kill_host(managed: ManagedDevice) -> None:
    """Kill the driver's process, and wait until the kernel knows. Raises Broken: there is none."""
    pid = managed.pid
    if pid is None:
        raise Broken("there is no process to kill")
    told = asyncio.Event()
    remove = managed.add_state_listener(lambda old, new: told.set())
    try:
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(_GONE_S):
            await told.wait()
    except TimeoutError:
        raise Broken(f"the end of process {pid} was not seen") from None
    finally:
        remove()


async def _still_there(family: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Which processes still run after a while; one that has ended and waits to be collected does not."""
    _, left = await asyncio.to_thread(psutil.wait_procs, list(family), _GONE_S)
    return [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
