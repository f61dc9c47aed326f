"""Older plugin shapes: read without running, run as the one contract.

`from vfab.dialects import DriverPlugin` is for plugins of seed 001; the rest is for vfab. Reading (`read_plugins`, and
`recognise` of each shape) runs anywhere and runs no plugin. `adapt` of each shape runs in hosts only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfab.dialects.driver_plugin import DriverPlugin
    from vfab.dialects.explaining import Explanation, explain
    from vfab.dialects.recognising import looks_like_plugin, read_plugins

__all__ = ["DriverPlugin", "Explanation", "explain", "looks_like_plugin", "read_plugins"]

_HOMES = {
    "DriverPlugin": "driver_plugin",
    "Explanation": "explaining",
    "explain": "explaining",
    "looks_like_plugin": "recognising",
    "read_plugins": "recognising",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: every host has this package, and most run a native plugin."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
