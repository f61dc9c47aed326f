"""The bench: every subject in turn, in a folder of its own that is removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from vfab.apps.bench.findings import Session
from vfab.model.alike import alike
from vfab.model.errors import ConfigurationError

__all__ = ["SUBJECTS", "all_keys", "run_bench"]

_DEEP = 50
"""Characters of a folder's name that leave room for a socket below it: 107 are all that a name may have."""

SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "memory": ("idle_cpu_percent", "host_private_mib", "kernel_private_mib", "fifty_devices_mib"),
    "start": ("host_start_ms", "host_start_confined_ms"),
    "calls": ("call_us", "call_async_us", "calls_per_s_64", "reply_1mib_us"),
    "manager": ("manager_command_us",),
    "attack": ("call_us_under_attack", "call_async_us_under_attack"),
    "recovery": ("crash_to_ready_ms",),
    "swap": ("swap_blackout_ms", "swap_commands_lost", "swap_stream_gap_ms", "swap_samples_lost"),
    "streams": (
        "samples_per_s_1",
        "samples_per_s_8",
        "samples_batched_per_s_1",
        "samples_batched_per_s_8",
        "frames_per_s_1",
        "frames_per_s_8",
    ),
    "categories": (
        "camera_frames_per_s",
        "sensor_readings_per_s",
        "instrument_query_us",
        "communication_messages_per_s",
    ),
    "events": ("events_per_s_1", "events_per_s_100"),
    "discovery": ("discovery_cold_ms", "discovery_warm_ms"),
    "scan": ("scan_ms",),
    "programs": ("cli_help_ms", "cli_driver_list_ms"),
    "plan": ("plan_segments_per_s", "plot_time_ratio"),
}
"""Modules of this package and the figures that each measures, in the order in which they are run."""


def all_keys() -> tuple[str, ...]:
    """Every figure that can be measured."""
    return tuple(key for keys in SUBJECTS.values() for key in keys)


def run_bench(
    *, quick: bool = False, only: Collection[str] = (), say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Measure; the document that `vfab bench --json` prints.

    Args:
        quick: within 30 seconds instead of five minutes.
        only: the keys to measure; none means all.
        say: is told what is measured now.

    Raises ConfigurationError: `only` names a key that does not exist.
    """
    wanted = _wanted(only)
    begun = perf_counter()
    with tempfile.TemporaryDirectory(prefix="vfab-bench-", dir=_where_sockets_fit()) as folder:
        session = Session(wanted, quick, Path(folder), say)
        for subject, keys in SUBJECTS.items():
            if wanted & set(keys):
                import_module(f"vfab.apps.bench.{subject}").run(session)
    document = session.findings.document()
    document["about"] |= {"quick": quick, "elapsed_s": round(perf_counter() - begun, 1)}
    return document


def _where_sockets_fit() -> str | None:
    """The folder for temporary files, unless it is so deep that a Unix socket in it would have too long a name."""
    return "/tmp" if len(tempfile.gettempdir()) > _DEEP else None  # noqa: S108 - a private folder is made in it


def _wanted(only: Collection[str]) -> frozenset[str]:
    known = all_keys()
    unknown = sorted(set(only) - set(known))
    if unknown:
        near = alike(unknown[0], known, 1)
        raise ConfigurationError(
            f"there is no figure {unknown[0]!r}",
            context={"field": "--only", "known": list(known)},
            remedy=f"Did you mean {near[0]}?" if near else f"Figures: {', '.join(known)}.",
        )
    return frozenset(only or known)
