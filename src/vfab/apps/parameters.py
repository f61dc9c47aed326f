"""Parameters of a command given as text: read and checked by the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfab.model.errors import ConfigurationError
from vfab.model.manifest import Command, Parameter
from vfab.model.settings import faults, nearest, parse_text

__all__ = ["checked_parameters"]


def checked_parameters(driver: str, name: str, command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `given`, texts read by each parameter's type, with defaults.

    Raises ConfigurationError: an unknown name, a missing one, or a value that the manifest forbids.
    """
    values: dict[str, Any] = {}
    for key, text in given.items():
        parameter = command.parameters.get(key) or command.parameters.get(key.replace("-", "_"))
        if parameter is None:
            raise _bad(driver, name, key, "an unknown parameter", nearest(key, list(command.parameters)))
        values[key.replace("-", "_")] = _read(driver, name, key, text, parameter)
    for key, parameter in command.parameters.items():
        if key in values:
            continue
        if parameter.required:
            raise _bad(driver, name, key, "nothing", f"this parameter is required: {parameter.help}")
        if parameter.default is not None:
            values[key] = parameter.default
    return values


def _read(driver: str, name: str, key: str, text: Any, parameter: Parameter) -> Any:
    schema = parameter.schema
    try:
        value = parse_text(text, schema) if isinstance(text, str) else text
    except ValueError as error:
        raise _bad(driver, name, key, repr(text), str(error)) from error
    wrong = faults(schema, value, key)
    if wrong:
        raise _bad(driver, name, key, wrong[0].found, wrong[0].expected)
    return value


def _bad(driver: str, name: str, key: str, found: str, expected: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: {key}: found {found}; {expected}",
        driver_name=driver,
        context={"field": key, "found": found, "expected": expected},
        remedy=f"`vfab driver run {driver} {name} --help` shows the command's parameters.",
    )
