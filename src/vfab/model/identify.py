"""How a manifest says what to ask at a port that says nothing of itself: send this, expect that.

Nothing is written to a port because of it unless the user asks (`vfab device scan --probe`) and the manifest has
`permissions: {probe: true}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from vfab.model.escapes import unescape

__all__ = ["ANSWER_MAX", "Identify"]

ANSWER_MAX = 4096
"""Bytes of an answer that are looked at; a peer that sends more without end is not who was asked for."""


class Identify(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One question that tells whether the driver's device is at a port: what is sent, and what it answers.

    Named groups of `expect` describe the device: `name`, `product` (or `model`), `manufacturer` and `serial_number`
    become those of the device, any other an attribute of it.
    """

    scheme: Annotated[Literal["serial", "tcp"], Meta(description="where to ask: serial ports, or TCP hosts")] = "serial"
    send: Annotated[str, Meta(description="bytes to send; escapes as in Python; empty: only listen")] = ""
    expect: Annotated[
        str,
        Meta(
            min_length=1,
            description="regular expression, searched in the answer; its named groups (name, product, model, …) "
            "describe the device",
        ),
    ]
    baudrates: Annotated[
        tuple[Annotated[int, Meta(gt=0)], ...],
        Meta(min_length=1, description="rates of a serial port to ask at, in order"),
    ] = (9600,)
    timeout_s: Annotated[float, Meta(gt=0, le=10, description="seconds to wait for the answer")] = 1.0

    def problems(self, where: str) -> list[tuple[str, str, str]]:
        """What breaks a rule here, as (field, what was found, what would be right)."""
        found: list[tuple[str, str, str]] = []
        try:
            unescape(self.send)
        except (UnicodeDecodeError, UnicodeEncodeError):
            found.append((f"{where}.send", repr(self.send), r"write bytes as text with escapes: V\r or \x18"))
        try:
            re.compile(self.expect.encode("latin-1"))
        except (re.error, UnicodeEncodeError) as error:
            found.append((f"{where}.expect", repr(self.expect), f"a regular expression; {error}"))
        return found

    def send_bytes(self) -> bytes:
        """What is sent."""
        return unescape(self.send)

    def read(self, answer: bytes) -> Mapping[str, str] | None:
        """What `answer` says of the device, by the names of the groups; None: this is not the answer, or not yet."""
        match = re.search(self.expect.encode("latin-1"), answer[:ANSWER_MAX])
        if match is None:
            return None
        return {key: value.decode("latin-1").strip() for key, value in match.groupdict().items() if value}
