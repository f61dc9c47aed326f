"""Changing and checking `config.yaml` as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from vfab.apps.configuration import configuration_of
from vfab.apps.own_settings import OWN_SECTIONS, own_configuration, own_schema
from vfab.kernel.config import ConfigurationManager
from vfab.kernel.config_file import ConfigFile
from vfab.kernel.confining import CONFINEMENT_SCHEMA, ConfinementPolicy
from vfab.kernel.detection_settings import DETECTION_SCHEMA, DetectionSettings
from vfab.kernel.registry import DriverRegistry
from vfab.model.errors import ConfigurationError, DriverError
from vfab.model.limits import settings_schema
from vfab.model.plugins import DriverInfo
from vfab.model.settings import faults, is_secret, leaves, nearest, parse_text

__all__ = [
    "Settings", "all_settings", "file_schema", "schema_of", "set_setting", "settings_of", "stray_problems",
    "unset_setting",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one driver, or of one command such as `plot`.

    Attributes:
        name: the driver's, or the command's.
        keys: where in config.yaml they are.
        schema: what may be there, as JSON Schema.
        configuration: their values from all sources, with these overrides.
    """

    name: str
    keys: tuple[str, ...]
    schema: Mapping[str, Any]
    configuration: Callable[[Mapping[str, Any]], ConfigurationManager]


def settings_of(drivers: DriverRegistry, name: str, env: Mapping[str, str]) -> Settings:
    """The settings of the driver, or else of the command, `name`. Raises DriverNotFound: there is neither."""
    if name in OWN_SECTIONS and name not in {driver.name for driver in drivers.drivers}:
        schema = own_schema(name, drivers.drivers)
        return Settings(name, (name,), schema, partial(own_configuration, name, env, schema=schema))
    driver = drivers.get(name)
    return Settings(
        driver.name, ("device", driver.name), schema_of(driver), partial(configuration_of, drivers, driver, env)
    )


def all_settings(drivers: DriverRegistry, env: Mapping[str, str]) -> list[Settings]:
    """The settings of every driver and every command."""
    names = [driver.name for driver in drivers.drivers]
    return [settings_of(drivers, name, env) for name in [*names, *(own for own in OWN_SECTIONS if own not in names)]]


def set_setting(settings: Settings, field: str, text: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Write `text`, read by the field's type, to config.yaml.

    Raises ConfigurationError: the field is unknown, or the value forbidden; the file was left as it was.
    """
    leaf = _leaf(settings, field)
    try:
        value = parse_text(text, leaf)
    except ValueError as error:
        raise _forbidden(settings, field, "a secret value" if is_secret(leaf) else repr(text), str(error)) from error
    wrong = faults(leaf, value, field)
    if wrong:
        raise _forbidden(settings, field, "a secret value" if is_secret(leaf) else wrong[0].found, wrong[0].expected)
    settings.configuration({field: value}).resolve()  # rules over several fields
    file = ConfigFile.of(env)
    file.set([*settings.keys, *field.split(".")], value)
    shown = "********" if is_secret(leaf) else value
    return {"driver": settings.name, "field": field, "value": shown, "file": str(file.path), "changed": True}


def _forbidden(settings: Settings, field: str, found: str, expected: str) -> ConfigurationError:
    return ConfigurationError(
        f"{settings.name}.{field}: found {found}; {expected}",
        driver_name=settings.name,
        context={"field": field, "found": found, "expected": expected},
        remedy="Nothing was written. Give a value that fits.",
    )


def unset_setting(settings: Settings, field: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Remove a setting from config.yaml. Raises ConfigurationError: the field is unknown."""
    _leaf(settings, field)
    file = ConfigFile.of(env)
    changed = file.unset([*settings.keys, *field.split(".")])
    return {"driver": settings.name, "field": field, "value": None, "file": str(file.path), "changed": changed}


def _leaf(settings: Settings, field: str) -> Mapping[str, Any]:
    known = dict(leaves(settings.schema))
    if field not in known:
        raise ConfigurationError(
            f"{settings.name} has no setting {field!r}; {nearest(field, list(known))}",
            driver_name=settings.name,
            context={"field": field, "known": list(known)},
            remedy=f"`vfab config show {settings.name}` lists its settings.",
        )
    return known[field]


def stray_problems(drivers: DriverRegistry, env: Mapping[str, str]) -> list[DriverError]:
    """What config.yaml says to nobody: unknown sections, drivers that are not there."""
    file = ConfigFile.of(env)
    try:
        data = file.data
        section = file.section("device")
    except ConfigurationError as error:
        return [error]
    known = ["device", "detection", "confinement", *OWN_SECTIONS]
    found: list[DriverError] = [
        file.error(key, "an unknown section", nearest(key, known)) for key in data if key not in known
    ]
    for check in (lambda: DetectionSettings.of(file), lambda: ConfinementPolicy.of(env, file)):
        try:
            check()
        except ConfigurationError as error:
            found.append(error)
    names = [driver.name for driver in drivers.drivers]
    if section is not None and not isinstance(section, Mapping):
        found.append(file.error("device", repr(section), "a mapping: drivers' names, each with settings"))
    elif section is not None:
        found += [
            file.error(f"device.{name}", "settings of a driver that is not installed", nearest(name, names))
            for name in section
            if name not in names
        ]
    return found


def schema_of(driver: DriverInfo) -> dict[str, Any]:
    """The JSON Schema of all settings of a driver, the limits of its process among them."""
    return settings_schema(driver.manifest.config_schema, driver.manifest.runtime.limits)


def file_schema(drivers: DriverRegistry) -> dict[str, Any]:
    """The JSON Schema of config.yaml with the drivers that are there."""
    sections = {driver.name: schema_of(driver) for driver in drivers.drivers}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vfab config.yaml",
        "type": "object",
        "properties": {
            "device": {"type": "object", "properties": sections, "additionalProperties": False},
            "detection": DETECTION_SCHEMA,
            "confinement": CONFINEMENT_SCHEMA,
            **OWN_SECTIONS,
        },
        "additionalProperties": False,
    }
