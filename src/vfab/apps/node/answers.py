"""What the node's API answers: JSON, and errors that say what was wrong, with the status that HTTP has for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DependencyError,
    DeviceBusy,
    DeviceNotFound,
    DriverError,
    DriverErrorType,
    DriverFailed,
    DriverNotFound,
    IllegalTransition,
    UnknownCommand,
)

__all__ = ["ERRORS", "ERROR_TYPE_HEADER", "add_errors", "as_json", "bad_request", "status_of"]

ERROR_TYPE_HEADER = "vfab-error-type"
"""The error's family, which decides the exit code of a command that meets it."""

_BY_CLASS: tuple[tuple[type[DriverError], int], ...] = (
    (DeviceNotFound, 404),
    (DriverNotFound, 404),
    (UnknownCommand, 404),
    (DeviceBusy, 409),
    (IllegalTransition, 409),
    (Cancelled, 409),
    (DependencyError, 424),
    (ConfigurationError, 422),
    (DriverFailed, 500),
)
_BY_CODE = {"job_not_found": 404, "no_such_path": 404, "no_such_method": 405, "driver_left_out": 409}
_BY_TYPE = {
    DriverErrorType.CONNECTION_ERROR: 502,
    DriverErrorType.TIMEOUT_ERROR: 504,
    DriverErrorType.PERMISSION_ERROR: 403,
    DriverErrorType.CONFIGURATION_ERROR: 422,
    DriverErrorType.HARDWARE_ERROR: 502,
    DriverErrorType.PROTOCOL_ERROR: 502,
    DriverErrorType.DEPENDENCY_ERROR: 424,
}


def status_of(error: DriverError) -> int:
    """The HTTP status that an error is answered with."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for kind, status in _BY_CLASS:
        if isinstance(error, kind):
            return status
    return _BY_TYPE[error.error_type]


class Fault(BaseModel):
    """What was wrong."""

    code: str = Field(description="stable, for programs: docs/reference/errors.md")
    message: str
    remedy: str = Field(description="what to do about it")
    context: dict[str, Any] = Field(description="the field, what was found, what would be right")


class Refusal(BaseModel):
    """The answer to what could not be done."""

    error: Fault


ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": Refusal, "description": "The request, or a setting, is not as it must be."},
    "4XX": {"model": Refusal, "description": "It cannot be done: no such thing, in use, not allowed, not now."},
    "5XX": {"model": Refusal, "description": "A device, its driver, or vfab itself failed."},
}
"""How `openapi.json` describes errors, the same for every request."""


def as_json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The answer `document`; what JSON has no word for is told as text."""
    text = json.dumps(document, ensure_ascii=False, default=str)
    return Response(text.encode("utf-8", "replace"), status, dict(headers or {}), "application/json")


def _refused(error: DriverError) -> Response:
    headers = {ERROR_TYPE_HEADER: error.error_type.value}
    return as_json({"error": error.to_public()}, status_of(error), headers)


def bad_request(field: str, fault: str, remedy: str, problems: int = 1) -> ConfigurationError:
    """The error for a request that is not as it must be."""
    context = {"field": field, "problems": problems}
    return _coded("bad_request", f"{field or 'the request'}: {fault}", remedy, context)


def _coded(code: str, message: str, remedy: str, context: Mapping[str, Any] | None = None) -> ConfigurationError:
    error = ConfigurationError(message, context=context, remedy=remedy)
    error.code = code  # type: ignore[misc]
    return error


def add_errors(app: FastAPI) -> None:
    """Have `app` answer every error as `Refusal` describes it."""

    @app.exception_handler(DriverError)
    async def refused(request: Request, error: DriverError) -> Response:
        return _refused(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != "body")
        remedy = "GET /openapi.json says what each request takes."
        return _refused(bad_request(field, first["msg"], remedy, len(error.errors())))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        code = {404: "no_such_path", 405: "no_such_method"}.get(error.status_code)
        if code is None:  # bytes that are no text, most likely
            return _refused(bad_request("body", str(error.detail), "Send JSON in UTF-8."))
        text = f"{request.method} {request.url.path}: {error.detail}"
        return _refused(_coded(code, text, "GET /openapi.json lists what there is."))

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        text = f"{type(error).__name__}: {error}"
        return _refused(DriverFailed(text, remedy="This is a defect of vfab: the node's log has the traceback."))
