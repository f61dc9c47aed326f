"""`vfab config`: settings of drivers, where each comes from, and what may be there."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

from vfab.apps.cli.common import driver_names, registry
from vfab.apps.cli.output import JsonFlag, print_json, print_table, say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Settings of drivers, and of `vfab plot`. Command line > VFAB_<DRIVER>_<FIELD> > config.yaml > defaults.",
)

OptionalDriver = Annotated[
    str | None, typer.Argument(metavar="DRIVER", help="One driver; default: all.", autocompletion=driver_names)
]


def _managers(name: str | None) -> list[Any]:
    from vfab.apps.settings import all_settings, settings_of

    known = registry()
    wanted = [settings_of(known, name, os.environ)] if name is not None else all_settings(known, os.environ)
    return [settings.configuration({}) for settings in wanted]


@app.command("show", epilog="Example: vfab config show axidraw")
def show(driver: OptionalDriver = None, as_json: JsonFlag = False) -> None:
    """Show every setting, its value and where that came from. Secrets are masked."""
    resolved = {manager.driver_name: manager.resolve() for manager in _managers(driver)}
    if as_json:
        print_json({"drivers": {name: config.show() for name, config in resolved.items()}})
        return
    for name, config in resolved.items():
        rows = [(f"{name}.{v.field}", _value(v), v.source) for v in config.values.values()]
        print_table(("SETTING", "VALUE", "FROM"), rows)


def _value(setting: Any) -> str:
    """As it is written in config.yaml."""
    if setting.value is None:
        return "-"
    shown = setting.shown
    return str(shown).lower() if isinstance(shown, bool) else str(shown)


def _fields(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    from vfab.apps.settings import settings_of
    from vfab.model.settings import leaves

    name = ctx.params.get("driver")
    schema = settings_of(registry(), name, os.environ).schema if name else {}
    return [(f, str(leaf.get("description", ""))) for f, leaf in leaves(schema) if f.startswith(incomplete)]


@app.command("set", epilog="Example: vfab config set axidraw pen_up_percent 65")
def set_value(
    driver: Annotated[str, typer.Argument(metavar="DRIVER", help="The driver.", autocompletion=driver_names)],
    field: Annotated[str | None, typer.Argument(metavar="FIELD", help="The setting.", autocompletion=_fields)] = None,
    value: Annotated[str | None, typer.Argument(metavar="VALUE", help="Its new value.")] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Remove it: the default counts again.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a setting into config.yaml; comments and everything else in the file stay."""
    from vfab.apps.settings import set_setting, settings_of, unset_setting

    if "." in driver:  # `axidraw.pen_up_percent 65`, as `config show` prints it
        if value is not None:
            raise typer.BadParameter("give DRIVER FIELD VALUE, or DRIVER.FIELD VALUE")
        driver, _, dotted = driver.partition(".")
        field, value = dotted, field
    settings = settings_of(registry(), driver, os.environ)
    if field is None:
        raise typer.BadParameter("give a FIELD")
    if unset == (value is not None):
        raise typer.BadParameter("give a VALUE, or --unset")
    if value is not None:
        done = set_setting(settings, field, value, os.environ)
    else:
        done = unset_setting(settings, field, os.environ)
    if as_json:
        print_json(done)
    else:
        plain = done["value"] is None or isinstance(done["value"], bool)
        what = "removed" if unset else f"= {json.dumps(done['value']) if plain else done['value']}"
        say(f"{driver}.{field} {what} in {done['file']}" if done["changed"] else f"{driver}.{field} was not set")


@app.command("check", epilog="Example: vfab config check")
def check(driver: OptionalDriver = None, as_json: JsonFlag = False) -> None:
    """Look for mistakes in config.yaml and in environment variables; exit code 13 when there are any."""
    from vfab.apps.settings import stray_problems

    problems = [problem for manager in _managers(driver) for problem in manager.problems()]
    problems = list({p.message: p for p in [*problems, *stray_problems(registry(), os.environ)]}.values())
    if as_json:
        print_json({"ok": not problems, "problems": [problem.to_public() for problem in problems]})
    elif problems:
        for problem in problems:
            say(problem.message, f"  what to do:  {problem.remedy}")
    else:
        say("no mistakes were found")
    if problems:
        raise typer.Exit(problems[0].exit_code)


@app.command("schema", epilog="Example: vfab config schema --driver axidraw   (or: vfab config schema --manifest)")
def schema(
    driver: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The schema of this driver's settings.", autocompletion=driver_names),
    ] = None,
    manifest: Annotated[bool, typer.Option("--manifest", help="The schema of plugin.yaml instead.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print a JSON Schema: of plugin.yaml, of one driver's settings, or of config.yaml as a whole."""
    if manifest:
        from vfab.model.manifest import json_schema

        print_json(json_schema())
        return
    from vfab.apps.settings import file_schema, schema_of

    known = registry()
    if driver is not None:
        print_json(schema_of(known.get(driver)))
        return
    print_json(file_schema(known))
