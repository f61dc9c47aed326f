"""The store's parts: each knows one subject. Not for several threads at once; each call is one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, Table, delete, func, insert, select, update

from vfab.store import tables as t
from vfab.store.records import InstalledPlugin, JournalEntry, NodeRun, Suspect, Verdict, Wanted, WantedDevice

__all__ = ["Crashes", "DriverSwitches", "InstalledPlugins", "Journal", "Store", "WantedDevices"]

KEPT_ENTRIES = 100_000
"""Entries that `Journal.prune` keeps, the newest."""

Clock = Callable[[], datetime]


class WantedDevices:
    """What the node keeps, however often it is started."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def all(self) -> list[WantedDevice]:
        """Every one, longest wanted first."""
        table = t.wanted_devices
        with self._engine.begin() as connection:
            rows = connection.execute(select(table).order_by(table.c.since, table.c.device_id)).all()
        return [
            WantedDevice(r.device_id, r.driver, Wanted(r.wanted), r.since, r.address, dict(r.overrides)) for r in rows
        ]

    def put(
        self,
        device_id: str,
        driver: str,
        wanted: Wanted,
        *,
        address: str = "",
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        """Want `device_id` in a state; whoever was wanted before keeps its place in the order."""
        table = t.wanted_devices
        values = {"driver": driver, "wanted": wanted.value, "address": address, "overrides": dict(overrides or {})}
        with self._engine.begin() as connection:
            done = connection.execute(update(table).where(table.c.device_id == device_id).values(values))
            if not done.rowcount:
                connection.execute(insert(table).values(device_id=device_id, since=self._clock(), **values))

    def remove(self, device_id: str) -> bool:
        """Want it no more; False when it was not wanted."""
        return _removed(self._engine, t.wanted_devices, "device_id", device_id)


class DriverSwitches:
    """Which drivers somebody switched off."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def disabled(self) -> frozenset[str]:
        """Names of the drivers that are switched off."""
        table = t.driver_switches
        with self._engine.begin() as connection:
            return frozenset(connection.scalars(select(table.c.driver).where(table.c.enabled.is_(False))))

    def set(self, driver: str, *, enabled: bool) -> bool:
        """Switch a driver; False when it was so already."""
        if enabled is (driver not in self.disabled()):
            return False
        table = t.driver_switches
        with self._engine.begin() as connection:
            connection.execute(delete(table).where(table.c.driver == driver))
            connection.execute(insert(table).values(driver=driver, enabled=enabled, changed_at=self._clock()))
        return True


class InstalledPlugins:
    """The plugins that are installed, as discovery last found them."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def all(self) -> list[InstalledPlugin]:
        """Every one, by name."""
        table = t.installed_plugins
        with self._engine.begin() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).all()
        return [InstalledPlugin(r.name, r.version, r.folder, r.installed_at, r.digest, r.enabled) for r in rows]

    def sync(self, found: Iterable[InstalledPlugin]) -> list[InstalledPlugin]:
        """Note that these are what there is now, in one step; all as they are noted then, by name.

        One that is as it was keeps its `installed_at`; of the others it is now.
        """
        known = {plugin.name: plugin for plugin in self.all()}
        now = self._clock()
        noted = []
        for plugin in found:
            was = known.get(plugin.name)
            since = was.installed_at if was is not None and _same(was, plugin) else now
            noted.append(replace(plugin, installed_at=since))
        noted.sort(key=lambda plugin: plugin.name)
        if noted != list(known.values()):
            with self._engine.begin() as connection:
                connection.execute(delete(t.installed_plugins))
                if noted:
                    connection.execute(insert(t.installed_plugins), [asdict(plugin) for plugin in noted])
        return noted


def _same(one: InstalledPlugin, other: InstalledPlugin) -> bool:
    return (one.version, one.folder, one.digest) == (other.version, other.folder, other.digest)


class Journal:
    """What was done, written before it is done. Append-only: the database refuses to change an entry."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def begin(
        self, operation: str, *, run: int = 0, device_id: str = "", driver: str = "", detail: Mapping[str, Any] = {}
    ) -> int:
        """Something is about to be done; the number that `end` takes."""
        return self._append("begin", operation, run=run, device_id=device_id, driver=driver, detail=detail)

    def end(self, begun: int, outcome: str = "done", *, detail: Mapping[str, Any] = {}) -> None:
        """What became of it. Raises KeyError: nothing of that number began."""
        table = t.journal
        with self._engine.begin() as connection:
            row = connection.execute(select(table).where(table.c.id == begun)).first()
        if row is None or row.phase != "begin":
            raise KeyError(begun)
        where = {"run": row.run, "device_id": row.device_id, "driver": row.driver}
        self._append("end", row.operation, **where, detail=detail, of=begun, outcome=outcome)

    def note(
        self, operation: str, *, run: int = 0, device_id: str = "", driver: str = "", detail: Mapping[str, Any] = {}
    ) -> int:
        """Something happened that takes no time."""
        return self._append("note", operation, run=run, device_id=device_id, driver=driver, detail=detail)

    def note_all(
        self,
        operations: Sequence[str],
        *,
        run: int = 0,
        device_id: str = "",
        driver: str = "",
        detail: Mapping[str, Any] = {},
    ) -> None:
        """Several things happen one after the other, without time between them: noted in one transaction."""
        rows = [
            self._values("note", operation, run=run, device_id=device_id, driver=driver, detail=detail)
            for operation in operations
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(t.journal), rows)

    def open_in(self, run: int) -> list[JournalEntry]:
        """What began in that run and has no end: what was under way when it died."""
        table = t.journal
        ended = select(table.c.of).where(table.c.run == run, table.c.phase == "end")
        query = select(table).where(table.c.run == run, table.c.phase == "begin", table.c.id.not_in(ended))
        with self._engine.begin() as connection:
            return [_entry(row) for row in connection.execute(query.order_by(table.c.id)).all()]

    def last(self, count: int = 50) -> list[JournalEntry]:
        """The newest entries, oldest first."""
        table = t.journal
        with self._engine.begin() as connection:
            rows = connection.execute(select(table).order_by(table.c.id.desc()).limit(count)).all()
        return [_entry(row) for row in reversed(rows)]

    def prune(self, keep: int = KEPT_ENTRIES) -> int:
        """Forget all but the newest `keep` entries; how many were forgotten."""
        table = t.journal
        with self._engine.begin() as connection:
            newest = connection.scalar(select(func.max(table.c.id))) or 0
            return int(connection.execute(delete(table).where(table.c.id <= newest - keep)).rowcount)

    def _values(
        self,
        phase: str,
        operation: str,
        *,
        run: int,
        device_id: str,
        driver: str,
        detail: Mapping[str, Any],
        of: int | None = None,
        outcome: str = "",
    ) -> dict[str, Any]:
        plain = json.loads(json.dumps(dict(detail), default=str))
        values = {"at": self._clock(), "run": run, "phase": phase, "operation": operation, "device_id": device_id}
        return values | {"driver": driver, "of": of, "outcome": outcome, "detail": plain}

    def _append(self, phase: str, operation: str, **fields: Any) -> int:
        values = self._values(phase, operation, **fields)
        with self._engine.begin() as connection:
            key = connection.execute(insert(t.journal).values(values)).inserted_primary_key
        assert key is not None
        return int(key[0])


class Crashes:
    """The node's lives, how they ended, and which drivers are left out for it."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def begin_run(self, pid: int, process: str) -> int:
        """A node starts; the number of its run."""
        values = {"pid": pid, "process": process, "started_at": self._clock()}
        with self._engine.begin() as connection:
            key = connection.execute(insert(t.runs).values(values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def set_zygote(self, run: int, pid: int, process: str) -> None:
        """Which process its hosts are forked from."""
        with self._engine.begin() as connection:
            connection.execute(update(t.runs).where(t.runs.c.id == run).values(zygote_pid=pid, zygote=process))

    def end_run(self, run: int) -> None:
        """It ends in good order."""
        with self._engine.begin() as connection:
            connection.execute(update(t.runs).where(t.runs.c.id == run).values(ended_at=self._clock()))

    def last_run(self) -> NodeRun | None:
        """The newest run that began; None before the first."""
        with self._engine.begin() as connection:
            row = connection.execute(select(t.runs).order_by(t.runs.c.id.desc()).limit(1)).first()
        if row is None:
            return None
        return NodeRun(row.id, row.pid, row.process, row.started_at, row.zygote_pid, row.zygote, row.ended_at)

    def suspects(self) -> list[Suspect]:
        """The drivers that are left out, by name."""
        table = t.crash_suspects
        with self._engine.begin() as connection:
            rows = connection.execute(select(table).order_by(table.c.driver)).all()
        return [Suspect(r.driver, Verdict(r.verdict), r.reason, r.since, r.deaths) for r in rows]

    def accuse(self, driver: str, verdict: Verdict, reason: str) -> None:
        """Leave a driver out; another death under it counts."""
        table = t.crash_suspects
        with self._engine.begin() as connection:
            deaths = connection.scalar(select(table.c.deaths).where(table.c.driver == driver)) or 0
            connection.execute(delete(table).where(table.c.driver == driver))
            values = {"driver": driver, "verdict": verdict.value, "reason": reason, "since": self._clock()}
            connection.execute(insert(table).values({**values, "deaths": deaths + 1}))

    def acquit(self, driver: str) -> bool:
        """Let a driver in again; False when it was not left out."""
        return _removed(self._engine, t.crash_suspects, "driver", driver)


class Store:
    """Everything that lasts.

    Attributes:
        notices: what happened at opening that people should know, for example that a damaged database was set aside.
    """

    def __init__(self, engine: Engine, clock: Clock, notices: tuple[str, ...] = ()) -> None:
        self.notices = notices
        self.wanted = WantedDevices(engine, clock)
        self.switches = DriverSwitches(engine, clock)
        self.plugins = InstalledPlugins(engine, clock)
        self.journal = Journal(engine, clock)
        self.crashes = Crashes(engine, clock)
        self._engine = engine

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _removed(engine: Engine, table: Table, column: str, value: str) -> bool:
    with engine.begin() as connection:
        return bool(connection.execute(delete(table).where(table.c[column] == value)).rowcount)


def _entry(row: Row[Any]) -> JournalEntry:
    return JournalEntry(
        row.id, row.at, row.run, row.phase, row.operation, row.device_id, row.driver, row.of, row.outcome,
        dict(row.detail),
    )  # fmt: skip
