"""An instrument's side of SCPI: what a simulator answers with.

`ScpiServer` takes bytes and gives bytes. Its commands are handlers; it keeps the error queue and the status bytes of
IEEE 488.2 by itself. A handler that cannot answer at once returns `PENDING`: the server is then busy, holds what comes,
and goes on when `complete` is called, as an instrument in its trigger model does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from vfab.model.errors import ProtocolError
from vfab.protocols.scpi.framing import Framer
from vfab.protocols.scpi.messages import Unit, parse_message
from vfab.protocols.scpi.mnemonics import HeaderPattern, is_word
from vfab.protocols.scpi.replies import ErrorEntry
from vfab.protocols.scpi.values import parse_block, parse_boolean, parse_number, unquote

__all__ = ["ERRORS", "PENDING", "Call", "EventStatus", "Pending", "ScpiError", "ScpiServer", "StatusByte"]

ERRORS: Final = {
    -100: "Command error", -101: "Invalid character", -102: "Syntax error", -104: "Data type error",
    -108: "Parameter not allowed", -109: "Missing parameter", -110: "Command header error", -113: "Undefined header",
    -120: "Numeric data error", -128: "Numeric data not allowed", -131: "Invalid suffix",
    -141: "Invalid character data", -151: "Invalid string data", -161: "Invalid block data",
    -200: "Execution error", -210: "Trigger error",
    -211: "Trigger ignored", -213: "Init ignored", -220: "Parameter error", -221: "Settings conflict",
    -222: "Parameter data out of range", -223: "Too much data", -224: "Illegal parameter value",
    -230: "Data corrupt or stale", -240: "Hardware error", -241: "Hardware missing", -300: "Device-specific error",
    -310: "System error", -330: "Self-test failed", -350: "Queue overflow", -400: "Query error",
    -410: "Query INTERRUPTED", -420: "Query UNTERMINATED",
}  # fmt: skip
"""The texts of SCPI-99 volume 2, 21.8."""
OVERFLOW = -350


class EventStatus(IntFlag):
    """The standard event status register (IEEE 488.2, 11.5.1)."""

    OPERATION_COMPLETE = 1
    QUERY_ERROR = 4
    DEVICE_ERROR = 8
    EXECUTION_ERROR = 16
    COMMAND_ERROR = 32
    USER_REQUEST = 64
    POWER_ON = 128


class StatusByte(IntFlag):
    """The status byte (IEEE 488.2, 11.2.1; bit 2 by SCPI-99)."""

    ERROR_AVAILABLE = 4
    QUESTIONABLE = 8
    MESSAGE_AVAILABLE = 16
    EVENT_SUMMARY = 32
    MASTER_SUMMARY = 64
    OPERATION = 128


class ScpiError(Exception):
    """A handler refuses: the entry goes into the error queue, nothing is answered."""

    def __init__(self, code: int, message: str = "", detail: str = "") -> None:
        super().__init__(code)
        self.entry = ErrorEntry(code, message or ERRORS.get(code, "Device-specific error"), detail)


class Pending:
    """The answer, or only the end, comes later."""


PENDING: Final = Pending()


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler is told: the arguments, and the numeric suffixes of the header."""

    header: str
    arguments: tuple[bytes, ...] = ()
    suffixes: tuple[int, ...] = ()

    def expect(self, least: int, most: int | None = None) -> None:
        """Refuse fewer than `least` arguments (-109), or more than `most` (-108; default: `least`)."""
        if len(self.arguments) < least:
            raise ScpiError(-109)
        if len(self.arguments) > (least if most is None else most):
            raise ScpiError(-108)

    def text(self, number: int = 0) -> str:
        """An argument as it was written."""
        if number >= len(self.arguments):
            raise ScpiError(-109)
        return self.arguments[number].decode("latin-1")

    def string(self, number: int = 0) -> str:
        """A quoted argument's text; -151 when it has no quotes."""
        text = self.text(number)
        if text[:1] not in {'"', "'"}:
            raise ScpiError(-151)
        return unquote(text)

    def word(self, *choices: str, number: int = 0) -> str:
        """Which of `choices` (`LINear`) an argument is; -224 when it is none of them."""
        text = self.text(number)
        for choice in choices:
            if is_word(text, choice):
                return choice
        raise ScpiError(-224)

    def boolean(self, number: int = 0) -> bool:
        """ON, OFF, 1, 0."""
        try:
            return parse_boolean(self.text(number))
        except ProtocolError:
            raise ScpiError(-104) from None

    def number(
        self, number: int = 0, *, minimum: float = float("-inf"), maximum: float = float("inf"), unit: str = "",
        default: float | None = None,
    ) -> float:  # fmt: skip
        """A number between `minimum` and `maximum` (-222), or MIN, MAX, DEF; -104 when it is none."""
        text = self.text(number)
        for word, bound in (("MINimum", minimum), ("MAXimum", maximum), ("DEFault", default)):
            if is_word(text, word):
                if bound is None:
                    raise ScpiError(-224)
                return bound
        try:
            value = float(parse_number(text, unit))
        except ProtocolError:
            raise ScpiError(-104) from None
        if not minimum <= value <= maximum:
            raise ScpiError(-222)
        return value

    def block(self, number: int = 0) -> bytes:
        """A block's content; -161 when it is none."""
        self.text(number)
        try:
            return parse_block(self.arguments[number])
        except ProtocolError:
            raise ScpiError(-161) from None


Answer = str | bytes | Pending | None
Handler = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class _Entry:
    pattern: HeaderPattern
    handler: Handler
    immediate: bool


@dataclass(slots=True)
class _Work:
    """A message under way: the units that are left, and what was answered."""

    units: deque[Unit]
    said: list[bytes] = field(default_factory=list)


class ScpiServer:
    """The instrument's side of one conversation.

    Args:
        identity: the answer to `*IDN?`.
        queue_size: how many errors are kept; one more replaces the last by -350.
        message_max: more bytes than this without a line end are forgotten, with error -223.

    Attributes:
        errors: the error queue, oldest first.
        handled: how many units were carried out, and how many more failed.
    """

    def __init__(self, identity: str, *, queue_size: int = 10, message_max: int = 1 << 20) -> None:
        self.identity = identity
        self.errors: deque[ErrorEntry] = deque()
        self.event_status = EventStatus.POWER_ON
        self.event_enable = 0
        self.service_enable = 0
        self.handled = 0
        self.on_reset: Callable[[], None] = lambda: None
        self.self_test: Callable[[], int] = lambda: 0
        self.summary: Callable[[], int] = lambda: 0
        self._queue_size = queue_size
        self._framer = Framer(line_max=message_max)
        self._entries: list[_Entry] = []
        self._found: dict[str, tuple[_Entry, tuple[int, ...]] | None] = {}
        self._waiting: deque[bytes] = deque()
        self._work: _Work | None = None
        self._speaking = False
        self._install()

    # -- the command tree ---------------------------------------------------------------------------------------------

    def on(self, pattern: str, handler: Handler, *, immediate: bool = False) -> None:
        """Have `handler` called for a header such as `[:SOURce]:VOLTage[:LEVel]`; the last one registered wins.

        `immediate`: also while the server is busy; the rest of that message waits its turn.
        """
        self._entries.insert(0, _Entry(HeaderPattern(pattern), handler, immediate))
        self._found.clear()

    def setting(self, pattern: str, take: Callable[[Call], None], tell: Callable[[], str]) -> None:
        """A command that sets, and its query."""

        def set_it(call: Call) -> None:
            call.expect(1)
            take(call)

        self.on(pattern, set_it)
        self.on(pattern + "?", lambda call: tell())

    # -- the conversation ---------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """A handler's end is awaited."""
        return self._work is not None

    def receive(self, data: bytes) -> bytes:
        """Take what came; what is to be sent at once."""
        try:
            messages = self._framer.receive(data)
        except ProtocolError:
            self.push(ErrorEntry(-223, ERRORS[-223]))
            return b""
        sent = b""
        for message in messages:
            if self.busy and self._is_immediate(message):
                sent += self._carry_out(_Work(deque(parse_message(message))))
            else:
                self._waiting.append(message)
                sent += self.resume()
        return sent

    def complete(self, answer: str | bytes | None = None) -> bytes:
        """What `PENDING` stood for has come to its end, with `answer` if it was a query; what is to be sent."""
        return self.finish(answer) + self.resume()

    def finish(self, answer: str | bytes | None = None) -> bytes:
        """The first half of `complete`: the rest of that message. `resume` then goes on with what came meanwhile."""
        work, self._work = self._work, None
        if work is None:
            raise ValueError("nothing is pending")
        if answer is not None:
            work.said.append(_plain(answer))
        return self._carry_out(work)

    def resume(self) -> bytes:
        """Carry out the messages that wait; what is to be sent."""
        sent = b""
        while self._waiting and not self.busy:
            sent += self._carry_out(_Work(deque(parse_message(self._waiting.popleft()))))
        return sent

    def refuse(self, error: ScpiError) -> bytes:
        """What `PENDING` stood for has failed; what is to be sent."""
        self.push(error.entry)
        return self.complete()

    def clear(self) -> None:
        """A device clear: what has come and what is pending is forgotten; errors and settings stay."""
        self._framer.clear()
        self._waiting.clear()
        self._work = None

    def push(self, entry: ErrorEntry) -> None:
        """Put an error into the queue, and its class into the event status."""
        self.event_status |= _status_of(entry.code)
        if len(self.errors) >= self._queue_size:
            self.errors[-1] = ErrorEntry(OVERFLOW, ERRORS[OVERFLOW])
        else:
            self.errors.append(entry)

    def status_byte(self) -> int:
        """The status byte, as `*STB?` tells it."""
        status = self.summary()
        if self.errors:
            status |= StatusByte.ERROR_AVAILABLE
        if self.event_status & self.event_enable:
            status |= StatusByte.EVENT_SUMMARY
        if self._speaking:
            status |= StatusByte.MESSAGE_AVAILABLE
        if status & self.service_enable & ~StatusByte.MASTER_SUMMARY:
            status |= StatusByte.MASTER_SUMMARY
        return int(status)

    def next_error(self) -> ErrorEntry:
        """The oldest error, taken out; code 0 when there is none."""
        return self.errors.popleft() if self.errors else ErrorEntry(0, "No error")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _is_immediate(self, message: bytes) -> bool:
        units = parse_message(message)
        found = self._lookup(units[0].header) if units else None
        return found is not None and found[0].immediate

    def _carry_out(self, work: _Work) -> bytes:
        while work.units:
            unit = work.units.popleft()
            self._speaking = bool(work.said)
            try:
                answer = self._do(unit)
            except ScpiError as error:
                self.push(error.entry)
                if -200 < error.entry.code <= -100:
                    work.units.clear()  # a command error: the rest of the message cannot be trusted
                continue
            self.handled += 1
            if isinstance(answer, Pending):
                if self.busy:
                    raise AssertionError("two handlers are pending at once")
                self._work = work
                return b""
            if answer is not None:
                work.said.append(_plain(answer))
        self._speaking = False
        return b";".join(work.said) + b"\n" if work.said else b""

    def _do(self, unit: Unit) -> Answer:
        found = self._lookup(unit.header)
        if found is None:
            raise ScpiError(-113, detail=unit.header[:60])
        entry, suffixes = found
        return entry.handler(Call(unit.header, unit.arguments, suffixes))

    def _lookup(self, header: str) -> tuple[_Entry, tuple[int, ...]] | None:
        if header.startswith(":*"):  # against 488.2, sent all the same (by QCoDeS to a 2400), and taken
            header = header[1:]
        if header not in self._found:
            if len(self._found) > 4096:
                self._found.clear()
            matches = ((entry, entry.pattern.match(header)) for entry in self._entries)
            self._found[header] = next(((entry, hit) for entry, hit in matches if hit is not None), None)
        return self._found[header]

    def _install(self) -> None:
        self.on("*IDN?", lambda call: self.identity)
        self.on("*CLS", lambda call: self._clear_status())
        self.on("*ESR?", lambda call: self._take_event_status())
        self.on("*ESE", lambda call: self._set_enable(call, event=True))
        self.on("*ESE?", lambda call: str(self.event_enable))
        self.on("*SRE", lambda call: self._set_enable(call, event=False))
        self.on("*SRE?", lambda call: str(self.service_enable))
        self.on("*STB?", lambda call: str(self.status_byte()))
        self.on("*OPC", lambda call: self._operation_complete())
        self.on("*OPC?", lambda call: "1")
        self.on("*WAI", lambda call: None)
        self.on("*RST", lambda call: self.on_reset())
        self.on("*TST?", lambda call: str(self.self_test()))
        self.on(":SYSTem:ERRor[:NEXT]?", lambda call: self.next_error().to_wire())
        self.on(":SYSTem:ERRor:COUNt?", lambda call: str(len(self.errors)))
        self.on(":SYSTem:ERRor:ALL?", lambda call: self._all_errors())
        self.on(":SYSTem:VERSion?", lambda call: "1999.0")

    def _clear_status(self) -> None:
        self.errors.clear()
        self.event_status = EventStatus(0)

    def _take_event_status(self) -> str:
        told, self.event_status = int(self.event_status), EventStatus(0)
        return str(told)

    def _operation_complete(self) -> None:
        self.event_status |= EventStatus.OPERATION_COMPLETE

    def _set_enable(self, call: Call, *, event: bool) -> None:
        call.expect(1)
        value = int(call.number(minimum=0, maximum=255))
        if event:
            self.event_enable = value
        else:
            self.service_enable = value & ~StatusByte.MASTER_SUMMARY

    def _all_errors(self) -> str:
        entries: Sequence[ErrorEntry] = tuple(self.errors) or (ErrorEntry(0, "No error"),)
        self.errors.clear()
        return ",".join(entry.to_wire() for entry in entries)


def _plain(answer: str | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.encode("latin-1", "replace")


def _status_of(code: int) -> EventStatus:
    """The bit that an error of this code sets: its hundreds say its class; positive ones are the device's own."""
    if code == 0:
        return EventStatus(0)
    classes = {
        -1: EventStatus.COMMAND_ERROR,
        -2: EventStatus.EXECUTION_ERROR,
        -3: EventStatus.DEVICE_ERROR,
        -4: EventStatus.QUERY_ERROR,
    }
    return classes.get(int(code / 100), EventStatus.DEVICE_ERROR)
