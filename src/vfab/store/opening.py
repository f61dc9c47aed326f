"""Opening the database: private, checked, of the right schema; migrated in one step after a copy was made."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from vfab.store.errors import StoreTooNew, StoreUnusable
from vfab.store.store import Store

__all__ = ["REVISIONS", "open_store"]

REVISIONS = ("0001", "0002")
"""The migrations in order; the last one is what this vfab works with."""

CHECKED_BYTES = 64 * 1024 * 1024
"""A database up to this size is checked as a whole when it is opened."""

BUSY_S = 10.0
"""How long another process may hold the database."""

Clock = Callable[[], datetime]


def open_store(path: Path, clock: Clock = lambda: datetime.now(UTC)) -> Store:
    """The store in the SQLite file `path`, made when it is missing, brought to this version's schema.

    A damaged file is set aside under another name, never deleted, and a new one is begun; `Store.notices` says so.

    Raises StoreTooNew: a newer vfab wrote it; it was left as it is. StoreUnusable: it can be neither read nor made.
    """
    notices: list[str] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _one_at_a_time(path):
            _make_private(path)
            fault = _fault(path)
            if fault:
                aside = _set_aside(path, clock())
                notices.append(
                    f"the database was damaged ({fault}) and was set aside as {aside}; a new one was begun: devices "
                    f"must be connected and drivers disabled again"
                )
                _make_private(path)
            engine = _engine(path)
            try:
                notices += _migrate(path, engine, clock())
            except BaseException:
                engine.dispose()
                raise
    except (OSError, DBAPIError, sqlite3.Error) as error:
        raise StoreUnusable(
            f"{path}: cannot be used as database: {error}",
            context={"file": str(path)},
            remedy="Check that this user may write there and that the disk has space; VFAB_HOME names another folder.",
            original_error=error,
        ) from error
    return Store(engine, clock, tuple(notices))


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Two programs that start at once must not both migrate."""
    fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _make_private(path: Path) -> None:
    """The file for its owner alone, before SQLite makes it with whatever rights are usual; the WAL's follow it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def _fault(path: Path) -> str:
    """What is wrong with the file; "" for a sound or an empty one."""
    size = path.stat().st_size
    if not size:
        return ""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as database:
        try:
            if size > CHECKED_BYTES:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return ""
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise
            return str(error)
        except sqlite3.DatabaseError as error:
            return str(error)
    return "" if verdict == "ok" else str(verdict)


def _set_aside(path: Path, now: datetime) -> Path:
    aside = _free(path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%SZ}"))
    for suffix in ("-wal", "-shm"):  # with its name they would be taken for the new database's
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + suffix))
    path.replace(aside)
    return aside


def _free(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _engine(path: Path) -> Engine:
    """One connection, used by one thread at a time: the store's owner sees to that."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_S, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a power cut takes nothing that was said to be written
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begins(connection: Connection) -> None:
        # sqlite3's own transactions leave out DDL; and one that writes must not begin as one that reads
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _migrate(path: Path, engine: Engine, now: datetime) -> list[str]:
    """Bring the schema to the last of `REVISIONS`; what was done, for people."""
    current = _revision(engine)
    if current == REVISIONS[-1]:
        return []
    if current is not None and current not in REVISIONS:
        import vfab

        raise StoreTooNew(
            f"{path}: its schema is {current}, which vfab {vfab.__version__} does not know (up to {REVISIONS[-1]})",
            context={"file": str(path), "schema": current, "known": list(REVISIONS)},
            remedy="Upgrade vfab to the version that wrote it (pip install --upgrade vfab), or use another VFAB_HOME.",
        )
    notices = []
    if current is not None:
        copy = _free(path.with_name(f"{path.name}.schema-{current}-{now:%Y%m%dT%H%M%SZ}"))
        _copy(path, copy)
        notices.append(f"the database was brought from schema {current} to {REVISIONS[-1]}; a copy is {copy}")
    _upgrade(engine)
    return notices


def _revision(engine: Engine) -> str | None:
    with engine.begin() as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
        if connection.exec_driver_sql(query).first() is None:
            return None
        row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return str(row[0]) if row is not None else None


def _copy(path: Path, target: Path) -> None:
    """A copy with everything that is still in the WAL."""
    _make_private(target)
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with engine.begin() as connection:  # all steps or none
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
