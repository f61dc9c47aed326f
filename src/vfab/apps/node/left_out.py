"""Which drivers nobody may use now: those that somebody disabled, and those that the node died under."""

from __future__ import annotations

from typing import Any

from vfab.apps.node.keeping import KeepingSession
from vfab.model.errors import DriverError
from vfab.store.records import Suspect

__all__ = ["LeftOut"]


class LeftOut:
    """Says of each driver whether it may be used, and why not.

    Attributes:
        disabled: names of drivers that somebody switched off.
        suspects: drivers that the node died under, by name.
    """

    def __init__(self) -> None:
        self.disabled: frozenset[str] = frozenset()
        self.suspects: dict[str, Suspect] = {}

    def apply(self, session: KeepingSession) -> None:
        """Have the session refuse these drivers."""
        session.leave_out(dict.fromkeys(self.disabled, "it is disabled; `vfab driver enable` switches it on"))
        reasons = {
            name: f"{s.reason}; `vfab driver enable {name}` lets it in again" for name, s in self.suspects.items()
        }
        session.leave_out(reasons)

    def why(self, name: str) -> DriverError | None:
        """Why a driver is left out; None when it is not."""
        suspect = self.suspects.get(name)
        if suspect is None and name not in self.disabled:
            return None
        why = suspect.reason if suspect else "it is disabled"
        error = DriverError(
            f"{name} is left out: {why}", driver_name=name, remedy=f"`vfab driver enable {name}` lets it in again."
        )
        error.code = "driver_left_out"  # type: ignore[misc]
        return error

    def to_dicts(self) -> list[dict[str, Any]]:
        """The suspects, for `vfab status`."""
        return [
            {
                "driver": suspect.driver,
                "verdict": suspect.verdict.value,
                "reason": suspect.reason,
                "since": suspect.since.isoformat(),
                "deaths": suspect.deaths,
                "remedy": f"`vfab driver enable {suspect.driver}` lets it in again.",
            }
            for suspect in self.suspects.values()
        ]
