"""ErrorHandler: dictionaries instead of exceptions."""

from __future__ import annotations

import asyncio
import logging

import pytest

from vfab.model.errors import ConnectError, DriverErrorType, DriverFailed, Refused
from vfab.sdk.operations import ErrorHandler


def raiser(error: BaseException):
    def operation(**kwargs: object) -> None:
        raise error

    return operation


def test_success_carries_the_result() -> None:
    assert ErrorHandler("d").handle_operation(divmod, 7, 2) == {"success": True, "result": (3, 1)}
    assert ErrorHandler("d").handle_operation(dict, a=1) == {"success": True, "result": {"a": 1}}


@pytest.mark.parametrize(
    ("raised", "kwargs", "family", "hint", "level"),
    [
        (ImportError("numpy"), {}, DriverErrorType.DEPENDENCY_ERROR, {}, logging.ERROR),
        (
            PermissionError("no"),
            {},
            DriverErrorType.PERMISSION_ERROR,
            {"suggestion": "Check device permissions and user groups"},
            logging.ERROR,
        ),
        (TimeoutError(), {"timeout": 5}, DriverErrorType.TIMEOUT_ERROR, {"timeout": 5}, logging.WARNING),
        (TimeoutError(), {"timeout_s": 2}, DriverErrorType.TIMEOUT_ERROR, {"timeout": 2}, logging.WARNING),
        (TimeoutError(), {}, DriverErrorType.TIMEOUT_ERROR, {"timeout": "default"}, logging.WARNING),
        (ConnectionError("x"), {"port": "p"}, DriverErrorType.CONNECTION_ERROR, {"port": "p"}, logging.ERROR),
        (KeyError("x"), {}, DriverErrorType.HARDWARE_ERROR, {}, logging.ERROR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_family_is_told_and_logged_as_the_document_says(
    raised: Exception, kwargs: dict, family: DriverErrorType, hint: dict, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ErrorHandler("d").handle_operation(raiser(raised), **kwargs)
    assert answer["success"] is False
    assert answer["error"].error_type is family
    assert answer["error"].context.items() >= hint.items()
    assert answer["error"].driver_name == "d"
    (record,) = caplog.records
    assert (record.levelno, record.name) == (level, "vfab.drivers.d")
    assert bool(record.exc_info) is isinstance(answer["error"], DriverFailed)


def test_an_error_of_vfab_is_passed_on_as_it_is() -> None:
    error = Refused("off the page")
    assert ErrorHandler("d").handle_operation(raiser(error))["error"] is error


def test_a_broken_error_of_a_plugin_is_told_all_the_same() -> None:
    class Broken(ConnectError):
        def __init__(self) -> None:
            Exception.__init__(self, "broken")

    answer = ErrorHandler("d").handle_operation(raiser(Broken()))
    assert str(answer["error"]) == "broken"


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_is_not_caught(ending: type[BaseException]) -> None:
    with pytest.raises(ending):
        ErrorHandler("d").handle_operation(raiser(ending()))

    async def work() -> None:
        await ErrorHandler("d").handle_operation_async(raiser(ending()))

    with pytest.raises(ending):
        asyncio.run(work())


def test_asynchronous_operations_are_awaited_and_refused_by_the_synchronous_method() -> None:
    async def answer(value: int) -> int:
        if value < 0:
            raise TimeoutError
        return value

    async def work() -> None:
        handler = ErrorHandler("d")
        assert await handler.handle_operation_async(answer, 3) == {"success": True, "result": 3}
        assert await handler.handle_operation_async(abs, -3) == {"success": True, "result": 3}
        late = await handler.handle_operation_async(answer, -1)
        assert late["error"].code == "timeout"
        for operation in (answer, lambda value: answer(abs(value))):
            misplaced = handler.handle_operation(operation, 3)
            assert "handle_operation_async" in misplaced["error"].remedy

    asyncio.run(work())


def test_an_operation_without_a_name_is_named_by_its_class() -> None:
    class Operation:
        def __call__(self) -> None:
            raise ConnectionError

    assert ErrorHandler("d").handle_operation(Operation())["error"].context["method"] == "Operation"
