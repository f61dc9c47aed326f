"""A measurement as a small chart, PNG: enough to see whether it is what was expected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vfab.model.errors import ConfigurationError

__all__ = ["axes_of", "ticks", "write_chart"]

WIDTH_PX, HEIGHT_PX = 800, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 40, 60
_INK, _GRID, _LINE, _LIMITED = (40, 40, 40), (222, 222, 222), (31, 90, 180), (200, 40, 40)
_TICKS = 6


def axes_of(result: Mapping[str, Any]) -> tuple[int, int]:
    """Which columns make a picture: time across for what was watched, else the first column across, the second up.

    Raises ConfigurationError: there are no two columns of numbers.
    """
    columns = list(result.get("columns") or [])
    rows = result.get("rows") or []
    numbers = [
        index
        for index, name in enumerate(columns)
        if name not in {"status", "compliance"} and any(_is_number(row[index]) for row in rows)
    ]
    if len(numbers) < 2:
        raise ConfigurationError(
            f"{result.get('method')} gives nothing to draw: a chart needs two columns of numbers",
            context={"columns": columns},
            remedy="Leave --picture out.",
        )
    if "time" in columns and columns.index("time") in numbers:
        time = columns.index("time")
        others = [index for index in numbers if index != time]
        first = [row[others[0]] for row in rows]
        if len(others) == 1 or len(set(first)) < 3 or result.get("method") in {"log", "continuous"}:
            return time, others[-1] if result.get("method") == "continuous" else others[0]
    return numbers[0], numbers[1]


def ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` and one."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def write_chart(file: Path, result: Mapping[str, Any]) -> None:
    """Draw `result` to `file`, PNG. Points in compliance are red. Raises ConfigurationError: nothing to draw."""
    from PIL import Image, ImageDraw, ImageFont

    across, up = axes_of(result)
    points = [
        (float(row[across]), float(row[up]), _limited(result, row))
        for row in result["rows"]
        if _is_number(row[across]) and _is_number(row[up])
    ]
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    place = _Scale([p[0] for p in points], [p[1] for p in points])
    for value in ticks(*place.x):
        x, _ = place(value, place.y[0])
        draw.line([(x, _TOP), (x, HEIGHT_PX - _BOTTOM)], _GRID)
        draw.text((x, HEIGHT_PX - _BOTTOM + 6), f"{value:.6g}", _INK, font, anchor="ma")
    for value in ticks(*place.y):
        _, y = place(place.x[0], value)
        draw.line([(_LEFT, y), (WIDTH_PX - _RIGHT, y)], _GRID)
        draw.text((_LEFT - 6, y), f"{value:.4g}", _INK, font, anchor="rm")
    draw.rectangle([_LEFT, _TOP, WIDTH_PX - _RIGHT, HEIGHT_PX - _BOTTOM], outline=_INK)
    spots = [place(x, y) for x, y, _ in points]
    if len(spots) > 1:
        draw.line(spots, _LINE, 2)
    for (x, y), (_, _, limited) in zip(spots, points, strict=True):
        draw.ellipse([x - 2.5, y - 2.5, x + 2.5, y + 2.5], fill=_LIMITED if limited else _LINE)
    titles = _titles(result)
    draw.text((WIDTH_PX - _RIGHT, HEIGHT_PX - 12), titles[across], _INK, font, anchor="rs")
    draw.text((8, 14), titles[up], _INK, font, anchor="lm")
    draw.text((WIDTH_PX - _RIGHT, 14), f"{result.get('method')}: {len(points)} points", _INK, font, anchor="rm")
    image.save(file, "PNG")


class _Scale:
    """From numbers to pixels."""

    def __init__(self, across: Sequence[float], up: Sequence[float]) -> None:
        self.x, self.y = _span(across), _span(up)

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        right = (x - self.x[0]) / (self.x[1] - self.x[0])
        above = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            _LEFT + right * (WIDTH_PX - _LEFT - _RIGHT),
            HEIGHT_PX - _BOTTOM - above * (HEIGHT_PX - _TOP - _BOTTOM),
        )


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = abs(low) * 0.05 or 1.0
        return low - room, high + room
    return low, high


def _titles(result: Mapping[str, Any]) -> list[str]:
    units = result.get("units") or {}
    return [f"{name} [{units[name]}]" if units.get(name) else str(name) for name in result["columns"]]


def _limited(result: Mapping[str, Any], row: Sequence[Any]) -> bool:
    columns = list(result["columns"])
    return "compliance" in columns and bool(row[columns.index("compliance")])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
