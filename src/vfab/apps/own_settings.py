"""Settings of vfab itself, beside those of drivers: which plotter's driver `vfab plot` takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from vfab.kernel.config import ConfigurationManager
from vfab.kernel.config_file import ConfigFile
from vfab.model.plugins import DriverInfo

__all__ = ["ASSUMED_PLOTTER", "OWN_SECTIONS", "own_configuration", "own_schema", "preferred_driver"]

ASSUMED_PLOTTER = "axidraw"
"""What a dry run plans for when nothing else says which plotter it is for."""

OWN_SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "plot": {
        "type": "object",
        "description": "what `vfab plot` does where the command line does not say",
        "additionalProperties": False,
        "properties": {
            "driver": {
                "type": ["string", "null"],
                "default": None,
                "description": "the driver to plot with when neither --driver nor the device says which; without it a "
                f"dry run is planned for the plotter that is found, or else for {ASSUMED_PLOTTER}",
            },
        },
    },
}
"""The sections of config.yaml that are commands', each as JSON Schema."""

_OF_CATEGORY = {"plotter": ("plot", "driver")}


def own_schema(section: str, drivers: Iterable[DriverInfo]) -> dict[str, Any]:
    """The schema of one of `OWN_SECTIONS` on this machine: where it names a driver, it is one of `drivers`."""
    schema = deepcopy(dict(OWN_SECTIONS[section]))
    for category, (its, field) in _OF_CATEGORY.items():
        if its == section:
            names = [driver.name for driver in drivers if driver.category == category]
            schema["properties"][field]["enum"] = [*names, None]
    return schema


def own_configuration(
    section: str,
    env: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    *,
    schema: Mapping[str, Any] | None = None,
) -> ConfigurationManager:
    """The settings of one of `OWN_SECTIONS`: `VFAB_PLOT_DRIVER` > config.yaml's `plot: {driver: …}` > default.

    Without `schema` any driver may be named: whoever uses it finds out.
    """
    schema = OWN_SECTIONS[section] if schema is None else schema
    return ConfigurationManager(section, schema, file=ConfigFile.of(env), env=env, cli=overrides, section=(section,))


def preferred_driver(category: str, env: Mapping[str, str]) -> str | None:
    """The driver that the user set for devices of `category`. Raises ConfigurationError: the setting is wrong."""
    if category not in _OF_CATEGORY:
        return None
    section, field = _OF_CATEGORY[category]
    name: str | None = own_configuration(section, env).resolve()[field]
    return name or None
