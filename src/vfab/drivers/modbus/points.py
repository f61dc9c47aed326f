"""What people write for a part of a Modbus device: `holding 0 2 float32`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vfab.model.errors import ConfigurationError

from .values import TYPES, size_of

__all__ = ["Point", "parse_request"]

_TABLES: Final = {
    "coils": "coils",
    "coil": "coils",
    "discrete": "discrete",
    "holding": "holding",
    "hr": "holding",
    "input": "input",
    "ir": "input",
}
_REQUEST = re.compile(
    r"(?P<table>[a-z]+)\s+(?P<address>\d+|0x[0-9a-f]+)(?:\s+(?P<count>\d+))?(?:\s+(?P<type>[a-z]+\d*))?"
    r"(?:\s+@(?P<unit>\d+))?\s*(?:=\s*(?P<values>.+))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Point:
    """Some values of one table.

    Attributes:
        table: coils, discrete, holding or input.
        address: the first, from 0.
        count: how many values.
        type: of a register's value.
        unit: None: the setting.
    """

    table: str
    address: int
    count: int = 1
    type: str = "uint16"
    unit: int | None = None


def parse_request(text: str) -> tuple[Point, str | None]:
    """(what is meant, what is to be written there or None): `TABLE ADDRESS [COUNT] [TYPE] [@UNIT] [= VALUES]`.

    A count says how many values follow; of a string, how many registers it fills, the last ones with zeros.

    Raises ConfigurationError: it cannot be read so.
    """
    match = _REQUEST.fullmatch(text.strip())
    table = _TABLES.get(match["table"].lower()) if match else None
    if match is None or table is None:
        raise ConfigurationError(
            f"{text!r} is no Modbus request",
            context={"field": "command", "value": text},
            remedy="Write TABLE ADDRESS [COUNT] [TYPE] [@UNIT] [= VALUES]: holding 0 2 float32, coils 3 = 1,0. "
            f"Tables: coils, discrete, holding, input. Types: {', '.join(TYPES)}.",
        )
    kind = (match["type"] or "uint16").lower()
    size_of(kind)
    values = match["values"]
    if values is not None and table in {"discrete", "input"}:
        raise ConfigurationError(
            f"{table} cannot be written", context={"field": "command", "value": text}, remedy="Write coils or holding."
        )
    if values is not None and match["count"]:
        values = _counted(values, int(match["count"]), kind)
    unit = int(match["unit"]) if match["unit"] else None
    return Point(table, int(match["address"], 0), int(match["count"] or 1), kind, unit), values


def _counted(values: str, count: int, kind: str) -> str:
    text = kind == "string"
    given = len(values.encode()) if text else len(values.replace(",", " ").split())
    if text and given <= 2 * count:
        return values + "\0" * (2 * count - given)
    if text or given != count:
        raise ConfigurationError(
            f"{count} registers have no room for {given} bytes" if text else f"{count} values are said, {given} given",
            context={"field": "command", "count": count, "given": given},
            remedy="Leave the count out, or write as many values as it says; nothing was written.",
        )
    return values
