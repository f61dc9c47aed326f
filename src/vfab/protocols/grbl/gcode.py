"""A line of G-code as the firmware reads it: words, modal groups, and the errors that it answers with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Block", "GcodeError", "ModalState", "read_block"]

_WORD = re.compile(r"([A-Z])([+-]?(?:\d+\.?\d*|\.\d+))")
_MOTION = {"G0", "G1", "G2", "G3", "G38.2", "G38.3", "G38.4", "G38.5", "G80"}
_GROUPS: dict[str, str] = {
    **dict.fromkeys(("G4", "G10", "G28", "G28.1", "G30", "G30.1", "G53", "G92", "G92.1"), "action"),
    **dict.fromkeys(_MOTION, "motion"),
    **dict.fromkeys(("G17", "G18", "G19"), "plane"),
    **dict.fromkeys(("G90", "G91"), "distance"),
    "G91.1": "arc", "G40": "cutter", "G61": "control",
    **dict.fromkeys(("G93", "G94"), "feed mode"),
    **dict.fromkeys(("G20", "G21"), "units"),
    **dict.fromkeys(("G43.1", "G49"), "tool length"),
    **{f"G{number}": "coordinates" for number in range(54, 60)},
    **dict.fromkeys(("M0", "M1", "M2", "M30"), "stop"),
    **dict.fromkeys(("M3", "M4", "M5"), "spindle"),
    **dict.fromkeys(("M7", "M8", "M9"), "coolant"),
}  # fmt: skip
_VALUES = "FIJKLNPRSTXYZ"
_UNSUPPORTED = frozenset({"G38.2", "G38.3", "G38.4", "G38.5"})


class GcodeError(Exception):
    """The firmware's `error:code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"error:{code}")
        self.code = code


@dataclass(slots=True)
class Block:
    """One line: its command of each modal group, and its value words."""

    groups: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    @property
    def axes(self) -> dict[str, float]:
        """The axis words."""
        return {letter: self.values[letter] for letter in "XYZ" if letter in self.values}


@dataclass(slots=True)
class ModalState:
    """What lines leave behind for the next ones. Feed is in the units of `G20`/`G21` already turned into mm/min."""

    motion: str = "G0"
    coordinates: str = "G54"
    plane: str = "G17"
    units: str = "G21"
    distance: str = "G90"
    feed_mode: str = "G94"
    spindle: str = "M5"
    coolant: str = "M9"
    tool: int = 0
    feed: float = 0.0
    speed: float = 0.0

    def words(self) -> str:
        """As `[GC:…]` says it."""
        feed = self.feed / 25.4 if self.units == "G20" else self.feed
        return (
            f"{self.motion} {self.coordinates} {self.plane} {self.units} {self.distance} {self.feed_mode} "
            f"{self.spindle} {self.coolant} T{self.tool} F{feed:.0f} S{self.speed:.0f}"
        )


def read_block(text: str) -> Block:
    """Read a line that `spelled` has cleaned.

    Raises GcodeError: 1 or 2 for what is no word, 20 unknown, 21 two of one group, 23 not whole, 25 repeated.
    """
    block = Block()
    at = 0
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            raise GcodeError(2 if text[at].isalpha() else 1)
        at = found.end()
        letter, number = found[1], float(found[2])
        if letter in "GM":
            _add_command(block, letter, number)
        elif letter in _VALUES:
            _add_value(block, letter, number)
        else:
            raise GcodeError(20)
    return block


def _add_command(block: Block, letter: str, number: float) -> None:
    name = f"{letter}{number:g}"
    group = _GROUPS.get(name)
    if group is None or name in _UNSUPPORTED:
        raise GcodeError(23 if letter == "M" and number != int(number) else 20)
    if group in block.groups:
        raise GcodeError(21)
    block.groups[group] = name


def _add_value(block: Block, letter: str, number: float) -> None:
    if letter in block.values:
        raise GcodeError(25)
    if letter in "FNPST" and number < 0:
        raise GcodeError(4)
    if letter == "N" and number > 9_999_999:
        raise GcodeError(27)
    block.values[letter] = number
