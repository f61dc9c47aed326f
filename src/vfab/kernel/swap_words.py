"""What a replacement of a driver is told, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfab.model.errors import DriverError
from vfab.model.manifest import Manifest

__all__ = ["NewPlugin", "SwapOptions", "SwapReport"]

Journal = Callable[[str, Mapping[str, Any]], Awaitable[None]]


async def _no_journal(step: str, detail: Mapping[str, Any]) -> None:
    """Nobody writes it down."""


@dataclass(frozen=True, slots=True)
class SwapOptions:
    """How to go about it.

    Attributes:
        drain_s: how long the operation under way may take to its end, or its next safe point.
        now: do not wait for it: it is cancelled, and its caller told.
        hand_over_s: how long letting go, and taking over, may take each.
        probation_s: how long the new driver is watched with the old one warm; longer while a stream that ran before
            sends nothing, or calls that were given up are not answered. 0: it is looked at once.
        journal: told of each step before it is taken.
    """

    drain_s: float = 60.0
    now: bool = False
    hand_over_s: float = 10.0
    probation_s: float = 0.5
    journal: Journal = _no_journal


@dataclass(slots=True)
class SwapReport:
    """What became of a swap.

    Attributes:
        device, old, new: which device, from which driver and version to which.
        outcome: committed, rolled_back, or lost: neither driver could have it, and what follows is what follows every
            death of a driver.
        blackout_s: for how long no driver had the device.
        prepare_s, drain_s: how long these steps took.
        error: why it was rolled back.
    """

    device: str
    old: str
    new: str
    outcome: str = ""
    blackout_s: float = 0.0
    prepare_s: float = 0.0
    drain_s: float = 0.0
    error: DriverError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "device": self.device,
            "old": self.old,
            "new": self.new,
            "outcome": self.outcome,
            "blackout_ms": round(self.blackout_s * 1000, 3),
            "prepare_ms": round(self.prepare_s * 1000, 3),
            "drain_ms": round(self.drain_s * 1000, 3),
            "error": self.error.to_public() if self.error is not None else None,
        }


@dataclass(frozen=True, slots=True)
class NewPlugin:
    """The driver that is to take over."""

    manifest: Manifest
    folder: Path
    paths: tuple[str, ...] = ()
