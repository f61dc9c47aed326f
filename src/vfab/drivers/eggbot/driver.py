"""The EggBot driver: an EiBotBoard of which one motor turns an egg and the other moves a pen along its meridian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vfab.sdk.drawing import Drawing, Point
from vfab.sdk.driver import command
from vfab.sdk.ebb import EbbPlotter, EbbSettings
from vfab.sdk.motion import PlotProfile
from vfab.sdk.plot_job import PlotJob
from vfab.sdk.svg import check_on_page

from .globe import TURN_STEPS, Globe

__all__ = ["EggBotDriver"]

_TOP_STEPS_S = 3000.0
"""More, and the motors of an egg lose steps."""


class EggBotDriver(EbbPlotter):
    """Drives an EggBot. Home is the equator, at the longitude where the egg stood when the motors were switched on.

    Positions are millimetres at the equator: x around the egg from home, y down from the upper end of the pen's way.
    """

    foreign_names = ("axidraw",)

    def make_settings(self) -> EbbSettings:
        """The egg by its diameter."""
        config, globe = self.config, self.globe
        return EbbSettings.of(
            config,
            geometry=globe.geometry(
                config["egg_motor"], reverse_egg=config["reverse_egg"], reverse_pen=config["reverse_pen"]
            ),
            size_mm=(globe.width_mm, globe.height_mm),
            top_speed_mm_s=_TOP_STEPS_S / globe.steps_per_mm,
        )

    @property
    def globe(self) -> Globe:
        """The egg."""
        return Globe(self.config["diameter_mm"])

    # -- around the egg -----------------------------------------------------------------------------------------------

    def home_from(self, at: Point) -> Point:
        """The equator at longitude 0; going on around the egg where that is nearer and `wrap` is set."""
        globe = self.globe
        turns = round(at[0] / globe.width_mm) if self.config["wrap"] else 0
        return turns * globe.width_mm, globe.height_mm / 2

    def on_machine(self, drawing: Drawing) -> Drawing:
        """The page around the egg. With `wrap`, what lies beyond its sides goes on around it."""
        globe, wrap = self.globe, self.config["wrap"]
        if not wrap:
            check_on_page(drawing)
        how = self.config["map"]
        mapped = globe.mapped(drawing, whole_page=how == "page" or (how == "auto" and globe.is_template(drawing)))
        check_on_page(_beside(mapped) if wrap else mapped)
        return globe.wrapped(mapped) if wrap else mapped

    def canonical(self, steps: tuple[int, int], near: tuple[int, int] | None = None) -> tuple[int, int]:
        """The same place in the first turn, or in that which is nearest to `near`."""
        egg = self.config["egg_motor"] - 1
        turned = steps[egg] % TURN_STEPS
        if near is not None:
            turned += round((near[egg] - turned) / TURN_STEPS) * TURN_STEPS
        return (turned, steps[1]) if egg == 0 else (steps[0], turned)

    def _check_points(self, points: Sequence[Point]) -> None:
        wrap, turn = self.config["wrap"], self.globe.width_mm
        super()._check_points([(x % turn, y) for x, y in points] if wrap else points)

    def _unwind(self) -> None:
        """Whole turns are forgotten before something new begins: the egg is where it was."""
        if self._streamer is not None and self._job is None:
            self._streamer.steps = self.canonical(self._streamer.steps)

    def _draw(self, paths: Sequence[Sequence[Point]], *, end: Point | None, profile: PlotProfile) -> PlotJob:
        self._unwind()
        return super()._draw(paths, end=end, profile=profile)

    @command
    def home(self) -> dict[str, Any]:
        """Lift the pen and travel home, the shorter way round with `wrap`. Returns `position()`."""
        self._unwind()
        super().home()
        self._unwind()
        return self.position()

    @command
    def plot(
        self, svg: bytes, options: dict[str, Any] | None = None, *, carried: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Draw an SVG file around the egg: see `PlotterDriver.plot`."""
        self._refuse_while_plotting("plot")
        if carried is None:
            self._unwind()
        report = super().plot(svg, options, carried=carried)
        self._unwind()
        return report


def _beside(drawing: Drawing) -> Drawing:
    """The drawing's heights, all at longitude 0: to be checked alone."""
    return replace(drawing, paths=[replace(path, points=[(0.0, y) for _, y in path.points]) for path in drawing.paths])
