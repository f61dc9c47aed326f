"""Real-time commands: single bytes that the firmware picks out of the stream at once, wherever they stand."""

from __future__ import annotations

from enum import Enum

__all__ = ["REALTIME_BYTES", "Realtime"]


class Realtime(Enum):
    """The real-time commands of GRBL 1.1; they take no room in the receive buffer and get no `ok`."""

    STATUS = 0x3F
    """`?`: report the status."""
    HOLD = 0x21
    """`!`: slow down to a stand-still, keep everything."""
    RESUME = 0x7E
    """`~`: go on after a hold or a closed door."""
    RESET = 0x18
    """Ctrl-X: soft reset; forgets the buffers, stops the spindle; loses the position if it moves."""
    DOOR = 0x84
    """Safety door: hold, and switch the spindle off."""
    JOG_CANCEL = 0x85
    """End the jog, and forget the jogs that wait."""
    FEED_100 = 0x90
    FEED_PLUS_10 = 0x91
    FEED_MINUS_10 = 0x92
    FEED_PLUS_1 = 0x93
    FEED_MINUS_1 = 0x94
    RAPID_100 = 0x95
    RAPID_50 = 0x96
    RAPID_25 = 0x97
    SPINDLE_100 = 0x99
    SPINDLE_PLUS_10 = 0x9A
    SPINDLE_MINUS_10 = 0x9B
    SPINDLE_PLUS_1 = 0x9C
    SPINDLE_MINUS_1 = 0x9D
    SPINDLE_STOP = 0x9E
    """In a hold only: switch the spindle off, or on again."""
    FLOOD = 0xA0
    MIST = 0xA1

    @property
    def data(self) -> bytes:
        """The byte to send."""
        return bytes([self.value])


REALTIME_BYTES = frozenset(command.value for command in Realtime)
"""What no line may hold; the firmware drops all bytes from 0x80, known or not."""
