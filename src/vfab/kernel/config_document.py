"""The whole configuration: `config.yaml` as one document, checked and changed by the schemas of the drivers found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfab.kernel.config import ConfigurationManager, ResolvedConfig, ResolvedValue
from vfab.kernel.config_file import ConfigFile
from vfab.model.errors import ConfigurationError, DriverNotFound
from vfab.model.settings import Schema, allowed, faults, flatten, is_secret, leaves, nearest, parse_text

__all__ = ["Configuration", "disabled_drivers"]

_OWN_SECTIONS: Mapping[str, Any] = {
    "drivers": {
        "type": "object",
        "description": "which drivers may be used",
        "additionalProperties": False,
        "properties": {
            "disabled": {
                "type": "array",
                "items": {"type": "string"},
                "default": [],
                "description": "names of drivers that are switched off",
            }
        },
    }
}


class Configuration:
    """The whole configuration: config.yaml, the environment, and the schema of every driver that was found.

    Args:
        file: config.yaml.
        env: environment variables.
        schemas: `config_schema` of every driver by name, None for a driver without one.
        sections: JSON Schemas of further top-level sections, by name.
    """

    def __init__(
        self,
        file: ConfigFile,
        env: Mapping[str, str],
        schemas: Mapping[str, Schema | None],
        *,
        sections: Mapping[str, Schema] | None = None,
    ) -> None:
        self.file = file
        self._env = env
        self._schemas = dict(schemas)
        self._sections: dict[str, Schema] = {**_OWN_SECTIONS, **(sections or {})}

    def manager(self, driver: str, cli: Mapping[str, Any] | None = None) -> ConfigurationManager:
        """The configuration manager of `driver`. Raises DriverNotFound."""
        if driver not in self._schemas:
            hint = nearest(driver, list(self._schemas))
            raise DriverNotFound(f"there is no driver {driver!r}; {hint}", driver_name=driver)
        schema = self._schemas[driver]
        return ConfigurationManager(driver, schema, file=self.file, env=self._env, cli=cli, other_drivers=self._schemas)

    def resolve(self, driver: str, cli: Mapping[str, Any] | None = None) -> ResolvedConfig:
        """Every setting of `driver` with its source. Raises DriverNotFound, ConfigurationError."""
        return self.manager(driver, cli).resolve()

    def set_value(self, driver: str, field: str, value: Any) -> ResolvedValue:
        """Write one setting into config.yaml, in one step, keeping comments; a text is read by the field's type.

        Raises ConfigurationError: no such field, a value it forbids, or a broken file; nothing was written.
        """
        schema = self._field(driver, field)
        if isinstance(value, str):
            try:
                value = parse_text(value, schema)
            except ValueError as error:
                raise _refused(driver, field, repr(value), str(error), schema) from error
        bad = faults(schema, value, field)
        if bad:
            raise _refused(driver, bad[0].field, bad[0].found, bad[0].expected, schema)
        self.file.set(["device", driver, *field.split(".")], value)
        return ResolvedValue(
            field=field,
            value=value,
            source=self.file.where(f"device.{driver}.{field}"),
            secret=is_secret(schema),
            description=str(schema.get("description", "")),
            allowed=allowed(schema),
        )

    def unset_value(self, driver: str, field: str) -> bool:
        """Remove one setting from config.yaml; whether it was there. Raises ConfigurationError: no such field."""
        self._field(driver, field)
        return self.file.unset(["device", driver, *field.split(".")])

    def check(self) -> list[ConfigurationError]:
        """Every problem of config.yaml and of the environment's `VFAB_<DRIVER>_…`; an empty list when all is well."""
        try:
            data = self.file.data
            devices = self.file.section("device")
        except ConfigurationError as error:
            return [error]
        found: list[ConfigurationError] = []
        for name, value in data.items():
            if name in self._sections:
                found += [
                    self.file.error(f.field, f.found, f.expected) for f in faults(self._sections[name], value, name)
                ]
            elif name != "device":
                names = ["device", *self._sections]
                found.append(self.file.error(name, "an unknown section", nearest(name, names)))
        if devices is not None and not isinstance(devices, Mapping):
            return [*found, self.file.error("device", repr(devices), "a mapping: drivers, each with its settings")]
        for name in devices or {}:
            if name not in self._schemas:
                hint = nearest(name, list(self._schemas))
                found.append(self.file.error(f"device.{name}", "the settings of a driver that is not there", hint))
        for name in self._schemas:
            found += self.manager(name).problems()
        found += self._exposed(devices or {})
        return found

    def schema(self, driver: str | None = None) -> dict[str, Any]:
        """The JSON Schema of config.yaml, composed from the drivers that were found; or of one driver's settings.

        Raises DriverNotFound.
        """
        if driver is not None:
            self.manager(driver)
            return dict(self._schemas[driver] or {"type": "object", "properties": {}})
        drivers = {name: schema or {"type": "object"} for name, schema in sorted(self._schemas.items())}
        device = {
            "type": "object",
            "description": "settings of drivers, by the driver's name",
            "additionalProperties": False,
            "properties": drivers,
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "vfab config.yaml",
            "type": "object",
            "additionalProperties": False,
            "properties": {"device": device, **self._sections},
        }

    def _field(self, driver: str, field: str) -> Schema:
        self.manager(driver)
        fields = dict(leaves(self._schemas[driver] or {}))
        if field not in fields:
            raise _refused(driver, field, "an unknown field", nearest(field, list(fields)), {})
        return fields[field]

    def _exposed(self, devices: Mapping[str, Any]) -> list[ConfigurationError]:
        """Secrets in a file that others may read."""
        if not self.file.is_readable_by_others():
            return []
        found: list[ConfigurationError] = []
        for name, schema in self._schemas.items():
            section = devices.get(name)
            given = dict(flatten(section, schema or {})) if isinstance(section, Mapping) else {}
            for field, leaf in leaves(schema or {}):
                if is_secret(leaf) and field in given:
                    error = self.file.error(
                        f"device.{name}.{field}", "a secret", "other users can read this file", name
                    )
                    error.remedy = f"Run: chmod 600 {self.file.path}"
                    found.append(error)
        return found


def _refused(driver: str, field: str, found: str, expected: str, schema: Schema) -> ConfigurationError:
    shown = "a secret value" if is_secret(schema) else found
    return ConfigurationError(
        f"{driver}.{field}: found {shown}; {expected}",
        driver_name=driver,
        context={"field": field, "found": shown, "expected": expected},
        remedy=f"`vfab config schema --driver {driver}` prints what may be there. Nothing was written.",
    )


def disabled_drivers(file: ConfigFile) -> frozenset[str]:
    """Names of the drivers that config.yaml switches off (`drivers: {disabled: […]}`).

    Raises ConfigurationError: that is not a list of names.
    """
    listed = file.section("drivers", "disabled")
    bad = faults(_OWN_SECTIONS["drivers"]["properties"]["disabled"], listed or [], "drivers.disabled")
    if bad:
        raise file.error(bad[0].field, bad[0].found, bad[0].expected)
    return frozenset(listed or ())
