"""Where a message ends, and where its parts do: quotes, brackets and binary blocks are kept whole.

IEEE 488.2, 7.2 to 7.7. How the bytes were cut on their way does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator

from vfab.model.errors import ProtocolError

__all__ = ["BLOCK_MAX", "LINE_MAX", "Framer", "split_arguments", "split_units"]

LINE_MAX = 1 << 20
"""More bytes of text than this without a line end are no message."""
BLOCK_MAX = 1 << 28
"""A block that says it is longer is not waited for."""
_SPACE = b" \t\r\v\f\0"
_NEVER = 10
"""A quote that nothing but the end of the line ends."""
_STARTS = frozenset(b" \t,;")


class Framer:
    """Bytes in, whole messages out, without their line ends (LF, or CR LF).

    A line end inside a definite block belongs to the block. An indefinite block (`#0…`) ends with the first line end:
    a stream has no other sign of its end.
    """

    def __init__(self, *, line_max: int = LINE_MAX, block_max: int = BLOCK_MAX) -> None:
        self._held = bytearray()
        self._at = 0
        self._quote = 0
        self._start = True
        self._block_end = 0
        self._closing = 0
        self._line_max = line_max
        self._block_max = block_max
        self._in_blocks = 0

    @property
    def held(self) -> int:
        """Bytes of a message whose end has not come."""
        return len(self._held)

    def clear(self) -> None:
        """Forget what has come of the message."""
        self._held.clear()
        self._reset()

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes.

        Raises ProtocolError: too much came without an end; it is forgotten.
        """
        self._held += data
        found = []
        while (end := self._end()) is not None:
            cut = end - 1 if end > self._block_end and self._held[end - 1] == 13 else end
            found.append(bytes(self._held[:cut]))
            del self._held[: end + 1]
            self._reset()
        return found

    def _reset(self) -> None:
        self._at, self._quote, self._start, self._in_blocks, self._block_end = 0, 0, True, 0, 0
        self._closing = 0

    def _end(self) -> int | None:
        """Where the message in hand ends; None when its end has not come."""
        held = self._held
        while self._at < len(held):
            byte = held[self._at]
            if byte == 10:
                return self._at
            if self._quote:
                self._closing = byte if byte == self._quote else 0
                self._quote = 0 if byte == self._quote else self._quote
                self._start = False
                self._at += 1
                continue
            doubled, self._closing = byte == self._closing, 0
            if byte in b"\"'" and (self._start or doubled):
                self._quote = byte
            elif byte == 35 and self._start:  # '#'
                size = _block_size(held, self._at)
                if size is None:
                    return None  # its length has not come
                if size < 0:
                    self._quote, self._block_end = _NEVER, BLOCK_MAX  # until the line ends
                    continue
                self._check(size)
                if self._at + size > len(held):
                    return None
                self._in_blocks += max(size - 1, 0)
                self._at += max(size, 1)
                self._block_end = self._at if size else self._block_end
                self._start = False
                continue
            self._start = byte in _STARTS
            self._at += 1
        if self._at - self._in_blocks > (self._block_max if self._quote == _NEVER else self._line_max):
            came = self._at
            self.clear()
            raise ProtocolError(f"{came} bytes came without a line end", context={"bytes": came})
        return None

    def _check(self, size: int) -> None:
        if size > self._block_max:
            self.clear()
            raise ProtocolError(f"a block of {size} bytes was announced; {self._block_max} are the most")


def _block_size(data: bytes | bytearray, at: int) -> int | None:
    """How many bytes the definite block at `at` has, `#` included; None when more must come to tell.

    -1 when it is an indefinite block, 0 when it is none.
    """
    if at + 1 >= len(data):
        return None
    digits = data[at + 1] - 48
    if digits == 0:
        return -1
    if not 1 <= digits <= 9:
        return 0
    head = bytes(data[at + 2 : at + 2 + digits])
    if head and not head.isdigit():
        return 0
    if len(head) < digits:
        return None
    return 2 + digits + int(head)


def split_units(message: bytes) -> list[bytes]:
    """The units of a message, which `;` separates. Empty ones are left out."""
    return [unit for unit in _split(message, 59) if unit]


def split_arguments(data: bytes) -> list[bytes]:
    """The arguments of a unit, or the items of a reply, which `,` separates; none when there is nothing."""
    return list(_split(data, 44)) if data.strip(_SPACE) else []


def _split(data: bytes, separator: int) -> Iterator[bytes]:
    """The parts, without white space around them; what a block holds is the block's own."""
    begin, at, quoted, closing, depth, start, whole = 0, 0, 0, 0, 0, True, 0
    while at < len(data):
        byte = data[at]
        if quoted:
            closing = byte if byte == quoted else 0
            quoted = 0 if byte == quoted else quoted
            start = False
            at += 1
            continue
        doubled, closing = byte == closing, 0
        if byte in b"\"'" and (start or doubled):
            quoted = byte
        elif byte == 35 and start:
            size = _block_size(data, at) or 0
            if size:
                at, start = min(at + size, len(data)) if size > 0 else len(data), False
                whole = at
                continue
        elif byte in b"()":
            depth = max(0, depth + (1 if byte == 40 else -1))
        elif byte == separator and not depth:
            yield _trimmed(data[begin:at], whole - begin)
            begin = at + 1
        start = byte in _STARTS
        at += 1
    yield _trimmed(data[begin:], whole - begin)


def _trimmed(part: bytes, whole: int) -> bytes:
    """`part` without white space around it, but with all of its first `whole` bytes, which end with a block."""
    end = max(whole, len(part.rstrip(_SPACE)))
    return part[:end].lstrip(_SPACE)
