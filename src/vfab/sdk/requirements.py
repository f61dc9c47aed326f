"""Whether what a manifest lists under `dependencies` is installed here. Nothing is imported for it.

`packaging` and `importlib.metadata` answer that as well, and take 50 ms to be imported, a third of `vfab driver list`.
So the names of installed distributions are read from the names of their folders, plain requirements are judged by plain
numbers, and only others are left to `packaging`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable

__all__ = ["installed_versions", "missing_requirements"]

_PLAIN = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:>=\s*(\d+(?:\.\d+)*))?\s*")
_FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.(dist|egg)-info")


def installed_versions(search_path: Iterable[str] | None = None) -> dict[str, str]:
    """The version of every distribution on `search_path` (None takes `sys.path`) by its normalised name (PEP 503)."""
    found: dict[str, str] = {}
    for folder in sys.path if search_path is None else search_path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - strings: pathlib costs more than the work itself
        except OSError:  # an entry of sys.path need not exist, nor be a folder
            continue
        for name in names:
            match = _FOLDER.match(name) if name.endswith("-info") else None
            if match is not None:
                found.setdefault(_normal(match["name"]), match["version"])
    return found


def missing_requirements(requirements: Iterable[str]) -> list[str]:
    """Those of `requirements` (PEP 508) that are not met here, as they are written.

    What can be imported without being a distribution counts as installed, whatever its version. A requirement that
    makes no sense is missing.
    """
    wanted = list(requirements)
    installed = installed_versions() if wanted else {}
    return [text for text in wanted if not _is_met(text, installed)]


def _is_met(text: str, installed: dict[str, str]) -> bool:
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        return _is_met_by_packaging(text, installed)
    name, least = plain.groups()
    version = installed.get(_normal(name))
    if version is None:
        return _can_be_imported(name)
    if least is None:
        return True
    numbers, needed = _numbers(version), _numbers(least)
    if numbers is None or needed is None:
        return _is_met_by_packaging(text, installed)
    longest = max(len(numbers), len(needed))
    return _padded(numbers, longest) >= _padded(needed, longest)


def _is_met_by_packaging(text: str, installed: dict[str, str]) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return False
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    version = installed.get(_normal(wanted.name))
    if version is None:
        return _can_be_imported(wanted.name)
    return wanted.specifier.contains(version, prereleases=True)


def _can_be_imported(name: str) -> bool:
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> list[int] | None:
    parts = version.split(".")
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else None


def _padded(numbers: list[int], length: int) -> list[int]:
    return numbers + [0] * (length - len(numbers))
