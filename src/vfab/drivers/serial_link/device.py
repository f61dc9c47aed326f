"""What the simulated serial device does with the bytes that it hears, sans-IO."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfab.protocols.framing import Lines

__all__ = ["IDENTITY", "LineDevice"]

IDENTITY = "vfab,Serial simulator,0,1.0"
_COUNT_MAX = 10_000


@dataclass
class LineDevice:
    """Answers lines.

    `ECHO text` gives `text`; `*IDN?` names it; `COUNT n` answers `OK` and sends `tick 1` … `tick n`; `MUTE` is not
    answered; `BREAKS?` gives how many breaks it saw; anything else is `ERR unknown`.

    Attributes:
        echo: every byte comes back as it went in, and no line is looked at.
        breaks: how many breaks it saw.
    """

    echo: bool = False
    breaks: int = 0
    _lines: Lines = field(default_factory=Lines)

    def hear(self, data: bytes) -> bytes:
        """What it says to `data`."""
        if self.echo:
            return data
        said = [self._answer(line.decode("utf-8", "replace").strip()) for line in self._lines.feed(data)]
        return b"".join(said)

    def _answer(self, line: str) -> bytes:
        word, _, rest = line.partition(" ")
        match word.upper():
            case "ECHO":
                said = [rest]
            case "*IDN?":
                said = [IDENTITY]
            case "COUNT" if rest.isdecimal():
                said = ["OK", *(f"tick {number}" for number in range(1, min(int(rest), _COUNT_MAX) + 1))]
            case "BREAKS?":
                said = [str(self.breaks)]
            case "MUTE":
                said = []
            case _:
                said = ["ERR unknown"]
        return "".join(f"{text}\r\n" for text in said).encode()
