"""Everything wired together for a program that uses devices once and ends: the only place that knows all the parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from vfab.apps.configuration import configuration_of
from vfab.apps.finding import drivers_of, scan, with_drivers
from vfab.apps.own_devices import finds_by_itself, named_device, of_plugin, opens_by_itself, own_device
from vfab.apps.own_settings import preferred_driver
from vfab.apps.plugin_detection import RunTogether, detection_of, plugin_scan
from vfab.apps.watching import UsageWatch
from vfab.kernel.addresses import find_device
from vfab.kernel.broker import Broker
from vfab.kernel.config_file import ConfigFile
from vfab.kernel.confining import ConfinementPolicy
from vfab.kernel.detection import ScanResult
from vfab.kernel.leases import LeaseBook
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import home_of
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    ConfigurationError,
    DependencyError,
    DeviceNotFound,
    DriverError,
    LimitExceeded,
    PermissionRefused,
)
from vfab.model.events import DriverEvent
from vfab.model.plugins import DriverInfo

__all__ = ["Session"]

_OWN_SCAN_S = 60.0


class Session:
    """The kernel's parts for one program.

    Args:
        env: environment variables: `VFAB_HOME`, `VFAB_PLUGIN_PATH`, `VFAB_<DRIVER>_<FIELD>`.
        on_event: told of everything that happens to devices.

    Attributes:
        drivers: the drivers of this machine.
        leases: who uses which device.
        supervisor: what runs drivers.
        watch: what their processes use; its warnings go to `on_event`.
    """

    def __init__(self, env: Mapping[str, str], on_event: Callable[[DriverEvent], None] = lambda event: None) -> None:
        self.env = dict(env)
        home = home_of(self.env)
        self.drivers = self._find_drivers()
        self.detection = detection_of(self.env, self.drivers, self._plugin_finds)
        self.leases = LeaseBook(home / "run" / "leases")
        policy = ConfinementPolicy.of(self.env, ConfigFile.of(self.env))
        self.spawner = ZygoteSpawner(environment=self.env, policy=policy)
        self.supervisor = Supervisor(
            self.spawner, Broker(), on_event=on_event, state_root=home / "state", locate=self._locate
        )
        self.watch = UsageWatch(self.supervisor.devices, self._warn, self._end_host)
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, env: Mapping[str, str], on_event: Callable[[DriverEvent], None] = lambda event: None
    ) -> AsyncIterator[Session]:
        """A session that closes every device, safely, and ends every process at its end, whatever happened.

        The zygote is started at once, so that it imports while devices are looked for.
        """
        session = cls(env, on_event)
        session.begin()
        try:
            yield session
        finally:
            await asyncio.shield(session.end())

    def begin(self) -> None:
        """Start the zygote, and watch what hosts use; on the loop that the session is used from. Twice is fine."""
        self._loop = asyncio.get_running_loop()
        self.spawner.start()
        self.watch.start()

    async def end(self) -> None:
        """Close every device, safely, and end every process."""
        self.watch.close()
        await self.supervisor.close()

    def _warn(self, event: DriverEvent) -> None:
        """Hand a warning, which comes from the watch's thread, to the loop: listeners are called on one thread only."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._on_event, event)

    def _end_host(self, device: ManagedDevice, pid: int, why: LimitExceeded) -> None:
        """Have the loop end a host that stays over a limit; asked from the watch's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(device.end_host, pid, why)

    def _find_drivers(self) -> DriverRegistry:
        return drivers_of(self.env)

    def _plugin_finds(self, info: DriverInfo, timeout_s: float) -> Mapping[str, Any]:
        """What a plugin's own detection finds, in a host of this session; called in a thread of the scan."""
        if self._loop is None or not self._loop.is_running():
            return RunTogether(self.env, self.drivers)(info, timeout_s)
        config = configuration_of(self.drivers, info, self.env).get_config()
        work = plugin_scan(self.supervisor, info, config, timeout_s)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def scan(self, **options: Any) -> ScanResult:
        """What is there, each device with the drivers that fit it, best first; options are those of `finding.scan`."""
        return await asyncio.to_thread(partial(scan, self.drivers, self.detection, **options))

    async def _locate(self, device: DeviceInfo) -> DeviceInfo | None:
        """Where a device is now, by its id."""
        return next((found for found in (await self.scan()).devices if found.id == device.id), None)

    async def resolve(self, text: str | None, category: str = "", driver: str | None = None) -> DeviceInfo:
        """The device that `text` means, or the only accessible one of `category` when it is None.

        A `driver` that was chosen may know devices by names that mean nothing to vfab.

        Raises DeviceNotFound: there is none. ConfigurationError: there are several, all are listed.
        """
        seen = await self.scan()
        found = seen.devices
        if text is not None:
            try:
                device = self._named(text, found, driver)
            except DeviceNotFound:
                late = await self._late_scans([problem.handler for problem in seen.problems])
                if not late:
                    raise
                device = self._named(text, (*found, *late), driver)
            return with_drivers(self.drivers, device)
        fitting = [device for device in found if self._category_of(device) == category]
        if sum(device.accessible for device in fitting) > 1 and (wanted := preferred_driver(category, self.env)):
            fitting = [device for device in fitting if wanted in device.drivers] or fitting
        names = [info.name for info in self.drivers.get_available_drivers() if info.category == category]
        return self._only(fitting, category, found, names)

    def _named(self, text: str, found: tuple[DeviceInfo, ...], driver: str | None) -> DeviceInfo:
        """The device that `text` means. Raises DeviceNotFound, ConfigurationError."""
        try:
            return find_device(text, found)
        except (DeviceNotFound, ConfigurationError) as error:
            chosen = self.drivers.get(driver) if driver is not None else None
            own = named_device(text, self.drivers.get_available_drivers(), chosen)
            if own is None or (len(error.context.get("near", ())) > 1 and isinstance(error, ConfigurationError)):
                raise
            return own

    def _only(
        self, fitting: list[DeviceInfo], what: str, found: tuple[DeviceInfo, ...], names: list[str]
    ) -> DeviceInfo:
        """The only one of `fitting` that can be opened."""
        usable = [device for device in fitting if device.accessible]
        if len(usable) == 1:
            return usable[0]
        if usable:
            listed = "\n".join(f"  {device.id}  {device.address}  {device.name}" for device in usable)
            raise ConfigurationError(
                f"there is more than one {what}:\n{listed}",
                context={"devices": [device.id for device in usable]},
                remedy="Choose one with --device ID.",
            )
        if fitting:
            raise refused_access(fitting[0])
        simulated = [name for name in names if self.drivers.get(name).manifest.simulator]
        if names and not any(self.drivers.get(name).manifest.match for name in names):
            raise DeviceNotFound(
                f"no {what} was found",
                context={"found": [device.id for device in found]},
                remedy=f"{names[0]} fits no device by itself: name its device with --device, such as "
                "--device tcp://192.0.2.7:4000 or --device /dev/ttyUSB0.",
            )
        hint = f" Without one, try a simulated one: vfab sim run {simulated[0]}" if simulated else ""
        raise DeviceNotFound(
            f"no {what} was found",
            context={"found": [device.id for device in found]},
            remedy=f"Plug it in and switch it on; `vfab device scan` lists what is there.{hint}",
        )

    async def _late_scans(self, handlers: Sequence[str]) -> list[DeviceInfo]:
        """What plugins find whose own scan failed, or had too little time, in the look at everything."""
        found: list[DeviceInfo] = []
        for driver in self.drivers.get_available_drivers():
            if driver.name in handlers and finds_by_itself(driver):
                with suppress(DriverError):  # it was told with the scan
                    found += await self.own_scan(driver)
        return found

    async def resolve_for_driver(self, driver: str, overrides: Mapping[str, Any] | None = None) -> DeviceInfo:
        """The only accessible device that `driver` fits; else the one that it opens by itself. Raises as `resolve`."""
        chosen = self.drivers.get(driver)
        found = (await self.scan()).devices
        fitting = [device for device in found if driver in device.drivers]
        if not fitting and finds_by_itself(chosen):  # it may have had too little time
            fitting = [with_drivers(self.drivers, device) for device in await self.own_scan(chosen)]
        elif not fitting and opens_by_itself(chosen, self.checked(chosen, overrides)):
            return with_drivers(self.drivers, own_device(chosen))
        return self._only(fitting, f"device for {driver}", found, [driver])

    async def own_scan(self, driver: DriverInfo) -> list[DeviceInfo]:
        """What the driver's own scan finds, in a host without a device. Raises DriverError: it failed."""
        found = await plugin_scan(self.supervisor, driver, self.checked(driver, None), _OWN_SCAN_S)
        return [of_plugin(driver, device) for device in found["devices"]]

    def driver_for(self, device: DeviceInfo, name: str | None = None, category: str = "") -> DriverInfo:
        """The driver `name`, or the best one that fits `device`.

        At an address that was given by hand nothing is known of the device: there the driver that the user set for
        `category` is taken, or its only one.

        Raises DriverNotFound: there is none of that name. ConfigurationError: none fits, or several may.
        """
        if name is not None:
            return self.drivers.get(name)
        fitting = list(with_drivers(self.drivers, device).drivers)
        available = self.drivers.get_available_drivers()
        names = [info.name for info in available if not category or info.category == category]
        wanted = preferred_driver(category, self.env)
        if wanted in fitting:
            fitting = [wanted]
        if not fitting and device.bus in {"pty", "tcp", "serial"}:
            fitting = [self.drivers.get(wanted).name] if wanted else names
            if len(fitting) > 1:
                fitting = []
        if not fitting:
            raise ConfigurationError(
                f"no driver is known for {device.id}",
                context={"device": device.id, "vid": device.vid, "pid": device.pid},
                remedy=f"Name one with --driver; there are: {', '.join(names) or 'none is installed'}.",
            )
        return self.drivers.get(fitting[0])

    @asynccontextmanager
    async def device(
        self,
        text: str | None,
        driver: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        category: str = "",
    ) -> AsyncIterator[ManagedDevice]:
        """A device under a lease, with its driver chosen and configured; nothing is started yet.

        At the end the driver leaves the device safe, its process ends and the lease is given back.

        Raises DeviceNotFound, DeviceBusy, PermissionRefused, DriverNotFound, BadManifest, DependencyError,
        ConfigurationError: nothing was sent to the device.
        """
        info = await self.resolve(text, category, driver)
        if not info.accessible:
            raise refused_access(info)
        chosen = self.driver_for(info, driver, category)
        config = self.checked(chosen, overrides)
        with self.leases.acquire(info.id):
            managed = self.supervisor.adopt(info, chosen.manifest, Path(chosen.folder), config)
            try:
                yield managed
            finally:
                await asyncio.shield(self.supervisor.release(info.id))

    @asynccontextmanager
    async def without_device(
        self, driver: str, overrides: Mapping[str, Any] | None = None
    ) -> AsyncIterator[ManagedDevice]:
        """A driver's process without a device, for what needs none: planning, looking at tables."""
        chosen = self.drivers.get(driver)
        config = self.checked(chosen, overrides)
        info = DeviceInfo(id=f"none:{driver}", bus="none", address="", name=f"no device, {driver}'s driver alone")
        managed = self.supervisor.adopt(info, chosen.manifest, Path(chosen.folder), config)
        try:
            yield managed
        finally:
            await asyncio.shield(self.supervisor.release(info.id))

    def checked(self, driver: DriverInfo, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
        """The driver's configuration, after everything about the driver that can be wrong was looked at."""
        loaded = self.drivers.load_driver(driver.name)
        info = loaded.get_info()
        if not info.usable:
            raise ConfigurationError(
                f"{info.name} cannot be used: {info.problem or info.status.value}",
                driver_name=info.name,
                context={"folder": info.folder},
                remedy=info.remedy or f"`vfab driver info {info.name}` says more.",
            )
        lacking = loaded.missing()
        if lacking:
            raise DependencyError(
                f"{info.name} needs {', '.join(lacking)}",
                driver_name=info.name,
                context={"missing": list(lacking)},
                remedy=loaded.install_instructions(),
            )
        return configuration_of(self.drivers, info, self.env, overrides).get_config()

    def _category_of(self, device: DeviceInfo) -> str:
        return self.drivers.get(device.drivers[0]).category if device.drivers else ""


def refused_access(device: DeviceInfo) -> PermissionRefused:
    """The error that tells why this user may not open `device`, and the fix."""
    return PermissionRefused(
        f"{device.id}: {device.problem or 'this user may not open ' + device.address}",
        context={"device": device.id, "address": device.address},
        remedy=device.remedy,
    )
