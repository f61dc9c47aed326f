"""Commands and options that a manifest declares, as sub-commands and options with help, types, ranges and choices."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Annotated, Any

import typer

from vfab.model.errors import ConfigurationError
from vfab.model.manifest import Command, Parameter
from vfab.model.settings import allowed, is_secret, leaves, types_of

__all__ = ["config_options", "function_with", "overrides_of", "parameter_flag", "parameter_options", "parameters_of",
           "read_pairs"]  # fmt: skip

_TYPES: dict[str, Any] = {"string": str, "number": float, "integer": int, "boolean": bool}
_CONFIG = "config__"
_PARAMETER = "parameter__"
_OWN = {"--device", "--set", "--json", "--no-node", "--help"}
"""What every generated command takes itself."""
_METAVAR_MAX = 30
_METAVARS = {"integer": "INTEGER", "number": "NUMBER", "boolean": "true|false", "string": "TEXT", "array": "LIST"}


def parameter_options(command: Command) -> list[inspect.Parameter]:
    """One option for each parameter of a command."""
    return [_option(name, parameter) for name, parameter in command.parameters.items()]


def parameter_flag(name: str) -> str:
    """`--x-mm` for the parameter `x_mm`; `--parameter-json` for one whose own name is taken by vfab."""
    flag = "--" + name.replace("_", "-")
    return f"--parameter-{flag[2:]}" if flag in _OWN else flag


def parameters_of(command: Command, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that generated options gave, as they are sent: choices as text, what was not given left out."""
    given = {name: values.get(_PARAMETER + name) for name in command.parameters}
    return {
        name: value.value if isinstance(value, Enum) else value for name, value in given.items() if value is not None
    }


def _option(name: str, parameter: Parameter) -> inspect.Parameter:
    kind = _TYPES[parameter.type]
    default: Any = ... if parameter.required else parameter.default
    settings: dict[str, Any] = {"help": parameter.help or None, "metavar": _METAVARS[parameter.type]}
    if parameter.type == "boolean":
        del settings["metavar"]
    if parameter.choices:
        kind = _choice(parameter.choices)
        settings["metavar"] = "|".join(parameter.choices)
        default = kind(default) if isinstance(default, str) else default
    if parameter.type in {"number", "integer"}:
        whole = parameter.type == "integer"
        for key, bound in (("min", parameter.minimum), ("max", parameter.maximum)):
            if bound is not None:
                settings[key] = int(bound) if whole else bound
    flag = parameter_flag(name)
    flags = f"{flag}/--no-{flag[2:]}" if parameter.type == "boolean" else flag
    if default is None:
        kind = kind | None
    return inspect.Parameter(
        _PARAMETER + name,  # so that it may be a word of Python, or of the command line's own
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is ... else default,
        annotation=Annotated[kind, typer.Option(flags, **settings)],
    )


def _choice(texts: Iterable[str]) -> Any:
    return Enum("Choice", {f"choice{number}": text for number, text in enumerate(texts)}, type=str)


def config_options(
    schemas: Mapping[str, Mapping[str, Any] | None], taken: Iterable[str] = ()
) -> list[inspect.Parameter]:
    """One option for each setting of the drivers in `schemas`; names in `taken` (`--speed`) stay what they are.

    The value stays text: the configuration reads it by the field's type, as it does for every other source.
    """
    used = set(taken)
    made: list[inspect.Parameter] = []
    for driver, schema in schemas.items():
        for field, leaf in leaves(schema or {}):
            flag = "--" + field.replace(".", "-").replace("_", "-")
            if flag in used or is_secret(leaf):  # secrets on a command line are seen by everybody on the machine
                continue
            used.add(flag)
            made.append(_config_option(driver, field, flag, leaf))
    return made


def _config_option(driver: str, field: str, flag: str, leaf: Mapping[str, Any]) -> inspect.Parameter:
    choices = [str(choice) for choice in leaf.get("enum", ())]
    listed = "|".join(choices)
    words = [str(leaf.get("description", "")).rstrip(".")]
    may = allowed(leaf)
    if may not in {"", "a text"} and not 0 < len(listed) <= _METAVAR_MAX:
        words.append(may)
    if leaf.get("default") is not None:
        words.append(f"default {json.dumps(leaf['default']).strip(chr(34))}")

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    option = typer.Option(
        flag,
        help=f"[{driver}] " + "; ".join(word for word in words if word),
        metavar=listed if 0 < len(listed) <= _METAVAR_MAX else _METAVARS.get(types_of(leaf)[0], "VALUE"),
        autocompletion=complete,
        show_default=False,
    )
    return inspect.Parameter(
        _CONFIG + field.replace(".", "__DOT__"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )


def function_with(body: Callable[..., Any], options: Iterable[inspect.Parameter]) -> Callable[..., Any]:
    """`body` with further keyword options in its signature; it takes them as `**values`."""
    signature = inspect.signature(body, eval_str=True)
    kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]

    def call(**values: Any) -> Any:
        return body(**values)

    known = {parameter.name for parameter in kept}
    extra = [option for option in options if option.name not in known]
    first = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in kept]
    call.__signature__ = signature.replace(parameters=[*first, *extra], return_annotation=None)  # type: ignore[attr-defined]
    call.__annotations__ = {}
    call.__doc__ = body.__doc__
    call.__name__ = body.__name__
    return call


def overrides_of(values: Mapping[str, Any], pairs: Iterable[str] | None) -> dict[str, Any]:
    """The settings that generated options and `--set FIELD=VALUE` gave, by dotted field; `--set` wins."""
    given = {
        name.removeprefix(_CONFIG).replace("__DOT__", "."): value
        for name, value in values.items()
        if name.startswith(_CONFIG) and value is not None
    }
    return {**given, **read_pairs(pairs or (), "--set", "FIELD=VALUE")}


def read_pairs(pairs: Iterable[str], option: str, form: str) -> dict[str, str]:
    """`name=value` texts as a dict. Raises ConfigurationError: one has no `=`."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                f"{option}: found {pair!r}", context={"option": option, "found": pair}, remedy=f"Write {form}."
            )
        found[name] = value
    return found
