"""Which driver and which device a caller of the manager means; devices that nobody has seen yet are looked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vfab.apps.finding import with_drivers
from vfab.apps.hosted_scan import hosted_scan
from vfab.apps.manager_record import Record, public_id
from vfab.apps.manager_results import meant
from vfab.apps.own_devices import finds_by_itself, named_device, of_plugin
from vfab.apps.session import Session
from vfab.kernel.addresses import find_device
from vfab.kernel.detection import ScanResult
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DeviceNotFound, DriverNotFound, IllegalTransition
from vfab.model.lifecycle import DeviceState
from vfab.model.plugins import DriverInfo

__all__ = ["Finder"]

_SCAN_S = 60.0


class Finder:
    """Every driver and device that the manager has come to know.

    Attributes:
        records: the devices, by (driver, vfab's device id).
    """

    def __init__(self, session: Session) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self._session = session
        self._names: dict[str, DriverInfo] = {}
        self._registry = asyncio.Lock()  # it is not for several at once, and some of its questions take a while
        self._scans: dict[str, asyncio.Lock] = {}
        self._look: asyncio.Task[ScanResult] | None = None

    # -- drivers ------------------------------------------------------------------------------------------------------

    async def driver(self, name: str) -> DriverInfo:
        """The driver `name`, as it calls itself, or as seed 002 would: `drv_` before it.

        Raises DriverNotFound.
        """
        known = self._names.get(name)
        if known is not None:
            return known
        if not isinstance(name, str) or not name.strip():
            raise DriverNotFound(f"{name!r} is no driver's name")
        drivers = self._session.drivers
        for look in (lambda: drivers.drivers, drivers.discover_drivers):  # it may have been installed meanwhile
            async with self._registry:
                every = {info.name: info for info in await asyncio.to_thread(look)}
            found = _named(name, every)
            if found is not None:
                self._names[name] = found
                return found
        return drivers.get(name)  # which says what is near

    async def checked(self, driver: DriverInfo, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The driver's configuration. Raises DriverError: something about the driver is wrong or missing."""
        async with self._registry:
            return await asyncio.to_thread(self._session.checked, driver, config)

    # -- devices ------------------------------------------------------------------------------------------------------

    async def scan(self, driver: DriverInfo) -> tuple[list[Record], ScanResult]:
        """The devices of the driver that are there now, and what the look at all buses came to.

        Raises DriverError: the driver's own scan failed.
        """
        seen = self._about(driver, await self._look_around())
        fitting = [with_drivers(self._session.drivers, device) for device in seen.devices]
        found = [device for device in fitting if driver.name in device.drivers]
        if not any(device.bus == driver.name for device in found):  # the look around did not get that far
            own = await self._own_scan(driver)
            found += own
            seen = replace(seen, problems=tuple(p for p in seen.problems if not own or p.handler != driver.name))
        if not seen.problems:  # else what was not found may still be there
            self._forget_missing(driver, found)
        return [self._found(driver, info) for info in found], seen

    def _about(self, driver: DriverInfo, seen: ScanResult) -> ScanResult:
        """`seen` without what other plugins' own detection had trouble with: it finds none of this driver's devices."""
        every = self._session.drivers.get_available_drivers()
        others = {info.name for info in every if info.manifest.detection or finds_by_itself(info)} - {driver.name}
        return replace(seen, problems=tuple(problem for problem in seen.problems if problem.handler not in others))

    async def record(self, driver: DriverInfo, device: object) -> Record:
        """The record of `device`; one that nobody has seen yet is looked for.

        Raises DeviceNotFound, ConfigurationError.
        """
        text, info = meant(device)
        known = self._known(driver, text)
        if known is not None and known.state is not DeviceState.UNKNOWN:
            return known
        return self._found(driver, info or await self._discover(driver, text))

    def seen(self, driver: DriverInfo, device: object, what: str) -> Record:
        """The record of a device that must be known for `what`. Raises IllegalTransition: it is not."""
        text, _ = meant(device)
        record = self._known(driver, text)
        if record is None:
            raise IllegalTransition(
                f"{text}: cannot {what} while unknown; possible now: scan, initialize, connect",
                driver_name=driver.name,
                context={"device": text, "state": DeviceState.UNKNOWN.value, "story": []},
            )
        return record

    def by_name(self, driver_name: str, device: object) -> Record | None:
        """The record of a device that is known already; for any thread. Raises ConfigurationError: it is no device."""
        text, _ = meant(device)
        wanted = _spellings(driver_name)[-1]
        every = list(self.records.values())
        return next((r for r in every if _spellings(r.driver.name)[-1] == wanted and r.is_called(text)), None)

    def _known(self, driver: DriverInfo, text: str) -> Record | None:
        direct = self.records.get((driver.name, text))
        if direct is not None:
            return direct
        every = self.records.values()
        return next((r for r in every if r.driver.name == driver.name and r.is_called(text)), None)

    def _found(self, driver: DriverInfo, info: DeviceInfo) -> Record:
        """The record of a device that was found just now."""
        record = self.records.get((driver.name, info.id))
        if record is None:
            record = self.records[driver.name, info.id] = Record(driver, info)
        record.seen(info)
        return record

    def _forget_missing(self, driver: DriverInfo, found: list[DeviceInfo]) -> None:
        """What was found once and is not there any more is unknown again. Addresses given by hand are no findings."""
        ids = {info.id for info in found}
        for record in self.records.values():
            if record.driver.name == driver.name and record.info.drivers and record.info.id not in ids:
                record.lost()

    async def _discover(self, driver: DriverInfo, text: str) -> DeviceInfo:
        """What `text` means, found by the driver's own scan or by vfab's detection, or opened by it.

        Raises DeviceNotFound.
        """
        for info in await self._own_scan(driver):
            if text in {info.id, public_id(driver, info)}:
                return info
        seen = await asyncio.to_thread(self._session.detection.scan)
        try:
            info = find_device(text, seen.devices)
        except DeviceNotFound:
            named = None if finds_by_itself(driver) else named_device(text, (), driver)
            if named is None:
                raise
            info = named
        return with_drivers(self._session.drivers, info)

    async def _look_around(self) -> ScanResult:
        """A fresh look at all buses; whoever asks while one is under way gets its result."""
        if self._look is None or self._look.done():
            self._session.spawner.start()  # it imports while devices are looked for
            scan = partial(self._session.detection.scan, refresh=True)
            self._look = asyncio.create_task(asyncio.to_thread(scan))
        return await asyncio.shield(self._look)

    async def _own_scan(self, driver: DriverInfo) -> list[DeviceInfo]:
        """The devices that the driver itself finds (seed 002's `_scan_impl`), in a host without a device."""
        command = driver.manifest.commands.get("scan")
        if command is None or command.needs != "nothing":
            return []
        async with self._scans.setdefault(driver.name, asyncio.Lock()):
            config = await self.checked(driver)
            found = await hosted_scan(
                self._session.supervisor,
                driver.manifest,
                Path(driver.folder),
                config,
                method=command.method or "scan",
                timeout_s=_SCAN_S,
            )
        return [of_plugin(driver, device) for device in found or () if isinstance(device, Mapping)]


def _spellings(name: str) -> tuple[str, str, str]:
    """A driver's name as it was written, without seed 002's prefix, and regardless of case and of `-` for `_`."""
    plain = name.strip().removesuffix(".py")
    bare = plain.removeprefix("drv_")
    return plain, bare, bare.replace("-", "_").casefold()


def _named(name: str, every: Mapping[str, DriverInfo]) -> DriverInfo | None:
    for spelling in _spellings(name):
        if spelling in every:
            return every[spelling]
    return next((info for info in every.values() if _spellings(info.name)[-1] == _spellings(name)[-1]), None)
