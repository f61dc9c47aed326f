"""Keeping devices as wanted: bringing them back at the start, after a failure, and when they are plugged in again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from vfab.apps.node.keeping import KeepingSession, KeptDevice, bring_to
from vfab.apps.node.left_out import LeftOut
from vfab.apps.node.working import StoreWork
from vfab.model.errors import DeviceNotFound, DriverError
from vfab.model.lifecycle import DriverState
from vfab.store.records import Wanted

__all__ = ["Upkeep"]

PRESENCE_S = 5.0
"""How often the node looks whether the devices that it keeps are still plugged in, in seconds."""
MISSED = 2
"""So many looks in a row must miss a device before it is taken for unplugged."""
LONGEST_PAUSE_S = 60.0
"""A device that cannot be brought back is tried again at least this often, in seconds."""
SIDE_BY_SIDE_S = 1.0
"""How long the devices of one driver may take at the start before those of the next are begun, in seconds."""


class Upkeep:
    """Sees to it that kept devices are as wanted.

    Args:
        session: the kernel's parts.
        work: the store.
        left_out: drivers that may not be used.
        log: a structlog logger.

    Attributes:
        restored: set once every wanted device was tried at the start.
    """

    def __init__(self, session: KeepingSession, work: StoreWork, left_out: LeftOut, log: Any) -> None:
        self.restored = asyncio.Event()
        self._session = session
        self._work = work
        self._left_out = left_out
        self._log = log
        self._look_again = 0.0

    async def restore(self) -> None:
        """Bring every wanted device back, those of one driver side by side, driver after driver.

        So that the journal says which driver it was, should one take the node down.
        """
        under_way: set[asyncio.Task[list[str]]] = set()
        try:
            for wanted in await self._work.do(lambda store: store.wanted.all()):
                self._session.kept[wanted.device_id] = KeptDevice(
                    wanted.device_id, wanted.driver, wanted.wanted, wanted.address, dict(wanted.overrides)
                )
            for driver in dict.fromkeys(kept.driver for kept in self._session.kept.values()):
                task = asyncio.create_task(self.restore_driver(driver))
                under_way.add(task)
                await asyncio.wait({task}, timeout=SIDE_BY_SIDE_S)
            if under_way:
                await asyncio.wait(under_way)
        finally:
            for task in under_way:
                task.cancel()
            self.restored.set()

    async def restore_driver(self, driver: str) -> list[str]:
        """Bring the devices of one driver back; those that are as wanted then."""
        kept = [k for k in self._session.kept.values() if k.driver == driver]
        done = await asyncio.gather(*(self._restore_one(device) for device in kept))
        return [device.device_id for device, well in zip(kept, done, strict=True) if well]

    async def _restore_one(self, kept: KeptDevice) -> bool:
        async with kept.changing:
            if self._session.kept.get(kept.device_id) is not kept:
                return False
            left_out = self._left_out.why(kept.driver)
            if left_out is not None or kept.wanted is Wanted.DISCONNECTED:
                kept.problem = left_out
                return False
            try:
                if kept.managed is None:
                    info = await self._session.found(kept)
                    self._session.take_in(kept, info)
                assert kept.managed is not None
                if kept.managed.state is DriverState.ERROR:
                    return False
                async with self._work.journaled("start", kept.device_id, kept.driver):
                    await bring_to(kept.managed, kept.wanted)
            except DriverError as error:
                self._try_later(kept, error)
                if kept.managed is not None and kept.managed.state in {DriverState.UNINITIALIZED, DriverState.SHUTDOWN}:
                    await self._session.let_go(kept)
                return False
            kept.problem, kept.failures = None, 0
            return True

    def _try_later(self, kept: KeptDevice, error: DriverError) -> None:
        """It could not be brought back: later again, less often each time; said once for each reason."""
        if kept.problem is None or kept.problem.code != error.code or not kept.failures:
            self._log.warning(
                "not_as_wanted", device=kept.device_id, driver=kept.driver, error=error.message, code=error.code
            )
        kept.problem = error
        kept.failures += 1
        absent = isinstance(error, DeviceNotFound) and self._by_id(kept)  # then its return is seen
        kept.retry_at = 0.0 if absent else time.monotonic() + min(2.0**kept.failures, LONGEST_PAUSE_S)

    async def look_after(self) -> None:
        """Bring back what could not be brought back before, and what was unplugged and is there again.

        A device that failed while it was used is left to a person.
        """
        due = [kept for kept in self._session.kept.values() if self._needs_a_look(kept)]
        idle = [kept for kept in self._session.kept.values() if kept.managed and not kept.job and self._by_id(kept)]
        now = time.monotonic()
        if not due and (not idle or now < self._look_again):
            return
        result = await self._session.scan()
        present = {device.id for device in result.devices}
        if now >= self._look_again and not result.problems:  # a driver at rest does not notice that its device is gone
            self._look_again = now + PRESENCE_S
            for kept in idle:
                kept.missed = 0 if kept.device_id in present else kept.missed + 1
                if kept.missed >= MISSED and kept not in due and not kept.changing.locked():
                    due.append(kept)
        for kept in due:
            there = kept.device_id in present or not self._by_id(kept)
            if kept.managed is not None and (kept.failures or not there):
                async with kept.changing:
                    kept.missed = 0
                    await self._session.let_go(kept)
                    if not there:
                        kept.problem = _unplugged(kept.device_id)
                        self._log.warning("unplugged", device=kept.device_id, driver=kept.driver)
            if kept.managed is None and there:
                await self._restore_one(kept)

    def _by_id(self, kept: KeptDevice) -> bool:
        """Whether detection tells if it is there; of what has an address, or is the driver's own, only trying does.

        An author's own scan need not see what the author's own code has open.
        """
        return not (kept.by_address or self._session.is_drivers_own(kept))

    def _needs_a_look(self, kept: KeptDevice) -> bool:
        if kept.changing.locked() or kept.job or kept.wanted is Wanted.DISCONNECTED or self._left_out.why(kept.driver):
            return False
        if time.monotonic() < kept.retry_at:
            return False
        if kept.managed is None:
            return True
        return kept.managed.state is DriverState.ERROR and kept.managed.life.wanted is None


def _unplugged(device_id: str) -> DriverError:
    return DeviceNotFound(f"{device_id} is not there", context={"device": device_id})
