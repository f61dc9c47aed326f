"""The board's side: bytes to commands, answers to bytes, in the spelling of each firmware and syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vfab.protocols.ebb.client import Syntax
from vfab.protocols.ebb.commands import (
    COMMANDS,
    LINE_MAX_BYTES,
    V3,
    Command,
    Firmware,
    Parameter,
    Shape,
    parameters,
)

__all__ = ["ERRORS", "Rejected", "Server"]

_PLAIN = re.compile(rb"[ -~\r]*\Z")
_DIGITS = re.compile(r"[0-9]+\Z")
_NUMBERS = re.compile(r"[A-Z][A-Z0-9]?(?:,-?[0-9]+)*\Z")

ERRORS = {
    1: "Invalid step rate",
    2: "TX Buffer overrun",
    3: "RX Buffer overrun",
    4: "Missing parameter(s)",
    6: "Invalid parameter value",
    7: "Extra parameter",
    10: "No checksum found but required",
}
"""The texts of the errors that say nothing about the command."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that the board's parser does not take.

    Attributes:
        name: the command's name as far as it could be read.
        code, text: of the error.
        command: 2.x only, a command that is executed although its line goes on after it.
    """

    name: str
    code: int
    text: str
    command: Command | None = None


class Server:
    """The serial protocol of a board with a given firmware, without any I/O. Boots in legacy syntax."""

    def __init__(self, firmware: Firmware) -> None:
        self.firmware = firmware
        self.syntax = Syntax.LEGACY
        self.acknowledges = True
        """CU,1: whether OK is said in legacy syntax."""
        self.checksums = False
        """CU,54: whether each command must end with one."""
        self._line = bytearray()
        self._lines: list[bytes | None] = []
        self._next = 0
        self._in_return = False
        # what most lines are read with: a kind, and the bounds of its parameters, none of them a text
        self._bounds = {
            name: (kind, [parameter.bounds(firmware) for parameter in parameters(kind)], _least(kind))
            for name, kind in COMMANDS.items()
            if kind.since <= firmware and not any(parameter.text for parameter in parameters(kind))
        }

    def reset(self) -> None:
        """What `R` and power-on do."""
        self.syntax, self.acknowledges, self.checksums = Syntax.LEGACY, True, False

    def feed(self, data: bytes) -> None:
        """Take in bytes from the host, cut anywhere."""
        if self._next:
            del self._lines[: self._next]
            self._next = 0
        *whole, rest = data.split(b"\r")
        longest = max(map(len, whole), default=0) + len(self._line)
        if longest + len(rest) >= LINE_MAX_BYTES or not _PLAIN.match(data):
            self._feed_slowly(data)
            return
        for part in whole:
            self._line += part
            if self._line or not self._in_return:
                self._lines.append(bytes(self._line))
                self._line.clear()
            self._in_return = True
        if rest:
            self._line += rest
            self._in_return = False

    def _feed_slowly(self, data: bytes) -> None:
        for byte in data:
            if byte in b"\r\n":
                if not self._in_return:
                    self._lines.append(bytes(self._line))
                    self._line.clear()
                self._in_return = True
                continue
            if byte == 8:
                del self._line[-1:]
            elif byte >= 32:
                self._line.append(byte)
                self._in_return = False
            if len(self._line) >= LINE_MAX_BYTES:
                self._line.clear()
                self._lines.append(None)

    @property
    def waiting(self) -> bool:
        """A whole line has come and was not yet taken."""
        return self._next < len(self._lines)

    def next_command(self) -> Command | Rejected | None:
        """The next whole line as a command, or what is wrong with it; None when there is none."""
        if self._next >= len(self._lines):
            return None
        line = self._lines[self._next]
        self._next += 1
        if line is None:
            return Rejected("", 3, ERRORS[3])
        text = line.decode("latin-1")
        if self.checksums:
            bad = self._checksum(text)
            if bad:
                return bad
            text = text[: text.rindex(",")]
        return self._parse(text)

    def _checksum(self, text: str) -> Rejected | None:
        name = text.split(",", 1)[0][:2].upper()
        body, comma, last = text.rpartition(",")
        if not comma or not _DIGITS.match(last) or len(last) > 3:
            return Rejected(name, 10, ERRORS[10])
        expected = -sum(body.encode("latin-1")) % 256
        if int(last) != expected:
            return Rejected(name, 9, f"Checksum incorrect, expected {expected}")
        return None

    def _parse(self, text: str) -> Command | Rejected:
        if _NUMBERS.match(text):
            word, *words = text.split(",")
            known = self._bounds.get(word)
            if known is not None and known[2] <= len(words) <= len(known[1]):
                numbers = [int(number) for number in words]
                if all(low <= number <= high for number, (low, high) in zip(numbers, known[1], strict=False)):
                    return known[0](*numbers)
        return self._parse_anything(text)

    def _parse_anything(self, text: str) -> Command | Rejected:
        name = text[:1] if text[1:2] in ("", ",") else text[:2]
        rest = text[len(name) :]
        name = _upper(name)
        kind = COMMANDS.get(name)
        if kind is None or kind.since > self.firmware:
            shown = name or "\r"
            codes = "".join(f"{ord(letter):02X}" for letter in shown)
            return Rejected(shown, 8, f"Unknown command '{shown}:{codes}'")
        values: list[int | str] = []
        for parameter in parameters(kind):
            value, rest = _take(parameter, rest)
            if value is None:
                break
            if isinstance(value, Rejected):
                return Rejected(name, value.code, value.text)
            if not _within(parameter, value, self.firmware):
                return Rejected(name, 6, ERRORS[6])
            values.append(value)
        if rest:
            done = kind(*values) if self.firmware < V3 else None
            return Rejected(name, 7, ERRORS[7], done)
        return kind(*values)

    # answers ---------------------------------------------------------------------------------------------------

    def ok(self, command: Command) -> bytes:
        """The answer to a command that has no data."""
        if command.shape is Shape.NONE:
            return b""
        if self.syntax is Syntax.FUTURE:
            return command.name.encode() + b"\n"
        return self._ok()

    def _ok(self) -> bytes:
        if self.acknowledges:
            return b"OK\r\n"
        return b"\r\n" if self.firmware >= V3 else b""

    def data(self, command: Command, text: str) -> bytes:
        """The answer to a query."""
        name, body = command.name.encode(), text.encode("latin-1")
        if self.syntax is Syntax.FUTURE:
            return name + b"," + body + b"\n"
        match command.shape:
            case Shape.DATA:
                return body + b"\r\n"
            case Shape.DATA_OK:
                return body + b"\r\n" + self._ok()
            case Shape.REVERSED_OK:
                return body + b"\n\r" + self._ok()
            case Shape.NAMED:
                return name + b"," + body + b"\r\n"
            case Shape.NAMED_REVERSED:
                return name + b"," + body + b"\n\r"
            case _:
                return name + b"," + body + b"\r\n" + self._ok()

    def error(self, name: str, code: int, text: str) -> bytes:
        """An error, `!code Err: text`; 2.x ends a refusal of a motion (0) the other way round."""
        shown = f"!{code} Err: {text}".encode("latin-1", "replace")
        if self.syntax is Syntax.FUTURE:
            return name.encode("latin-1") + b"," + shown + b"\n"
        return shown + (b"\n\r" if code == 0 else b"\r\n")

    def rejected(self, line: Rejected) -> bytes:
        """The answer to a line that the parser does not take."""
        return self.error(line.name, line.code, line.text)

    def switch(self, syntax: Syntax) -> bytes:
        """Answer to `CU,10`: the name is said in the old syntax, the line end in the new one."""
        before, self.syntax = self.syntax, syntax
        said = b"CU" if before is Syntax.FUTURE else b""
        return said + (b"\n" if syntax is Syntax.FUTURE else self._ok())


def _least(kind: type[Command]) -> int:
    return sum(not parameter.optional for parameter in parameters(kind))


def _within(parameter: Parameter, value: int | str, firmware: Firmware) -> bool:
    low, high = parameter.bounds(firmware)
    return low <= (len(value) if isinstance(value, str) else value) <= high


def _take(parameter: Parameter, rest: str) -> tuple[int | str | Rejected | None, str]:
    """The value at the front of `rest` (which begins with its comma), and what comes behind it."""
    if rest in ("", ","):
        if parameter.optional:
            return None, ""
        if parameter.text and parameter.low == 0:
            return "", ""
        return Rejected("", 4, ERRORS[4]), rest
    if rest[0] != ",":
        if parameter.optional:
            return None, rest
        return Rejected("", 5, f"Need comma next, found: '{rest[0]}'"), rest
    word, comma, after = rest[1:].partition(",")
    if parameter.text:
        return _upper(word) if parameter.low else word, comma + after
    if _DIGITS.match(word.removeprefix("-")):
        return int(word), comma + after
    sign = word.startswith("-")
    digits = "".join(_leading_digits(word[sign:]))
    number = int(digits or 0) * (-1 if sign else 1)
    return number, word[sign + len(digits) :] + comma + after


def _upper(text: str) -> str:
    """Capitals as the firmware has them: ASCII only, so that each character stays one byte."""
    return text.encode("latin-1").upper().decode("latin-1")


def _leading_digits(word: str) -> Iterator[str]:
    for letter in word:
        if not letter.isascii() or not letter.isdigit():
            return
        yield letter
