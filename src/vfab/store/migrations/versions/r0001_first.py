"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from vfab.store.tables import UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "wanted_devices",
        sa.Column("device_id", sa.String(300), primary_key=True),
        sa.Column("driver", sa.String(100), nullable=False),
        sa.Column("wanted", sa.String(20), nullable=False),
        sa.Column("address", sa.String(500), nullable=False),
        sa.Column("overrides", sa.JSON, nullable=False),
        sa.Column("since", UtcTime, nullable=False),
    )
    op.create_table(
        "driver_switches",
        sa.Column("driver", sa.String(100), primary_key=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("changed_at", UtcTime, nullable=False),
    )
    op.create_table(
        "installed_plugins",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("installed_at", UtcTime, nullable=False),
    )
    _crashes()
    _journal()


def _crashes() -> None:
    op.create_table(
        "runs",
        sa.Column("id", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("process", sa.String(100), nullable=False),
        sa.Column("zygote_pid", sa.BigInteger, nullable=False),
        sa.Column("zygote", sa.String(100), nullable=False),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.Column("ended_at", UtcTime),
    )
    op.create_table(
        "crash_suspects",
        sa.Column("driver", sa.String(100), primary_key=True),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", UtcTime, nullable=False),
        sa.Column("deaths", sa.Integer, nullable=False),
    )


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("id", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("run", sa.BigInteger, nullable=False),
        sa.Column("phase", sa.String(10), nullable=False),
        sa.Column("operation", sa.String(60), nullable=False),
        sa.Column("device_id", sa.String(300), nullable=False),
        sa.Column("driver", sa.String(100), nullable=False),
        sa.Column("of", sa.BigInteger),
        sa.Column("outcome", sa.String(60), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("ix_journal_run_phase", "journal", ["run", "phase"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER journal_is_append_only BEFORE UPDATE ON journal "
            "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
        )
    else:
        op.execute("CREATE RULE journal_is_append_only AS ON UPDATE TO journal DO INSTEAD NOTHING")
