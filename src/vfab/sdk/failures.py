"""What a driver raised, as one of vfab's errors: one table, used by the host and by `ErrorHandler` (seed 001 §5).

Nothing here may raise: an exception of a driver can be as broken as the driver.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DependencyError,
    DeviceBusy,
    DriverError,
    DriverFailed,
    HandedOver,
    LinkLost,
    PermissionRefused,
    TimeoutExceeded,
)

__all__ = ["error_fields", "to_driver_error"]

_TEXT_MAX = 4000
_CONTEXT_MAX = 16 * 1024
_HANDED_OVER_MAX = 12 << 20
"""What goes on in another process is no story for people, and has to arrive whole; a frame takes 16 MiB."""

_KINDS: tuple[tuple[type[BaseException], Callable[..., DriverError], str], ...] = (
    (ImportError, DependencyError, "something that the driver needs cannot be imported"),
    (PermissionError, PermissionRefused, "the system does not allow it"),
    (TimeoutError, TimeoutExceeded, "the operation timed out"),
    (asyncio.CancelledError, Cancelled, "the operation was cancelled"),
    (concurrent.futures.CancelledError, Cancelled, "the operation was cancelled"),
    (ConnectionError, ConnectError, "the connection failed"),
)
_ERRNOS: dict[int, tuple[Callable[..., DriverError], str]] = {
    errno.ENODEV: (LinkLost, "the device is gone"),
    errno.ENXIO: (LinkLost, "the device is gone"),
    errno.EIO: (LinkLost, "the device is gone"),
    errno.EBUSY: (DeviceBusy, "somebody else uses the device"),
    errno.ENETUNREACH: (ConnectError, "the device's network cannot be reached"),
    errno.EHOSTUNREACH: (ConnectError, "the device cannot be reached"),
    errno.EHOSTDOWN: (ConnectError, "the device cannot be reached"),
}
"""What of the other OSErrors is about the device, and not a defect of the driver."""
_CONFINED = (
    "A driver may use what its manifest permits and nothing else: `vfab driver info NAME` shows it. What it needs is "
    "for its author to add to permissions in plugin.yaml (files, network, subprocess), or for you to allow in "
    "config.yaml: confinement.files."
)
_LIMITS: dict[int, tuple[str, str]] = {
    errno.EMFILE: ("open_files", "the driver has as many descriptors open as it may"),
    errno.EFBIG: ("file_mb", "the driver may not write a file as large as that"),
    errno.ENOMEM: ("address_space_mb", "the driver may not have more address space"),
}
"""What the system answers to a driver that is at a limit of its process."""


def to_driver_error(error: BaseException, driver_name: str, method: str) -> DriverError:
    """`error` as a DriverError that names the driver and, for a defect of the driver, where it was raised."""
    if isinstance(error, DriverError):
        # a subclass of the plugin's own may have left out everything that our constructor sets
        error.driver_name = getattr(error, "driver_name", "") or driver_name
        return error
    limit = _limit(error)
    if limit is not None:
        setting, what = f"runtime.limits.{limit[0]}", limit[1]
        return DriverFailed(
            f"{what}: {_text(error) or type(error).__name__}",
            driver_name=driver_name,
            context={**_context(error, method), "limit": limit[0]},
            original_error=error,
            remedy=f"`vfab config show {driver_name}` has the limit, {setting}; raise it, or tell the driver's author.",
        )
    known = _known(error)
    if known is not None:
        translated, what = known
        text = f"{what}: {_text(error)}" if _text(error) else what
        more = {"remedy": _CONFINED} if isinstance(error, PermissionError) else {}
        return translated(text, driver_name=driver_name, context=_context(error, method), original_error=error, **more)
    if isinstance(error, TypeError) and _is_wrong_call(error):
        return ConfigurationError(
            f"{method}: {_text(error)}",
            driver_name=driver_name,
            context={"method": method},
            original_error=error,
            remedy="`vfab driver info NAME` shows the parameters of each command.",
        )
    if isinstance(error, SystemExit):
        text = f"the driver tried to end its process in {method} (sys.exit)"
    else:
        text = f"{type(error).__name__} in {method}: {_text(error)}".removesuffix(": ")
    return DriverFailed(text, driver_name=driver_name, context=_context(error, method), original_error=error)


def _known(error: BaseException) -> tuple[Callable[..., DriverError], str] | None:
    """What the tables say of `error`."""
    for kind, translated, what in _KINDS:
        if isinstance(error, kind):
            return translated, what
    if isinstance(error, OSError):
        number = vars(OSError)["errno"].__get__(error)  # past whatever a subclass made of it
        if number in _ERRNOS:
            return _ERRNOS[number]
        # pyserial's error classes; the sdk does not import pyserial to know them
        names = {kind.__name__ for kind in type(error).__mro__}
        if "SerialTimeoutException" in names:
            return TimeoutExceeded, "the serial port did not take the bytes in time"
        if "SerialException" in names:
            return ConnectError, "the serial port failed"
    return None


def _limit(error: BaseException) -> tuple[str, str] | None:
    """Which limit of its process the driver is at, if that is what `error` says."""
    if isinstance(error, MemoryError):
        return _LIMITS[errno.ENOMEM]
    if not isinstance(error, OSError):
        return None
    number = vars(OSError)["errno"].__get__(error)
    return _LIMITS.get(number)


def _is_wrong_call(error: TypeError) -> bool:
    """Whether the TypeError is about the call itself (wrong arguments), not raised within the method."""
    trace = error.__traceback__
    return trace is not None and trace.tb_next is None


def _context(error: BaseException, method: str) -> dict[str, object]:
    try:
        lines = "".join(traceback.format_exception(error))
    except Exception as another:
        lines = f"{type(error).__name__}, whose traceback cannot be printed: {type(another).__name__}"
    return {"method": method, "traceback": lines[-_TEXT_MAX:]}


def _text(error: object) -> str:
    """`str(error)`, cut to what a message may have; an exception may fail even at that."""
    try:
        if isinstance(error, BaseExceptionGroup):
            parts = "; ".join(f"{type(part).__name__}: {_text(part)}".removesuffix(": ") for part in error.exceptions)
            return f"{error.message}: {parts}"[:_TEXT_MAX]
        return str(error)[:_TEXT_MAX]
    except Exception as another:
        return f"<{type(error).__name__} without text: {type(another).__name__}>"


def error_fields(error: DriverError) -> dict[str, Any]:
    """`error.to_wire()`, made fit to be sent whatever the driver put into it: as JSON, and of bounded size."""
    try:
        fields = error.to_wire()
        if len(msgspec.json.encode(fields)) <= (_HANDED_OVER_MAX if isinstance(error, HandedOver) else _CONTEXT_MAX):
            return fields
    except Exception:
        fields = {}
    context = getattr(error, "context", None)
    family = getattr(error, "error_type", None)
    return {
        "error": _sendable(getattr(error, "message", None) or _text(error)),
        "type": getattr(family, "value", error.default_type.value),
        "driver": _sendable(getattr(error, "driver_name", "")),
        "context": {_sendable(key): _sendable(context[key]) for key in list(context)[:16]} if context else {},
        "original_error": None,
        "code": _sendable(error.code),
        "remedy": _sendable(getattr(error, "remedy", error.default_remedy)),
        "retryable": bool(getattr(error, "retryable", False)),
    }


def _sendable(value: object) -> str:
    text = value if isinstance(value, str) else _repr(value)
    return text[: _TEXT_MAX // 4].encode("utf-8", "backslashreplace").decode()


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
