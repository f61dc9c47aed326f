"""What a simulated pen drew, as the SVG that is recorded."""

from __future__ import annotations

from itertools import pairwise
from math import dist

from vfab.sdk.simulation import StrokeRecord
from vfab.sdk.svg import SvgOptions, read_drawing


def test_a_recording_is_exact_far_from_home_too() -> None:
    record = StrokeRecord(steps_per_mm=80.0)
    steps = [(80.0 * 250 + 7 * i, 80.0 * 120.0 + 1 + 3 * i * i) for i in range(40)]
    record.move(steps[0])
    record.touch(True)
    for step in steps[1:]:
        record.move(step)
    record.touch(False)

    svg = record.svg((300.0, 218.0)).encode()
    (stroke,) = read_drawing(svg, options=SvgOptions(merge=False, sort=False)).paths
    assert all(a != b for a, b in pairwise(stroke.points))
    assert len(stroke.points) == len(steps)
    assert max(dist(p, (x / 80, y / 80)) for p, (x, y) in zip(stroke.points, steps, strict=True)) < 1e-5
