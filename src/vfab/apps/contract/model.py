"""The words of the contract suite: a check, what came of it, and the report of a run. Nothing here runs anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vfab.apps.contract.bench import ContractBench

__all__ = ["Broken", "Check", "Outcome", "Report", "Result", "Skip"]

Outcome = Literal["passed", "failed", "exempt", "skipped"]


class Skip(Exception):
    """The check does not apply here; the text says why."""


class Broken(Exception):
    """The driver breaks the contract; the text says how."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that every driver does, or every driver of a category.

    Attributes:
        name: what `--only` and exemptions call it.
        sentence: what the driver does when it passes.
        run: looks; returns what was seen, raises Broken, Skip or a DriverError.
        category: drivers of this category only; "" for all.
        simulated: on a simulated device only: it might move, break or wear out a real one.
        through_proxy: needs a byte stream to its device, for a `FaultProxy` to stand in.
        limit_s: how long it may take until it counts as hanging.
    """

    name: str
    sentence: str
    run: Callable[[ContractBench], Awaitable[str]]
    category: str = ""
    simulated: bool = True
    through_proxy: bool = False
    limit_s: float = 120.0

    def why_not(self, bench: ContractBench) -> str:
        """Why it cannot be run on `bench`; "" when it can."""
        if self.simulated and not bench.simulated:
            return "not on a real device"
        return bench.no_stream if self.through_proxy else ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check.

    Attributes:
        name, sentence: the check's.
        outcome: passed, failed, exempt (it fails, and quality.yaml says why it may) or skipped.
        seconds: how long it took.
        note: why, or what was seen.
        needless: it is exempt in quality.yaml, and passes.
    """

    name: str
    sentence: str
    outcome: Outcome
    seconds: float
    note: str = ""
    needless: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


@dataclass(slots=True)
class Report:
    """A run of the suite over one driver."""

    driver: str
    device: str
    results: list[Result] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """No check failed, and something was checked."""
        return bool(self.results) and not self.failed

    @property
    def failed(self) -> list[Result]:
        """The checks that failed."""
        return [result for result in self.results if result.outcome == "failed"]

    def count(self, outcome: Outcome) -> int:
        """How many checks had that outcome."""
        return sum(result.outcome == outcome for result in self.results)

    def rows(self) -> list[Sequence[str]]:
        """(outcome, check, seconds, what) of each check, for a table."""
        return [(r.outcome, r.name, f"{r.seconds:.2f}", r.note or r.sentence) for r in self.results]

    def summary(self) -> str:
        """One line."""
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in ("passed", "failed", "exempt", "skipped"))
        return f"{self.driver}: {counts}"

    def table(self) -> str:
        """The whole report as text, failures first."""
        rows = sorted(self.rows(), key=lambda row: row[0] != "failed")
        width = max((len(row[1]) for row in rows), default=0)
        lines = [f"  {row[0]:<7}  {row[1]:<{width}}  {row[2]:>6} s  {row[3]}" for row in rows]
        return "\n".join([self.summary(), *lines])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "driver": self.driver,
            "device": self.device,
            "passed": self.passed,
            "checks": [result.to_dict() for result in self.results],
        }
