"""Methods as commands, and classes of settings as JSON Schema: what source says of them, without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from typing import Any

from vfab.dialects.reading import UNKNOWN, FunctionNode, Key, Source, first_line, literal
from vfab.sdk.driver import BaseDriver

__all__ = [
    "COMMAND_TIMEOUT_S",
    "RESERVED",
    "command",
    "command_name",
    "commands_of_class",
    "method_name",
    "parameters_of_keys",
    "schema_of_class",
    "schema_of_keys",
    "schema_of_signature",
]

COMMAND_TIMEOUT_S = 120.0
"""Older shapes say nothing of how long a method takes: this is how long a caller waits."""

CONCURRENT = frozenset({"abort", "cancel", "emergency_stop"})
"""Methods whose purpose is to act while another one runs."""

_TAKEN = frozenset({"timeout_s", "on_progress"})
"""Parameters that are vfab's own in a call: an author's of such a name keeps its default."""

_TYPES = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "Path": "string",
    "SecretStr": "string",
}
_LISTS = {"list", "List", "Sequence", "tuple", "Tuple", "set", "Set", "Iterable"}
_MAPPINGS = {"dict", "Dict", "Mapping"}
_BOUNDS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum", "multiple_of": "multipleOf",
    "min_length": "minLength", "max_length": "maxLength", "pattern": "pattern", "regex": "pattern",
    "description": "description", "title": "title",
}  # fmt: skip


RESERVED = frozenset(name for name in dir(BaseDriver) if name[0] != "_") | {
    *("environment", "manifest", "device", "config", "log"),
    *("call_method", "execute_command", "scan", "start_streaming", "stop_streaming"),
}
"""Attributes of the drivers that older shapes become: an author's command of such a name is offered under another."""


def command_name(method: str) -> str:
    """The command for a method: `set_power` and `setPower` are `set-power`; "" when it cannot be one."""
    text = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", method).replace("_", "-").replace(" ", "-").lower().strip("-")
    return text if re.fullmatch(r"[a-z][a-z0-9-]*", text) else ""


def method_name(author_name: str) -> str:
    """The driver's method for the author's method or command: `set_power`; `command_reset` where `reset` is taken."""
    name = command_name(author_name).replace("-", "_")
    return f"command_{name}" if name in RESERVED else name


def commands_of_class(source: Source, node: ast.ClassDef, skip: Collection[str]) -> dict[str, Any]:
    """The public methods of a class, as the manifest's commands; those in `skip` are left out."""
    found: dict[str, Any] = {}
    for name, function in source.methods(node).items():
        decorators = {source.last_name(decorator) for decorator in function.decorator_list}
        hidden = decorators & {"property", "cached_property", "setter", "deleter", "contextmanager", "abstractmethod"}
        if not re.match(r"[a-z]", name) or name in skip or hidden or not command_name(name):
            continue
        found[command_name(name)] = command(
            name,
            first_line(function),
            _parameters(source, function, 0 if "staticmethod" in decorators else 1),
        )
    return found


def command(author_name: str, text: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """One command of a manifest, for the author's method or command of that name."""
    made: dict[str, Any] = {
        "help": text or author_name.replace("_", " "),
        "parameters": dict(parameters),
        "timeout_s": COMMAND_TIMEOUT_S,
    }
    if author_name in CONCURRENT:
        made["concurrent"] = True
    if method_name(author_name) != command_name(author_name).replace("-", "_"):
        made["method"] = method_name(author_name)
    return made


def _arguments(function: FunctionNode, skip: int) -> list[tuple[ast.arg, ast.expr | None]]:
    """The parameters of a function with their defaults, without the first `skip`, `*args` and `**kwargs`."""
    plain = [*function.args.posonlyargs, *function.args.args]
    none: list[ast.expr | None] = [None] * (len(plain) - len(function.args.defaults))
    pairs = list(zip(plain, [*none, *function.args.defaults], strict=True))[skip:]
    return pairs + list(zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True))


def _parameters(source: Source, function: FunctionNode, skip: int) -> dict[str, Any]:
    helps = _helps(ast.get_docstring(function) or "")
    found: dict[str, Any] = {}
    for argument, default_node in _arguments(function, skip):
        if not re.match(r"[a-z]\w*$", argument.arg) or argument.arg in _TAKEN:
            continue
        schema = schema_of_annotation(source, argument.annotation)
        default = literal(default_node, source.constants) if default_node is not None else None
        found[argument.arg] = parameter(schema, default, default_node is None, helps.get(argument.arg, ""))
    return found


def parameter(schema: Mapping[str, Any], default: Any, required: bool, text: str) -> dict[str, Any]:
    """A manifest's parameter; what is no single text, number or truth is given as JSON."""
    if not schema and isinstance(default, bool | int | float | str):
        schema = {
            "type": {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}[type(default).__name__]
        }
    kind = schema.get("type", "string")
    simple = kind in {"string", "number", "integer", "boolean"}
    made: dict[str, Any] = {
        "type": kind if simple else "string",
        "help": text or ("" if simple else f"{kind}, as JSON"),
    }
    if required:
        made["required"] = True
    elif isinstance(default, bool | int | float | str):
        made["default"] = default
    choices = schema.get("enum", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        made["choices"] = list(choices)
    return made


def _helps(docstring: str) -> dict[str, str]:
    """What a docstring says of each parameter: `name: text`, `name (type): text`, `:param name: text`."""
    found: dict[str, str] = {}
    for line in docstring.splitlines()[1:]:
        match = re.match(r"\s*(?::param\s+)?(\w+)\s*(?:\([^)]*\))?:\s+(\S.*)$", line)
        if match:
            found.setdefault(match[1], match[2].strip())
    return found


def schema_of_annotation(source: Source, node: ast.expr | None) -> dict[str, Any]:
    """JSON Schema of an annotation; `{}` when it says nothing that can be read."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return schema_of_annotation(source, ast.parse(node.value, mode="eval").body)
        except SyntaxError:
            return {}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        parts = [
            part for part in (node.left, node.right) if not (isinstance(part, ast.Constant) and part.value is None)
        ]
        return schema_of_annotation(source, parts[0]) if len(parts) == 1 else {}
    if isinstance(node, ast.Subscript):
        return _of_subscript(source, node)
    name = source.last_name(node) if node is not None else ""
    if name in _TYPES:
        return {"type": _TYPES[name], **({"writeOnly": True} if name == "SecretStr" else {})}
    if name in _LISTS or name in _MAPPINGS:
        return {"type": "array" if name in _LISTS else "object"}
    if isinstance(node, ast.Call) and name.startswith("con"):  # conint(ge=0), constr(pattern=…)
        return {**({"type": _TYPES[name[3:]]} if name[3:] in _TYPES else {}), **_bounds(source, node)}
    return _of_enum(source, name)


def _of_subscript(source: Source, node: ast.Subscript) -> dict[str, Any]:
    name = source.last_name(node.value)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Optional":
        return schema_of_annotation(source, inner[0])
    if name == "Union":
        parts = [part for part in inner if not (isinstance(part, ast.Constant) and part.value is None)]
        return schema_of_annotation(source, parts[0]) if len(parts) == 1 else {}
    if name == "Annotated":
        schema = schema_of_annotation(source, inner[0])
        for note in inner[1:]:
            schema.update(_bounds(source, note) if isinstance(note, ast.Call) else {})
        return schema
    if name == "Literal":
        values = [literal(part) for part in inner]
        kinds = {type(value).__name__ for value in values}
        known = _TYPES.get(kinds.pop()) if len(kinds) == 1 else None
        return {**({"type": known} if known else {}), "enum": values} if UNKNOWN not in values else {}
    if name in _LISTS:
        items = schema_of_annotation(source, inner[0]) if name not in {"tuple", "Tuple"} else {}
        return {"type": "array", **({"items": items} if items else {})}
    return {"type": "object"} if name in _MAPPINGS else {}


def _of_enum(source: Source, name: str) -> dict[str, Any]:
    node = source.classes.get(name)
    if node is None or not any(source.last_name(base) in {"Enum", "StrEnum", "IntEnum"} for base in node.bases):
        return {}
    values = [value for value in _enum_values(source, node).values() if isinstance(value, str | int | float)]
    return {"enum": values} if values else {}


def _enum_values(source: Source, node: ast.ClassDef) -> dict[str, Any]:
    own = {t.id for item in node.body if isinstance(item, ast.Assign) for t in item.targets if isinstance(t, ast.Name)}
    return {name: value for name, value in source.constants_of(node).items() if name in own}


def _bounds(source: Source, call: ast.Call) -> dict[str, Any]:
    read = {_BOUNDS[k.arg]: literal(k.value, source.constants) for k in call.keywords if k.arg in _BOUNDS}
    return {name: value for name, value in read.items() if value is not UNKNOWN}


def schema_of_class(source: Source, node: ast.ClassDef) -> dict[str, Any]:
    """JSON Schema of a class of settings: annotated fields with literal or `Field(…)` defaults, those of bases too."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for each in reversed(source.lineage(node)):
        for item in each.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id[0] != "_":
                name = item.target.id
                if name == "model_config" or source.last_name(item.annotation) == "ClassVar":
                    continue
                schema, needed = _field(source, item)
                properties[name] = schema
                required = [other for other in required if other != name] + ([name] if needed else [])
    made: dict[str, Any] = {"type": "object", "properties": properties}
    return {**made, "required": required} if required else made


def _field(source: Source, item: ast.AnnAssign) -> tuple[dict[str, Any], bool]:
    """A field's schema, and whether somebody must give it."""
    schema = schema_of_annotation(source, item.annotation)
    value: ast.expr | None = item.value
    if value is None:
        return schema, True
    if isinstance(value, ast.Call) and source.last_name(value) in {"Field", "field"}:
        schema.update(_bounds(source, value))
        keywords = {keyword.arg: keyword.value for keyword in value.keywords}
        if "default_factory" in keywords:
            made: dict[str, Any] = {"list": [], "dict": {}}
            factory = source.last_name(keywords["default_factory"])
            return {**schema, **({"default": made[factory]} if factory in made else {})}, False
        value = value.args[0] if value.args else keywords.get("default")
        if value is None or (isinstance(value, ast.Constant) and value.value is Ellipsis):
            return schema, True
    default = _default(source, value)
    if default is not UNKNOWN and default is not None:
        schema["default"] = default
        if "enum" not in schema and _json_type(default):
            schema.setdefault("type", _json_type(default))
    return schema, False


def _default(source: Source, node: ast.expr) -> Any:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in source.classes:
        return _enum_values(source, source.classes[node.value.id]).get(node.attr, UNKNOWN)
    return literal(node, source.constants)


def _json_type(value: Any) -> str:
    return Key(value).json_type or {"list": "array", "dict": "object"}.get(type(value).__name__, "")


def schema_of_signature(source: Source, function: FunctionNode, skip: int) -> dict[str, Any]:
    """JSON Schema of the keyword parameters of a constructor or factory."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    helps = _helps(ast.get_docstring(function) or "")
    for argument, default_node in _arguments(function, skip):
        schema = schema_of_annotation(source, argument.annotation)
        default = literal(default_node, source.constants)
        if default_node is None:
            required.append(argument.arg)
        elif default is not UNKNOWN and default is not None:
            schema["default"] = default
            if "type" not in schema and _json_type(default):
                schema["type"] = _json_type(default)
        if argument.arg in helps:
            schema.setdefault("description", helps[argument.arg])
        properties[argument.arg] = schema
    made: dict[str, Any] = {"type": "object", "properties": properties}
    return {**made, "required": required} if required else made


def schema_of_keys(keys: Mapping[str, Key]) -> dict[str, Any]:
    """JSON Schema of the keys that code looks up: types and defaults as far as the code shows them.

    There may be more, which only running the code would tell: other names are allowed too.
    """
    properties: dict[str, Any] = {}
    for name, key in keys.items():
        schema: dict[str, Any] = {"type": key.json_type} if key.json_type else {}
        if (
            key.default is not UNKNOWN
            and key.default is not None
            and (not key.kind or _json_type(key.default) == key.json_type)
        ):
            schema["default"] = key.default
        properties[name] = schema
    return {"type": "object", "properties": properties, "additionalProperties": True}


def parameters_of_keys(keys: Mapping[str, Key]) -> dict[str, Any]:
    """A manifest's parameters for the keys that a command looks up in its arguments; none is required."""
    found: dict[str, Any] = {}
    for name, key in keys.items():
        if re.match(r"[a-z]\w*$", name):
            schema = {"type": key.json_type} if key.json_type else {}
            default = key.default if _json_type(key.default) == key.json_type else UNKNOWN
            found[name] = parameter(schema, default, False, "")
    return found
