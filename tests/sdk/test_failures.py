"""The one table that makes vfab's errors of whatever a driver raised."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno

import pytest

from vfab.host import failures as host_failures
from vfab.model import errors
from vfab.sdk import failures
from vfab.sdk.failures import error_fields, to_driver_error


class SerialException(OSError):
    """Named as pyserial's."""


class SerialTimeoutException(SerialException):
    """Named as pyserial's."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class LyingNumber(OSError):
    @property
    def errno(self) -> int:  # type: ignore[override]
        raise RuntimeError("no number")


class HalfMade(errors.DriverError):
    code = "half_made"

    def __init__(self) -> None:
        Exception.__init__(self, "half")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ModuleNotFoundError("numpy"), errors.DependencyError),
        (PermissionError(errno.EACCES, "no"), errors.PermissionRefused),
        (TimeoutError(), errors.TimeoutExceeded),
        (OSError(errno.ETIMEDOUT, "late"), errors.TimeoutExceeded),
        (asyncio.CancelledError(), errors.Cancelled),
        (concurrent.futures.CancelledError(), errors.Cancelled),
        (BrokenPipeError(errno.EPIPE, "gone"), errors.ConnectError),
        (OSError(errno.ENODEV, "gone"), errors.LinkLost),
        (OSError(errno.EIO, "gone"), errors.LinkLost),
        (OSError(errno.EBUSY, "taken"), errors.DeviceBusy),
        (OSError(errno.EHOSTUNREACH, "where"), errors.ConnectError),
        (OSError(errno.ENOENT, "a file of the driver's own"), errors.DriverFailed),
        (SerialException("no data"), errors.ConnectError),
        (SerialException(errno.ENOENT, "no port"), errors.ConnectError),
        (SerialException(errno.EIO, "unplugged"), errors.LinkLost),
        (SerialTimeoutException("late"), errors.TimeoutExceeded),
        (LyingNumber(errno.EIO, "unplugged"), errors.LinkLost),
        (SystemExit(3), errors.DriverFailed),
        (Unprintable(), errors.DriverFailed),
        (ZeroDivisionError("x"), errors.DriverFailed),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_exception_has_its_error(raised: BaseException, kind: type[errors.DriverError]) -> None:
    made = to_driver_error(raised, "axidraw", "plot")
    assert type(made) is kind
    assert made.driver_name == "axidraw"
    assert made.original_error is raised
    assert made.context["method"] == "plot"
    assert error_fields(made)["driver"] == "axidraw"


def test_an_error_of_vfab_stays_itself_and_learns_its_drivers_name() -> None:
    error = errors.Refused("off the page")
    assert to_driver_error(error, "axidraw", "plot") is error
    assert error.driver_name == "axidraw"
    assert to_driver_error(errors.Refused("x", driver_name="b"), "a", "plot").driver_name == "b"


def test_a_wrong_call_is_the_callers_fault_and_a_type_error_within_is_the_drivers() -> None:
    def method(a: int) -> None:
        raise TypeError("within")

    def caught(*args: int) -> errors.DriverError:
        try:
            method(*args)
        except TypeError as error:
            return to_driver_error(error, "d", "method")
        raise AssertionError

    assert type(caught()) is errors.ConfigurationError
    assert type(caught(1)) is errors.DriverFailed


def test_fields_are_made_even_of_an_error_whose_class_forgot_its_base() -> None:
    fields = error_fields(to_driver_error(HalfMade(), "d", "m"))
    assert (fields["error"], fields["code"], fields["driver"]) == ("half", "half_made", "d")


def test_fields_are_bounded_and_can_be_sent_whatever_is_in_the_context() -> None:
    huge = errors.HardwareError("x" * 10_000, context={"big": "y" * 100_000, "thing": object(), "surrogate": "\ud800"})
    fields = error_fields(huge)
    assert len(fields["error"]) == 1000
    assert all(isinstance(value, str) and len(value) <= 1006 for value in fields["context"].values())


def test_the_host_uses_the_same_table() -> None:
    assert host_failures.to_driver_error is failures.to_driver_error
