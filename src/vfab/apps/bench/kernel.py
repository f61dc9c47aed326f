"""vfab itself, set up as its node does it: a supervisor on an event loop, and a plugin of 20 lines to run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from vfab.kernel.confining import ConfinementPolicy
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.manifest import Manifest

__all__ = ["BLOB_BYTES", "LiveKernel", "adopt", "make_plugin", "manifest_of", "write_plugin"]

T = TypeVar("T")

BLOB_BYTES = 1 << 20
"""Size of the large reply: 1 MiB."""

_NAME = "bench"
_MANIFEST = f"""\
name: {_NAME}
version: 1.0.0
author: vfab
description: Does nothing, to find out how long that takes
category: sensor
driver_class: driver.BenchDriver
license: Apache-2.0
"""
_DRIVER = f'''\
"""Does nothing, to find out how long that takes."""

from vfab.sdk import BaseDriver, command


class BenchDriver(BaseDriver):
    """The smallest driver there is."""

    _BLOB = b""

    @command
    def nop(self) -> None:
        """Do nothing."""

    @command
    def blob(self) -> bytes:
        """A large reply."""
        self._BLOB = self._BLOB or bytes({BLOB_BYTES})
        return self._BLOB
'''


def make_plugin(folder: Path) -> Path:
    """Write the plugin below `folder`; its folder."""
    return write_plugin(folder / _NAME, _MANIFEST, _DRIVER)


def write_plugin(plugin: Path, manifest: str, driver: str) -> Path:
    """Write a plugin's two files into the folder `plugin`, which is returned; one that is there stays."""
    if not plugin.exists():
        plugin.mkdir(parents=True)
        (plugin / "plugin.yaml").write_text(manifest, encoding="utf-8")
        (plugin / "driver.py").write_text(driver, encoding="utf-8")
    return plugin


def manifest_of(plugin: Path) -> Manifest:
    """The manifest of the plugin that `make_plugin` made."""
    return DriverRegistry(Places.only(plugin)).get(_NAME).manifest


def adopt(supervisor: Supervisor, plugin: Path, manifest: Manifest, number: int) -> ManagedDevice:
    """One more device for the plugin."""
    device = DeviceInfo(id=f"bench:{number}", bus="bench", address=f"bench://{number}")
    return supervisor.adopt(device, manifest, plugin)


class LiveKernel:
    """A supervisor that runs in a thread of its own while the block lasts; no process is left afterwards.

    Its hosts confine themselves as they do by default, unless they are not to be `confined`.
    """

    def __init__(self, folder: Path, *, confined: bool = True) -> None:
        self.plugin = make_plugin(folder)
        self.manifest = manifest_of(self.plugin)
        policy = ConfinementPolicy(mode="on" if confined else "off")
        self.spawner = ZygoteSpawner(policy=policy)
        self.supervisor = Supervisor(self.spawner)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bench-kernel", daemon=True)
        self._number = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on the kernel's event loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def device(self) -> ManagedDevice:
        """One more device, adopted and not yet started."""
        self._number += 1
        return adopt(self.supervisor, self.plugin, self.manifest, self._number)

    async def connected(self) -> ManagedDevice:
        """One more device, connected."""
        device = self.device()
        await device.connect()
        return device

    def __enter__(self) -> LiveKernel:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.supervisor.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
