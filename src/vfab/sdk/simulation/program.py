"""A simulator as a program: the options that all have, one JSON line, signals, the drawing at the end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vfab.model.errors import ConfigurationError, DriverError

if TYPE_CHECKING:
    from vfab.sdk.simulation.machine import MachineSimulator

__all__ = ["Addressed", "arguments", "page_mm", "refused", "serve", "serve_until_told", "speed_factor"]


class Addressed(Protocol):
    """A simulator that serves."""

    @property
    def address(self) -> str:
        """Where it is."""


def arguments(name: str, description: str) -> argparse.ArgumentParser:
    """A parser that knows what every simulator of a plotter knows: speed, record, fault, tcp and page."""
    parser = argparse.ArgumentParser(prog=f"vfab sim run {name}", description=description)
    parser.add_argument("--speed", default="real", help="real, instant, or how many times faster")
    parser.add_argument("--record", type=Path, metavar="OUT.svg", help="write what the pen drew, when it ends")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@AFTER", help="drop, garble, slow, …")
    parser.add_argument("--tcp", type=int, metavar="PORT", help="a TCP port of 127.0.0.1 instead of a pty; 0 = any")
    parser.add_argument("--page", default="297x210", metavar="WxH", help="the page in mm, for the SVG")
    return parser


def page_mm(text: str) -> tuple[float, float]:
    """Width and height, of `297x210`. Raises ConfigurationError: it is no such thing."""
    width, _, height = text.lower().partition("x")
    try:
        sides = (float(width), float(height))
    except ValueError:
        sides = (0.0, 0.0)
    if not (0 < sides[0] < 1e5 and 0 < sides[1] < 1e5):
        raise ConfigurationError(f"{text!r} is not a page.", context={"value": text}, remedy="Write such as 297x210.")
    return sides


def serve(name: str, make: Callable[[], MachineSimulator], record: Path | None) -> int:
    """Make a simulator and serve until SIGTERM, SIGINT or the end of its terminal; the process's exit code.

    SIGUSR1 presses the machine's button, SIGUSR2 plugs the cable in again.
    """
    try:
        target = _recordable(record)
        simulator = make().start()
    except DriverError as error:
        return refused(error)
    done = _end_asked_for()
    signal.signal(signal.SIGUSR1, lambda *_: simulator.press_button())
    signal.signal(signal.SIGUSR2, lambda *_: simulator.plug_in())
    try:
        _announce(name, simulator.address)
        done.wait()
    finally:
        simulator.stop()
    if target is not None:
        simulator.save(target)
    return 0


def refused(error: DriverError) -> int:
    """Tell on standard error, as every command does, why a simulator does not start; the process's exit code."""
    told = f"vfab: {error.message.rstrip('.')}" + (f"\n  what to do:  {error.remedy}" if error.remedy else "")
    print(told, file=sys.stderr)
    return error.exit_code


def serve_until_told(name: str, simulator: AbstractContextManager[Addressed]) -> int:
    """Say where `simulator` is, and let it serve until SIGTERM, SIGINT or the end of its terminal; 0.

    What it raises when it begins passes.
    """
    done = _end_asked_for()
    with simulator as made:
        _announce(name, made.address)
        done.wait()
    return 0


def speed_factor(speed: str | float) -> float | None:
    """How many times faster than real: 1 for `real`, None for `instant`.

    Raises ConfigurationError: it is no speed.
    """
    if speed == "instant":
        return None
    try:
        factor = 1.0 if speed == "real" else float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e6:
        raise ConfigurationError(
            f"{speed!r} is not a speed.", context={"value": str(speed)}, remedy="Write real, instant, or such as 10."
        )
    return factor


def _announce(name: str, address: str) -> None:
    print(json.dumps({"name": name, "address": address, "pid": os.getpid()}), flush=True)


def _end_asked_for() -> threading.Event:
    """Set when a signal asks this program to end."""
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, lambda *_: done.set())
    return done


def _recordable(path: Path | None) -> Path | None:
    """Where to record. Raises ConfigurationError: nothing can be written there, told before anything is drawn."""
    if path is None:
        return None
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        why = "it is a folder" if path.is_dir() else f"{folder} is no folder that this user may write"
        raise ConfigurationError(
            f"{path} cannot be recorded to: {why}.", context={"file": str(path)}, remedy="Name another file."
        )
    return path.absolute()
