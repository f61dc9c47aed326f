"""Drawings that nobody here made, plotted through the real path: file, host process, broker, wire, simulated board.

One session, one simulated plotter, one plot after another. What the board's motors did is compared with the flattened
file, both ways (Hausdorff distance).

The allowed distance: one motor step, 1/80 mm = 0.0125 mm (an H-bot's carriage moves by half of that along x and along
y), plus the declared tolerance of curves, 0.02 mm: the file is flattened here on its own, five times finer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawings import third_party_drawings
from vfab.apps.session import Session
from vfab.drivers.axidraw.simulator import AxiDrawSimulator
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.plot_options import PlotOptions
from vfab.sdk.svg import read_drawing

STEP_MM = 0.0125
TOLERANCE_MM = 0.02
SHAPE = {"fit": True, "page": "a5", "margin_mm": 10.0, "tolerance_mm": TOLERANCE_MM}


@pytest.fixture
def simulator() -> Iterator[AxiDrawSimulator]:
    with AxiDrawSimulator(firmware="3", speed="instant") as made:
        yield made


def some_of(files: list[Path], count: int = 56) -> list[Path]:
    """`count` of the files, from all of the sources alike; the rest are read, but not plotted, by tests/sdk."""
    every = len(files) / min(count, len(files))
    return [files[int(number * every)] for number in range(min(count, len(files)))]


def deviations_mm(file: Path, drawn: list[list[tuple[float, float]]]) -> tuple[float, float]:
    """How far `drawn` is from the file as the driver flattens it, and from the file flattened much finer."""
    svg = file.read_bytes()
    found = []
    for changes in ({}, {"tolerance_mm": TOLERANCE_MM / 5, "sort": False, "merge": False}):
        options = PlotOptions.from_dict({**SHAPE, **changes}).svg_options()
        found.append(max_deviation_mm(drawn, [path.points for path in read_drawing(svg, options=options).paths]))
    return found[0], found[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_the_pen_drew_is_within_one_step_of_drawings_that_nobody_here_made(
    simulator: AxiDrawSimulator, tmp_path: Path
) -> None:
    files = some_of(third_party_drawings())
    worst: dict[str, tuple[float, float]] = {}

    async def plot_all() -> None:
        env = {**os.environ, "HOME": str(tmp_path), "VFAB_HOME": str(tmp_path / "home")}
        async with Session.open(env) as session, session.device(simulator.address, "axidraw") as plotter:
            await plotter.connect()
            for file in files:
                before = len(simulator.strokes)
                options = {"source": file.name, **SHAPE}
                report = await plotter.operate("plot", file.read_bytes(), options, timeout_s=120.0)
                drawn = simulator.strokes[before:]
                assert report["completed"] is True
                assert report["lifts"] == len(drawn)
                assert report["max_deviation_mm"] <= STEP_MM, file.name
                worst[file.name] = await asyncio.to_thread(deviations_mm, file, drawn)

    asyncio.run(plot_all())
    assert len(worst) >= 50
    too_far = {name: far for name, far in worst.items() if far[0] > STEP_MM or far[1] > STEP_MM + TOLERANCE_MM}
    assert too_far == {}, max(worst.values())


@pytest.mark.parametrize("name", ["hippo.svg", "chat-square-quote.svg"])
def test_curves_keep_their_tolerance_when_a_drawing_is_fitted_to_a_small_page(name: str) -> None:
    file = next((file for file in third_party_drawings() if file.name == name), None)
    if file is None:
        pytest.skip(f"{name} is not installed")
    found = []
    for tolerance_mm in (TOLERANCE_MM, TOLERANCE_MM / 20):
        options = PlotOptions.from_dict({**SHAPE, "page": "a6", "tolerance_mm": tolerance_mm}).svg_options()
        found.append([path.points for path in read_drawing(file.read_bytes(), options=options).paths])
    assert max_deviation_mm(*found) <= TOLERANCE_MM * 1.05
