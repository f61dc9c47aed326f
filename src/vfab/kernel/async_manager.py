"""AsyncDriverManager: seed 001's asynchronous operations (§8), as a thin view of a managed device.

The device does the work already: its operations have deadlines and are cancelled in the driver, and its changes of
state are told, not polled for.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from vfab.kernel.plain_manager import PlainManager
from vfab.model.errors import DeviceBusy, DriverError
from vfab.model.lifecycle import DriverState
from vfab.sdk.lifecycle import StateListener
from vfab.sdk.operations import ErrorHandler

__all__ = ["AsyncDriverManager", "Operated"]

_CHANGES_MAX = 256
_log = logging.getLogger("vfab.device")


class Operated(Protocol):
    """What is needed of a device: `ManagedDevice` has it."""

    @property
    def id(self) -> str:
        """The device's stable id."""

    @property
    def state(self) -> DriverState:
        """Where its driver stands."""

    async def connect(self) -> None:
        """Start the driver and connect."""

    async def disconnect(self) -> None:
        """Let go of the device."""

    async def operate(self, method: str, *args: Any, timeout_s: float = ...) -> Any:
        """Run a method of the driver."""

    def add_state_listener(self, listener: StateListener) -> Callable[[], None]:
        """Tell `listener` of changes; returns what removes it."""


class AsyncDriverManager:
    """Connects, operates and watches one device without blocking. Use it from the device's event loop.

    Args:
        device: the device. Or any manager of this process with `connect` and `disconnect`, whose methods then run on
            threads; without one it is this object itself: a sub-class that has them (seed 001).
        max_blocking: how many functions of the caller's own may run at a time, those included that did not end in time.

    Attributes:
        last_error: why `connect_async` or `disconnect_async` last failed, or None.
    """

    def __init__(self, device: Operated | object | None = None, *, max_blocking: int = 4) -> None:
        self.device = self._operated(self if device is None else device)
        self.last_error: DriverError | None = None
        self._errors = ErrorHandler(self.device.id)
        self._max_blocking = max_blocking
        self._blocking = 0

    def _operated(self, device: Any) -> Operated:
        if all(hasattr(device, name) for name in ("id", "state", "operate", "add_state_listener")):
            operated: Operated = device
            return operated
        return PlainManager(device, self._on_thread)

    async def connect_async(self) -> bool:
        """Start the driver and connect; False when that failed: see `last_error`."""
        return self._noted(await self._errors.handle_operation_async(self.device.connect))

    async def disconnect_async(self) -> bool:
        """Let go of the device; False when that failed: see `last_error`."""
        return self._noted(await self._errors.handle_operation_async(self.device.disconnect))

    async def get_state_async(self) -> DriverState:
        """Where the driver stands."""
        return self.device.state

    async def execute_operation(
        self,
        operation: str | Callable[..., Any],
        *args: Any,
        timeout: float = 5.0,  # noqa: ASYNC109 - the name is seed 001's
    ) -> dict[str, Any]:
        """Run an operation; `{"success": True, "result": …}` or `{"success": False, "error": DriverError}`.

        Args:
            operation: a method of the driver by name: it is cancelled in the driver when its time is up. Or a function
                of the caller's own: an `async` one is cancelled; a plain one runs on a thread, which nobody can end,
                and counts until it does.
            args: its arguments.
            timeout: seconds.
        """
        if isinstance(operation, str):
            name = operation

            async def run() -> Any:
                return await self.device.operate(name, *args, timeout_s=timeout)

        else:
            function = operation

            async def run() -> Any:
                async with asyncio.timeout(timeout):
                    if inspect.iscoroutinefunction(function):
                        return await function(*args)
                    return await self._on_thread(function, args)

            name = str(getattr(operation, "__name__", type(operation).__name__))
        run.__name__ = name
        try:
            return {"success": True, "result": await run()}
        except Exception as error:
            return self._errors.failed(error, run, {"timeout": timeout})

    async def monitor_device(self, callback: Callable[[DriverState], Awaitable[object] | object]) -> None:
        """Call `callback(state)` with the state as it is, and at every change, until this is cancelled.

        A callback that fails is logged; one that is slow is told later, and of the latest changes only when there are
        very many.
        """
        changes: deque[DriverState] = deque([self.device.state], maxlen=_CHANGES_MAX)
        changed = asyncio.Event()

        def note(old: DriverState, new: DriverState) -> None:
            changes.append(new)
            changed.set()

        remove = self.device.add_state_listener(note)
        try:
            while True:
                while changes:
                    await self._tell(callback, changes.popleft())
                changed.clear()
                await changed.wait()
        finally:
            remove()

    async def _tell(self, callback: Callable[[DriverState], Awaitable[object] | object], state: DriverState) -> None:
        try:
            result = callback(state)
            if isinstance(result, Awaitable):
                await result
        except Exception:
            _log.exception("%s: whoever monitors it failed on %s", self.device.id, state.value)

    async def _on_thread(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if self._blocking >= self._max_blocking:
            raise DeviceBusy(
                f"{self._blocking} operations of {self.device.id} still run",
                context={"max_blocking": self._max_blocking},
                remedy="Find out why they do not end; a driver's own method, called by its name, can be cancelled.",
            )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def finished(result: Any, error: BaseException | None) -> None:
            self._blocking -= 1
            if done.done():
                return  # too late
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = function(*args)
            except BaseException as raised:
                # StopIteration cannot be set on a future, and a thread ends by nothing else
                error = raised if not isinstance(raised, StopIteration) else RuntimeError("StopIteration")
            try:
                loop.call_soon_threadsafe(finished, result, error)
            except RuntimeError:
                _log.info("%s: an operation ended after its event loop", self.device.id)

        self._blocking += 1
        # a daemon: a function that hangs must not keep the program from ending
        threading.Thread(target=run, name="vfab-operation", daemon=True).start()
        return await done

    def _noted(self, answer: dict[str, Any]) -> bool:
        self.last_error = answer.get("error")
        return bool(answer["success"])
