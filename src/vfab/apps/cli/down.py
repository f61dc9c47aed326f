"""`vfab down`: end the node."""

from __future__ import annotations

import os

import typer

from vfab.apps.cli.output import JsonFlag, print_json, say

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("down", epilog="Example: vfab down")
def down(as_json: JsonFlag = False) -> None:
    """End the node: devices are left safe; they are wanted again when it is started again."""
    from vfab.apps.node.detached import stop_node

    done = stop_node(os.environ)
    if as_json:
        print_json(done)
    else:
        say(f"the node has ended (process {done['pid']})" if done["stopped"] else "no node is running")
