"""`DriverHotSwap` (seed 000): drivers replaced, reloaded, backed up and put into modes while their devices are used."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from vfab.kernel.addresses import begins
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.swap import Swap, SwapOptions, SwapReport
from vfab.model.errors import ConfigurationError, DeviceNotFound, DriverError, IllegalTransition
from vfab.model.lifecycle import DriverState
from vfab.model.plugins import DriverInfo
from vfab.protocols.hostwire import LOAD_STATE, SAVE_STATE
from vfab.sdk.whole_file import write_whole

__all__ = ["ActiveDriver", "DriverHotSwap", "DriverMode", "MigrationResult", "SavedContext", "SavedState"]

_RUNNING = frozenset({DriverState.READY, DriverState.CONNECTED, DriverState.BUSY})
_STATE_S = 30.0


class DriverMode(StrEnum):
    """What a driver's devices are for, at the moment."""

    ACTIVE = "active"
    """They are connected, and do what people ask."""
    STANDBY = "standby"
    """The driver's processes are warm; the devices are let go, safe."""
    MAINTENANCE = "maintenance"
    """They stay as they are, and take no commands but those of who maintains them."""
    DISABLED = "disabled"
    """Nobody uses the driver; its devices are let go."""


@dataclass(frozen=True, slots=True)
class ActiveDriver:
    """A driver that runs: for which device, in which state and mode, as which process."""

    driver: str
    version: str
    device: str
    state: str
    mode: str
    pid: int | None
    generation: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a driver knows of its devices: state by device id, in schema `version`."""

    driver: str
    version: int
    devices: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SavedContext:
    """All that is needed to bring a driver back as it was: settings, state, where each device stood, what streamed."""

    driver: str
    plugin_version: str
    state: SavedState
    config: dict[str, dict[str, Any]]
    states: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """Whether state can go from one driver to another, in which version, and what stands in the way."""

    old: str
    new: str
    possible: bool
    version: int | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


class Devices(Protocol):
    """Where devices that run are found, and how their drivers are configured."""

    drivers: DriverRegistry

    def look_again(self) -> None:
        """Find the plugins as they lie on disk now."""
        ...

    def running(self) -> list[ManagedDevice]:
        """The devices in use."""
        ...

    def configured(self, driver: DriverInfo, device_id: str) -> dict[str, Any]:
        """The settings of `driver` for the device, checked. Raises ConfigurationError, DependencyError."""
        ...

    async def journal(self, step: str, detail: Mapping[str, Any]) -> None:
        """A step is about to be taken; at `commit` the new driver is the wanted one."""
        ...

    async def enter(self, driver: str, mode: DriverMode) -> None:
        """Bring the driver's devices into `mode`."""
        ...

    def mode_of(self, driver: str) -> DriverMode:
        """The mode that a driver is in."""
        ...


class DriverHotSwap:
    """Seed 000's operations, for all devices of a driver at once. Use it on the event loop of its devices.

    Args:
        devices: the devices that run.
        state_dir: where contexts are saved.

    Attributes:
        reports: what became of the last swap or reload, one a device.
    """

    def __init__(self, devices: Devices, state_dir: Path) -> None:
        self._devices = devices
        self._state_dir = state_dir
        self.reports: list[SwapReport] = []

    async def swap_driver(
        self, old_driver: str, new_driver: str, *, device: str | None = None, options: SwapOptions | None = None
    ) -> bool:
        """Replace `old_driver` by `new_driver` on its devices, or on `device` alone; True when all are replaced.

        One device after the other: the first failure ends it, and those before keep the new driver.

        Raises DriverNotFound, DeviceNotFound: there is no such driver, or it runs nowhere. Refused: it cannot begin;
        SwapFailed: it was rolled back.
        """
        self._devices.look_again()
        self._devices.drivers.get(old_driver)
        new = self._devices.drivers.load_driver(new_driver).get_info()
        return await self._replace(self._of(old_driver, device), new, options)

    async def reload_driver(
        self, driver_name: str, *, device: str | None = None, options: SwapOptions | None = None
    ) -> bool:
        """Replace a driver by itself, as its code lies on disk now. Raises as `swap_driver`."""
        self._devices.look_again()
        new = self._devices.drivers.load_driver(driver_name).get_info()
        return await self._replace(self._of(driver_name, device), new, options)

    def get_active_drivers(self) -> list[ActiveDriver]:
        """The drivers that run, one entry a device."""
        return [
            ActiveDriver(
                d.manifest.name,
                d.manifest.version,
                d.id,
                d.state.value,
                self._devices.mode_of(d.manifest.name).value,
                d.pid,
                d.life.generation,
            )
            for d in self._devices.running()
            if d.state in _RUNNING
        ]

    async def set_driver_mode(self, driver_name: str, mode: str) -> bool:
        """Bring a driver into `active`, `standby`, `maintenance` or `disabled`; False: it was so already.

        Raises ConfigurationError: there is no such mode. DriverNotFound. DriverError: a device does not follow.
        """
        self._devices.drivers.get(driver_name)
        try:
            wanted = DriverMode(mode)
        except ValueError:
            raise ConfigurationError(
                f"{mode!r} is no mode of a driver",
                context={"field": "mode", "found": mode, "known": [m.value for m in DriverMode]},
                remedy=f"There are: {', '.join(m.value for m in DriverMode)}.",
            ) from None
        if self._devices.mode_of(driver_name) is wanted:
            return False
        await self._devices.enter(driver_name, wanted)
        return True

    async def backup_driver_state(self, driver_name: str) -> SavedState:
        """What the driver knows of its devices, while it goes on. Raises DeviceNotFound: it runs nowhere."""
        devices = self._of(driver_name, None)
        version = devices[0].manifest.state.version
        states = {d.id: dict(await d.call(SAVE_STATE, version, timeout_s=_STATE_S)) for d in devices}
        return SavedState(driver_name, version, states)

    async def restore_driver_state(self, driver_name: str, state: SavedState) -> bool:
        """Have the driver go on from a saved state, on those devices of it that run; True when all took it.

        Raises ConfigurationError: the state is of a version that the driver cannot read; nothing was done.
        """
        devices = [d for d in self._of(driver_name, None) if d.id in state.devices]
        for device in devices:
            rule = device.manifest.state
            if state.version not in {rule.version, *rule.reads}:
                raise _unreadable(driver_name, state.version, [rule.version, *rule.reads])
        for device in devices:
            await device.call(LOAD_STATE, state.devices[device.id], state.version, timeout_s=_STATE_S)
        return len(devices) == len(state.devices)

    async def save_driver_context(self, driver_name: str) -> SavedContext:
        """Everything that is needed to bring the driver back, also written to a file of its own."""
        devices = self._of(driver_name, None)
        context = SavedContext(
            driver_name,
            devices[0].manifest.version,
            await self.backup_driver_state(driver_name),
            {d.id: dict(d.config) for d in devices},
            {d.id: d.state.value for d in devices},
        )
        self._state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._file(driver_name), json.dumps(context.to_dict()))
        self._file(driver_name).chmod(0o600)  # settings may hold secrets
        return context

    def load_driver_context(self, driver_name: str) -> SavedContext:
        """What `save_driver_context` wrote last. Raises ConfigurationError: nothing, or nothing that can be read."""
        file = self._file(driver_name)
        try:
            said = json.loads(file.read_bytes())
            return SavedContext(**{**said, "state": SavedState(**said["state"])})
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"no context of {driver_name} was saved",
                context={"file": str(file)},
                remedy="Save one first, while the driver runs.",
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(
                f"{file}: no saved context: {error}", context={"file": str(file)}, remedy="Save it anew."
            ) from error

    def migrate_state(self, old_driver: str, new_driver: str) -> MigrationResult:
        """Whether, and in which version, `new_driver` could go on from what `old_driver` saves. Nothing is done."""
        old = self._devices.drivers.get(old_driver).manifest
        new = self._devices.drivers.get(new_driver).manifest
        version = old.state.common(new.state)
        reason = ""
        if version is None:
            saves, reads = [old.state.version, *old.state.writes], [new.state.version, *new.state.reads]
            reason = f"{old_driver} saves versions {saves}, {new_driver} reads {reads}"
        elif old.category != new.category:
            reason = f"{old_driver} is of the category {old.category}, {new_driver} of {new.category}"
        return MigrationResult(old_driver, new_driver, not reason, version, reason)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _replace(self, devices: list[ManagedDevice], new: DriverInfo, options: SwapOptions | None) -> bool:
        self.reports = []
        journal: Callable[[str, Mapping[str, Any]], Awaitable[None]] = self._devices.journal
        for device in devices:

            async def note(step: str, detail: Mapping[str, Any]) -> None:
                await journal(step, {**detail, "driver": new.name})

            config = self._devices.configured(new, device.id)
            swap = Swap(
                device, new.manifest, Path(new.folder), config, options=replace(options or SwapOptions(), journal=note)
            )
            try:
                await swap.run()
            except DriverError as error:
                error.context.setdefault("replaced", [report.device for report in self.reports])
                raise
            finally:
                if swap.report.outcome:
                    self.reports.append(swap.report)
        return all(report.outcome == "committed" for report in self.reports)

    def _of(self, driver: str, device: str | None) -> list[ManagedDevice]:
        """The running devices of a driver. Raises DeviceNotFound: there is none."""
        found = [d for d in self._devices.running() if d.manifest.name == driver and d.state in _RUNNING]
        named = [d for d in found if device in {d.id, d.info.address}]
        chosen = found if device is None else named or [d for d in found if begins(device, d.id)]
        if not chosen:
            where = f" for {device}" if device else ""
            raise DeviceNotFound(
                f"{driver} runs{where} nowhere",
                driver_name=driver,
                context={"driver": driver, "device": device, "running": [d.id for d in found]},
                remedy="`vfab status` lists what runs; `vfab device connect` starts a driver.",
            )
        return chosen

    def _file(self, driver: str) -> Path:
        return self._state_dir / f"{driver}.context.json"


def _unreadable(driver: str, version: int, reads: list[int]) -> ConfigurationError:
    return ConfigurationError(
        f"{driver} cannot read a state of version {version}",
        driver_name=driver,
        context={"version": version, "reads": reads},
        remedy="Restore it with the release that saved it.",
    )


def in_maintenance(driver: str, device: str) -> IllegalTransition:
    """The error for whoever asks something of a device in maintenance."""
    return IllegalTransition(
        f"{device} is in maintenance",
        driver_name=driver,
        context={"device": device, "mode": DriverMode.MAINTENANCE.value},
        remedy=f"It comes back with: vfab driver mode {driver} active",
    )
