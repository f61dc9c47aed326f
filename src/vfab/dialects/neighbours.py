"""What a plugin's file imports from files beside it: base classes, managers, constants. Read, never run."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from vfab.dialects.names import MODULES, is_named
from vfab.dialects.reading import Source, statements

__all__ = ["imported_names", "take_in_neighbours", "unknown_imports"]

_FILES_MAX = 16
_BYTES_MAX = 1 << 20
_OURS = frozenset({"vfab", "sat_toolkit", "plugin_manager"})
_UP = 4
"""How many folders above the file are looked at for `import pkg.mod`: seed 002's `plugins.devices.x` has three."""


def take_in_neighbours(source: Source) -> tuple[str, ...]:
    """Let `source` know the classes and constants that it imports from files near it; which files were read.

    A file that cannot be read, or is no Python, is left out: the process that imports it will tell.
    """
    read: dict[str, Source] = {source.path: source}
    _take_in(source, read)
    return tuple(path for path in read if path != source.path)


def imported_names(file: str) -> dict[str, set[str]]:
    """Module -> the names that `file` and the files near it that it imports take from it, wherever they do.

    A relative module keeps its dots. A file that cannot be read, or is no Python, imports nothing.
    """
    try:
        source = Source.parse(file, Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    read = {file: source}
    _take_in(source, read)
    found: dict[str, set[str]] = {}
    for each in read.values():
        for node in ast.walk(each.tree):
            if isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                found.setdefault(module, set()).update(alias.name for alias in node.names)
    return found


def unknown_imports(file: str) -> tuple[str, ...]:
    """The packages that `file` imports at once, come what may, and nothing here has: its host could not load it.

    Imports within `try`, `if` or a function do not count, nor any in a file that says by `sys` where modules are.
    A file that cannot be read, or is no Python, has none. Nothing is imported.
    """
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 — as everywhere here: a string
            tree = ast.parse(opened.read(_BYTES_MAX), file)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    if any(node.attr in {"path", "modules", "meta_path"} for node in _of_sys(tree)):
        return ()
    wanted: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            wanted |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            named = is_named(alias.name for alias in node.names)
            wanted |= {} if named else {node.module: None}
    unknown = (name for name in wanted if not _is_known(file, name))
    return tuple(dict.fromkeys(name if _is_ours(name) else name.partition(".")[0] for name in unknown))


def _of_sys(tree: ast.Module) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            yield node


def _is_known(importer: str, module: str) -> bool:
    package = module.partition(".")[0]
    if package == "vfab":
        return _is_there(Path(__file__).parents[1].joinpath(*module.split(".")[1:]))
    if package in sys.stdlib_module_names or module in MODULES or package == "plugins":
        return True
    if any(_is_there(folder / package) for folder in _folders(importer)):
        return True
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return True


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS


def _is_there(base: Path) -> bool:
    return base.is_dir() or base.with_name(f"{base.name}.py").is_file()


def _folders(importer: str) -> list[Path]:
    return list(Path(importer).parents)[:_UP]


def _take_in(source: Source, read: dict[str, Source]) -> None:
    for module, names, called in _imports(source):
        file = _file_of(source.path, module)
        if file is None or len(read) >= _FILES_MAX:
            continue
        if file in read:
            _name_constants(source, read[file], called)
            continue
        try:
            data = Path(file).read_bytes()
            if len(data) > _BYTES_MAX:
                continue
            near = read[file] = Source.parse(file, data)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        _take_in(near, read)
        _merge(source, near, names)
        _name_constants(source, near, called)


def _name_constants(source: Source, near: Source, called: str) -> None:
    """Let `source` know the constants of the module that it calls so: `C.NAME` after `from . import constants as C`."""
    for name, value in near.constants.items() if called else ():
        source.constants.setdefault(f"{called}.{name}", value)


def _merge(source: Source, near: Source, names: dict[str, str]) -> None:
    """The classes of `near` under their own names, and what was imported under the name that it was given."""
    for name, node in near.classes.items():
        if name not in source.classes:
            source.classes[name] = node
            source.foreign.add(id(node))
    for name, origin in near.imported.items():
        source.imported.setdefault(name, origin)
    for here, there in (names or {name: name for name in near.constants}).items():
        if there in near.classes and here not in source.classes:
            source.classes[here] = near.classes[there]
            source.foreign.add(id(near.classes[there]))
        if there in near.constants:
            source.constants.setdefault(here, near.constants[there])


def _imports(source: Source) -> Iterator[tuple[str, dict[str, str], str]]:
    """(module, local name -> its name there, what the module is called here) of each import.

    `.base` is a module beside the file. A whole module has no names; one of which only names are imported is called "".
    """
    for node in statements(source.tree.body):
        if isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            names = {alias.asname or alias.name: alias.name for alias in node.names if alias.name != "*"}
            yield start, names, ""
            inside = start if node.module is None else f"{start}."  # from . import base, from .tables import gains
            yield from ((inside + alias.name, {}, alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, {}, alias.asname or alias.name) for alias in node.names)


def _file_of(importer: str, module: str) -> str | None:
    """The file near `importer` that `module` is, None when it is none."""
    level = len(module) - len(module.lstrip("."))
    parts = [part for part in module.lstrip(".").split(".") if part]
    folders = list(Path(importer).parents)
    if level:
        roots = folders[level - 1 : level]
    elif parts and (parts[0] in sys.stdlib_module_names or parts[0] in _OURS):
        return None
    else:
        roots = folders[:_UP]
    for root in roots:
        base = root.joinpath(*parts)
        for candidate in (f"{base}.py", f"{base}/__init__.py"):
            if os.path.isfile(candidate):  # noqa: PTH113 — a string: this runs for every import of every plugin
                return candidate
    return None
