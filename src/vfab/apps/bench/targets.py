"""What we aim at, for each key: the figure itself, and where it counts the ratio to a peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["TARGETS", "Target", "Verdict", "headline", "judge"]


@dataclass(frozen=True, slots=True)
class Target:
    """One aim.

    Attributes:
        text: for people.
        met: whether a figure meets it: (ours, the named peer's or None) -> verdict; None when it cannot be told.
        peer: the peer that the aim names, or "" for the best of all, None for none.
        at: which part of a distribution counts.
    """

    text: str
    met: Callable[[float, float | None], bool | None]
    peer: str | None = None
    at: str = "p50"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a figure stands against its aim. `ratio` is ours / peer's."""

    ours: float
    peer: str | None
    theirs: float | None
    ratio: float | None
    met: bool | None
    text: str


def _at_most(limit: float) -> Callable[[float, float | None], bool | None]:
    return lambda ours, theirs: ours <= limit


def _at_least(limit: float) -> Callable[[float, float | None], bool | None]:
    return lambda ours, theirs: ours >= limit


def _times(factor: float) -> Callable[[float, float | None], bool | None]:
    return lambda ours, theirs: None if theirs is None else ours <= factor * theirs


def _ahead_by(factor: float) -> Callable[[float, float | None], bool | None]:
    return lambda ours, theirs: None if theirs is None else ours >= factor * theirs


def _ahead(ours: float, theirs: float | None) -> bool | None:
    return None if theirs is None else ours > theirs


ZEROMQ = "ZeroMQ"

TARGETS: Mapping[str, Target] = {
    "discovery_cold_ms": Target("≤ 400 ms", _at_most(400), "import them all"),
    "discovery_warm_ms": Target("≤ 15 ms", _at_most(15), "import them all"),
    "scan_ms": Target("≤ 2000 ms, the deadline", _at_most(2050)),
    "host_start_ms": Target("≤ 10 ms", _at_most(10), "fresh Python + msgspec"),
    "host_start_confined_ms": Target("≤ 20 ms", _at_most(20), "bwrap + fresh Python"),
    "call_us": Target("≤ 1.5× bare socket", _times(1.5), "bare socket"),
    "call_async_us": Target("≤ 1.2× asyncio streams", _times(1.2), "asyncio streams"),
    "calls_per_s_64": Target("ahead of every peer", _ahead, ""),
    "reply_1mib_us": Target("≤ 2× bare socket", _times(2), "bare socket"),
    "host_private_mib": Target("≤ 3 MiB", _at_most(3), "fresh Python + asyncio + msgspec"),
    "kernel_private_mib": Target("≤ 45 MiB", _at_most(45)),
    "fifty_devices_mib": Target("≤ 200 MiB: the kernel and 3 MiB a host", _at_most(200)),
    "idle_cpu_percent": Target("≤ 1 %", _at_most(1)),
    "manager_command_us": Target("≤ 250 µs", _at_most(250), "blocking channel, no states"),
    "call_us_under_attack": Target("p99 ≤ 5 ms", _at_most(5000), "in peace", at="p99"),
    "call_async_us_under_attack": Target("p99 ≤ 20 ms", _at_most(20_000), "in peace", at="p99"),
    "crash_to_ready_ms": Target("p99 ≤ 300 ms", _at_most(300), at="p99"),
    "swap_blackout_ms": Target("p99 ≤ 10 ms", _at_most(10), "restart of the process", at="p99"),
    "swap_commands_lost": Target("0", _at_most(0)),
    "swap_stream_gap_ms": Target("p99 ≤ 10 ms, as long as the swap", _at_most(10), at="p99"),
    "swap_samples_lost": Target("0", _at_most(0)),
    "samples_per_s_1": Target("≥ 1.5× ZeroMQ", _ahead_by(1.5), ZEROMQ),
    "samples_per_s_8": Target("≥ 1.5× ZeroMQ", _ahead_by(1.5), ZEROMQ),
    "samples_batched_per_s_1": Target("≥ 1× ZeroMQ", _ahead_by(1), ZEROMQ),
    "samples_batched_per_s_8": Target("≥ 1× ZeroMQ", _ahead_by(1), ZEROMQ),
    "frames_per_s_1": Target("≥ 3× ZeroMQ", _ahead_by(3), ZEROMQ),
    "frames_per_s_8": Target("≥ 15× ZeroMQ", _ahead_by(15), ZEROMQ),
    "camera_frames_per_s": Target("≥ 120 pictures a second", _at_least(120)),
    "sensor_readings_per_s": Target("≥ 2,000", _at_least(2000)),
    "instrument_query_us": Target("≤ 1,000 µs", _at_most(1000)),
    "communication_messages_per_s": Target("≥ 20,000", _at_least(20_000)),
    "events_per_s_1": Target("≥ 200,000", _at_least(200_000)),
    "events_per_s_100": Target("≥ 10,000, a million calls", _at_least(10_000)),
    "cli_help_ms": Target("≤ 150 ms", _at_most(150), "python -c pass"),
    "cli_driver_list_ms": Target("≤ 200 ms", _at_most(200), "python -c pass"),
    "plan_segments_per_s": Target("≥ 50,000", _at_least(50_000), "saxi"),
    "plot_time_ratio": Target("≤ 1.0× saxi", _at_most(1.0), "saxi"),
}
"""Figures of which more is better are the `…_per_s` ones."""


def headline(figure: Any, at: str = "p50") -> float:
    """The one number that stands for `figure`."""
    return float(figure[at]) if isinstance(figure, Mapping) else float(figure)


def judge(document: Mapping[str, Any], key: str) -> Verdict:
    """How the figure `key` of a bench document stands. Raises KeyError: it is not in it."""
    target = TARGETS[key]
    ours = headline(document[key], target.at)
    peer, theirs = target.peer, None
    measured = {
        name: headline(figures[key], target.at) for name, figures in document["peers"].items() if key in figures
    }
    if peer == "":
        best = max(measured, key=lambda name: measured[name], default=None)
        peer, theirs = best, measured.get(best) if best is not None else None
    elif peer is not None:
        theirs = measured.get(peer)
    ratio = ours / theirs if theirs else None
    return Verdict(ours, peer, theirs, ratio, target.met(ours, theirs), target.text)
