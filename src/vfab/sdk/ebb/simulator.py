"""A simulated EiBotBoard on a cable, in a machine of any geometry."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from vfab.model.errors import ConfigurationError
from vfab.protocols.ebb import TICKS_PER_S, Firmware
from vfab.sdk.ebb.actions import act
from vfab.sdk.ebb.board import Board
from vfab.sdk.ebb.recording import Recording
from vfab.sdk.simulation import A4_LANDSCAPE_MM, Fault, MachineSimulator

__all__ = ["FIRMWARES", "EbbSimulator"]

FIRMWARES = {"2": Firmware(2, 8, 1), "2.8": Firmware(2, 8, 1), "3": Firmware(3, 0, 2)}
"""The firmwares by the names that options take; any other version is read as it is written."""


class EbbSimulator(MachineSimulator):
    """A board, a cable and a clock, served by a thread of its own.

    Args:
        firmware: `2.8`, `3`, or a whole version such as `3.0.2`.
        speed, page_mm, faults, address, port, clock, name: as `MachineSimulator` has them.
        recording: follows the pen; an AxiDraw's by default.
        nickname: what `QT` answers.

    Attributes:
        board: the firmware's state. Look at it while nothing is being sent.
    """

    def __init__(
        self,
        firmware: str = "3",
        speed: str | float = "instant",
        *,
        page_mm: tuple[float, float] = A4_LANDSCAPE_MM,
        faults: Sequence[str | Fault] = (),
        address: str = "pty",
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
        name: str = "axidraw",
        recording: Recording | None = None,
        nickname: str = "",
    ) -> None:
        recording = recording or Recording()
        super().__init__(
            speed, recording, page_mm=page_mm, faults=faults, address=address, port=port, clock=clock, name=name
        )
        self.board = Board(_firmware(firmware), act, recording, instant=speed == "instant")
        self.board.nickname = nickname

    def press_button(self) -> None:
        """Press the PRG button."""
        with self._lock:
            self.board.press_button()

    # what the frame asks of the machine --------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes for the board."""
        self.board.receive(data)

    def answers(self) -> list[tuple[int, bytes]]:
        """The board's answers."""
        return self.board.answers()

    def advance(self, until_s: float) -> None:
        """Let the board's ticks pass."""
        self.board.advance(int(until_s * TICKS_PER_S))

    def next_event_s(self) -> float | None:
        """When the board does something by itself."""
        event = self.board.next_event()
        return None if event is None else event / TICKS_PER_S

    def taken(self) -> int:
        """Commands taken and answered."""
        return self.board.commands - (self.board.stuck is not None)

    def limit(self, commands: int | None) -> None:
        """The board hangs after so many commands."""
        self.board.command_limit = commands

    def powered(self, on: bool) -> None:
        """Without USB the board has no power."""
        if not on:
            self.board.power_off()

    def catch_up(self) -> None:
        """Record a move that is under way up to now."""
        self.board.catch_up()

    def rebooted(self) -> bool:
        """`RB` or `BL` came."""
        wanted, self.board.rebooting = self.board.rebooting, False
        return wanted


def _firmware(text: str) -> Firmware:
    if text in FIRMWARES:
        return FIRMWARES[text]
    try:
        version = Firmware(*(int(part) for part in text.split(".")))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{text!r} is not a firmware version.", context={"value": text}, remedy="Write 2.8, 3, or such as 3.0.2."
        ) from error
    if not (2, 8) <= version < (4,):
        raise ConfigurationError(f"Firmware {version} is not simulated.", context={"value": text}, remedy="2.8 or 3.x.")
    return version
