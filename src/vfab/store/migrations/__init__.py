"""Alembic's migrations, packaged with vfab and run by `opening.open_store`."""
