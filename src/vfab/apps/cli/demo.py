"""`vfab demo`: the main job on a simulated plotter."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.output import JsonFlag, bold, print_json

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("demo", epilog="Example: vfab demo --out demo-out")
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")] = Path("demo-out"),
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep a simulated plotter running afterwards, until Ctrl-C.")
    ] = False,
    drawing: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Plot this file instead of the one that comes along.")
    ] = None,
    speed: Annotated[
        str, typer.Option(metavar="N|real", help="How many times faster than a real machine it draws.")
    ] = "12",
    as_json: JsonFlag = False,
) -> None:
    """Find a simulated plotter, start its driver, draw an SVG file, and measure what the pen really drew."""
    from vfab.apps.cli.progress import ProgressView
    from vfab.apps.demonstration import Demonstration, demonstrate
    from vfab.apps.demonstration import serve as keep_serving
    from vfab.apps.interrupts import Interrupts, run

    with ProgressView("drawing", quiet=as_json, stream=sys.stdout) as view:
        show = Demonstration(out, view.note, view, drawing, speed)

        async def work(interrupts: Interrupts) -> dict[str, Any]:
            return await demonstrate(show, os.environ, interrupts)

        done = run(work)
    if as_json:
        print_json(done)
    else:
        _tell(done, view)
    if serve:

        async def keep(interrupts: Interrupts) -> None:
            await keep_serving(os.environ, view.note)

        run(keep)


def _tell(done: dict[str, Any], view: Any) -> None:
    report = done["report"]
    view.note(f"drawn     {report['pen_down_mm']:.0f} mm in {report['elapsed_s']:.1f} s, {report['lifts']} pen lifts")
    far = bold(f"{done['deviation_mm']:.4f} mm")
    view.note(f"measured  {far} at most between what the pen drew and the file")
    view.note(f"wrote     {done['svg']} and {Path(done['png']).name}: what the pen really drew; report.json: figures")
