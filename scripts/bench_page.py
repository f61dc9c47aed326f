"""Writes docs/bench.md from a run: `vfab bench --json | .venv/bin/python scripts/bench_page.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vfab.apps.bench import targets

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bench.md"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _row(key: str, who: str, figure: Any, ratio: str, aim: str) -> str:
    p50, p99 = (figure["p50"], figure["p99"]) if isinstance(figure, dict) else (figure, None)
    return f"| {key} | {who} | {_number(p50)} | {_number(p99) if p99 is not None else ''} | {ratio} | {aim} |"


def page(document: dict[str, Any]) -> str:
    """The page that tells one run."""
    about = document["about"]
    rows = ["| figure | who | p50 | p99 | vfab ÷ peer | aim |", "|---|---|--:|--:|--:|---|"]
    for key in [key for key in document if key not in {"about", "peers", "missing", "notes"}]:
        verdict = targets.judge(document, key)
        aim = "" if verdict is None else f"{verdict.text}: {'met' if verdict.met else '**missed**'}"
        rows.append(_row(f"`{key}`", "vfab", document[key], "", aim))
        ours = document[key]["p50"] if isinstance(document[key], dict) else document[key]
        for peer, figures in document["peers"].items():
            if key in figures:
                theirs = figures[key]["p50"] if isinstance(figures[key], dict) else figures[key]
                rows.append(_row("", peer, figures[key], f"{ours / theirs:.3g}", ""))
    missing = [f"- {peer}: {lack['why']}." for peer, lack in document["missing"].items()]
    notes = [f"- `{key}`: {note}." for key, note in document["notes"].items()]
    return "\n".join(
        [
            "# What vfab costs\n",
            "Figures of one run of `vfab bench`; how they are measured is in",
            "[ADR 0080](adr/0080-measuring-beside-peers.md). Milliseconds, microseconds and MiB as the names say.\n",
            f"vfab {about['vfab']}, Python {about['python']}, {about['processor']} × {about['cpus']} (virtual, shared; "
            f"load {about['load_1min']} at the end), {about['date'][:10]}, {about['elapsed_s']:.0f} s.\n",
            *rows,
            "\nNot measured here:\n" if missing else "",
            *missing,
            "\nNotes:\n",
            *notes,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(json.load(sys.stdin)))
