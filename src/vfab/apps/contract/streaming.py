"""Checks of drivers that stream: stopped, disconnected and unplugged while they do."""

from __future__ import annotations

import asyncio

import psutil

from vfab.apps.contract.bench import ContractBench, Operation, Pace
from vfab.apps.contract.expect import answer_of, must_be_error, must_be_usable, must_work
from vfab.apps.contract.model import Broken, Skip
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import ConfigurationError
from vfab.model.lifecycle import DriverState

__all__ = ["disconnect_streaming", "peer_gone_streaming", "stop_streaming", "streaming_of"]

_PAIRS = (("start", "stop"), ("start_streaming", "stop_streaming"))
_RUN_S = 0.3
_THREADS_S = 5.0
_SLACK = 1
"""A thread that is started when it is first needed is no leak; one more each time is."""


def streaming_of(bench: ContractBench) -> tuple[Operation, Operation] | None:
    """How to start and stop streaming: the manifest's commands, or the methods; None for a driver that does not."""
    for start, stop in _PAIRS:
        if {start, stop} <= bench.methods:
            return _named(bench, start), _named(bench, stop)
    return None


def _named(bench: ContractBench, method: str) -> Operation:
    """The manifest's command for `method` with harmless arguments; without one, the method as it is."""
    for name, command in bench.manifest.commands.items():
        made = bench.operation(name, command)
        if isinstance(made, Operation) and made.method == method:
            return made
    return Operation(method, {}, 30.0)


async def stop_streaming(bench: ContractBench) -> str:
    """Start and stop, three times: no threads are left, and a further stop is harmless."""
    start, stop = _streaming(bench)
    async with bench.connected() as managed:
        threads = 0
        for round_number in range(3):
            await _started(start, managed)
            await asyncio.sleep(_RUN_S)
            await _stopped(bench, stop, managed)
            threads = threads or _threads(managed)
            await _as_before(managed, threads, f"round {round_number + 1}")
        answer = await answer_of(bench, stop.on(managed), f"{stop.method}, stopped already")
        if answer.error is not None and not isinstance(answer.error, ConfigurationError):
            raise Broken(f"{stop.method}, stopped already: {answer.error.code}: {answer.error.message}")
        await must_work(managed)
    return f"{start.method} and {stop.method}, three times"


async def disconnect_streaming(bench: ContractBench) -> str:
    """Disconnect and close end the stream by themselves."""
    start, _ = _streaming(bench)
    async with bench.connected() as managed:
        pid = managed.pid
        await _started(start, managed)
        await asyncio.sleep(_RUN_S)
        answer = await answer_of(bench, managed.disconnect(), "disconnect while it streams")
        if answer.error is not None:
            raise Broken(f"disconnect while it streams: {answer.error.code}: {answer.error.message}")
        await must_be_usable(bench, managed, "a disconnect while it streamed")
        if bench.native and managed.pid != pid:
            raise Broken("its process was ended for the disconnect")
        await _started(start, managed)
        pid = managed.pid
        await managed.close()
        if managed.state is not DriverState.SHUTDOWN or (pid is not None and psutil.pid_exists(pid)):
            raise Broken(f"closed while it streams, the state is {managed.state.value}, process {pid}")
    return ""


async def peer_gone_streaming(bench: ContractBench) -> str:
    """The stream can be stopped when its source is gone, and started again when it is back."""
    start, stop = _streaming(bench)
    async with bench.proxied(Pace.QUICK) as (managed, proxy):
        await managed.connect()
        await _started(start, managed)
        await asyncio.sleep(_RUN_S)
        proxy.leave()
        await asyncio.sleep(_RUN_S)
        told = "it stops"
        if managed.state in {DriverState.CONNECTED, DriverState.BUSY}:
            answer = await answer_of(bench, stop.on(managed), f"{stop.method} after the peer went")
            if answer.error is not None:
                told = must_be_error(bench, answer, f"{stop.method} after the peer went")
        proxy.come_back()
        if managed.state is DriverState.CONNECTED:
            await managed.disconnect()
        await must_be_usable(bench, managed, "the peer went while it streamed")
        await _started(start, managed)
        await _stopped(bench, stop, managed)
        return told


def _streaming(bench: ContractBench) -> tuple[Operation, Operation]:
    found = streaming_of(bench)
    if found is None:
        raise Skip("it does not stream")
    return found


async def _started(start: Operation, managed: ManagedDevice) -> None:
    """Start. Raises Skip: it needs to be told what to stream."""
    try:
        await start.on(managed)
    except ConfigurationError as error:
        raise Skip(f"{start.method} needs to be told more: {error.message}") from error


async def _stopped(bench: ContractBench, stop: Operation, managed: ManagedDevice) -> None:
    answer = await answer_of(bench, stop.on(managed), stop.method)
    if answer.error is not None:
        raise Broken(f"{stop.method}: {answer.error.code}: {answer.error.message}")


def _threads(managed: ManagedDevice) -> int:
    return int(psutil.Process(managed.pid).num_threads()) if managed.pid is not None else 0


async def _as_before(managed: ManagedDevice, threads: int, when: str) -> None:
    """No more threads than after the first time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _THREADS_S
    while _threads(managed) > threads + _SLACK and loop.time() < deadline:  # noqa: ASYNC110 — no event tells of a thread's end
        await asyncio.sleep(0.02)
    if _threads(managed) > threads + _SLACK:
        raise Broken(f"{_threads(managed)} threads after {when}, {threads} after the first time")
