"""What a caller may ask of a plot: names, types and ranges, checked before anything else happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any, NoReturn

from vfab.model.alike import alike
from vfab.model.errors import ConfigurationError
from vfab.sdk.motion import Limits, PlotProfile
from vfab.sdk.svg import SvgOptions

__all__ = ["PAGES_MM", "PlotOptions"]

PAGES_MM = {
    "a3": (420.0, 297.0), "a4": (297.0, 210.0), "a5": (210.0, 148.0), "a6": (148.0, 105.0),
    "letter": (279.4, 215.9), "legal": (355.6, 215.9), "tabloid": (431.8, 279.4),
}  # fmt: skip
"""Pages by name, on their long side: width and height in millimetres."""
_SHAPE = (
    "layers", "fit", "margin_mm", "tolerance_mm", "page", "rotate", "landscape", "sort", "merge",
    "merge_tolerance_mm", "drop_hidden", "dashes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlotOptions:
    """Options of `PlotterDriver.plot` and `estimate`.

    Attributes:
        source: the file's name, for messages.
        layers: numbers of the layers to draw; None draws all.
        fit: scale the drawing to the page within `margin_mm`.
        margin_mm: what `fit` leaves free at each edge.
        tolerance_mm: how far the drawn polylines may lie from the file's curves.
        page: (width, height) in millimetres instead of the file's own page; a name such as `a4` is taken too.
        rotate: quarter turns clockwise, in degrees.
        landscape: turn by another 90 degrees when the page is higher than wide.
        sort: shorten pen-up travel by changing the order of strokes.
        merge: join strokes whose ends touch.
        merge_tolerance_mm: how far apart touching ends may be.
        drop_hidden: leave out what a browser would not show.
        dashes: draw dashed strokes dashed; otherwise they are solid.
        resume: go on with the interrupted plot of the same file and options.
        home: travel home after the plot; None leaves it to the driver's settings.
        home_on_cancel: travel home, pen up, after a cancel as well.
        speed_mm_s, acceleration_mm_s2, cornering_mm: limits with the pen down; None takes the driver's settings.
        travel_mm_s, travel_acceleration_mm_s2: limits with the pen up; likewise.
    """

    source: str = ""
    layers: tuple[int, ...] | None = None
    fit: bool = False
    margin_mm: float = 10.0
    tolerance_mm: float = 0.02
    page: tuple[float, float] | None = None
    rotate: int = 0
    landscape: bool = False
    sort: bool = True
    merge: bool = True
    merge_tolerance_mm: float | None = None
    drop_hidden: bool = True
    dashes: bool = True
    resume: bool = False
    home: bool | None = None
    home_on_cancel: bool = False
    speed_mm_s: float | None = None
    acceleration_mm_s2: float | None = None
    cornering_mm: float | None = None
    travel_mm_s: float | None = None
    travel_acceleration_mm_s2: float | None = None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any] | None) -> PlotOptions:
        """The options that a caller wrote.

        Raises ConfigurationError: an unknown name, or a value of the wrong type or out of its range.
        """
        known = [field.name for field in fields(cls)]
        values: dict[str, Any] = {}
        for name, value in (given or {}).items():
            if name not in known:
                near = alike(str(name), known, 1)
                raise ConfigurationError(
                    f"plotting has no option {name!r}",
                    context={"field": str(name), "known": known},
                    remedy=f"Did you mean {near[0]}?" if near else f"The options are {', '.join(known)}.",
                )
            values[name] = _checked(name, value)
        options = cls(**values)
        options.svg_options()
        return options

    def svg_options(self) -> SvgOptions:
        """What of it concerns reading the file."""
        return SvgOptions(**{name: getattr(self, name) for name in _SHAPE})

    def shape(self) -> dict[str, Any]:
        """What of it decides which strokes there are: what must be unchanged when a plot is resumed."""
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in _SHAPE
        }  # fmt: skip

    def apply(self, profile: PlotProfile) -> PlotProfile:
        """`profile` with the limits that the caller asked for.

        Raises ConfigurationError: a limit is not a number in its range.
        """
        return replace(
            profile,
            pen_down=_limits(profile.pen_down, self.speed_mm_s, self.acceleration_mm_s2, self.cornering_mm),
            pen_up=_limits(profile.pen_up, self.travel_mm_s, self.travel_acceleration_mm_s2, None),
        )


def _limits(limits: Limits, speed: float | None, acceleration: float | None, cornering: float | None) -> Limits:
    return Limits(
        limits.max_velocity_mm_s if speed is None else speed,
        limits.acceleration_mm_s2 if acceleration is None else acceleration,
        limits.cornering_mm if cornering is None else cornering,
    )


_FLAGS = frozenset({"fit", "landscape", "sort", "merge", "drop_hidden", "dashes", "resume", "home_on_cancel"})
_OPTIONAL = frozenset(
    {"layers", "page", "merge_tolerance_mm", "home", "speed_mm_s", "acceleration_mm_s2", "cornering_mm", "travel_mm_s",
     "travel_acceleration_mm_s2"}
)  # fmt: skip


def _checked(name: str, value: Any) -> Any:
    if value is None and name in _OPTIONAL:
        return None
    if name in _FLAGS or name == "home":
        return value if isinstance(value, bool) else _refuse(name, value, "true or false")
    if name == "source":
        return value if isinstance(value, str) else _refuse(name, value, "text")
    if name == "layers":
        good = isinstance(value, list | tuple) and value and all(_is_number(n) and n == int(n) for n in value)
        return tuple(int(n) for n in value) if good else _refuse(name, value, "a list of layer numbers such as [1, 2]")
    if name == "page":
        return _page(value)
    if name == "rotate":
        return value if isinstance(value, int) and not isinstance(value, bool) else _refuse(name, value, "a number")
    return float(value) if _is_number(value) else _refuse(name, value, "a number")


def _page(value: Any) -> tuple[float, float]:
    if isinstance(value, str):
        named = PAGES_MM.get(value.lower())
        if named is None:
            raise _refusal("page", value, f"[width, height] in mm, or one of {', '.join(PAGES_MM)}")
        return named
    if isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(side) for side in value):
        return float(value[0]), float(value[1])
    raise _refusal("page", value, "[width, height] in mm")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _refuse(name: str, value: Any, wanted: str) -> NoReturn:
    raise _refusal(name, value, wanted)


def _refusal(name: str, value: Any, wanted: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is {value!r}", context={"field": name, "found": repr(value)}, remedy=f"Give {wanted}."
    )
