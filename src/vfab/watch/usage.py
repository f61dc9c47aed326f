"""What a driver's process uses: sampled, kept for a while, and told when it is too much (seed 001 §13)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vfab.model.events import DriverEvent

if TYPE_CHECKING:
    import psutil

__all__ = ["ResourceLimits", "ResourceMonitor", "ResourceUsage", "offspring_of"]

_MIB = 1024 * 1024
_REARM = 0.9
"""A limit that was crossed warns again only after the value fell below this part of it."""


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """One sample, or an average of several.

    Attributes:
        cpu_percent: of one core, since the sample before; 100 is one core fully used.
        memory_mb: resident memory in MiB, shared pages included.
        open_files: open descriptors of any kind: files, sockets, pipes, devices; of the process that has most, as the
            system's own limit counts them.
        thread_count: threads.
        timestamp: Unix time in seconds.
        pss_mb: proportional memory in MiB: private pages plus this process's part of shared ones; None where the
            system does not tell. For a host that was forked from the zygote this is the honest figure.
    """

    cpu_percent: float
    memory_mb: float
    open_files: float
    thread_count: float
    timestamp: float
    pss_mb: float | None = None

    @property
    def charged_mb(self) -> float:
        """The memory in MiB that limits are compared with: proportional where that is known, else resident."""
        return self.memory_mb if self.pss_mb is None else self.pss_mb


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """From where on a warning is given; the defaults are seed 001's. 0 means no limit."""

    cpu_percent: float = 80.0
    memory_mb: float = 500.0
    open_files: float = 100.0
    thread_count: float = 0.0


class ResourceMonitor:
    """Samples the process of one driver, with the programs that it started.

    A process that is gone is no error: there is no sample while there is none, and the next host is sampled in turn.

    Args:
        driver_name: the driver, for the events.
        pid: tells the number of its process, None while there is none; by default this process (seed 001).
        on_event: told of a `resource_warning`, once for each time that a limit is crossed, with `resource`, `value`
            and `limit` as data; called on the monitor's thread.
        limits: from where on to warn.
        device_id: the device that the driver runs for, for the events.
        clock: Unix time in seconds.
        max_history: how many samples are kept.
    """

    def __init__(
        self,
        driver_name: str,
        pid: Callable[[], int | None] = os.getpid,
        *,
        on_event: Callable[[DriverEvent], None] = lambda event: None,
        limits: ResourceLimits | None = None,
        device_id: str = "",
        clock: Callable[[], float] = time.time,
        max_history: int = 1000,
    ) -> None:
        self.driver_name = driver_name
        self.max_history = max_history
        self.usage_history: deque[ResourceUsage] = deque(maxlen=max_history)
        self._pid = pid
        self._on_event = on_event
        self._limits = limits or ResourceLimits()
        self._device_id = device_id
        self._clock = clock
        self._family: dict[int, psutil.Process] = {}
        self._crossed: set[str] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def monitoring(self) -> bool:
        """Samples are being taken."""
        return self._thread is not None

    def start_monitoring(self, interval: float = 1.0) -> None:
        """Sample every `interval` seconds, in a thread, until `stop_monitoring`. Started twice it goes on as it is."""
        if self._thread is not None:
            return
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(interval, self._stop), name=f"vfab-watch-{self.driver_name}", daemon=True
        )
        self._thread.start()

    def stop_monitoring(self) -> None:
        """Stop sampling; what was sampled is kept."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    def _run(self, interval: float, stop: threading.Event) -> None:
        while not stop.is_set():
            self.sample()
            stop.wait(interval)

    def sample(self) -> ResourceUsage | None:
        """Take one sample now; None while there is no process. The first one of a process has no CPU figure: 0."""
        import psutil

        with self._lock:
            try:
                usage = self._measure()
            except psutil.Error:  # it ended meanwhile, or belongs to somebody else
                self._family.clear()
                return None
            if usage is None:
                return None
            self.usage_history.append(usage)
            warnings = self._crossings(usage)
        for warning in warnings:
            self._on_event(warning)
        return usage

    def _measure(self) -> ResourceUsage | None:
        import psutil

        number = self._pid()
        if number is None:
            self._family.clear()
            return None
        if number not in self._family:
            self._family = {number: psutil.Process(number)}
            self._crossed.clear()
        process = self._family[number]
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            own = self._usage_of(process)
        return self._with_offspring(own, number)

    def _usage_of(self, process: psutil.Process) -> ResourceUsage:
        return ResourceUsage(
            cpu_percent=process.cpu_percent(),
            memory_mb=process.memory_info().rss / _MIB,
            open_files=process.num_fds(),
            thread_count=process.num_threads(),
            timestamp=self._clock(),
            pss_mb=_pss_mb(process.pid),
        )

    def _with_offspring(self, own: ResourceUsage, number: int) -> ResourceUsage:
        """`own` and what the programs use that the process started, and those that they started."""
        import psutil

        offspring = offspring_of(number)
        for gone in self._family.keys() - {number, *offspring}:
            del self._family[gone]
        used = [own]
        for child in offspring:
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                process = self._family.setdefault(child, psutil.Process(child))
                with process.oneshot():
                    used.append(self._usage_of(process))
        known = [usage.pss_mb for usage in used if usage.pss_mb is not None]
        return replace(
            own,
            cpu_percent=sum(usage.cpu_percent for usage in used),
            memory_mb=sum(usage.memory_mb for usage in used),
            open_files=max(usage.open_files for usage in used),
            thread_count=sum(usage.thread_count for usage in used),
            pss_mb=sum(known) if own.pss_mb is not None else None,
        )

    def _crossings(self, usage: ResourceUsage) -> list[DriverEvent]:
        found = []
        for field in fields(self._limits):
            limit = getattr(self._limits, field.name)
            value = usage.charged_mb if field.name == "memory_mb" else getattr(usage, field.name)
            if limit <= 0 or value < limit * _REARM:
                self._crossed.discard(field.name)
            elif value > limit and field.name not in self._crossed:
                self._crossed.add(field.name)
                found.append(self._warning(field.name, value, limit, usage.timestamp))
        return found

    def _warning(self, resource: str, value: float, limit: float, time_s: float) -> DriverEvent:
        data = {"resource": resource, "value": round(value, 1), "limit": limit}
        when = datetime.fromtimestamp(time_s, UTC)
        return DriverEvent("resource_warning", when, self.driver_name, data, "kernel", self._device_id)

    def get_average_usage(self, duration: float = 60.0) -> ResourceUsage:
        """The mean of the samples of the last `duration` seconds; all zero when there are none."""
        now = self._clock()
        with self._lock:
            recent = [usage for usage in self.usage_history if usage.timestamp >= now - duration]
        if not recent:
            return ResourceUsage(0.0, 0.0, 0.0, 0.0, now)
        known = [usage.pss_mb for usage in recent if usage.pss_mb is not None]
        return ResourceUsage(
            cpu_percent=_mean([usage.cpu_percent for usage in recent]),
            memory_mb=_mean([usage.memory_mb for usage in recent]),
            open_files=_mean([usage.open_files for usage in recent]),
            thread_count=_mean([usage.thread_count for usage in recent]),
            timestamp=now,
            pss_mb=_mean(known) if known else None,
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def offspring_of(pid: int) -> list[int]:
    """The processes that `pid` started and that live, and theirs; from `/proc/PID/task/TID/children` (proc(5))."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        try:
            threads = list(Path(f"/proc/{waiting.pop()}/task").iterdir())
        except OSError:
            continue
        for thread in threads:
            with contextlib.suppress(OSError):
                children = [int(number) for number in (thread / "children").read_text(encoding="ascii").split()]
                found += children
                waiting += children
    return found


def _pss_mb(pid: int) -> float | None:
    """Proportional memory from `/proc/PID/smaps_rollup` (proc(5)), which Linux adds up in a fraction of a ms."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return None
