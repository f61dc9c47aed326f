"""`vfab device`: what is there, and one step at a time; without a node, a device is let go when the command ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.common import (
    DeviceArgument,
    DriverOption,
    NoNodeFlag,
    SetOption,
    driver_names,
    lines_of,
    node,
    quick_scan,
)
from vfab.apps.cli.output import JsonFlag, dim, print_json, print_table, say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Devices: what is there, and one step at a time with one of them.",
)


@app.command("scan", epilog="Example: vfab device scan --kind usb,serial --probe")
def scan(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="ADDRESS", help="Addresses to list with what is found.")
    ] = None,
    *,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND,…", help="Only these kinds: usb, serial, v4l2, can, mdns, …; may be repeated."),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look again even if somebody looked just now.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also ask at ports and buses who is there, which writes to them.")
    ] = False,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Look at every bus: devices, the drivers that fit, what cannot be opened and why."""
    kinds = [name.strip() for text in kind or () for name in text.split(",") if name.strip()]
    asked = {"kinds": kinds, "refresh": refresh, "probe": probe, "addresses": list(addresses or ())}
    client = node(no_node)
    if client is not None:
        plain = not any(asked.values())
        result = client.get("/v1/devices/scan") if plain else client.post("/v1/devices/scan", asked)
    else:
        result = quick_scan(**asked, on_waiting=_say_waiting).to_dict()
    if as_json:
        print_json(result)
        return
    _say_scan(result, kinds)


def _say_scan(result: Mapping[str, Any], kinds: list[str]) -> None:
    devices = result["devices"]
    if devices:
        rows = [(d["id"], d["address"], d["name"], _drivers(d), _access(d)) for d in devices]
        print_table(("ID", "ADDRESS", "NAME", "DRIVER", "ACCESS"), rows)
    elif kinds:
        say(f"No device was found by {', '.join(kinds)}.")
    else:
        say("No device was found. A simulated one: `vfab sim list` shows which there are.")
    for device in devices:
        if not device["accessible"]:
            say(f"{device['id']}: {device['problem']}", f"  what to do:  {device['remedy']}")
    for remedy in dict.fromkeys(fit["remedy"] for device in devices for fit in device["fits"] if fit["remedy"]):
        say(remedy)
    for problem in result["problems"]:
        say(problem["message"], *([f"  what to do:  {problem['remedy']}"] if problem["remedy"] else []))
    for text in result["limitations"].values():
        say(dim(text))
    if result["left_out"] and not kinds:
        say(dim(f"Looked for on request only: {', '.join(result['left_out'])} (vfab device scan --kind …)."))


def _drivers(device: Mapping[str, Any]) -> str:
    """The drivers that fit, best first; those that lack something are marked."""
    fits = device["fits"]
    return ", ".join(fit["driver"] + ("" if fit["installed"] else " (not installed)") for fit in fits) or "-"


def _say_waiting(kinds: tuple[str, ...]) -> None:
    """Say on a terminal what a scan that takes long is waiting for."""
    import sys

    if sys.stderr.isatty():
        sys.stderr.write(f"looking: {', '.join(kinds)} …\n")
        sys.stderr.flush()


def _access(device: Mapping[str, Any]) -> str:
    return "yes" if device["accessible"] else "no"


@app.command("list", epilog="Example: vfab device list --json")
def list_devices(as_json: JsonFlag = False, no_node: NoNodeFlag = False) -> None:
    """List the devices that a driver fits, and who uses each."""
    client = node(no_node)
    listed = client.get("/v1/devices") if client is not None else _listed()
    devices = listed["devices"]
    if as_json:
        print_json(listed)
        return
    if not devices:
        say("No device that a driver fits. `vfab device scan` shows everything that was found.")
        return
    print_table(
        ("ID", "NAME", "DRIVER", "USED BY"),
        [(d["id"], d["name"], d["drivers"][0], _holder(d["holder"], d.get("node"))) for d in devices],
    )


def _listed() -> dict[str, Any]:
    from vfab.kernel.detection import device_dict
    from vfab.kernel.leases import LeaseBook
    from vfab.kernel.places import home_of

    book = LeaseBook(home_of(os.environ) / "run" / "leases")
    devices = [device for device in quick_scan().devices if device.drivers]
    return {"devices": [{**device_dict(d), "holder": book.holder_of(d.id)} for d in devices]}


def _holder(holder: Any, kept: Any = None) -> str:
    if kept:
        return f"the node: {kept['state']}"
    return f"process {holder['pid']} ({holder['program']})" if holder else "-"


Step = Callable[[Any], Any]


@dataclass(frozen=True)
class _Asked:
    """What was asked of one device."""

    device: str
    driver: str | None
    settings: list[str] | None
    as_json: bool
    no_node: bool

    def body(self) -> dict[str, Any]:
        """The same for a node."""
        from vfab.apps.cli.generated import read_pairs

        overrides = read_pairs(self.settings or (), "--set", "FIELD=VALUE")
        return {"device": _absolute(self.device), "driver": self.driver, "overrides": overrides}


def _absolute(device: str) -> str:
    """A node has another working folder."""
    return str(Path(device).absolute()) if device.startswith((".", "~")) else device


def _steps(asked: _Asked, *, verb: str, step: Step) -> None:
    """Have the node do it where one is up, else do it here, and tell the story of its states."""
    client = node(asked.no_node)
    if client is not None:
        _say_done(client.post(f"/v1/devices/{verb}", asked.body()), asked.as_json)
    else:
        _say_done(_done_here(asked, verb, step), asked.as_json)


def _say_done(done: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    say(f"{done['device']} ({done['driver']}): {' > '.join(done['states'])}")
    if done["result"] is not None:
        say(*lines_of(done["result"], "  "))
    if not done["released"]:
        say(dim("The node keeps it so: `vfab status`, `vfab device close`."))
    else:
        say(dim("The command has ended, and the device was let go: no node keeps it."))


def _done_here(asked: _Asked, verb: str, step: Step) -> dict[str, Any]:
    """Adopt the device, do `step`, and let it go."""
    from vfab.apps.interrupts import Interrupts, run
    from vfab.apps.session import Session
    from vfab.model.lifecycle import Life, device_state

    first = device_state(Life(present=True)).value
    states = [first]
    story: list[str] = []

    def watch(event: Any) -> None:
        if event.event_type == "state_changed":
            states.append(event.data["device_state"])
            story.append(f"{event.data['from']} -{event.data['event']}-> {event.data['to']}")

    async def work(interrupts: Interrupts) -> dict[str, Any]:
        overrides = asked.body()["overrides"]
        async with (
            Session.open(os.environ, watch) as session,
            session.device(asked.device, asked.driver, overrides) as managed,
        ):
            result = await step(managed)
            return {
                "device": managed.id,
                "driver": managed.manifest.name,
                "did": verb,
                "state": managed.device_state.value,
                "states": _distinct(states),
                "story": list(story),
                "result": result,
            }

    return {**run(work), "released": True}


def _distinct(states: list[str]) -> list[str]:
    """The states in order, repetitions left out."""
    return [state for number, state in enumerate(states) if number == 0 or states[number - 1] != state]


@app.command("init", epilog="Example: vfab device init /dev/ttyACM0")
def init(
    device: DeviceArgument,
    driver: DriverOption = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Start the device's driver, without connecting."""
    _steps(_Asked(device, driver, settings, as_json, no_node), verb="init", step=lambda managed: managed.initialize())


@app.command("connect", epilog="Example: vfab device connect /dev/ttyACM0")
def connect(
    device: DeviceArgument,
    driver: DriverOption = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Connect, and test the connection."""

    async def step(managed: Any) -> Any:
        await managed.connect()
        return await managed.operate("test_connection")

    _steps(_Asked(device, driver, settings, as_json, no_node), verb="connect", step=step)


@app.command("disconnect", epilog="Example: vfab device disconnect /dev/ttyACM0")
def disconnect(
    device: DeviceArgument,
    driver: DriverOption = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Connect and disconnect: the driver leaves the device safe."""

    async def step(managed: Any) -> None:
        await managed.connect()
        await managed.disconnect()

    _steps(_Asked(device, driver, settings, as_json, no_node), verb="disconnect", step=step)


@app.command("reset", epilog="Example: vfab device reset /dev/ttyACM0")
def reset(
    device: DeviceArgument,
    driver: DriverOption = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Bring the device back to its state after power-on, as far as it can be done."""

    async def step(managed: Any) -> None:
        await managed.connect()
        await managed.reset()

    _steps(_Asked(device, driver, settings, as_json, no_node), verb="reset", step=step)


@app.command("close", epilog="Example: vfab device close /dev/ttyACM0")
def close(
    device: DeviceArgument,
    driver: DriverOption = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Leave the device safe and end its driver's process; a node keeps it no longer, nor when it is started again."""
    from vfab.apps.switching import forget_device
    from vfab.model.errors import DeviceNotFound

    async def step(managed: Any) -> None:
        await managed.connect()
        await managed.close()

    forgotten = forget_device(os.environ, device) if node() is None else None
    try:
        _steps(_Asked(device, driver, settings, as_json, no_node), verb="close", step=step)
    except DeviceNotFound:
        if forgotten is None:
            raise
        if as_json:
            print_json({**forgotten, "did": "close", "state": "unknown", "states": [], "story": [], "result": None,
                        "released": True})  # fmt: skip
        else:
            say(f"{forgotten['device']} is not there; no node will look for it any more.")


@app.command("send", epilog="Example: vfab device send /dev/ttyACM0 move-to x_mm=10 y_mm=20")
def send(
    device: DeviceArgument,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="A command of the device's driver.")],
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="The command's parameters.")
    ] = None,
    *,
    driver: DriverOption = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Connect and run one command of the device's driver."""
    from vfab.apps.cli.generated import read_pairs
    from vfab.apps.commands import command_named
    from vfab.apps.parameters import checked_parameters

    given = read_pairs(parameters or (), "parameter", "NAME=VALUE")
    asked = _Asked(device, driver, settings, as_json, no_node)
    client = node(no_node)
    if client is not None:
        body = {**asked.body(), "command": command, "parameters": given}
        _say_done(client.post("/v1/devices/send", body), as_json)
        return

    async def step(managed: Any) -> Any:
        found = command_named(managed.manifest, command)
        values = checked_parameters(managed.manifest.name, command, found, given)
        method = found.method or command.replace("-", "_")
        await managed.connect()
        return await managed.operate_with(method, (), values, timeout_s=found.timeout_s)

    _say_done(_done_here(asked, f"send {command}", step), as_json)


@app.command("state", epilog="Example: vfab device state /dev/ttyACM0 --json")
def state(device: DeviceArgument, as_json: JsonFlag = False, no_node: NoNodeFlag = False) -> None:
    """Tell what is known of a device without touching it: state, driver, who uses it, its story."""
    client = node(no_node)
    known = client.get("/v1/devices/state", device=_absolute(device)) if client is not None else _state_of(device)
    if as_json:
        print_json(known)
        return
    found, holder, kept = known["device"], known["holder"], known.get("node")
    used = f"used by {_holder(holder) if holder else 'nobody'}"
    if kept:
        used = f"kept by the node as {kept['wanted']}"
    say(f"{found['id']}: {known['state']}, {used}")
    say(f"  address: {found['address']}", f"  drivers: {', '.join(found['drivers']) or 'none fits'}")
    say(f"  access: {'yes' if found['accessible'] else found['problem']}")
    for line in known.get("story", ()):
        say(f"  {line}")
    if kept and kept.get("confinement"):
        lacks, program = kept["confinement"]["missing"], kept["confinement"].get("program")
        within = f", in {program}" if program else ""
        say(f"  confined: {kept['confinement']['level']}{within}", *(f"    lacks {what}" for what in lacks))
    if kept and kept["problem"]:
        say(f"  problem: {kept['problem']['message']}", f"  what to do:  {kept['problem']['remedy']}")


def _state_of(device: str) -> dict[str, Any]:
    from vfab.apps.cli.common import registry
    from vfab.apps.finding import with_drivers
    from vfab.kernel.addresses import find_device
    from vfab.kernel.detection import device_dict
    from vfab.kernel.leases import LeaseBook
    from vfab.kernel.places import home_of
    from vfab.model.lifecycle import DriverState, Life, device_state

    found = with_drivers(registry(), find_device(device, quick_scan().devices))
    holder = LeaseBook(home_of(os.environ) / "run" / "leases").holder_of(found.id)
    life = Life(present=True, state=DriverState.CONNECTED) if holder else Life(present=True)
    return {"state": device_state(life).value, "holder": holder, "device": device_dict(found)}


@app.command("events", epilog="Example: vfab device events --follow --type state_changed")
def events(
    device: Annotated[
        str | None,
        typer.Argument(metavar="DEVICE", help="One device: id, beginning of an id, or address; default: all."),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C, or until the node ends.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only this type of event; may be repeated.")
    ] = None,
    driver: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this driver.", autocompletion=driver_names)
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many of the last events to show first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Show what happened to devices; with --json one JSON document a line. The node remembers it."""
    from vfab.apps.node.places import NodeMissing

    client = node()
    if client is None:
        raise NodeMissing("no node is running: events are what a node tells, and remembers")
    query = {"device": device, "driver": driver, "type": kind or None}
    history = client.get("/v1/events", limit=max(count, 1), **query)
    for event in history["events"] if count > 0 else ():
        _say_event(event, as_json)
    if follow:
        for event in client.events(after=history["last"], **query):
            _say_event(event, as_json)


def _say_event(event: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        say(json.dumps(event, ensure_ascii=False))
        return
    if event["type"] == "lost":
        say(f"… {event['count']} events were lost: they came faster than they were read")
        return
    data = event["data"]
    if event["type"] == "state_changed":
        text = f"{data['from']} -> {data['to']}" + (f": {data['error']['error']}" if data.get("error") else "")
    elif event["type"] == "log":
        text = str(data.get("message", ""))
    else:
        text = ", ".join(f"{key} {value}" for key, value in data.items())
    say(f"{event['time'][11:23]}  {event['device']}  {event['driver']}#{event['generation']}  {event['type']}  {text}")
