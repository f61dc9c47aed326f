"""Structured logs on standard error: lines of JSON for programs, readable ones on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

from vfab.model.events import DriverEvent

__all__ = ["configure_logs", "log_event"]

_QUIET = frozenset({"progress"})
_BAD = frozenset({"host_died", "gave_up", "deaf", "safe_stop", "resource_warning"})


class _Deaf:
    """A stream whose reader may go away: a log that nobody reads must not end the node."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


class _Bridge(logging.Handler):
    """Passes what libraries log on to the same place."""

    def emit(self, record: logging.LogRecord) -> None:
        import structlog

        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        structlog.get_logger().log(record.levelno, record.getMessage(), **fields)


def configure_logs(stream: TextIO | None = None, level: int = logging.INFO) -> Any:
    """Set up structlog for this process, and the standard library's logging through it; the root logger."""
    import structlog

    stream = stream or sys.stderr
    readable = stream.isatty()
    renderer: Any = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if readable:
        colors = not os.environ.get("NO_COLOR")
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if readable else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=_Deaf(stream)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(level, logging.INFO))
    for name in ("uvicorn.error", "uvicorn.access", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return structlog.get_logger()


def log_event(log: Any, event: DriverEvent) -> None:
    """Write one event of a device, with device, driver and generation bound."""
    if event.event_type in _QUIET:
        return
    bound = log.bind(device=event.device_id, driver=event.driver_name, generation=event.generation)
    data = dict(event.data)
    if event.event_type == "log":
        bound.log(int(data.pop("level", logging.INFO)), str(data.pop("message", "")), logger=data.get("logger"))
        return
    data.pop("event", None)
    if event.event_type == "state_changed":
        error = data.pop("error", None)
        fields = {"from": data.get("from"), "to": data.get("to")}
        if error:
            bound.warning("state_changed", **fields, error=error.get("error"), code=error.get("code"))
        else:
            bound.info("state_changed", **fields)
        return
    level = logging.WARNING if event.event_type in _BAD else logging.INFO
    bound.log(level, event.event_type, **{"data": data})
