"""The manifest of a plugin that has none: what its source says, with the care that such a plugin needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vfab.dialects.reading import Source, first_line
from vfab.model.manifest import Dialect, Manifest, manifest_from_dict
from vfab.model.versions import parse_version

__all__ = ["CATEGORIES", "make_manifest", "plugin_name", "version_of"]

CATEGORIES = ("camera", "sensor", "instrument", "communication")
"""Categories that an older plugin may claim. Not plotter: `vfab plot` needs methods that no older shape has."""

START_S = 20.0
INITIALIZE_S = 30.0
CONNECT_S = 30.0
"""Older shapes say nothing of their time; most wait for a serial port or a TCP connection."""


def plugin_name(text: object) -> str:
    """A plugin's name made of what its author calls it: letters, digits, `_ . -`."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in str(text)).strip("-._ ")
    return (kept if kept[:1].isalpha() else f"plugin-{kept}".rstrip("-"))[:64]


def version_of(*candidates: object) -> str:
    """The first of `candidates` that is a version (PEP 440); 0.0.0 when none is."""
    for text in candidates:
        if isinstance(text, str | int | float) and not isinstance(text, bool):
            try:
                parse_version(str(text))
            except ValueError:
                continue
            return str(text)
    return "0.0.0"


def make_manifest(
    source: Source, dialect: Dialect, class_name: str, fields: Mapping[str, Any], *, doc: str = ""
) -> Manifest:
    """The manifest of the plugin in `source`, whose class (or manager's factory) is `class_name`.

    `fields` are the manifest's own; empty ones are left out. The plugin was written before there were permissions: it
    opens its ports and sockets itself.

    Raises BadManifest: a name or value that its author wrote breaks a rule of manifests; the context has `file`.
    """
    given = {key: value for key, value in fields.items() if value not in (None, "", (), [], {})}
    claimed = str(given.pop("category", "")).lower()
    data: dict[str, Any] = {
        "author": str(source.constants.get("__author__") or "unknown"),
        "description": doc or first_line(source.tree) or f"{given['name']}, a plugin in one file",
        "license": str(source.constants.get("__license__") or ""),
        **given,
        "category": claimed if claimed in CATEGORIES else "instrument",
        "driver_class": f"{plugin_name(source.stem).replace('-', '_').replace('.', '_')}.{class_name}",
        "permissions": {"network": "host", "subprocess": "subprocess" in source.imported.values()},
        "runtime": {
            "dialect": dialect,
            "start_timeout_s": START_S,
            "initialize_timeout_s": INITIALIZE_S,
            "connect_timeout_s": CONNECT_S,
        },
    }
    manifest = manifest_from_dict(data, file=source.path)
    return msgspec.structs.replace(manifest, runtime=msgspec.structs.replace(manifest.runtime, source=source.path))
