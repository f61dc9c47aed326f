"""`vfab driver`: what drivers there are, what they can do, whether they work, and their own commands."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from vfab.apps.cli.common import (
    DeviceOption,
    DriverArgument,
    NoNodeFlag,
    SetOption,
    driver_names,
    lines_of,
    node,
    registry,
)
from vfab.apps.cli.lean import lean
from vfab.apps.cli.output import JsonFlag, bold, dim, print_json, print_table, say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Drivers: what there is, what they can do, whether they work.",
)


@app.command("list", epilog="Example: vfab driver list --json")
def list_drivers(as_json: JsonFlag = False) -> None:
    """List the drivers that were found, and what could not be read."""
    known = registry()
    drivers, problems = known.drivers, known.problems
    if as_json:
        print_json({"drivers": [_brief(driver) for driver in drivers], "problems": [p.to_dict() for p in problems]})
        return
    if drivers:
        rows = [(d.name, d.version, d.category, _status(d), d.place, d.description) for d in drivers]
        print_table(("NAME", "VERSION", "CATEGORY", "STATUS", "PLACE", "DESCRIPTION"), rows)
    else:
        say("No driver was found. vfab looks in:", *(f"  {place.folder}" for place in known.places.folders))
    for driver in drivers:
        if driver.problem:
            say(f"{driver.name}: {driver.problem}. {driver.remedy}")
        elif lacking := _lacking(driver):
            say(lacking)
    for problem in problems:
        say(f"cannot be read: {problem.error.message}", f"  what to do:  {problem.error.remedy}")


def _brief(driver: Any) -> dict[str, Any]:
    return {
        "name": driver.name,
        "version": driver.version,
        "category": driver.category,
        "description": driver.description,
        "status": driver.status.value,
        "problem": driver.problem,
        "remedy": driver.remedy or _lacking(driver),
        "place": driver.place,
        "folder": driver.folder,
        "simulator": bool(driver.manifest.simulator),
        "commands": list(driver.manifest.commands),
    }


def _status(driver: Any) -> str:
    if not driver.usable:
        return str(driver.status.value)
    if _lacks_its_code(driver):
        return "lacks its code"
    return "lacks a library" if _lacking(driver) else "ready"


def _lacks_its_code(driver: Any) -> bool:
    from vfab.kernel.plugin_rules import driver_file

    return driver_file(driver.folder, driver.manifest) is None


def _lacking(driver: Any) -> str:
    """What the driver needs and is not installed, and how it is; "" when all is."""
    from vfab.kernel.loaded import LoadedDriver

    if _lacks_its_code(driver):
        module = driver.manifest.driver_class.rpartition(".")[0].replace(".", "/")
        return f"{driver.name} is of the class {driver.manifest.driver_class}: no {module}.py in {driver.folder}"
    if told := LoadedDriver(driver).install_instructions():
        return told
    source = driver.manifest.runtime.source
    if not source or driver.manifest.runtime.language == "node":
        return ""
    from vfab.dialects.neighbours import unknown_imports

    unknown = ", ".join(unknown_imports(source))
    return f"{driver.name} needs {unknown}: {source} imports it, and it is not installed" if unknown else ""


@app.command("info", epilog="Example: vfab driver info axidraw")
def info(name: DriverArgument, as_json: JsonFlag = False) -> None:
    """Show everything that is known of a driver without running it."""
    known = registry()
    driver = known.get(name)
    confined = _confinement(driver)
    if as_json:
        print_json({**driver.to_dict(), "remedy": driver.remedy or _lacking(driver), "confinement": confined})
        return
    manifest = driver.manifest
    say(f"{bold(driver.name)} {driver.version}  {manifest.category}  by {manifest.author}", manifest.description)
    found_by = driver.place.removesuffix(driver.folder).strip()  # a place may be the folder itself
    say(f"folder: {driver.folder}" + (f" ({found_by})" if found_by else ""), f"status: {_status(driver)}")
    if driver.problem:
        say(f"problem: {driver.problem}", f"  what to do:  {driver.remedy}")
    elif lacking := _lacking(driver):
        say(f"missing: {lacking}")
    say(*_said_of_itself(manifest))
    if manifest.match:
        say("fits:", *(f"  {_rule(rule)}" for rule in manifest.match))
    else:
        say(f"fits: {_finding(driver)}")
    if manifest.commands:
        say("commands (vfab driver run " + driver.name + " COMMAND):")
        width = max(map(len, manifest.commands))
        say(*(f"  {name.ljust(width)}  {command.help}" for name, command in manifest.commands.items()))
    _say_settings(manifest.config_schema)
    within = f", in {confined['program']}" if confined["program"] else ""
    say(f"confined: {confined['level']} here{within}; {confined['trust']} plugins need {confined['minimum']}")
    for text in (*confined["may"], *(f"lacks {what}" for what in confined["missing"])):
        say(f"  {text}")
    if manifest.simulator:
        say(f"simulator: vfab sim run {driver.name}")


def _said_of_itself(manifest: Any) -> list[str]:
    """What the manifest says of the driver in words, one line each; what it does not say is left out."""
    platform = f"platform {manifest.min_platform_version}"
    platform += f" to {manifest.max_platform_version}" if manifest.max_platform_version else " or newer"
    said = {
        "models": ", ".join(manifest.supported_models),
        "methods": ", ".join(manifest.supported_methods),
        "needs": ", ".join([platform, *manifest.dependencies]),
        "sent when it dies": "".join(manifest.safe_stop),
        "licence": manifest.license,
        "homepage": manifest.homepage,
    }
    return [f"{what}: {text}" for what, text in said.items() if text]


def _finding(driver: Any) -> str:
    """How a driver without match rules comes by its device."""
    from vfab.apps.own_devices import finds_by_itself, opens_by_itself

    if finds_by_itself(driver):
        return "what its own scan finds; `vfab device scan` lists it"
    if opens_by_itself(driver, {}):
        return f"what it opens by itself, which is the device {driver.name}; --device names another"
    return "no device by itself; name its device with --device ADDRESS"


def _confinement(driver: Any) -> dict[str, Any]:
    """How far the driver would be confined if it was started now, found by trying; and what it is permitted."""
    from vfab.kernel.config_file import ConfigFile
    from vfab.kernel.confining import ConfinementPolicy, probe

    policy = ConfinementPolicy.of(os.environ, ConfigFile.of(os.environ))
    reached = probe(policy, driver.manifest, driver.folder, os.environ)
    asked, plan = driver.manifest.permissions, policy.plan(driver.folder)
    may = [f"may open {where}" for where in asked.connect] + [f"may use files: {text}" for text in asked.files]
    may += ["may open sockets of its own (network: host)"] if asked.network == "host" else []
    may += ["may start programs (subprocess: true)"] if asked.subprocess else []
    return {**reached.to_dict(), "trust": plan.trust, "minimum": plan.minimum.value, "may": may}


def _rule(rule: Any) -> str:
    given = ((field, getattr(rule, field)) for field in rule.__struct_fields__)
    return ", ".join(f"{field} {value}" for field, value in given if value is not None)


def _say_settings(schema: Any) -> None:
    from vfab.model.settings import allowed, leaves

    fields = list(leaves(schema or {}))
    if fields:
        say("settings (vfab config show, --set FIELD=VALUE):")
        width = max(len(field) for field, _ in fields)
        for field, leaf in fields:
            default = f", default {_literal(leaf['default'])}" if "default" in leaf else ""
            say(f"  {field.ljust(width)}  {leaf.get('description', '')} {dim(f'({allowed(leaf)}{default})')}")


def _literal(value: Any) -> str:
    """`value` as it is written in config.yaml."""
    import json

    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


@app.command("test", epilog="Example: vfab driver test axidraw --only cancel")
def test(  # noqa: PLR0917 — typer makes options of them
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The driver; `vfab driver list` names them.", autocompletion=driver_names),
    ] = None,
    device: DeviceOption = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Run this check only; may be repeated.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Nothing real can break at --device: run every check on it.")
    ] = False,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks and run none.")] = False,
    settings: SetOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the contract suite over a driver, with its simulator or a device: what every driver keeps, bad peers too."""
    from vfab.apps.cli.contract import list_all, run_suite

    if list_checks:
        list_all(as_json)
        return
    if name is None:
        raise typer.BadParameter("name the driver to test; `vfab driver list` names them", param_hint="NAME")
    run_suite(name, device=device, simulated=simulated, only=only or (), settings=settings or (), as_json=as_json)


@app.command("enable", epilog="Example: vfab driver enable axidraw")
def enable(name: DriverArgument, as_json: JsonFlag = False) -> None:
    """Let a driver be used that was disabled, or that the node left out; its wanted devices come back."""
    _switch(name, as_json, enabled=True)


@app.command("disable", epilog="Example: vfab driver disable axidraw")
def disable(name: DriverArgument, as_json: JsonFlag = False) -> None:
    """Let nobody use a driver; a node leaves its devices safe first, and wants them again when it is enabled."""
    _switch(name, as_json, enabled=False)


def _switch(name: str, as_json: bool, *, enabled: bool) -> None:
    verb = "enable" if enabled else "disable"
    registry().get(name)
    client = node()
    if client is not None:
        done = client.post(f"/v1/drivers/{name}/{verb}")
    else:
        from vfab.apps.switching import switch_driver

        done = switch_driver(os.environ, name, enabled=enabled)
    if as_json:
        print_json(done)
        return
    say(f"{name} is {verb}d" + ("" if done["changed"] else ", as it was"))
    for device in done["devices"]:
        say(f"  {device}: {'back as wanted' if enabled else 'let go'}")


@app.command("restart", epilog="Example: vfab driver restart axidraw")
def restart(name: DriverArgument, as_json: JsonFlag = False) -> None:
    """End the processes of a driver and start them anew, with its code as it is on disk now."""
    done = _node_for(name).post(f"/v1/drivers/{name}/restart")
    if as_json:
        print_json(done)
        return
    say(f"{name}: {len(done['devices'])} devices are back as wanted", *(f"  {device}" for device in done["devices"]))


WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for a safe point, or the end.")
]
NowFlag = Annotated[bool, typer.Option("--now", help="End what the device does, rather than wait.")]
ProbationOption = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long the old driver stays warm, to take the device back.")
]


@app.command("swap", epilog="Example: vfab driver swap axidraw axidraw-next --device usb:04d8:fd92:1")
def swap(  # noqa: PLR0917 — options come by name
    old: Annotated[str, typer.Argument(metavar="OLD", help="The driver that runs.", autocompletion=driver_names)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one to take over.", autocompletion=driver_names)],
    device: DeviceOption = None,
    now: NowFlag = False,
    wait: WaitOption = 60.0,
    probation: ProbationOption = 1.0,
    as_json: JsonFlag = False,
) -> None:
    """Replace a driver by another while it runs: connection, state and streams are kept; undone when it fails."""
    registry().get(new)
    _swapped(f"/v1/drivers/{old}/swap/{new}", old, (device, now, wait, probation), as_json)


@app.command("reload", epilog="Example: vfab driver reload axidraw")
def reload(  # noqa: PLR0917 — options come by name
    name: DriverArgument,
    device: DeviceOption = None,
    now: NowFlag = False,
    wait: WaitOption = 60.0,
    probation: ProbationOption = 1.0,
    as_json: JsonFlag = False,
) -> None:
    """Replace a driver by its code as it is on disk now, while it runs; undone when it fails."""
    _swapped(f"/v1/drivers/{name}/reload", name, (device, now, wait, probation), as_json)


def _swapped(path: str, name: str, options: tuple[str | None, bool, float, float], as_json: bool) -> None:
    device, now, wait_s, probation_s = options
    body = {"device": device, "now": now, "wait_s": wait_s, "probation_s": probation_s}
    done = _node_for(name).run_job(path, body, lambda job: None)
    if as_json:
        print_json(done)
        return
    for one in done["swaps"]:
        away = f"the device was without a driver for {one['blackout_ms']:.1f} ms"
        say(f"{one['device']}: {one['old']} → {one['new']}: {one['outcome'].replace('_', ' ')}; {away}")


@app.command("mode", epilog="Example: vfab driver mode axidraw maintenance")
def mode(
    name: DriverArgument,
    wanted: Annotated[
        Literal["active", "standby", "maintenance", "disabled"],
        typer.Argument(metavar="active|standby|maintenance|disabled", help="The mode."),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Bring a driver's devices into a mode: in use, warm but let go, kept for maintenance, or not to be used."""
    done = _node_for(name).post(f"/v1/drivers/{name}/mode", {"mode": wanted})
    if as_json:
        print_json(done)
        return
    say(f"{name} is {done['mode']}" + ("" if done["changed"] else ", as it was"))


def _node_for(name: str) -> Any:
    """The node that is up. Raises NodeMissing."""
    from vfab.apps.node.places import NodeMissing

    registry().get(name)
    client = node()
    if client is None:
        raise NodeMissing(f"no node is running, so that no process of {name} is kept", driver_name=name)
    return client


class DriverCommands(TyperGroup):
    """The commands of one driver, from its manifest."""

    driver: Any = None

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names from the manifest."""
        return list(self.driver.manifest.commands)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """A command made of the manifest's."""
        from vfab.apps.commands import command_named

        command_named(self.driver.manifest, cmd_name)
        return _generated(self.driver, cmd_name.replace("_", "-"))


class AllDrivers(TyperGroup):
    """One group for each driver that discovery found."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """The drivers' names."""
        return [driver.name for driver in registry().drivers if driver.manifest.commands]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """The group of the driver `cmd_name`."""
        driver = registry().get(cmd_name)
        group = DriverCommands(name=cmd_name, help=f"{driver.description}.", no_args_is_help=True)
        group.driver = driver
        group.rich_markup_mode = None
        return group


run_app = typer.Typer(
    add_completion=False,
    cls=AllDrivers,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a command that a driver offers.",
    epilog="Example: vfab driver run axidraw pen-up --device /dev/ttyACM0",
)


@run_app.callback()
def _run_root() -> None:
    """Run a command that a driver offers."""


app.add_typer(run_app, name="run")


def _generated(driver: Any, name: str) -> Any:
    """A typer command for the command `name` of `driver`."""
    from vfab.apps.cli.generated import config_options, function_with, parameter_flag, parameter_options, parameters_of

    command = driver.manifest.commands[name]

    def body(
        device: DeviceOption = None,
        settings: SetOption = None,
        as_json: JsonFlag = False,
        no_node: NoNodeFlag = False,
        **values: Any,
    ) -> None:
        parameters = parameters_of(command, values)
        client = node(no_node)
        _run(driver, name, parameters, device=device, settings=settings, values=values, as_json=as_json, client=client)

    options = parameter_options(command)
    taken = ["--device", "--set", "--json", "--no-node", *map(parameter_flag, command.parameters)]
    options += config_options({driver.name: driver.manifest.config_schema}, taken)
    one = typer.Typer(rich_markup_mode=None, add_completion=False)
    example = " ".join(f"{parameter_flag(key)} …" for key, p in command.parameters.items() if p.required)
    epilog = f"Example: vfab driver run {driver.name} {name} {example}".rstrip()
    one.command(name, help=f"{command.help}.".replace("..", "."), epilog=epilog)(function_with(body, options))
    return lean(typer.main.get_command(one))


def _run(
    driver: Any,
    name: str,
    parameters: dict[str, Any],
    *,
    device: str | None,
    settings: list[str] | None,
    values: dict[str, Any],
    as_json: bool,
    client: Any,
) -> None:
    from vfab.apps.cli.generated import overrides_of
    from vfab.apps.cli.progress import ProgressView
    from vfab.apps.commands import run_command
    from vfab.apps.interrupts import Interrupts, run
    from vfab.apps.session import Session

    command = driver.manifest.commands[name]
    overrides = overrides_of(values, settings)
    with ProgressView(f"{driver.name} {name}", quiet=as_json or not command.progress) as view:

        async def work(interrupts: Interrupts) -> dict[str, Any]:
            async with Session.open(os.environ) as session:
                return await run_command(
                    session,
                    driver.name,
                    name,
                    parameters,
                    interrupts=interrupts,
                    device=device,
                    overrides=overrides,
                    on_progress=view,
                )

        if client is not None:
            request = {"device": device, "parameters": parameters, "overrides": overrides}
            done = client.run_job(f"/v1/drivers/{driver.name}/commands/{name}", request, _shown_on(view))
        else:
            done = run(work)
    if as_json:
        print_json(done)
    else:
        say(*(lines_of(done["result"]) if done["result"] is not None else ["done"]))
        if client is None and command.method == "start_streaming":
            say("It has ended with this command: `vfab stream` shows a stream; with `vfab up` it goes on until `stop`.")


def _shown_on(view: Any) -> Any:
    """Shows a job's progress."""

    def show(job: dict[str, Any]) -> None:
        if job["progress"]:
            view(job["progress"])

    return show
