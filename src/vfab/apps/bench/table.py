"""A bench document as a table for people: ours, each peer, the ratio, and whether the aim is met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from vfab.apps.bench.targets import TARGETS, headline, judge

__all__ = ["print_document"]

_WIDTH = 140


def print_document(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print `document`, which `run_bench` made, to standard output or to `console`."""
    console = console or Console()
    if not console.is_terminal:  # a file or a pipe has no width
        console.width = max(console.width, _WIDTH)
    table = Table(title=_title(document["about"]), title_justify="left")
    for name in ("figure", "who"):
        table.add_column(name, overflow="fold")
    for name in ("p50", "p99", "n", "vfab ÷ peer"):
        table.add_column(name, justify="right")
    table.add_column("aim")
    for key in TARGETS:
        if key in document:
            _rows(table, document, key)
            table.add_section()
    console.print(table)
    for key, note in document["notes"].items():
        console.print(f"{key}: {note}", highlight=False)
    for peer, lack in document["missing"].items():
        console.print(f"not measured: {peer}: {lack['why']}. {lack['remedy']}", highlight=False, markup=False)


def _title(about: Mapping[str, Any]) -> str:
    return (
        f"vfab {about['vfab']}, Python {about['python']}, {about['processor']} × {about['cpus']}, {about['system']}, "
        f"load {about['load_1min']}, {about['elapsed_s']} s"
    )


def _rows(table: Table, document: Mapping[str, Any], key: str) -> None:
    verdict = judge(document, key)
    mark = {True: "[green]met[/green]", False: "[red]missed[/red]", None: "cannot tell"}[verdict.met]
    table.add_row(key, "vfab", *_cells(document[key]), "", f"{verdict.text}: {mark}")
    ours = headline(document[key])
    for name, figures in document["peers"].items():
        if key in figures:
            theirs = headline(figures[key])
            ratio = f"{ours / theirs:.3g}" if theirs else ""
            table.add_row("", name, *_cells(figures[key]), ratio, "")


def _cells(figure: Any) -> tuple[str, str, str]:
    if isinstance(figure, Mapping):
        return _number(figure["p50"]), _number(figure["p99"]), str(figure["n"])
    return _number(figure), "", ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
