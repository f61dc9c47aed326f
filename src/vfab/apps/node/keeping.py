"""The devices that the node keeps: adopted, leased, and used by one job at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfab.apps.own_devices import has_own_device
from vfab.apps.session import Session, refused_access
from vfab.kernel.addresses import begins, find_device
from vfab.kernel.leases import Lease
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DeviceBusy, DeviceNotFound, DriverError
from vfab.model.events import DriverEvent
from vfab.model.lifecycle import DriverState
from vfab.model.plugins import PluginStatus
from vfab.store.records import Wanted

__all__ = ["KeepingSession", "KeptDevice", "bring_to"]

_UP = frozenset({DriverState.READY, DriverState.CONNECTING, DriverState.CONNECTED, DriverState.BUSY})


@dataclass
class KeptDevice:
    """A device that somebody wants kept.

    Attributes:
        wanted: the state to be kept.
        managed: what runs its driver; None while the device or its driver is not to be had.
        problem: why it is not as wanted.
        failures: how often in a row it could not be brought back.
        retry_at: when that is tried again, on the monotonic clock.
        missed: how many looks in a row did not find it.
        job: what uses it alone at the moment; "" when nothing does.
        changing: held while somebody changes its state.
    """

    device_id: str
    driver: str
    wanted: Wanted
    address: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    managed: ManagedDevice | None = None
    lease: Lease | None = None
    problem: DriverError | None = None
    failures: int = 0
    retry_at: float = 0.0
    missed: int = 0
    job: str = ""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def by_address(self) -> bool:
        """Whether it was named by its address, where detection need not find it."""
        bus, scheme = self.device_id.partition(":")[0], self.address.partition("://")[0]
        return bool(self.address) and bus in {"pty", "serial", "visa", scheme}

    def is_called(self, text: str) -> bool:
        """Whether `text` is its id or its address, by a link to that too, and after the driver's name."""
        called = text.removeprefix(f"{self.driver}:")
        real = os.path.realpath(called) if called.startswith("/") else called
        return not {self.device_id, self.address}.isdisjoint({text, called, real} - {""})


class KeepingSession(Session):
    """A session whose devices stay when a request has been answered.

    Attributes:
        kept: the devices that are wanted, by id.
    """

    def __init__(self, env: Mapping[str, str], on_event: Callable[[DriverEvent], None] = lambda event: None) -> None:
        super().__init__(env, on_event)
        self.kept: dict[str, KeptDevice] = {}

    def _find_drivers(self) -> DriverRegistry:
        return DriverRegistry(Places.from_environment(self.env))  # the store says who is left out, and changes

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Let nobody use these drivers: name → why."""
        known = {info.name for info in self.drivers.drivers}
        for name, why in reasons.items():
            if name in known:
                self.drivers.set_status(name, PluginStatus.DISABLED, why)

    def let_in(self, name: str) -> None:
        """Let a driver be used again."""
        self.drivers.set_status(name, PluginStatus.DISCOVERED)

    def kept_as(self, text: str) -> KeptDevice | None:
        """The kept device that `text` means: its id, the beginning of it when that is clear, or its address."""
        for kept in self.kept.values():
            if kept.is_called(text):
                return kept
        begun = [kept for kept in self.kept.values() if begins(text, kept.device_id)]
        return begun[0] if len(begun) == 1 else None

    def is_drivers_own(self, kept: KeptDevice) -> bool:
        """Whether the driver's own code, an older plugin's, finds or opens it."""
        named = kept.device_id.partition(":")[0] == kept.driver
        return named and any(info.name == kept.driver and has_own_device(info) for info in self.drivers.drivers)

    async def resolve(self, text: str | None, category: str = "", driver: str | None = None) -> DeviceInfo:
        """As `Session.resolve`; one that is kept is known without a look at the buses."""
        for kept in self.kept.values():
            if text is not None and kept.managed is not None and kept.is_called(text):
                return kept.managed.info
        return await super().resolve(text, category, driver)

    async def found(self, kept: KeptDevice) -> DeviceInfo:
        """The device, where it is now. Raises DeviceNotFound: it is not there."""
        devices = (await self.scan()).devices
        for device in devices:
            if device.id == kept.device_id:
                return device
        if kept.by_address:
            return find_device(kept.address, devices)
        if self.is_drivers_own(kept):
            return await self.resolve(kept.device_id, driver=kept.driver)
        raise DeviceNotFound(f"{kept.device_id} is not there", context={"device": kept.device_id})

    def take_in(self, kept: KeptDevice, info: DeviceInfo) -> ManagedDevice:
        """Lease and adopt; nothing is started. Raises DeviceBusy, DriverNotFound, ConfigurationError, …."""
        chosen = self.drivers.get(kept.driver)
        config = self.checked(chosen, kept.overrides)
        if not info.accessible:
            raise refused_access(info)
        if kept.lease is None:
            kept.lease = self.leases.acquire(info.id)
        try:
            kept.managed = self.supervisor.adopt(info, chosen.manifest, Path(chosen.folder), config)
        except BaseException:
            kept.lease.release()
            kept.lease = None
            raise
        kept.address = info.address
        return kept.managed

    async def let_go(self, kept: KeptDevice, *, keep_lease: bool = False) -> None:
        """Leave the device safe, end its driver's process, give back the lease."""
        kept.managed = None
        try:
            await asyncio.shield(self.supervisor.release(kept.device_id))
        finally:
            if kept.lease is not None and not keep_lease:
                kept.lease.release()
                kept.lease = None

    @asynccontextmanager
    async def device(
        self,
        text: str | None,
        driver: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        category: str = "",
    ) -> AsyncIterator[ManagedDevice]:
        """As `Session.device`; a device that is kept is used as it is, by one job at a time, and stays."""
        info = await self.resolve(text, category, driver)
        kept = self.kept.get(info.id)
        if kept is None or kept.managed is None:
            async with super().device(info.id if kept else text, driver, overrides, category) as managed:
                yield managed
            return
        if driver is not None and driver != kept.driver:
            raise ConfigurationError(
                f"{info.id} is kept with the driver {kept.driver}, not {driver}",
                driver_name=driver,
                context={"device": info.id},
                remedy=f"Let go of it first: `vfab device close {info.id}`.",
            )
        with alone(kept, "a job"):
            if not overrides:
                yield kept.managed
                return
            async with self._configured(kept, overrides) as managed:
                yield managed

    @asynccontextmanager
    async def _configured(self, kept: KeptDevice, overrides: Mapping[str, Any]) -> AsyncIterator[ManagedDevice]:
        """The kept device with other settings for a while: its driver is started anew with them, and again after."""
        usual, info = kept.overrides, kept.managed.info if kept.managed else await self.found(kept)
        self.checked(self.drivers.get(kept.driver), {**usual, **overrides})
        async with kept.changing:
            await self.let_go(kept, keep_lease=True)
            kept.overrides = {**usual, **overrides}
            managed = self.take_in(kept, info)
        try:
            yield managed
        finally:
            kept.overrides = usual
            async with kept.changing:
                if self.kept.get(kept.device_id) is kept:
                    await self.let_go(kept, keep_lease=True)
                    await bring_to(self.take_in(kept, info), kept.wanted)


@contextmanager
def alone(kept: KeptDevice, who: str) -> Iterator[None]:
    """Use a kept device alone. Raises DeviceBusy: somebody else does."""
    if kept.job:
        raise DeviceBusy(
            f"{kept.device_id} is in use by {kept.job} of the node",
            driver_name=kept.driver,
            context={"device": kept.device_id, "holder": kept.job},
            remedy="Wait until it is done, or cancel it.",
        )
    kept.job = who
    try:
        yield
    finally:
        kept.job = ""


async def bring_to(managed: ManagedDevice, wanted: Wanted) -> None:
    """Bring a device that was just taken in to what is wanted. Raises DriverError."""
    if wanted is Wanted.CONNECTED and managed.state not in {DriverState.CONNECTED, DriverState.BUSY}:
        await managed.connect()
    elif wanted is Wanted.READY and managed.state not in _UP:
        await managed.initialize()
