"""Plotting a file on a device: estimate, draw, report; interrupted plots say how to go on."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfab.apps.commands import ensure_connected, ensure_started, operate_gently
from vfab.apps.interrupts import Interrupts
from vfab.apps.own_settings import ASSUMED_PLOTTER, preferred_driver
from vfab.apps.session import Session
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import BadResource, Cancelled, ConfigurationError, DeviceNotFound, DriverError
from vfab.sdk.whole_file import write_whole

__all__ = ["REPORT_KEYS", "PlotRequest", "Watcher", "plot_file", "read_file", "write_picture", "write_report"]

REPORT_KEYS = (
    "input_segments", "pen_down_mm", "pen_up_mm", "planned_s", "elapsed_s", "max_deviation_mm", "device", "completed",
    "resumed_from", "lifts",
)  # fmt: skip
"""What `--report` writes, exactly."""
_FILE_MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class PlotRequest:
    """What is to be plotted, where and how.

    Attributes:
        file: the SVG file.
        device: id or address; None takes the only accessible plotter.
        driver: its driver; None takes the one that fits best.
        overrides: settings of the driver for this run.
        options: `PlotOptions` by name.
        dry_run: plan only; no device is needed. Without `device` and `driver` it is planned for the driver of the
            setting `plot.driver`, or else of the first plotter that is found, or else for `ASSUMED_PLOTTER`.
        report: where to write the report; also when the plot is interrupted.
        picture: where to draw what will be plotted, as PNG.
    """

    file: Path
    device: str | None = None
    driver: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    report: Path | None = None
    picture: Path | None = None


@dataclass(slots=True)
class Watcher:
    """What is told while a plot is under way: the device, the estimate, the progress."""

    chosen: Callable[[ManagedDevice], None] = lambda device: None
    estimated: Callable[[Mapping[str, Any]], None] = lambda estimate: None
    progress: Callable[[Mapping[str, Any]], None] = lambda data: None


def read_file(file: Path) -> bytes:
    """The file's bytes. Raises BadResource: it cannot be read."""
    try:
        with file.open("rb") as stream:
            too_long = os.fstat(stream.fileno()).st_size > _FILE_MAX_BYTES
            # /dev/zero, a pipe: a file need not end, nor say how long it is
            data = b"" if too_long else stream.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise BadResource(
            f"{file}: cannot be read: {error.strerror}",
            context={"file": str(file)},
            original_error=error,
            remedy="Give the path of an SVG file that this user may read.",
        ) from error
    if too_long or len(data) > _FILE_MAX_BYTES:
        raise BadResource(
            f"{file}: more than {_FILE_MAX_BYTES >> 20} MB; no drawing is that large",
            context={"file": str(file)},
            remedy="Give the path of an SVG file; split a larger drawing.",
        )
    return data


async def plot_file(session: Session, request: PlotRequest, interrupts: Interrupts, watcher: Watcher) -> dict[str, Any]:
    """Plot, or only estimate.

    Returns the report (`REPORT_KEYS` and `warnings`), or the estimate with `device`, `dry_run`, `driver` and
    `driver_from`: `option`, `device`, `setting`, `found` or `assumed`.

    Raises BadResource, Refused, ConfigurationError, DeviceNotFound, …: nothing moved. Interrupted, LinkLost, …: part is
    drawn, the report says so, and the remedy says how to go on.
    """
    svg = read_file(request.file)
    check_folder(request.report)
    check_folder(request.picture)
    if request.driver is not None:
        session.drivers.get(request.driver)  # a name that no driver has is told before devices are looked for
    options = {"source": str(request.file), **request.options}
    if request.picture is not None:
        write_picture(request.picture, svg, options)
    async with _device(session, request) as (device, driver_from):
        watcher.chosen(device)
        if device.manifest.category != "plotter":
            raise ConfigurationError(
                f"{device.manifest.name} is no plotter: its category is {device.manifest.category}",
                context={"device": device.id},
                remedy="Choose a plotter with --device; `vfab device scan` lists what is there.",
            )
        await ensure_started(device)
        estimate: dict[str, Any] = await device.call(
            "estimate", svg, options, timeout_s=0, on_progress=watcher.progress
        )
        if request.dry_run:
            watcher.estimated(estimate)
            named = {"driver": device.manifest.name, "driver_from": driver_from}
            planned = {**estimate, "device": device.id, "dry_run": True, **named}
            if request.report is not None:
                write_report(request.report, {**planned, "elapsed_s": 0.0, "completed": False})
            return planned
        await ensure_connected(device)
        watcher.estimated(estimate)
        return await _plot(device, svg, options, estimate, request=request, interrupts=interrupts, watcher=watcher)


@asynccontextmanager
async def _device(session: Session, request: PlotRequest) -> AsyncIterator[tuple[ManagedDevice, str]]:
    """The device to plot on, or for a dry run without one the driver alone, and what decided on the driver."""
    if request.dry_run and request.device is None:
        driver, driver_from = (request.driver, "option") if request.driver else await _plotter_to_plan_for(session)
        async with session.without_device(driver, request.overrides) as device:
            yield device, driver_from
        return
    async with session.device(request.device, request.driver, request.overrides, "plotter") as device:
        yield device, "option" if request.driver else "device"


async def _plotter_to_plan_for(session: Session) -> tuple[str, str]:
    """The driver that a dry run is for where nobody named one, and where that is from.

    Raises DriverNotFound: the setting names a driver that is not there. DeviceNotFound: no plotter's driver is.
    """
    preferred = preferred_driver("plotter", session.env)
    if preferred:
        return session.drivers.get(preferred).name, "setting"
    plotters = [info.name for info in session.drivers.get_available_drivers() if info.category == "plotter"]
    if len(plotters) > 1:
        found = [device.drivers[0] for device in (await session.scan()).devices if device.drivers]
        first = next((name for name in found if name in plotters), None)
        if first is not None:
            return first, "found"
    if not plotters:
        raise DeviceNotFound(
            "no driver of a plotter is installed",
            remedy="`vfab driver list` says what is there, and what is wrong with it.",
        )
    return ASSUMED_PLOTTER if ASSUMED_PLOTTER in plotters else plotters[0], "assumed"


async def _plot(
    device: ManagedDevice,
    svg: bytes,
    options: Mapping[str, Any],
    estimate: Mapping[str, Any],
    *,
    request: PlotRequest,
    interrupts: Interrupts,
    watcher: Watcher,
) -> dict[str, Any]:
    latest: dict[str, Any] = {}

    def heard(data: Mapping[str, Any]) -> None:
        latest.update(data)
        watcher.progress(data)

    began = time.monotonic()
    try:
        report: dict[str, Any] = await operate_gently(
            device, "plot", (svg, dict(options)), {}, interrupts=interrupts, timeout_s=0, on_progress=heard
        )
    except DriverError as error:
        latest.update(error.context.get("progress") or {})
        cut = _cut_short(estimate, latest, bool(options.get("resume")), time.monotonic() - began)
        cut["device"] = device.id
        if request.report is not None and (latest.get("total_mm") or isinstance(error, Cancelled)):
            write_report(request.report, cut)
        raise _explained(error, request, device, latest, interrupts) from error
    report["device"] = device.id
    if request.report is not None:
        write_report(request.report, report)
    return report


def _cut_short(
    estimate: Mapping[str, Any], latest: Mapping[str, Any], resume: bool, elapsed_s: float
) -> dict[str, Any]:
    """The report of a plot that did not end: what is not known is null."""
    whole_mm, here_mm = float(estimate["pen_down_mm"]), float(latest.get("total_mm", 0.0))
    return {
        "input_segments": estimate["input_segments"],
        "pen_down_mm": latest.get("done_mm", 0.0),
        "pen_up_mm": None,
        "planned_s": latest.get("total_s", estimate["planned_s"]),
        "elapsed_s": round(elapsed_s, 3),
        "max_deviation_mm": None,
        "completed": False,
        "resumed_from": round(max(0.0, 1.0 - here_mm / whole_mm), 6) if resume and whole_mm and here_mm else None,
        "lifts": None,
    }


def _explained(
    error: DriverError,
    request: PlotRequest,
    device: ManagedDevice,
    latest: Mapping[str, Any],
    interrupts: Interrupts,
) -> DriverError:
    """The error with what was done and how to go on."""
    total = float(latest.get("total_mm", 0.0))
    if not total:
        return interrupts.interrupted() if isinstance(error, Cancelled) and interrupts.number else error
    done = float(latest.get("done_mm", 0.0))
    how = f"vfab plot {shlex.quote(str(request.file))} --resume"
    if request.device is not None:
        how += f" --device {shlex.quote(request.device)}"
    remedy = f"Go on from there with: {how}"
    said = f"{done:.0f} of {total:.0f} mm are drawn ({100 * done / total:.0f} %)"
    context = {"device": device.id, "file": str(request.file), "progress": dict(latest), "completed": False}
    if isinstance(error, Cancelled) and interrupts.number:
        ended = interrupts.interrupted(f"the plot was interrupted, the pen is up; {said}", remedy)
        ended.context.update(context)
        return ended
    error.context.update(context)
    error.context["resume"] = how
    error.message = f"{error.message}; {said}"
    error.remedy = (
        f"{error.remedy} {remedy}".strip()
        if "--resume" not in error.remedy
        else (f"{error.remedy.partition(';')[0]}, then go on with: {how}")
    )
    return error


def check_folder(file: Path | None) -> None:
    """Raises ConfigurationError: `file` cannot be written where it is wanted; told before anything moves."""
    if file is None:
        return
    folder = file.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or file.is_dir():
        raise ConfigurationError(
            f"{file}: cannot be written",
            context={"file": str(file)},
            remedy=f"Make the folder {folder}, or name another file." if not folder.is_dir() else "Name another file.",
        )


def write_report(file: Path, report: Mapping[str, Any]) -> None:
    """Write `REPORT_KEYS` of `report` as JSON; whoever reads sees the whole of it or the old file."""
    text = json.dumps({key: report.get(key) for key in REPORT_KEYS}, indent=2) + "\n"
    write_whole(file, text)


def write_picture(file: Path, svg: bytes, options: Mapping[str, Any]) -> None:
    """Draw what a plot of `svg` with `options` draws, with its pen-up travel, as PNG."""
    from vfab.sdk.picture import write_png
    from vfab.sdk.plot_options import PlotOptions
    from vfab.sdk.svg import read_drawing

    wanted = PlotOptions.from_dict(options)
    drawing = read_drawing(svg, source=wanted.source, options=wanted.svg_options())
    strokes = [path.points for path in drawing.paths]
    write_png(file, strokes, drawing.width_mm, drawing.height_mm, travel=True)
