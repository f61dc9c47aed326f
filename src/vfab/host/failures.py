"""What a driver raised, as one of vfab's errors. The one table is the sdk's: `ErrorHandler` uses it, too."""

from __future__ import annotations

from vfab.sdk.failures import error_fields, to_driver_error

__all__ = ["error_fields", "to_driver_error"]
