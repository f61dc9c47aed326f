"""gpsd's JSON protocol: lines of JSON over TCP, sans-IO, both sides.

A server greets with VERSION; a client asks with `?WATCH={…};`; the server then reports TPV (time, position, velocity)
and SKY (satellites). What a version of gpsd does not send is None here.

Source: gpsd_json(5), protocol 3.x.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vfab.model.errors import ProtocolError
from vfab.protocols.nmea import Fix

__all__ = [
    "DEFAULT_PORT",
    "LINE_MAX",
    "UNWATCH",
    "WATCH",
    "GpsdClient",
    "GpsdMessage",
    "LineReceiver",
    "encode_report",
    "parse_command",
    "split_commands",
]

DEFAULT_PORT = 2947
LINE_MAX = 65_536
WATCH = b'?WATCH={"enable":true,"json":true,"scaled":true};\n'
UNWATCH = b'?WATCH={"enable":false};\n'
_COMMAND_NAME = re.compile(rb"\?[A-Za-z]+=?")
_JSON = json.JSONDecoder()
_K95 = 1.96
"""gpsd scales its error estimates to 95 % (its GPSD_CONFIDENCE); the standard uncertainty is that over 1.96."""
_QUALITY = {0: None, 1: 1, 2: 2, 3: 5, 4: 4, 5: 6, 6: 6, 7: 7, 8: 8, 9: None}
"""TPV's status to GGA's quality."""


@dataclass(frozen=True, slots=True)
class GpsdMessage:
    """One report: its class (`TPV`, `SKY`, `VERSION`, `DEVICES`, `ERROR` …) and all that it says."""

    kind: str
    data: Mapping[str, Any]


class LineReceiver:
    """Bytes in, JSON reports out. Lines that are no JSON object are counted in `bad` and left out."""

    def __init__(self) -> None:
        self.bad = 0
        self._held = b""

    def receive(self, data: bytes) -> list[GpsdMessage]:
        """Take what has come; the reports that are whole now.

        Raises ProtocolError: more than `LINE_MAX` bytes came without a line end.
        """
        *lines, self._held = (self._held + data).split(b"\n")
        messages = []
        for line in lines:
            if line.strip():
                message = _message(line)
                if message is None:
                    self.bad += 1
                else:
                    messages.append(message)
        if len(self._held) > LINE_MAX:
            raise ProtocolError(f"gpsd sent {len(self._held)} bytes without a line end", context={"limit": LINE_MAX})
        return messages


def _message(line: bytes) -> GpsdMessage | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = data.get("class") if isinstance(data, dict) else None
    return GpsdMessage(kind, data) if isinstance(kind, str) else None


class GpsdClient:
    """Reports in, fixes out.

    Attributes:
        version: what gpsd calls itself, "" until it has said so.
        devices: paths of the receivers that gpsd has.
        error: what gpsd last complained of.
    """

    def __init__(self) -> None:
        self.version = ""
        self.devices: tuple[str, ...] = ()
        self.error = ""
        self._receiver = LineReceiver()
        self._sky: dict[str, Any] = {}

    @property
    def bad(self) -> int:
        """Lines that could not be read."""
        return self._receiver.bad

    def receive(self, data: bytes) -> list[Fix]:
        """Take what has come; a fix for each TPV.

        Raises ProtocolError: it is not gpsd at the other end.
        """
        fixes = []
        for message in self._receiver.receive(data):
            match message.kind:
                case "VERSION":
                    self.version = str(message.data.get("release", "?"))
                case "DEVICES":
                    listed = message.data.get("devices")
                    paths = [d.get("path") for d in listed if isinstance(d, dict)] if isinstance(listed, list) else []
                    self.devices = tuple(str(path) for path in paths if path)
                case "DEVICE":
                    path = str(message.data.get("path") or "")
                    others = tuple(other for other in self.devices if other != path)
                    self.devices = (*others, path) if path and message.data.get("activated") != 0 else others
                case "ERROR":
                    self.error = str(message.data.get("message", ""))
                case "SKY":
                    self._sky = _sky(message.data)
                case "TPV":
                    fixes.append(replace(_tpv(message.data), **self._sky))
        return fixes


def _tpv(data: Mapping[str, Any]) -> Fix:
    mode = int(_number(data, "mode") or 0)
    latitude, longitude = _number(data, "lat", 90), _number(data, "lon", 180)
    status = _number(data, "status")
    altitude = _number(data, "altMSL")
    return Fix(
        valid=mode >= 2 and latitude is not None and longitude is not None,
        dimensions=mode,
        quality=_QUALITY.get(int(status), 1) if status is not None else (1 if mode >= 2 else 0),
        time_s=_time(data.get("time")),
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=_number(data, "alt") if altitude is None else altitude,
        geoid_m=_number(data, "geoidSep"),
        speed_m_s=_number(data, "speed"),
        course_deg=_number(data, "track", 360),
        latitude_u_m=_standard(_number(data, "epy")),
        longitude_u_m=_standard(_number(data, "epx")),
        altitude_u_m=_standard(_number(data, "epv")),
    )


def _sky(data: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {name: _number(data, name) for name in ("hdop", "vdop", "pdop")}
    seen = data.get("satellites")
    if isinstance(seen, list):
        said["in_view"] = len(seen)
        said["satellites"] = sum(isinstance(one, dict) and one.get("used") is True for one in seen)
    used, count = _number(data, "uSat"), _number(data, "nSat")
    if used is not None:
        said["satellites"] = int(used)
    if count is not None:
        said["in_view"] = int(count)
    return said


def _number(data: Mapping[str, Any], name: str, most: float = math.inf) -> float | None:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) <= most else None


def _standard(half_width_m: float | None) -> float | None:
    return None if half_width_m is None else half_width_m / _K95


def _time(value: object) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
        return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()
    except (ValueError, OverflowError):
        return None


# -- the server's side ------------------------------------------------------------------------------------------------


def encode_report(kind: str, **data: Any) -> bytes:
    """A report as gpsd sends it."""
    return json.dumps({"class": kind, **data}, separators=(",", ":")).encode() + b"\r\n"


def split_commands(data: bytes) -> tuple[list[bytes], bytes]:
    """(what is whole of a client's commands, what is not yet).

    A command ends with a semicolon or its line, or where its JSON object does: several clients send nothing more, and
    gpsd takes what came at once for whole.
    """
    commands = []
    while data := data.lstrip(b" \t\r\n;"):
        end = _command_end(data)
        if end is None:
            break
        commands.append(data[:end])
        data = data[end:]
    return commands, data


def _command_end(data: bytes) -> int | None:
    line = data.find(b"\n")
    name = _COMMAND_NAME.match(data)
    if name is not None and name[0].endswith(b"="):
        try:
            text = data[name.end() :].decode("latin-1")  # a character for each byte
            return name.end() + _JSON.raw_decode(text)[1]
        except (ValueError, RecursionError):
            return line if line >= 0 else None
    ends = [end for end in (line, data.find(b";")) if end >= 0]
    return min(ends) if ends else None


def parse_command(line: bytes) -> tuple[str, dict[str, Any]]:
    """(name, arguments) of a client's command: `?WATCH={"enable":true};` is ("WATCH", {"enable": True}).

    Raises ProtocolError: it is no command.
    """
    text = line.strip().removesuffix(b";")
    name, _, rest = text.removeprefix(b"?").partition(b"=")
    try:
        arguments = json.loads(rest) if rest else {}
        shown = name.decode("ascii")
    except (ValueError, RecursionError):
        arguments, shown = None, ""
    if not text.startswith(b"?") or not shown.isalpha() or not isinstance(arguments, dict):
        shown = line[:80].decode("utf-8", "replace").strip()
        raise ProtocolError(f"{shown} is no command of gpsd's protocol", context={"line": shown})
    return shown.upper(), arguments
