"""`vfab bench`: what vfab costs, beside its peers, measured in the same run."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from vfab.apps.bench.run import all_keys
from vfab.apps.cli.output import JsonFlag, print_json

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


def _keys(incomplete: str) -> list[str]:
    return [key for key in all_keys() if key.startswith(incomplete)]


@app.command()
def bench(
    as_json: JsonFlag = False,
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute instead of up to five.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Measure this figure only; may be repeated.", autocompletion=_keys),
    ] = None,
) -> None:
    """Measure vfab beside its peers; everything takes turns in the same run.

    Peers that are not installed are named: pip install 'vfab[bench]'.

    Example: vfab bench --quick --only call_us --json
    """
    from vfab.apps.bench import run_bench

    document = run_bench(quick=quick, only=only or (), say=_say)
    if as_json:
        print_json(document)
    else:
        _show(document)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _show(document: dict[str, Any]) -> None:
    from vfab.apps.bench.table import print_document

    print_document(document)
