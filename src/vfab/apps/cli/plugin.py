"""`vfab plugin`: begin one, check one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.output import JsonFlag, bold, dim, print_json, say

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="Plugins: begin one, check one.",
    epilog="Example: vfab plugin new my-scale --category sensor",
)


@app.callback()
def _root() -> None:
    """Plugins: begin one, check one."""


@app.command("new", epilog="Example: vfab plugin new my-scale --category sensor --out ~/.vfab/plugins")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the plugin and of its folder.")],
    category: Annotated[
        str,
        typer.Option(metavar="CATEGORY", help="plotter, camera, sensor, instrument or communication."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the folder is made.")] = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Begin a native plugin that works at once: manifest, driver, simulator, tests, README."""
    from vfab.apps.plugin_new import new_plugin

    folder = new_plugin(name, category, out)
    names = sorted(path.name for path in folder.iterdir())
    if as_json:
        print_json({"name": name, "category": category, "folder": str(folder), "files": names})
        return
    say(f"{folder}: {', '.join(names)}", f"  next:  vfab plugin check {folder}")


@app.command("check", epilog="Example: vfab plugin check ~/.vfab/plugins/my-scale")
def check(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A plugin's folder or file, or a folder with some; or its name.")
    ],
    static: Annotated[bool, typer.Option("--static", help="Only read it: run nothing of it.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what shape a plugin has, what is wrong with it, and try it in a process of its own."""
    from vfab.apps.interrupts import run
    from vfab.apps.plugin_check import check_plugins, plugin_place, run_plugin

    reports = check_plugins(plugin_place(path, os.environ))
    for report in reports:
        if not as_json:
            _say_static(report)
        if report.passed and not static:
            before = len(report.findings)
            tell = _ignore if as_json else _say_check
            run(lambda interrupts, report=report, tell=tell: run_plugin(report, os.environ, tell))  # type: ignore[misc]
            if not as_json:
                _say_findings(report.findings[before:])
        if not as_json:
            say(f"{report.name or report.path}: {'passed' if report.passed else 'does not pass'}")
    passed = all(report.passed for report in reports)
    if as_json:
        print_json({"passed": passed, "plugins": [report.to_dict() for report in reports]})
    if not passed:
        raise typer.Exit(1)


def _say_static(report: Any) -> None:
    say(f"{bold(report.name or 'a plugin that cannot be read')}  {report.path}")
    if report.shape is not None:
        document = f" ({report.shape['document']})" if report.shape["document"] else ""
        say(f"  shape:  {report.shape['title']}{document}; known by {report.shape['recognised_by']}")
        say(*(f"    a native one gains:  {gain}" for gain in report.shape["gains"]))
        say(*(f"    step:  {step}" for step in report.shape["steps"]))
    say(*(f"  permission:  {text}" for text in report.permissions))
    _say_findings(report.findings)


def _say_findings(findings: Any) -> None:
    for finding in findings:
        place = f"{finding.file}:{finding.line}" if finding.line else finding.file
        shown = ", ".join(part for part in (place, finding.field) if part)
        say(f"  {finding.level}:  {finding.message}", *([f"    where:  {shown}"] if shown else []))
        say(*([f"    what to do:  {finding.remedy}"] if finding.remedy else []))


def _say_check(check: Any) -> None:
    from vfab.apps.cli.contract import MARKS

    mark = MARKS[check.outcome].ljust(6)
    say(f"  {mark}  {check.name}  {dim(f'{check.seconds:.2f} s')}  {check.note or check.sentence}")


def _ignore(check: Any) -> None:
    """Checks are in the document."""
