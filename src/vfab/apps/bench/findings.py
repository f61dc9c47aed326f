"""What a run found, collected into the one document that `vfab bench --json` prints."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vfab.apps.bench.measure import median, spread

__all__ = ["Findings", "Session", "about"]

_VERSIONS = ("msgspec", "PyYAML", "Pyro5", "rpyc", "grpcio", "pyzmq", "typer")


@dataclass(slots=True)
class Findings:
    """Figures of vfab and of its peers; names of peers that are missing, with why and what to do.

    Attributes:
        figures: vfab's own, by key.
        peers: each peer's, by name and key.
        missing: `{peer: {"why", "remedy"}}`.
        notes: what a reader must know about a figure, by key.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: object, peer: str | None = None) -> None:
        """Note one figure, vfab's unless `peer` is named."""
        where = self.figures if peer is None else self.peers.setdefault(peer, {})
        where[key] = value

    def distribution(self, key: str, samples: Sequence[float], peer: str | None = None) -> None:
        """Note the spread of `samples`."""
        self.put(key, spread(samples), peer)

    def number(self, key: str, samples: Sequence[float], peer: str | None = None) -> None:
        """Note the median of `samples` as a plain number."""
        self.put(key, median(samples), peer)

    def lacks(self, peer: str, why: str, remedy: str) -> None:
        """Note that `peer` could not be measured."""
        self.missing[peer] = {"why": why, "remedy": remedy}

    def document(self) -> dict[str, Any]:
        """All of it, as `vfab bench --json` prints it."""
        return {
            "about": about(),
            **self.figures,
            "peers": self.peers,
            "missing": self.missing,
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class Session:
    """One run.

    Attributes:
        wanted: the keys that are asked for.
        quick: 30 seconds instead of five minutes.
        folder: for whatever the run makes; it is removed afterwards.
        say: shows progress.
        findings: what has been found.
    """

    wanted: frozenset[str]
    quick: bool
    folder: Path
    say: Callable[[str], None]
    findings: Findings = field(default_factory=Findings)

    def many(self, quick: int, full: int) -> int:
        """How often to measure."""
        return quick if self.quick else full


def about() -> dict[str, Any]:
    """The machine and the versions that were measured."""
    import psutil

    import vfab

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "vfab": vfab.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "executable": Path(sys.executable).name,
        "versions": {name: version for name in _VERSIONS if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
