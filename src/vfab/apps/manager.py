"""`DeviceDriverManager`: seed 002's manager, for programs without an event loop, over the same kernel as everything.

Each manager has one event loop, in a thread of its own. A call hands its operation to that loop and waits; a device's
operations run one at a time, those of different devices side by side.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

from vfab.apps.loop_thread import LoopThread
from vfab.apps.manager_core import ManagerCore
from vfab.apps.manager_results import Device, Result, failure, success
from vfab.model.errors import ConfigurationError, Refused
from vfab.model.events import DriverEvent
from vfab.model.lifecycle import PUBLIC_TRANSITIONS, STATE_HIERARCHY, DeviceState

__all__ = ["AsyncOperations", "Device", "DeviceDriverManager", "Result"]

Args = Mapping[str, Any] | list[Any] | tuple[Any, ...]


class DeviceDriverManager:
    """Finds devices, runs their drivers and commands them (seed 002). For any number of threads.

    Args:
        env: environment variables (`VFAB_HOME`, `VFAB_PLUGIN_PATH`, `VFAB_<DRIVER>_<FIELD>`); default: this process's.
        on_event: told of everything that happens to devices, on the manager's own thread: it must be quick, and it
            must not call the manager.

    Attributes:
        aio: the same operations for asyncio: `await manager.aio.connect_device(…)`; they block nobody's event loop.
        state_hierarchy: how far along a state is.

    Operations raise nothing that a device or a driver caused: their `Result` says `{"status": "error", …}`, and
    `Result.check()` raises what is behind it. A driver is named as it calls itself (`axidraw`) or as seed 002 would
    (`drv_axidraw`). A device is one that `scan_devices` gave, a `DeviceInfo`, an id, or an address.

    Nothing is started before the first operation. Use it with `with`, or call `close`; a manager that is dropped, and
    one that is open when the program ends, close their devices all the same.
    """

    state_hierarchy: ClassVar[Mapping[DeviceState, int]] = STATE_HIERARCHY
    _state_transitions: ClassVar[Mapping[DeviceState, list[DeviceState]]] = {
        state: [target for target in DeviceState if target in targets] for state, targets in PUBLIC_TRANSITIONS.items()
    }

    def __init__(
        self, env: Mapping[str, str] | None = None, *, on_event: Callable[[DriverEvent], None] = lambda event: None
    ) -> None:
        self._runtime = _Runtime(dict(os.environ if env is None else env), on_event)
        self._finalizer = weakref.finalize(self, self._runtime.abandon)
        self._finalizer.atexit = False  # the runtime's own, which waits
        self.aio = AsyncOperations(self._runtime)

    # -- seed 002 -----------------------------------------------------------------------------------------------------

    def scan_devices(self, driver_name: str) -> Result:
        """Look which devices of the driver there are.

        Returns:
            With `devices` (`Device`s), `count`, and `problems`: what could not be looked at, and what to do about it.
        """
        return self._manage_device_lifecycle("scan", driver_name, lambda core: core.scan(driver_name))

    def initialize_device(self, driver_name: str, device: object, config: Mapping[str, Any] | None = None) -> Result:
        """Lease the device, start its driver and have it prepare itself: INITIALIZED.

        Args:
            config: settings of the driver over those of the environment and the configuration file.
        """
        return self._manage_device_lifecycle(
            "initialize", driver_name, lambda core: core.initialize(driver_name, device, config)
        )

    def connect_device(self, driver_name: str, device: object) -> Result:
        """Connect: CONNECTED. A device that nobody has seen is looked for, one that is not initialised is so first."""
        return self._manage_device_lifecycle("connect", driver_name, lambda core: core.connect(driver_name, device))

    def execute_command(
        self,
        driver_name: str,
        command: str,
        args: Args | None = None,
        device_id: object = None,
        *,
        timeout_s: float | None = None,
    ) -> Result:
        """Run a command of the driver: CONNECTED, ACTIVE meanwhile, then CONNECTED again, or ERROR when it failed.

        Args:
            args: the command's parameters, by name or in their order.
            device_id: which device; may be left out when the driver has only one in use.
            timeout_s: seconds to wait for it; default: what the manifest says of the command.

        Returns:
            With `command` and `result`, what the driver's method returned.
        """
        return self._manage_device_lifecycle(
            "command", driver_name, lambda core: core.execute(driver_name, command, args, device_id, timeout_s)
        )

    def reset_device(self, driver_name: str, device: object) -> Result:
        """Reset the device; after an error its driver is started again if need be: INITIALIZED or CONNECTED."""
        return self._manage_device_lifecycle("reset", driver_name, lambda core: core.reset(driver_name, device))

    def close_device(self, driver_name: str, device: object) -> Result:
        """End what it does, leave it safe, end its driver's process, and let others use it: DISCONNECTED."""
        return self._manage_device_lifecycle("close", driver_name, lambda core: core.close_device(driver_name, device))

    def cleanup_all_devices(self) -> Result:
        """Close every device that is in use, side by side.

        Returns:
            With `results` by device id, and the ids that were `closed` and that `failed`.
        """
        if self._runtime.idle:
            return _nothing_to_clean()
        return self._manage_device_lifecycle("cleanup", "", lambda core: core.cleanup())

    # -- states -------------------------------------------------------------------------------------------------------

    def get_device_state(self, driver_name: str, device: object) -> DeviceState:
        """Where the device stands; UNKNOWN for one that was never seen. Raises ConfigurationError: it is no device."""
        record = self._runtime.core.finder.by_name(driver_name, device)
        return record.state if record is not None else DeviceState.UNKNOWN

    @property
    def device_states(self) -> dict[tuple[str, str], DeviceState]:
        """The state of every device seen so far, by (driver, device id)."""
        records = list(self._runtime.core.finder.records.values())
        return {(record.driver.name, record.device_id): record.state for record in records}

    def get_device_story(self, driver_name: str, device: object) -> list[str]:
        """What happened to the device's state, oldest first: `discovered -initialized-> initialized`."""
        record = self._runtime.core.finder.by_name(driver_name, device)
        return list(record.story) if record is not None else []

    # -- what every operation goes through (seed 002's names) ---------------------------------------------------------

    def _manage_device_lifecycle(
        self, operation: str, driver_name: str, work: Callable[[ManagerCore], Coroutine[Any, Any, Result]]
    ) -> Result:
        """Have `operation` done on the manager's own thread, in its turn, and wait for what came of it."""
        return self._runtime.wait(operation, driver_name, work)

    @contextmanager
    def _get_device_lock(self, device_key: tuple[str, object]) -> Iterator[None]:
        """Hold the lock of a device, (driver, device): nothing else begins on it within the block.

        The operations take it themselves, so that one on the same device must not be called within the block.
        Raises ConfigurationError: nobody has seen that device. Refused: the manager is closed.
        """
        with self._runtime.holding(*device_key):
            yield

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every device and end every process; returns when all are gone. Closing twice is fine."""
        self._runtime.close()

    def __enter__(self) -> DeviceDriverManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncOperations:
    """The manager's operations for programs with an event loop of their own; each is that of the same name there.

    Cancelling one cancels it in the driver, too.
    """

    def __init__(self, runtime: _Runtime) -> None:
        self._runtime = runtime

    async def scan_devices(self, driver_name: str) -> Result:
        """As `DeviceDriverManager.scan_devices`."""
        return await self._runtime.arrive("scan", driver_name, lambda core: core.scan(driver_name))

    async def initialize_device(
        self, driver_name: str, device: object, config: Mapping[str, Any] | None = None
    ) -> Result:
        """As `DeviceDriverManager.initialize_device`."""
        return await self._runtime.arrive(
            "initialize", driver_name, lambda core: core.initialize(driver_name, device, config)
        )

    async def connect_device(self, driver_name: str, device: object) -> Result:
        """As `DeviceDriverManager.connect_device`."""
        return await self._runtime.arrive("connect", driver_name, lambda core: core.connect(driver_name, device))

    async def execute_command(
        self,
        driver_name: str,
        command: str,
        args: Args | None = None,
        device_id: object = None,
        *,
        timeout_s: float | None = None,
    ) -> Result:
        """As `DeviceDriverManager.execute_command`."""
        return await self._runtime.arrive(
            "command", driver_name, lambda core: core.execute(driver_name, command, args, device_id, timeout_s)
        )

    async def reset_device(self, driver_name: str, device: object) -> Result:
        """As `DeviceDriverManager.reset_device`."""
        return await self._runtime.arrive("reset", driver_name, lambda core: core.reset(driver_name, device))

    async def close_device(self, driver_name: str, device: object) -> Result:
        """As `DeviceDriverManager.close_device`."""
        return await self._runtime.arrive("close", driver_name, lambda core: core.close_device(driver_name, device))

    async def cleanup_all_devices(self) -> Result:
        """As `DeviceDriverManager.cleanup_all_devices`."""
        if self._runtime.idle:
            return _nothing_to_clean()
        return await self._runtime.arrive("cleanup", "", lambda core: core.cleanup())

    async def close(self) -> None:
        """As `DeviceDriverManager.close`."""
        await asyncio.to_thread(self._runtime.close)


class _Runtime:
    """The loop and what runs on it. Knows nothing of the manager, so that a dropped manager can be collected."""

    def __init__(self, env: Mapping[str, str], on_event: Callable[[DriverEvent], None]) -> None:
        self.core = ManagerCore(env, on_event)
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._closed = False
        self._pid = os.getpid()

    @property
    def idle(self) -> bool:
        """Nothing was ever started, or everything has ended."""
        return self._thread is None or self._closed

    def wait(self, operation: str, driver: str, work: Callable[[ManagerCore], Coroutine[Any, Any, Result]]) -> Result:
        """Have the loop do `work` and wait for it. Ctrl-C while waiting cancels it."""
        try:
            future = self._submit(work)
        except Refused as error:
            return failure(operation, driver, error)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arrive(
        self, operation: str, driver: str, work: Callable[[ManagerCore], Coroutine[Any, Any, Result]]
    ) -> Result:
        """`wait` for asyncio."""
        try:
            return await asyncio.wrap_future(self._submit(work, waits=False))
        except Refused as error:
            return failure(operation, driver, error)

    @contextmanager
    def holding(self, driver: str, device: object) -> Iterator[None]:
        """The lock of a device, held by this thread. Raises as `DeviceDriverManager._get_device_lock`."""
        record = self.core.finder.by_name(driver, device)
        if record is None:
            raise ConfigurationError(
                f"{driver} has no device {device} that was seen", remedy="Scan first: `manager.scan_devices(…)`."
            )
        held, done = Future[None](), Future[None]()

        async def hold() -> Result:
            async with record.turn():
                held.set_result(None)
                await asyncio.wrap_future(done)
            return success("lock", driver, "the lock was given back")

        holder = self._submit(lambda core: hold())
        try:
            held.result()
            yield
        finally:
            done.set_result(None)
            holder.result()

    def _submit(
        self, work: Callable[[ManagerCore], Coroutine[Any, Any, Result]], *, waits: bool = True
    ) -> Future[Result]:
        if os.getpid() != self._pid:  # before the lock, which another thread may have held when this process was forked
            raise Refused(
                "this process was forked from the one that made the manager",
                context={"pid": os.getpid(), "manager": self._pid},
                remedy="Make the DeviceDriverManager in the process that uses it, after the fork.",
            )
        with self._lock:
            if self._closed:
                raise Refused("the manager is closed", remedy="Make a new DeviceDriverManager.")
            if self._thread is None:
                self._thread = LoopThread("vfab-manager")
                atexit.register(self.close)
            if waits and self._thread.is_current:
                raise Refused(
                    "on_event called its own manager, which would wait for itself for ever",
                    remedy="Hand the event to a thread of your own, and call the manager there.",
                )
            return self._thread.submit(work(self.core))

    def close(self) -> None:
        """Close everything and wait until it is gone. In a forked child nothing is done: it is the parent's."""
        if os.getpid() != self._pid:
            return
        thread = self._end()
        if thread is not None:
            thread.join()

    def abandon(self) -> None:
        """Close everything without waiting: the collector calls this, on whatever thread it runs."""
        if os.getpid() == self._pid:
            self._end()

    def _end(self) -> LoopThread | None:
        with self._lock:
            thread, closed, self._closed = self._thread, self._closed, True
        if thread is not None and not closed:
            atexit.unregister(self.close)
            thread.finish(self.core.close)
        return thread


def _nothing_to_clean() -> Result:
    return success("cleanup", "", "closed 0 devices", results={}, closed=[], failed=[])
