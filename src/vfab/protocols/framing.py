"""Where one message ends and the next begins, on a link that only carries bytes.

Sans-IO: `feed` takes bytes however they were cut and returns the messages that are whole by now; `encode` makes the
bytes of one message. What a sender did wrong is counted in `faults` and skipped, so that noise on a line costs the
message it hit and no other; only a length prefix cannot find its way back, and raises.

SLIP is RFC 1055; COBS is Cheshire and Baker, "Consistent Overhead Byte Stuffing" (IEEE/ACM Transactions on Networking
7, 1999), each frame ended by one zero byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Literal

from vfab.model.errors import ConfigurationError, ProtocolError, Refused

__all__ = [
    "FRAMINGS",
    "LIMIT_BYTES",
    "Cobs",
    "Delimiter",
    "FixedLength",
    "Framer",
    "LengthPrefix",
    "Lines",
    "Raw",
    "SilenceGap",
    "Slip",
    "make_framer",
]

LIMIT_BYTES: Final = 65536
"""The longest message, unless the framer is told otherwise."""


class Framer(ABC):
    """One direction of each: bytes that come are fed, messages that go are encoded.

    Args:
        limit: the longest message in bytes; a longer one is a fault.

    Attributes:
        faults: what came and was no message: too long, badly escaped, cut short.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self.limit = limit
        self.faults = 0

    @property
    @abstractmethod
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""

    @abstractmethod
    def feed(self, data: bytes, now_s: float = 0.0) -> list[bytes]:
        """The messages that are whole with `data`, in the order in which they came.

        Args:
            data: what came next.
            now_s: when it came; only `SilenceGap` looks at it.
        """

    @abstractmethod
    def encode(self, message: bytes) -> bytes:
        """The bytes of `message`. Raises Refused: this framing cannot carry it."""

    def due_s(self, now_s: float) -> float | None:
        """Seconds from `now_s` until `expire` will have something; None while it will not."""
        return None

    def expire(self, now_s: float) -> list[bytes]:
        """The message that is whole because nothing came for so long."""
        return []

    def end(self) -> list[bytes]:
        """The link ended: what is left, if that is a message; otherwise it is a fault."""
        self.faults += self.held > 0
        return []

    def _check(self, message: bytes) -> None:
        if len(message) > self.limit:
            raise Refused(
                f"a message of {len(message)} bytes is longer than the {self.limit} that this link carries",
                context={"size_bytes": len(message), "limit_bytes": self.limit},
                remedy="Send less at once, or raise the setting message_limit_bytes.",
            )


class Raw(Framer):
    """No messages, only bytes: whatever came at once is one."""

    @property
    def held(self) -> int:
        """Nothing is ever held."""
        return 0

    def feed(self, data: bytes, now_s: float = 0.0) -> list[bytes]:
        """`data` itself."""
        return [data] if data else []

    def encode(self, message: bytes) -> bytes:
        """`message` itself."""
        return message


class _Ended(Framer):
    """Framings in which some bytes end a message, and never stand inside one."""

    end_mark: bytes

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        super().__init__(limit)
        self._held = bytearray()
        self._skipping = False

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._held)

    def _longest(self) -> int:
        """How many bytes of the line a message may take."""
        return self.limit

    def feed(self, data: bytes, now_s: float = 0.0) -> list[bytes]:
        """Messages whose end has come. One that is too long is left out, and counted once."""
        held, mark = self._held, self.end_mark
        looked = max(0, len(held) - len(mark) + 1)
        held += data
        messages = []
        start = 0
        while (at := held.find(mark, max(start, looked))) >= 0:
            piece = bytes(held[start:at])
            start = looked = at + len(mark)
            if self._skipping or len(piece) > self._longest():
                self.faults += not self._skipping
                self._skipping = False
                continue
            message = self._decode(piece)
            if message is not None:
                messages.append(message)
        del held[:start]
        # the end mark may have begun: so many bytes more than the longest message still make sense
        if len(held) > self._longest() + len(mark) - 1:
            self.faults += not self._skipping
            self._skipping = True
            del held[: len(held) - len(mark) + 1]
        return messages

    def end(self) -> list[bytes]:
        """A message that was cut short is a fault, unless it was one already."""
        self.faults += self.held > 0 and not self._skipping
        self._held.clear()
        self._skipping = False
        return []

    def _decode(self, piece: bytes) -> bytes | None:
        return piece


class Delimiter(_Ended):
    """Each message ends with `end`; an empty one counts.

    Args:
        end: one byte or more.
        limit: the longest message in bytes, without its end.
    """

    def __init__(self, end: bytes, limit: int = LIMIT_BYTES) -> None:
        if not end:
            raise ConfigurationError(
                "a delimiter has at least one byte", remedy=r"Set delimiter to such as \r or \x03."
            )
        super().__init__(limit)
        self.end_mark = end

    def encode(self, message: bytes) -> bytes:
        """`message` and its end. Raises Refused: the end stands inside it."""
        self._check(message)
        framed = message + self.end_mark
        if framed.find(self.end_mark) != len(message):
            raise Refused(
                f"the message has {self.end_mark!r} in it, which ends a message on this link",
                context={"message": message.hex(), "end": self.end_mark.hex()},
                remedy="Send it as several messages, or choose a framing that can carry every byte (cobs, slip).",
            )
        return framed


class Lines(Delimiter):
    r"""Text lines: `\n` ends one, a `\r` before it belongs to the end; what is sent ends with `send_end`.

    Args:
        send_end: what ends a line that is sent: `\n`, `\r\n` or `\r`. After a lone `\r`, so do the lines that come.
        limit: the longest line in bytes, without its end.
    """

    def __init__(self, send_end: bytes = b"\n", limit: int = LIMIT_BYTES) -> None:
        super().__init__(b"\r" if send_end == b"\r" else b"\n", limit)
        self.send_end = send_end

    def _longest(self) -> int:
        return self.limit + 1

    def _decode(self, piece: bytes) -> bytes | None:
        message = piece.strip(b"\n") if self.end_mark == b"\r" else piece.removesuffix(b"\r")
        if len(message) > self.limit:
            self.faults += 1
            return None
        return message

    def encode(self, message: bytes) -> bytes:
        """`message` as a line. Raises Refused: a line end stands inside it."""
        if b"\r" in message:
            raise Refused("a line cannot have a carriage return in it", context={"message": message.hex()})
        return super().encode(message).removesuffix(self.end_mark) + self.send_end


class FixedLength(Framer):
    """Every message has `size` bytes."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ConfigurationError(f"a message of {size} bytes is none", context={"field": "length", "value": size})
        super().__init__(size)
        self._held = b""

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._held)

    def feed(self, data: bytes, now_s: float = 0.0) -> list[bytes]:
        """Every `size` bytes."""
        whole = self._held + data
        size = self.limit
        ends = len(whole) - len(whole) % size
        self._held = whole[ends:]
        return [whole[at : at + size] for at in range(0, ends, size)]

    def encode(self, message: bytes) -> bytes:
        """`message`, which must have the right size. Raises Refused: it has not."""
        if len(message) != self.limit:
            raise Refused(
                f"the message has {len(message)} bytes, on this link every message has {self.limit}",
                context={"size_bytes": len(message), "expected_bytes": self.limit},
            )
        return message


class LengthPrefix(Framer):
    """Each message is preceded by its length, an unsigned number of `size` bytes.

    Args:
        size: 1, 2, 3, 4 or 8 bytes.
        order: which byte comes first.
        counts_itself: the number counts its own bytes, too.
        limit: the longest message in bytes. A longer one ends the conversation: nobody knows where the next begins.
    """

    def __init__(
        self,
        size: int = 2,
        order: Literal["big", "little"] = "big",
        *,
        counts_itself: bool = False,
        limit: int = LIMIT_BYTES,
    ) -> None:
        if size not in {1, 2, 3, 4, 8}:
            raise ConfigurationError(
                f"a length of {size} bytes is not known",
                context={"field": "length", "value": size},
                remedy="Write 1, 2, 3, 4 or 8.",
            )
        self._extra = size if counts_itself else 0
        super().__init__(min(limit, 256**size - 1 - self._extra))
        self._size, self._order = size, order
        self._held = bytearray()

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._held)

    def feed(self, data: bytes, now_s: float = 0.0) -> list[bytes]:
        """Messages that are whole. Raises ProtocolError: a length that cannot be; what came before it is lost, too."""
        held, size = self._held, self._size
        held += data
        messages = []
        start = 0
        while len(held) - start >= size:
            length = int.from_bytes(held[start : start + size], self._order) - self._extra
            if not 0 <= length <= self.limit:
                self.faults += 1
                held.clear()
                raise ProtocolError(
                    f"a message says that it has {length} bytes; at most {self.limit} are expected",
                    context={"length_bytes": length, "limit_bytes": self.limit},
                    remedy="Check size and byte order of the length prefix, or raise message_limit_bytes.",
                )
            if len(held) - start - size < length:
                break
            messages.append(bytes(held[start + size : start + size + length]))
            start += size + length
        del held[:start]
        return messages

    def encode(self, message: bytes) -> bytes:
        """Its length, then `message`. Raises Refused: it is too long."""
        self._check(message)
        return (len(message) + self._extra).to_bytes(self._size, self._order) + message


class SilenceGap(Framer):
    """A message ends when nothing comes for `gap_s` seconds, as on Modbus RTU lines."""

    def __init__(self, gap_s: float = 0.05, limit: int = LIMIT_BYTES) -> None:
        super().__init__(limit)
        self.gap_s = gap_s
        self._held = bytearray()
        self._last_s = 0.0

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._held)

    def feed(self, data: bytes, now_s: float = 0.0) -> list[bytes]:
        """The message before `data`, when the gap between them was long enough."""
        if not data:
            return []
        before = self.expire(now_s)
        self._held += data
        self._last_s = now_s
        if len(self._held) > self.limit:
            self.faults += 1
            self._held.clear()
        return before

    def due_s(self, now_s: float) -> float | None:
        """Seconds until the gap is long enough."""
        return max(0.0, self._last_s + self.gap_s - now_s) if self._held else None

    def expire(self, now_s: float) -> list[bytes]:
        """The message, when the gap after it is long enough by now."""
        if not self._held or now_s - self._last_s < self.gap_s:
            return []
        return self.end()

    def end(self) -> list[bytes]:
        """The end of the link is silence, too."""
        message = bytes(self._held)
        self._held.clear()
        return [message] if message else []

    def encode(self, message: bytes) -> bytes:
        """`message` itself; whoever sends it keeps silent for `gap_s` afterwards."""
        self._check(message)
        return message


_END, _ESC, _ESC_END, _ESC_ESC = b"\xc0", b"\xdb", b"\xdc", b"\xdd"


class Slip(_Ended):
    """SLIP, RFC 1055: END 0xC0 around each packet, escapes inside. Empty packets are noise between two ENDs."""

    end_mark = _END

    def _longest(self) -> int:
        return 2 * self.limit

    def _decode(self, piece: bytes) -> bytes | None:
        if not piece:
            return None
        first, *rest = piece.split(_ESC)
        parts = [first]
        for part in rest:
            if part[:1] not in {_ESC_END, _ESC_ESC}:
                self.faults += 1
                return None
            parts.append((_END if part[:1] == _ESC_END else _ESC) + part[1:])
        message = b"".join(parts)
        if len(message) > self.limit:
            self.faults += 1
            return None
        return message

    def encode(self, message: bytes) -> bytes:
        """A packet, with an END before it that flushes noise of the line. Raises Refused: it is empty or too long."""
        self._check(message)
        if not message:
            raise Refused("SLIP cannot carry an empty message", remedy="Send at least one byte.")
        return _END + message.replace(_ESC, _ESC + _ESC_ESC).replace(_END, _ESC + _ESC_END) + _END


class Cobs(_Ended):
    """COBS: no zero byte inside a frame, one zero after it. Two zeros in a row carry nothing."""

    end_mark = b"\0"

    def _longest(self) -> int:
        return self.limit + self.limit // 254 + 1

    def _decode(self, piece: bytes) -> bytes | None:
        if not piece:
            return None
        message = bytearray()
        at = 0
        while at < len(piece):
            code = piece[at]
            block = piece[at + 1 : at + code]
            if len(block) != code - 1:
                self.faults += 1
                return None
            message += block
            at += code
            if code < 0xFF and at < len(piece):
                message.append(0)
        if len(message) > self.limit:
            self.faults += 1
            return None
        return bytes(message)

    def encode(self, message: bytes) -> bytes:
        """A frame and the zero after it. Raises Refused: the message is too long."""
        self._check(message)
        frame = bytearray()
        parts = message.split(b"\0")
        for number, part in enumerate(parts):
            rest = part
            while len(rest) > 254 or (len(rest) == 254 and number < len(parts) - 1):
                frame.append(0xFF)
                frame += rest[:254]
                rest = rest[254:]
            if len(rest) == 254:
                frame.append(0xFF)
                frame += rest
            else:
                frame.append(len(rest) + 1)
                frame += rest
        return bytes(frame) + b"\0"


FRAMINGS: Final = ("raw", "lines", "delimiter", "fixed", "length", "gap", "slip", "cobs")
"""Names for settings, in the order of this file."""


def make_framer(settings: Mapping[str, Any]) -> Framer:
    r"""The framer that a driver's settings describe.

    Args:
        settings: `framing` (one of FRAMINGS), `line_end` (lf, crlf, cr), `delimiter` (text with escapes: `\x03`),
            `length` (bytes of a fixed message, or of the length prefix), `length_order` (big, little),
            `length_counts_itself`, `gap_s`, `message_limit_bytes`. What is missing has its default.

    Raises ConfigurationError: a setting cannot be.
    """
    limit = int(settings.get("message_limit_bytes", LIMIT_BYTES))
    kind = settings.get("framing", "raw")
    match kind:
        case "raw":
            return Raw(limit)
        case "lines":
            return Lines({"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[settings.get("line_end", "lf")], limit)
        case "delimiter":
            return Delimiter(_unescape(settings.get("delimiter", "\\n")), limit)
        case "fixed":
            return FixedLength(int(settings.get("length", 1)))
        case "length":
            order: Literal["big", "little"] = "little" if settings.get("length_order") == "little" else "big"
            itself = bool(settings.get("length_counts_itself", False))
            return LengthPrefix(int(settings.get("length", 2)), order, counts_itself=itself, limit=limit)
        case "gap":
            return SilenceGap(float(settings.get("gap_s", 0.05)), limit)
        case "slip":
            return Slip(limit)
        case "cobs":
            return Cobs(limit)
        case _:
            raise ConfigurationError(
                f"{kind!r} is not a framing",
                context={"field": "framing", "value": str(kind)},
                remedy=f"Write one of {', '.join(FRAMINGS)}.",
            )


def _unescape(text: str) -> bytes:
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except UnicodeError as error:
        raise ConfigurationError(
            f"{text!r} are no bytes",
            context={"field": "delimiter", "value": text},
            remedy=r"Write text with escapes, such as \r\n or \x03.",
        ) from error
