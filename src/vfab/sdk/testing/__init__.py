"""For tests of drivers and of whatever runs them.

`DriverBench` runs a driver in the test's own process, on real links. `FaultProxy` stands between a driver and its peer
and is as bad a peer as a test wants. `soon` waits for what shall come true. The troublemakers are drivers that
misbehave: `troublemaker("CrashingDriver")` gives the plugin's folder and a manifest that names the class.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from vfab.model.manifest import Manifest
from vfab.sdk.testing.bench import DriverBench, Running, defaults_of, manifest_in
from vfab.sdk.testing.proxy import FaultProxy, why_no_stream
from vfab.sdk.testing.waiting import patience, soon

__all__ = [
    "TROUBLEMAKERS",
    "TROUBLEMAKERS_FOLDER",
    "DriverBench",
    "FaultProxy",
    "Running",
    "defaults_of",
    "manifest_in",
    "patience",
    "soon",
    "troublemaker",
    "why_no_stream",
]

TROUBLEMAKERS_FOLDER = Path(__file__).parent / "troublemakers"
"""A plugin folder like any other."""
TROUBLEMAKERS = ("SlowDriver", "DeafDriver", "CrashingDriver", "LeakyDriver", "LyingDriver")
"""The classes in its `driver.py`."""


def troublemaker(name: str) -> tuple[Path, Manifest]:
    """The plugin folder, and a manifest whose `driver_class` is the troublemaker `name`; the plugin is named like it.

    Raises ValueError: there is no such troublemaker.
    """
    if name not in TROUBLEMAKERS:
        raise ValueError(f"{name!r} is not one of {', '.join(TROUBLEMAKERS)}")
    manifest = manifest_in(TROUBLEMAKERS_FOLDER)
    return TROUBLEMAKERS_FOLDER, msgspec.structs.replace(manifest, name=name, driver_class=f"driver.{name}")
