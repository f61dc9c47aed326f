"""From an SVG to a motion plan: how fast, and how long the plotter then draws; beside saxi's planner."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from vfab.apps.bench.findings import Session
from vfab.sdk.drawing import Drawing, Point
from vfab.sdk.motion import PlotProfile, plan_drawing
from vfab.sdk.svg import read_drawing

__all__ = ["KEYS", "run", "sample_svg"]

KEYS = ("plan_segments_per_s", "plot_time_ratio")
SAXI = "saxi"
_PLAN_S = 120.0


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    svg = sample_svg(session.many(60, 240))
    profile = PlotProfile()
    read_drawing(sample_svg(1), source="warm-up.svg")
    samples: list[float] = []
    saxi: list[dict[str, Any]] = []
    planner = _planner(session)
    session.say("plan_segments_per_s, plot_time_ratio")
    for _ in range(session.many(3, 7)):
        begun = perf_counter()
        drawing = read_drawing(svg, source="bench.svg")
        plan = plan_drawing(drawing, profile)
        for step in plan:  # every block of it, as the driver would take them
            blocks = getattr(step, "blocks", None)
            if blocks is not None:
                for _block in blocks():
                    pass
        samples.append(drawing.segments / (perf_counter() - begun))
        if planner is not None:
            saxi.append(_saxi(planner, drawing, profile))
    if "plan_segments_per_s" in session.wanted:
        session.findings.number("plan_segments_per_s", samples)
        session.findings.notes["plan_segments_per_s"] = (
            f"{drawing.segments} segments; ours reads the SVG and lays every block, saxi only plans the strokes given"
        )
        if saxi:
            session.findings.number("plan_segments_per_s", [found["segments_per_s"] for found in saxi], SAXI)
    if "plot_time_ratio" in session.wanted and saxi:
        # saxi plans one servo motion more, at the end
        theirs = saxi[0]["planned_s"] - saxi[0]["last_servo_s"]
        session.findings.put("plot_time_ratio", round(plan.duration_s / theirs, 4))
        session.findings.put("plot_time_ratio", 1.0, SAXI)
        session.findings.notes["plot_time_ratio"] = f"{plan.duration_s:.2f} s of drawing, saxi {theirs:.2f} s"


def sample_svg(shapes: int) -> bytes:
    """An SVG of curves, strokes like text, hatching and a spiral; always the same for the same number of shapes."""
    rng = random.Random(1)  # noqa: S311 — the same drawing every time is the point
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="297mm" height="210mm" viewBox="0 0 297 210">']
    parts.append('<g fill="none" stroke="black">')
    for _ in range(shapes):
        x, y = rng.uniform(30, 260), rng.uniform(30, 170)
        turn = [rng.uniform(-25, 25) for _ in range(10)]
        parts.append(
            f'<path d="M{x:.3f} {y:.3f}c{turn[0]:.3f} {turn[1]:.3f} {turn[2]:.3f} {turn[3]:.3f} {turn[4]:.3f} '
            f'{turn[5]:.3f}"/><circle cx="{x:.3f}" cy="{y:.3f}" r="{abs(turn[6]) / 2 + 0.5:.3f}"/>'
        )
        parts.append(f'<path d="M{x:.3f} {y:.3f}l{turn[7]:.3f} {turn[8]:.3f}h{turn[9]:.3f}"/>')
    turns = [i * 0.05 for i in range(shapes * 40)]
    top = 90 / (turns[-1] or 1.0)
    spiral = (f"{148 + top * t * math.cos(t):.3f},{105 + top * t * math.sin(t):.3f}" for t in turns)
    parts.append(f'<polyline points="{" ".join(spiral)}"/></g></svg>')
    return "".join(parts).encode()


def _planner(session: Session) -> Path | None:
    """Saxi's planner, when this is a checkout in which the tests installed it."""
    script = Path(__file__).resolve().parents[4] / "tests" / "referees" / "saxi_planner" / "plan.js"
    installed = script.parent / "node_modules" / "saxi"
    if shutil.which("node") is None:
        session.findings.lacks(SAXI, "node is not installed", "Install Debian's packages nodejs and npm.")
    elif not script.exists():
        session.findings.lacks(SAXI, "its planner is run from a checkout of vfab", "Run the bench in a checkout.")
    elif not installed.exists():
        session.findings.lacks(SAXI, "its package is not installed", f"npm ci --prefix {script.parent}")
    else:
        return script
    return None


def _saxi(script: Path, drawing: Drawing, profile: PlotProfile) -> dict[str, Any]:
    """The same strokes in the same order under the same limits; its speed is the best of three runs in one process."""
    paths: list[list[Point]] = [list(path.points) for path in drawing.paths]
    job = {
        "paths": paths,
        "repeat": 3,
        "pen_down": asdict(profile.pen_down),
        "pen_up": asdict(profile.pen_up),
        "pen_lift_s": profile.pen_lift_s,
        "pen_drop_s": profile.pen_drop_s,
    }
    done = subprocess.run(
        ["node", "--stack-size=8000", str(script)],
        cwd=script.parent,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=_PLAN_S,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
