"""For plugins that find devices themselves: seed 001 §7's `DetectionHandler`.

The manifest names the class, `detection: finder.LabFinder`. It runs in a process of its own, never in vfab's: what
hangs there is left behind after its time, what crashes costs its own results only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfab.sdk.link import Link

__all__ = ["DetectionHandler"]


class DetectionHandler:
    """One way to find devices.

    Args:
        name: the plugin's name.
        priority: vfab gives its own handlers the first word about a device that both find.

    Attributes:
        config: the settings of the plugin's driver.
    """

    config: dict[str, Any]

    def __init__(self, name: str, priority: int = 0) -> None:
        self.name = name
        self.priority = priority

    def detect(self) -> dict[str, Any]:
        """Find devices: `{"count": int, "devices": [dict, …], "accessible": bool}`. It has 1.6 seconds.

        A device says where it is by `address` (`tcp://192.0.2.7:4000`), by `port` (`/dev/ttyUSB0`), or by `host` and
        `port`. Further keys are those of `DeviceInfo` (`id`, `name`, `serial_number`, …); all others become attributes.
        """
        raise NotImplementedError

    def is_compatible(self, device_info: dict[str, Any]) -> bool:
        """Whether the plugin's driver fits a device that `detect` told; all of them unless it is overridden."""
        return True

    def open_link(self, address: str, **settings: Any) -> Link:
        """The link to `address`, if the manifest's `permissions.connect` allow it; close it before `detect` returns."""
        raise NotImplementedError("only a plugin that vfab runs has links")
