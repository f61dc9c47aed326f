"""The demonstration: a simulated plotter is found, driven, and what its pen drew is measured against the file."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from vfab.apps.interrupts import Interrupted, Interrupts
from vfab.apps.plotting import PlotRequest, Watcher, plot_file
from vfab.apps.session import Session
from vfab.apps.simulate import Simulation, start_simulator
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DeviceNotFound, DriverNotFound

__all__ = ["DRAWING", "SPEED", "Demonstration", "demonstrate", "simulated_plotter"]

DRAWING = "evening.svg"
SPEED = "12"
"""How many times faster than a real machine the simulated one moves."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What to show, and whom to tell.

    Attributes:
        out: folder for what the pen drew; made when it is not there.
        say: is given each step, one line.
        progress: is given the plot's progress.
        drawing: an SVG file instead of the one that comes with vfab.
        speed: of the simulated machine.
    """

    out: Path
    say: Callable[[str], None]
    progress: Callable[[Mapping[str, Any]], None]
    drawing: Path | None = None
    speed: str = SPEED


def simulated_plotter(env: Mapping[str, str]) -> str:
    """The first plotter's driver that has a simulator. Raises DriverNotFound: none has."""
    drivers = DriverRegistry(Places.from_environment(env)).get_available_drivers()
    for driver in drivers:
        if driver.category == "plotter" and driver.manifest.simulator:
            return driver.name
    raise DriverNotFound(
        "no driver of a plotter with a simulator was found",
        context={"found": [driver.name for driver in drivers]},
    )


@contextmanager
def _drawing(show: Demonstration) -> Iterator[Path]:
    if show.drawing is not None:
        yield show.drawing
        return
    with as_file(files("vfab.apps") / "demo" / DRAWING) as file:
        yield file


async def demonstrate(show: Demonstration, env: Mapping[str, str], interrupts: Interrupts) -> dict[str, Any]:
    """Run it: `{"device", "driver", "address", "svg", "png", "report", "deviation_mm", "started_s", …}`.

    Raises DriverError: whatever failed; nothing is left running.
    """
    began = time.monotonic()
    name = simulated_plotter(env)
    await asyncio.to_thread(show.out.mkdir, parents=True, exist_ok=True)
    drawn = (show.out / "drawn.svg").resolve()
    with (
        _drawing(show) as file,
        start_simulator(name, ["--speed", show.speed, "--record", str(drawn)], env) as simulation,
    ):
        async with Session.open(env) as session:
            await asyncio.to_thread(simulation.wait_until_it_serves)
            device = await _found(session, simulation)
            show.say(f"found     {device.name} at {device.address} (its board is simulated)")
            request = PlotRequest(file, device.id, name, options={"source": file.name}, report=show.out / "report.json")
            started: list[float] = []
            watcher = _watcher(show, started, began)
            try:
                report = await plot_file(session, request, interrupts, watcher)
            except Interrupted as error:
                error.remedy = "Its simulated plotter has ended, too; run it again from the beginning."
                raise
        await asyncio.to_thread(simulation.end)
        result = await asyncio.to_thread(_measure, file, drawn, show.out / "drawn.png")
    return {
        "driver": name,
        "device": device.id,
        "address": device.address,
        "drawing": file.name,
        "svg": str(drawn),
        "png": str((show.out / "drawn.png").resolve()),
        "report": {key: value for key, value in report.items() if key != "warnings"},
        "deviation_mm": result,
        "speed": show.speed,
        "started_s": round(started[0], 3),
    }


def _watcher(show: Demonstration, started: list[float], began: float) -> Watcher:
    def chosen(managed: Any) -> None:
        show.say(f"driver    {managed.manifest.name} {managed.manifest.version} fits it, and gets a process of its own")

    def estimated(estimate: Mapping[str, Any]) -> None:
        started.append(time.monotonic() - began)
        show.say(
            f"plan      {estimate['strokes']} strokes in {len(estimate['layers'])} layers, "
            f"{estimate['pen_down_mm']:.0f} mm: {estimate['planned_s']:.0f} s on a real machine, here ×{show.speed}"
        )

    def progressed(data: Mapping[str, Any]) -> None:
        left = data.get("remaining_s")
        show.progress(data if left is None else {**data, "remaining_s": float(left) / _times(show.speed)})

    return Watcher(chosen, estimated, progressed)


def _times(speed: str) -> float:
    """How many times faster than a real machine `speed` is; the plan's times are a real machine's."""
    try:
        return max(float(speed), 1e-3)
    except ValueError:  # real, instant
        return 1.0


async def _found(session: Session, simulation: Simulation) -> DeviceInfo:
    """The simulator as detection finds it."""
    for device in (await session.scan()).devices:
        if device.address == simulation.address:
            return device
    raise DeviceNotFound(f"the simulator at {simulation.address} was not found by detection")


def _measure(file: Path, drawn: Path, png: Path) -> float:
    """Draw what the pen drew over what it should have drawn, and say how far apart they are, in mm."""
    from vfab.sdk.deviation import max_deviation_mm
    from vfab.sdk.picture import write_png
    from vfab.sdk.svg import SvgOptions, read_drawing

    wanted = read_drawing(file.read_bytes(), source=file.name)
    as_it_is = SvgOptions(sort=False, merge=False, tolerance_mm=0.001)
    did = read_drawing(drawn.read_bytes(), source=drawn.name, options=as_it_is)
    strokes, asked = [path.points for path in did.paths], [path.points for path in wanted.paths]
    write_png(png, strokes, wanted.width_mm, wanted.height_mm, wanted=asked)
    return round(max_deviation_mm(strokes, asked), 4)


async def serve(env: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Keep a simulated plotter running until a signal comes."""
    name = simulated_plotter(env)
    with start_simulator(name, ["--speed", "real"], env) as simulation:
        await asyncio.to_thread(simulation.wait_until_it_serves)
        say(f"serving   a simulated {name} at {simulation.address}: try `vfab plot FILE.svg` on it; Ctrl-C ends it")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.to_thread(simulation.process.wait)
