"""Safe start: who was at work when the node died, and is left out next time until it is shown to be harmless.

A driver that was being started when the node died may have taken it down, or somebody may have killed the node in that
moment. So it is left out, named, and tried out a little later in a process of its own; only what takes that down, too,
or is there at the third death, stays out until somebody lets it in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vfab.store.records import JournalEntry, Suspect, Verdict

__all__ = ["DEATHS_FOR_GUILT", "DEATHS_IN_USE", "Accusation", "judge", "trial_after_s"]

STARTING = frozenset({"init", "connect", "reset", "start", "restart", "trial"})
"""Operations that bring a driver up: one death under them is enough to be suspected."""

DEATHS_IN_USE = 3
"""Deaths of the node under a driver's commands that make it suspected: a command is often under way."""

DEATHS_FOR_GUILT = 3
"""Deaths after which nobody tries a driver out any more."""


@dataclass(frozen=True, slots=True)
class Accusation:
    """What the death of a node means for a driver.

    Attributes:
        verdict: None where it is only counted.
    """

    driver: str
    operation: str
    verdict: Verdict | None
    reason: str


def judge(
    open_entries: Iterable[JournalEntry], suspects: Iterable[Suspect], deaths_in_use: Mapping[str, int]
) -> list[Accusation]:
    """Whom the death concerns, by what was under way.

    Args:
        open_entries: what had begun and not ended.
        suspects: who was suspected before.
        deaths_in_use: earlier deaths of the node under commands of a driver, by its name.
    """
    known = {suspect.driver: suspect for suspect in suspects}
    found: dict[str, Accusation] = {}
    for entry in open_entries:
        if not entry.driver or (entry.driver in found and found[entry.driver].verdict is not None):
            continue
        name, where = entry.driver, f" for {entry.device_id}" if entry.device_id else ""
        if entry.operation in STARTING:
            deaths = 1 + (known[name].deaths if name in known else 0)
            times = "" if deaths == 1 else f", for the {deaths}. time"
            verdict = Verdict.GUILTY if deaths >= DEATHS_FOR_GUILT else Verdict.SUSPECT
            found[name] = Accusation(
                name, entry.operation, verdict, f"the node died while {name} was being started{where}{times}"
            )
        else:
            count = 1 + deaths_in_use.get(name, 0)
            verdict_in_use = Verdict.SUSPECT if count >= DEATHS_IN_USE else None
            reason = f"the node died {count} times during commands of {name}, last {entry.operation}{where}"
            found[name] = Accusation(name, entry.operation, verdict_in_use, reason)
    return list(found.values())


def trial_after_s(deaths: int) -> float:
    """Seconds from the node's start until a suspect is tried out; longer each time, for the others' sake."""
    return float(2.0 * 4.0 ** (max(deaths, 1) - 1))
