# ruff: noqa: PTH100, PTH113, PTH116, PTH118, PTH123
# Strings and os.path: this runs at every start, and pathlib costs more than the work itself.
"""Plugins announced by installed distributions: the entry point group `vfab.plugins`. Nothing is imported.

`importlib.metadata` parses every distribution at every call; here one stat per folder of `sys.path` tells whether what
the index remembers still holds. `importlib.util.find_spec("a.b")` imports `a`; here only the top package is looked up,
and the rest is a path below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec

from vfab.kernel.index import Index

__all__ = ["GROUP", "Announced", "announced", "folder_of"]

GROUP = "vfab.plugins"

Announced = tuple[str, str, str, str]
"""(name, value, distribution, the folder that the distribution is installed in)."""


def announced(search_path: Iterable[str], index: Index) -> Iterator[Announced]:
    """Every entry point of the group in the folders of `search_path`, each folder once."""
    for folder in dict.fromkeys(os.path.abspath(path or ".") for path in search_path):
        try:
            seen = os.stat(folder)
            points = index.entry_points(folder, seen)
            if points is None:
                points = tuple(_of_folder(folder))
                index.remember_entry_points(folder, seen, points)
        except OSError:  # an entry of sys.path need not exist, nor be a folder
            continue
        for name, value, distribution in points:
            yield name, value, distribution, folder


def _of_folder(folder: str) -> Iterator[tuple[str, str, str]]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.name.endswith((".dist-info", ".egg-info")))
    for name in names:
        try:
            with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            continue
        if GROUP in text:
            distribution = name.rpartition(".")[0].partition("-")[0]
            yield from ((key, value, distribution) for key, value in _points(text))


def _points(text: str) -> Iterator[tuple[str, str]]:
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def folder_of(value: str, installed_in: str) -> str | None:
    """The folder with `plugin.yaml` that the entry point `value` (`package.module:attribute`) means; None if none has.

    The deepest folder on the way from the package to the module wins.
    """
    parts = value.partition(":")[0].partition("[")[0].strip().split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for root in _package_folders(parts[0], installed_in):
        for depth in range(len(parts), 0, -1):
            folder = os.path.join(root, *parts[1:depth])
            if os.path.isfile(os.path.join(folder, "plugin.yaml")):
                return folder
    return None


def _package_folders(top: str, installed_in: str) -> list[str]:
    spec: ModuleSpec | None = PathFinder.find_spec(top, [installed_in])
    if spec is None:  # an editable installation: its finder knows
        try:
            spec = find_spec(top)
        except (ImportError, ValueError):
            return []
    if spec is None or spec.submodule_search_locations is None:
        return []
    return list(spec.submodule_search_locations)
