"""`vfab sim`: simulated devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.common import registry
from vfab.apps.cli.output import JsonFlag, print_json, print_table, say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Simulated devices: which there are, and run one.",
)


def _simulated(incomplete: str = "") -> list[str]:
    return [d.name for d in registry().drivers if d.manifest.simulator and d.name.startswith(incomplete)]


@app.command("list", epilog="Example: vfab sim list --json")
def list_simulators(as_json: JsonFlag = False) -> None:
    """List what can be simulated, and which simulators run now."""
    from vfab.kernel.simulators import SimulatorHandler, simulators_folder

    drivers = [driver for driver in registry().drivers if driver.manifest.simulator]
    running = SimulatorHandler(simulators_folder(os.environ)).find()
    if as_json:
        print_json(
            {
                "simulators": [
                    {"name": d.name, "description": d.description, "file": f"{d.folder}/{d.manifest.simulator}"}
                    for d in drivers
                ],
                "running": [
                    {"name": r.attributes["simulates"], "address": r.address, "pid": int(r.attributes["process"])}
                    for r in running
                ],
            }
        )
        return
    print_table(("NAME", "DESCRIPTION"), [(d.name, d.description) for d in drivers])
    for device in running:
        say(f"running: {device.id} at {device.address}, process {device.attributes['process']}")


@app.command(
    "run",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    epilog="Example: vfab sim run axidraw --speed 10 --record drawn.svg   (vfab sim run NAME --help: its options)",
)
def run(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="What to simulate.", autocompletion=_simulated)
    ] = None,
) -> Any:
    """Run a simulated device until SIGTERM or Ctrl-C; prints one JSON line {"name", "address", "pid"}.

    Further options are the simulator's own. That of a plotter takes --firmware 2.8|3, --speed real|N|instant,
    --record OUT.svg, --fault KIND@AFTER, --tcp PORT.
    """
    from vfab.kernel.places import home_of
    from vfab.kernel.starting import starting

    arguments = [argument for argument in context.args if argument != "--json"]  # its line is JSON anyway
    if name is None or name.startswith("-"):
        if name in {"--help", "-h"}:
            say(context.get_help())
            raise typer.Exit
        raise typer.BadParameter(f"name what to simulate: {', '.join(_simulated()) or 'nothing can be'}")
    with starting(home_of(os.environ) / "run" / "simulators") as serves:
        from vfab.apps.simulate import run_simulator

        raise typer.Exit(run_simulator(registry().get(name), arguments, os.environ, on_serving=serves))


@app.command("record", epilog="Example: vfab sim record /dev/ttyACM0 -o plotter.rec   (replay it: vfab sim run replay)")
def record(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The real device: an address or id of a scan.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The recording; it must be new.")],
    *,
    driver: Annotated[str | None, typer.Option(metavar="NAME", help="The driver that it is recorded for.")] = None,
    baudrate: Annotated[int, typer.Option(metavar="BPS", min=1, help="Of a serial port, bits per second.")] = 9600,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Record what programs and a device say to each other, until Ctrl-C.

    Programs use the address that is printed in one JSON line {"name", "address", "pid", "file"}, or the device that
    `vfab device scan` then lists. `vfab sim run replay --from FILE` plays the recording without the device.
    """
    import json

    from vfab.apps.recording import record_link

    record_link(
        address,
        output,
        os.environ,
        driver=driver,
        baudrate=baudrate,
        force=force,
        say=lambda said: say(json.dumps(said)),
    )
