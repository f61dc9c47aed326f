"""Starting a driver: from the request to a host that is ready, with a plugin of 20 lines loaded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter_ns

from vfab.apps.bench.findings import Session
from vfab.apps.bench.kernel import LiveKernel
from vfab.apps.bench.measure import take_turns

__all__ = ["KEYS", "run"]

KEYS = ("host_start_ms", "host_start_confined_ms")
FRESH = {"fresh Python + msgspec": "import msgspec", "fresh Python + asyncio": "import asyncio"}
BWRAP = "bwrap + fresh Python"
_BWRAP = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "--die-with-parent")


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    if "host_start_ms" in session.wanted:
        _measure(session, "host_start_ms", {name: fresh_python(code) for name, code in FRESH.items()})
    if "host_start_confined_ms" in session.wanted:
        peers = {}
        program = shutil.which("bwrap")
        if program is None:
            session.findings.lacks(BWRAP, "it is not installed", "apt install bubblewrap")
        else:
            peers[BWRAP] = fresh_python(FRESH["fresh Python + msgspec"], (program, *_BWRAP))
        _measure(session, "host_start_confined_ms", peers, confined=True)


def _measure(session: Session, key: str, peers: dict[str, Callable[[], None]], *, confined: bool = False) -> None:
    rounds, each = session.many(8, 30), 4
    session.say(f"{key}: {rounds * each} starts, {rounds} of each peer")
    ours: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    with LiveKernel(session.folder, confined=confined) as kernel:
        kernel.run(_start_ms(kernel))  # starts the zygote, too
        for _ in range(rounds):
            ours += [kernel.run(_start_ms(kernel)) for _ in range(each)]
            for name, samples in take_turns(peers, rounds=1, warm=0).items():
                theirs[name] += samples
    session.findings.distribution(key, ours)
    for name, samples in theirs.items():
        session.findings.distribution(key, samples, name)


async def _start_ms(kernel: LiveKernel) -> float:
    """Start one driver and end it again; how long the start took."""
    device = kernel.device()
    begun = perf_counter_ns()
    await device.initialize()
    took_ms = (perf_counter_ns() - begun) / 1e6
    await kernel.supervisor.release(device.id)
    return took_ms


def fresh_python(code: str, within: tuple[str, ...] = ()) -> Callable[[], None]:
    """A new Python that runs `code` and says that it has; waits for the word, not for the end."""

    def start() -> None:
        command = [*within, sys.executable, "-c", f"{code}; print(flush=True)"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()

    return start
