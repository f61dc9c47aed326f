"""What a plugin finds by itself, asked in a host without a device: nothing of it is ever imported into vfab."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from vfab.kernel.managed import ManagedDevice
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverError, HostDied, IllegalTransition
from vfab.model.manifest import Manifest

__all__ = ["hosted_scan"]

_numbers = count(1)


async def hosted_scan(
    supervisor: Supervisor,
    manifest: Manifest,
    folder: Path,
    config: Mapping[str, Any],
    *,
    method: str = "scan",
    timeout_s: float = 60.0,
) -> Any:
    """What `method` of the plugin finds; its host ends afterwards, whatever happened.

    Raises DriverError: it could not be started, failed, crashed, or did not answer within `timeout_s` seconds.
    """
    own = f"none:{manifest.name}:{manifest.driver_class}:{next(_numbers)}"  # several may be under way
    nobody = DeviceInfo(id=own, bus="none", address="", name=f"the scan of {manifest.name}")
    managed = supervisor.adopt(nobody, manifest, folder, config)
    try:
        return await _scanned(managed, method, timeout_s)
    finally:
        await asyncio.shield(supervisor.release(nobody.id))


async def _scanned(managed: ManagedDevice, method: str, timeout_s: float) -> Any:
    """It may refuse to be initialised without a device; it can scan all the same."""
    trouble: DriverError | None = None
    try:
        await managed.initialize()
    except DriverError as error:
        trouble = error
    if trouble is not None and managed.pid is None:
        raise trouble
    try:
        return await managed.call(method, timeout_s=timeout_s)
    except (HostDied, IllegalTransition):
        if trouble is not None:  # it was not a refusal: that was the end of the host
            raise trouble from None
        raise
