"""What vfab costs while nothing happens: memory of a host and of the kernel, CPU time with 50 devices."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil

from vfab.apps.bench.findings import Session
from vfab.apps.bench.kernel import make_plugin
from vfab.apps.bench.peers.process import child
from vfab.apps.bench.peers.servers import SERVERS

__all__ = ["KEYS", "run"]

KEYS = ("host_private_mib", "kernel_private_mib", "idle_cpu_percent", "fifty_devices_mib")
DEVICES = 50
_FRESH = "fresh Python + asyncio + msgspec"
_FRESH_CODE = "import asyncio, msgspec, sys; print(flush=True); sys.stdin.read()"
_PARTS = 8
_SETTLE_S = 1.0


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    make_plugin(session.folder)
    if session.wanted & {"kernel_private_mib"}:
        session.say("kernel_private_mib")
        with Node(session.folder) as node:
            session.findings.put("kernel_private_mib", round(_mib(node.processes()), 2))
        _servers(session)
    if session.wanted & {"host_private_mib"}:
        _host(session)
    if session.wanted & {"idle_cpu_percent", "fifty_devices_mib"}:
        _many_devices(session)


class Node:
    """A kernel in a process of its own, as `vfab up` would run it: registry, detection, supervisor, zygote."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._folder = folder

    def __enter__(self) -> Node:
        self._process = self._stack.enter_context(child(["-m", "vfab.apps.bench.node", str(self._folder)]))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self, devices: int) -> None:
        """Connect `devices` more devices, each with a host of its own."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{devices}\n".encode())
        self._process.stdin.flush()
        if json.loads(self._process.stdout.readline() or b"null") != devices:
            raise RuntimeError("the kernel under test could not connect its devices")

    def processes(self) -> list[psutil.Process]:
        """The kernel, its zygote and every host."""
        kernel = psutil.Process(self._process.pid)
        return [kernel, *kernel.children(recursive=True)]


def _servers(session: Session) -> None:
    """The same of what people use instead, where it is installed."""
    for server in SERVERS:
        program = server.find(os.environ)
        if program is None:
            remedy = f"Install it into an environment of its own, and name its command in {server.variable}."
            session.findings.lacks(server.name, "it is not installed", remedy)
            continue
        session.say(f"kernel_private_mib: {server.name}")
        try:
            with server.at_rest(program, session.folder / server.program) as processes:
                session.findings.put("kernel_private_mib", round(_mib(processes), 2), server.name)
        except RuntimeError as error:
            session.findings.lacks(server.name, str(error), "Start it by itself to see why.")


def _host(session: Session) -> None:
    """How much the memory of all processes together grows with each further one."""
    session.say(f"host_private_mib: {_PARTS} hosts, {_PARTS} fresh Pythons")
    with Node(session.folder) as node:
        node.connect(2)
        grown = _growth(node.processes, lambda: node.connect(_PARTS))
    session.findings.put("host_private_mib", grown)
    with ExitStack() as stack:
        running: list[psutil.Process] = []

        def more(count: int) -> None:
            for _ in range(count):
                process = stack.enter_context(child(["-c", _FRESH_CODE]))
                running.append(psutil.Process(process.pid))

        more(2)
        session.findings.put("host_private_mib", _growth(lambda: running, lambda: more(_PARTS)), _FRESH)


def _growth(processes: Callable[[], Iterable[psutil.Process]], add: Callable[[], None]) -> float:
    before = _mib(processes())
    add()
    return round((_mib(processes()) - before) / _PARTS, 3)


def _mib(processes: Iterable[psutil.Process]) -> float:
    """Memory that the processes hold together, pages that they share counted once (PSS; USS where there is none)."""
    total = 0
    for process in processes:
        info = process.memory_full_info()
        total += getattr(info, "pss", 0) or info.uss
    return total / 2**20


def _many_devices(session: Session) -> None:
    with Node(session.folder) as node:
        node.connect(DEVICES)
        time.sleep(_SETTLE_S)
        processes = node.processes()
        if "idle_cpu_percent" in session.wanted:
            _idle(session, processes)
        if "fifty_devices_mib" in session.wanted:
            session.say(f"fifty_devices_mib: {DEVICES} devices")
            session.findings.put("fifty_devices_mib", round(_mib(processes), 2))
            session.findings.notes["fifty_devices_mib"] = (
                f"kernel, zygote and hosts, {len(processes)} processes together"
            )


def _idle(session: Session, processes: list[psutil.Process]) -> None:
    seconds = session.many(5, 15)
    session.say(f"idle_cpu_percent: {DEVICES} devices, {seconds} s")
    before, switched, begun = _cpu_s(processes), _switches(processes), time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - begun
    percent = 100 * (_cpu_s(processes) - before) / elapsed
    wakeups = (_switches(processes) - switched) / elapsed
    session.findings.put("idle_cpu_percent", round(percent, 3))
    session.findings.notes["idle_cpu_percent"] = (
        f"of one core, {len(processes)} processes together; {wakeups:.1f} wake-ups per second"
    )


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds used so far, to the nanosecond where the system tells."""
    return sum(_cpu_of(process) for process in processes)


def _cpu_of(process: psutil.Process) -> float:
    tasks = Path(f"/proc/{process.pid}/task")
    if sys.platform == "linux" and (tasks / str(process.pid) / "schedstat").exists():
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
    times = process.cpu_times()
    return times.user + times.system


def _switches(processes: Iterable[psutil.Process]) -> int:
    """How often any thread of theirs went to sleep so far."""
    total = 0
    for process in processes:
        for task in Path(f"/proc/{process.pid}/task").glob("*/status"):
            lines = task.read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))
    return total
