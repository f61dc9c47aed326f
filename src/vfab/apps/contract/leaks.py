"""The leak check: a driver that is connected and let go 200 times has what it had before."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass

import psutil

from vfab.apps.contract.bench import ContractBench
from vfab.apps.contract.expect import must_work
from vfab.apps.contract.model import Broken
from vfab.kernel.managed import ManagedDevice

__all__ = ["CONNECTS", "leak"]

CONNECTS = 200
_WARM_UP = 5
_GROWTH_MAX_BYTES = 8 << 20
"""40 kB a connection; what an allocator keeps is less, a lost buffer or picture is more."""
_GROWTH_SHARE = 0.25
"""Of a large process, such as one with an interpreter of its own, which collects when it likes."""
_SETTLE_S = 5.0
_SLACK = 2
"""What is made once, when it is first needed, is no leak; what one connect in fifty loses is."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process, and the programs that it started, hold."""

    descriptors: int
    threads: int
    children: int
    pss_bytes: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Of a process now."""
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        family = [process, *children]
        return cls(
            sum(each.num_fds() for each in family),
            sum(each.num_threads() for each in family),
            len(children),
            sum(_pss(each) for each in family),
        )

    def more_than(self, before: Usage) -> str:
        """What there is more of, in words; "" for nothing."""
        more = [
            f"{name}: {now} instead of {then}"
            for name, now, then in (
                ("descriptors", self.descriptors, before.descriptors),
                ("threads", self.threads, before.threads),
                ("programs", self.children, before.children),
            )
            if now > then + _SLACK
        ]
        grown = self.pss_bytes - before.pss_bytes
        if grown > max(_GROWTH_MAX_BYTES, before.pss_bytes * _GROWTH_SHARE):
            more.append(f"memory: {grown / 1e6:.1f} MB more")
        return ", ".join(more)


def _pss(process: psutil.Process) -> int:
    """The process's share of memory, pages that others use, too, counted in part; resident memory elsewhere."""
    told = process.memory_full_info()
    return int(getattr(told, "pss", told.rss))


async def leak(bench: ContractBench) -> str:
    """Descriptors, threads, programs and memory of the driver's process, and vfab's own descriptors, do not grow."""
    async with bench.connected() as managed:
        await _cycles(managed, _WARM_UP)
        pid = managed.pid
        if pid is None:
            raise Broken("there is no process")
        gc.collect()
        before, ours = Usage.of(pid), psutil.Process().num_fds()
        await _cycles(managed, CONNECTS)
        if managed.pid != pid:
            raise Broken("it needed another process")
        more, now = await _settled(pid, before)
        if more:
            raise Broken(f"after {CONNECTS} connects: {more}")
        if psutil.Process().num_fds() > ours + _SLACK:
            raise Broken(f"vfab itself: {psutil.Process().num_fds()} descriptors instead of {ours}")
        await must_work(managed)
        return (
            f"{now.descriptors} descriptors, {now.threads} threads, "
            f"{(now.pss_bytes - before.pss_bytes) / 1e3:+.0f} kB after {CONNECTS} connects"
        )


async def _cycles(managed: ManagedDevice, count: int) -> None:
    for _ in range(count):
        await managed.disconnect()
        await managed.connect()


async def _settled(pid: int, before: Usage) -> tuple[str, Usage]:
    """What is more once threads had their time to end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE_S
    while True:
        now = await asyncio.to_thread(Usage.of, pid)
        more = now.more_than(before)
        if not more or loop.time() >= deadline:
            return more, now
        await asyncio.sleep(0.1)
