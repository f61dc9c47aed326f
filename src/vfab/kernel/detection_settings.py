"""The section `detection` of config.yaml: where on networks devices are looked for. By default nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vfab.kernel.config_file import ConfigFile
from vfab.model.settings import faults

__all__ = ["DETECTION_SCHEMA", "DetectionSettings"]


def _texts(description: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "default": [], "description": description}


def _object(description: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
    }


DETECTION_SCHEMA: Mapping[str, Any] = _object(
    "where devices are looked for, beyond what is plugged in",
    hosts=_texts("addresses of devices on the network: tcp://192.0.2.7:4000"),
    mdns=_object(
        "services that announce themselves on the network",
        interfaces=_texts("network interfaces to listen on, by name or address"),
        services=_texts("service types besides those that drivers name: _rtsp._tcp"),
    ),
    genicam=_object(
        "GigE Vision cameras",
        interfaces=_texts("network interfaces to ask on, by name or address"),
    ),
    visa=_object(
        "instruments by VISA",
        libraries=_texts("pyvisa's libraries to ask at every scan: @py, @ivi, @sim, or a path"),
        network={
            "type": "boolean",
            "default": False,
            "description": "pyvisa-py may search networks, too, which it does by broadcasts on every interface",
        },
    ),
)
"""What may be in the section, as JSON Schema."""


class _Interfaces(msgspec.Struct, frozen=True):
    interfaces: tuple[str, ...] = ()


class _Services(_Interfaces, frozen=True):
    services: tuple[str, ...] = ()


class _Visa(msgspec.Struct, frozen=True):
    libraries: tuple[str, ...] = ()
    network: bool = False


class DetectionSettings(msgspec.Struct, frozen=True):
    """The section `detection`, checked; its fields are those of `DETECTION_SCHEMA`."""

    hosts: tuple[str, ...] = ()
    mdns: _Services = _Services()
    genicam: _Interfaces = _Interfaces()
    visa: _Visa = _Visa()

    @classmethod
    def of(cls, file: ConfigFile) -> DetectionSettings:
        """What `file` says.

        Raises ConfigurationError: the file cannot be read, or the section breaks its schema; file and line are told.
        """
        section = file.section("detection") if file.path.exists() else None  # reading YAML takes 15 ms to import
        if section is None:
            return cls()
        for fault in faults(DETECTION_SCHEMA, section, "detection"):
            raise file.error(fault.field, fault.found, fault.expected)
        return msgspec.convert(section, cls)
