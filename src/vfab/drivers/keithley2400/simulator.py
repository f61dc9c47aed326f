"""A Keithley 2400 that is not there: its command tree, trigger model and compliance, with something to measure.

In a test::

    with KeithleySimulator("2400", dut="diode", speed="instant") as sim:
        ...  # talk to sim.address
        sim.meter.output
        sim.heard  # every message that came

As a program: `python simulator.py [--model 2400] [--dut diode|resistor:OHMS|solar] [--speed real|instant|N] [--noise N]
[--seed N] [--pty] [--port N] [--fault KIND@AFTER]` prints one JSON line and serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from vfab.model.errors import ConfigurationError, DriverError
from vfab.protocols.scpi import ErrorEntry, ScpiServer
from vfab.sdk.simulation import refused, serve_until_told, speed_factor

if TYPE_CHECKING or __package__:
    from .commands import Trigger, install
    from .dut import DUTS, Dut, Noise, dut_named
    from .models import MODELS
    from .serving import PtyServing, TcpServing
    from .sourcemeter import SourceMeter
else:
    from commands import Trigger, install
    from dut import DUTS, Dut, Noise, dut_named
    from models import MODELS
    from serving import PtyServing, TcpServing
    from sourcemeter import SourceMeter

__all__ = ["FAULTS", "KeithleySimulator", "main"]

FAULTS = {
    "silent": "answers nothing any more",
    "garble": "the next answer is nonsense",
    "unplug": "the connection breaks",
    "interlock": "the output cannot be switched on: +802",
    "overflow": "the error queue is full of -363",
}
"""What can go wrong, each once, after so many messages: `silent@20`."""
_SERIAL = "1234567"
_FIRMWARE = "C33   Mar 31 2015 09:32:39/A02  /K/J"


class KeithleySimulator:
    """The instrument on a port, served by a thread of its own.

    Args:
        model: `2400` and its kin.
        dut: what is measured: a name of `DUTS`, `resistor:OHMS`, or a `Dut`.
        speed: `instant`, `real`, how many times faster, or `held`: points are taken when a test calls `release`.
        noise: 1 is the real thing's, 0 none.
        seed: decides the noise.
        pty: a pseudo-terminal instead of a TCP port.
        port: TCP port, 0 for any.
        faults: `KIND@AFTER`.

    Attributes:
        meter: the instrument's state. Look at it while nothing is being sent.
        heard: every message, oldest first.
        output_off: set while the output is off.
        measuring: set while the trigger model is under way.
    """

    def __init__(
        self,
        model: str = "2400",
        *,
        dut: str | Dut = "diode",
        speed: str | float = "instant",
        noise: float = 0.0,
        seed: int = 2400,
        pty: bool = False,
        port: int = 0,
        faults: Sequence[str] = (),
    ) -> None:
        if model not in MODELS:
            raise ConfigurationError(
                f"{model!r} is not simulated", context={"value": model}, remedy=f"One of {', '.join(MODELS)}."
            )
        self._factor = None if speed == "held" else speed_factor(speed)
        self._held = speed == "held"
        self._faults = [_fault(text) for text in faults]
        self._silent = self._garble = False
        self.output_off = threading.Event()
        self.output_off.set()
        self.measuring = threading.Event()
        self.heard: list[str] = []
        found = dut_named(dut) if isinstance(dut, str) else dut
        self.meter = SourceMeter(MODELS[model], found, Noise(seed, noise), self._changed)
        self.trigger = Trigger(self.meter)
        self.server = ScpiServer(f"KEITHLEY INSTRUMENTS INC.,MODEL {model},{_SERIAL},{_FIRMWARE}")
        install(self.server, self.meter, self.trigger)
        self._serving: TcpServing | PtyServing = PtyServing() if pty else TcpServing(port)
        self._lock = threading.RLock()
        self._due_s = 0.0
        self._released = 0
        self._closing = False
        self._owner: object = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._thread = threading.Thread(target=self._serve, name="keithley2400-simulator", daemon=True)

    @property
    def address(self) -> str:
        """Where it is: `tcp://127.0.0.1:PORT`, or a path."""
        return self._serving.address

    def __enter__(self) -> KeithleySimulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._wake()
        self._thread.join()
        self._serving.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def release(self, points: int) -> None:
        """With speed `held`: let so many points more be taken."""
        with self._lock:
            self._released += points
        self._wake()

    def unplug(self) -> None:
        """Break every connection; the output stays as it is, as with the real thing."""
        with self._lock:
            self._serving.hang_up()
        self._wake()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        os.write(self._wake_write, b"!")

    def _changed(self, what: str) -> None:
        if what == "output":
            (self.output_off.clear if self.meter.output else self.output_off.set)()

    def _serve(self) -> None:
        while not self._closing:
            with self._lock:
                fds, wait_s = self._serving.fds(), self._wait_s()
            try:
                select.select([self._wake_read, *fds], [], [], wait_s)
            except (OSError, ValueError):
                continue
            with suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
            with self._lock:
                self._turn()

    def _wait_s(self) -> float | None:
        if not self.trigger.running or self.trigger.waiting or self._held or self._factor is None:
            return None
        return max(0.0, self._due_s - time.monotonic())

    def _turn(self) -> None:
        data = self._serving.read()
        if data:
            self.heard += [line.strip() for line in data.decode("latin-1").splitlines()]
            self._strike()
            was_busy = self.server.busy
            self._say(self.server.receive(data))
            if not was_busy:
                self._owner = self._serving.speaker
        self._advance()

    def _advance(self) -> None:
        """Go on in the trigger model as far as time, or the test, allows it."""
        while self.server.busy:
            if not self.trigger.running:
                self._finish(answered=False)
                continue
            if not self.measuring.is_set():
                self.measuring.set()
                self._due_s = time.monotonic() + self._point_s()
            if not self.trigger.left:
                self._finish(answered=True)
                continue
            if not self._may_step():
                return
            self.trigger.step()

    def _may_step(self) -> bool:
        if self.trigger.waiting:
            return False
        if self._held:
            self._released -= 1
            if self._released < 0:
                self._released = 0
                return False
            return True
        if self._factor is None:
            return True
        if time.monotonic() < self._due_s:
            return False
        self._due_s += self._point_s()
        return True

    def _point_s(self) -> float:
        return self.meter.point_s() / (self._factor or 1.0)

    def _finish(self, *, answered: bool) -> None:
        self.trigger.running = False
        self.measuring.clear()
        self.meter.end()
        answer = self.meter.told(self.meter.readings) if answered and self.trigger.reads else None
        self._say(self.server.finish(answer), self._owner)
        self._owner = self._serving.speaker
        self._say(self.server.resume())

    def _say(self, data: bytes, to: object = None) -> None:
        if not data or self._silent:
            return
        if self._garble:
            self._garble = False
            data = bytes(byte ^ 0x55 for byte in data.rstrip(b"\n")).replace(b"\n", b"?") + b"\n"
        self._serving.write(data, to)

    def _strike(self) -> None:
        for kind, after in [fault for fault in self._faults if len(self.heard) > fault[1]]:
            self._faults.remove((kind, after))
            if kind == "silent":
                self._silent = True
            elif kind == "garble":
                self._garble = True
            elif kind == "interlock":
                self.meter.interlock_open = True
            elif kind == "unplug":
                self._serving.hang_up()
            else:
                for _ in range(20):
                    self.server.push(ErrorEntry(-363, "Input buffer overrun"))


def _fault(text: str) -> tuple[str, int]:
    kind, _, after = text.partition("@")
    if kind not in FAULTS or not (after or "0").isdigit():
        raise ConfigurationError(
            f"{text!r} is no fault",
            context={"value": text, "known": FAULTS},
            remedy=f"Write KIND@AFTER, with one of {', '.join(FAULTS)} and a number of messages.",
        )
    return kind, int(after or 0)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vfab sim run keithley2400", description="A simulated source-meter.")
    parser.add_argument("--model", default="2400", help=", ".join(MODELS))
    parser.add_argument("--dut", default="diode", help=f"what is measured: {', '.join(DUTS)}, or resistor:OHMS")
    parser.add_argument("--speed", default="real", help="real, instant, or how many times faster")
    parser.add_argument("--noise", type=float, default=1.0, help="1 is the real thing's, 0 none")
    parser.add_argument("--seed", type=int, default=2400, help="decides the noise")
    parser.add_argument("--pty", action="store_true", help="a pseudo-terminal instead of a TCP port")
    parser.add_argument("--port", type=int, default=0, help="TCP port of 127.0.0.1; 0 = any")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@AFTER", help=", ".join(FAULTS))
    return parser.parse_args(list(argv))


def main(argv: Sequence[str]) -> int:
    """Run the simulator until SIGTERM or SIGINT; the process's exit code."""
    options = _arguments(argv)
    try:
        simulator = KeithleySimulator(
            options.model,
            dut=options.dut,
            speed=options.speed,
            noise=options.noise,
            seed=options.seed,
            pty=options.pty,
            port=options.port,
            faults=options.fault,
        )
    except DriverError as error:
        return refused(error)
    return serve_until_told("keithley2400", simulator)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
