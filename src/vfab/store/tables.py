"""The tables. Types are those that SQLite and PostgreSQL both have; a change here needs a migration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    true,
)
from sqlalchemy.types import TypeDecorator

__all__ = [
    "UtcTime",
    "crash_suspects",
    "driver_switches",
    "installed_plugins",
    "journal",
    "metadata",
    "runs",
    "wanted_devices",
]


class UtcTime(TypeDecorator[datetime]):
    """Timezone-aware UTC; SQLite has no time zones and keeps it without."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database; a naive time is a mistake of the program."""
        if value is None:
            return None
        assert value.tzinfo is not None, "times in the store are timezone-aware"
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        aware: datetime = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return aware


metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"},
)

# SQLite counts up by itself only in a column that is INTEGER to the letter
_Counter = BigInteger().with_variant(Integer(), "sqlite")

wanted_devices = Table(
    "wanted_devices",
    metadata,
    Column("device_id", String(300), primary_key=True),
    Column("driver", String(100), nullable=False),
    Column("wanted", String(20), nullable=False),
    Column("address", String(500), nullable=False, default=""),
    Column("overrides", JSON, nullable=False),
    Column("since", UtcTime, nullable=False),
)

driver_switches = Table(
    "driver_switches",
    metadata,
    Column("driver", String(100), primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
)

installed_plugins = Table(
    "installed_plugins",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("version", String(100), nullable=False),
    Column("folder", Text, nullable=False),
    Column("installed_at", UtcTime, nullable=False),
    Column("digest", String(64), nullable=False, server_default=""),
    Column("enabled", Boolean, nullable=False, server_default=true()),
)

runs = Table(
    "runs",
    metadata,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("pid", BigInteger, nullable=False),
    Column("process", String(100), nullable=False),
    Column("zygote_pid", BigInteger, nullable=False, default=0),
    Column("zygote", String(100), nullable=False, default=""),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
)

journal = Table(
    "journal",
    metadata,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("phase", String(10), nullable=False),
    Column("operation", String(60), nullable=False),
    Column("device_id", String(300), nullable=False, default=""),
    Column("driver", String(100), nullable=False, default=""),
    Column("of", BigInteger),
    Column("outcome", String(60), nullable=False, default=""),
    Column("detail", JSON, nullable=False),
    Index(None, "run", "phase"),
)

crash_suspects = Table(
    "crash_suspects",
    metadata,
    Column("driver", String(100), primary_key=True),
    Column("verdict", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("deaths", Integer, nullable=False, default=1),
)
