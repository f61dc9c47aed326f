"""Seed 001 §7: a class with `detect()`, run in a host as a driver whose only command is `scan`."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any

from vfab.dialects.adapting import plain
from vfab.model.errors import DriverFailed
from vfab.model.manifest import Manifest
from vfab.sdk.driver import BaseDriver, command

__all__ = ["adapt_class", "is_detection_handler"]


def is_detection_handler(cls: object) -> bool:
    """Whether a class finds devices, and is no driver."""
    return isinstance(cls, type) and not issubclass(cls, BaseDriver) and callable(getattr(cls, "detect", None))


def adapt_class(manifest: Manifest, cls: type[Any]) -> type[BaseDriver]:
    """The driver class that runs `cls`."""

    class Finds(BaseDriver):
        """Makes the author's handler when it is asked, so that what its constructor does has a deadline, too."""

        @command
        def scan(self) -> dict[str, Any]:
            """What `detect()` found; `"compatible"` of each device says what `is_compatible` did."""
            handler = cls(manifest.name) if _takes_a_name(cls) else cls()
            with contextlib.suppress(AttributeError):  # a class with slots does without
                handler.config = dict(self.config)
                handler.open_link = self.open_link
            found = handler.detect()
            devices = found.get("devices", ()) if isinstance(found, Mapping) else None
            if devices is None or not all(isinstance(device, Mapping) for device in devices):
                raise DriverFailed(
                    f"{manifest.name}: detect() returned {type(found).__name__}: a mapping with a list of devices was "
                    "expected",
                    driver_name=manifest.name,
                    remedy='Return {"count": 1, "devices": [{"address": "tcp://192.0.2.7:4000"}], "accessible": True}.',
                )
            told = [{**plain(device), "compatible": _fits(handler, dict(device))} for device in devices]
            return {"devices": told, "accessible": bool(found.get("accessible", True))}

    return Finds


def _takes_a_name(cls: type[Any]) -> bool:
    try:
        parameters = list(inspect.signature(cls).parameters.values())
    except (ValueError, TypeError):
        return False
    return bool(parameters) and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY


def _fits(handler: Any, device: dict[str, Any]) -> bool:
    try:
        return bool(handler.is_compatible(device))
    except (AttributeError, NotImplementedError):  # not asked for by its author
        return True
