"""ConnectionRecovery: connect, and when that fails mend what can be mended and try again (seed 001 §5).

Before the first retry the connection is reset, before the second the device, before every later one the driver is
initialised again. The waits grow exponentially and have a random part, so that fifty devices that lost their hub do not
come back in step. tenacity does the repeating.
"""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from vfab.model.errors import ConfigurationError, ConnectError, DriverError
from vfab.sdk.failures import error_fields, to_driver_error

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["ConnectionRecovery"]

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("reset_connection", ("disconnect",)),
    ("reset_device", ("reset_device", "reset")),
    ("reinitialize", ("reinitialize", "initialize")),
)
"""What is tried before each retry, the last one before all later ones: its name, and the manager's method (seed 001's
name, then `BaseDriver`'s). A manager that has neither is only given time."""


class ConnectionRecovery:
    """Connects a manager, with recovery.

    Args:
        manager: has `connect() -> bool | None`, and what it can of `disconnect`, `reset_device` or `reset`,
            `reinitialize` or `initialize`; plain methods, or `async` ones for `connect_with_recovery_async`.
        max_retries: how often to try again after the first attempt failed.
        driver_name: for errors and the log.
        on_event: told what happens: ("recovery_attempt", {"attempt"}), ("recovery_step", {"attempt", "step", "error",
            "wait_s"}), ("recovery_step_failed", …), ("recovery_succeeded", …), ("recovery_failed", …).
        first_wait_s: the wait before the first retry; it doubles with each one.
        max_wait_s: no wait is longer, its random part aside.
        jitter: the random part: at most this share of the wait is added.
        sleep: waits, in `connect_with_recovery`; seconds.
        async_sleep: waits, in `connect_with_recovery_async`; None: asyncio's.
        rand: a random number in [0, 1).

    Attributes:
        last_error: why the last attempt failed, or None after success.
        retry_count: how many retries the last connect needed.
    """

    def __init__(
        self,
        manager: Any,
        max_retries: int = 3,
        *,
        driver_name: str = "",
        on_event: Callable[[str, Mapping[str, Any]], object] = lambda kind, data: None,
        first_wait_s: float = 2.0,
        max_wait_s: float = 60.0,
        jitter: float = 0.25,
        sleep: Callable[[float], None] = time.sleep,
        async_sleep: Callable[[float], Awaitable[None]] | None = None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        if max_retries < 0 or first_wait_s < 0 or max_wait_s < 0 or jitter < 0:
            raise ConfigurationError(
                "max_retries, first_wait_s, max_wait_s and jitter cannot be negative",
                context={"max_retries": max_retries, "first_wait_s": first_wait_s},
            )
        self.manager = manager
        self.max_retries = max_retries
        self.driver_name = driver_name or type(manager).__name__
        self.logger = logging.getLogger(f"vfab.drivers.{self.driver_name}")
        self.retry_count = 0
        self.last_error: DriverError | None = None
        self._on_event = on_event
        self._first_wait_s = first_wait_s
        self._max_wait_s = max_wait_s
        self._jitter = jitter
        self._sleep = sleep
        self._async_sleep = async_sleep
        self._rand = rand

    def connect_with_recovery(self) -> bool:
        """Connect; True when it worked, False when it did not and cannot or may not be tried again: see `last_error`.

        Blocks, for the waits too. An error that is not retryable ends it at once.
        """
        from tenacity import Retrying

        def mend(state: RetryCallState) -> None:
            method = self._mending(state)
            try:
                if method is not None:
                    self._check_plain(method())
            except Exception as error:
                self._mending_failed(state, error)

        def attempt() -> None:
            self._begin_attempt()
            try:
                connected = self.manager.connect()
                self._check_plain(connected)
            except Exception as error:
                raise self._translated(error) from error
            self._judge(connected)

        self._begin()
        try:
            Retrying(**self._options(), sleep=self._sleep, before_sleep=mend)(attempt)
        except DriverError as error:
            return self._gave_up(error)
        return self._connected()

    async def connect_with_recovery_async(self) -> bool:
        """The same from asyncio: the manager's methods may be `async`, the waits let others run."""
        import asyncio

        from tenacity import AsyncRetrying

        async def mend(state: RetryCallState) -> None:
            method = self._mending(state)
            try:
                result = method() if method is not None else None
                if isinstance(result, Awaitable):
                    await result
            except Exception as error:
                self._mending_failed(state, error)

        async def attempt() -> None:
            self._begin_attempt()
            try:
                connected = self.manager.connect()
                if isinstance(connected, Awaitable):
                    connected = await connected
            except Exception as error:
                raise self._translated(error) from error
            self._judge(connected)

        self._begin()
        sleep = self._async_sleep or asyncio.sleep
        try:
            await AsyncRetrying(**self._options(), sleep=sleep, before_sleep=mend)(attempt)
        except DriverError as error:
            return self._gave_up(error)
        return self._connected()

    # -- what both share ----------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        from tenacity import retry_if_exception, stop_after_attempt

        return {
            "stop": stop_after_attempt(self.max_retries + 1),
            "wait": lambda state: self._wait_s(state.attempt_number),
            "retry": retry_if_exception(_is_retryable),
            "reraise": True,
        }

    def _wait_s(self, attempt: int) -> float:
        # the exponent is bounded: 2.0**1100 would overflow
        wait_s = min(self._max_wait_s, self._first_wait_s * 2.0 ** min(attempt - 1, 64))
        return wait_s * (1.0 + self._jitter * self._rand())

    def _begin(self) -> None:
        self.retry_count = -1
        self.last_error = None

    def _begin_attempt(self) -> None:
        self.retry_count += 1
        self._say("recovery_attempt", {"attempt": self.retry_count + 1})

    def _judge(self, connected: object) -> None:
        if connected is False:
            self.last_error = ConnectError(f"{self.driver_name} could not connect", driver_name=self.driver_name)
            raise self.last_error

    def _translated(self, error: Exception) -> DriverError:
        self.last_error = to_driver_error(error, self.driver_name, "connect")
        return self.last_error

    def _mending(self, state: RetryCallState) -> Callable[[], Any] | None:
        """The manager's method for what comes before this retry; it has been announced."""
        name, methods = STEPS[min(state.attempt_number, len(STEPS)) - 1]
        wait_s = state.next_action.sleep if state.next_action is not None else 0.0
        self.logger.warning(
            "attempt %d failed: %s; next: %s, then a wait of %.1f s",
            state.attempt_number,
            self.last_error,
            name,
            wait_s,
        )
        data = {"attempt": state.attempt_number, "step": name, "error": _fields(self.last_error), "wait_s": wait_s}
        self._say("recovery_step", data)
        found = (getattr(self.manager, method, None) for method in methods)
        return next((method for method in found if callable(method)), None)

    def _mending_failed(self, state: RetryCallState, error: Exception) -> None:
        """A step that fails does not end the recovery: the next attempt may work all the same."""
        translated = to_driver_error(error, self.driver_name, "recovery")
        self.logger.warning("recovery step failed: %s", translated)
        self._say("recovery_step_failed", {"attempt": state.attempt_number, "error": _fields(translated)})

    def _connected(self) -> bool:
        self.last_error = None
        self._say("recovery_succeeded", {"attempt": self.retry_count + 1})
        return True

    def _gave_up(self, error: DriverError) -> bool:
        why = "no attempt is left" if _is_retryable(error) else "trying again cannot help"
        self.logger.error("gave up after %d attempts, %s: %s", self.retry_count + 1, why, error)
        data = {"attempt": self.retry_count + 1, "error": _fields(error), "retryable": _is_retryable(error)}
        self._say("recovery_failed", data)
        return False

    def _say(self, kind: str, data: Mapping[str, Any]) -> None:
        try:
            self._on_event(kind, data)
        except Exception:
            self.logger.exception("a listener failed on %s", kind)

    def _check_plain(self, result: object) -> None:
        if inspect.iscoroutine(result):
            result.close()
            raise ConfigurationError(
                f"{self.driver_name}'s methods are asynchronous", remedy="Await connect_with_recovery_async() instead."
            )


def _is_retryable(error: BaseException) -> bool:
    # a subclass of the plugin's own may have left out everything that our constructor sets
    return isinstance(error, DriverError) and bool(getattr(error, "retryable", error.default_retryable))


def _fields(error: DriverError | None) -> dict[str, Any] | None:
    return error_fields(error) if error is not None else None
