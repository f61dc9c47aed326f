"""What the firmware sends, line by line: a frozen message for each line, none is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vfab.protocols.grbl.settings import setting_value
from vfab.protocols.grbl.status import Position, Status, parse_status

__all__ = [
    "LINE_MAX_BYTES", "Alarm", "BuildInfo", "Failed", "Feedback", "Help", "Line", "LineSplitter", "Message", "Modes",
    "Offset", "Ok", "Options", "Probe", "Report", "SettingLine", "StartupLine", "StartupRun", "Unknown", "Welcome",
    "parse_line",
]  # fmt: skip

LINE_MAX_BYTES = 1024
"""No firmware sends a longer line; what is longer is cut here and is no message."""
_WELCOME = re.compile(r"(Grbl(?:HAL|-?[A-Za-z]*)?) (\d+\.\d+\w*(?:\.\d+)?)\s*(.*)\Z", re.IGNORECASE)
_SETTING = re.compile(r"\$(\d+)=([^ ]*)(?: \((.*)\))?\Z")
_STARTUP = re.compile(r"\$N(\d)=(.*)\Z")
_OFFSET = re.compile(r"G(?:5[4-9](?:\.[1-3])?|28|30|92)\Z")


@dataclass(frozen=True, slots=True)
class Message:
    """One line from the firmware; `raw` is its text."""

    raw: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Ok(Message):
    """`ok`: the line was parsed, and executed or put into the planner. `line` is the one that it answers."""

    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """`error:n`: the line was not executed; those after it are. `code` 0 when the text had no number."""

    code: int
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Alarm(Message):
    """`ALARM:n`: everything stopped, and G-code is locked. `code` 0 when the text had no number."""

    code: int


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The firmware began anew: power-on, or reset. Everything that was sent is lost.

    Attributes:
        name: `Grbl`, `GrblHAL`, or a clone's.
        version: such as `1.1h`.
        expected: the reset was asked for; set by `Client`.
    """

    name: str
    version: str
    expected: bool = False

    @property
    def is_hal(self) -> bool:
        """Whether it is grblHAL."""
        return self.name.lower() == "grblhal"


@dataclass(frozen=True, slots=True)
class Report(Message):
    """A status report."""

    status: Status


@dataclass(frozen=True, slots=True)
class Feedback(Message):
    """`[MSG:…]`, or `[echo:…]`."""

    text: str


@dataclass(frozen=True, slots=True)
class Modes(Message):
    """`[GC:…]`: the G-code parser's state, as words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offset(Message):
    """`[G54:…]`, `[G28:…]`, `[G92:…]`, `[TLO:…]`: stored coordinates."""

    name: str
    values: Position


@dataclass(frozen=True, slots=True)
class Probe(Message):
    """`[PRB:x,y,z:1]`: where the last probe cycle ended, and whether it touched."""

    at: Position
    touched: bool


@dataclass(frozen=True, slots=True)
class BuildInfo(Message):
    """`[VER:version.date:text]`; the text is the owner's own (`$I=`)."""

    version: str
    text: str


@dataclass(frozen=True, slots=True)
class Options(Message):
    """`[OPT:letters,blocks,rx bytes]`: what the firmware was built with.

    Attributes:
        letters: one for each option.
        blocks: motions that the planner holds; None when not reported.
        rx_bytes: size of the receive buffer; None when not reported.
    """

    letters: str
    blocks: int | None = None
    rx_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Help(Message):
    """`[HLP:…]`."""

    text: str


@dataclass(frozen=True, slots=True)
class SettingLine(Message):
    """`$n=value`; grblHAL keeps texts under some numbers. `note` is what stands in brackets after it."""

    number: int
    value: float | str
    note: str = ""


@dataclass(frozen=True, slots=True)
class StartupLine(Message):
    """`$N0=line`: what is run after each reset."""

    number: int
    line: str


@dataclass(frozen=True, slots=True)
class StartupRun(Message):
    """`>line:ok` or `>line:error:n`: a startup line was run; no answer to anything that was sent."""

    line: str
    code: int


@dataclass(frozen=True, slots=True)
class Unknown(Message):
    """A line that none of the above fits: another device's, a damaged one, or a plugin's."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was sent: `text` without its end, `number` counts from 1, `size` are its bytes with the end."""

    text: str
    number: int
    size: int


def parse_line(text: str) -> Message:
    """The message of one line, without its end. Never fails: what is not known is `Unknown`."""
    if text == "ok":
        return Ok(raw=text)
    if text.startswith("<"):
        status = parse_status(text)
        return Report(status, raw=text) if status else Unknown(raw=text)
    if text.startswith("["):
        return _bracketed(text)
    if text.startswith("$"):
        return _dollar(text)
    lowered = text.lower()
    if lowered.startswith("error"):
        return Failed(_code(text), raw=text)
    if lowered.startswith("alarm:"):
        return Alarm(_code(text), raw=text)
    if text.startswith(">"):
        return _startup(text)
    found = _WELCOME.match(text)
    return Welcome(found[1], found[2], raw=text) if found else Unknown(raw=text)


def _code(text: str) -> int:
    number = text.partition(":")[2].strip()
    return int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 0


def _startup(text: str) -> Message:
    line, colon, result = text[1:].rpartition(":")
    if colon and result == "ok":
        return StartupRun(line, 0, raw=text)
    if colon and line.endswith(":error"):
        return StartupRun(line.removesuffix(":error"), _code(":" + result), raw=text)
    return Unknown(raw=text)


def _dollar(text: str) -> Message:
    if found := _SETTING.match(text):
        return SettingLine(int(found[1]), setting_value(found[2]), found[3] or "", raw=text)
    if found := _STARTUP.match(text):
        return StartupLine(int(found[1]), found[2], raw=text)
    return Unknown(raw=text)


def _bracketed(text: str) -> Message:
    name, colon, value = text[1:].removesuffix("]").partition(":")
    if not colon or not text.endswith("]"):
        return Unknown(raw=text)
    try:
        return _known_bracket(name, value, text) or Unknown(raw=text)
    except ValueError:
        return Unknown(raw=text)


def _known_bracket(name: str, value: str, raw: str) -> Message | None:
    match name:
        case "MSG" | "echo":
            return Feedback(value, raw=raw)
        case "GC":
            return Modes(tuple(value.split()), raw=raw)
        case "HLP":
            return Help(value, raw=raw)
        case "VER":
            version, _, own = value.partition(":")
            return BuildInfo(version, own, raw=raw)
        case "OPT":
            letters, *sizes = value.split(",")
            blocks, size = ([int(part) for part in sizes[:2]] + [0, 0])[:2]
            return Options(letters, blocks or None, size or None, raw=raw)
        case "PRB":
            at, _, touched = value.rpartition(":")
            return Probe(_position(at), touched == "1", raw=raw)
        case "TLO":
            return Offset(name, _position(value), raw=raw)
        case _ if _OFFSET.match(name):
            return Offset(name, _position(value), raw=raw)
        case _:
            return None


def _position(text: str) -> Position:
    return tuple(float(part) for part in text.split(","))


class LineSplitter:
    """Cuts what the firmware sends into lines, however it arrives. Too long lines are cut and end with U+FFFD."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._skipping = False

    def clear(self) -> None:
        """Forget a line that has begun."""
        self._held.clear()
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now, without their ends; empty ones are left out."""
        *whole, rest = data.replace(b"\r", b"\n").split(b"\n")
        lines: list[str] = []
        for part in whole:
            self._take(part)
            if self._held:
                lines.append(self._held.decode("utf-8", "replace") + ("\ufffd" if self._skipping else ""))
            self.clear()
        self._take(rest)
        return lines

    def _take(self, part: bytes) -> None:
        room = LINE_MAX_BYTES - len(self._held)
        self._held += part[:room]
        self._skipping = self._skipping or len(part) > room
