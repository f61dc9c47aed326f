"""What Python source says, read with `ast` and never run: classes, literals, signatures, keys of dictionaries.

A reader answers "not known" rather than guess wrong: whatever is computed at run time stays unread.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

__all__ = ["UNKNOWN", "Key", "Source", "called", "first_line", "keys_used", "literal", "statements", "wrapped_names"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class _Unknown:
    """The value of an expression that only running it would tell."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        return False


UNKNOWN: Final = _Unknown()


def literal(node: ast.AST | None, names: Mapping[str, Any] | None = None) -> Any:
    """The value that `node` writes; UNKNOWN when it is not a literal. `names` are constants it may use."""
    if node is None:
        return UNKNOWN
    if isinstance(node, ast.Name):
        return (names or {}).get(node.id, UNKNOWN)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        own = node.value.id in {"self", "cls"}
        return (names or {}).get(node.attr if own else f"{node.value.id}.{node.attr}", UNKNOWN)
    if isinstance(node, ast.List | ast.Tuple) and names:
        values = [literal(item, names) for item in node.elts]
        return UNKNOWN if any(value is UNKNOWN for value in values) else values
    if isinstance(node, ast.Dict) and names:
        pairs = [
            (literal(key, names), literal(value, names)) for key, value in zip(node.keys, node.values, strict=True)
        ]
        known = all(key is not UNKNOWN and value is not UNKNOWN for key, value in pairs)
        return dict(pairs) if known else UNKNOWN
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
        return _joined(node, names)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNKNOWN


def _joined(node: ast.JoinedStr | ast.BinOp, names: Mapping[str, Any] | None) -> Any:
    """The text of `f"{NAME}_lamp"` or of `NAME + "_lamp"`; of numbers what `literal_eval` says."""
    if isinstance(node, ast.BinOp):
        parts: list[Any] = [literal(node.left, names), literal(node.right, names)]
        if not all(isinstance(part, str) for part in parts):
            try:
                return ast.literal_eval(node)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return UNKNOWN
        return "".join(parts)
    parts = []
    for value in node.values:
        plain = isinstance(value, ast.FormattedValue) and value.conversion == -1 and value.format_spec is None
        parts.append(literal(value.value if plain and isinstance(value, ast.FormattedValue) else value, names))
    return "".join(map(str, parts)) if all(isinstance(part, str | int) for part in parts) else UNKNOWN


def first_line(node: ast.AST | None) -> str:
    """The first line of a docstring, "" where there is none."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    text = (ast.get_docstring(node) or "").strip()
    return text.splitlines()[0].strip() if text else ""


@dataclass
class Source:
    """One parsed file.

    Attributes:
        path: the file, absolute.
        tree: its syntax tree.
        constants: names that the module gives a literal to; `module.NAME` of one that it imports.
        classes, functions: those of the module itself, not nested ones.
        imported: local name -> the dotted name that was imported.
        foreign: ids of those of `classes` that come from other files (`neighbours`): bases and managers, no plugins.
    """

    path: str
    tree: ast.Module
    constants: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    functions: dict[str, FunctionNode] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    foreign: set[int] = field(default_factory=set)

    @classmethod
    def parse(cls, path: str, data: bytes) -> Source:
        """The file `path` with the bytes `data`.

        Raises SyntaxError, ValueError, RecursionError, MemoryError: it is not Python that this Python can read.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = cls(path, ast.parse(data, path))
        for node in statements(source.tree.body):
            source._note(node)
        return source

    @property
    def stem(self) -> str:
        """The file's name without `.py`; that of its folder for `__init__.py`."""
        path = PurePath(self.path)
        return path.parent.name if path.stem == "__init__" else path.stem

    def _note(self, node: ast.stmt) -> None:
        if isinstance(node, ast.ClassDef):
            self.classes[node.name] = node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions[node.name] = node
        elif isinstance(node, ast.Import):
            self.imported.update({a.asname or a.name.partition(".")[0]: a.name for a in node.names})
        elif isinstance(node, ast.ImportFrom):
            self.imported.update({a.asname or a.name: f"{node.module or ''}.{a.name}" for a in node.names})
        else:
            self.constants.update(_assigned([node], self.constants))

    def last_name(self, node: ast.AST) -> str:
        """What a base class or a decorator is called where it comes from: `dp.DriverPlugin` is DriverPlugin."""
        if isinstance(node, ast.Call):
            return self.last_name(node.func)
        if isinstance(node, ast.Subscript):
            return self.last_name(node.value)
        if isinstance(node, ast.Attribute):
            return node.attr
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, node.id).rpartition(".")[2]
        return ""

    def lineage(self, node: ast.ClassDef) -> list[ast.ClassDef]:
        """`node` and those of its bases that this file defines, nearest first."""
        found: list[ast.ClassDef] = []
        waiting = [node]
        while waiting:
            current = waiting.pop(0)
            if current not in found:
                found.append(current)
                names = [getattr(base, "id", getattr(base, "attr", "")) for base in current.bases]
                waiting += [self.classes[name] for name in names if name in self.classes]
        return found

    def is_a(self, node: ast.ClassDef, root: str) -> bool:
        """Whether `node` derives from a class called `root` that comes from elsewhere (or that this file defines)."""
        return node.name != root and any(self.last_name(b) == root for c in self.lineage(node) for b in c.bases)

    def leaves_of(self, root: str) -> list[ast.ClassDef]:
        """The classes that derive from `root` and that no other class of the file derives from."""
        found = [node for node in self.classes.values() if self.is_a(node, root)]
        parents = {id(base) for node in found for base in self.lineage(node)[1:]}
        return [node for node in found if id(node) not in parents | self.foreign]

    def method(self, node: ast.ClassDef, name: str) -> FunctionNode | None:
        """The method `name` of a class, its own or of a base in this file."""
        return self.methods(node).get(name)

    def methods(self, node: ast.ClassDef) -> dict[str, FunctionNode]:
        """All methods of a class, those of its bases in this file too."""
        found: dict[str, FunctionNode] = {}
        for each in reversed(self.lineage(node)):
            for item in each.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.pop(item.name, None)
                    found[item.name] = item
        return found

    def constants_of(self, node: ast.ClassDef) -> dict[str, Any]:
        """What the module, the class and `self.x = …` of its `__init__` give literals to."""
        found = dict(self.constants)
        for each in reversed(self.lineage(node)):
            found.update(_assigned(each.body, found))
            for item in each.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    found.update(_defaults(item, found))
                    found.update(_assigned(statements(item.body), found, on_self=True))
        return found

    def returned(self, function: FunctionNode | None, names: Mapping[str, Any] | None = None) -> Any:
        """The literal that a function returns; of a dictionary, what of it is literal, however it is put together."""
        for node in ast.walk(function) if function is not None else ():
            if isinstance(node, ast.Return) and node.value is not None:
                if isinstance(node.value, ast.Dict):
                    return _known_pairs(node.value, names)
                if isinstance(node.value, ast.Name) and function is not None:
                    return _gathered(function, node.value.id, names)
                return literal(node.value, names)
        return UNKNOWN


def _known_pairs(node: ast.Dict, names: Mapping[str, Any] | None) -> dict[Any, Any]:
    pairs = zip(node.keys, node.values, strict=True)
    read = {key.value: literal(value, names) for key, value in pairs if isinstance(key, ast.Constant)}
    return {key: value for key, value in read.items() if value is not UNKNOWN}


def _gathered(function: FunctionNode, name: str, names: Mapping[str, Any] | None) -> Any:
    """What a function puts into its variable `name`: a literal, or `x = {…}`, `x.update({…})`, `x["a"] = …`."""
    found: dict[Any, Any] = {}

    def is_it(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == name

    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if is_it(target) and isinstance(node.value, ast.Dict):
                    found.update(_known_pairs(node.value, names))
                elif is_it(target) and not isinstance(node.value, ast.Call):
                    return literal(node.value, names)
                elif isinstance(target, ast.Subscript) and is_it(target.value):
                    found[literal(target.slice)] = literal(node.value, names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            given = node.args[0] if node.args else None
            if is_it(node.func.value):
                found.update({word.arg: literal(word.value, names) for word in node.keywords})
                found.update(_known_pairs(given, names) if isinstance(given, ast.Dict) else {})
    return {key: value for key, value in found.items() if key is not UNKNOWN and value is not UNKNOWN}


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, those within `if`, `try` and `with` too: imports are often guarded."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from statements(getattr(node, name, ()))
        for handler in getattr(node, "handlers", ()):
            yield from statements(handler.body)


def _assigned(body: Iterable[ast.stmt], names: Mapping[str, Any], *, on_self: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        read = literal(value, {**names, **found})
        for target in targets if read is not UNKNOWN else ():
            if isinstance(target, ast.Name) and not on_self:
                found[target.id] = read
            elif on_self and isinstance(target, ast.Attribute) and literal(target, {target.attr: True}) is True:
                found[target.attr] = read
    return found


def _defaults(function: FunctionNode, names: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a function with the literals they default to."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    count = len(arguments.defaults)
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(positional[len(positional) - count :], arguments.defaults, strict=True)
    )
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    read = {argument.arg: literal(default, names) for argument, default in pairs}
    return {name: value for name, value in read.items() if value is not UNKNOWN}


@dataclass
class Key:
    """A key that code looks up in a dictionary.

    Attributes:
        default: what it takes when the key is missing; UNKNOWN when it takes nothing.
        kind: `int`, `float`, `str` or `bool` when the value goes through that; "" otherwise.
    """

    default: Any = UNKNOWN
    kind: str = ""

    @property
    def json_type(self) -> str:
        """The JSON type of the value, "" when the code does not tell."""
        kind = self.kind or (type(self.default).__name__ if self.default is not UNKNOWN else "")
        return {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}.get(kind, "")


def keys_used(
    nodes: Iterable[ast.AST], dictionaries: Iterable[str], constants: Mapping[str, Any] | None = None
) -> dict[str, Key]:
    """The literal keys that `nodes` look up in the dictionaries of these names (`config`, or `self.config`).

    `constants` are names that defaults may be written with.
    """
    names = set(dictionaries)
    found: dict[str, Key] = {}
    for scope in nodes:
        kinds, alternatives = _surroundings(scope)
        for node in ast.walk(scope):
            read = _lookup(node, names, constants or {})
            if read is not None:
                name, default = read
                key = found.setdefault(name, Key())
                if default is UNKNOWN:
                    default = alternatives.get(id(node), UNKNOWN)
                key.default = default if key.default is UNKNOWN else key.default
                key.kind = key.kind or kinds.get(id(node), "")
    return found


def called(nodes: Iterable[ast.AST], dictionaries: Iterable[str]) -> set[str]:
    """All the names under which code keeps the dictionaries of these names.

    Also what takes `**kwargs`, what `initialize` is given, and `self.opts` after `self.opts = dict(options)`.
    """
    found = set(dictionaries)
    for scope in nodes:
        for node in ast.walk(scope):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if node.args.kwarg is not None and (node.name == "__init__" or node is scope):
                    found.add(node.args.kwarg.arg)
                if node.name == "initialize" and len(node.args.args) > 1:
                    found.add(node.args.args[1].arg)
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and _is_copy(node.value, found):
                names = [getattr(target, "attr", getattr(target, "id", "")).lstrip("_") for target in node.targets]
                found.update(name for name in names if name)
    return found


def _is_copy(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression is one of the dictionaries, or made of one: `dict(options)`, `{**DEFAULTS, **options}`."""
    if isinstance(node, ast.Dict):
        return any(key is None and _is_one_of(value, names) for key, value in zip(node.keys, node.values, strict=True))
    if isinstance(node, ast.Call):
        given = [*node.args, *(word.value for word in node.keywords if word.arg is None)]
        return isinstance(node.func, ast.Name) and node.func.id == "dict" and any(_is_one_of(g, names) for g in given)
    return _is_one_of(node, names)


def _surroundings(scope: ast.AST) -> tuple[dict[int, str], dict[int, Any]]:
    """By id of an expression: the type it goes through (`int(x)`), and the literal used in its place (`x or 5`)."""
    kinds: dict[int, str] = {}
    alternatives: dict[int, Any] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id in {"int", "float", "str", "bool"}:
                kinds[id(node.args[0])] = node.func.id
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) and len(node.values) == 2:
            alternatives[id(node.values[0])] = literal(node.values[1])
    return kinds, alternatives


def _lookup(node: ast.AST, names: set[str], constants: Mapping[str, Any]) -> tuple[str, Any] | None:
    """(key, default) when `node` looks up a literal key in one of the dictionaries."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_one_of(node.value, names):
        key = literal(node.slice)
        return (key, UNKNOWN) if isinstance(key, str) else None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
        return None
    if node.func.attr not in {"get", "pop", "setdefault"} or not _is_one_of(node.func.value, names):
        return None
    key = literal(node.args[0])
    return (key, literal(node.args[1], constants) if len(node.args) > 1 else UNKNOWN) if isinstance(key, str) else None


def _is_one_of(node: ast.AST, names: set[str]) -> bool:
    """`config`, `self.config`, `(config or {})`."""
    if isinstance(node, ast.BoolOp):
        return _is_one_of(node.values[0], names)
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr.lstrip("_") in names
    return isinstance(node, ast.Name) and node.id in names


def wrapped_names(function: FunctionNode | None) -> list[str]:
    """The names of classes that a function returns, or calls and returns, nearest first."""
    found: list[str] = []
    made: dict[str, str] = {}
    for node in ast.walk(function) if function is not None else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
            made.update({target.id: node.value.func.id for target in node.targets if isinstance(target, ast.Name)})
    for node in ast.walk(function) if function is not None else ():
        if isinstance(node, ast.Return) and node.value is not None:
            value = node.value.func if isinstance(node.value, ast.Call) else node.value
            if isinstance(value, ast.Name):
                found.append(made.get(value.id, value.id))
    if function is not None and function.returns is not None:
        found += re.findall(r"[A-Za-z_]\w*", ast.unparse(function.returns))
    return found
