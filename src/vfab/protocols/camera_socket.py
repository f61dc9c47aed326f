"""Pictures over a WebSocket, `vfab-camera` version 1: the messages of both sides, sans-IO.

Text messages are JSON objects with a `type`; a picture is a text message that describes it, then a binary message with
its bytes. The camera begins with `hello`, and sends pictures only when asked::

    camera   {"type": "hello", "version": 1, "name": …, "model": …, "formats": [{"pixel_format": "MJPG",
              "sizes": [[640, 480]]}], "width": 640, "height": 480, "pixel_format": "MJPG", "framerate_hz": 10,
              "can_set": ["resolution", "framerate", "exposure"], "exposure_range_s": [0.0001, 1]}
    client   {"type": "set", "width": 320, "height": 240}          any of width and height, framerate_hz, exposure_s
    camera   {"type": "settings", "width": 320, …}                 as they are now; or {"type": "error", "message": …}
    client   {"type": "capture"}                                   one picture; or {"type": "start"}, {"type": "stop"}
    camera   {"type": "frame", "sequence": 7, "pixel_format": "MJPG", "width": 320, "height": 240, "stride": 0,
              "time_s": 12.5, "exposure_s": 0.01}                  then the binary message

Of `frame` everything but `type` may be missing where the bytes tell it themselves (JPEG, PNG, WebP). A server that only
sends JPEGs as binary messages, and knows nothing of this, is understood as well: it is one without `hello`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vfab.model.errors import ProtocolError

__all__ = ["SUBPROTOCOL", "Frame", "Hello", "Receiver", "Refusal", "Settings", "hello", "message", "read_request"]

SUBPROTOCOL = "vfab-camera.v1"
_NUMBERS = {"width", "height", "framerate_hz", "exposure_s", "sequence", "stride", "time_s"}


@dataclass(frozen=True, slots=True)
class Hello:
    """What the camera says of itself, and how it is set."""

    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the camera is set now."""

    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The camera did not do what it was asked."""

    message: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture: its description, which may lack anything, and its bytes."""

    header: Mapping[str, Any]
    data: bytes


class Receiver:
    """The client's side: messages in, what they mean out."""

    def __init__(self) -> None:
        self._header: Mapping[str, Any] | None = None

    def receive(self, data: str | bytes) -> Hello | Settings | Refusal | Frame | None:
        """What one message means; None: the bytes that it announces follow, or it is of a type that is not known.

        Raises ProtocolError: it is no JSON object, or a number in it is none.
        """
        if isinstance(data, bytes):
            header, self._header = self._header or {}, None
            return Frame(header, data)
        said = _read(data)
        match said.get("type"):
            case "hello":
                return Hello(said)
            case "settings":
                return Settings(said)
            case "error":
                return Refusal(str(said.get("message", "no reason told")))
            case "frame":
                self._header = said
        return None


def _read(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError as error:
        raise ProtocolError(
            f"the camera sent text that is no JSON: {text[:60]!r}", original_error=error,
            remedy="Another kind of server listens at this address.",
        ) from error  # fmt: skip
    if not isinstance(said, dict):
        raise ProtocolError(f"the camera sent {text[:60]!r}, which is no JSON object")
    for name in _NUMBERS & said.keys():
        value = said[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise ProtocolError(f"{name} is {value!r}, which is no number of 0 or more", context={"field": name})
    return said


def message(kind: str, **fields: Any) -> str:
    """A text message of either side."""
    return json.dumps({"type": kind, **fields})


def hello(**about: Any) -> str:
    """The camera's first message."""
    return message("hello", version=1, **about)


def read_request(text: str | bytes) -> tuple[str, dict[str, Any]]:
    """(type, fields) of a client's message: the camera's side. Raises ProtocolError: it is none."""
    if isinstance(text, bytes):
        raise ProtocolError("a client sends text messages only")
    said = _read(text)
    return str(said.pop("type", "")), said
