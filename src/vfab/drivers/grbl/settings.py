"""The driver's settings and the controller's, and what follows from both: pen, page, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vfab.sdk.drawing import Point
from vfab.sdk.motion import Limits, PlotProfile
from vfab.sdk.plotter import Machine

__all__ = ["Controller", "Pen", "Settings"]

_UNKNOWN_MM = (300.0, 200.0)
"""The page that estimates are made for while no controller has told its travel, and nobody set it."""


@dataclass(frozen=True, slots=True)
class Controller:
    """What a controller said of itself.

    Attributes:
        settings: by number, `$$`.
        wco: work coordinate offset, mm.
        version, options: of `$I`.
    """

    settings: Mapping[int, float] = field(default_factory=dict)
    wco: tuple[float, ...] = (0.0, 0.0, 0.0)
    version: str = ""
    options: str = ""

    def axes(self, first: int) -> tuple[float, float] | None:
        """A setting of X and Y, such as 110 for `$110` and `$111`; None when the controller lacks it or it is 0."""
        x, y = self.settings.get(first, 0.0), self.settings.get(first + 1, 0.0)
        return (x, y) if x > 0 and y > 0 else None

    @property
    def step_mm(self) -> tuple[float, float]:
        """The smallest movement of X and Y."""
        per = self.axes(100)
        return (1.0 / per[0], 1.0 / per[1]) if per else (0.001, 0.001)

    @property
    def homes(self) -> bool:
        """It has switches and a homing cycle."""
        return bool(self.settings.get(22, 0.0))


@dataclass(frozen=True, slots=True)
class Pen:
    """Lines that raise and lower the pen. Each ends in a dwell, so that its `ok` comes when the pen has arrived.

    Attributes:
        up, down: the lines.
        lift_s, drop_s: how long they take.
    """

    up: tuple[str, ...]
    down: tuple[str, ...]
    lift_s: float
    drop_s: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Pen:
        """By the driver's settings."""
        lift_s, drop_s = config["pen_up_delay_ms"] / 1000, config["pen_down_delay_ms"] / 1000
        waits = (f"G4P{_number(lift_s)}", f"G4P{_number(drop_s)}")
        if config["pen"] == "z":
            high, low, speed = config["pen_up_mm"], config["pen_down_mm"], config["pen_speed_mm_s"]
            way_s = abs(high - low) / speed
            feed = _number(speed * 60)
            up, down = f"G1Z{_number(high)}F{feed}", f"G1Z{_number(low)}F{feed}"
            return cls((up, waits[0]), (down, waits[1]), way_s + lift_s, way_s + drop_s)
        up = "M5" if config["pen_up_s"] is None else f"M3S{_number(config['pen_up_s'])}"
        return cls((up, waits[0]), (f"M3S{_number(config['pen_down_s'])}", waits[1]), lift_s, drop_s)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the machine is used.

    Attributes:
        config: the driver's settings.
        controller: what it said; empty while none is connected.
        origin: machine coordinates of home, mm.
    """

    config: Mapping[str, Any]
    controller: Controller = field(default_factory=Controller)
    origin: Point | None = None

    @property
    def pen(self) -> Pen:
        """What moves the pen."""
        return Pen.of(self.config)

    @property
    def home(self) -> Point:
        """Machine coordinates of home."""
        return self.origin or (self.config["origin_x_mm"], self.config["origin_y_mm"])

    @property
    def signs(self) -> tuple[int, int]:
        """Whether X and Y of the controller grow with x and y of the page."""
        return (1 if self.config["x_axis"] == "right" else -1, 1 if self.config["y_axis"] == "down" else -1)

    def to_machine(self, at: Point) -> Point:
        """Machine coordinates of a point of the page."""
        (x0, y0), (sx, sy) = self.home, self.signs
        return x0 + sx * at[0], y0 + sy * at[1]

    def to_page(self, at: Point) -> Point:
        """The point of the page at machine coordinates."""
        (x0, y0), (sx, sy) = self.home, self.signs
        return (at[0] - x0) / sx + 0.0, (at[1] - y0) / sy + 0.0

    def in_steps(self, at: Point) -> Point:
        """A point of the page where the machine really goes: in whole steps."""
        (mx, my), (dx, dy) = self.to_machine(at), self.controller.step_mm
        return self.to_page((round(round(mx, 3) / dx) * dx, round(round(my, 3) / dy) * dy))

    def words(self, at: Point) -> str:
        """X and Y words, in work coordinates."""
        (mx, my), wco = self.to_machine(at), self.controller.wco
        return f"X{_number(mx - wco[0])}Y{_number(my - wco[1])}"

    @property
    def machine(self) -> Machine:
        """Travel and limits: the controller's where it told them.

        It plans by itself, axis by axis; the plan that estimates come from takes the slower axis' limits for both.
        """
        config, told = self.config, self.controller
        rates, accelerations, travel = told.axes(110), told.axes(120), told.axes(130)
        top = min(rates) / 60 if rates else max(config["speed_mm_s"], config["travel_mm_s"])
        rate = min(accelerations) if accelerations else config["acceleration_mm_s2"]
        cornering = told.settings.get(11, config["cornering_mm"])
        step = max(told.step_mm)
        width, height = travel or _UNKNOWN_MM
        pen = self.pen
        profile = PlotProfile(
            pen_down=Limits(min(config["speed_mm_s"], top), rate, cornering),
            pen_up=Limits(min(config["travel_mm_s"], top), rate, 0.0),
            pen_lift_s=pen.lift_s,
            pen_drop_s=pen.drop_s,
            simplify_mm=min(0.4 * step, 0.005),
            return_home=config["home_after_plot"],
        )
        return Machine(config["width_mm"] or width, config["height_mm"] or height, profile, step, top)


def _number(value: float) -> str:
    """As few bytes as say it to a thousandth."""
    return f"{round(value, 3) + 0.0:.3f}".rstrip("0").rstrip(".")
