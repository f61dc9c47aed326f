"""Ctrl-C and SIGTERM for programs that hold a device: the first one ends the operation, the second one forces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from vfab.model.errors import Cancelled

__all__ = ["Interrupted", "Interrupts", "run"]

_T = TypeVar("_T")


class Interrupted(Cancelled):
    """A signal ended the operation; the device was left safe. The exit code is 128 + the signal's number."""

    code = "interrupted"
    signal_number = int(signal.SIGINT)

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal_number


class Interrupts:
    """The signals of one run.

    Attributes:
        number: the signal that came, 0 while none has.
    """

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.number = 0
        self._task = task
        self._gentle: Callable[[], None] | None = None

    @contextlib.contextmanager
    def ending_by(self, gentle: Callable[[], None]) -> Iterator[None]:
        """While this lasts, the first signal calls `gentle` instead of cancelling the task."""
        before, self._gentle = self._gentle, gentle
        try:
            yield
        finally:
            self._gentle = before

    def interrupted(self, message: str = "", remedy: str = "") -> Interrupted:
        """The error that says that a signal ended the operation."""
        error = Interrupted(
            message or f"{signal.Signals(self.number or signal.SIGINT).name}: ended on request", remedy=remedy
        )
        error.signal_number = self.number or int(signal.SIGINT)
        return error

    def take(self, number: int) -> None:
        """A signal came."""
        if self.number:
            sys.stderr.write("\nvfab: forced to end at once; drivers leave their devices safe by themselves\n")
            sys.stderr.flush()
            os._exit(128 + number)  # hosts see their control socket close, raise the pen and end
        self.number = number
        name = signal.Signals(number).name
        if sys.stderr.isatty():
            sys.stderr.write(f"\nvfab: {name}: ending safely (again to force)\n")
        if self._gentle is not None:
            self._gentle()
        else:
            self._task.cancel()


def run(work: Callable[[Interrupts], Awaitable[_T]]) -> _T:
    """Run `work` in an event loop of its own, and answer signals meanwhile.

    Raises Interrupted: a signal ended it. Everything that `work` raises.
    """
    return asyncio.run(_run(work))


async def _run(work: Callable[[Interrupts], Awaitable[_T]]) -> _T:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    interrupts = Interrupts(task)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # started by nohup: it is to outlive its terminal
        loop.add_signal_handler(number, interrupts.take, int(number))
    try:
        return await work(interrupts)
    except asyncio.CancelledError:
        if not interrupts.number:
            raise
        raise interrupts.interrupted() from None
