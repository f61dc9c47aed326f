"""Faults on request: `KIND@AFTER`, for instance `unplug@120` (after 120 commands) or `silent@2.5s`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from vfab.model.errors import ConfigurationError

__all__ = ["SLOW_S", "Fault", "Kind", "garbled"]

SLOW_S = 0.25
"""How much later a slow board answers, each time."""
_FORM = re.compile(r"^([a-z]+)@(?:(\d+)|(\d+(?:\.\d*)?|\.\d+)s)$")


class Kind(Enum):
    """What goes wrong."""

    DROP = "drop"
    """One answer is lost."""
    GARBLE = "garble"
    """One answer is damaged; its line ends stay."""
    SLOW = "slow"
    """From now on every answer comes 0.25 s late."""
    SILENT = "silent"
    """From now on the board takes no commands."""
    UNPLUG = "unplug"
    """The cable is pulled."""
    RESET = "reset"
    """The processor begins anew, as after a dip of its supply. GRBL machines only, as the next two."""
    ALARM = "alarm"
    """A limit switch closes."""
    ERROR = "error"
    """A line is read with a letter that it did not have, and refused."""

    @property
    def limits(self) -> bool:
        """It strikes after a whole command, before the next one is taken."""
        return self not in (Kind.DROP, Kind.GARBLE, Kind.SLOW)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and when: after so many commands, or so many seconds after the first byte came."""

    kind: Kind
    commands: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `KIND@AFTER`.

        Raises ConfigurationError: unknown kind, or AFTER is neither a number of commands nor of seconds.
        """
        found = _FORM.match(text.strip().lower())
        kinds = {kind.value: kind for kind in Kind}
        if not found or found[1] not in kinds:
            raise ConfigurationError(
                f"{text!r} is not a fault.",
                context={"value": text, "kinds": sorted(kinds)},
                remedy=f"Write KIND@AFTER with KIND one of {', '.join(kinds)} and AFTER a number of commands (120) "
                "or of seconds (2.5s).",
            )
        if found[2] is not None:
            return cls(kinds[found[1]], commands=int(found[2]))
        return cls(kinds[found[1]], seconds=float(found[3]))


def garbled(answer: bytes) -> bytes:
    """A damaged answer: every letter and digit is another, line ends stay."""
    return bytes(byte if byte in b"\r\n" else byte ^ 0x15 for byte in answer)
