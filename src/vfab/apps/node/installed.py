"""Which plugins are installed, and what became of them since the node was last started."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vfab.model.plugins import DriverInfo
from vfab.store.records import InstalledPlugin

__all__ = ["changes", "installed"]


def installed(drivers: Iterable[DriverInfo], disabled: Collection[str]) -> list[InstalledPlugin]:
    """The plugins that discovery found, for the store; reads each one's manifest."""
    now = datetime.now(UTC)
    return [
        InstalledPlugin(info.name, info.version, info.folder, now, _digest(info), info.name not in disabled)
        for info in drivers
    ]


def _digest(info: DriverInfo) -> str:
    for file in (Path(info.folder) / "plugin.yaml", Path(info.manifest.runtime.source or info.folder)):
        try:
            return hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError:
            continue
    return ""


def changes(before: Iterable[InstalledPlugin], now: Iterable[InstalledPlugin]) -> list[Mapping[str, Any]]:
    """What is new, changed or vanished, by name: `{"driver", "change", "was", "is", "folder", "since"}`.

    Nothing is new where nothing was known before: at the first start of all.
    """
    known, there = {plugin.name: plugin for plugin in before}, {plugin.name: plugin for plugin in now}
    found: list[Mapping[str, Any]] = []
    for name in sorted(known.keys() | there.keys()) if known else ():
        was, is_ = known.get(name), there.get(name)
        if was is not None and is_ is not None:
            kept = (was.version, was.digest, was.folder) == (is_.version, is_.digest, is_.folder)
            change = "" if kept or not was.digest else "changed"
        else:
            change = "new" if was is None else "vanished"
        plugin = is_ or was
        if change and plugin is not None:
            found.append(
                {
                    "driver": name,
                    "change": change,
                    "was": was.version if was else None,
                    "is": is_.version if is_ else None,
                    "folder": plugin.folder,
                    "since": plugin.installed_at.isoformat(),
                }
            )
    return found
