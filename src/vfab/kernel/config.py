"""Configuration of one driver (seed 001 §4): command line > `VFAB_<DRIVER>_<FIELD>` > `config.yaml` > defaults.

Fields, their types, ranges and defaults come from the manifest's `config_schema`; nothing about a driver is known here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

from vfab.kernel.config_file import ConfigFile
from vfab.model.errors import ConfigurationError
from vfab.model.settings import Schema, allowed, faults, flatten, is_secret, leaves, nearest, parse_text

__all__ = ["ConfigurationManager", "ResolvedConfig", "ResolvedValue", "env_prefix"]

RESERVED = frozenset({"VFAB_HOME", "VFAB_PLUGIN_PATH"})
MASK = "********"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class ResolvedValue:
    """One setting, and where its value came from.

    Attributes:
        field: dotted name.
        value: None with the source "unset" when nobody gave one and there is no default.
        source: `cli`, `env VFAB_AXIDRAW_PORT`, `config.yaml line 12`, `default`, or `unset`.
        secret: not to be shown.
        description, allowed: the schema's words, and what may be there.
    """

    field: str
    value: Any
    source: str
    secret: bool = False
    description: str = ""
    allowed: str = ""

    @property
    def shown(self) -> Any:
        """The value for people and programs' output: a secret is masked."""
        return MASK if self.secret and self.value is not None else self.value

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`, secrets masked."""
        return {
            "field": self.field,
            "value": self.shown,
            "source": self.source,
            "secret": self.secret,
            "description": self.description,
            "allowed": self.allowed,
        }


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """All settings of one driver."""

    driver: str
    values: Mapping[str, ResolvedValue]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as the driver gets it: nested, secrets in clear, unset fields left out."""
        plain: dict[str, Any] = {}
        for field, resolved in self.values.items():
            if resolved.source == "unset":
                continue
            *path, last = field.split(".")
            node = plain
            for key in path:
                node = node.setdefault(key, {})
            node[last] = resolved.value
        return plain

    def show(self) -> list[dict[str, Any]]:
        """Every setting with its source, secrets masked."""
        return [value.to_dict() for value in self.values.values()]

    def __getitem__(self, field: str) -> Any:
        return self.values[field].value


class ConfigurationManager:
    """The configuration of one driver from all its sources (seed 001 §4).

    Args:
        driver_name: the driver.
        schema: its settings; by default those of the plugin that discovery finds. None: it has none.
        file: config.yaml; by default that of `env`.
        env: environment variables; by default this process's.
        cli: values from the command line, by field name (dotted, or nested mappings); texts are
            read by the field's type.
        other_drivers: names of all drivers: a variable of `axidraw_mini` is not taken for one of `axidraw`.
        section: where in the file they are; default: `device`, then the driver's name. Settings that are no driver's
            have a section, and a name in `driver_name`, of their own.
    """

    def __init__(
        self,
        driver_name: str,
        schema: Schema | EllipsisType | None = ...,
        *,
        file: ConfigFile | None = None,
        env: Mapping[str, str] | None = None,
        cli: Mapping[str, Any] | None = None,
        other_drivers: Iterable[str] = (),
        section: Sequence[str] = (),
    ) -> None:
        env = os.environ if env is None else env
        if isinstance(schema, EllipsisType):
            schema, other_drivers = _found(driver_name, env)
        self.driver_name = driver_name
        self._section = tuple(section) or ("device", driver_name)
        self._schema: Schema = schema or {"type": "object", "properties": {}}
        self._leaves = dict(leaves(self._schema))
        self._open = self._schema.get("additionalProperties") is True  # who wrote it knows that it is not all of it
        self._file = file if file is not None else ConfigFile.of(env)
        self._env = env
        self._cli = dict(cli or {})
        self._prefix = env_prefix(driver_name)
        mine = self._prefix
        self._longer = tuple(p for p in map(env_prefix, other_drivers) if p.startswith(mine) and p != mine)
        self._cache: ResolvedConfig | None = None

    def get_config(self) -> dict[str, Any]:
        """The merged configuration, as the driver gets it. Computed once. Raises as `resolve`."""
        return self.resolve().to_dict()

    def resolve(self) -> ResolvedConfig:
        """Every setting with its source. Computed once.

        Raises ConfigurationError: a value is wrong, or a name unknown; the context has `source`, `field`, `found`,
        `expected`, and `file` and `line`, `variable`, or `option`. `problems` has every further one.
        """
        if self._cache is None:
            problems: list[ConfigurationError] = []
            resolved = self._resolved(problems)
            if problems:
                first = problems[0]
                if len(problems) > 1:
                    first.context["problems"] = [problem.message for problem in problems]
                raise first
            self._cache = resolved
        return self._cache

    def problems(self) -> list[ConfigurationError]:
        """Everything that is wrong with this driver's settings, in all sources."""
        found: list[ConfigurationError] = []
        try:
            self._resolved(found)
        except ConfigurationError as error:  # the file as a whole
            found.append(error)
        return found

    def _resolved(self, problems: list[ConfigurationError]) -> ResolvedConfig:
        layers = [
            dict(self._from_cli(problems)),
            dict(self._from_env(problems)),
            dict(self._from_file(problems)),
        ]
        values: dict[str, ResolvedValue] = {}
        extra: dict[str, Schema] = {field: {} for layer in layers for field in layer if field not in self._leaves}
        for field, schema in {**self._leaves, **extra}.items():
            value, source = next((layer[field] for layer in layers if field in layer), (_MISSING, ""))
            if value is _MISSING:
                value, source = (schema["default"], "default") if "default" in schema else (None, "unset")
            values[field] = ResolvedValue(
                field=field,
                value=value,
                source=source,
                secret=is_secret(schema),
                description=str(schema.get("description", "")),
                allowed=allowed(schema),
            )
        config = ResolvedConfig(self.driver_name, values)
        if not problems:
            problems += self._whole(config)
        return config

    def _from_cli(self, problems: list[ConfigurationError]) -> Iterator[tuple[str, tuple[Any, str]]]:
        given = {name.replace("__", "."): value for name, value in self._cli.items() if value is not None}
        for name, value in flatten(given, self._schema):
            field = name if name in self._leaves else name.replace("-", "_")
            option = "--" + field.replace("_", "-")
            schema = self._leaf(field)
            if schema is None:
                problems.append(self._option(field, option, "an unknown field", nearest(field, list(self._leaves))))
                continue
            read = value
            if isinstance(value, str):
                try:
                    read = parse_text(value, schema)
                except ValueError as error:
                    problems.append(self._option(field, option, self._found(value, schema), str(error)))
                    continue
            bad = faults(schema, read, field)
            if bad:
                problems.append(self._option(bad[0].field, option, self._hidden(bad[0].found, schema), bad[0].expected))
                continue
            yield field, (read, "cli")

    def _from_env(self, problems: list[ConfigurationError]) -> Iterator[tuple[str, tuple[Any, str]]]:
        fields = {self._prefix + _env_name(field): field for field in self._leaves}
        for name in sorted(self._env):
            upper = name.upper()
            if not upper.startswith(self._prefix) or upper in RESERVED:
                continue
            field = fields.get(upper)
            if field is None:
                if not upper.startswith(self._longer):
                    hint = nearest(upper, list(fields))
                    problems.append(self._variable("", name, "an unknown variable", hint))
                continue
            schema, text = self._leaves[field], self._env[name]
            try:
                value = parse_text(text, schema)
            except ValueError as error:
                if text:  # an empty variable is how many programs write "none"
                    problems.append(self._variable(field, name, self._found(text, schema), str(error)))
                continue
            bad = faults(schema, value, field)
            if bad:
                found = self._hidden(bad[0].found, schema)
                problems.append(self._variable(bad[0].field, name, found, bad[0].expected))
                continue
            yield field, (value, f"env {name}")

    def _from_file(self, problems: list[ConfigurationError]) -> Iterator[tuple[str, tuple[Any, str]]]:
        section = self._file.section(*self._section)
        base = ".".join(self._section)
        if section is None:
            return
        if not isinstance(section, Mapping):
            problems.append(self._file.error(base, repr(section), "a mapping: names, each with a value"))
            return
        for field, value in flatten(section, self._schema):
            where = f"{base}.{field}"
            schema = self._leaf(field)
            if schema is None:
                problems += self._unknown_in_file(field, value, where)
                continue
            bad = faults(schema, value, where)
            if bad:
                found = self._hidden(bad[0].found, schema)
                problems.append(self._file.error(bad[0].field, found, bad[0].expected, self.driver_name))
                continue
            yield field, (value, self._file.where(where))

    def _leaf(self, field: str) -> Schema | None:
        """The schema of a field; None for a name that the schema does not allow."""
        open_to_it = self._open and not any(name.startswith(f"{field}.") for name in self._leaves)
        return self._leaves.get(field, {} if open_to_it else None)

    def _unknown_in_file(self, field: str, value: Any, where: str) -> list[ConfigurationError]:
        inside = [name for name in self._leaves if name.startswith(f"{field}.")]
        if inside:
            if value is None:  # `pen:` with everything below it commented out
                return []
            expected = "a mapping with " + ", ".join(inside)
            return [self._file.error(where, repr(value), expected, self.driver_name)]
        hint = nearest(field, list(self._leaves))
        return [self._file.error(where, "an unknown field", hint, self.driver_name)]

    def _whole(self, config: ResolvedConfig) -> list[ConfigurationError]:
        """Rules over several fields: required, dependencies."""
        secrets = [str(value.value) for value in config.values.values() if value.secret and value.value]
        made: list[ConfigurationError] = []
        for fault in faults(self._schema, config.to_dict()):
            found, expected = _masked(fault.found, secrets), _masked(fault.expected, secrets)
            made.append(
                ConfigurationError(
                    f"{self.driver_name}: {fault.field or 'configuration'}: found {found}; {expected}",
                    driver_name=self.driver_name,
                    context={"field": fault.field, "found": found, "expected": expected},
                    remedy=self._ways(fault.field),
                )
            )
        return made

    def _ways(self, field: str) -> str:
        if field not in self._leaves:
            return f"`vfab config schema --driver {self.driver_name}` prints what is asked for."
        variable = self._prefix + _env_name(field)
        return f"Set {variable}, or run: vfab config set {self.driver_name} {field} VALUE"

    def _found(self, text: str, schema: Schema) -> str:
        return self._hidden(repr(text), schema)

    @staticmethod
    def _hidden(found: str, schema: Schema) -> str:
        return "a secret value" if is_secret(schema) else found

    def _option(self, field: str, option: str, found: str, expected: str) -> ConfigurationError:
        return ConfigurationError(
            f"{option}: found {found}; {expected}",
            driver_name=self.driver_name,
            context={"source": "cli", "option": option, "field": field, "found": found, "expected": expected},
            remedy=f"Correct the option; `vfab config show {self.driver_name}` lists all fields.",
        )

    def _variable(self, field: str, name: str, found: str, expected: str) -> ConfigurationError:
        return ConfigurationError(
            f"{name}: found {found}; {expected}",
            driver_name=self.driver_name,
            context={"source": f"env {name}", "variable": name, "field": field, "found": found, "expected": expected},
            remedy=f"Correct the environment variable {name}, or unset it.",
        )


def env_prefix(driver_name: str) -> str:
    """`VFAB_AXIDRAW_` for `axidraw`; what is neither letter nor digit becomes `_`."""
    return "VFAB_" + re.sub(r"[^A-Z0-9]", "_", driver_name.upper()) + "_"


def _env_name(field: str) -> str:
    """`PEN__UP_MM` for `pen.up_mm`."""
    return "__".join(re.sub(r"[^A-Z0-9]", "_", part.upper()) for part in field.split("."))


def _masked(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _found(driver_name: str, env: Mapping[str, str]) -> tuple[Schema, list[str]]:
    """The settings of a driver that discovery finds, and all drivers' names. Raises DriverNotFound."""
    from vfab.kernel.places import Places
    from vfab.kernel.registry import DriverRegistry
    from vfab.model.limits import settings_schema

    drivers = DriverRegistry(Places.from_environment(env))
    manifest = drivers.get(driver_name).manifest
    return settings_schema(manifest.config_schema, manifest.runtime.limits), [info.name for info in drivers.drivers]
