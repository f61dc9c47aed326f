"""`vfab plot`: an SVG file becomes a drawing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.common import DeviceOption, DriverOption, NoNodeFlag, SetOption, node, option_value, registry
from vfab.apps.cli.output import JsonFlag, print_json, say

_OPTIONS = (
    "fit", "margin_mm", "tolerance_mm", "page", "rotate", "landscape", "resume", "home", "speed_mm_s",
    "acceleration_mm_s2", "cornering_mm", "travel_mm_s", "travel_acceleration_mm_s2",
)  # fmt: skip

_PLANNED_FOR = {
    "setting": "planned for {driver}, as the setting plot.driver says",
    "found": "planned for {driver}, the plotter that was found",
    "assumed": "planned for {driver}: no plotter was found; --driver, or the setting plot.driver, names another",
}
"""What is said of a dry run's driver, by what decided on it."""


def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE.svg", help="The SVG file to draw.")],
    *,
    device: DeviceOption = None,
    driver: DriverOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan and estimate only; no device is needed.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the figures of this plot, interrupted or not.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Draw what will be plotted, travel included, as PNG.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted plot of this file.")] = False,
    layers: Annotated[str | None, typer.Option(metavar="N,N…", help="Draw only the layers of these numbers.")] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Scale the drawing to the page, within --margin-mm.")] = False,
    margin_mm: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="What --fit leaves free at each edge, mm; default 10.")
    ] = None,
    page: Annotated[
        str | None, typer.Option(metavar="a4|WxH", help="The page, by name or in mm, instead of the file's own.")
    ] = None,
    rotate: Annotated[
        int | None, typer.Option(metavar="DEGREES", help="Quarter turns clockwise: 90, 180, 270.")
    ] = None,
    landscape: Annotated[bool, typer.Option("--landscape", help="Turn a page that is higher than wide.")] = False,
    tolerance_mm: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="How far lines may lie from the file's curves; default 0.02.")
    ] = None,
    sort: Annotated[bool, typer.Option("--sort/--no-sort", help="Change the order of strokes to travel less.")] = True,
    merge: Annotated[bool, typer.Option("--merge/--no-merge", help="Join strokes whose ends touch.")] = True,
    dashes: Annotated[bool, typer.Option("--dashes/--no-dashes", help="Draw dashed strokes dashed, or solid.")] = True,
    hidden: Annotated[bool, typer.Option("--hidden", help="Draw also what a browser would not show.")] = False,
    home: Annotated[
        bool | None, typer.Option("--home/--no-home", help="Travel home at the end; default: the driver's setting.")
    ] = None,
    speed_mm_s: Annotated[
        float | None, typer.Option("--speed-mm-s", "--speed", metavar="NUMBER", help="Top speed, pen down, mm/s.")
    ] = None,
    acceleration_mm_s2: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Acceleration, pen down, mm/s².")
    ] = None,
    cornering_mm: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Junction deviation, mm: more takes corners faster.")
    ] = None,
    travel_mm_s: Annotated[float | None, typer.Option(metavar="NUMBER", help="Top speed, pen up, mm/s.")] = None,
    travel_acceleration_mm_s2: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Acceleration, pen up, mm/s².")
    ] = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
    **values: Any,
) -> None:
    """Draw an SVG file: find the plotter, estimate, draw, and say how far the drawing is from the file."""
    from vfab.apps.cli.generated import overrides_of
    from vfab.apps.plotting import PlotRequest

    given = dict(locals())
    options = {name: given[name] for name in _OPTIONS if given[name] is not None and given[name] is not False}
    if home is not None:
        options["home"] = home
    if page is not None:
        options["page"] = _page(page)
    if layers is not None:
        options["layers"] = _layers(layers)
    options.update({"sort": sort, "merge": merge, "dashes": dashes, "drop_hidden": not hidden})
    request = PlotRequest(
        file, device, driver, overrides_of(values, settings), options, dry_run=dry_run, report=report, picture=picture
    )
    _draw(request, as_json, node(no_node))


def _draw(request: Any, as_json: bool, client: Any) -> None:
    from vfab.apps.cli.progress import ProgressView, duration
    from vfab.apps.interrupts import Interrupts, run
    from vfab.apps.plotting import Watcher, plot_file
    from vfab.apps.session import Session

    with ProgressView(request.file.name, quiet=as_json, stays=not request.dry_run) as view:

        def choose(name: str, device: str, driver: str) -> None:
            if not as_json and not request.dry_run:
                view.note(f"plotter: {name or device} ({device}), driver {driver}")

        def chosen(device: Any) -> None:
            choose(device.info.name, device.id, device.manifest.name)

        def estimated(estimate: Any) -> None:
            if not as_json and not request.dry_run:
                view.note(_plan(estimate))

        async def work(interrupts: Interrupts) -> dict[str, Any]:
            async with Session.open(os.environ) as session:
                return await plot_file(session, request, interrupts, Watcher(chosen, estimated, view))

        done = _by_node(client, request, (choose, estimated, view)) if client is not None else run(work)
    if as_json:
        print_json(done)
        return
    if request.dry_run:
        say(_plan(done))
    for warning in done["warnings"]:
        say(f"note: {warning}")
    if request.dry_run:
        for layer in done["layers"]:
            name = f" {layer['name']}" if layer["name"] else ""
            say(f"layer {layer['number']}{name}: {layer['strokes']} strokes, {layer['pen_down_mm']:.0f} mm")
        say(_PLANNED_FOR.get(done["driver_from"], "planned for {driver}").format(driver=done["driver"]))
        say("nothing was drawn: this was a dry run")
        return
    resumed = f", from {100 * done['resumed_from']:.0f} % on" if done["resumed_from"] is not None else ""
    say(
        f"drawn: {done['pen_down_mm']:.0f} mm in {duration(done['elapsed_s'])} with {done['lifts']} lifts{resumed}; "
        f"at most {done['max_deviation_mm']:.3f} mm from the file"
    )


def _plan(estimate: Any) -> str:
    from vfab.apps.cli.progress import duration

    return (
        f"plan: {estimate['strokes']} strokes, {estimate['pen_down_mm']:.0f} mm drawn, "
        f"{estimate['pen_up_mm']:.0f} mm travelled, about {duration(estimate['planned_s'])}"
    )


def _by_node(client: Any, request: Any, tell: tuple[Any, Any, Any]) -> Any:
    """Have the node plot; `tell` hears what was chosen, estimated and done, as it would here."""
    choose, estimated, advanced = tell
    told: set[str] = set()

    def changed(job: dict[str, Any]) -> None:
        news = {key: value for key, value in job["told"].items() if key not in told}
        told.update(news)
        if "chosen" in news:
            choose(news["chosen"]["name"], news["chosen"]["device"], news["chosen"]["driver"])
        if "estimate" in news:
            estimated(news["estimate"])
        if job["progress"]:
            advanced(job["progress"])

    def absolute(path: Path | None) -> str | None:
        return str(path.absolute()) if path is not None else None

    body = {
        "file": absolute(request.file),
        "device": request.device,
        "driver": request.driver,
        "overrides": request.overrides,
        "options": request.options,
        "dry_run": request.dry_run,
        "report": absolute(request.report),
        "picture": absolute(request.picture),
    }
    return client.run_job("/v1/plots", body, changed)


def _page(text: str) -> Any:
    width, by, height = text.lower().partition("x")
    try:
        return [float(width), float(height)] if by else text
    except ValueError:
        return text


def _layers(text: str) -> Any:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        return text


def _settings() -> list[Any]:
    """The settings of the plotters' drivers as options: of the named driver's, or of all that there are."""
    from vfab.apps.cli.generated import config_options

    named = option_value(sys.argv, "--driver")
    known = [d for d in registry().get_available_drivers() if d.category == "plotter" and named in {None, d.name}]
    own = [
        "--device", "--driver", "--dry-run", "--report", "--picture", "--resume", "--layers", "--fit", "--margin-mm",
        "--page", "--rotate", "--landscape", "--tolerance-mm", "--sort", "--merge", "--dashes", "--hidden", "--home",
        "--speed-mm-s", "--speed", "--acceleration-mm-s2", "--cornering-mm", "--travel-mm-s",
        "--travel-acceleration-mm-s2", "--set", "--json", "--no-node",
    ]  # fmt: skip
    return config_options({d.name: d.manifest.config_schema for d in known}, own)


def _app() -> typer.Typer:
    from vfab.apps.cli.generated import function_with

    made = typer.Typer(rich_markup_mode=None, add_completion=False)
    epilog = "Examples: vfab plot drawing.svg · vfab plot drawing.svg --dry-run · vfab plot drawing.svg --resume"
    made.command("plot", epilog=epilog)(function_with(plot, _settings()))
    return made


app = _app()
