"""`vfab status`: whether a node runs, what it keeps, and what it left out."""

from __future__ import annotations

import os
from typing import Any

import typer

from vfab.apps.cli.output import JsonFlag, dim, print_json, print_table, say

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("status", epilog="Example: vfab status --json")
def status(as_json: JsonFlag = False) -> None:
    """Tell whether a node runs, which devices it keeps, and which drivers are left out."""
    from vfab.apps.node.client import find_node

    client = find_node({**os.environ, "VFAB_NO_NODE": ""})
    known = client.get("/v1/status") if client is not None else _without_node()
    if as_json:
        print_json(known)
        return
    if known["running"]:
        say(f"node: process {known['pid']}, vfab {known['version']}, home {known['home']}")
    else:
        say(f"no node is running for {known['home']}", dim("Start one: vfab up"))
    _say_devices(known["devices"], running=known["running"])
    for one in known["left_out"]:
        say(f"left out: {one['driver']}: {one['reason']}", f"  what to do:  {one['remedy']}")
    for name in known["disabled"]:
        say(f"disabled: {name}", f"  what to do:  `vfab driver enable {name}` switches it on.")
    for one in known.get("plugins", ()):
        say(f"{one['change']} since the last start: {one['driver']} {_versions(one)}, {one['folder']}")
    for job in known.get("jobs", ()):
        say(f"job {job['id']}: {job['kind']} {job['device']}".rstrip())
    for notice in known["notices"]:
        say(f"note: {notice}")


def _versions(change: dict[str, Any]) -> str:
    was, now = change["was"], change["is"]
    return f"{was} -> {now}" if was and now and was != now else str(now or was)


def _without_node() -> dict[str, Any]:
    """What the next node will find."""
    from vfab.kernel.places import home_of
    from vfab.store.quick import left_out_drivers, wanted_rows

    home = home_of(os.environ)
    left_out = left_out_drivers(home)
    disabled = sorted(name for name, why in left_out.items() if why == "it is disabled")
    return {
        "running": False,
        "pid": None,
        "home": str(home),
        "devices": wanted_rows(home),
        "left_out": [
            {"driver": name, "reason": why, "remedy": f"`vfab driver enable {name}` lets it in again."}
            for name, why in left_out.items()
            if name not in disabled
        ],
        "disabled": disabled,
        "notices": [],
    }


def _level(confinement: dict[str, Any]) -> str:
    """How far a driver is confined, in a word, and by what if not by its host."""
    level, program = confinement.get("level", "-"), confinement.get("program", "")
    return f"{level}, in {program}" if program else str(level)


def _say_devices(devices: list[dict[str, Any]], *, running: bool) -> None:
    if not devices:
        say("no device is kept" if running else "no device is wanted")
        return
    if not running:
        print_table(("DEVICE", "DRIVER", "WANTED"), [(d["device"], d["driver"], d["wanted"]) for d in devices])
        return
    levels = {d["device"]: _level(d.get("confinement") or {}) for d in devices}
    rows = [
        (d["device"], d["driver"], d["wanted"], d["state"], str(d["pid"] or "-"), levels[d["device"]]) for d in devices
    ]
    print_table(("DEVICE", "DRIVER", "WANTED", "STATE", "PROCESS", "CONFINED"), rows)
    for name in (name for name, level in levels.items() if level == "none"):
        say(f"{name}: its driver is NOT confined and may do whatever you may; docs/confinement.md says what to do")
    for device in devices:
        if device["problem"]:
            say(f"{device['device']}: {device['problem']['message']}")
            if device["problem"]["remedy"]:
                say(f"  what to do:  {device['problem']['remedy']}")
