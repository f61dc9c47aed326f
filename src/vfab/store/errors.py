"""What can be wrong with the database as a whole."""

from __future__ import annotations

from vfab.model.errors import ConfigurationError

__all__ = ["StoreTooNew", "StoreUnusable"]


class StoreTooNew(ConfigurationError):
    """The database was written by a newer vfab; it was left as it is."""

    code = "store_too_new"


class StoreUnusable(ConfigurationError):
    """The database can be neither read nor made: no rights, no space, a folder in its place."""

    code = "store_unusable"
