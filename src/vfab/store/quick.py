"""What every one-shot command must know of the store, read with sqlite3 alone: SQLAlchemy costs 350 ms at a start."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["database_of", "left_out_drivers", "wanted_rows"]

DATABASE = "vfab.db"


def database_of(home: Path) -> Path:
    """Where the database of the vfab in `home` is."""
    return home / DATABASE


def left_out_drivers(home: Path) -> dict[str, str]:
    """Drivers that somebody disabled, or that are left out because the node died under them: name → why.

    A database that is missing, damaged or of another version says nothing here: the node tells about it.
    """
    switched_off = _read(home, "SELECT driver, 'it is disabled' FROM driver_switches WHERE NOT enabled")
    suspects = _read(home, "SELECT driver, reason FROM crash_suspects")
    return {str(driver): str(why) for driver, why in [*suspects, *switched_off]}


def wanted_rows(home: Path) -> list[dict[str, str]]:
    """The devices that a node keeps, or will when it is started: `{"device", "driver", "wanted"}`."""
    rows = _read(home, "SELECT device_id, driver, wanted FROM wanted_devices ORDER BY since, device_id")
    return [{"device": str(device), "driver": str(driver), "wanted": str(wanted)} for device, driver, wanted in rows]


def _read(home: Path, query: str) -> list[tuple[object, ...]]:
    path = database_of(home)
    if not path.is_file():
        return []
    import sqlite3

    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(path)) as database:
        return list(database.execute(query))
    return []


def _opened(path: Path) -> sqlite3.Connection:
    import sqlite3
    from urllib.parse import quote

    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1.0)
