"""State listeners, and DriverLifecycle: the life of a manager that lives in this process (seed 001 §6).

The states and what leads from one to another are those of `model.lifecycle`: the same table that the kernel runs for
drivers in hosts. Here the effects are method calls of the manager.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from vfab.model.errors import ConfigurationError, ConnectError, DriverError, IllegalTransition
from vfab.model.lifecycle import (
    CallConnect,
    CallDisconnect,
    CallInitialize,
    CallReset,
    DriverState,
    Effect,
    Event,
    Illegal,
    KillHost,
    Life,
    Request,
    Signal,
    Spawn,
    step,
)
from vfab.sdk.failures import to_driver_error

__all__ = ["DriverLifecycle", "StateListener", "StateListeners"]

_log = logging.getLogger("vfab.drivers.lifecycle")

StateListener = Callable[[DriverState, DriverState], object]
"""Called with (old state, new state). It must not block: whoever has much to do subscribes to events instead."""


class StateListeners:
    """Listeners of one life's states. One that fails is logged and harms nobody, neither the driver nor the others.

    Changes are told in their order, one after the other, also when a listener causes the next change.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._listeners: list[StateListener] = []
        self._untold: deque[tuple[DriverState, DriverState]] = deque()
        self._lock = threading.Lock()
        self._telling = False

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, listener: StateListener) -> Callable[[], None]:
        """Have `listener(old, new)` called at every change from now on; returns what removes it again."""
        with self._lock:
            self._listeners = [*self._listeners, listener]
        return lambda: self.remove(listener)

    def remove(self, listener: StateListener) -> None:
        """Do not call `listener` any more; one that is not there is fine. Added twice, it is removed once."""
        with self._lock:
            kept = list(self._listeners)
            if listener in kept:
                kept.remove(listener)
            self._listeners = kept

    def notify(self, old: DriverState, new: DriverState) -> None:
        """Tell everybody. Called by whoever changed the state, on the thread that did."""
        with self._lock:
            self._untold.append((old, new))
            if self._telling:
                return  # whoever is telling tells this one next
            self._telling = True
        try:
            while (change := self._next()) is not None:
                self._tell(*change)
        except BaseException:  # what ends a program came while a listener ran
            self._telling = False
            raise

    def _tell(self, old: DriverState, new: DriverState) -> None:
        for listener in self._listeners:
            try:
                listener(old, new)
            except Exception:
                _log.exception("%s: a state listener failed on %s -> %s", self._name, old.value, new.value)

    def _next(self) -> tuple[DriverState, DriverState] | None:
        with self._lock:
            if self._untold:
                return self._untold.popleft()
            self._telling = False
            return None


class DriverLifecycle:
    """Leads a manager through its life and tells listeners.

    Args:
        manager: has `connect() -> bool | None` and `disconnect()`; what else it has of these is called, too:
            `_initialize_hardware` or `initialize`, `reset_device` or `reset`, `_cleanup_resources`.

    Attributes:
        last_error: why the last operation failed, or None.

    One operation runs at a time; another thread's waits for it. A state listener cannot ask for one: it is told in the
    middle of an operation.
    """

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.last_error: DriverError | None = None
        self.logger = logging.getLogger(f"vfab.drivers.{type(manager).__name__}")
        self._life = Life(present=True)
        self._listeners = StateListeners(type(manager).__name__)
        self._lock = threading.RLock()
        self._busy = False

    @property
    def state(self) -> DriverState:
        """Where the manager stands."""
        return self._life.state

    def add_state_listener(self, listener: StateListener) -> Callable[[], None]:
        """Have `listener(old, new)` called at every change; returns what removes it again."""
        return self._listeners.add(listener)

    def remove_state_listener(self, listener: StateListener) -> None:
        """Do not call `listener` any more."""
        self._listeners.remove(listener)

    def initialize(self) -> bool:
        """Prepare the manager: READY, or False with `last_error`."""
        return self._request(Event.INITIALIZE)

    def connect(self) -> bool:
        """Connect: CONNECTED, or False with `last_error`. It must be READY."""
        return self._request(Event.CONNECT)

    def disconnect(self) -> bool:
        """Disconnect: DISCONNECTED, or False with `last_error`."""
        return self._request(Event.DISCONNECT)

    def reset(self) -> bool:
        """Reset the device, after an error too: READY or CONNECTED, or False with `last_error`."""
        return self._request(Event.RESET)

    def shutdown(self) -> bool:
        """Disconnect and clean up, whatever state it is in; SHUTDOWN always. False: something failed on the way."""
        return self._request(Event.CLOSE)

    # -- the shell around the table ---------------------------------------------------------------------------------

    def _request(self, event: Event) -> bool:
        with self._lock:
            if self._busy:
                self.logger.warning("a state listener asked for %s and was refused", event.value)
                return False
            self.last_error = None
            self._busy = True
            try:
                self._take(Request(event))
            except Illegal as error:
                self.last_error = IllegalTransition(str(error), driver_name=type(self.manager).__name__)
                self.logger.warning("%s", error)
            finally:
                self._busy = False
            return self.last_error is None

    def _take(self, happening: Request | Signal) -> None:
        old = self._life.state
        self._life, effects = step(self._life, happening)
        if self._life.state is not old:
            self.logger.debug("%s -> %s", old.value, self._life.state.value)
            self._listeners.notify(old, self._life.state)
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Spawn():  # there is no process to start: the manager is here
                self._take(Signal(Event.HOST_READY))
            case CallInitialize():
                self._call(("_initialize_hardware", "initialize"), Event.INITIALIZED)
            case CallConnect():
                self._call(("connect",), Event.CONNECTED)
            case CallDisconnect():
                self._call(("disconnect",), Event.DISCONNECTED)
            case CallReset():
                self._call(("reset_device", "reset"), Event.RESET_DONE)
            case KillHost():
                self._call(("_cleanup_resources",), Event.HOST_DIED, always=True)
            case _:  # nothing to cancel, to restart or to stop: each operation is over before the next begins
                pass

    def _call(self, names: tuple[str, ...], done: Event, *, always: bool = False) -> None:
        found = (getattr(self.manager, name, None) for name in names)
        method = next((method for method in found if callable(method)), None)
        try:
            result = method() if method is not None else None
            if inspect.iscoroutine(result):
                result.close()
                raise ConfigurationError(
                    f"{names[0]} is asynchronous", remedy="Run the manager as a driver, in a host of its own."
                )
            if done is Event.CONNECTED and result is False:
                raise ConnectError(f"{type(self.manager).__name__} could not connect")
        except Exception as error:
            self.last_error = to_driver_error(error, type(self.manager).__name__, names[0])
            self.logger.error("%s failed: %s", names[0], self.last_error)
            done = done if always else Event.FAILED
        except BaseException:  # the program ends, and nobody knows how far the manager came
            self._take(Signal(Event.FAILED))
            raise
        self._take(Signal(done))
