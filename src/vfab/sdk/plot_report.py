"""What a plot, or its estimate, tells at the end: plain data with fixed names."""

from __future__ import annotations

from typing import Any

from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.drawing import Drawing, Point
from vfab.sdk.motion import Plan, Resume
from vfab.sdk.plot_job import PlotJob

__all__ = ["estimate_of", "report_of"]


def estimate_of(drawing: Drawing, plan: Plan) -> dict[str, Any]:
    """What `PlotterDriver.estimate` returns."""
    layers: dict[int, dict[str, Any]] = {}
    for path in drawing.paths:
        layer = layers.setdefault(
            path.layer,
            {"number": path.layer, "name": drawing.layer_names.get(path.layer, ""), "strokes": 0, "pen_down_mm": 0.0},
        )
        layer["strokes"] += 1
        layer["pen_down_mm"] += path.length_mm
    for layer in layers.values():
        layer["pen_down_mm"] = round(layer["pen_down_mm"], 3)
    return {
        "planned_s": round(plan.duration_s, 3),
        "pen_down_mm": round(plan.pen_down_mm, 3),
        "pen_up_mm": round(plan.pen_up_mm, 3),
        "lifts": plan.lifts,
        "strokes": len(drawing.paths),
        "input_segments": drawing.segments,
        "width_mm": drawing.width_mm,
        "height_mm": drawing.height_mm,
        "warnings": list(drawing.warnings),
        "layers": [layers[number] for number in sorted(layers)],
    }


def report_of(
    drawing: Drawing, plan: Plan, job: PlotJob, elapsed_s: float, *, resumed: Resume | None, before_mm: float
) -> dict[str, Any]:
    """What `PlotterDriver.plot` returns, but for `device` and the way home.

    Args:
        drawing: all of the input.
        plan: this run's, as it was when it began.
        job: the finished job.
        elapsed_s: seconds from the first command to the last, pauses included.
        resumed: where this run began; None when at the drawing's beginning.
        before_mm: length that earlier runs had drawn.
    """
    drawn = job.drawn if resumed is None else [*_drawn_before(drawing, resumed), *job.drawn]
    whole_mm = drawing.pen_down_mm
    return {
        "input_segments": drawing.segments,
        "pen_down_mm": round(plan.pen_down_mm, 3),
        "pen_up_mm": round(plan.pen_up_mm, 3),
        "planned_s": round(job.planned_s, 3),
        "elapsed_s": round(elapsed_s, 3),
        "max_deviation_mm": round(max_deviation_mm(drawn, [path.points for path in drawing.paths]), 5),
        "completed": True,
        "resumed_from": None if resumed is None else round(min(1.0, before_mm / whole_mm) if whole_mm else 1.0, 6),
        "lifts": plan.lifts,
        "warnings": list(drawing.warnings),
    }


def _drawn_before(drawing: Drawing, resumed: Resume) -> list[list[Point]]:
    """What earlier runs drew, taken to be where the input has it: only this run's own path is measured."""
    strokes = [list(path.points) for path in drawing.paths[: resumed.stroke]]
    if resumed.stroke < len(drawing.paths) and (resumed.point or resumed.at is not None):
        begun = list(drawing.paths[resumed.stroke].points[: resumed.point + 1])
        strokes.append([*begun, resumed.at] if resumed.at is not None else begun)
    return strokes
