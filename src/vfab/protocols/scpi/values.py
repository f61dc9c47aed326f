"""Numbers, words, texts, blocks and channel lists as SCPI writes them: IEEE 488.2, SCPI-99 volume 1."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import product

from vfab.model.errors import ProtocolError
from vfab.protocols.scpi.framing import split_arguments

__all__ = [
    "INFINITY",
    "NOT_A_NUMBER",
    "Quoted",
    "block_of",
    "format_argument",
    "format_block",
    "format_channels",
    "format_number",
    "parse_block",
    "parse_boolean",
    "parse_channels",
    "parse_number",
    "parse_numbers",
    "parse_quantity",
    "quote",
    "strings_of",
    "unquote",
]

INFINITY = 9.9e37
"""What SCPI writes for infinity (SCPI-99 volume 1, 7.2.1.4)."""
NOT_A_NUMBER = 9.91e37
"""What SCPI writes for "not a number"."""
CHANNELS_MAX = 100_000
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:\s*[eE]\s*[+-]?\d+)?")
_BASES = {"H": 16, "Q": 8, "B": 2}
_UNITS = ("OHM", "HZ", "DBM", "DB", "PCT", "CEL", "FAR", "NPLC", "DEG", "RAD", "SEC", "V", "A", "W", "S", "F", "H", "J")
_MULTIPLIERS = {
    "EX": 1e18, "PE": 1e15, "T": 1e12, "G": 1e9, "MA": 1e6, "K": 1e3, "": 1.0,
    "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15, "A": 1e-18,
}  # fmt: skip
_MEGA = {"OHM", "HZ"}
"""M before these is mega: 488.2, 7.7.3."""
_WORDS = {"INF": math.inf, "INFINITY": math.inf, "NINF": -math.inf, "NAN": math.nan}


class Quoted(str):
    """A text that is sent in quotes; plain `str` arguments are words, sent as they are."""

    __slots__ = ()


def parse_quantity(text: str) -> tuple[float | int, str]:
    """The number that `text` writes, and its unit in capitals ("" for none): `10 mV` is (0.01, "V").

    NR1 is an int; NR2, NR3 and what has a multiplier a float; `#H`, `#Q`, `#B` an int. 9.91E37 is NaN, ±9.9E37
    infinity, as are NAN, INF and NINF.

    Raises ProtocolError: it is no number.
    """
    plain = text.strip()
    upper = plain.upper()
    if upper in _WORDS:
        return _WORDS[upper], ""
    if upper[:1] == "#" and upper[1:2] in _BASES:
        try:
            return int(upper[2:], _BASES[upper[1]]), ""
        except ValueError:
            raise ProtocolError(f"{text!r} is not a number", context={"value": text}) from None
    found = _NUMBER.match(plain)
    if found is None:
        raise ProtocolError(f"{text!r} is not a number", context={"value": text})
    digits = re.sub(r"\s", "", found[0])
    whole = re.fullmatch(r"[+-]?\d{1,4000}", digits) is not None
    value: float | int = int(digits) if whole else float(digits)
    suffix = re.sub(r"\s", "", plain[found.end() :]).upper()
    if not suffix:
        return (value if whole else _special(float(value))), ""
    factor, unit = _suffix(suffix, text)
    return (value if factor == 1.0 else value * factor), unit


def parse_number(text: str, unit: str = "") -> float | int:
    """As `parse_quantity`, without a unit or with `unit` only. Raises ProtocolError."""
    value, given = parse_quantity(text)
    if given and given != unit.upper():
        raise ProtocolError(f"{text!r} is in {given}, not in {unit or 'a plain number'}", context={"value": text})
    return value


def parse_numbers(text: str) -> list[float]:
    """The numbers of a comma-separated reply, as floats. An empty reply is none. Raises ProtocolError."""
    if not text.strip():
        return []
    return [float(parse_number(part)) for part in text.split(",")]


def _special(value: float) -> float:
    if value == NOT_A_NUMBER:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) == INFINITY else value


def _suffix(suffix: str, text: str) -> tuple[float, str]:
    for unit in _UNITS:
        if suffix.endswith(unit):
            multiplier = suffix.removesuffix(unit)
            if multiplier == "M" and unit in _MEGA:
                return 1e6, unit
            if multiplier in _MULTIPLIERS:
                return _MULTIPLIERS[multiplier], unit
    if suffix in _MULTIPLIERS:
        return _MULTIPLIERS[suffix], ""
    raise ProtocolError(f"{text!r}: {suffix} is not a unit", context={"value": text, "unit": suffix})


def format_number(value: float) -> str:
    """`value` as NR1 or NR3, from which `parse_number` gives the same again."""
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value):
        return "9.91E37"
    if math.isinf(value):
        return "9.9E37" if value > 0 else "-9.9E37"
    return repr(value).upper()


def parse_boolean(text: str) -> bool:
    """ON, OFF, or a number, which is rounded: 0 is off. Raises ProtocolError."""
    upper = text.strip().upper()
    if upper in {"ON", "OFF"}:
        return upper == "ON"
    value = parse_number(text)
    if math.isnan(value):
        raise ProtocolError(f"{text!r} is neither ON nor OFF", context={"value": text})
    return math.isinf(value) or round(value) != 0


def quote(text: str) -> str:
    """`text` in double quotes, its own doubled. Raises ValueError: it has a line end, which would end the message."""
    if "\n" in text or "\r" in text:
        raise ValueError("a quoted text has no line ends: send a block instead")
    return '"' + text.replace('"', '""') + '"'


def unquote(text: str) -> str:
    """What is in quotes, of either kind; a text without quotes is itself."""
    plain = text.strip()
    if len(plain) >= 2 and plain[0] == plain[-1] and plain[0] in "\"'":
        return plain[1:-1].replace(plain[0] * 2, plain[0])
    return plain


def format_block(data: bytes) -> bytes:
    """`data` as a definite length block: `#15hello`. Raises ValueError: a gigabyte or more."""
    digits = b"%d" % len(data)
    if len(digits) > 9:
        raise ValueError(f"a block of {len(data)} bytes cannot be written: its length has more than 9 digits")
    return b"#%d%s%s" % (len(digits), digits, data)


def parse_block(data: bytes) -> bytes:
    """The content of a definite (`#15hello`) or indefinite (`#0hello`) block. Raises ProtocolError."""
    found, end = block_of(data)
    if data[end:].strip():
        raise ProtocolError(f"{len(data) - end} bytes follow the block")
    return found


def block_of(data: bytes) -> tuple[bytes, int]:
    """The content of the block that `data` begins with, and where it ends. Raises ProtocolError."""
    if data[:1] != b"#" or not data[1:2].isdigit():
        raise ProtocolError(f"{data[:20]!r} is not a block", context={"found": repr(data[:20])})
    digits = int(data[1:2])
    if digits == 0:
        return data[2:].removesuffix(b"\n"), len(data)
    head = data[2 : 2 + digits]
    if not head.isdigit():
        raise ProtocolError(f"the block's length is {head!r}", context={"found": repr(data[:20])})
    begin, size = 2 + digits, int(head)
    if len(data) < begin + size:
        raise ProtocolError(f"the block has {len(data) - begin} bytes of {size}")
    return data[begin : begin + size], begin + size


def parse_channels(text: str) -> list[tuple[int, ...]]:
    """The channels of `(@1,3:5,2!1:2!3)`, each a tuple of its dimensions, in order. Raises ProtocolError."""
    found = re.fullmatch(r"\s*\(\s*@(.*)\)\s*", text, re.DOTALL)
    if found is None:
        raise ProtocolError(f"{text!r} is not a channel list like (@1,3:5)", context={"value": text})
    channels: list[tuple[int, ...]] = []
    for part in filter(None, (part.strip() for part in found[1].split(","))):
        first, _, last = part.partition(":")
        begin, end = _channel(first, text), _channel(last or first, text)
        if len(begin) != len(end):
            raise ProtocolError(f"{part!r} has ends of different dimensions", context={"value": text})
        spans = [range(a, b + 1) if a <= b else range(a, b - 1, -1) for a, b in zip(begin, end, strict=True)]
        if len(channels) + math.prod(len(span) for span in spans) > CHANNELS_MAX:
            raise ProtocolError(f"{text!r} has more than {CHANNELS_MAX} channels", context={"value": text})
        channels += product(*spans)
    return channels


def _channel(text: str, whole: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split("!")]
    if not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise ProtocolError(f"{text!r} is not a channel", context={"value": whole})
    return tuple(int(part) for part in parts)


def format_channels(channels: Iterable[int | Sequence[int]]) -> str:
    """`(@1,3:5)` of 1, 3, 4, 5: runs that count up are written as ranges."""
    plain = [(item,) if isinstance(item, int) else tuple(item) for item in channels]
    runs: list[list[tuple[int, ...]]] = []
    for channel in plain:
        last = runs[-1][-1] if runs else ()
        if len(channel) == len(last) == 1 and channel[0] == last[0] + 1:
            runs[-1].append(channel)
        else:
            runs.append([channel])
    words = ["!".join(map(str, run[0])) + (f":{run[-1][0]}" if len(run) > 1 else "") for run in runs]
    return f"(@{','.join(words)})"


def format_argument(value: object) -> bytes:
    """One argument of a command: numbers, ON/OFF for bool, words as they are, `Quoted` in quotes, bytes as a block.

    A list or tuple is its items with commas between. Raises TypeError: it is something else.
    """
    if isinstance(value, bool):
        return b"ON" if value else b"OFF"
    if isinstance(value, (int, float)):
        return format_number(value).encode("ascii")
    if isinstance(value, Quoted):
        return quote(value).encode("latin-1", "replace")
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return format_block(bytes(value))
    if isinstance(value, (list, tuple)):
        return b",".join(format_argument(item) for item in value)
    raise TypeError(f"SCPI cannot write a {type(value).__name__}")


def strings_of(text: str) -> list[str]:
    """The texts of a comma-separated reply, without their quotes: `"VOLT","CURR"`."""
    return [unquote(part.decode("latin-1")) for part in split_arguments(text.encode("latin-1", "replace"))]
