"""The host's side: character counting, lines that must go alone, and replies matched to lines. No I/O, no clock.

The firmware has a receive buffer of 128 bytes and drops what does not fit, without a word. It answers each line by
`ok` or `error:n`, in order, once the line has left that buffer. So the sum of all lines that were not answered yet must
stay below its size: 127 bytes, unless `[OPT:…]` tells another size. While the EEPROM is written no byte is received at
all on an AVR; a line that does so waits until all others are answered, and goes alone (GRBL 1.1, "Interfacing").
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from vfab.model.errors import Refused
from vfab.protocols.grbl.messages import (
    Failed,
    Line,
    LineSplitter,
    Message,
    Ok,
    Options,
    Report,
    Welcome,
    parse_line,
)
from vfab.protocols.grbl.realtime import Realtime
from vfab.protocols.grbl.settings import writes_eeprom
from vfab.protocols.grbl.status import Position, Status, StatusReader

__all__ = ["LINE_TEXT_MAX", "STATUS_INTERVAL_S", "WINDOW_BYTES", "Client", "check_text"]

WINDOW_BYTES = 127
"""What may be under way to a firmware that has not told its buffer's size."""
LINE_TEXT_MAX = 79
"""GRBL's line buffer holds this many characters; longer lines are `error:11`."""
STATUS_INTERVAL_S = 0.2
"""The status is asked for at most this often: more costs the firmware time that it needs for steps."""


def check_text(text: str) -> str:
    """`text` if it can be sent as a line.

    Raises Refused: it is too long, or has bytes that are no part of a line: control characters, real-time commands,
    anything that is not ASCII.
    """
    bad = [char for char in text if not " " <= char <= "}" or char in "!?"]
    if bad or len(text) > LINE_TEXT_MAX:
        what = f"has {bad[0]!r}" if bad else f"has {len(text)} characters, and {LINE_TEXT_MAX} are possible"
        raise Refused(
            f"{text[:40]!r} is no line for GRBL: it {what}",
            context={"line": text[:200]},
            remedy="Send one line of plain ASCII; real-time commands (!, ?, ~ and others) have commands of their own.",
        )
    return text


class Client:
    """The state of one conversation.

    Attributes:
        window: how many bytes may be under way.
        welcome: the last welcome; None before one came.
        status: the last status report, completed; None before one came.
        in_flight: lines that were sent and not answered, oldest first.
        waiting: lines that were not sent yet, oldest first.
    """

    def __init__(self, window: int = WINDOW_BYTES) -> None:
        self.window = window
        self.welcome: Welcome | None = None
        self.status: Status | None = None
        self.in_flight: deque[Line] = deque()
        self.waiting: deque[Line] = deque()
        self._under_way = 0
        self._numbered = 0
        self._reader = StatusReader()
        self._splitter = LineSplitter()
        self._expects_welcome = False
        self._asked_s = float("-inf")

    # sending -----------------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Bytes that the firmware may still have in its receive buffer."""
        return self._under_way

    @property
    def idle(self) -> bool:
        """Every line is answered."""
        return not self.in_flight and not self.waiting

    def queue(self, text: str) -> Line:
        """Take a line, to be sent by `outgoing` in its turn. Raises what `check_text` raises."""
        check_text(text)
        self._numbered += 1
        line = Line(text, self._numbered, len(text) + 1)
        self.waiting.append(line)
        return line

    def outgoing(self) -> bytes:
        """The bytes that may be sent now."""
        out = bytearray()
        while self.waiting and self._may_go(self.waiting[0]):
            line = self.waiting.popleft()
            self.in_flight.append(line)
            self._under_way += line.size
            out += line.text.encode("ascii") + b"\n"
        return bytes(out)

    def fits(self, text: str) -> bool:
        """Whether a line would be sent at once."""
        return not self.waiting and self._may_go(Line(text, 0, len(text) + 1))

    def _may_go(self, line: Line) -> bool:
        if not self.in_flight:
            return True
        if writes_eeprom(line.text) or writes_eeprom(self.in_flight[-1].text):
            return False
        return self._under_way + line.size <= self.window

    def realtime(self, command: Realtime) -> bytes:
        """The byte of a real-time command; it may be sent at any time. A reset forgets all lines."""
        if command is Realtime.RESET:
            self._forget()
            self._expects_welcome = True
        return command.data

    def ask_status(self, now_s: float) -> bytes:
        """`?`, or nothing when it was asked for less than 0.2 s ago.

        Args:
            now_s: a clock that never goes back, seconds.
        """
        if now_s - self._asked_s < STATUS_INTERVAL_S:
            return b""
        self._asked_s = now_s
        return Realtime.STATUS.data

    def know_offset(self, wco: Position) -> None:
        """The work coordinate offset, from another source than a report (`$#`)."""
        self._reader.wco = wco

    # receiving ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are complete now, in order. `Ok` and `Failed` name the line that they answer.

        A `Welcome` forgets all lines: their `ok` will not come. It is `expected` when a reset was sent before it.
        """
        return [self._take(parse_line(text)) for text in self._splitter.feed(data)]

    def _take(self, message: Message) -> Message:
        match message:
            case Ok() | Failed():
                return replace(message, line=self._answered())
            case Report(status=status):
                self.status = self._reader.complete(status)
                return replace(message, status=self.status)
            case Welcome():
                self.welcome = replace(message, expected=self._expects_welcome)
                self._expects_welcome = False
                self._forget()
                self._reader.forget()
                return self.welcome
            case Options(rx_bytes=int(size)) if size > 1:
                self.window = size - 1
        return message

    def _answered(self) -> Line | None:
        # answers that were under way when the reset was sent belong to lines that are forgotten
        if not self.in_flight or self._expects_welcome:
            return None
        line = self.in_flight.popleft()
        self._under_way -= line.size
        return line

    def _forget(self) -> None:
        self.in_flight.clear()
        self.waiting.clear()
        self._under_way = 0
