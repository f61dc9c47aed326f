"""`vfab up`: the node."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from vfab.apps.cli.output import JsonFlag, print_json, say

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    "up",
    epilog="Examples: vfab up · vfab up --dev · vfab up --detach · "
    "vfab up --print-unit > ~/.config/systemd/user/vfab.service",
)
def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the node serves; it logs to $VFAB_HOME/log/node.log.")
    ] = False,
    print_unit: Annotated[
        bool, typer.Option("--print-unit", help="Print a systemd unit that runs the node, and start nothing.")
    ] = False,
    print_socket_unit: Annotated[
        bool, typer.Option("--print-socket-unit", help="Print the unit of its socket, for a start on demand.")
    ] = False,
    dev: Annotated[
        bool, typer.Option("--dev", help="Reload a driver, device and state kept, whenever its plugin is saved.")
    ] = False,
    as_json: JsonFlag = False,
) -> Any:
    """Keep devices as wanted until `vfab down`, Ctrl-C or SIGTERM, and serve the API on $VFAB_HOME/run/node.sock."""
    from vfab.apps.node.places import NodePlaces

    places = NodePlaces.of(os.environ)
    if print_unit or print_socket_unit:
        from vfab.apps.node.systemd import service_unit, socket_unit

        text = service_unit(os.environ, places.home) if print_unit else socket_unit(places.socket)
        print_json({"unit": text}) if as_json else say(text.rstrip("\n"))
        return
    if detach:
        from vfab.apps.node.detached import start_detached

        started = start_detached(os.environ, dev=dev)
        if as_json:
            print_json(started)
        else:
            say(f"the node runs: process {started['pid']}, log {started['log']}")
        return
    from vfab.apps.node.main import run_node

    code = run_node(os.environ, dev=dev)
    if code:
        raise typer.Exit(code)
