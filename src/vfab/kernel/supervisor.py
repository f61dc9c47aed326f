"""The supervisor: starts, watches and restarts the hosts of this machine's devices.

The shell around `model.lifecycle`: it does what the effects say and feeds back what happened. Everything runs on one
event loop; nothing here decides what the table decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from vfab.kernel.broker import Broker
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.shell import DeviceShell
from vfab.kernel.spawner import Spawner
from vfab.kernel.whereabouts import Locate
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DeviceNotFound
from vfab.model.events import DriverEvent
from vfab.model.lifecycle import RestartPolicy
from vfab.model.limits import limits_and_settings
from vfab.model.manifest import Manifest

__all__ = ["Supervisor"]

_log = logging.getLogger("vfab.supervisor")


@dataclass(frozen=True, slots=True)
class Plugin:
    """What the supervisor must know of a plugin to run it."""

    manifest: Manifest
    folder: Path
    paths: tuple[str, ...] = field(default=())


class Supervisor:
    """Runs drivers for devices.

    Args:
        spawner: starts host processes.
        broker: opens links.
        on_event: told of everything that happens: state changes, log records, drivers' own events.
        policy: how dead hosts are started again.
        state_root: below it each driver and device gets a folder of its own that lasts; None: none does.
        clock: the current time, timezone-aware.
        locate: where a device is now that is not where it was; None: devices are not looked for.
    """

    def __init__(
        self,
        spawner: Spawner,
        broker: Broker | None = None,
        *,
        on_event: Callable[[DriverEvent], None] = lambda event: None,
        policy: RestartPolicy | None = None,
        state_root: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        locate: Locate | None = None,
    ) -> None:
        self._spawner = spawner
        self._broker = broker or Broker()
        self._on_event = on_event
        self._policy = policy or RestartPolicy()
        self._state_root = state_root
        self._clock = clock
        self._locate = locate
        self._devices: dict[str, ManagedDevice] = {}

    def adopt(
        self,
        device: DeviceInfo,
        manifest: Manifest,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        paths: tuple[str, ...] = (),
    ) -> ManagedDevice:
        """Take `device` in, to be run by the plugin in `folder`. Nothing is started yet.

        The settings `runtime.limits` in `config` are not for the driver: they change what its process may use.

        Adopting a device again returns what runs it already.
        """
        known = self._devices.get(device.id)
        if known is not None:
            return known
        limits, settings = limits_and_settings(manifest.config_schema, manifest.runtime.limits, config or {})
        runtime = structs.replace(manifest.runtime, limits=limits)
        managed = ManagedDevice(
            device,
            Plugin(structs.replace(manifest, runtime=runtime), folder, paths),
            settings,
            spawner=self._spawner,
            links=self._broker.keeper(device, manifest),
            publish=self._publish,
            policy=self._policy,
            state_dir=lambda manifest: self._state_dir(manifest, device),
            locate=self._locate,
        )
        self._devices[device.id] = managed
        return managed

    def device(self, device_id: str) -> ManagedDevice:
        """The adopted device of that id.

        Raises DeviceNotFound.
        """
        try:
            return self._devices[device_id]
        except KeyError:
            raise DeviceNotFound(f"no device {device_id} is in use", context={"device": device_id}) from None

    def devices(self) -> list[ManagedDevice]:
        """Every adopted device."""
        return list(self._devices.values())

    async def release(self, device_id: str) -> None:
        """Close the device and forget it."""
        managed = self._devices.pop(device_id, None)
        if managed is not None:
            await managed.close()

    async def close(self) -> None:
        """Close every device, side by side, and end every process."""
        devices = self.devices()  # some may be released meanwhile
        results = await asyncio.gather(*(d.close() for d in devices), return_exceptions=True)
        for managed, result in zip(devices, results, strict=True):
            if isinstance(result, Exception):
                _log.warning("closing %s failed: %s", managed.id, result)
        self._devices.clear()
        await self._spawner.close()

    def _publish(self, managed: DeviceShell, kind: str, data: Mapping[str, Any], source: str) -> None:
        event = DriverEvent(
            kind, self._clock(), managed.manifest.name, dict(data), source, managed.id, managed.life.generation
        )
        try:
            self._on_event(event)
        except Exception:
            _log.exception("a listener failed on %s of %s", kind, managed.id)

    def _state_dir(self, manifest: Manifest, device: DeviceInfo) -> Path | None:
        if self._state_root is None:
            return None
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in device.id)[:120]
        return self._state_root / manifest.name / safe
