"""Detection by plugins: each manifest that names a `detection` class is a handler, which runs in a host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vfab.apps.own_devices import finds_by_itself, of_plugin
from vfab.kernel.detection import DetectionHandler, DetectionRegistry
from vfab.kernel.detector import default_detection
from vfab.kernel.loaded import LoadedDriver
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.manifest import Command, Manifest
from vfab.model.plugins import DriverInfo

if TYPE_CHECKING:
    from vfab.apps.loop_thread import LoopThread
    from vfab.kernel.supervisor import Supervisor

__all__ = ["PluginHandler", "Run", "RunTogether", "detection_of", "finding_manifest", "plugin_scan"]

Run = Callable[[DriverInfo, float], Mapping[str, Any]]
"""(the plugin, seconds) -> what its detection class found, in seed 001's shape. Raises DriverError."""


def detection_of(env: Mapping[str, str], drivers: DriverRegistry, run: Run | None = None) -> DetectionRegistry:
    """The detection of this machine, and of the plugins that have one of their own.

    Args:
        env: environment variables.
        drivers: the plugins.
        run: runs a plugin's detection; by default in a host that is started and ended for it.
    """
    registry = default_detection(env, drivers)
    known = {handler.name for handler in registry.handlers}
    together = RunTogether(env, drivers)

    def handlers() -> Iterable[DetectionHandler]:
        for info in drivers.get_available_drivers():
            if info.manifest.detection or finds_by_itself(info):
                yield PluginHandler(info, run or together, known)

    registry.add_source(handlers)
    return registry


def finding_manifest(manifest: Manifest) -> Manifest:
    """The manifest under which a plugin's detection class is run: the plugin's own, with that class for the driver."""
    return msgspec.structs.replace(
        manifest,
        driver_class=manifest.detection,
        runtime=msgspec.structs.replace(manifest.runtime, dialect="native", source=""),
        commands={"scan": Command(help="Find devices", needs="nothing")},
        safe_stop=(),
    )


class PluginHandler(DetectionHandler):
    """Finds what a plugin's detection class finds. Devices that it tells are its driver's own.

    Args:
        info: the plugin.
        run: runs its class.
        taken: names of other handlers; a plugin called like one of them gets `-plugin` appended.
    """

    keep_s = 30.0

    def __init__(self, info: DriverInfo, run: Run, taken: Iterable[str] = ()) -> None:
        super().__init__(info.name + ("-plugin" if info.name in taken else ""), priority=-10)
        self.hang_remedy = f"`vfab driver disable {info.name}` leaves it out; its author should know."
        self._info = info
        self._run = run
        self._lacking = LoadedDriver(info).install_instructions()

    def limitation(self) -> str:
        """What the plugin needs before it can find anything."""
        return self._lacking

    def detect(self) -> dict[str, Any]:
        """What the plugin's class found. Raises DriverError."""
        if self._lacking:
            return {"devices": []}
        found = self._run(self._info, self.timeout_s)
        return {**found, "devices": [self._own(device) for device in found["devices"]]}

    def find(self) -> list[DeviceInfo]:
        """The devices, those of a driver with a scan of its own too. Raises DriverError."""
        if self._info.manifest.detection or self._lacking:
            return super().find()
        return [of_plugin(self._info, device) for device in self._run(self._info, self.timeout_s)["devices"]]

    def is_compatible(self, device_info: DeviceInfo) -> bool:
        """Whether this plugin found `device_info`."""
        return device_info.bus == self.name

    def _own(self, device: Mapping[str, Any]) -> dict[str, Any]:
        attributes = {**(device.get("attributes") or {}), "identified": self._info.name if device["compatible"] else ""}
        return {**{key: value for key, value in device.items() if key != "compatible"}, "attributes": attributes}


async def plugin_scan(
    supervisor: Supervisor, info: DriverInfo, config: Mapping[str, Any], timeout_s: float
) -> Mapping[str, Any]:
    """What the plugin's detection class finds, or its driver's own scan: `{"devices": […]}`. Raises DriverError."""
    from vfab.apps.hosted_scan import hosted_scan

    folder = Path(info.folder)
    if info.manifest.detection:
        told = await hosted_scan(supervisor, finding_manifest(info.manifest), folder, config, timeout_s=timeout_s)
        return dict(told)
    method = info.manifest.commands["scan"].method or "scan"
    found = await hosted_scan(supervisor, info.manifest, folder, config, method=method, timeout_s=timeout_s)
    return {"devices": [device for device in found or () if isinstance(device, Mapping)]}


class RunTogether:
    """Runs plugins' detection for threads without a loop, in hosts of one zygote while any of them is at work.

    Args:
        env: environment variables.
        drivers: where the plugins' settings are known.
    """

    def __init__(self, env: Mapping[str, str], drivers: DriverRegistry) -> None:
        self._env = env
        self._drivers = drivers
        self._lock = threading.Lock()
        self._users = 0
        self._at_work: tuple[LoopThread, Supervisor] | None = None

    def __call__(self, info: DriverInfo, timeout_s: float) -> Mapping[str, Any]:
        """Run the detection of one plugin. Raises DriverError."""
        from vfab.apps.configuration import configuration_of

        config = configuration_of(self._drivers, info, self._env).get_config()
        with self._turn() as (loop, supervisor):
            return loop.submit(plugin_scan(supervisor, info, config, timeout_s)).result()

    @contextmanager
    def _turn(self) -> Iterator[tuple[LoopThread, Supervisor]]:
        with self._lock:
            self._users += 1
            if self._at_work is None:
                self._at_work = self._begin()
            loop, supervisor = self._at_work
        try:
            yield loop, supervisor
        finally:
            with self._lock:
                self._users -= 1
                last = self._users == 0
                if last:
                    self._at_work = None
            if last:
                loop.finish(supervisor.close)
                loop.join()

    def _begin(self) -> tuple[LoopThread, Supervisor]:
        from vfab.apps.loop_thread import LoopThread
        from vfab.kernel.config_file import ConfigFile
        from vfab.kernel.confining import ConfinementPolicy
        from vfab.kernel.places import home_of
        from vfab.kernel.spawner import ZygoteSpawner
        from vfab.kernel.supervisor import Supervisor

        policy = ConfinementPolicy.of(self._env, ConfigFile.of(self._env))
        spawner = ZygoteSpawner(environment=dict(self._env), policy=policy)
        return LoopThread("vfab-detection"), Supervisor(spawner, state_root=home_of(self._env) / "state")
