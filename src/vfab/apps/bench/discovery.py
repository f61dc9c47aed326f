"""Finding 1,000 plugins, seen for the first time and seen before; beside importing them all."""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path
from time import perf_counter

from vfab.apps.bench.findings import Session
from vfab.apps.bench.measure import take_turns
from vfab.apps.bench.peers.process import child
from vfab.apps.bench_data import make_plugin_tree
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry

__all__ = ["KEYS", "run"]

KEYS = ("discovery_cold_ms", "discovery_warm_ms")
PLUGINS = 1000
_IMPORTING = "import them all"
_STAT = "scandir and stat"


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    tree = session.folder / "discovery" / "plugins"
    session.say(f"discovery: writing {PLUGINS} plugins")
    make_plugin_tree(tree, PLUGINS)
    if "discovery_cold_ms" in session.wanted:
        _cold(session, tree)
    if "discovery_warm_ms" in session.wanted:
        _warm(session, tree)


def _discover(tree: Path, cache: Path) -> None:
    found = DriverRegistry(Places.only(tree, cache=cache)).discover_drivers()
    if len(found) != PLUGINS:
        raise AssertionError(f"{len(found)} of {PLUGINS} plugins were found")


def _cold(session: Session, tree: Path) -> None:
    numbers = count()
    compiled = session.folder / "compiled"
    importing: list[float] = []
    session.say("discovery_cold_ms")

    def ours() -> None:
        _discover(tree, session.folder / f"index-{next(numbers)}")

    samples: list[float] = []
    for number in range(session.many(3, 9)):
        samples += take_turns({"": ours}, rounds=1, warm=0)[""]
        importing.append(_import_ms(tree, compiled / str(number)))
    session.findings.distribution("discovery_cold_ms", samples)
    session.findings.distribution("discovery_cold_ms", importing, _IMPORTING)


def _warm(session: Session, tree: Path) -> None:
    cache, compiled = session.folder / "index-warm", session.folder / "compiled" / "warm"
    session.say("discovery_warm_ms")

    def ours() -> None:
        _discover(tree, cache)

    def stat_all() -> None:
        for entry in os.scandir(tree):
            os.stat(entry.path + "/plugin.yaml")  # noqa: PTH116 — the floor: nothing may be quicker

    taken = take_turns({"": ours, _STAT: stat_all}, rounds=session.many(10, 50), warm=2)
    session.findings.distribution("discovery_warm_ms", taken[""])
    session.findings.distribution("discovery_warm_ms", taken[_STAT], _STAT)
    _import_ms(tree, compiled)
    importing = [_import_ms(tree, compiled) for _ in range(session.many(3, 9))]
    session.findings.distribution("discovery_warm_ms", importing, _IMPORTING)


def _import_ms(tree: Path, compiled: Path) -> float:
    """Import every driver in a fresh process; bytecode is read from and written to `compiled`."""
    arguments = ["-X", f"pycache_prefix={compiled}", "-m", __name__, str(tree)]
    with child(arguments) as process:
        assert process.stdout is not None
        return float(process.stdout.readline())


def import_all(tree: str) -> float:
    """Import `driver.py` of every plugin below `tree`; milliseconds."""
    import importlib.machinery
    import importlib.util

    begun = perf_counter()
    for entry in sorted(os.scandir(tree), key=lambda entry: entry.name):
        loader = importlib.machinery.SourceFileLoader(f"peer_{entry.name}", f"{entry.path}/driver.py")
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    return (perf_counter() - begun) * 1e3


if __name__ == "__main__":
    sys.stdout.write(f"ready\n{import_all(sys.argv[1])}\n")
    sys.stdout.flush()
