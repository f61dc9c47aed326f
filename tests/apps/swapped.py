"""A device of a built-in driver whose hosts are swapped and killed while it is used."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from hosting import Rig
from swaps import hosts_of
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.swap import Swap, SwapOptions
from vfab.model.devices import DeviceInfo
from vfab.model.lifecycle import DriverState
from vfab.sdk.testing import defaults_of, patience

__all__ = ["PATIENT", "WATCHED", "Bench"]

PATIENT = SwapOptions(drain_s=600.0, probation_s=0.05)
WATCHED = SwapOptions(probation_s=600.0)


class Bench:
    """A device of a built-in driver, and swaps of it for the same driver."""

    def __init__(self, r: Rig, driver: str, address: str, **config: Any) -> None:
        info = DriverRegistry(Places.from_environment(dict(os.environ))).get(driver)
        self.r, self.manifest, self.folder = r, info.manifest, Path(info.folder)
        self.config = {**defaults_of(info.manifest), **config}
        device = DeviceInfo(id=driver, bus="net", address=address)
        self.device: ManagedDevice = r.supervisor.adopt(device, self.manifest, self.folder, self.config)

    def reload(self, options: SwapOptions = PATIENT) -> asyncio.Task[Any]:
        return asyncio.create_task(Swap(self.device, self.manifest, self.folder, self.config, options=options).run())

    async def on_probation(self) -> asyncio.Task[Any]:
        """A reload whose new host has the device, and is being watched."""
        device, before = self.device, self.device.pid
        swapping = self.reload(WATCHED)
        await self.r.until(lambda: swapping.done() or (device.pid != before and not device.being_replaced))
        return swapping

    def kill(self) -> int:
        """Kill the host that has the device."""
        pid = self.device.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    async def is_one_owner(self) -> None:
        """The device is connected, by the only host that there is."""
        await self.device.ready_again(patience(60.0))
        await self.r.until_state(self.device, DriverState.CONNECTED)
        await self.r.until(lambda: hosts_of(self.r) == [self.device.pid])
