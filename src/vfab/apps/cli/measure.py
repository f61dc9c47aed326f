"""`vfab measure`: an instrument measures, and the points become a table, a file, a picture."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.common import DeviceOption, DriverOption, NoNodeFlag, SetOption, node, option_value, registry
from vfab.apps.cli.output import JsonFlag, print_json, print_table, say

_SHOWN_ROWS = 20
"""A longer table is shown by its beginning and its end."""


def measure(
    method: Annotated[
        str | None, typer.Argument(metavar="METHOD", help="The method, such as iv_sweep; without one: all there are.")
    ] = None,
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="The method's parameters, units in their names.")
    ] = None,
    *,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The instrument's model, such as 2400, by what *IDN? says.")
    ] = None,
    device: DeviceOption = None,
    driver: DriverOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.csv|.json", help="Write the points to this file.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw a small chart.")] = None,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
    **values: Any,
) -> None:
    """Measure with an instrument. Ctrl-C ends it: the outputs are off, what was measured is kept."""
    from vfab.apps.cli.generated import overrides_of, read_pairs
    from vfab.apps.measuring import MeasureRequest, check_output, partial_of
    from vfab.model.errors import DriverError

    if method is None:
        _list_methods(as_json)
        return
    check_output(output, (".csv", ".json"))
    check_output(picture, (".png",))
    given = read_pairs(parameters or [], "parameters", "name=value, such as start_v=0")
    request = MeasureRequest(method, model, device, driver, given, overrides_of(values, settings))
    try:
        result = _measured(request, as_json, node(no_node))
    except DriverError as error:
        partial = partial_of(error)
        if partial is not None and output is not None:
            _keep(partial, output, None)
            error.remedy = f"{len(partial['rows'])} points are kept in {output}. {error.remedy}".strip()
        error.context.pop("partial", None)
        raise
    _keep(result, output, picture)
    if as_json:
        print_json(result)
    else:
        _show(result, output, picture)


def _measured(request: Any, as_json: bool, client: Any) -> Any:
    from vfab.apps.cli.progress import ProgressView
    from vfab.apps.interrupts import Interrupts, run
    from vfab.apps.measuring import MeasureWatcher, measure_by
    from vfab.apps.session import Session

    with ProgressView(request.method, quiet=as_json) as view:

        def chosen(told: Mapping[str, Any]) -> None:
            view.note(f"instrument: {told['name']} ({told['device']}), driver {told['driver']}")

        async def work(interrupts: Interrupts) -> dict[str, Any]:
            watcher = MeasureWatcher(lambda managed, identity: chosen(_told(managed, identity)), view)
            async with Session.open(os.environ) as session:
                return await measure_by(session, request, interrupts, watcher)

        return _by_node(client, request, chosen, view) if client is not None else run(work)


def _told(managed: Any, identity: Mapping[str, Any]) -> dict[str, Any]:
    name = " ".join(filter(None, (str(identity.get(key, "")) for key in ("manufacturer", "model", "serial"))))
    return {"device": managed.id, "driver": managed.manifest.name, "name": name or managed.info.name or managed.id}


def _by_node(client: Any, request: Any, chosen: Any, view: Any) -> Any:
    told: set[str] = set()

    def changed(job: dict[str, Any]) -> None:
        if "chosen" in job["told"] and "chosen" not in told:
            told.add("chosen")
            chosen(job["told"]["chosen"])
        if job["progress"]:
            view(job["progress"])

    body = {
        "method": request.method,
        "model": request.model,
        "device": request.device,
        "driver": request.driver,
        "parameters": request.parameters,
        "overrides": request.overrides,
    }
    return client.run_job("/v1/measurements", body, changed)


def _keep(result: Mapping[str, Any], output: Path | None, picture: Path | None) -> None:
    from vfab.apps.measuring import write_measurement

    if output is not None:
        write_measurement(output, result)
    if picture is not None:
        from vfab.apps.chart import write_chart

        write_chart(picture, result)


def _show(result: Mapping[str, Any], output: Path | None, picture: Path | None) -> None:
    from vfab.apps.cli.common import lines_of
    from vfab.apps.cli.progress import duration
    from vfab.apps.measuring import titles_of

    if "rows" not in result:
        say(*lines_of(result))
        return
    rows = [[_cell(value) for value in row] for row in result["rows"]]
    if output is None:
        half = _SHOWN_ROWS // 2
        shown = rows if len(rows) <= _SHOWN_ROWS else [*rows[:half], ["…"] * len(rows[0]), *rows[-half:]]
        print_table(titles_of(result), shown)
    limited = result.get("compliance_points")
    more = f", {limited} in compliance" if limited else ""
    say(f"{result['method']}: {result['points']} points in {duration(result['elapsed_s'])}{more}")
    for file in filter(None, (output, picture)):
        say(f"written: {file}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _list_methods(as_json: bool) -> None:
    from vfab.apps.measuring import methods_of

    found = methods_of(registry())
    if as_json:
        print_json({"methods": found})
        return
    print_table(("METHOD", "DRIVER", "MEASURES"), [(m["method"], m["driver"], m["help"]) for m in found])
    say("`vfab driver run DRIVER METHOD --help` lists a method's parameters (with - for _).")


def _settings() -> list[Any]:
    """The settings of the instruments' drivers as options: of the named driver's, or of all that there are."""
    from vfab.apps.cli.generated import config_options

    named = option_value(sys.argv, "--driver")
    known = [d for d in registry().get_available_drivers() if d.category == "instrument" and named in {None, d.name}]
    own = ["--model", "--device", "--driver", "--output", "-o", "--picture", "--set", "--json", "--no-node"]
    return config_options({d.name: d.manifest.config_schema for d in known}, own)


def _app() -> typer.Typer:
    from vfab.apps.cli.generated import function_with

    made = typer.Typer(rich_markup_mode=None, add_completion=False)
    epilog = (
        "Examples: vfab measure · vfab measure iv_sweep --model 2400 start_v=0 stop_v=0.8 points=41 -o diode.csv · "
        "vfab measure log --device tcp://192.0.2.7:5025 expression=:MEAS:VOLT? unit=V count=20"
    )
    made.command("measure", epilog=epilog)(function_with(measure, _settings()))
    return made


app = _app()
