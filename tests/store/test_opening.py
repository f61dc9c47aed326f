"""Opening the database: private, checked, migrated in one step, and never deleted."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vfab.store import opening
from vfab.store.errors import StoreTooNew, StoreUnusable
from vfab.store.opening import REVISIONS, open_store
from vfab.store.records import Wanted
from vfab.store.tables import metadata


def _schema(path: Path) -> set[tuple[str, str, str]]:
    """(table, column, type) of everything that is really there."""
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            (table, column[1], column[2])
            for table in tables
            for column in database.execute(f"PRAGMA table_info({table})")
            if not table.startswith(("sqlite_", "alembic_"))
        }


def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "vfab.db"
    with open_store(path) as store:
        store.journal.note("hello")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_migrations_make_the_tables_that_the_code_works_with(tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    open_store(tmp_path / "migrated.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert _schema(tmp_path / "migrated.db") == _schema(tmp_path / "direct.db")


def test_the_named_revisions_are_the_packaged_ones() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(opening.__file__).parent / "migrations"))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


def test_a_database_of_a_newer_vfab_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "vfab.db"
    open_store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match="9999") as caught:
        open_store(path)
    assert "Upgrade vfab" in caught.value.remedy
    assert path.read_bytes() == before


NEXT = '''
"""A further step."""
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "0003", "0002", None, None
def upgrade() -> None:
    op.create_table("more", sa.Column("id", sa.Integer, primary_key=True))
    {then}
'''


def _with_a_further_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """vfab as it may be one version on: its migrations have one step more."""
    room = tmp_path / "room"
    shutil.copytree(Path(opening.__file__).parent / "migrations", room / "migrations")
    (room / "migrations" / "versions" / "r0003.py").write_text(NEXT.format(then=then))
    monkeypatch.setattr(opening, "__file__", str(room / "opening.py"))
    monkeypatch.setattr(opening, "REVISIONS", (*REVISIONS, "0003"))


def test_a_copy_is_made_before_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vfab.db"
    with open_store(path) as store:
        store.wanted.put("a", "one", Wanted.READY)
    _with_a_further_step(tmp_path, monkeypatch, "pass")
    with open_store(path) as store:
        assert [wanted.device_id for wanted in store.wanted.all()] == ["a"]
        assert "schema 0002 to 0003" in store.notices[0]
    (copy,) = tmp_path.glob("vfab.db.schema-0002-*")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as database:
        assert database.execute("SELECT device_id FROM wanted_devices").fetchall() == [("a",)]
    assert ("more", "id", "INTEGER") in _schema(path)


FIRST = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0001');
CREATE TABLE installed_plugins (name VARCHAR(100) NOT NULL PRIMARY KEY, version VARCHAR(100) NOT NULL,
  folder TEXT NOT NULL, installed_at DATETIME NOT NULL);
INSERT INTO installed_plugins VALUES ('one', '1.0', '/p/one', '2030-01-01 00:00:00.000000');
"""
"""What the first vfab with a database had of plugins."""


def test_plugins_of_the_first_schema_are_kept_enabled_and_their_manifest_unknown(tmp_path: Path) -> None:
    path = tmp_path / "vfab.db"
    with sqlite3.connect(path) as database:
        database.executescript(FIRST)
    database.close()
    with open_store(path) as store:
        assert "schema 0001 to 0002" in store.notices[0]
        (plugin,) = store.plugins.all()
        assert (plugin.name, plugin.version, plugin.digest, plugin.enabled) == ("one", "1.0", "", True)
    assert ("installed_plugins", "digest", "VARCHAR(64)") in _schema(path)
    (copy,) = tmp_path.glob("vfab.db.schema-0001-*")
    assert ("installed_plugins", "digest", "VARCHAR(64)") not in _schema(copy)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vfab.db"
    with open_store(path) as store:
        store.wanted.put("a", "one", Wanted.READY)
    _with_a_further_step(tmp_path, monkeypatch, "op.execute('no sql at all')")
    with pytest.raises(StoreUnusable, match="no"):
        open_store(path)
    assert "more" not in {table for table, _, _ in _schema(path)}
    monkeypatch.undo()
    with open_store(path) as store:
        assert [wanted.device_id for wanted in store.wanted.all()] == ["a"]


def _damage(path: Path, how: str) -> None:
    if how == "no database":
        path.write_bytes(b"this was a text file once " * 500)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        data = bytearray(path.read_bytes())
        data[4096 : 4096 * 4] = b"\x5a" * 4096 * 3
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["no database", "cut", "overwritten"])
def test_a_damaged_database_is_set_aside_and_never_deleted(tmp_path: Path, how: str) -> None:
    path = tmp_path / "vfab.db"
    with open_store(path) as store:
        store.wanted.put("a", "one", Wanted.READY)
    _damage(path, how)
    damaged = path.read_bytes()
    with open_store(path) as store:
        assert store.wanted.all() == []
        assert "was damaged" in store.notices[0] and "set aside" in store.notices[0]
    (aside,) = [file for file in tmp_path.glob("vfab.db.damaged-*") if not file.name.endswith(("-wal", "-shm"))]
    assert aside.read_bytes() == damaged
    with open_store(path) as store:
        assert store.notices == ()


def test_two_damaged_databases_of_one_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "vfab.db"
    for _ in range(2):
        path.write_bytes(b"x" * 9000)
        open_store(path, lambda: opening.datetime(2030, 1, 1, tzinfo=opening.UTC)).close()
    assert len(list(tmp_path.glob("vfab.db.damaged-2030*Z*"))) == 2


def test_a_folder_in_the_databases_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "vfab.db").mkdir()
    with pytest.raises(StoreUnusable) as caught:
        open_store(tmp_path / "vfab.db")
    assert str(tmp_path / "vfab.db") in caught.value.message and caught.value.remedy


def test_several_programs_that_begin_at_once_make_one_database(tmp_path: Path) -> None:
    path = tmp_path / "vfab.db"

    def work(number: int) -> None:
        with open_store(path) as store:
            store.journal.note(f"n{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    with open_store(path) as store:
        assert sorted(entry.operation for entry in store.journal.last()) == [f"n{n}" for n in range(8)]
