"""Where a device is: what its driver was started for, whether that is still there, and where else it may be."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from vfab.kernel.spawner import HostProcess
from vfab.model.devices import DeviceInfo
from vfab.model.manifest import Manifest

__all__ = ["Locate", "Whereabouts"]

Locate = Callable[[DeviceInfo], Awaitable[DeviceInfo | None]]
"""Where a device is now, by its stable id; None: nowhere."""


class Whereabouts:
    """Where one device was when a driver was last started for it.

    Args:
        locate: finds it again; None: nobody does.
    """

    def __init__(self, locate: Locate | None) -> None:
        self._locate = locate
        self._address = ""
        self._node: tuple[int, int, int] | None = None

    def remember(self, address: str) -> None:
        """A driver is started for what is at `address` now."""
        self._address, self._node = address, _node_at(address)

    async def moved(self, info: DeviceInfo, *, doubtful: bool) -> DeviceInfo | None:
        """The device `info` as it is found elsewhere; None: it is where it was, as far as is seen, or nowhere.

        Args:
            doubtful: its link is broken, or it could not be connected to, whatever is at its node.
        """
        address = info.address
        if self._locate is None or not address.startswith("/") or not (doubtful or self._seems_gone(address)):
            return None
        found = await self._locate(info)
        return found if found is not None and found.address != address else None

    def is_outdated(self, process: HostProcess, address: str, manifest: Manifest) -> bool:
        """Whether the host was started for a device that is elsewhere by now.

        So it is where the driver opens something of the device itself, and its host may open only what is not there any
        more: Landlock holds nodes, not names: what is plugged in again is another node under the same name.
        """
        if self._address != address:
            return True
        opens_itself = not manifest.runtime.asks_the_broker or manifest.permissions.outside_files
        if not opens_itself or process.confinement is None:
            return False
        now = _node_at(address)
        return bool(process.confinement.landlock_abi) and now is not None and now != self._node

    def _seems_gone(self, address: str) -> bool:
        """Whether nothing is at the device's node, or perhaps something else is by now."""
        now = _node_at(address)
        return now is None or (self._node is not None and now != self._node)


def _node_at(address: str) -> tuple[int, int, int] | None:
    """What tells the device node at `address` from others; None: there is none."""
    if not address.startswith("/"):
        return None
    try:
        found = Path(address).stat()
    except OSError:
        return None
    # numbers of nodes are used again; a folder, as sysfs has one for a device, changes with what is made in it
    return found.st_dev, found.st_ino, 0 if stat.S_ISDIR(found.st_mode) else found.st_ctime_ns
