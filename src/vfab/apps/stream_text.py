"""Records of a stream as text and bytes: for people, NDJSON, CSV, raw."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vfab.model.errors import ConfigurationError
from vfab.sdk.stream_ends import StreamRecord
from vfab.sdk.stream_words import StreamInfo

__all__ = ["FORMATS", "flat", "formatter", "json_record"]

Formatter = Callable[[Sequence[StreamRecord]], bytes]
_SHOWN_BYTES = 24


def formatter(name: str, info: StreamInfo) -> Formatter:
    """What makes bytes of records in the format `name`. Raises ConfigurationError: there is no such format."""
    if name not in FORMATS:
        raise ConfigurationError(
            f"{name!r} is no format of streams",
            context={"option": "--format", "found": name, "known": list(FORMATS)},
            remedy=f"There are: {', '.join(FORMATS)}.",
        )
    return FORMATS[name](info)


def json_record(record: StreamRecord) -> dict[str, Any]:
    """A record as what JSON can write; bytes in base64, marked as such."""
    return {key: _jsonable(value) for key, value in record.to_dict().items()}


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, list | tuple) else value


def _ndjson(info: StreamInfo) -> Formatter:
    def made(records: Sequence[StreamRecord]) -> bytes:
        return b"".join(json.dumps(json_record(record), ensure_ascii=False).encode() + b"\n" for record in records)

    return made


def _raw(info: StreamInfo) -> Formatter:
    def made(records: Sequence[StreamRecord]) -> bytes:
        parts = []
        for record in records:
            data = record.data
            is_bytes = isinstance(data, bytes)
            parts.append(data if is_bytes else json.dumps(_jsonable(data), ensure_ascii=False).encode() + b"\n")
        return b"".join(parts)

    return made


class _Csv:
    """CSV with the columns of the first record; later ones that have more lose it, and that is why they are told."""

    def __init__(self, info: StreamInfo) -> None:
        fields = info.about.get("fields")
        self._fields = [str(field) for field in fields] if isinstance(fields, list | tuple) else None
        self._columns: list[str] | None = None

    def __call__(self, records: Sequence[StreamRecord]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        for record in records:
            row = self._row(record)
            if self._columns is None:
                self._columns = list(row)
                writer.writerow(["sequence", "time_s", *self._columns])
            writer.writerow([record.sequence, repr(record.time_s), *(_cell(row.get(name)) for name in self._columns)])
        return text.getvalue().encode()

    def _row(self, record: StreamRecord) -> dict[str, Any]:
        data = record.data
        if isinstance(data, list | tuple) and self._fields is not None and len(data) == len(self._fields):
            data = dict(zip(self._fields, data, strict=True))
        return flat(data)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """`value` with nested names joined by dots: `{"a": {"b": 1}}` is `{"a.b": 1}`; a plain value is called data."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, item in value.items():
            found.update(flat(item, f"{name}.{key}" if name else str(key)))
        return found
    if isinstance(value, list | tuple) and value and all(isinstance(v, int | float) for v in value):
        return {f"{name}.{index}" if name else f"data.{index}": item for index, item in enumerate(value)}
    return {name or "data": value}


def _cell(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, list | tuple):
        return json.dumps(_jsonable(value))
    return "" if value is None else value


def _text(info: StreamInfo) -> Formatter:
    unit = info.about.get("unit")

    def made(records: Sequence[StreamRecord]) -> bytes:
        return b"".join(_line(record, unit).encode("utf-8", "replace") + b"\n" for record in records)

    return made


def _line(record: StreamRecord, unit: Any) -> str:
    taken = datetime.fromtimestamp(record.time_s, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    lost = f"  ({record.lost} lost)" if record.lost else ""
    return f"{taken}  {record.sequence}  {_shown(record, unit)}{lost}"


def _shown(record: StreamRecord, unit: Any) -> str:
    data, meta = record.data, record.meta
    if isinstance(data, bytes | bytearray | memoryview):
        if "pixel_format" in meta:
            return f"{meta.get('width_px')} × {meta.get('height_px')} {meta['pixel_format']}, {len(data)} bytes"
        text = bytes(data[:_SHOWN_BYTES])
        more = " …" if len(data) > _SHOWN_BYTES else ""
        if text and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in text):
            return text.decode("ascii").rstrip() + more
        return f"{text.hex(' ')}{more}  ({len(data)} bytes)"
    if isinstance(data, Mapping):
        if isinstance(data.get("text"), str):  # a message that says itself what it looks like
            return str(data["text"])
        return "  ".join(f"{key}={_value(item)}" for key, item in flat(data).items())
    return f"{_value(data)} {unit}" if unit not in {None, "", "1"} and not isinstance(data, list) else _value(data)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, list | tuple):
        return " ".join(_value(item) for item in value)
    return str(value)


FORMATS: Mapping[str, Callable[[StreamInfo], Formatter]] = {
    "text": _text,
    "ndjson": _ndjson,
    "csv": _Csv,
    "raw": _raw,
}
"""Formats by name: one line a record for people; one JSON document a line; CSV with a header; the bytes alone."""
