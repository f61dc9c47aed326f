"""Harmless arguments for a command, out of its manifest alone."""

from __future__ import annotations

from typing import Any

from vfab.model.manifest import Command, Parameter

__all__ = ["TEXT", "examples_of", "is_free_text"]

TEXT = "vfab"
"""What is given where any text will do."""

_PLACES = ("path", "file", "folder", "dir", "output", "out")


def examples_of(command: Command) -> dict[str, Any] | str:
    """A value for each parameter that has one, or why there is none for one that is required."""
    values: dict[str, Any] = {}
    for name, parameter in command.parameters.items():
        value = _example(name, parameter)
        if value is None and parameter.required:
            return f"it needs a {name}"
        if value is not None:
            values[name] = value
    return values


def is_free_text(command: Command) -> bool:
    """It needs a text that only its author, or the device, knows to be right."""
    return any(p.required and p.type == "string" and not p.choices for p in command.parameters.values())


def _example(name: str, parameter: Parameter) -> Any:
    """The default, the first choice, the smallest number, some text; None: the parameter is left out."""
    if parameter.default is not None:
        return parameter.default
    if parameter.choices:
        return parameter.choices[0]
    if not parameter.required:
        return None
    if parameter.minimum is not None:
        return parameter.minimum if parameter.type == "number" else int(parameter.minimum)
    if parameter.type == "string":
        return None if any(place in name.lower() for place in _PLACES) else TEXT
    return {"number": 0.0, "integer": 0, "boolean": False}.get(parameter.type)
