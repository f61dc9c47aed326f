"""saxi's planner and ours on the same strokes, in the same order, under the same limits."""

import math
import random

import pytest

from vfab.sdk.drawing import Drawing, Point, Polyline
from vfab.sdk.motion import Limits, PlotProfile, Stroke, plan_drawing

from . import peer

pytestmark = pytest.mark.referee

Paths = list[list[Point]]


def spiral() -> Paths:
    turns = [i * 0.05 for i in range(4000)]
    return [[(100 + 0.4 * t * math.cos(t), 100 + 0.4 * t * math.sin(t)) for t in turns]]


def hatching() -> Paths:
    return [[(10.0, 10 + i * 0.5), (90.0, 10 + i * 0.5)][:: 1 if i % 2 else -1] for i in range(160)]


def random_polylines() -> Paths:
    rng = random.Random(7)
    return [[(rng.uniform(0, 200), rng.uniform(0, 200)) for _ in range(rng.randint(2, 40))] for _ in range(100)]


def short_strokes_like_text() -> Paths:
    rng = random.Random(8)
    places = [(10 + 3 * (i % 60), 10 + 6 * (i // 60)) for i in range(900)]
    shape = [(rng.uniform(0.2, 1.2), rng.uniform(0.2, 1.6), rng.uniform(2, 6)) for _ in places]
    steps = [i * 0.12 for i in range(40)]
    return [
        [(x + a * math.cos(t), y + b * math.sin(t * w / 4)) for t in steps]
        for (x, y), (a, b, w) in zip(places, shape, strict=True)
    ]


def small_waves_finely_flattened() -> Paths:
    return [[(0.02 * i, 20 + 4 * j + 0.4 * math.sin(0.06 * i)) for i in range(5000)] for j in range(5)]


def zigzag_below_a_motor_step() -> Paths:
    rng = random.Random(9)
    return [[(0.05 * i, 20 + j + rng.uniform(-0.002, 0.002)) for i in range(2000)] for j in range(5)]


def nested_squares_and_dots() -> Paths:
    squares: Paths = [[(-r, -r), (r, -r), (r, r), (-r, r), (-r, -r)] for r in (0.1, 0.5, 1.0, 5.0, 25.0, 60.0)]
    return [[(x + 80, y + 80) for x, y in square] for square in squares] + [[(3.0, 4.0)], [(5.0, 5.0), (5.0, 5.0)]]


DRAWINGS = [
    spiral,
    hatching,
    random_polylines,
    short_strokes_like_text,
    small_waves_finely_flattened,
    zigzag_below_a_motor_step,
    nested_squares_and_dots,
]
FAST = Limits(300.0, 2000.0, 0.05)


def drawing_of(paths: Paths) -> Drawing:
    return Drawing([Polyline(path) for path in paths], 300.0, 300.0, 0.02)


@pytest.fixture(scope="module", autouse=True)
def saxi() -> None:
    try:
        peer.install()
    except peer.PeerMissing as err:
        pytest.skip(f"saxi (npm): {err}")


@pytest.mark.parametrize("limits", [Limits(), FAST], ids=["defaults", "fast"])
@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_no_drawing_takes_longer_than_saxi_plans(draw, limits, record_property):
    paths = draw()
    profile = PlotProfile(pen_down=limits)
    theirs = peer.saxi_plan(paths, profile)
    ours = plan_drawing(drawing_of(paths), profile)
    record_property("plot_time_ratio", ours.duration_s / theirs.planned_s)
    assert ours.duration_s <= theirs.planned_s
    # not only for want of their last servo motion:
    assert ours.duration_s <= theirs.planned_s - theirs.last_servo_s + 1e-6


@pytest.mark.parametrize("limits", [Limits(), FAST, Limits(50, 200, 0)], ids=["defaults", "fast", "stop"])
@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_each_stroke_with_every_vertex_kept_takes_what_saxi_plans(draw, limits):
    paths = draw()
    profile = PlotProfile(pen_down=limits, simplify_mm=0.0)
    theirs = peer.saxi_plan(paths, profile)
    ours = [step.duration_s for step in plan_drawing(drawing_of(paths), profile) if isinstance(step, Stroke)]
    assert ours == pytest.approx(theirs.strokes_s, rel=1e-6, abs=1e-6)


def test_random_noise_on_many_scales_is_never_slower_than_saxi():
    rng = random.Random(10)
    paths: Paths = []
    for _ in range(400):
        scale = 10 ** rng.uniform(-3, 1)
        x = y = 100.0
        path = [(x, y)]
        for _ in range(rng.randint(1, 60)):
            x, y = x + rng.gauss(scale / 3, scale), y + rng.gauss(0, scale)
            path.append((x, y))
        paths.append(path)
    profile = PlotProfile()
    theirs = peer.saxi_plan(paths, profile).strokes_s
    ours = [step.duration_s for step in plan_drawing(drawing_of(paths), profile) if isinstance(step, Stroke)]
    slower = [(i, a / b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a > b + 1e-6]
    assert not slower
