"""What `vfab driver test` shows: the check that runs, then a table of them all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from vfab.apps.cli.common import registry
from vfab.apps.cli.output import bold, dim, print_json, print_table, say

__all__ = ["MARKS", "list_all", "run_suite"]

MARKS = {"passed": "ok", "failed": "FAIL", "exempt": "exempt", "skipped": "skip"}
"""What a table calls the outcomes."""


def list_all(as_json: bool) -> None:
    """List the checks."""
    from vfab.apps.contract import CHECKS

    if as_json:
        plain = [{"name": c.name, "sentence": c.sentence, "category": c.category or None} for c in CHECKS]
        print_json({"checks": plain})
        return
    print_table(("CHECK", "FOR", "A DRIVER"), [(c.name, c.category or "every driver", c.sentence) for c in CHECKS])


def run_suite(
    name: str, *, device: str | None, simulated: bool, only: Sequence[str], settings: Sequence[str], as_json: bool
) -> None:
    """Run the suite over the driver `name`; the exit code is 1 when a check failed."""
    from vfab.apps.cli.generated import read_pairs
    from vfab.apps.contract import check_driver
    from vfab.apps.interrupts import run

    if not as_json:
        peer = "its simulator" if registry().get(name).manifest.simulator else "the device that it finds by itself"
        say(f"{name}: the contract suite, with {device or peer}")
    overrides = read_pairs(settings, "--set", "FIELD=VALUE")
    with _Progress(quiet=as_json) as progress:
        report = run(
            lambda interrupts: check_driver(
                os.environ,
                name,
                device=device,
                simulated=simulated or None,
                overrides=overrides,
                only=only,
                begin=progress.begin,
            )
        )
    if as_json:
        print_json(report.to_dict())
    else:
        rows = [(MARKS[outcome], check, seconds, what) for outcome, check, seconds, what in report.rows()]
        print_table(("RESULT", "CHECK", "SECONDS", "WHAT WAS SEEN"), rows)
        for result in report.results:
            if result.outcome == "failed":
                say(f"{bold('FAIL')}  {result.name}: a driver {result.sentence}.", f"      {result.note}")
        say(report.summary())
    if not report.passed:
        raise typer.Exit(1)


class _Progress:
    """The check that runs now, on one line of a terminal; elsewhere nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._line("")

    def begin(self, check: Any, number: int, count: int) -> None:
        """A check begins."""
        self._line(dim(f"{number}/{count}  {check.name}: {check.sentence}", sys.stderr))

    def _line(self, text: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()
