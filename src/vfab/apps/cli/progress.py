"""Progress of a long command: a bar with the remaining time on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

__all__ = ["ProgressView", "duration"]

LINE_EVERY_S = 2.0
"""Without a terminal, a line is printed at most this often."""


def duration(seconds: float) -> str:
    """`1 h 02 min`, `3 min 20 s`, `14 s`, `0.8 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class ProgressView:
    """Shows what a driver reports: `done_s` and `total_s`, or `done` and `total`, `remaining_s`, `phase`, `step`.

    Args:
        title: what is being done.
        quiet: show nothing.
        stays: the bar is still to be seen when all is done.
        stream: where; standard error by default, so that results stay alone on standard output.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        title: str,
        *,
        quiet: bool = False,
        stays: bool = True,
        stream: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._live = not quiet and self._stream.isatty()
        self._quiet = quiet
        self._stays = stays
        self._clock = clock
        self._told_s = float("-inf")
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressView:
        if self._live:
            self._bar = self._made()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if kind is None:
                self._finish()
            self._bar.stop()

    def note(self, text: str) -> None:
        """Say something beside the bar, on the same stream."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def __call__(self, data: Mapping[str, Any]) -> None:
        """A report came."""
        if self._quiet:
            return
        done = float(data.get("done_s", data.get("done", 0.0)))
        total = float(data.get("total_s", data.get("total", 0.0)) or 0.0)
        left = data.get("remaining_s")
        phase = ", ".join(str(data[key]) for key in ("phase", "step") if data.get(key))
        if self._bar is not None:
            text = f"{duration(float(left))} left" if left is not None and total else phase
            title = self._title if phase in {"", "drawing"} else f"{self._title} ({phase})"
            self._bar.update(self._task, completed=done, total=total or None, left=text, description=title)
            return
        now = self._clock()
        if now - self._told_s >= LINE_EVERY_S and total:
            self._told_s = now
            more = f", {duration(float(left))} left" if left is not None else ""
            stroke = f", stroke {data['stroke'] + 1} of {data['strokes']}" if data.get("strokes") else ""
            doing = "" if phase in {"", "drawing"} else f"{phase}, "
            self._stream.write(f"{self._title}: {doing}{100 * done / total:.0f} %{stroke}{more}\n")
            self._stream.flush()

    def _finish(self) -> None:
        task = self._bar.tasks[0]
        if task.total:
            self._bar.update(self._task, completed=task.total, left="done", description=self._title)

    def _made(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            console=Console(file=self._stream),
            transient=not self._stays,
        )
