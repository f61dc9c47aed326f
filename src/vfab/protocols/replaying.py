"""A recorded conversation, played again to whoever talks: what the device said comes when the client has said its part.

The client's part is cut into messages: each ends with a line end, or where the device spoke next. What the device said
waits for the messages that came before it in the recording, and then for as long as the device took.

A client that says something else is followed: a message that comes later in the recording means that it skipped some,
one that came before is answered as it was then, and what was never said is not answered. The first such difference is
kept, for who wants none.

A short word of letters that the device repeated, where the client now says another one of the same length, is a word
made up to tell answers apart (as for an EiBotBoard): it is no difference, and the device repeats the new one.
"""

from __future__ import annotations

import bisect
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from vfab.model.errors import ConfigurationError
from vfab.protocols.recording import LinkEntry, LinkEvent, Recording

__all__ = ["Difference", "Replay"]

STALLED_S = 0.5
"""A client that waits so long in the middle of what it once said without waiting is answered all the same."""

_WORD_MAX, _WORD_SOON = 8, 3
_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a client left the recording: its line (0: behind the end), what was expected there, what came instead."""

    line: int
    expected: bytes
    found: bytes

    def __str__(self) -> str:
        said = f"the client said {_shown(self.found)}" if self.found else "the client said nothing more"
        if not self.line:
            return f"{said} after the end of the recording"
        return f"line {self.line}: {said} where the recording has {_shown(self.expected)}"


def _shown(data: bytes) -> str:
    text = repr(data)[1:]
    return text if len(text) <= 60 else f"{text[:57]}…"


@dataclass(frozen=True, slots=True)
class _Message:
    data: bytes
    run: int
    """Number of the first message that the client sent without hearing anything in between."""
    line: int


@dataclass(frozen=True, slots=True)
class _Saying:
    data: bytes
    after: int
    """How many messages must have come."""
    delay_s: float


@dataclass(slots=True)
class _Part:
    """What passed on one connection."""

    messages: list[_Message]
    sayings: list[_Saying]


class Replay:
    """The device's side of a recorded conversation. Feed it with what the client says, and send what `due` gives.

    Args:
        recording: of a link.
        speed: how many times faster than it was; 0 means without any delay.
        loop: begin anew when all was said.
        now_s: the time at which it begins; all times are of one clock, whichever.

    Attributes:
        difference: the first one, or None.
        unknown: how many messages were not answered because nobody ever said them.

    Raises ConfigurationError: the recording is of a stream, or has nothing in it.
    """

    def __init__(self, recording: Recording, *, speed: float = 1.0, loop: bool = False, now_s: float = 0.0) -> None:
        self._parts = list(_parts(recording))
        if not any(part.messages or part.sayings for part in self._parts):
            raise ConfigurationError(
                f"{recording.name}: nothing was said on this link",
                context={"file": recording.name, "field": "kind"},
                remedy="Record again, and use the device meanwhile."
                if recording.header.kind == "link"
                else "This is a recorded stream, which the driver `replay` streams again.",
            )
        self._speed = speed
        self._loop = loop
        self.difference: Difference | None = None
        self.unknown = 0
        self._connections = 0
        self._last_s = now_s
        self._begin_part(0, now_s)

    # -- events -------------------------------------------------------------------------------------------------------

    def connected(self, now_s: float) -> None:
        """A client has come: the next recorded connection is played; after the last, the first again."""
        self._begin_part(self._connections % len(self._parts), now_s)
        self._connections += 1

    def receive(self, data: bytes, now_s: float) -> None:
        """The client has said `data`."""
        self._heard_s = now_s
        self._held += data
        while self._held:
            size = self._match(now_s)
            if not size:
                return
            del self._held[:size]

    def due(self, now_s: float) -> bytes:
        """What the device says by `now_s`; b"" for nothing."""
        said = bytearray()
        while (when := self.next_s()) is not None and when <= now_s:
            saying = self._queue.popleft() if self._queue else self._take()
            said += self._words(saying.data)
            self._last_s = max(self._last_s, when)
            if self._loop and self._over():
                self._begin_part((self._number + 1) % len(self._parts), now_s)
        return bytes(said)

    def next_s(self) -> float | None:
        """When `due` has something next; None: not before the client speaks."""
        if self._queue:
            return max(self._last_s, self._reached_s) + self._scaled(self._queue[0].delay_s)
        if self._said >= len(self._part.sayings):
            return None
        saying = self._part.sayings[self._said]
        if self._part.messages[saying.after - 1].run < self._heard:  # it once said more before it waited
            return self._heard_s + STALLED_S
        return None

    def finished(self) -> bool:
        """All that was recorded has been said, by both."""
        return self._over() and self._number == len(self._parts) - 1

    def missing(self) -> Difference | None:
        """What the client has not said, when it is at its end; None: nothing."""
        for number in range(self._number, len(self._parts)):
            heard = self._heard if number == self._number else 0
            messages = self._parts[number].messages
            if heard < len(messages):
                return Difference(messages[heard].line, messages[heard].data, b"")
        return None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _begin_part(self, number: int, now_s: float) -> None:
        self._number, self._part = number, self._parts[number]
        self._heard = self._said = 0
        self._held = bytearray()
        self._queue: deque[_Saying] = deque()
        self._said_for: dict[bytes, bytes] = {}
        self._last_s = self._reached_s = self._heard_s = now_s
        self._line_up()

    def _scaled(self, seconds: float) -> float:
        return seconds / self._speed if self._speed else 0.0

    def _over(self) -> bool:
        return self._heard >= len(self._part.messages) and self._said >= len(self._part.sayings) and not self._queue

    def _take(self) -> _Saying:
        """What the client waits for although it has not said all that came before."""
        self._said += 1
        self._differs(self._heard, b"")
        return self._part.sayings[self._said - 1]

    def _line_up(self) -> None:
        """What may be said now lines up: answers keep the order of what they answer."""
        sayings = self._part.sayings
        while self._said < len(sayings) and sayings[self._said].after <= self._heard:
            self._queue.append(sayings[self._said])
            self._said += 1

    def _match(self, now_s: float) -> int:
        """How many bytes of what is held were understood; 0: more is needed."""
        messages = self._part.messages
        if self._heard < len(messages):
            expected = self._words(messages[self._heard].data)
            if self._held.startswith(expected) or self._is_new_word(expected):
                self._heard += 1
                self._reached_s = now_s
                self._line_up()
                return len(expected)
            if expected.startswith(bytes(self._held)):
                return 0
        return self._elsewhere(now_s)

    def _words(self, data: bytes) -> bytes:
        for old, new in self._said_for.items():
            data = data.replace(old, new)
        return data

    def _is_new_word(self, expected: bytes) -> bool:
        """Whether what is held begins with another made-up word than `expected`; it is then said instead of that."""
        found = bytes(self._held[: len(expected)])
        old, new = expected.rstrip(b"\r\n"), found.rstrip(b"\r\n")
        if not (2 <= len(old) <= _WORD_MAX and old.isalpha() and new.isalpha() and len(old) == len(new)):
            return False
        coming = self._part.sayings[self._said : self._said + _WORD_SOON]
        if found[len(new) :] != expected[len(old) :] or not any(old in self._words(saying.data) for saying in coming):
            return False
        recorded = self._part.messages[self._heard].data.rstrip(b"\r\n")
        self._said_for = {recorded: new} if recorded != new else {}
        return True

    def _elsewhere(self, now_s: float) -> int:
        """The client says something else than what comes next."""
        messages, held = self._part.messages, bytes(self._held)
        fitting = [number for number, message in enumerate(messages) if held.startswith(message.data)]
        if not fitting:
            whole = _LINES.match(held)
            assert whole is not None
            if not held.endswith((b"\r", b"\n")) and any(message.data.startswith(held) for message in messages):
                return 0
            self._differs(self._heard, whole[0])
            self.unknown += 1
            return len(whole[0])
        longest = max(len(messages[number].data) for number in fitting)
        fitting = [number for number in fitting if len(messages[number].data) == longest]
        self._differs(self._heard, messages[fitting[0]].data)
        before = bisect.bisect_left(fitting, self._heard)
        if before and (fitting[before - 1] == self._heard - 1 or before == len(fitting)):
            self._repeat(fitting[before - 1], now_s)
        else:
            self._skip_to(fitting[before], now_s)
        return longest

    def _repeat(self, number: int, now_s: float) -> None:
        """Answer as the message `number` was answered; the conversation stays where it is."""
        self._reached_s = now_s
        self._queue += [saying for saying in self._part.sayings if saying.after == number + 1]

    def _skip_to(self, number: int, now_s: float) -> None:
        """Go on behind the message `number`; what was to be said before it is not said."""
        self._heard, self._reached_s = number + 1, now_s
        while self._said < len(self._part.sayings) and self._part.sayings[self._said].after <= number:
            self._said += 1
        self._line_up()

    def _differs(self, number: int, found: bytes) -> None:
        if self.difference is None:
            here = self._part.messages[number] if number < len(self._part.messages) else None
            self.difference = Difference(here.line, here.data, found) if here else Difference(0, b"", found)


def _parts(recording: Recording) -> Iterable[_Part]:
    """One part for each connection, in the order of their beginnings."""
    entries: dict[int, list[LinkEntry]] = {}
    began: dict[int, float] = {}
    for entry in recording.entries:
        if isinstance(entry, LinkEntry | LinkEvent):
            began.setdefault(entry.connection, entry.t)
            if isinstance(entry, LinkEntry):
                entries.setdefault(entry.connection, []).append(entry)
    return [_part(entries[number], began[number]) for number in began if number in entries]


def _part(entries: list[LinkEntry], began_s: float) -> _Part:
    part = _Part([], [])
    held, line, run, before_s = b"", 0, 0, began_s

    def message(data: bytes) -> None:
        part.messages.append(_Message(data, run, line))

    for entry in entries:
        if entry.source == "client":
            if not held:
                line = entry.line
            held += entry.data
            while (found := _LINES.match(held)) and (found[0] != held or held.endswith((b"\r", b"\n"))):
                message(found[0])
                held = held[found.end() :]
        else:
            if held:
                message(held)
                held = b""
            part.sayings.append(_Saying(entry.data, len(part.messages), max(0.0, entry.t - before_s)))
            run = len(part.messages)
        before_s = entry.t
    if held:
        message(held)
    return part
