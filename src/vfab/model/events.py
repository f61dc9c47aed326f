"""Events: what happened to a driver or device, for listeners and history (seed 001 §8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["DriverEvent"]


@dataclass(frozen=True, slots=True)
class DriverEvent:
    """One thing that happened.

    Attributes:
        event_type: `state_changed`, `log`, `progress`, `resource_warning`, or a driver's own type.
        timestamp: when, timezone-aware UTC.
        driver_name: the driver concerned.
        data: what a listener needs; JSON-serialisable.
        source: "driver" for what its host sent, "kernel" for what vfab itself noticed.
        device_id: the device concerned, or "".
        generation: number of the host that it came from, 0 for none.
    """

    event_type: str
    timestamp: datetime
    driver_name: str
    data: dict[str, Any] = field(default_factory=dict)
    source: str = "driver"
    device_id: str = ""
    generation: int = 0
