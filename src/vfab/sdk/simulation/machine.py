"""A simulated machine on a cable: a thread that serves it, a clock that may run fast, and faults.

A subclass gives the machine: what it does with bytes and time. Here is everything around it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from vfab.model.errors import ConfigurationError
from vfab.sdk.simulation.faults import SLOW_S, Fault, Kind, garbled
from vfab.sdk.simulation.links import PtyLink, TcpLink
from vfab.sdk.simulation.program import speed_factor
from vfab.sdk.simulation.strokes import StrokeRecord

__all__ = ["A4_LANDSCAPE_MM", "MachineSimulator"]

REBOOT_S = 0.5
A4_LANDSCAPE_MM = (297.0, 210.0)


class MachineSimulator(ABC):
    """A machine, a cable and a clock, served by a thread of its own.

    Args:
        speed: `instant` (motion takes no time), `real`, or how many times faster than real.
        record: what the pen draws.
        page_mm: width and height of the page of the SVG.
        faults: `KIND@AFTER`, see `faults.py`; each happens once.
        address: `pty` or `tcp`.
        port: TCP port, 0 for any that is free.
        clock: seconds that never go back.
        name: of the thread and of the terminal's folder.

    Attributes:
        address: where a client finds the machine: a path, or `tcp://127.0.0.1:PORT`. The same after a replug.
    """

    def __init__(
        self,
        speed: str | float,
        record: StrokeRecord,
        *,
        page_mm: tuple[float, float] = A4_LANDSCAPE_MM,
        faults: Sequence[str | Fault] = (),
        address: str = "pty",
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
        name: str = "machine",
    ) -> None:
        self.page_mm = page_mm
        self.record = record
        self.name = name
        self._factor = speed_factor(speed)
        self._faults = [fault if isinstance(fault, Fault) else Fault.parse(fault) for fault in faults]
        self._link: PtyLink | TcpLink = TcpLink(port) if address == "tcp" else PtyLink(f"vfab-{name}-")
        self._clock = clock
        self._began = clock()
        self._first_byte: float | None = None
        self._slow_s = 0.0
        self._late: deque[tuple[float, bytes]] = deque()
        self._replug_at: float | None = None
        self._plugged = False
        self._lock = threading.RLock()
        self._closing = False
        self._wake_read, self._wake_write = -1, -1
        self._thread: threading.Thread | None = None

    # what a subclass gives ---------------------------------------------------------------------------------------

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Bytes for the machine, now."""

    @abstractmethod
    def answers(self) -> list[tuple[int, bytes]]:
        """What it said since the last call: the number of the command that is answered (0: none), and the bytes."""

    @abstractmethod
    def advance(self, until_s: float) -> None:
        """Let its time pass up to `until_s`, seconds from its beginning."""

    @abstractmethod
    def next_event_s(self) -> float | None:
        """When something happens by itself; None when nothing will."""

    @abstractmethod
    def taken(self) -> int:
        """Commands that were taken and answered."""

    @abstractmethod
    def limit(self, commands: int | None) -> None:
        """Take no more commands than this, however many come at once; None takes all."""

    @abstractmethod
    def powered(self, on: bool) -> None:
        """The plug goes in, or is pulled: motion ends where it is, and everything is as after power-on."""

    def catch_up(self) -> None:  # noqa: B027 - not every machine needs it
        """Record a motion that is under way up to now."""

    def press_button(self) -> None:  # noqa: B027 - nor has one
        """Somebody presses the machine's button; nothing where it has none."""

    def rebooted(self) -> bool:
        """Whether it wants to leave the bus and come back, since the last call."""
        return False

    # life --------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Plug in and begin to serve."""
        self._limit_commands()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._link.plug_in()
        self._plugged = True
        self.powered(True)
        self._thread = threading.Thread(target=self._serve, name=f"{self.name}-simulator", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and unplug for good. The drawing stays."""
        if self._thread is None:
            return
        self._closing = True
        self._wake()
        self._thread.join()
        self._thread = None
        self._link.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # what a person can do with the machine, and see --------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where a client finds the machine."""
        return self._link.address

    @property
    def strokes(self) -> list[list[tuple[float, float]]]:
        """What was drawn until now: each stroke's points in millimetres from the page's top-left corner, y down."""
        with self._lock:
            self._pass_time()
            self.catch_up()
            return self.record.strokes_mm()

    def save(self, path: Path) -> None:
        """Write what was drawn as SVG, atomically."""
        with self._lock:
            self.catch_up()
            self.record.save(path, self.page_mm)

    def unplug(self) -> None:
        """Pull the cable: the device vanishes, motion stops where it is, the machine forgets everything."""
        with self._lock:
            self._pass_time()
            self._pull()
        self._wake()

    def break_by(self, fault: str | Fault) -> None:
        """One more thing that goes wrong: `KIND@AFTER`. Raises ConfigurationError: it is no fault."""
        with self._lock:
            self._faults.append(fault if isinstance(fault, Fault) else Fault.parse(fault))
            self._limit_commands()

    def plug_in(self) -> None:
        """Plug the cable in again, at the same address."""
        with self._lock:
            if not self._plugged:
                self._link.plug_in()
                self._plugged = True
                self.powered(True)
        self._wake()

    # the thread --------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._wake_write >= 0:
            with suppress(OSError):
                os.write(self._wake_write, b"!")

    def _serve(self) -> None:
        while not self._closing:
            with self._lock:
                readers, writers, timeout = self._link.readers(), self._link.writers(), self._timeout_s()
            try:
                ready, free, _ = select.select([self._wake_read, *readers], writers, [], timeout)
            except OSError:
                continue  # unplugged meanwhile: the descriptors are gone
            with self._lock:
                if self._wake_read in ready:
                    with suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                if free:
                    self._link.flush()
                self._turn()

    def _turn(self) -> None:
        self._pass_time()
        data = self._link.read()
        if data:
            if self._first_byte is None:
                self._first_byte = self._clock()
            self.receive(data)
        self._strike_by_time()
        self._answer()
        if self.rebooted():
            self._pull()
            self._replug_at = self._clock() + REBOOT_S
        if self._replug_at is not None and self._clock() >= self._replug_at:
            self._replug_at = None
            self.plug_in()

    def _pass_time(self) -> None:
        if self._factor is not None:
            self.advance((self._clock() - self._began) * self._factor)

    def _timeout_s(self) -> float | None:
        now = self._clock()
        waits = [due - now for due, _ in list(self._late)[:1]]
        if self._factor is not None:
            event = self.next_event_s()
            if event is not None:
                waits.append(self._began + event / self._factor - now)
        if self._first_byte is not None:
            waits += [self._first_byte + fault.seconds - now for fault in self._faults if fault.seconds is not None]
        if self._replug_at is not None:
            waits.append(self._replug_at - now)
        return max(min(waits), 0.0) if waits else None

    def _answer(self) -> None:
        now = self._clock()
        for number, answer in self.answers():
            shown = self._strike_by_count(number, answer) if number else answer
            if not shown:
                continue
            if self._slow_s:
                self._late.append((now + self._slow_s, shown))
            else:
                self._link.write(shown)
        while self._late and self._late[0][0] <= now:
            self._link.write(self._late.popleft()[1])
        self._strike_at_limit()

    # faults ------------------------------------------------------------------------------------------------------

    def _limit_commands(self) -> None:
        """The machine takes no command that a fault forbids, however many come at once."""
        counts = [f.commands for f in self._faults if f.kind.limits and f.commands is not None]
        self.limit(min(counts, default=None))

    def _strike_by_count(self, number: int, answer: bytes) -> bytes:
        for fault in [fault for fault in self._faults if fault.commands is not None and number > fault.commands]:
            if fault.kind in (Kind.DROP, Kind.GARBLE):
                self._faults.remove(fault)
                return garbled(answer) if fault.kind is Kind.GARBLE else b""
            if fault.kind is Kind.SLOW:
                self._faults.remove(fault)
                self._slow_s = SLOW_S
        return answer

    def _strike_at_limit(self) -> None:
        for fault in list(self._faults):
            if fault.kind.limits and fault.kind is not Kind.SILENT and fault.commands is not None:
                if self.taken() < fault.commands:
                    continue
                self._faults.remove(fault)
                self._strike(fault.kind)
                self._limit_commands()

    def _strike_by_time(self) -> None:
        if self._first_byte is None:
            return
        age = self._clock() - self._first_byte
        for fault in [fault for fault in self._faults if fault.seconds is not None and age >= fault.seconds]:
            self._faults.remove(fault)
            if fault.kind is Kind.SILENT:
                self.limit(self.taken())
            elif fault.kind.limits:
                self._strike(fault.kind)
            else:
                # the next answer is struck
                self._faults.append(Fault(fault.kind, commands=self.taken()))

    def _strike(self, kind: Kind) -> None:
        if kind is Kind.UNPLUG:
            self._pull()
        else:
            self.struck(kind)
            self._wake()

    def struck(self, kind: Kind) -> None:
        """A fault that only this kind of machine knows. Raises ConfigurationError: it does not know it."""
        raise ConfigurationError(
            f"{self.name} does not simulate {kind.value}", context={"value": kind.value}, remedy="Name another fault."
        )

    def _pull(self) -> None:
        if self._plugged:
            self._plugged = False
            self._link.unplug()
            self.powered(False)
            self._late.clear()
