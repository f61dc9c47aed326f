"""NMEA 0183 lines out of whatever a receiver sends: split, checked, binary frames between them stepped over.

Receivers mix NMEA sentences with u-blox UBX frames and RTCM 3 messages on one line, cut sentences short when their
buffer is full, and send noise at power-on. How the bytes were cut on the way does not matter.

Sources: NMEA 0183 4.11 §5.3 (sentences, checksum), u-blox M9 interface description §3 (UBX), RTCM 10403.3 §4 (frames,
CRC-24Q).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor

from vfab.model.errors import ProtocolError

__all__ = ["LINE_MAX", "NmeaReceiver", "Sentence", "checksum", "crc24q", "encode", "ubx_frame"]

LINE_MAX = 1024
"""The longest sentence that is waited for, bytes. The standard says 82; makers' own sentences are longer."""
_UBX_MAX = 8192
_UBX_SYNC = b"\xb5\x62"
_UBX_CLASSES = frozenset(bytes.fromhex("01 02 03 04 05 06 09 0a 0b 0d 10 13 21 27 28 29"))
_RTCM_SYNC = 0xD3
_START = re.compile(rb"[$!\xb5\xd3]")
_END = re.compile(rb"[^\x20-\x23\x25-\x7e]")
"""What ends a sentence: a line end rightly; the next $ when the line end was lost; anything else shows it was noise."""
_ADDRESS = re.compile(r"[A-Z0-9]{3,16}")
_POLYNOMIAL = 0x1864CFB


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence whose checksum fits.

    Attributes:
        talker: two letters (`GP` GPS, `GN` several systems, `GL` GLONASS, `GA` Galileo, `GB`/`BD` BeiDou, `GQ` QZSS …);
            `P` of a maker's own sentence.
        kind: `GGA`, `RMC` …; of a maker's own sentence its code and what follows: `UBX`, `MTK001`.
        fields: what stands between the commas, without the address.
        checked: it came with a checksum.
        start: `$`, or `!` of an encapsulated one (AIS).
    """

    talker: str
    kind: str
    fields: tuple[str, ...]
    checked: bool = True
    start: str = "$"

    def field(self, number: int) -> str:
        """Field `number`, from 0; "" when the receiver left it out or stopped before it."""
        return self.fields[number].strip() if number < len(self.fields) else ""

    def to_bytes(self) -> bytes:
        """The sentence as it is sent, with checksum and line end."""
        return encode(self.talker, self.kind, self.fields, start=self.start)


def checksum(body: bytes) -> int:
    """All bytes between `$` and `*`, exclusively or-ed."""
    return reduce(xor, body, 0)


def encode(talker: str, kind: str, fields: Sequence[str], *, start: str = "$") -> bytes:
    """A sentence as bytes.

    Raises ProtocolError: a field holds a character that would break the sentence.
    """
    text = ",".join((talker + kind, *fields))
    if not re.fullmatch(r"[\x20-\x7e]*", text) or any(c in text for c in "$*\\"):
        raise ProtocolError(f"{text!r} cannot be an NMEA sentence", context={"sentence": text})
    body = text.encode("ascii")
    return b"%s%s*%02X\r\n" % (start.encode("ascii"), body, checksum(body))


def ubx_frame(message_class: int, message_id: int, payload: bytes = b"") -> bytes:
    """A frame of u-blox's binary protocol, as their receivers mix into NMEA."""
    body = bytes((message_class, message_id)) + len(payload).to_bytes(2, "little") + payload
    return _UBX_SYNC + body + _fletcher(body)


def _fletcher(body: bytes) -> bytes:
    a = b = 0
    for byte in body:
        a = (a + byte) & 0xFF
        b = (b + a) & 0xFF
    return bytes((a, b))


def crc24q(data: bytes) -> int:
    """The checksum of RTCM 3 frames."""
    value = 0
    for byte in data:
        value ^= byte << 16
        for _ in range(8):
            value <<= 1
            if value & 0x1000000:
                value ^= _POLYNOMIAL
    return value


class NmeaReceiver:
    """Bytes in, sentences out.

    Attributes:
        bad: sentences whose checksum or form was wrong.
        skipped_bytes: bytes that belonged to nothing that is known.
        binary_frames: UBX and RTCM 3 frames stepped over.
    """

    def __init__(self) -> None:
        self.bad = 0
        self.skipped_bytes = 0
        self.binary_frames = 0
        self._held = b""
        self._checks_seen = False

    def receive(self, data: bytes) -> list[Sentence]:
        """Take what has come; the sentences that are whole now."""
        held = self._held + data
        sentences = []
        at = 0
        while True:
            found = _START.search(held, at)
            start = found.start() if found else len(held)
            self.skipped_bytes += sum(byte not in b"\r\n" for byte in held[at:start])
            at = start
            length = self._frame_length(held, at) if found else None
            if length is None:  # the rest has not come yet
                break
            if length and held[at] in b"$!":
                sentence = self._sentence(held[at : at + length])
                if sentence is not None:
                    sentences.append(sentence)
            elif length:
                self.binary_frames += 1
            else:
                self.skipped_bytes += 1
            at += length or 1
        self._held = held[at:]
        return sentences

    def _frame_length(self, held: bytes, at: int) -> int | None:
        """Bytes of the frame that begins at `at`; 0 when none does; None when that cannot be said yet."""
        if held[at] == _RTCM_SYNC:
            return _rtcm_length(held, at)
        if held[at] == _UBX_SYNC[0]:
            return _ubx_length(held, at)
        end = _END.search(held, at + 1, at + LINE_MAX)
        if end is None:
            return None if len(held) - at < LINE_MAX else 0
        if end.group() in b"\r\n":
            return end.start() - at
        if end.group() == b"$":  # the line end was lost, and the end of the sentence with it; some send $$
            self.bad += end.start() > at + 1
            return 0
        return 0

    def _sentence(self, line: bytes) -> Sentence | None:
        body, star, given = line[1:].partition(b"*")
        checked = bool(star)
        fits = re.fullmatch(rb"[0-9A-Fa-f]{2}\s*", given) and int(given, 16) == checksum(body)
        address, *fields = body.decode("ascii").split(",")
        if not _ADDRESS.fullmatch(address) or not (fits if checked else not self._checks_seen):
            self.bad += 1
            return None
        self._checks_seen = self._checks_seen or checked
        split = 1 if address[0] == "P" else 2
        return Sentence(address[:split], address[split:], tuple(fields), checked, chr(line[0]))


def _ubx_length(held: bytes, at: int) -> int | None:
    head = held[at : at + 6]
    if len(head) > 1 and head[1] != _UBX_SYNC[1]:
        return 0
    if len(head) > 2 and head[2] not in _UBX_CLASSES:
        return 0
    if len(head) < 6:
        return None
    size = int.from_bytes(head[4:6], "little")
    if size > _UBX_MAX:
        return 0
    frame = held[at : at + size + 8]
    if len(frame) < size + 8:
        return None
    return len(frame) if _fletcher(frame[2:-2]) == frame[-2:] else 0


def _rtcm_length(held: bytes, at: int) -> int | None:
    head = held[at : at + 3]
    if len(head) > 1 and head[1] & 0xFC:
        return 0
    if len(head) < 3:
        return None
    size = (head[1] & 0x03) << 8 | head[2]
    frame = held[at : at + size + 6]
    if len(frame) < size + 6:
        return None
    return len(frame) if crc24q(frame[:-3]) == int.from_bytes(frame[-3:], "big") else 0
