"""Typer without what costs time at every start, and without brackets around brackets in help.

Typer reads what was typed by pydantic, whose import takes longer than most commands; the kinds that vfab's options have
are read here. Where an option has another kind, or typer another inside, typer reads it as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

__all__ = ["lean"]

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0", ""})


def lean(command: Any) -> Any:
    """`command` and its sub-commands, made so."""
    made = command.get_help_option

    def get_help_option(ctx: typer.Context) -> Any:
        option = made(ctx)
        if option is not None and option.default is None:
            option.default = False  # an absent --help is false: nothing is read
        return option

    command.get_help_option = get_help_option
    for parameter in command.params:
        _read_plainly(parameter)
        if parameter.param_type_name == "argument":
            _show_plainly(parameter)
    for child in getattr(command, "commands", {}).values():
        lean(child)
    return command


def _show_plainly(argument: Any) -> None:
    """`DEVICE`, `[DEVICE]`, `[NAME=VALUE]...` as everywhere, rather than `{DEVICE}` and `[[NAME=VALUE]…]...`."""
    name = argument.metavar or argument.name.upper()
    name += "..." if argument.nargs != 1 else ""
    argument.make_metavar = lambda ctx=None: name
    argument._usage_display_name = lambda: name if argument.required else f"[{name}]"
    argument._rich_display_name = lambda: name
    argument.display_type_rich = lambda ctx=None: None


# -- what was typed ---------------------------------------------------------------------------------------------------


def _read_plainly(parameter: Any) -> None:
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is None or not hasattr(parameter, "_runtime_param") or descriptor.parameter_info.parser is not None:
        return
    kind, many = descriptor.annotation, False
    if get_origin(kind) is list:
        (kind,), many = get_args(kind), True
    read = _reader(kind, descriptor.parameter_info)
    if read is not None:
        parameter._runtime_param = _Reading(read, many)


class _Reading:
    """Reads the texts of one parameter; typer's own `RuntimeParam` is like it."""

    def __init__(self, read: Callable[[Any], Any], many: bool) -> None:
        self._read = read
        self._many = many

    def coerce(self, value: Any, param: Any, ctx: typer.Context) -> Any:
        """`value` as the parameter's kind. Raises typer.BadParameter: it is none."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        try:
            return [self._read(item) for item in value] if self._many else self._read(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def _reader(kind: Any, info: Any) -> Callable[[Any], Any] | None:
    if get_origin(kind) is Literal:
        return lambda value: _choice(get_args(kind), value)
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Enum):
        return lambda value: _choice(tuple(kind), value)
    if kind in {int, float}:
        return None if info.clamp else lambda value: _number(kind, value, info.min, info.max)
    if kind is Path:
        plain = not (info.exists or info.resolve_path or info.allow_dash or info.readable is not True or info.writable)
        return Path if plain and info.file_okay and info.dir_okay and info.path_type is None else None
    if kind is str:
        return str
    return _truth if kind is bool else None


def _choice(choices: Sequence[Any], value: Any) -> Any:
    texts = {choice.value if isinstance(choice, Enum) else choice: choice for choice in choices}
    if any(value is choice for choice in choices):
        return value
    if value in texts:
        return texts[value]
    raise ValueError(f"{value!r} is not one of {', '.join(map(repr, texts))}")


def _number(kind: type[int] | type[float], value: Any, least: float | None, most: float | None) -> float:
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a {'whole ' if kind is int else ''}number") from None
    if not (least is None or number >= least) or not (most is None or number <= most):  # NaN is in no range
        bounds = f"from {least:g} to {most:g}" if least is not None and most is not None else ""
        bounds = bounds or (f"{least:g} or more" if least is not None else f"{most:g} or less")
        raise ValueError(f"{value!r} is not in range: {bounds}")
    return number


def _truth(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"{value!r} is neither true nor false")
