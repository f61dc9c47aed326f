"""What a driver's process may use: `runtime.limits` of the manifest, and the settings of the same name that change it.

The manifest's author knows what the driver needs; who runs it knows what the machine has. So the manifest's figures are
defaults of settings `runtime.limits.memory_mb`, … of that driver, with all that settings have: config.yaml,
environment, command line, and `vfab config show`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

__all__ = ["Limits", "limits_and_settings", "settings_schema"]

_WHERE = ("runtime", "limits")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the driver's process may use, 0 for no limit. vfab ends a process that stays over one, and says so."""

    memory_mb: Annotated[
        float,
        Meta(
            ge=0,
            description="memory in MiB, with the programs that it started; of pages shared with others its part (PSS)",
        ),
    ] = 1024.0
    cpu_percent: Annotated[
        float, Meta(ge=0, description="mean CPU time over cpu_window_s, per cent of one core; 200 is two cores")
    ] = 0.0
    cpu_window_s: Annotated[float, Meta(gt=0, le=3600, description="seconds over which CPU time is averaged")] = 60.0
    threads: Annotated[int, Meta(ge=0, description="threads, with those of the programs that it started")] = 512
    over_s: Annotated[
        float, Meta(ge=0, le=3600, description="seconds that memory or threads must stay over their limit")
    ] = 2.0
    open_files: Annotated[
        int,
        Meta(ge=0, description="open descriptors; the system refuses one more (RLIMIT_NOFILE); at least 16 are left"),
    ] = 1024
    file_mb: Annotated[
        float, Meta(ge=0, description="MiB of a file or stream buffer that it writes (RLIMIT_FSIZE)")
    ] = 0.0
    state_mb: Annotated[
        float,
        Meta(
            ge=0,
            description="MiB on disk of all files in its state folder, temporary and removed but open ones included; "
            "its process is ended when it writes on beyond it",
        ),
    ] = 1024.0
    state_files: Annotated[
        int,
        Meta(
            ge=0, description="files and folders in its state folder; its process is ended when it makes more beyond it"
        ),
    ] = 10_000
    free_mb: Annotated[
        float,
        Meta(
            ge=0,
            description="MiB that stay free where its state folder lies; its process is ended when it takes up a "
            "sixteenth of that below it",
        ),
    ] = 256.0
    address_space_mb: Annotated[
        float, Meta(ge=0, description="address space in MiB, much more than memory (RLIMIT_AS)")
    ] = 0.0
    warn_share: Annotated[
        float, Meta(gt=0, le=1, description="share of a limit from which on events warn; of limits that were changed")
    ] = 0.8


def settings_schema(schema: Mapping[str, Any] | None, limits: Limits) -> dict[str, Any]:
    """The JSON Schema of all settings of a driver: its own `schema`, then `runtime.limits` with `limits` as defaults.

    A driver that has a setting `runtime` of its own keeps it; its limits are those of its manifest then.
    """
    whole: dict[str, Any] = dict(schema or {"type": "object"})
    outer, inner = _WHERE
    own = dict(whole.get("properties") or {})
    if outer not in own:
        leaf = {"type": "object", "additionalProperties": False, "properties": _fields(limits)}
        own[outer] = {"type": "object", "additionalProperties": False, "properties": {inner: leaf}}
    whole["properties"] = own
    return whole


def _fields(limits: Limits) -> dict[str, Any]:
    made = msgspec.json.schema(Limits)["$defs"]["Limits"]["properties"]
    return {name: {**field, "default": getattr(limits, name)} for name, field in made.items()}


def limits_and_settings(
    schema: Mapping[str, Any] | None, limits: Limits, config: Mapping[str, Any]
) -> tuple[Limits, dict[str, Any]]:
    """What `config`, checked against `settings_schema`, means: the limits, and the settings of the driver itself."""
    outer, inner = _WHERE
    own = dict(config)
    if outer in ((schema or {}).get("properties") or {}) or outer not in own:
        return limits, own
    given = own.pop(outer).get(inner, {})
    return msgspec.convert({**msgspec.structs.asdict(limits), **given}, Limits), own
