"""What commands print: one JSON document for programs, short lines for people; errors on stderr, never a traceback."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any

import typer

from vfab.model.errors import DriverError

__all__ = ["JsonFlag", "bold", "dim", "print_error", "print_json", "print_table", "say"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]


def print_json(document: Any) -> None:
    """Print `document` as the one JSON document of this command."""
    escaped = _needs_escapes(sys.stdout)
    try:
        text = json.dumps(document, ensure_ascii=escaped, indent=2, default=str, allow_nan=False)
    except (ValueError, TypeError):
        text = json.dumps(_for_json(document), ensure_ascii=escaped, indent=2, default=str, allow_nan=False)
    sys.stdout.write(text.encode("utf-8", "replace").decode("utf-8") + "\n")
    sys.stdout.flush()


def _needs_escapes(stream: Any) -> bool:
    """Whether `stream` cannot carry every character as it is: another encoding than UTF-8, by the locale."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "") != "utf8"


def _for_json(value: Any) -> Any:
    """`value` with what JSON has no way to write as text: NaN, Infinity, keys that are neither text nor number."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        simple = (str, int, type(None))
        return {key if isinstance(key, simple) else str(key): _for_json(item) for key, item in value.items()}
    return [_for_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def say(*lines: str) -> None:
    """Print lines for people."""
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns, each as wide as it needs; no rich: importing it costs as much as the whole command may take."""
    table = [tuple(str(cell) for cell in row) for row in rows]
    widths = [
        max(len(title), *(len(row[i]) for row in table)) if table else len(title) for i, title in enumerate(titles)
    ]
    say(bold(_row(titles, widths)))
    for row in table:
        say(_row(row, widths))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def bold(text: str, stream: Any = None) -> str:
    """`text` in bold where a person looks."""
    return _styled("1", text, stream or sys.stdout)


def dim(text: str, stream: Any = None) -> str:
    """`text` in grey where a person looks."""
    return _styled("2", text, stream or sys.stdout)


def _styled(style: str, text: str, stream: Any) -> str:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\033[{style}m{text}\033[0m"


_WHERE = ("file", "line", "field", "element", "device", "address", "folder", "option", "variable")


def print_error(error: DriverError, as_json: bool) -> None:
    """Tell an error on stderr: what, where, what to do."""
    if as_json:
        document, escaped = _for_json({"error": error.to_public()}), _needs_escapes(sys.stderr)
        text = json.dumps(document, ensure_ascii=escaped, default=str, allow_nan=False)
        sys.stderr.write(text.encode("utf-8", "replace").decode("utf-8") + "\n")
        return
    where = _where(error.context, error.message)
    lines = [f"{bold('vfab:', sys.stderr)} {error.message}"]
    if where:
        lines.append(f"  where:  {where}")
    raised = _raised_at(str(error.context.get("traceback") or ""))
    if raised:
        lines.append(f"  raised at:  {raised}")
    last = error.context.get("last_lines")
    if isinstance(last, (list, tuple)) and last:
        lines.append(f"  it said: {_last_words(last)[:300]}")
    if error.remedy:
        lines.append(f"  what to do:  {error.remedy}")
    sys.stderr.write("\n".join(lines) + "\n")


def _last_words(lines: Sequence[object]) -> str:
    """The last line that a driver wrote; of the dump that Python leaves when it crashes, what happened and where."""
    texts = [str(line).strip() for line in lines]
    for number, text in enumerate(texts):
        if text.startswith("Fatal Python error"):
            return " ".join((text, next((frame for frame in texts[number:] if frame.startswith("File ")), ""))).strip()
    return texts[-1]


def _raised_at(trace: str) -> str:
    """The last `file:line, in function` of a traceback's text: where a plugin's author looks first."""
    frames = re.findall(r'^  File "([^"\n]+)", line (\d+)(?:, in (\S+))?', trace, re.MULTILINE)
    if not frames:
        return ""
    file, line, function = frames[-1]
    return f"{file}:{line}" + (f", in {function}" if function else "")


def _where(context: Mapping[str, Any], message: str) -> str:
    """The place in few words, without what the message says anyway."""
    parts = [f"{key} {context[key]}" for key in _WHERE if context.get(key) and str(context[key]) not in message]
    return ", ".join(parts)
