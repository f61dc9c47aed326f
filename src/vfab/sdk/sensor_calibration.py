"""Calibration of a sensor against references: at one point an offset, at two points gain and offset; kept on disk.

Uncertainty (GUM §5): a line through two reference values r1, r2 at x1, x2 gives y = (1-t)·r1 + t·r2 with
t = (x-x1)/(x2-x1), hence u²(y) = (gain·u(x))² + ((1-t)·u1)² + (t·u2)². What the datasheet says of x is kept as it is,
though a calibration takes away its systematic part: without knowing which part that is, less must not be claimed.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vfab.model.errors import ConfigurationError, Refused
from vfab.sdk.whole_file import write_whole

__all__ = ["SCHEMA_VERSION", "Calibration", "CalibrationStore", "Point", "through"]

SCHEMA_VERSION = 1
_FILE = "calibration.json"
_LEAST_SPAN = 1e-9


class Point(msgspec.Struct, frozen=True):
    """At `reference` the sensor said `measured`; `uncertainty` is the reference's, k = 1, in the quantity's unit."""

    measured: float
    reference: float
    uncertainty: float = 0.0


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Calibrated = gain · measured + offset.

    Attributes:
        low, high: the points that it rests on; one of them is missing in a one-point calibration.
        time_s: when it was made, Unix seconds.
    """

    low: Point | None = None
    high: Point | None = None
    gain: float = 1.0
    offset: float = 0.0
    time_s: float = 0.0

    def apply(self, value: float) -> float:
        """The calibrated value."""
        return self.gain * value + self.offset

    def uncertainty(self, value: float, uncertainty: float) -> float:
        """Standard uncertainty of the calibrated value, where the measured one, `value`, has `uncertainty`."""
        if self.low is None or self.high is None:
            only = self.low or self.high
            return math.hypot(self.gain * uncertainty, only.uncertainty if only is not None else 0.0)
        t = (value - self.low.measured) / (self.high.measured - self.low.measured)
        return math.hypot(self.gain * uncertainty, (1 - t) * self.low.uncertainty, t * self.high.uncertainty)


def through(low: Point | None, high: Point | None, time_s: float = 0.0) -> Calibration:
    """The calibration through one point (offset), whichever it is, or two (gain and offset).

    Raises Refused: the points lie too close together, or say that more is less.
    """
    if low is None or high is None:
        only = low or high or Point(0.0, 0.0)
        return Calibration(low=low, high=high, offset=only.reference - only.measured, time_s=time_s)
    span, wanted = high.measured - low.measured, high.reference - low.reference
    if abs(span) <= _LEAST_SPAN * max(abs(high.measured), abs(low.measured), 1.0) or wanted == 0:
        raise Refused(
            f"the two points of the calibration are the same: {low.measured:g} and {high.measured:g} were measured",
            context={"low": msgspec.to_builtins(low), "high": msgspec.to_builtins(high)},
            remedy="Take the points as far apart as the use of the sensor; `--point clear` begins afresh.",
        )
    gain = wanted / span
    if gain < 0:
        raise Refused(
            "the calibration would turn the sensor upside down: the higher reference gave the lower reading",
            context={"low": msgspec.to_builtins(low), "high": msgspec.to_builtins(high)},
            remedy="Were the references exchanged? `--point clear` begins afresh.",
        )
    return Calibration(low=low, high=high, gain=gain, offset=low.reference - gain * low.measured, time_s=time_s)


class _File(msgspec.Struct, frozen=True):
    schema: int
    quantities: dict[str, Calibration]


@dataclass
class CalibrationStore:
    """The calibrations of one sensor, by quantity; on disk in `folder` if there is one.

    Attributes:
        problem: why the file cannot be used; "" when it can, or there is none.
    """

    folder: Path | None

    def __post_init__(self) -> None:
        self.problem = ""
        self._found: dict[str, Calibration] = {}

    @property
    def path(self) -> Path | None:
        """The file."""
        return self.folder / _FILE if self.folder is not None else None

    def load(self) -> None:
        """Read the file. One that cannot be read leaves the sensor uncalibrated and says so in `problem`."""
        self.problem, self._found = "", {}
        path = self.path
        if path is None:
            return
        try:
            data = msgspec.json.decode(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            self.problem = f"{path} cannot be read: {error}"
            return
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA_VERSION:
            self.problem = f"{path} has schema version {schema!r}, this vfab reads {SCHEMA_VERSION}"
            return
        try:
            self._found = dict(msgspec.convert(data, _File).quantities)
        except msgspec.ValidationError as error:
            self.problem = f"{path} cannot be used: {error}"

    def get(self, quantity: str) -> Calibration | None:
        """The calibration in force."""
        return self._found.get(quantity)

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities that have one."""
        return tuple(sorted(self._found))

    def set(self, quantity: str, calibration: Calibration | None) -> bool:
        """Put a calibration in force, or (None) take it away; whether that was written to disk.

        Raises ConfigurationError: it cannot be written, or a newer vfab wrote the file; what was in force still is.
        """
        found = {**self._found}
        if calibration is None:
            found.pop(quantity, None)
        else:
            found[quantity] = calibration
        stored = self._write(found)
        self._found = found
        return stored

    def _write(self, found: dict[str, Calibration]) -> bool:
        path = self.path
        if path is None:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.problem:  # kept beside: somebody may want to mend it
                with suppress(FileNotFoundError):
                    path.replace(path.with_suffix(f".{int(time.time())}.unreadable"))
            text = msgspec.json.format(msgspec.json.encode(_File(SCHEMA_VERSION, found)), indent=1)
            write_whole(path, text, durable=True)
        except OSError as error:
            raise ConfigurationError(
                f"the calibration cannot be written to {path}: {error.strerror}",
                context={"file": str(path)},
                original_error=error,
                remedy="Make room, or let this user write there; the calibration before is still in force.",
            ) from error
        self.problem = ""
        return True
