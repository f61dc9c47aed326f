"""A driver's configuration, put together from all that has a word in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfab.kernel.config import ConfigurationManager
from vfab.kernel.config_file import ConfigFile
from vfab.kernel.registry import DriverRegistry
from vfab.model.limits import settings_schema
from vfab.model.plugins import DriverInfo

__all__ = ["configuration_of"]


def configuration_of(
    drivers: DriverRegistry, info: DriverInfo, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> ConfigurationManager:
    """The configuration of a driver from all its sources; `overrides` are the command line's."""
    return ConfigurationManager(
        info.name,
        settings_schema(info.manifest.config_schema, info.manifest.runtime.limits),
        file=ConfigFile.of(env),
        env=env,
        cli=overrides,
        other_drivers=[other.name for other in drivers.drivers],
    )
