"""`PluginManager` (seed 004, with seed 001's names where they do not clash): a view of the registry.

No plugin's code is loaded into this process. "Loaded" means read and checked; a driver runs in a process of its own
from the moment that somebody connects it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from vfab.kernel.places import Places, home_of
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.remote import DriverCalls, LocalDrivers, RemoteInstrument
from vfab.model.errors import ConfigurationError, DriverError, DriverNotFound
from vfab.model.metadata import PluginMetadata
from vfab.model.plugins import DriverInfo, PluginInfo, PluginStatus
from vfab.model.settings import faults
from vfab.model.versions import PLATFORM_VERSION, check_platform

__all__ = ["DriverOpener", "FoundPlugin", "PluginManager", "PluginNotFound", "PluginNotLoaded"]

_READY = frozenset({PluginStatus.LOADED, PluginStatus.ACTIVE})


class PluginNotFound(DriverNotFound, ValueError):
    """No plugin of that name was discovered. A ValueError too, as seed 004 has it."""

    code = "plugin_not_found"


class PluginNotLoaded(ConfigurationError, RuntimeError):
    """The plugin was not loaded, or cannot be. A RuntimeError too, as seed 004 has it."""

    code = "plugin_not_loaded"


class DriverOpener(Protocol):
    """Runs drivers in processes of their own."""

    def open(self, driver: DriverInfo, resource_name: str, config: Mapping[str, Any]) -> DriverCalls:
        """A driver for the resource, configured, not started yet."""
        ...

    def close(self) -> None:
        """End every driver's process."""
        ...


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """What seed 001's manager gives for a plugin: its name, its version, and `get_driver_info`."""

    name: str
    version: str
    description: str = ""

    def get_driver_info(self) -> dict[str, Any]:
        """`name`, `version`, `type`, `description`."""
        return {
            "name": self.name,
            "version": self.version,
            "type": "driver_plugin",
            "description": self.description,
        }


class PluginManager:
    """Discovers plugins, says which of them do what, and gives drivers for instruments.

    Use it as a context, or call `close`: that ends the drivers' processes.

    Args:
        plugin_dirs: where to look; default: every place that vfab looks in.
        platform_version: the platform that plugins must fit.
        logger: told of what is found and what is wrong.
        drivers: runs drivers; default: a supervisor of this manager's own, started when first needed.

    Attributes:
        plugins: everything discovered, by name.
        capability_index: measurement method -> names of loaded plugins.
        model_index: instrument model -> name of a loaded plugin.
    """

    def __init__(
        self,
        plugin_dirs: Iterable[Path | str] | None = None,
        platform_version: str = PLATFORM_VERSION,
        logger: logging.Logger | None = None,
        *,
        drivers: DriverOpener | None = None,
    ) -> None:
        places = Places.from_environment(os.environ) if plugin_dirs is None else Places.only(*plugin_dirs)
        self.platform_version = platform_version
        self.logger = logger or logging.getLogger(__name__)
        self.plugin_dirs = [Path(place.folder) for place in places.folders]
        self.plugins: dict[str, PluginInfo] = {}
        self.capability_index: dict[str, list[str]] = {}
        self.model_index: dict[str, str] = {}
        self._registry = DriverRegistry(places, platform_version=platform_version)
        self._drivers = drivers

    # -- discovery ----------------------------------------------------------------------------------------------------

    def discover_plugins(self) -> list[str]:
        """Look in every place again. Returns the names that were not known before."""
        self._registry.discover_drivers()
        for problem in self._registry.problems:
            self.logger.error("%s", problem.error.message)
        found = self._registry.list_plugins()
        new = [name for name in found if name not in self.plugins]
        for name in new:
            self.plugins[name] = found[name]
            self.logger.info("discovered plugin %s %s", name, found[name].metadata.version)
        return new

    def load_plugin(self, plugin_name: str) -> bool:
        """Read and check every file of a plugin. False: it cannot be used, and `error_message` says why."""
        info = self.plugins.get(plugin_name)
        if info is None:
            self.logger.error("plugin %r was not found", plugin_name)
            return False
        try:
            if not self._check_compatibility(info.metadata):
                raise PluginNotLoaded("Version incompatible", driver_name=plugin_name)
            driver = self._registry.load_driver(plugin_name).get_info()
            if not driver.usable:
                raise PluginNotLoaded(driver.problem or driver.status.value, driver_name=plugin_name)
        except DriverError as error:
            info.status, info.error_message = PluginStatus.ERROR, error.message
            self.logger.error("plugin %r cannot be loaded: %s", plugin_name, error.message)
            return False
        info.status, info.error_message = PluginStatus.LOADED, None
        for method in info.metadata.supported_methods:
            names = self.capability_index.setdefault(method, [])
            names += [plugin_name] if plugin_name not in names else []
        self.model_index.update(dict.fromkeys(info.metadata.supported_models, plugin_name))
        return True

    def load_all_plugins(self) -> dict[str, bool]:
        """Load everything that was discovered and not loaded yet: name -> whether it can be used."""
        waiting = [name for name, info in self.plugins.items() if info.status is PluginStatus.DISCOVERED]
        return {name: self.load_plugin(name) for name in waiting}

    def load_plugins(self) -> None:
        """Discover and load everything (seed 001)."""
        self.discover_plugins()
        self.load_all_plugins()

    # -- questions ----------------------------------------------------------------------------------------------------

    def find_driver_for_model(self, model: str) -> str | None:
        """The loaded plugin for an instrument model; None if there is none."""
        return self.model_index.get(model)

    def find_drivers_for_method(self, method: str) -> list[str]:
        """The loaded plugins that offer a measurement method."""
        return list(self.capability_index.get(method, ()))

    def get_plugin_info(self, plugin_name: str) -> PluginInfo | None:
        """What is known of a plugin; None if there is none."""
        return self.plugins.get(plugin_name)

    def list_plugins(self) -> dict[str, PluginInfo]:
        """Everything discovered, by name."""
        return dict(self.plugins)

    def get_plugin(self, name: str) -> FoundPlugin | None:
        """A plugin as seed 001 has it; None if there is none."""
        info = self.plugins.get(name)
        return FoundPlugin(name, info.metadata.version, info.metadata.description) if info is not None else None

    def _check_compatibility(self, metadata: PluginMetadata) -> bool:
        try:
            fits = check_platform(metadata.min_platform_version, metadata.max_platform_version, self.platform_version)
        except ValueError as error:
            self.logger.error("%s: %s", metadata.name, error)
            return False
        if not fits.compatible:
            self.logger.warning("%s: %s", metadata.name, fits.reason)
        return fits.compatible

    # -- drivers ------------------------------------------------------------------------------------------------------

    def get_driver(
        self, plugin_name: str, resource_name: str, config: dict[str, Any] | None = None
    ) -> RemoteInstrument:
        """A driver of the plugin for the resource, in a process of its own that starts with its first call.

        Raises PluginNotFound, PluginNotLoaded. ConfigurationError: a setting is not what the plugin's schema allows.
        """
        info = self.plugins.get(plugin_name)
        if info is None:
            raise PluginNotFound(f"Plugin {plugin_name!r} not found", driver_name=plugin_name)
        if info.status not in _READY:
            raise PluginNotLoaded(
                f"Plugin {plugin_name!r} not loaded (status: {info.status.value})",
                driver_name=plugin_name,
                remedy=info.error_message or f"Call load_plugin({plugin_name!r}) first.",
            )
        driver = self._registry.get(plugin_name)
        settings = _settings(driver, config or {})
        if self._drivers is None:
            self._drivers = LocalDrivers(state_root=home_of(os.environ) / "state")
        calls = self._drivers.open(driver, resource_name, settings)
        info.status = PluginStatus.ACTIVE
        return RemoteInstrument(resource_name, config, calls=calls)

    def close(self) -> None:
        """End the processes of all drivers that `get_driver` gave."""
        if self._drivers is not None:
            self._drivers.close()
            self._drivers = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _settings(driver: DriverInfo, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` over the defaults of the plugin's schema. Raises ConfigurationError: the schema forbids a value."""
    schema = driver.manifest.config_schema or {"type": "object"}
    defaults = {name: rule["default"] for name, rule in schema.get("properties", {}).items() if "default" in rule}
    settings = {**defaults, **given}
    wrong = faults(schema, settings)
    if wrong:
        raise ConfigurationError(
            f"{driver.name}: {wrong[0].field}: found {wrong[0].found}; {wrong[0].expected}",
            driver_name=driver.name,
            context={"field": wrong[0].field, "found": wrong[0].found, "expected": wrong[0].expected},
        )
    return settings
