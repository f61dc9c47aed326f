"""One device as `DeviceDriverManager` knows it: its public state and story, its lock, its lease while it is in use."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vfab.kernel.leases import Lease
from vfab.kernel.managed import ManagedDevice
from vfab.model.devices import DeviceInfo
from vfab.model.errors import IllegalTransition
from vfab.model.lifecycle import DeviceState
from vfab.model.plugins import DriverInfo

__all__ = ["Record", "public_id"]

_STORY = 40
_ASLEEP = frozenset({DeviceState.UNKNOWN, DeviceState.DISCOVERED})


def public_id(driver: DriverInfo, info: DeviceInfo) -> str:
    """The id by which programs know the device: vfab's own; where the driver's scan found it, the driver's."""
    return info.attributes.get("device_id", info.id) if info.bus == driver.name else info.id


class Record:
    """One device under one driver.

    Attributes:
        driver, info: which.
        managed: the kernel's view of it while it is in use, else None.
        story: what happened to its public state, oldest first.
    """

    def __init__(self, driver: DriverInfo, info: DeviceInfo) -> None:
        self.driver = driver
        self.info = info
        self.managed: ManagedDevice | None = None
        self.story: deque[str] = deque(maxlen=_STORY)
        self._resting = self._told = DeviceState.UNKNOWN
        self._lease: Lease | None = None
        self._lock = asyncio.Lock()
        self._leavers = 0
        self._gone = asyncio.Event()

    @property
    def device_id(self) -> str:
        """What programs call it."""
        return public_id(self.driver, self.info)

    @property
    def state(self) -> DeviceState:
        """Its state in seed 002's words. For any thread."""
        managed = self.managed
        shown = managed.device_state if managed is not None else self._resting
        return self._resting if shown in _ASLEEP else shown

    def is_called(self, text: str) -> bool:
        """Whether `text` is its id or address."""
        return text in {self.info.id, self.device_id, self.info.address} and bool(text)

    @asynccontextmanager
    async def turn(self, *, alone: bool = True) -> AsyncIterator[None]:
        """The device's lock, first come first served; what may run beside others does not wait for it.

        Whoever gets it while the device is being closed waits for the end of that.
        """
        if not alone:
            yield
            return
        await self._lock.acquire()
        try:
            while self._leavers:
                self._lock.release()
                try:
                    await self._gone.wait()
                finally:
                    await self._lock.acquire()
            yield
        finally:
            self._lock.release()

    @asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        """While the device is being closed: what begins now waits, what runs is about to be ended."""
        self._leavers += 1
        self._gone.clear()
        try:
            yield
        finally:
            self._leavers -= 1
            if not self._leavers:
                self._gone.set()

    @asynccontextmanager
    async def last_turn(self) -> AsyncIterator[None]:
        """The lock for whoever closes the device."""
        async with self._lock:
            yield

    def required(self, what: str) -> ManagedDevice:
        """The kernel's view of the device. Raises IllegalTransition: it is not in use; the story is told."""
        if self.managed is None:
            raise IllegalTransition(
                f"{self.device_id}: cannot {what} while {self.state.value}; possible now: initialize, connect",
                driver_name=self.driver.name,
                context={"device": self.device_id, "state": self.state.value, "story": list(self.story)},
            )
        return self.managed

    def seen(self, info: DeviceInfo) -> None:
        """It was found."""
        if self.managed is None:
            self.info = info
            if self._resting is DeviceState.UNKNOWN:
                self._rest(DeviceState.DISCOVERED, "found")

    def lost(self) -> None:
        """It was not found where it was found before; what is in use says so itself."""
        if self.managed is None:
            self._rest(DeviceState.UNKNOWN, "lost")

    def taken(self, managed: ManagedDevice, lease: Lease) -> None:
        """It is in use from now on."""
        self.managed, self._lease = managed, lease

    def left(self) -> None:
        """It is not in use any more: its lease is given back."""
        if self.managed is not None:
            self.managed = None
            self._rest(DeviceState.DISCONNECTED, "closed")
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def note(self, event: str) -> None:
        """The state may have changed, because of `event`."""
        now = self.state
        if now is not self._told:
            self.story.append(f"{self._told.value} -{event}-> {now.value}")
            self._told = now

    def _rest(self, state: DeviceState, event: str) -> None:
        self._resting = state
        self.note(event)
