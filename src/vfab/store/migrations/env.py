"""What Alembic runs: the steps that are missing, on the connection and in the transaction that `opening` gives."""

from __future__ import annotations

from alembic import context

from vfab.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
