"""Values in registers: which types, how many registers each takes, and in which order."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

from vfab.model.errors import ConfigurationError, Refused

__all__ = ["TYPES", "Value", "from_registers", "parse_values", "size_of", "to_registers"]

Value = int | float | str | bool
_FORMATS: Final = {
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
TYPES: Final = (*_FORMATS, "string")


def size_of(kind: str) -> int:
    """How many registers one value takes; a string takes as many as are read."""
    if kind == "string":
        return 1
    if kind not in _FORMATS:
        raise ConfigurationError(
            f"{kind!r} is not a type of value",
            context={"field": "type", "value": kind},
            remedy=f"Write one of {', '.join(TYPES)}.",
        )
    return struct.calcsize(">" + _FORMATS[kind]) // 2


def from_registers(registers: Sequence[int], kind: str, word_order: str = "big") -> list[Value]:
    """The values in `registers`; with word order "little" the least significant register comes first.

    A string ends at its first zero byte: what follows is what a longer one left.
    """
    if kind == "string":
        text = b"".join(word.to_bytes(2, "big" if word_order == "big" else "little") for word in registers)
        return [text.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")]
    size = size_of(kind)
    values: list[Value] = []
    for at in range(0, len(registers), size):
        words = list(registers[at : at + size])
        if word_order == "little":
            words.reverse()
        values.append(struct.unpack(">" + _FORMATS[kind], struct.pack(f">{size}H", *words))[0])
    return values


def to_registers(values: Sequence[Value], kind: str, word_order: str = "big") -> list[int]:
    """The registers that hold `values`. Raises Refused: a value does not fit the type."""
    registers: list[int] = []
    if kind == "string":
        text = "".join(map(str, values)).encode()
        text += b"\0" * (len(text) % 2)
        order = "big" if word_order == "big" else "little"
        return [int.from_bytes(text[at : at + 2], order) for at in range(0, len(text), 2)]  # type: ignore[arg-type]
    size = size_of(kind)
    for value in values:
        try:
            plain = float(value) if kind.startswith("float") else _whole(value)
            packed = struct.pack(">" + _FORMATS[kind], plain)
        except (struct.error, ValueError, OverflowError) as error:
            raise Refused(
                f"{value!r} does not fit {kind}",
                context={"field": "values", "value": str(value), "type": kind},
                remedy="Choose a type that is wide enough, or another value; nothing was written.",
            ) from error
        words = list(struct.unpack(f">{size}H", packed))
        registers += reversed(words) if word_order == "little" else words
    return registers


def _whole(value: Value) -> int:
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        raise ValueError("not a whole number")
    return int(value)


def parse_values(text: str, kind: str) -> list[Value]:
    """The values that people write, with commas between them: `1,2.5,0x10`. A string is taken as it is.

    Raises ConfigurationError: one of them is no number.
    """
    if kind == "string":
        return [text]
    found: list[Value] = []
    for part in text.replace(",", " ").split():
        try:
            found.append(float(part) if kind.startswith("float") else int(part, 0))
        except ValueError as error:
            raise ConfigurationError(
                f"{part!r} is no {kind}",
                context={"field": "values", "value": part},
                remedy="Write numbers with commas between them, such as 1,2,0x10.",
            ) from error
    if not found:
        raise ConfigurationError("no value is given", context={"field": "values"}, remedy="Write at least one.")
    return found
