"""The words of streams: seed 002's `StreamType`, `StreamSource`, `StreamAction` and `StreamData`, and `StreamInfo`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import EnumMeta, StrEnum
from typing import Any

import msgspec

__all__ = ["StreamAction", "StreamData", "StreamInfo", "StreamSource", "StreamType"]

CAPACITY_BYTES = 1 << 20
RECORDS = 4096


class _Growing(EnumMeta):
    """An enumeration to which asking for a new upper-case name adds it: `StreamType.LIDAR`."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or not name.isupper():
            raise AttributeError(f"{cls.__name__} has no member {name}; write it in upper case to add it")
        known = cls._member_map_.get(name)
        return known if known is not None else _grow(cls, name, name.lower())

    def __getitem__(cls, name: str) -> Any:
        return getattr(cls, name)


def _grow(cls: Any, name: str, value: str) -> Any:
    member = str.__new__(cls, value)
    member._name_, member._value_ = name, value
    member.__objclass__, member._sort_order_ = cls, len(cls._member_names_)
    cls._member_map_[name] = cls._value2member_map_[member._value_] = member
    cls._member_names_.append(name)
    return member


class StreamType(StrEnum, metaclass=_Growing):
    """What a stream carries. Grows: a name that a plugin uses is a member from then on."""

    CAN = "can"
    SERIAL = "serial"
    SENSOR = "sensor"
    VIDEO = "video"
    AUDIO = "audio"
    CUSTOM = "custom"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return _grow(cls, value.upper(), value) if isinstance(value, str) and value.isidentifier() else None


class StreamSource(StrEnum):
    """Who produced the data."""

    SERVER = "server"
    CLIENT = "client"
    DEVICE = "device"


class StreamAction(StrEnum):
    """What a message of a stream is."""

    START = "start"
    STOP = "stop"
    DATA = "data"
    STATUS = "status"
    ERROR = "error"
    CONFIG = "config"


@dataclass
class StreamData:
    """One message of a stream, as seed 002 has it.

    Attributes:
        stream_type: what it carries.
        channel: which of the device's streams, by custom the device's id.
        timestamp: when it was taken, seconds since 1970.
        data: the sample.
    """

    stream_type: StreamType
    channel: str = ""
    timestamp: float = field(default_factory=time.time)
    source: StreamSource = StreamSource.SERVER
    action: StreamAction = StreamAction.DATA
    data: Any = None


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a stream without reading it.

    Attributes:
        name: unique among the streams of the device.
        stream_type: what it carries.
        capacity_bytes, records: how much of the past is kept at most.
        about: what the driver says of its content: units, names of fields, width_px, pixel_format.
    """

    name: str
    stream_type: str = "custom"
    capacity_bytes: int = CAPACITY_BYTES
    records: int = RECORDS
    about: dict[str, Any] = {}
