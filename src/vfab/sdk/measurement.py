"""A measurement: its parameters, held against the manifest; its columns and points, collected while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from vfab.model.errors import Refused
from vfab.model.manifest import Command, Manifest
from vfab.model.settings import faults

__all__ = ["Column", "MeasurementRun", "checked_parameters", "command_of", "parameters_schema"]


class Column(msgspec.Struct, frozen=True):
    """What one column of the points holds.

    Attributes:
        name: `voltage`.
        unit: its UCUM name, `V`, `A`, `Ohm`, `s`; "" for none.
    """

    name: str
    unit: str = ""


def command_of(manifest: Manifest, method: str) -> Command | None:
    """The command of the manifest that describes a measurement method: `iv-sweep` for `iv_sweep`."""
    return manifest.commands.get(method.replace("_", "-"))


def parameters_schema(manifest: Manifest, method: str) -> dict[str, Any] | None:
    """JSON Schema of a method's parameters; None where the manifest does not describe them."""
    command = command_of(manifest, method)
    if command is None:
        return None
    properties = {name: parameter.schema for name, parameter in command.parameters.items()}
    required = [name for name, parameter in command.parameters.items() if parameter.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def checked_parameters(manifest: Manifest, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with the method's defaults filled in. Lists of numbers may be given where the schema wants a text.

    Raises Refused: a parameter is unknown, missing, of the wrong type or out of range; all are in the context.
    """
    schema = parameters_schema(manifest, method)
    given = {name: value for name, value in params.items() if value is not None}
    if schema is None:
        return given
    command = command_of(manifest, method)
    assert command is not None
    for name, value in given.items():
        wanted = schema["properties"].get(name, {}).get("type")
        if wanted == "string" and isinstance(value, (list, tuple)):
            given[name] = ",".join(format(item, ".12g") if isinstance(item, float) else str(item) for item in value)
        elif wanted == "string" and isinstance(value, (int, float)) and not isinstance(value, bool):
            given[name] = format(value, "g")
    wrong = faults(schema, given)
    if wrong:
        first = wrong[0]
        raise Refused(
            f"{method}: {first.field}: found {first.found}; {first.expected}",
            driver_name=manifest.name,
            context={
                "method": method,
                "field": first.field,
                "found": first.found,
                "expected": first.expected,
                "problems": [{"field": f.field, "found": f.found, "expected": f.expected} for f in wrong],
            },
            remedy=f"`vfab driver run {manifest.name} {method.replace('_', '-')} --help` lists the parameters.",
        )
    defaults = {name: item.default for name, item in command.parameters.items() if item.default is not None}
    return {**defaults, **given}


class MeasurementRun:
    """One measurement under way. The driver adds points; whoever called is told, and gets them all at the end.

    Args:
        method: its name.
        params: its parameters, checked.
        tell: is given the progress.
        point: is given each point, with the device's own time in seconds or None.
        check: raises when the measurement is not wanted any more.
        clock, now: seconds that never go back, and since 1970.
    """

    def __init__(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        tell: Callable[[Mapping[str, Any]], None] = lambda progress: None,
        point: Callable[[MeasurementRun, list[Any], float | None], None] = lambda run, row, device_s: None,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.method = method
        self.params = dict(params)
        self.columns: tuple[Column, ...] = ()
        self.rows: list[list[Any]] = []
        self.extras: dict[str, Any] = {}
        self.total = 0
        self.check = check
        self._tell = tell
        self._point = point
        self._clock = clock
        self._began_s = clock()
        self._started_s = now()

    def begin(self, columns: Sequence[Column], total: int = 0) -> None:
        """Say what each point has, and how many are expected; 0 for endless."""
        self.columns = tuple(columns)
        self.total = total
        self.advance()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began_s

    def add(self, *values: Any, device_time_s: float | None = None, tell: bool = True) -> None:
        """Add a point. NaN and infinity become None. Raises what `check` raises."""
        row = [_plain(value) for value in values]
        self.rows.append(row)
        self._point(self, row, device_time_s)
        if tell:
            self.advance()
        self.check()

    def advance(self, *, done_s: float | None = None, total_s: float | None = None) -> None:
        """Tell how far it is: by points, or by time where the points come all at once."""
        done = len(self.rows)
        told: dict[str, Any] = {"phase": "measuring", "done": done, "total": self.total}
        if done_s is not None and total_s:
            told.update(done_s=round(done_s, 3), total_s=round(total_s, 3))
            told["remaining_s"] = round(max(0.0, total_s - done_s), 3)
        elif done and self.total:
            told["remaining_s"] = round(self.elapsed_s / done * (self.total - done), 3)
        if self.rows:
            told["point"] = {column.name: value for column, value in zip(self.columns, self.rows[-1], strict=True)}
        self._tell(told)

    def result(self, *, completed: bool) -> dict[str, Any]:
        """What the caller gets: method, parameters, columns, units, rows and when; then what the driver added."""
        return {
            "method": self.method,
            "parameters": self.params,
            "columns": [column.name for column in self.columns],
            "units": {column.name: column.unit for column in self.columns if column.unit},
            "rows": self.rows,
            "points": len(self.rows),
            "completed": completed,
            "started_s": round(self._started_s, 3),
            "elapsed_s": round(self.elapsed_s, 3),
            **self.extras,
        }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
