"""What is in the store, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

__all__ = ["InstalledPlugin", "JournalEntry", "NodeRun", "Suspect", "Verdict", "Wanted", "WantedDevice"]


class Wanted(StrEnum):
    """What somebody wants of a device until further notice."""

    READY = "ready"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class WantedDevice:
    """A device that the node keeps.

    Attributes:
        device_id: the stable id.
        driver: name of its driver.
        wanted: the state to be kept.
        address: where it was last; finds again what was given by address.
        overrides: settings for this device, by dotted field, stronger than config.yaml.
        since: when it was first wanted.
    """

    device_id: str
    driver: str
    wanted: Wanted
    since: datetime
    address: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A plugin as discovery last found it.

    Attributes:
        folder: where it is.
        installed_at: since when it is there as it is.
        digest: SHA-256 of its manifest, or of its only file; "" when that cannot be read.
        enabled: nobody switched its driver off.
    """

    name: str
    version: str
    folder: str
    installed_at: datetime
    digest: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the journal.

    Attributes:
        phase: `begin` (written before the deed), `end`, or `note` for what has no duration.
        of: the number of the `begin` that an `end` belongs to.
        run: the node's run that wrote it; 0 for commands without a node.
        outcome: of an `end`: `done`, or the error's code.
    """

    id: int
    at: datetime
    run: int
    phase: str
    operation: str
    device_id: str = ""
    driver: str = ""
    of: int | None = None
    outcome: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeRun:
    """One life of the node's process.

    Attributes:
        pid, process: its process and when that started, as the system counts.
        zygote_pid, zygote: the same of the process that its hosts were forked from; 0 and "" before there is one.
        ended_at: None while it runs, and for ever when it was killed.
    """

    id: int
    pid: int
    process: str
    started_at: datetime
    zygote_pid: int = 0
    zygote: str = ""
    ended_at: datetime | None = None


class Verdict(StrEnum):
    """What is thought of a plugin that was at work when the node died."""

    SUSPECT = "suspect"
    GUILTY = "guilty"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A driver that is left out because the node died under it."""

    driver: str
    verdict: Verdict
    reason: str
    since: datetime
    deaths: int = 1
