"""A GRBL machine that is not there: the firmware's behaviour on a pseudo-terminal or a TCP port, and what its pen drew.

In a test::

    with GrblSimulator(speed=5, faults=["alarm@40"]) as sim:
        ...  # talk to sim.address
        sim.strokes  # what was drawn, in millimetres

As a program: `python simulator.py [--hal] [--speed real|N|instant] [--set N=VALUE] [--pen servo|z] [--record OUT.svg]
[--fault KIND@AFTER] [--tcp PORT] [--page WxH]` prints one JSON line and serves until SIGTERM. SIGUSR2 plugs the cable
in again. Faults: drop, garble, slow, silent, unplug, reset, alarm, error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from vfab.model.errors import ConfigurationError
from vfab.protocols.grbl import BLOCKS, RX_BYTES, Firmware
from vfab.sdk.simulation import A4_LANDSCAPE_MM, Fault, Kind, MachineSimulator, arguments, page_mm, serve

if TYPE_CHECKING or __package__:
    from .recording import Recording
else:
    from recording import Recording

__all__ = ["PLOTTER", "GrblSimulator", "main"]

PLOTTER = {
    100: 80, 101: 80, 102: 80, 110: 12_000, 111: 12_000, 112: 3000, 120: 800, 121: 800, 122: 200, 130: 300, 131: 220,
    132: 40, 11: 0.02,
}  # fmt: skip
"""Settings of a desktop pen plotter."""


class GrblSimulator(MachineSimulator):
    """A controller in a pen plotter, a cable and a clock, served by a thread of its own.

    Args:
        speed, page_mm, faults, address, port, clock: as `MachineSimulator` has them.
        hal: it is grblHAL, with a receive buffer of 1024 bytes and 100 planner blocks.
        settings: over those of `PLOTTER`.
        pen: `servo` or `z`.
        parse_s: how long a line takes to be parsed.
        corner: machine position of the page's top-left corner, mm.

    Attributes:
        firmware: the controller's state. Look at it while nothing is being sent.
    """

    def __init__(
        self,
        speed: str | float = "instant",
        *,
        hal: bool = False,
        settings: Mapping[int, float] | None = None,
        pen: str = "servo",
        parse_s: float = 0.0008,
        corner: tuple[float, float] = (0.0, 0.0),
        page_mm: tuple[float, float] = A4_LANDSCAPE_MM,
        faults: Sequence[str | Fault] = (),
        address: str = "pty",
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        recording = Recording(pen, corner=corner)
        super().__init__(
            speed, recording, page_mm=page_mm, faults=faults, address=address, port=port, clock=clock, name="grbl"
        )
        self.firmware = Firmware(
            {**PLOTTER, **(settings or {})},
            hal=hal,
            instant=speed == "instant",
            parse_s=parse_s,
            blocks=100 if hal else BLOCKS,
            rx_bytes=1024 if hal else RX_BYTES,
            observer=recording,
        )

    # what a person can do ----------------------------------------------------------------------------------------

    def open_door(self) -> None:
        """Open the safety door: the machine holds."""
        with self._lock:
            self.firmware.door_open = True
            self.firmware.receive(b"\x84")
        self._wake()

    def close_door(self) -> None:
        """Close the safety door again."""
        with self._lock:
            self.firmware.door_open = False

    # what the frame asks of the machine --------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes for the controller."""
        self.firmware.receive(data)

    def answers(self) -> list[tuple[int, bytes]]:
        """What the controller says."""
        return self.firmware.answers()

    def advance(self, until_s: float) -> None:
        """Let its time pass."""
        self.firmware.advance(until_s)

    def next_event_s(self) -> float | None:
        """When it does something by itself."""
        return self.firmware.next_event_s()

    def taken(self) -> int:
        """Lines that were answered."""
        return self.firmware.lines

    def limit(self, commands: int | None) -> None:
        """It takes no more lines than this."""
        self.firmware.line_limit = commands

    def powered(self, on: bool) -> None:
        """The plug goes in, or is pulled."""
        if on:
            self.firmware.power_on()
        else:
            self.firmware.power_off()

    def catch_up(self) -> None:
        """Record a motion that is under way up to now."""
        self.firmware.catch_up()

    def struck(self, kind: Kind) -> None:
        """The faults that only a controller has."""
        match kind:
            case Kind.RESET:
                self.firmware.reboot()
            case Kind.ALARM:
                self.firmware.trip_limit()
            case _:
                self.firmware.say("error:2")


def _setting(text: str) -> tuple[int, float]:
    number, _, value = text.removeprefix("$").partition("=")
    try:
        return int(number), float(value)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is not a setting.", context={"value": text}, remedy="Write such as 22=1."
        ) from None


def main(argv: Sequence[str]) -> int:
    """Run the simulator until SIGTERM, SIGINT or the end of its terminal; the process's exit code."""
    parser = arguments("grbl", "A simulated pen plotter with a GRBL controller.")
    parser.add_argument("--hal", action="store_true", help="it is grblHAL")
    parser.add_argument("--pen", choices=["servo", "z"], default="servo", help="what moves the pen")
    parser.add_argument("--set", action="append", default=[], metavar="N=VALUE", help="a setting, such as 22=1")
    options = parser.parse_args(list(argv))
    return serve(
        "grbl",
        lambda: GrblSimulator(
            options.speed,
            hal=options.hal,
            settings=dict(_setting(text) for text in options.set),
            pen=options.pen,
            page_mm=page_mm(options.page),
            faults=options.fault,
            address="pty" if options.tcp is None else "tcp",
            port=options.tcp or 0,
        ),
        options.record,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
