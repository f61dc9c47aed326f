"""ErrorHandler: run an operation, get a dictionary instead of an exception (seed 001 §5)."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DriverError,
    DriverErrorType,
    DriverFailed,
    PermissionRefused,
    TimeoutExceeded,
)
from vfab.sdk.failures import error_fields, to_driver_error

__all__ = ["ErrorHandler"]


class ErrorHandler:
    """Runs operations of one driver and answers with what came of them, never with an exception.

    Every answer is `{"success": True, "result": …}` or `{"success": False, "error": DriverError}`. The error has been
    logged: as a warning when it is a timeout, with its traceback when it is a defect of the driver, else as an error.
    What ends a program or a task (KeyboardInterrupt, SystemExit, asyncio's CancelledError) is not caught.

    Args:
        driver_name: named in every error, and the logger's name: `vfab.drivers.NAME`.
        logger: instead of that logger.
    """

    def __init__(self, driver_name: str, logger: logging.Logger | None = None) -> None:
        self.driver_name = driver_name
        self.logger = logger or logging.getLogger(f"vfab.drivers.{driver_name}")

    def handle_operation(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call `operation` with the arguments. An `async` one belongs to `handle_operation_async`: it is refused."""
        if inspect.iscoroutinefunction(operation):
            return self.failed(_misplaced(operation), operation, kwargs)
        try:
            result = operation(*args, **kwargs)
        except Exception as error:
            return self.failed(error, operation, kwargs)
        if inspect.iscoroutine(result):
            result.close()
            return self.failed(_misplaced(operation), operation, kwargs)
        return {"success": True, "result": result}

    async def handle_operation_async(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call `operation` and await what it returns. A plain function runs here, on the event loop."""
        try:
            result = operation(*args, **kwargs)
            if isinstance(result, Awaitable):
                result = await result
        except Exception as error:
            return self.failed(error, operation, kwargs)
        return {"success": True, "result": result}

    def failed(self, error: Exception, operation: object, kwargs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer for an operation that raised `error`, which is logged.

        Args:
            error: what it raised.
            operation: what was called; for its name.
            kwargs: what it was called with: `timeout` and `port` become part of the error's context.
        """
        translated = to_driver_error(error, self.driver_name, _name_of(operation))
        if isinstance(getattr(translated, "context", None), dict):
            _add_hints(translated, kwargs or {})
        self._log(translated)
        return {"success": False, "error": translated}

    def _log(self, error: DriverError) -> None:
        fields = error_fields(error)
        if getattr(error, "error_type", None) is DriverErrorType.TIMEOUT_ERROR:
            self.logger.warning("%s", fields)
        elif isinstance(error, DriverFailed):
            self.logger.error("%s", fields, exc_info=error.original_error)
        else:
            self.logger.error("%s", fields)


def _add_hints(error: DriverError, kwargs: Mapping[str, Any]) -> None:
    """What seed 001 wants in the context, by family."""
    if isinstance(error, TimeoutExceeded):
        error.context.setdefault("timeout", kwargs.get("timeout", kwargs.get("timeout_s", "default")))
    elif isinstance(error, PermissionRefused):
        error.context.setdefault("suggestion", "Check device permissions and user groups")
    elif isinstance(error, ConnectError):
        error.context.setdefault("port", kwargs.get("port"))


def _name_of(operation: object) -> str:
    return str(getattr(operation, "__name__", None) or type(operation).__name__)


def _misplaced(operation: object) -> ConfigurationError:
    return ConfigurationError(
        f"{_name_of(operation)} is asynchronous and was given to handle_operation",
        context={"method": _name_of(operation)},
        remedy="Await handle_operation_async(…) instead.",
    )
