"""Whether a driver's process uses more than it may: decided from samples, without clock or process."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from vfab.model.limits import Limits
from vfab.watch.disk import DiskUsage
from vfab.watch.usage import ResourceLimits, ResourceUsage

__all__ = ["Breach", "LimitGuard", "warning_levels"]

_AT_ONCE = 2.0
"""Memory of so many times its limit is not given `over_s`: what grows like that has the machine full by then."""

_FIRST_COUNT = 100_000
_SHARE = 1 / 16
"""A process that found its folder full, or the disk, may write so much of the limit more: a note, its clean-up."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that a process stays over.

    Attributes:
        limit: the field of `Limits`.
        value: what it used, in the limit's unit.
        allowed: the limit.
        for_s: for how long, or over which time it is the mean, in seconds.
    """

    limit: str
    value: float
    allowed: float
    for_s: float

    @property
    def told(self) -> str:
        """What it did, in words."""
        value, allowed = f"{self.value:.0f}", f"{self.allowed:g}"
        match self.limit:
            case "cpu_percent":
                return f"used {value} % of a core over {self.for_s:.0f} s; it may use {allowed} %"
            case "threads":
                return f"ran {value} threads for {self.for_s:.1f} s; it may run {allowed}"
            case "state_mb":
                return f"wrote on with {value} MiB in its state folder; it may keep {allowed} MiB there"
            case "state_files":
                return f"made more than the {allowed} files that it may keep in its state folder"
            case "free_mb":
                return f"wrote on with {value} MiB free on the disk of its state folder; {allowed} MiB stay free"
        return f"used {value} MiB of memory for {self.for_s:.1f} s; it may use {allowed} MiB"


class LimitGuard:
    """Judges the samples of one driver's processes, one after the other."""

    def __init__(self) -> None:
        self._pid = 0
        self._over_since: dict[str, float] = {}
        self._cpu: deque[tuple[float, float]] = deque()
        """(when, CPU seconds since the first sample), the first of them at least a window old."""
        self._writer = 0
        self._least: tuple[float, int] = (0.0, 0)
        """The fewest MiB and files that lay in the state folder since the process is looked at."""
        self._roomy_mb = 0.0
        """What lay there when the disk had room enough for the last time."""

    @property
    def uneasy(self) -> bool:
        """Something is over its limit and may come down yet: the next sample should come soon."""
        return bool(self._over_since)

    def judge(self, pid: int, usage: ResourceUsage, limits: Limits, now_s: float) -> Breach | None:
        """The limit that process `pid` stays over, if any.

        Args:
            now_s: when `usage` was sampled, on a clock that never goes back, in seconds.
        """
        if pid != self._pid:
            self._pid = pid
            self._over_since.clear()
            self._cpu.clear()
        for limit, value, allowed in (
            ("memory_mb", usage.charged_mb, limits.memory_mb),
            ("threads", usage.thread_count, float(limits.threads)),
        ):
            if not allowed or value <= allowed:
                self._over_since.pop(limit, None)
                continue
            over_s = now_s - self._over_since.setdefault(limit, now_s)
            if over_s >= limits.over_s or (limit == "memory_mb" and value >= allowed * _AT_ONCE):
                return Breach(limit, value, allowed, over_s)
        return self._judge_cpu(usage, limits, now_s)

    def most_files(self, pid: int, limits: Limits) -> int:
        """How many files in the state folder of process `pid` are told apart from more; 0: all of them are.

        The first look at a process counts far, since what an earlier one left there must not be held against this one.
        """
        if not limits.state_files:
            return 0
        return max(limits.state_files, self._least[1] if pid == self._writer else _FIRST_COUNT)

    def judge_disk(self, pid: int, disk: DiskUsage, limits: Limits) -> Breach | None:
        """The limit of its state folder that process `pid` goes on to exceed, if any.

        What lies there of an earlier life ends nobody, going on to write does: a driver that is started again may
        clean up.
        """
        if pid != self._writer:
            self._writer, self._least, self._roomy_mb = pid, (disk.used_mb, disk.files), disk.used_mb
        self._least = least_mb, least_files = min(self._least[0], disk.used_mb), min(self._least[1], disk.files)
        if not limits.free_mb or disk.free_mb >= limits.free_mb:
            self._roomy_mb = disk.used_mb
        more_files = disk.files - least_files > limits.state_files * _SHARE
        if limits.state_mb and disk.used_mb > limits.state_mb and disk.used_mb - least_mb > limits.state_mb * _SHARE:
            return Breach("state_mb", disk.used_mb, limits.state_mb, 0.0)
        if limits.state_files and disk.files > limits.state_files and more_files:
            return Breach("state_files", disk.files, limits.state_files, 0.0)
        if disk.used_mb - self._roomy_mb > limits.free_mb * _SHARE:
            return Breach("free_mb", disk.free_mb, limits.free_mb, 0.0)
        return None

    def _judge_cpu(self, usage: ResourceUsage, limits: Limits, now_s: float) -> Breach | None:
        if not limits.cpu_percent:
            return None
        before_s, used_s = self._cpu[-1] if self._cpu else (now_s, 0.0)
        self._cpu.append((now_s, used_s + usage.cpu_percent / 100.0 * (now_s - before_s)))
        while len(self._cpu) > 1 and now_s - self._cpu[1][0] >= limits.cpu_window_s:
            self._cpu.popleft()
        window_s = now_s - self._cpu[0][0]
        if window_s < limits.cpu_window_s:
            return None
        mean = 100.0 * (self._cpu[-1][1] - self._cpu[0][1]) / window_s
        return Breach("cpu_percent", mean, limits.cpu_percent, window_s) if mean > limits.cpu_percent else None


def warning_levels(limits: Limits) -> ResourceLimits:
    """From where on events warn: a share of each limit that somebody changed; of the others seed 001's figures."""
    usual, levels, share = Limits(), ResourceLimits(), limits.warn_share

    def level(name: str, default: float) -> float:
        limit = float(getattr(limits, name))
        return default if limit == getattr(usual, name) else limit * share

    return ResourceLimits(
        cpu_percent=level("cpu_percent", levels.cpu_percent),
        memory_mb=level("memory_mb", levels.memory_mb),
        open_files=level("open_files", levels.open_files),
        thread_count=level("threads", levels.thread_count),
    )
