"""Samples in an IIO buffer: where each channel's number lies, and how it is written there.

Source: Linux Documentation/driver-api/iio/buffers.rst, Documentation/ABI/testing/sysfs-bus-iio (`scan_elements`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vfab.model.errors import ProtocolError

__all__ = ["Element", "ScanLayout", "parse_type"]

_TYPE = re.compile(r"(be|le):([su])(\d+)/(\d+)(?:X(\d+))?>>(\d+)")


@dataclass(frozen=True, slots=True)
class Element:
    """A channel within a sample.

    Attributes:
        name: the channel's.
        index: its place; samples hold the enabled channels in this order.
        big_endian, signed, bits, size, shift, repeat: number = `bits` bits, `shift` from the right, of `size` bytes,
            `repeat` of them.
    """

    name: str
    index: int
    big_endian: bool
    signed: bool
    bits: int
    size: int
    shift: int
    repeat: int = 1

    def number(self, data: bytes) -> int:
        """The number in `data`, `size` bytes."""
        value = int.from_bytes(data, "big" if self.big_endian else "little") >> self.shift
        value &= (1 << self.bits) - 1
        return value - (1 << self.bits) if self.signed and value >> (self.bits - 1) else value


def parse_type(name: str, index: int, text: str) -> Element:
    """The element that `le:s12/16>>4` describes. Raises ProtocolError: it describes none."""
    match = _TYPE.fullmatch(text.strip())
    if match is not None:
        bits, storage, shift = int(match[3]), int(match[4]), int(match[6])
        if 0 < bits <= storage - shift and storage in {8, 16, 32, 64, 128}:
            size, repeat = storage // 8, int(match[5] or 1)
            return Element(name, index, match[1] == "be", match[2] == "s", bits, size, shift, max(1, repeat))
    raise ProtocolError(
        f"the buffer's {name} has the form {text[:40]!r}, which is not known",
        context={"channel": name, "type": text[:80]},
        remedy="Read without the buffer: buffered: false.",
    )


class ScanLayout:
    """Bytes of a buffer in, samples out. Each element begins at a multiple of its size, and so does each sample."""

    def __init__(self, elements: Sequence[Element]) -> None:
        self._places: list[tuple[int, Element]] = []
        at = widest = 0
        for element in sorted(elements, key=lambda e: e.index):
            size = element.size * element.repeat
            at += -at % size
            self._places.append((at, element))
            at += size
            widest = max(widest, size)
        self.size = at + (-at % widest if widest else 0)
        self._held = b""

    def receive(self, data: bytes) -> list[dict[str, int]]:
        """The samples that are whole now, numbers by channel. A channel of several numbers has `NAME_0`, `NAME_1`."""
        held = self._held + data
        whole = len(held) // self.size * self.size if self.size else 0
        self._held = held[whole:]
        return [self._sample(held[start : start + self.size]) for start in range(0, whole, self.size or 1)]

    def _sample(self, data: bytes) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for at, element in self._places:
            for number in range(element.repeat):
                name = element.name if element.repeat == 1 else f"{element.name}_{number}"
                start = at + number * element.size
                numbers[name] = element.number(data[start : start + element.size])
        return numbers
