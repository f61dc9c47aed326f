"""Installed plugins as they were found: what their manifest was, and whether they are enabled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. No earlier vfab wrote to this table."""
    op.add_column("installed_plugins", sa.Column("digest", sa.String(64), nullable=False, server_default=""))
    op.add_column("installed_plugins", sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()))
