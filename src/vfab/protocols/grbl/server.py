"""The firmware's side of the wire: a receive buffer that drops what does not fit, real-time bytes, and lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from vfab.protocols.grbl.realtime import Realtime

__all__ = ["LINE_BUFFER", "RX_BYTES", "InputBuffer", "spelled"]

RX_BYTES = 128
"""GRBL 1.1's receive buffer."""
LINE_BUFFER = 80
_BY_VALUE = {command.value: command for command in Realtime}


class InputBuffer:
    """What arrives at the firmware: real-time bytes act at once, all others wait in a ring until they are read.

    Args:
        act: called with each real-time command, at its place in the stream.
        size: bytes that the ring holds.

    Attributes:
        dropped: bytes that were lost because the ring was full or the processor deaf.
        deaf: the processor writes its EEPROM and receives nothing; real-time bytes are lost, too.
        most: the largest number of bytes that ever waited.
    """

    def __init__(self, act: Callable[[Realtime], None], size: int = RX_BYTES) -> None:
        self.size = size
        self.dropped = 0
        self.deaf = False
        self.most = 0
        self._act = act
        self._ring: deque[int] = deque()
        self._line = bytearray()
        self._overflow = False

    @property
    def free(self) -> int:
        """Bytes that fit in."""
        return self.size - len(self._ring)

    def feed(self, data: bytes) -> None:
        """Bytes from the host."""
        for byte in data:
            if self.deaf:
                self.dropped += 1
            elif byte in _BY_VALUE:
                self._act(_BY_VALUE[byte])
            elif byte >= 0x80:
                continue  # unknown real-time commands are thrown away
            elif len(self._ring) >= self.size:
                self.dropped += 1
            else:
                self._ring.append(byte)
        self.most = max(self.most, len(self._ring))

    def clear(self) -> None:
        """Forget everything: a reset."""
        self._ring.clear()
        self._line.clear()
        self._overflow = False

    def next_line(self) -> tuple[str, bool] | None:
        """The next whole line as the parser sees it, and whether it was too long; None while there is none.

        Spaces and comments are left out and letters raised, as the firmware does while it reads; settings lines
        (`$`) keep what they have but for spaces.
        """
        while self._ring:
            byte = self._ring.popleft()
            if byte in b"\r\n":
                text, long = spelled(bytes(self._line)), self._overflow
                self._line.clear()
                self._overflow = False
                return text, long
            if len(self._line) >= 2 * LINE_BUFFER:
                self._overflow = True
            else:
                self._line.append(byte)
        return None


def spelled(line: bytes) -> str:
    """A line without spaces, comments in brackets or after `;`, and block deletes, in capitals."""
    kept: list[str] = []
    inside = False
    for char in line.decode("latin-1"):
        if inside:
            inside = char != ")"
        elif char == "(":
            inside = True
        elif char == ";":
            break
        elif char > " " and char != "/":
            kept.append(char.upper())
    return "".join(kept)
