# ruff: noqa: PTH100, PTH111
# Strings and os.path: this runs at every start, and pathlib costs more than the work itself.
"""Where plugins are looked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import vfab

__all__ = ["BUILT_IN", "Place", "Places", "home_of"]

BUILT_IN = "built-in"
SYSTEM_PLUGINS = "/etc/vfab/plugins"


def home_of(env: Mapping[str, str]) -> Path:
    """The folder of vfab: `$VFAB_HOME`, else `~/.vfab` (`$HOME` of `env`)."""
    given = env.get("VFAB_HOME")
    if given:
        return Path(os.path.abspath(os.path.expanduser(given)))
    return Path(env.get("HOME") or os.path.expanduser("~")) / ".vfab"


@dataclass(frozen=True, slots=True)
class Place:
    """One folder that holds plugin folders, or is one.

    Attributes:
        name: how it is told to people.
        folder: absolute path.
        required: somebody named it, so that its absence is a problem.
    """

    name: str
    folder: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """All places, in order: a later one wins on the same name only if its version is higher.

    Attributes:
        folders: the places that are folders.
        entry_points: paths of Python installations whose distributions may announce `vfab.plugins`.
        cache: folder of the index, or None for no index.
    """

    folders: tuple[Place, ...] = ()
    entry_points: tuple[str, ...] = ()
    cache: Path | None = None
    entry_points_after: int = field(default=1)

    @classmethod
    def from_environment(cls, env: Mapping[str, str], *, search_path: tuple[str, ...] | None = None) -> Places:
        """Built-in, entry points, `/etc/vfab/plugins`, `$VFAB_HOME/plugins`, then each of `VFAB_PLUGIN_PATH`.

        `search_path` is where distributions are installed, `sys.path` by default.
        """
        home = home_of(env)
        folders = [
            Place(BUILT_IN, str(Path(vfab.__file__).resolve().parent / "drivers")),
            Place(SYSTEM_PLUGINS, SYSTEM_PLUGINS),
            Place(str(home / "plugins"), str(home / "plugins")),
        ]
        for part in env.get("VFAB_PLUGIN_PATH", "").split(os.pathsep):
            if part:
                folder = os.path.abspath(os.path.expanduser(part))
                folders.append(Place(f"VFAB_PLUGIN_PATH {folder}", folder, required=True))
        installed = tuple(sys.path) if search_path is None else search_path
        return cls(tuple(folders), installed, cache_of(env))

    @classmethod
    def only(cls, *folders: Path | str, cache: Path | None = None) -> Places:
        """Nothing but `folders`, in this order."""
        return cls(
            tuple(Place(str(folder), os.path.abspath(folder), required=True) for folder in folders),
            cache=cache,
            entry_points_after=0,
        )


def cache_of(env: Mapping[str, str]) -> Path:
    """Where what can be computed again is kept: `$VFAB_HOME/cache` when that is set, else as XDG says."""
    xdg = env.get("XDG_CACHE_HOME")
    if env.get("VFAB_HOME") or not xdg:
        return home_of(env) / "cache"
    return Path(xdg) / "vfab"
