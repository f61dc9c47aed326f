"""Checks with a bad peer: nobody there, gone, silent, garbled, slow, flooding. Each ends with a peer that behaves."""

from __future__ import annotations

import asyncio

import psutil

from vfab.apps.contract.bench import ContractBench, Operation, Pace, wait_for_words
from vfab.apps.contract.expect import Answer, answer_of, must_be_error, must_be_usable, state_after
from vfab.apps.contract.model import Broken, Skip
from vfab.kernel.managed import ManagedDevice
from vfab.model.lifecycle import DriverState
from vfab.sdk.testing import FaultProxy

__all__ = [
    "flood",
    "garbage_at_connect",
    "garbage_reply",
    "nobody_there",
    "peer_gone",
    "peer_killed",
    "silent_peer",
    "slow_peer",
]

_FLOOD_S = 1.0
_FLOODED_S = 5.0
_HEARD_S = 0.2
_FLOOD_MAX_BYTES = 64 << 20


async def nobody_there(bench: ContractBench) -> str:
    """An error when nothing is at the address, ERROR, and a connection once something is."""
    async with bench.proxied() as (managed, proxy):
        await managed.initialize()
        proxy.leave()
        doing = "connect with nobody there"
        answer = await answer_of(bench, managed.connect(), doing)
        told = must_be_error(bench, answer, doing)
        state_after(managed, answer, doing)
        proxy.come_back()
        await must_be_usable(bench, managed, "nobody was there")
        return told


async def silent_peer(bench: ContractBench) -> str:
    """A driver that asks when it connects must notice that nothing is answered; one that asks nothing cannot."""
    async with bench.proxied() as (managed, proxy):
        await managed.initialize()
        proxy.silence()
        doing = "connect to a peer that says nothing"
        answer = await answer_of(bench, managed.connect(), doing)
        if answer.error is None and not await asyncio.to_thread(proxy.wait_heard, timeout_s=_HEARD_S):
            told = "it asks nothing when it connects"
        else:
            told = must_be_error(bench, answer, doing)
            state_after(managed, answer, doing)
        proxy.come_back()
        await must_be_usable(bench, managed, "a silence")
        return told


async def garbage_at_connect(bench: ContractBench) -> str:
    """A driver that hears something when it connects must notice that it is nonsense."""
    async with bench.proxied() as (managed, proxy):
        await managed.initialize()
        proxy.garble()
        doing = "connect to a peer that talks nonsense"
        answer = await answer_of(bench, managed.connect(), doing)
        if answer.error is None and not (proxy.heard and proxy.said):
            told = "it hears nothing when it connects"
        elif answer.error is None and _takes_anything(bench):
            told = "whatever comes is data to it"
        else:
            told = must_be_error(bench, answer, doing)
            state_after(managed, answer, doing)
        proxy.come_back()
        await must_be_usable(bench, managed, "nonsense")
        return told


async def garbage_reply(bench: ContractBench) -> str:
    """An operation whose answer is garbled fails; for a plain link whatever comes is data."""
    operation = await _asking(bench)
    async with bench.proxied() as (managed, proxy):
        await managed.connect()
        proxy.garble()
        doing = f"{operation.method} with a garbled answer"
        answer = await answer_of(bench, operation.on(managed), doing)
        if _takes_anything(bench) and not answer.refuses:
            told = "whatever comes is data to it"
        else:
            told = must_be_error(bench, answer, doing)
            state_after(managed, answer, doing)
        proxy.pass_on()
        await must_be_usable(bench, managed, "a garbled answer")
        return told


async def peer_killed(bench: ContractBench) -> str:
    """The link breaks while the driver waits for an answer."""
    operation = await _asking(bench)
    async with bench.proxied() as (managed, proxy):
        await managed.connect()
        proxy.hold()
        doing = f"{operation.method}, and the peer goes in the middle"
        call = asyncio.create_task(answer_of(bench, operation.on(managed), doing))
        await wait_for_words(call, proxy, proxy.heard)
        if call.done():
            raise Broken(f"{doing}: it ended before the answer came: {(await call)!r}")
        proxy.leave()
        return await _gone(bench, managed, proxy, call, doing)


async def peer_gone(bench: ContractBench) -> str:
    """The link broke while the driver was idle: the next operation says so."""
    operation = await _asking(bench)
    async with bench.proxied() as (managed, proxy):
        await managed.connect()
        proxy.leave()
        doing = f"{operation.method} after the peer went"
        call = asyncio.create_task(answer_of(bench, operation.on(managed), doing))
        return await _gone(bench, managed, proxy, call, doing)


async def _gone(
    bench: ContractBench, managed: ManagedDevice, proxy: FaultProxy, call: asyncio.Task[Answer], doing: str
) -> str:
    """The peer is not there: the call says so, the device is in ERROR; once the peer is back the device is used."""
    answer = await call
    told = must_be_error(bench, answer, doing)
    state_after(managed, answer, doing)
    proxy.come_back()
    await must_be_usable(bench, managed, "the peer went")
    return told


async def slow_peer(bench: ContractBench) -> str:
    """Bytes one at a time: they mean the same. A driver may say that it takes too long; it may not misread them."""
    async with bench.proxied(Pace.USUAL) as (managed, proxy):
        proxy.trickle(0.0005)
        doing = "connect to a slow peer"
        answer = await answer_of(bench, managed.connect(), doing)
        if answer.error is None:
            doing = "test_connection of a slow peer"
            answer = await answer_of(bench, managed.operate("test_connection", timeout_s=30.0), doing)
        told = ""
        if answer.refuses:
            told = must_be_error(bench, answer, doing)
            if answer.error is None or answer.error.code != "timeout":
                raise Broken(f"{doing}: the answers are right, only slow: {told}")
        proxy.pass_on()
        await must_be_usable(bench, managed, "a slow peer")
        return told or f"{proxy.said} bytes"


async def flood(bench: ContractBench) -> str:
    """The device says something without meaning or end: the driver answers its caller and keeps its size."""
    async with bench.proxied() as (managed, proxy):
        await managed.connect()
        before, pid = _rss(managed), managed.pid
        proxy.flood()
        await asyncio.sleep(_FLOOD_S)
        doing = "test_connection in a flood of bytes"
        answer = await answer_of(bench, managed.operate("test_connection", timeout_s=_FLOODED_S), doing)
        told = must_be_error(bench, answer, doing) if answer.refuses else "it works on"
        grown = _rss(managed) - before
        if before and grown > _FLOOD_MAX_BYTES:
            raise Broken(f"its process grew by {grown >> 20} MB")
        proxy.hang_up()
        proxy.pass_on()
        await must_be_usable(bench, managed, "a flood")
        if bench.native and managed.pid != pid:
            raise Broken("it went on reading when its time was up: its process was ended for that")
        return told


def _takes_anything(bench: ContractBench) -> bool:
    """A plain link hands on what comes; nonsense is its peer's affair."""
    return bench.manifest.category == "communication"


def _rss(managed: ManagedDevice) -> int:
    """Resident memory of the driver's process, 0 when there is none."""
    if managed.pid is None or managed.state is DriverState.ERROR:
        return 0
    try:
        return int(psutil.Process(managed.pid).memory_info().rss)
    except psutil.Error:
        return 0


async def _asking(bench: ContractBench) -> Operation:
    operation = await bench.asking()
    if operation is None:
        raise Skip("no operation was found that needs an answer of the device")
    return operation
