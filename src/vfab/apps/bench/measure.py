"""Timing: candidates take turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

__all__ = ["Samples", "median", "spread", "take_turns"]

Samples = list[float]


def spread(samples: Sequence[float]) -> dict[str, float | int]:
    """`samples` as `{"p50", "p99", "min", "iqr", "n"}`; the quantiles are samples that really occurred.

    Raises ValueError: there are none.
    """
    if not samples:
        raise ValueError("nothing was measured")
    ordered = sorted(samples)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "p50": _short(at(0.5)),
        "p99": _short(at(0.99)),
        "min": _short(ordered[0]),
        "iqr": _short(at(0.75) - at(0.25)),
        "n": len(ordered),
    }


def median(samples: Sequence[float]) -> float:
    """The median, as `spread` would print it."""
    return _short(statistics.median(samples))


def _short(value: float) -> float:
    """Four significant digits: more would pretend."""
    return float(f"{value:.4g}")


def take_turns(
    candidates: Mapping[str, Callable[[], Any]], *, rounds: int, each: int = 1, warm: int = 1, per_s: float = 1e3
) -> dict[str, Samples]:
    """Time every candidate `rounds` × `each` times, in turns: A B A B.

    Args:
        candidates: what to call, by name.
        rounds: how often each one's turn comes.
        each: calls in one turn.
        warm: calls of each one before anything counts; one more starts every turn, so that the caches are its own.
        per_s: the unit of the samples as parts of a second: 1e3 for milliseconds, 1e6 for microseconds.

    Returns:
        The samples by name.
    """
    taken: dict[str, Samples] = {name: [] for name in candidates}
    for candidate in candidates.values():
        for _ in range(warm):
            candidate()
    scale = per_s / 1e9
    for _ in range(rounds):
        for name, candidate in candidates.items():
            samples = taken[name]
            if each > 1:
                candidate()
            for _ in range(each):
                begun = perf_counter_ns()
                candidate()
                samples.append((perf_counter_ns() - begun) * scale)
    return taken
