"""An EggBot that is not there: an EiBotBoard on a pseudo-terminal or a TCP port, and what its pen drew on the egg.

As a program: `python simulator.py [--firmware 2.8|3] [--diameter MM] [--nickname NAME] [--speed real|N|instant]
[--record OUT.svg] [--fault KIND@AFTER] [--tcp PORT]` prints one JSON line and serves until SIGTERM. The drawing is the
egg's surface unrolled, millimetres at the equator. SIGUSR1 presses the button, SIGUSR2 plugs the cable in again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vfab.model.errors import ConfigurationError
from vfab.sdk.ebb import EbbSimulator, Recording
from vfab.sdk.simulation import arguments, serve

if TYPE_CHECKING or __package__:
    from .globe import Globe
else:
    from globe import Globe

__all__ = ["EggBotSimulator", "main"]


class EggRecording(Recording):
    """What the pen drew, each stroke moved into the first turn."""

    def __init__(self, globe: Globe) -> None:
        super().__init__(globe.geometry())
        self._globe = globe

    def strokes_mm(self) -> list[list[tuple[float, float]]]:
        """See `StrokeRecord`; a stroke that crosses the seam goes on beyond the page's side."""
        return [self._globe.in_first_turn(stroke) for stroke in super().strokes_mm()]


class EggBotSimulator(EbbSimulator):
    """An EiBotBoard in an EggBot.

    Args:
        firmware, speed: as `EbbSimulator` has them, and so are all others.
        diameter_mm: of the egg.
        nickname: what the board calls itself.
    """

    def __init__(
        self,
        firmware: str = "3",
        speed: str | float = "instant",
        *,
        diameter_mm: float = 40.0,
        nickname: str = "EggBot",
        **options: Any,
    ) -> None:
        globe = Globe(diameter_mm)
        options.setdefault("page_mm", (globe.width_mm, globe.height_mm))
        super().__init__(firmware, speed, name="eggbot", nickname=nickname, recording=EggRecording(globe), **options)


def main(argv: Sequence[str]) -> int:
    """Run the simulator until SIGTERM, SIGINT or the end of its terminal; the process's exit code."""
    parser = arguments("eggbot", "A simulated EggBot.")
    parser.add_argument("--firmware", default="3", help="2.8 or 3, or a whole version")
    parser.add_argument("--diameter", type=float, default=40.0, metavar="MM", help="of the egg")
    parser.add_argument("--nickname", default="EggBot", help="what the board calls itself")
    options = parser.parse_args(list(argv))

    def made() -> EggBotSimulator:
        if not 5 <= options.diameter <= 300:
            raise ConfigurationError(f"no egg is {options.diameter:g} mm thick.", remedy="Write 5 to 300.")
        return EggBotSimulator(
            options.firmware,
            options.speed,
            diameter_mm=options.diameter,
            nickname=options.nickname,
            faults=options.fault,
            address="pty" if options.tcp is None else "tcp",
            port=options.tcp or 0,
        )

    return serve("eggbot", made, options.record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
