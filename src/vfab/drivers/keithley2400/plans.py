"""What a measurement asks of the instrument, decided and checked before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfab.model.errors import Refused

from .models import Model

__all__ = ["POINTS_MAX", "Plan", "plan_of"]

POINTS_MAX = 2500
"""Points of one sweep that the trigger model and the reading memory take."""
COMPLIANCE_A = 0.01
COMPLIANCE_V = 10.0
TEST_A = 1e-3


@dataclass(frozen=True, slots=True)
class Plan:
    """One measurement.

    Attributes:
        method: its name.
        source: `VOLT` or `CURR`.
        levels: what is sourced, point by point, in volts or amperes.
        compliance: the limit of the other one, in amperes or volts.
        way: `sweep` and `list` by the trigger model, `step` point by point.
        spacing: `LIN` or `LOG` of a `sweep`.
        count: how often a fixed level is read; 0 until somebody ends it.
    """

    method: str
    source: str
    levels: tuple[float, ...]
    compliance: float
    way: str
    spacing: str = "LIN"
    count: int = 1
    interval_s: float = 0.0
    four_wire: bool = False
    nplc: float = 1.0
    delay_s: float | None = None
    rear: bool = False

    @property
    def sensed(self) -> str:
        """What the compliance limits: `CURR` of a voltage source."""
        return "CURR" if self.source == "VOLT" else "VOLT"

    @property
    def unit(self) -> str:
        """Of the levels."""
        return "V" if self.source == "VOLT" else "A"

    def point_s(self, line_hz: float) -> float:
        """About how long a point takes, in seconds."""
        functions = 3 if self.method == "resistance" else 2
        return (0.003 if self.delay_s is None else self.delay_s) + functions * self.nplc / line_hz + 0.005


def plan_of(method: str, params: Mapping[str, Any], model: Model) -> Plan:
    """The plan of `method` with `params` on `model`. Raises Refused: the field and what it may be are told."""
    if method == "iv_sweep":
        source, levels, spacing, way = _swept(method, params)
    else:
        source, level = _fixed(method, params)
        levels, spacing, way = (level,), "LIN", "step"
    _check_levels(method, params, source, levels, model)
    compliance = _compliance(method, params, source, levels, model)
    count = int(params.get("count", 1)) if method == "continuous" else 1
    return Plan(
        method,
        source,
        levels,
        compliance,
        way,
        spacing=spacing,
        count=count,
        interval_s=float(params.get("interval_s", 0.0)),
        four_wire=str(params.get("wires", "2")) == "4",
        nplc=float(params.get("nplc", 1.0)),
        delay_s=params.get("delay_s"),
        rear=params.get("terminals") == "rear",
    )


def _refuse(method: str, field: str, found: object, expected: str) -> Refused:
    return Refused(
        f"{method}: {field}: found {found}; {expected}",
        context={"method": method, "field": field, "found": str(found), "expected": expected},
        remedy="Nothing was sent to the instrument; correct the parameter.",
    )


def _fixed(method: str, params: Mapping[str, Any]) -> tuple[str, float]:
    if method == "resistance":
        return "CURR", float(params.get("test_a", TEST_A))
    volts, amperes = params.get("source_v"), params.get("source_a")
    if (volts is None) == (amperes is None):
        found = "both" if volts is not None else "neither"
        raise _refuse(method, "source_v", found, "give either source_v (volts) or source_a (amperes)")
    return ("VOLT", float(volts)) if volts is not None else ("CURR", float(amperes or 0.0))


def _swept(method: str, params: Mapping[str, Any]) -> tuple[str, tuple[float, ...], str, str]:
    """Source, levels, spacing and way of a sweep."""
    ways = [name for name in ("start_v", "start_a", "values_v", "values_a") if params.get(name) is not None]
    if len(ways) != 1:
        expected = "give one of start_v with stop_v, start_a with stop_a, values_v, values_a"
        raise _refuse(method, ways[1] if ways else "start_v", " and ".join(ways) or "nothing", expected)
    source = "VOLT" if ways[0].endswith("_v") else "CURR"
    both_ways = bool(params.get("both_ways", False))
    spacing = "LOG" if params.get("spacing") == "log" else "LIN"
    if ways[0].startswith("values"):
        levels, way = _list(method, ways[0], str(params[ways[0]])), "list"
    else:
        levels, way = _spaced(method, params, ways[0], spacing), "sweep"
    if both_ways:
        levels, way = (*levels, *levels[-2::-1]), "list"
    if len(levels) > POINTS_MAX:
        raise _refuse(method, "points", len(levels), f"at most {POINTS_MAX} points, both ways together")
    if params.get("mode", "auto") == "step":
        way = "step"
    return source, levels, spacing, way


def _spaced(method: str, params: Mapping[str, Any], start_name: str, spacing: str) -> tuple[float, ...]:
    stop_name = start_name.replace("start", "stop")
    start, stop, points = float(params[start_name]), params.get(stop_name), int(params.get("points", 51))
    if stop is None:
        raise _refuse(method, stop_name, "nothing", f"it belongs to {start_name}")
    stop = float(stop)
    if spacing == "LOG":
        if start * stop <= 0:
            expected = "neither end of a logarithmic sweep is 0, and both have the same sign"
            raise _refuse(method, start_name if start == 0 else stop_name, start if start == 0 else stop, expected)
        ratio = stop / start
        return tuple(start * ratio ** (number / (points - 1)) for number in range(points))
    return tuple(start + (stop - start) * number / (points - 1) for number in range(points))


def _list(method: str, name: str, text: str) -> tuple[float, ...]:
    try:
        levels = tuple(float(part) for part in text.replace(";", ",").split(",") if part.strip())
    except ValueError:
        levels = ()
    if not levels or not all(math.isfinite(level) for level in levels):
        raise _refuse(method, name, repr(text), "numbers with commas between: 0,0.5,1")
    return levels


def _check_levels(method: str, params: Mapping[str, Any], source: str, levels: tuple[float, ...], model: Model) -> None:
    most = model.max_v if source == "VOLT" else model.max_a
    unit = "V" if source == "VOLT" else "A"
    worst = max(levels, key=abs)
    if abs(worst) <= most:
        return
    suffix = f"_{unit.lower()}"
    field = next((name for name in params if name.endswith(suffix) and params[name] == worst), f"values{suffix}")
    raise _refuse(method, field, f"{worst:g} {unit}", f"a {model.name} sources at most ±{most:g} {unit}")


def _compliance(method: str, params: Mapping[str, Any], source: str, levels: tuple[float, ...], model: Model) -> float:
    name, other = ("compliance_a", "compliance_v") if source == "VOLT" else ("compliance_v", "compliance_a")
    what = "a voltage source is limited by compliance_a" if source == "VOLT" else (
        "a current source is limited by compliance_v"
    )  # fmt: skip
    if params.get(other) is not None:
        raise _refuse(method, other, params[other], what)
    highest = max(abs(level) for level in levels)
    most = model.most_a_at(highest) if source == "VOLT" else model.most_v_at(highest)
    unit, given = ("A", "V") if source == "VOLT" else ("V", "A")
    value = params.get(name)
    if value is None:
        return min(COMPLIANCE_A if source == "VOLT" else COMPLIANCE_V, most)
    least = (model.ranges_a if source == "VOLT" else model.ranges_v)[0] * 1e-3
    if not least <= float(value) <= most:
        expected = f"from {least:g} to {most:g} {unit} at {highest:g} {given} ({model.name}: {model.words()})"
        raise _refuse(method, name, f"{value:g} {unit}", expected)
    return float(value)
