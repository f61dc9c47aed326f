"""Drivers for programs without an event loop: a supervisor on a thread of its own, instruments in other processes."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vfab.kernel.managed import ManagedDevice
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConnectError, HostDied
from vfab.model.lifecycle import DriverState
from vfab.model.plugins import DriverInfo
from vfab.sdk.instrument import InstrumentDriver

__all__ = ["DriverCalls", "LocalDrivers", "RemoteInstrument"]

CALL_S = 600.0
"""How long a measurement may take."""

_QUICK_S = 30.0
_T = TypeVar("_T")


class DriverCalls(Protocol):
    """One driver that runs in a process of its own, as a synchronous caller sees it."""

    def connect(self) -> None:
        """Start the driver where that is still to do, and connect. Raises DriverError."""
        ...

    def disconnect(self) -> None:
        """Let go of the device. Raises DriverError."""
        ...

    def reset(self) -> None:
        """Reset the device, or start its driver again. Raises DriverError."""
        ...

    def call(self, method: str, /, *args: Any, timeout_s: float = _QUICK_S, **kwargs: Any) -> Any:
        """Call a method of the driver. Raises DriverError: what it raised."""
        ...

    def close(self) -> None:
        """End the driver's process."""
        ...


class RemoteInstrument(InstrumentDriver):
    """An instrument whose driver runs in a process of its own: seed 004's methods, and `call` for all others.

    Every error is a DriverError. Methods may be called from several threads; `abort` acts while `measure` runs.
    """

    def __init__(
        self, resource_name: str, config: dict[str, Any] | None = None, *, calls: DriverCalls | None = None
    ) -> None:
        if calls is None:
            raise TypeError("PluginManager.get_driver makes these")
        self.resource_name = resource_name
        self.config = dict(config or {})
        self._calls = calls

    def connect(self) -> bool:
        """Connect; False when the driver says that it could not, without saying why."""
        try:
            self._calls.connect()
        except ConnectError as error:
            if error.context.get("returned") is False:
                return False
            raise
        return True

    def disconnect(self) -> bool:
        """Let go of the instrument, and end its driver's process until the next `connect`."""
        self._calls.disconnect()
        return True

    def reset(self) -> None:
        """Bring the instrument back to its default state."""
        self._calls.reset()

    def get_identity(self) -> dict[str, str]:
        """`manufacturer`, `model`, `serial`, `firmware`."""
        return dict(self.call("get_identity"))

    def get_capabilities(self) -> list[str]:
        """The measurement methods that `measure` knows."""
        return list(self.call("get_capabilities"))

    def configure(self, method: str, params: dict[str, Any]) -> None:
        """Prepare the instrument for `method`."""
        self.call("configure", method, dict(params), timeout_s=CALL_S)

    def measure(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Measure, and return the results."""
        result: dict[str, Any] = self.call("measure", method, dict(params), timeout_s=CALL_S)
        return result

    def abort(self) -> None:
        """End the measurement under way."""
        self.call("abort")

    def get_status(self) -> dict[str, Any]:
        """What the instrument is doing."""
        return dict(self.call("get_status"))

    def call(self, method: str, /, *args: Any, timeout_s: float = _QUICK_S, **kwargs: Any) -> Any:
        """Call any other method that the driver offers."""
        return self._calls.call(method, *args, timeout_s=timeout_s, **kwargs)

    def close(self) -> None:
        """End the driver's process."""
        self._calls.close()


class LocalDrivers:
    """Runs drivers for synchronous programs: a supervisor on an event loop in a thread. Close it, or use `with`.

    Args:
        spawner: starts their processes.
        state_root: below it each driver has a folder to write into; None: none has, not even for temporary files.
    """

    def __init__(self, spawner: ZygoteSpawner | None = None, state_root: Path | None = None) -> None:
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vfab-drivers", daemon=True)
        self._thread.start()
        self._supervisor = Supervisor(spawner or ZygoteSpawner(), state_root=state_root)

    def open(self, driver: DriverInfo, resource_name: str, config: Mapping[str, Any]) -> DriverCalls:
        """A driver for the resource, not started yet.

        The resource reaches an `InstrumentDriver` as it is written here; to others it is the device's address.
        """
        device = DeviceInfo(
            id=f"resource:{resource_name}#{next(self._numbers)}",
            bus="resource",
            address=resource_name,
            name=resource_name,
            attributes={"resource_name": resource_name},
        )
        return _Calls(self, self.run(self._adopt(device, driver, dict(config))))

    async def _adopt(self, device: DeviceInfo, driver: DriverInfo, config: dict[str, Any]) -> ManagedDevice:
        return self._supervisor.adopt(device, driver.manifest, Path(driver.folder), config)

    async def release(self, device_id: str) -> None:
        """Close a device and forget it."""
        await self._supervisor.release(device_id)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have the loop do `work`, and wait for it. Raises HostDied: this was closed."""
        if self._loop.is_closed() or not self._thread.is_alive():
            work.close()
            raise HostDied("the drivers of this program were closed", remedy="Make a new PluginManager.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End every driver's process. Closing twice is fine."""
        if self._thread.is_alive():
            self.run(self._supervisor.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class _Calls:
    """One device of `LocalDrivers`."""

    def __init__(self, drivers: LocalDrivers, device: ManagedDevice) -> None:
        self._drivers = drivers
        self._device = device

    def connect(self) -> None:
        self._drivers.run(self._connect())

    async def _connect(self) -> None:
        if self._device.state is DriverState.ERROR:
            await self._device.reset()
        if self._device.state is not DriverState.CONNECTED:
            await self._device.connect()

    def disconnect(self) -> None:
        self._drivers.run(self._disconnect())

    async def _disconnect(self) -> None:
        if self._device.state in {DriverState.CONNECTED, DriverState.BUSY, DriverState.ERROR}:
            await self._device.disconnect()

    def reset(self) -> None:
        self._drivers.run(self._reset())

    async def _reset(self) -> None:
        await self._ensure_started()
        await self._device.reset()

    def call(self, method: str, /, *args: Any, timeout_s: float = _QUICK_S, **kwargs: Any) -> Any:
        return self._drivers.run(self._call(method, args, kwargs, timeout_s))

    async def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float) -> Any:
        await self._ensure_started()
        if self._device.state is DriverState.CONNECTED and not self._is_concurrent(method):
            return await self._device.operate_with(method, args, kwargs, timeout_s=timeout_s)
        return await self._device.call_with(method, args, kwargs, timeout_s=timeout_s)

    async def _ensure_started(self) -> None:
        if self._device.state in {DriverState.UNINITIALIZED, DriverState.DISCONNECTED}:
            await self._device.initialize()

    def _is_concurrent(self, method: str) -> bool:
        return self._device.handshake is not None and method in self._device.handshake.concurrent

    def close(self) -> None:
        self._drivers.run(self._drivers.release(self._device.id))
