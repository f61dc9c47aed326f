"""What a plugin's source says against its manifest: the class, its methods, their parameters. Nothing is run."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfab.dialects.reading import Source
from vfab.kernel.plugin_rules import driver_file
from vfab.model.manifest import Command, Manifest

__all__ = ["Remark", "source_remarks"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Remark:
    """What is wrong at a line of a source file, or in a field of the manifest when `line` is 0."""

    message: str
    remedy: str
    file: str = ""
    line: int = 0
    field: str = ""
    certain: bool = True


@dataclass(frozen=True, slots=True)
class _Method:
    """A method's parameters: name -> whether a caller must give it."""

    parameters: dict[str, bool]
    takes_any: bool
    file: str = ""
    line: int = 0


def source_remarks(folder: Path, manifest: Manifest) -> list[Remark]:
    """What does not fit between the manifest and the source of a native Python plugin."""
    file = driver_file(folder, manifest)
    if file is None or file.suffix != ".py":
        return []  # told with the manifest's files
    source = _parse(file)
    if isinstance(source, Remark):
        return [source]
    name = manifest.driver_class.rpartition(".")[2]
    node = source.classes.get(name)
    if node is None:
        if name in source.imported:
            return [
                Remark(
                    f"{name} comes from another module: its methods were not looked at", "", str(file), certain=False
                )
            ]
        known = ", ".join(source.classes) or "no class at all"
        message = f"{file} has no class {name}; it has {known}"
        return [Remark(message, "Correct driver_class in plugin.yaml.", str(file), field="driver_class")]
    methods, whole = _methods(folder, source, node, set())
    return list(_command_remarks(manifest, methods, whole, file, node))


def _parse(file: Path) -> Source | Remark:
    try:
        return Source.parse(str(file), file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 0
        why = getattr(error, "msg", None) or str(error)
        return Remark(f"{file} is not Python: {why}", f"Correct line {line}.", str(file), line)


def _methods(folder: Path, source: Source, node: ast.ClassDef, seen: set[str]) -> tuple[dict[str, _Method], bool]:
    """The methods of a class and of its bases, and whether all bases could be read."""
    found: dict[str, _Method] = {}
    whole = True
    seen.add(f"{source.path}:{node.name}")
    for base in reversed(node.bases):
        inherited, known = _inherited(folder, source, base, seen)
        found.update(inherited)
        whole = whole and known
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            found[item.name] = _of_node(item, source.path)
    return found, whole


def _inherited(folder: Path, source: Source, base: ast.expr, seen: set[str]) -> tuple[dict[str, _Method], bool]:
    local = base.id if isinstance(base, ast.Name) else ""
    if local in source.classes:
        inside = source.classes[local]
        again = f"{source.path}:{local}" in seen
        return ({}, True) if again else _methods(folder, source, inside, seen)
    module, _, name = source.imported.get(local, "").rpartition(".")
    if module == "vfab.sdk" or module.startswith("vfab.sdk."):
        return _of_sdk(module, name)
    beside = folder.joinpath(*module.strip(".").split(".")).with_suffix(".py") if module.strip(".") else None
    if beside is not None and beside.is_file():
        other = _parse(beside)
        if isinstance(other, Source) and name in other.classes and f"{other.path}:{name}" not in seen:
            return _methods(folder, other, other.classes[name], seen)
    return {}, False


def _of_sdk(module: str, name: str) -> tuple[dict[str, _Method], bool]:
    """The methods of a base class that is vfab's own: the only code that is imported here."""
    from importlib import import_module

    cls = getattr(import_module(module), name, None)
    if not isinstance(cls, type):
        return {}, False
    found: dict[str, _Method] = {}
    for key, value in inspect.getmembers(cls, inspect.isfunction):
        kinds = list(inspect.signature(value).parameters.values())[1:]
        any_name = any(p.kind is p.VAR_KEYWORD for p in kinds)
        named = {p.name: p.default is p.empty for p in kinds if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}}
        found[key] = _Method(named, any_name)
    return found, True


def _of_node(node: FunctionNode, file: str) -> _Method:
    plain = [*node.args.posonlyargs, *node.args.args]
    required = len(plain) - len(node.args.defaults)
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    named = {a.arg: number < required for number, a in enumerate(plain)}
    if not static and plain:
        named.pop(plain[0].arg)
    named |= {a.arg: d is None for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)}
    return _Method(named, node.args.kwarg is not None, file, node.lineno)


def _command_remarks(
    manifest: Manifest, methods: dict[str, _Method], whole: bool, file: Path, node: ast.ClassDef
) -> Iterator[Remark]:
    for name, command in manifest.commands.items():
        wanted = command.method or name.replace("-", "_")
        method = methods.get(wanted)
        if method is not None:
            yield from _parameter_remarks(name, wanted, command, method)
            continue
        field = f"commands.{name}"
        if whole:
            message = f"{node.name} has no method {wanted}, which the command {name} calls"
            remedy = f"Write def {wanted} in {file.name}, or name another with method: in plugin.yaml."
            yield Remark(message, remedy, str(file), node.lineno, field)
        else:
            message = f"{wanted} was not found, and a base of {node.name} could not be read"
            yield Remark(message, "", str(file), node.lineno, field, certain=False)


def _parameter_remarks(name: str, wanted: str, command: Command, method: _Method) -> Iterator[Remark]:
    told: dict[str, Any] = {"file": method.file, "line": method.line}
    for key, parameter in command.parameters.items():
        field = f"commands.{name}.parameters.{key}"
        if key not in method.parameters and not method.takes_any:
            remedy = f"Add it to {wanted}, or remove it from plugin.yaml."
            yield Remark(f"{wanted} takes no {key}", remedy, field=field, **told)
        elif method.parameters.get(key) and not parameter.required and parameter.default is None:
            message = f"{wanted} needs {key}, and callers may leave it out"
            yield Remark(message, "Write required: true or a default: in plugin.yaml.", field=field, **told)
    for key, needed in method.parameters.items():
        if needed and key not in command.parameters:
            message = f"{wanted} needs {key}, which the command {name} does not have"
            remedy = f"Add {key} to the command's parameters in plugin.yaml, or give it a default in {wanted}."
            yield Remark(message, remedy, field=f"commands.{name}.parameters", **told)
