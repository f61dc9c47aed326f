"""Whole drawings, sorted and joined by us and by saxi, planned alike: ours take no longer."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from drawings import bootstrap, flags, icons
from vfab.apps.bench.plan import sample_svg
from vfab.sdk.drawing import Drawing, Polyline
from vfab.sdk.motion import plan_drawing
from vfab.sdk.svg import SvgOptions, read_drawing

from . import peer

pytestmark = pytest.mark.referee

JOIN_MM = 0.01
ROUND_BEGUN = 1.001
"""Closed strokes begin where the travel is shortest; in a curve that costs a little more than in saxi's corner."""


@pytest.fixture(scope="module", autouse=True)
def saxi() -> None:
    try:
        peer.install()
    except peer.PeerMissing as err:
        pytest.skip(f"saxi (npm): {err}")


def short_strokes(count: int, reach_mm: float) -> bytes:
    rng = random.Random(count)
    found = "".join(
        f'<path d="M{rng.uniform(0, 280):.3f} {rng.uniform(0, 200):.3f}'
        f'l{rng.uniform(-reach_mm, reach_mm):.3f} {rng.uniform(-reach_mm, reach_mm):.3f}"/>'
        for _ in range(count)
    )
    size = 'width="297mm" height="210mm" viewBox="0 0 297 210"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{found}</svg>'.encode()


def seconds(svg: bytes) -> tuple[float, float]:
    """How long the drawing takes, sorted and joined by us, and by saxi."""
    size = {"fit": True, "page": (297.0, 210.0)}
    plain = read_drawing(svg, options=SvgOptions(sort=False, merge=False, **size))
    paths = peer.saxi_order([path.points for path in plain.paths], JOIN_MM)
    theirs = Drawing([Polyline(tuple(path)) for path in paths], 297.0, 210.0, plain.tolerance_mm)
    ours = read_drawing(svg, options=SvgOptions(**size))
    return plan_drawing(ours).duration_s, plan_drawing(theirs).duration_s


@pytest.mark.parametrize(
    "draw",
    [
        lambda: short_strokes(10, 20),
        lambda: short_strokes(18, 30),
        lambda: short_strokes(60, 10),
        lambda: short_strokes(300, 5),
        lambda: short_strokes(300, 60),
        lambda: short_strokes(1500, 5),
        lambda: sample_svg(60),
    ],
    ids=["10", "18", "60", "300 short", "300 long", "1500", "bench"],
)
def test_a_drawing_takes_no_longer_than_in_saxis_order(draw: Callable[[], bytes]) -> None:
    ours, theirs = seconds(draw())
    assert ours <= theirs + 1e-6


def test_drawings_of_others_take_no_more_than_a_thousandth_longer_than_in_saxis_order() -> None:
    files = [*flags()[::4], *icons()[::9], *bootstrap()[::3]]
    if not files:
        pytest.skip("third-party drawings are not installed")
    ratios = {}
    for file in files:
        svg = file.read_bytes()
        if len({path.layer for path in read_drawing(svg).paths}) == 1:  # saxi mixes layers
            ours, theirs = seconds(svg)
            ratios[file.name] = ours / theirs
    assert len(ratios) > 5
    assert {name: ratio for name, ratio in ratios.items() if ratio > ROUND_BEGUN} == {}
