"""A drawing is plotted while its driver is replaced, again and again: what the pen drew is the same."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from apps.programs import Vfab
from hosting import rig
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.swap import Swap, SwapOptions
from vfab.model.devices import DeviceInfo
from vfab.sdk.testing import defaults_of

SWAPS = 20
STROKES = {"axidraw": 110, "eggbot": 90, "grbl": 160}
"""A GRBL machine is sent some strokes ahead, and draws them before another driver has it."""
SQUARE = 'width="100mm" height="100mm"'
SIZES = {"eggbot": 'width="3200" height="800" preserveAspectRatio="none"'}


def drawing(strokes: int, size: str) -> bytes:
    """Many short strokes, so that there are many safe points."""
    lines = "".join(
        f'<polyline fill="none" stroke="black" points="{10 + n % 10 * 8},{10 + n // 10 * 5} {15 + n % 10 * 8},'
        f'{18 + n // 10 * 5} {12 + n % 10 * 8},{14 + n // 10 * 5}"/>'
        for n in range(strokes)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 100 100">{lines}</svg>'.encode()


async def plotted(folder: Path, driver: str, address: str, swaps: int) -> tuple[dict[str, object], int]:
    """The report of the plot, and how many swaps there were while it ran."""
    info = DriverRegistry(Places.from_environment(dict(os.environ))).get(driver)
    config = defaults_of(info.manifest)
    async with rig(folder, state_root=folder / "state") as r:
        device = r.supervisor.adopt(
            DeviceInfo(id="board", bus="pty", address=address), info.manifest, Path(info.folder), config
        )
        await device.connect()
        plot = asyncio.create_task(
            device.operate(
                "plot", drawing(STROKES[driver], SIZES.get(driver, SQUARE)), {"source": "many"}, timeout_s=120.0
            )
        )
        done = 0
        while done < swaps and not plot.done():
            before = device.pid
            report = await Swap(
                device, info.manifest, Path(info.folder), config, options=SwapOptions(probation_s=0.0)
            ).run()
            assert report.outcome == "committed" and device.pid != before
            done += 1
        result = await plot
        await device.disconnect()
        return result, done


@pytest.mark.slow
@pytest.mark.parametrize(("driver", "speed"), [("axidraw", 10), ("eggbot", 10), ("grbl", 5)])
def test_twenty_swaps_at_safe_points_change_nothing_on_paper(
    vfab: Vfab, tmp_path: Path, driver: str, speed: int
) -> None:
    drawn: list[bytes] = []
    reports: list[dict[str, object]] = []
    for swaps in (0, SWAPS):
        simulator = vfab.simulator("--speed", speed, name=driver)
        report, done = asyncio.run(plotted(tmp_path / str(swaps), driver, simulator.address, swaps))
        assert done == swaps, "the plot lasted long enough"
        drawn.append(simulator.end().encode())
        reports.append(report)
    assert drawn[0] == drawn[1]
    same = ("pen_down_mm", "pen_up_mm", "planned_s", "lifts", "max_deviation_mm", "completed", "resumed_from")
    assert {key: reports[0][key] for key in same} == {key: reports[1][key] for key in same}
