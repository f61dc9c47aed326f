"""Watching what drivers use: one thread samples the hosts of all devices in turn, and says which must be ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import LimitExceeded
from vfab.model.events import DriverEvent
from vfab.watch.disk import disk_usage
from vfab.watch.limits import Breach, LimitGuard, warning_levels
from vfab.watch.usage import ResourceLimits, ResourceMonitor, ResourceUsage
from vfab.watch.vitals import Vitals, read_vitals, worse

__all__ = ["GLANCE_S", "SAMPLE_S", "UNEASY_S", "EndHost", "UsageWatch", "limit_exceeded"]

SAMPLE_S = 5.0
"""Seconds between two samples of a host: 50 hosts then cost less than a hundredth of a core."""

UNEASY_S = 0.5
"""The same while some host is over a limit, and will be ended if it stays there."""

GLANCE_S = 0.25
"""Seconds between two looks at what the machine has left; hosts are sampled at once when that shrinks fast."""

EndHost = Callable[[ManagedDevice, int, LimitExceeded], None]
"""Ends the host with that process id, of that device, for that reason."""


@dataclass(slots=True)
class _Watched:
    monitor: ResourceMonitor
    guard: LimitGuard = field(default_factory=LimitGuard)


class UsageWatch:
    """Samples the hosts of `devices` every `interval_s` seconds, from `start` until `close`.

    Args:
        devices: tells the devices that there are now.
        tell: told of `resource_warning` events, on the watch's thread.
        end: told of each host that stays over a limit of its manifest or settings, on the watch's thread.
        limits: from where on to warn; default: what the limits of each driver say.
        clock: monotonic seconds.
        vitals: tells what the machine has left, of memory and on the disks of those folders.
    """

    def __init__(
        self,
        devices: Callable[[], Iterable[ManagedDevice]],
        tell: Callable[[DriverEvent], None],
        end: EndHost = lambda device, pid, why: None,
        *,
        limits: ResourceLimits | None = None,
        interval_s: float = SAMPLE_S,
        clock: Callable[[], float] = time.monotonic,
        vitals: Callable[[Iterable[Path]], Vitals] = read_vitals,
    ) -> None:
        self._devices = devices
        self._tell = tell
        self._end = end
        self._limits = limits
        self._interval_s = interval_s
        self._clock = clock
        self._vitals_of = vitals
        self._watched: dict[str, _Watched] = {}
        self._vitals: Vitals | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; the first samples are taken after `interval_s`, or when memory or disk shrinks fast before that."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vfab-usage", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End; what was sampled stays readable."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def usage(self, device_id: str, duration_s: float = 60.0) -> ResourceUsage | None:
        """The mean over the last `duration_s` seconds; a sample taken now when there is none; None without a host."""
        device = next((device for device in self._devices() if device.id == device_id), None)
        if device is None or device.pid is None:
            return None
        monitor = self._watch(device).monitor
        if not monitor.usage_history:
            return monitor.sample()
        return monitor.get_average_usage(duration_s)

    def sample(self) -> None:
        """Sample every host now, and have those ended that stay over a limit."""
        devices = list(self._devices())
        with self._lock:
            for gone in self._watched.keys() - {device.id for device in devices}:
                del self._watched[gone]
        for device in devices:
            self._look_at(device)
        self._vitals = self._read_vitals()

    def _look_at(self, device: ManagedDevice) -> None:
        watched, pid = self._watch(device), device.pid
        usage = watched.monitor.sample()
        if usage is None or pid is None or device.pid != pid:
            return
        limits = device.manifest.runtime.limits
        breach = watched.guard.judge(pid, usage, limits, self._clock())
        if (
            breach is None
            and device.state_dir is not None
            and (limits.state_mb or limits.state_files or limits.free_mb)
        ):
            disk = disk_usage(device.state_dir, pid, watched.guard.most_files(pid, limits))
            breach = watched.guard.judge_disk(pid, disk, limits) if disk is not None else None
        if breach is not None:
            self._end(device, pid, limit_exceeded(device, breach))

    def _watch(self, device: ManagedDevice) -> _Watched:
        with self._lock:
            watched = self._watched.get(device.id)
            if watched is None:
                monitor = ResourceMonitor(
                    device.manifest.name,
                    lambda: device.pid,
                    on_event=self._tell,
                    limits=self._limits or warning_levels(device.manifest.runtime.limits),
                    device_id=device.id,
                    max_history=200,
                )
                watched = self._watched[device.id] = _Watched(monitor)
            return watched

    def _run(self) -> None:
        last_s = self._clock()
        while not self._stop.wait(min(self._pause_s(), GLANCE_S)):
            if self._clock() - last_s >= self._pause_s() or self._shrinks():
                self.sample()
                last_s = self._clock()

    def _pause_s(self) -> float:
        with self._lock:
            uneasy = any(watched.guard.uneasy for watched in self._watched.values())
        return min(self._interval_s, UNEASY_S) if uneasy else self._interval_s

    def _shrinks(self) -> bool:
        """Whether memory or disk went fast since the hosts were sampled."""
        now = self._read_vitals()
        before = self._vitals = self._vitals or now
        return worse(before, now)

    def _read_vitals(self) -> Vitals:
        return self._vitals_of({device.state_dir for device in self._devices() if device.pid and device.state_dir})


def limit_exceeded(device: ManagedDevice, breach: Breach) -> LimitExceeded:
    """The error that says which limit was exceeded, by how much, and how to raise it."""
    name = device.manifest.name
    remedy = f"`vfab config set {name} runtime.limits.{breach.limit} {breach.value * 1.5:.0f}` (0 is no limit)"
    if breach.limit == "free_mb":
        remedy = f"Make room where {device.state_dir} lies"
    else:
        remedy = f"If it needs that much: {remedy}"
    return LimitExceeded(
        f"{name} of {device.id} was ended: it {breach.told}",
        driver_name=name,
        context={
            "device": device.id,
            "limit": breach.limit,
            "value": round(breach.value, 1),
            "allowed": breach.allowed,
            "for_s": round(breach.for_s, 1),
        },
        remedy=f"{remedy}; else tell its author.",
    )
