r"""Recordings of what passed on a link, or came in a stream: JSON Lines that people can read and tools can edit.

The first line says what it is, every other one is an entry; `t` counts seconds from the beginning::

    {"vfab_recording": 1, "kind": "link", "began": "2026-03-01T09:30:00+00:00", "address": "/dev/ttyACM0",
     "link": "serial", "driver": "axidraw", "device": {"vid": "04d8", "pid": "fd92"}}
    {"t": 0.0, "from": "client", "text": "V\r"}
    {"t": 0.0021, "from": "device", "text": "EBBv13_and_above EB Firmware Version 2.8.1\r\n"}
    {"t": 2.5, "event": "connected", "connection": 2}

Bytes are `text` where they are printable ASCII, `hex` where they are few, else `base64`. A stream's entries have
`sequence`, `time_s`, `device_time_s`, `meta`, and what was sent as `data` unless it was bytes. A last line that was cut
off, as when the recorder was killed, is left out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vfab.model.errors import ConfigurationError

__all__ = [
    "FORMAT",
    "LinkEntry",
    "LinkEvent",
    "Recording",
    "RecordingHeader",
    "StreamEntry",
    "header_line",
    "link_line",
    "parse_entry",
    "parse_recording",
    "read_header",
    "stream_line",
]

FORMAT: Final = 1
"""The format's number; a later one is not read."""

_HEX_MAX = 256
_DEVICE = ("id", "vid", "pid", "product", "manufacturer", "serial_number", "name")
_BYTES = "$base64"


@dataclass(frozen=True, slots=True)
class RecordingHeader:
    """What was recorded.

    Attributes:
        kind: `link` or `stream`.
        began: when, ISO 8601 with an offset.
        address: where the device was.
        link: `serial`, `tcp` or `unix`; "" of a stream.
        driver: the driver that fits the device, "" where none was known.
        device: what the device is known by: `id vid pid product manufacturer serial_number name`.
        stream: of a stream, what a driver says of it: `name stream_type capacity_bytes records about`.
    """

    kind: str
    began: str
    address: str = ""
    link: str = ""
    driver: str = ""
    device: Mapping[str, str] = field(default_factory=dict)
    stream: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """Bytes that passed: at `t` seconds, said by the `client` or the `device`, on which connection, in which line."""

    t: float
    source: str
    data: bytes
    connection: int = 1
    line: int = 0


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """What else happened on a link: `connected` or `closed`."""

    t: float
    event: str
    connection: int = 1
    line: int = 0


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """A record of a stream; see `sdk.stream_ends.StreamRecord`."""

    t: float
    sequence: int
    time_s: float
    data: Any
    device_time_s: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0


Entry = LinkEntry | LinkEvent | StreamEntry


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as it was read; `name` is the file's, for messages."""

    name: str
    header: RecordingHeader
    entries: tuple[Entry, ...]


# -- writing ----------------------------------------------------------------------------------------------------------


def header_line(header: RecordingHeader) -> str:
    """The first line of a recording, with its end."""
    said = {
        "vfab_recording": FORMAT,
        "kind": header.kind,
        "began": header.began,
        "address": header.address,
        "link": header.link,
        "driver": header.driver,
        "device": {key: header.device[key] for key in _DEVICE if header.device.get(key)},
        "stream": dict(header.stream),
    }
    return _line({key: value for key, value in said.items() if value not in ("", {})})


def link_line(entry: LinkEntry | LinkEvent) -> str:
    """The line of what happened on a link, with its end."""
    said: dict[str, Any] = {"t": round(entry.t, 6)}
    if isinstance(entry, LinkEvent):
        said["event"] = entry.event
    else:
        said |= {"from": entry.source, **_said_bytes(entry.data)}
    if entry.connection != 1:
        said["connection"] = entry.connection
    return _line(said)


def stream_line(entry: StreamEntry) -> str:
    """The line of a record of a stream, with its end."""
    said: dict[str, Any] = {"t": round(entry.t, 6), "sequence": entry.sequence, "time_s": entry.time_s}
    if entry.device_time_s is not None:
        said["device_time_s"] = entry.device_time_s
    if entry.meta:
        said["meta"] = dict(entry.meta)
    said |= _said_bytes(entry.data) if isinstance(entry.data, bytes) else {"data": entry.data}
    return _line(said)


def _line(said: Mapping[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    """What JSON has no word for: bytes within data or meta."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {_BYTES: base64.b64encode(bytes(value)).decode()}
    return str(value)


def _said_bytes(data: bytes) -> dict[str, str]:
    if all(32 <= byte < 127 or byte in b"\r\n\t" for byte in data[:_HEX_MAX]) and data.isascii():
        text = data.decode("ascii")
        if text.translate({9: None, 10: None, 13: None}).isprintable():
            return {"text": text}
    return {"hex": data.hex()} if len(data) <= _HEX_MAX else {"base64": base64.b64encode(data).decode()}


# -- reading ----------------------------------------------------------------------------------------------------------


def parse_recording(lines: Iterable[str], name: str) -> Recording:
    """The recording that is in `lines`, as a file has them; `name` is its name in errors.

    Raises ConfigurationError: it is none; file, line and field are told, and what would be right.
    """
    numbered = _numbered(lines, name)
    header = read_header(next(numbered, (1, {}))[1], name)
    read = _stream_entry if header.kind == "stream" else _link_entry
    return Recording(name, header, tuple(read(_Fields(said, name, line)) for line, said in numbered))


def _numbered(lines: Iterable[str], name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except ValueError as error:
            if number > 1 and not line.endswith("\n"):
                return  # the recorder was killed while it wrote
            raise _wrong(name, number, "", f"this is not JSON: {error}", "one JSON object in a line") from error
        if not isinstance(said, dict):
            raise _wrong(name, number, "", f"found {line.strip()[:40]}", "a JSON object")
        yield number, said


def read_header(said: Mapping[str, Any], name: str) -> RecordingHeader:
    """The header that is in the first line of the file `name`. Raises ConfigurationError: it is none."""
    fields = _Fields(said, name, 1)
    number = said.get("vfab_recording")
    if number is None:
        raise _wrong(name, 1, "vfab_recording", "it is missing", f"{FORMAT}; was this file made by `vfab sim record`?")
    if number != FORMAT:
        raise _wrong(name, 1, "vfab_recording", f"found {number!r}", f"{FORMAT}, or use the vfab that wrote it")
    kind = fields.one_of("kind", ("link", "stream"))
    device = fields.mapping("device")
    for key, value in device.items():
        if key not in _DEVICE or not isinstance(value, str):
            raise _wrong(name, 1, f"device.{key}", f"found {value!r}", f"a text, one of {', '.join(_DEVICE)}")
    return RecordingHeader(
        kind,
        fields.text("began"),
        fields.text("address"),
        fields.text("link"),
        fields.text("driver"),
        device,
        fields.mapping("stream"),
    )


def parse_entry(said: Mapping[str, Any], name: str, line: int = 0) -> StreamEntry:
    """The record of a stream that is in one line. Raises ConfigurationError: it is none."""
    return _stream_entry(_Fields(said, name, line))


def _link_entry(fields: _Fields) -> LinkEntry | LinkEvent:
    t, connection = fields.number("t", at_least=0.0), int(fields.number("connection", 1, at_least=1))
    if "event" in fields.said:
        return LinkEvent(t, fields.one_of("event", ("connected", "closed")), connection, fields.line)
    source = fields.one_of("from", ("client", "device"))
    return LinkEntry(t, source, fields.bytes(), connection, fields.line)


def _stream_entry(fields: _Fields) -> StreamEntry:
    said = fields.said
    return StreamEntry(
        fields.number("t", at_least=0.0),
        int(fields.number("sequence", at_least=0)),
        fields.number("time_s"),
        _with_bytes(said["data"]) if "data" in said else fields.bytes(),
        fields.number("device_time_s") if "device_time_s" in said else None,
        {key: _with_bytes(value) for key, value in fields.mapping("meta").items()},
        fields.line,
    )


def _with_bytes(value: Any) -> Any:
    """`value` with the bytes that `_plain` wrote."""
    if isinstance(value, dict):
        if set(value) == {_BYTES}:
            return base64.b64decode(value[_BYTES])
        return {key: _with_bytes(item) for key, item in value.items()}
    return [_with_bytes(item) for item in value] if isinstance(value, list) else value


class _Fields:
    """The fields of one line; what is wrong with one is told with file, line and field."""

    def __init__(self, said: Mapping[str, Any], name: str, line: int) -> None:
        self.said = said
        self.line = line
        self._name = name

    def wrong(self, key: str, expected: str) -> ConfigurationError:
        """The error that says what would be right."""
        found = f"found {self.said[key]!r}"[:100] if key in self.said else "it is missing"
        return _wrong(self._name, self.line, key, found, expected)

    def number(self, key: str, default: float | None = None, *, at_least: float | None = None) -> float:
        """A number."""
        value = self.said.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or (at_least is not None and value < at_least):
            raise self.wrong(key, "a number" if at_least is None else f"a number from {at_least:g} on")
        return value

    def text(self, key: str) -> str:
        """A text, "" where there is none."""
        value = self.said.get(key, "")
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def one_of(self, key: str, known: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.said.get(key)
        if value not in known:
            raise self.wrong(key, " or ".join(known))
        return str(value)

    def mapping(self, key: str) -> dict[str, Any]:
        """A mapping, empty where there is none."""
        value = self.said.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return value

    def bytes(self) -> bytes:
        """The bytes, however they are written."""
        for key, read in (("text", _of_text), ("hex", bytes.fromhex), ("base64", _of_base64)):
            if key in self.said:
                try:
                    return read(self.said[key])
                except (ValueError, TypeError, AttributeError):
                    raise self.wrong(key, f"bytes as {key}") from None
        raise self.wrong("text", "text, hex or base64")


def _of_text(value: str) -> bytes:
    return value.encode("latin-1")


def _of_base64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _wrong(name: str, line: int, key: str, found: str, expected: str) -> ConfigurationError:
    where = f"{name}: line {line}" + (f": {key}" if key else "")
    return ConfigurationError(
        f"{where}: {found}",
        context={"file": name, "line": line, "field": key, "expected": expected},
        remedy=f"Expected: {expected}.",
    )
