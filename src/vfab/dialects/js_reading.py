"""What a driver in JavaScript offers: the public methods of its class, found as text, and its `command_mappings`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfab.dialects.signatures import COMMAND_TIMEOUT_S, CONCURRENT, command_name, method_name

__all__ = ["JsCommand", "blanked", "declares_class", "read_commands", "read_sidecar", "settings_of"]

_SIDECAR_MAX = 1 << 20
_BLANKED = re.compile(r"/\*.*?\*/|//[^\n]*|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|`(?:\\.|[^`\\])*`", re.DOTALL)
_METHOD = re.compile(
    r"(?:^|[;}\n])[ \t]*(?:async\s+)?(?P<name>[A-Za-z]\w*)\s*\((?P<parameters>(?:[^()]|\([^()]*\))*)\)\s*\{"
)
_FIELD = re.compile(  # name = async (a, b) => …, name = a => …, name = function (a) {…
    r"(?:^|[;}\n])[ \t]*(?P<name>[A-Za-z]\w*)\s*=\s*(?:async\b\s*)?"
    r"(?:(?:function\b\s*\w*\s*)?\((?P<parameters>(?:[^()]|\([^()]*\))*)\)|(?P<only>[A-Za-z]\w*))\s*(?:=>|\{)"
)
_OPTION = re.compile(r"\b(?:options|config)\??\.(?P<name>[A-Za-z_]\w*)")
_LIFE = frozenset({"constructor", "connect", "disconnect", "reset", "isConnected", "open", "close", "send", "publish"})
_NO_METHODS = frozenset({"if", "for", "while", "switch", "catch", "function", "return"})
_WHOLE = frozenset({"params", "parameters", "args", "options", "opts", "settings", "config", "data"})
_TYPES = {"int": "integer", "integer": "integer", "float": "number", "number": "number", "bool": "boolean"}


@dataclass(frozen=True, slots=True)
class JsCommand:
    """A command, and how it is run.

    Attributes:
        name: the manifest's.
        target: the author's method.
        command: what the author calls the command, for a class that takes commands by name.
        help: one line.
        parameters: the manifest's.
        defaults: arguments that are given where the caller gives none.
    """

    name: str
    target: str
    command: str
    help: str
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The method of vfab's driver."""
        return method_name(self.name)

    def to_manifest(self) -> dict[str, Any]:
        """The manifest's entry."""
        return {
            "help": self.help,
            "method": self.method,
            "parameters": self.parameters,
            "timeout_s": COMMAND_TIMEOUT_S,
            "concurrent": self.name in CONCURRENT,
        }


def read_sidecar(path: str) -> dict[str, Any]:
    """The `data` of the driver_sync message, saved beside the file as NAME.json; {} when there is none to be read."""
    try:
        with Path(path).with_suffix(".json").open("rb") as file:
            data = json.loads(file.read(_SIDECAR_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    inner = data.get("data", data) if isinstance(data, dict) else {}
    return inner if isinstance(inner, dict) else {}


def blanked(text: str) -> str:
    """`text` of the same length without comments, and with nothing in its strings."""
    return _BLANKED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def read_commands(text: str, class_name: str, sidecar: Mapping[str, Any]) -> dict[str, JsCommand]:
    """The commands by name: public methods of the class `class_name` in `text`, and over them `command_mappings`."""
    found = {made.name: made for made in _of_class(blanked(text), class_name)}
    for made in _of_mappings(sidecar.get("command_mappings"), {made.target: made for made in found.values()}):
        found[made.name] = made
    return found


# -- methods ----------------------------------------------------------------------------------------------------------


def declares_class(code: str, name: str) -> bool:
    """Whether `code` has a class `name`, of any way to write one: also `const NAME = class`, and a constructor."""
    return (
        re.search(_CLASS.format(name=re.escape(name)) + "|" + _FUNCTION.format(name=re.escape(name)), code) is not None
    )


_CLASS = r"\b(?:class\s+{name}\b|{name}\s*=\s*class\b)"
_FUNCTION = r"\bfunction\s+{name}\s*\(|\b{name}\s*=\s*function\b"
_PROTOTYPE = r"\b{name}\.prototype\.(?P<name>[A-Za-z]\w*)\s*=\s*(?:async\s+)?function\b[^(]*\((?P<parameters>[^)]*)\)"


def _of_class(code: str, class_name: str) -> Iterator[JsCommand]:
    old = re.compile(_PROTOTYPE.format(name=re.escape(class_name)))
    surface = _surface(code, class_name)
    for match in (*_METHOD.finditer(surface), *_FIELD.finditer(surface), *old.finditer(code)):
        name = match["name"]
        if name in _LIFE | _NO_METHODS or not command_name(name):
            continue
        given = match["parameters"] or match.groupdict().get("only") or ""
        yield JsCommand(command_name(name), name, name, f"{name}()", _parameters_in(given))


def _surface(code: str, class_name: str) -> str:
    """The body of the class without the bodies in it."""
    head = re.search(_CLASS.format(name=re.escape(class_name)) + r"[^{]*\{", code)
    if head is None:
        return ""
    kept, braces, brackets = ["\n"], 1, 0
    for char in code[head.end() :]:
        brackets += (char == "(") - (char == ")") if braces == 1 else 0
        if brackets:  # a parameter may be a pattern in braces
            kept.append(char)
            continue
        if char == "}":
            braces -= 1
            if braces == 0:
                break
        if braces == 1:
            kept.append(char)
        if char == "{":
            braces += 1
    return "".join(kept)


def _parameters_in(text: str) -> dict[str, dict[str, Any]]:
    """Parameters as the manifest has them; those of an object that is taken apart count one by one."""
    pattern = re.match(r"\s*\{(?P<inner>[^}]*)\}", text)
    inner = pattern["inner"] if pattern else text
    found: dict[str, dict[str, Any]] = {}
    for part in inner.split(","):
        match = re.match(r"\s*(?P<name>[A-Za-z_]\w*)\s*(?P<default>=\s*(?P<value>[\w.+-]*))?", part)
        if match and match["name"] not in {"timeout_s", "on_progress"}:
            optional = bool(match["default"]) or pattern is not None or match["name"] in _WHOLE
            found[match["name"]] = _defaulted(match["value"] or "") if optional else {"required": True}
    return {} if set(found) <= _WHOLE and len(found) == 1 else found


def _defaulted(value: str) -> dict[str, Any]:
    """An optional parameter, of the type that its default in the code tells: a truth or a number."""
    if value in {"true", "false"}:
        return {"type": "boolean", "default": value == "true"}
    return {"type": "number"} if re.fullmatch(r"[+-]?\d+(\.\d+)?", value) else {}


# -- command_mappings -------------------------------------------------------------------------------------------------


def _of_mappings(mappings: Any, methods: Mapping[str, JsCommand]) -> Iterator[JsCommand]:
    """The document leaves the form open: a list of objects, or an object by command."""
    if isinstance(mappings, str):
        try:
            mappings = json.loads(mappings)
        except ValueError:
            return
    items: list[Any] = []
    if isinstance(mappings, Mapping):
        items = [({**item, "name": key} if isinstance(item, dict) else (key, item)) for key, item in mappings.items()]
    elif isinstance(mappings, list):
        items = mappings
    for item in items:
        made = _mapping(item, methods)
        if made is not None:
            yield made


def _mapping(item: Any, methods: Mapping[str, JsCommand]) -> JsCommand | None:
    if isinstance(item, str):
        item = {"name": item}
    elif isinstance(item, tuple):
        item = {"name": item[0], "method": item[1]}
    if not isinstance(item, Mapping):
        return None
    called = _first(item, "name", "command", "id", "action", "label")
    name = command_name(called)
    if not name:
        return None
    target = _first(item, "method", "function", "handler", "driver_method") or _camel(called)
    known = methods.get(target)
    given = next((item[key] for key in ("params", "parameters", "args", "arguments") if key in item), None)
    parameters, defaults = _given_parameters(given)
    if given is None and known is not None:
        parameters = known.parameters
    text = _first(item, "description", "help", "label") or f"{called}"
    return JsCommand(name, target, called, text.splitlines()[0][:200], parameters, defaults)


def _first(item: Mapping[str, Any], *keys: str) -> str:
    return next((item[key].strip() for key in keys if isinstance(item.get(key), str) and item[key].strip()), "")


def _camel(text: str) -> str:
    first, *more = re.split(r"[\s_-]+", text.strip())
    return first + "".join(word[:1].upper() + word[1:] for word in more)


def _given_parameters(given: Any) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    entries: list[tuple[str, Any]] = []
    if isinstance(given, Mapping):
        entries = [(str(key), value) for key, value in given.items()]
    elif isinstance(given, list):
        entries = [
            (item, {}) if isinstance(item, str) else (_first(item, "name", "id", "key"), item)
            for item in given
            if isinstance(item, str | Mapping)
        ]
    parameters: dict[str, dict[str, Any]] = {}
    defaults: dict[str, Any] = {}
    for name, given_spec in entries:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            continue
        spec = given_spec
        if not isinstance(spec, Mapping):
            spec = {"type": _type_of(spec), "default": spec}
        parameters[name] = _parameter(spec)
        if spec.get("default") is not None:
            defaults[name] = spec["default"]
    return parameters, defaults


def _parameter(spec: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": _TYPES.get(str(spec.get("type", "")).lower().removesuffix("ean"), "string")}
    if isinstance(spec.get("default"), str | int | float | bool):
        made["default"] = spec["default"]
    if spec.get("required") is True:
        made["required"] = True
    for ours, theirs in (("minimum", ("min", "minimum")), ("maximum", ("max", "maximum"))):
        value = next((spec[key] for key in theirs if type(spec.get(key)) in {int, float}), None)
        if value is not None and made["type"] in {"integer", "number"}:
            made[ours] = value
    return made


def _type_of(value: Any) -> str:
    return {bool: "boolean", int: "integer", float: "number"}.get(type(value), "string")


# -- settings ---------------------------------------------------------------------------------------------------------


def settings_of(code: str, sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of what the constructor is given: what the class looks up in `options`, and `connection_config`."""
    properties: dict[str, Any] = {"host": {"type": "string"}, "port": {"type": "integer"}}
    for match in _OPTION.finditer(code):
        if match["name"] not in {"name", "deviceId"}:
            properties.setdefault(match["name"], {})
    given = sidecar.get("connection_config")
    for key, value in given.items() if isinstance(given, Mapping) else ():
        kind = {"type": _type_of(value)} if isinstance(value, str | int | float) else {}
        properties[str(key)] = {**kind, "default": value}
    return {"type": "object", "properties": properties, "additionalProperties": True}
