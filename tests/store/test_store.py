"""What the store keeps: wanted devices, switches, plugins, the journal, suspects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from vfab.store import quick
from vfab.store.opening import open_store
from vfab.store.records import InstalledPlugin, Verdict, Wanted
from vfab.store.store import Store
from vfab.store.tables import journal, metadata


class Clock:
    """A second passes at each look."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return quick.database_of(tmp_path / "home")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path, Clock()) as opened:
        yield opened


def test_a_wanted_device_keeps_its_place_when_what_is_wanted_of_it_changes(store: Store) -> None:
    store.wanted.put("b", "one", Wanted.READY)
    store.wanted.put("a", "two", Wanted.CONNECTED, address="/dev/a", overrides={"speed": 3})
    store.wanted.put("b", "one", Wanted.CONNECTED)
    first, second = store.wanted.all()
    assert (first.device_id, first.wanted, first.since) == (
        "b",
        Wanted.CONNECTED,
        datetime(2030, 1, 1, 0, 0, 2, tzinfo=UTC),
    )
    assert (second.device_id, second.address, second.overrides) == ("a", "/dev/a", {"speed": 3})
    assert store.wanted.remove("b") and not store.wanted.remove("b")


def test_everything_is_there_when_the_store_is_opened_again(path: Path) -> None:
    with open_store(path, Clock()) as store:
        store.wanted.put("a", "one", Wanted.READY)
        store.switches.set("one", enabled=False)
        store.plugins.sync([found("one")])
        store.crashes.accuse("two", Verdict.SUSPECT, "why")
        store.journal.note("hello", detail={"when": datetime(2030, 1, 1, tzinfo=UTC)})
    with open_store(path) as store:
        assert [wanted.device_id for wanted in store.wanted.all()] == ["a"]
        assert store.switches.disabled() == {"one"}
        assert [(p.name, p.version, p.installed_at.tzinfo) for p in store.plugins.all()] == [("one", "1", UTC)]
        assert [(s.driver, s.verdict, s.deaths) for s in store.crashes.suspects()] == [("two", Verdict.SUSPECT, 1)]
        assert store.journal.last()[0].detail == {"when": "2030-01-01 00:00:00+00:00"}
        assert store.notices == ()


def test_a_driver_is_switched_off_and_on(store: Store) -> None:
    assert not store.switches.set("one", enabled=True)
    assert store.switches.set("one", enabled=False)
    assert not store.switches.set("one", enabled=False)
    assert store.switches.set("one", enabled=True)
    assert store.switches.disabled() == frozenset()


def found(name: str, version: str = "1", *, digest: str = "aa", enabled: bool = True) -> InstalledPlugin:
    return InstalledPlugin(name, version, f"/p/{name}", datetime.min.replace(tzinfo=UTC), digest, enabled)


def test_what_was_found_replaces_what_was_known_and_what_stayed_the_same_keeps_its_time(store: Store) -> None:
    first = store.plugins.sync([found("two"), found("one"), found("three")])
    assert [plugin.name for plugin in first] == ["one", "three", "two"]
    assert store.plugins.all() == first
    second = store.plugins.sync([found("one", enabled=False), found("two", digest="bb"), found("four", "2")])
    assert store.plugins.all() == second
    four, one, two = second
    assert (one.enabled, one.installed_at) == (False, first[0].installed_at)
    assert two.installed_at > first[2].installed_at
    assert four.installed_at == two.installed_at
    assert store.plugins.sync([]) == store.plugins.all() == []


def test_the_journal_knows_what_was_under_way(store: Store) -> None:
    run = store.crashes.begin_run(7, "ticks")
    done = store.journal.begin("connect", run=run, device_id="a", driver="one")
    cut = store.journal.begin("start", run=run, device_id="b", driver="two", detail={"x": 1})
    store.journal.end(done, "done")
    store.journal.begin("start", run=run + 1)
    assert [(entry.id, entry.operation, entry.driver) for entry in store.journal.open_in(run)] == [
        (cut, "start", "two")
    ]
    with pytest.raises(KeyError):
        store.journal.end(999)
    end = store.journal.last()[-2]
    assert (end.phase, end.of, end.device_id, end.outcome) == ("end", done, "a", "done")


def test_the_journal_is_append_only(store: Store) -> None:
    number = store.journal.note("hello")
    with pytest.raises(DBAPIError, match="append-only"), store.journal._engine.begin() as connection:
        connection.execute(journal.update().where(journal.c.id == number).values(operation="other"))
    assert store.journal.last()[0].operation == "hello"


def test_only_the_newest_entries_of_the_journal_are_kept(store: Store) -> None:
    for number in range(10):
        store.journal.note(f"n{number}")
    assert store.journal.prune(3) == 7
    assert [entry.operation for entry in store.journal.last()] == ["n7", "n8", "n9"]
    assert store.journal.note("next") == 11


def test_a_run_that_was_killed_has_no_end(store: Store) -> None:
    assert store.crashes.last_run() is None
    first = store.crashes.begin_run(10, "a")
    store.crashes.set_zygote(first, 11, "b")
    run = store.crashes.last_run()
    assert run is not None and (run.pid, run.zygote_pid, run.zygote, run.ended_at) == (10, 11, "b", None)
    store.crashes.end_run(first)
    run = store.crashes.last_run()
    assert run is not None and run.ended_at is not None


def test_each_death_under_a_driver_counts_until_it_is_let_in_again(store: Store) -> None:
    store.crashes.accuse("one", Verdict.SUSPECT, "first")
    store.crashes.accuse("one", Verdict.GUILTY, "second")
    (suspect,) = store.crashes.suspects()
    assert (suspect.deaths, suspect.verdict, suspect.reason) == (2, Verdict.GUILTY, "second")
    assert store.crashes.acquit("one") and not store.crashes.acquit("one")


def test_a_program_in_a_hurry_reads_what_is_left_out_and_wanted(store: Store, path: Path) -> None:
    store.switches.set("off", enabled=False)
    store.crashes.accuse("bad", Verdict.GUILTY, "the node died")
    store.wanted.put("a", "one", Wanted.READY)
    assert quick.left_out_drivers(path.parent) == {"off": "it is disabled", "bad": "the node died"}
    assert quick.wanted_rows(path.parent) == [{"device": "a", "driver": "one", "wanted": "ready"}]


def test_a_program_in_a_hurry_imports_no_sqlalchemy_and_minds_no_damage(tmp_path: Path) -> None:
    assert quick.left_out_drivers(tmp_path) == {}
    quick.database_of(tmp_path).write_bytes(b"no database at all, but long enough to look like one" * 100)
    assert quick.left_out_drivers(tmp_path) == {}
    code = "import sys; from vfab.store.quick import *; left_out_drivers; print('sqlalchemy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_every_table_can_be_made_in_postgresql() -> None:
    for table in metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert table.name in text
    assert "BIGSERIAL" in str(CreateTable(journal).compile(dialect=postgresql.dialect()))
