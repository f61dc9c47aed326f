"""Finds devices: handlers run side by side, each with a time limit, and one that fails never hides the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

import msgspec

from vfab.kernel.detection_merging import merged, printable, with_news
from vfab.model.alike import alike
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DriverError

__all__ = ["DetectionHandler", "DetectionRegistry", "ScanProblem", "ScanResult", "device_dict"]


class DetectionHandler:
    """One way to find devices (seed 001 §7). Override `find`; a handler after seed 001 overrides `detect` instead.

    Args:
        name: what it is called in results.
        priority: where two handlers find the same device, the one with the higher priority describes it.
        timeout_s: seconds after which the scan goes on without it.

    Attributes:
        on_request: it is left out unless it is asked for by name: it takes long, or asks on a network.
        describes: it finds nothing itself, and probes what others find.
        keep_s: what it found is good for that many seconds, unless somebody wants a fresh look: for what costs much.
        hang_remedy: what to do when it does not answer in time.
        probe_timeout_s: the time limit of `probe`, in seconds.
    """

    on_request = False
    describes = False
    keep_s = 0.0
    hang_remedy = "Unplug a device that hangs the bus, then scan again."
    probe_timeout_s = 30.0

    def __init__(self, name: str, priority: int = 0, *, timeout_s: float = 1.6) -> None:
        self.name = name
        self.priority = priority
        self.timeout_s = timeout_s

    def find(self) -> list[DeviceInfo]:
        """Every device that it finds now. It may take `timeout_s` seconds, and may raise anything."""
        return _from_seed(self.name, self.detect())

    def detect(self) -> dict[str, Any]:
        """Seed 001's shape of `find`: `{"count", "devices", "accessible"}`."""
        if type(self).find is DetectionHandler.find:
            raise NotImplementedError(f"{type(self).__name__} has neither find() nor detect()")
        return _seed_dict(self.find())

    def probe(self, devices: tuple[DeviceInfo, ...]) -> list[DeviceInfo]:
        """What is learned by writing to ports and buses: new devices, and those of `devices` that answered.

        Called after `find`, and only when the user wants it. It may take `probe_timeout_s` seconds.
        """
        return []

    def is_compatible(self, device_info: DeviceInfo) -> bool:
        """Whether this handler is the one that knows about `device_info`; by default, by the bus' name."""
        return device_info.bus == self.name

    def limitation(self) -> str:
        """What it cannot find on this machine, for people; "" where there is nothing to say."""
        return ""


@dataclass(frozen=True, slots=True)
class ScanProblem:
    """A handler that failed or did not answer in time."""

    handler: str
    message: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain data for `--json`."""
        return {"handler": self.handler, "message": self.message, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What one scan found.

    Attributes:
        devices: each device once, by id.
        problems: handlers that failed or hang.
        elapsed_s: how long it took, in seconds.
        found_by: what each handler found itself, by its name.
        limitations: what handlers cannot find on this machine, by name.
        left_out: handlers that look only when they are asked for by name.
    """

    devices: tuple[DeviceInfo, ...]
    problems: tuple[ScanProblem, ...]
    elapsed_s: float
    found_by: Mapping[str, tuple[DeviceInfo, ...]] = field(default_factory=dict)
    limitations: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def to_seed_dict(self) -> dict[str, Any]:
        """Seed 001's shape: `{handler: {"count", "devices", "accessible"}}`, only of handlers that found something."""
        return {name: _seed_dict(devices) for name, devices in self.found_by.items() if devices}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "devices": [device_dict(device) for device in self.devices],
            "problems": [problem.to_dict() for problem in self.problems],
            "limitations": dict(self.limitations),
            "left_out": list(self.left_out),
            "elapsed_s": round(self.elapsed_s, 4),
        }


Waiting = Callable[[tuple[str, ...]], None]
"""Told, again and again, the names of the handlers that a scan still waits for."""

_TOLD_AFTER_S = 1.0


@dataclass(slots=True)
class _Run:
    """One handler at work in a thread."""

    handler: DetectionHandler
    since: float
    limit_s: float
    answer: list[DeviceInfo] | BaseException | None = None

    @property
    def ends(self) -> float:
        """When the scan goes on without it."""
        return self.since + self.limit_s


class DetectionRegistry:
    """All handlers (seed 001 §7).

    Args:
        ttl_s: seconds for which `scan()` answers from the last scan; 0 scans every time.
        clock: seconds, monotonic; decides about `ttl_s` only.
        told_after_s: after how many seconds it is told who is still waited for.
    """

    def __init__(
        self,
        *,
        ttl_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        told_after_s: float = _TOLD_AFTER_S,
    ) -> None:
        self._handlers: list[DetectionHandler] = []
        self._ttl_s = ttl_s
        self._clock = clock
        self._told_after_s = told_after_s
        self._sources: list[Callable[[], Iterable[DetectionHandler]]] = []
        self._last: tuple[float, ScanResult] | None = None
        self._kept: dict[str, tuple[float, tuple[DeviceInfo, ...]]] = {}
        self._hanging: dict[str, _Run] = {}
        self._lock = threading.Lock()

    @property
    def handlers(self) -> tuple[DetectionHandler, ...]:
        """The handlers, highest priority first."""
        return tuple(self._handlers)

    def register_handler(self, handler: DetectionHandler) -> None:
        """Add a handler; one of the same name is replaced."""
        self._handlers = [h for h in self._handlers if h.name != handler.name]
        self._handlers.append(handler)
        self._handlers.sort(key=lambda h: -h.priority)
        self._last = None

    def add_source(self, source: Callable[[], Iterable[DetectionHandler]]) -> None:
        """Ask `source` for further handlers at every scan: plugins come and go. They never replace registered ones."""
        self._sources.append(source)

    def detect_all(self) -> dict[str, Any]:
        """Seed 001's result: `{handler name: {"count", "devices", "accessible"}}`."""
        return self.scan().to_seed_dict()

    def scan(
        self,
        *,
        refresh: bool = False,
        kinds: Sequence[str] = (),
        probe: bool = False,
        also: Sequence[DeviceInfo] = (),
        on_waiting: Waiting | None = None,
    ) -> ScanResult:
        """What is there.

        Args:
            refresh: look again even if the last look is younger than `ttl_s`.
            kinds: names of the only handlers to look with; none: all but those that look on request only.
            probe: let handlers write to ports and buses afterwards, to learn who is there.
            also: devices that somebody named, to be probed with the rest.
            on_waiting: told who is still waited for, once that takes longer than a second.

        Takes at most the longest time limit of the handlers. A handler that hangs is left behind and named; it is
        not started again before its thread has ended.

        Raises ConfigurationError: there is no handler of a name in `kinds`.
        """
        with self._lock:
            whole = not (kinds or probe or also)
            if whole and not refresh and self._last is not None and self._clock() - self._last[0] < self._ttl_s:
                return self._last[1]
            handlers = self._present()
            if refresh or not whole:
                self._kept.clear()
            result = self._scan(handlers, _chosen(handlers, kinds), probe, tuple(also), on_waiting)
            if whole:
                self._last = (self._clock(), result)
            return result

    def _present(self) -> list[DetectionHandler]:
        """The handlers, and those of the sources, highest priority first."""
        found = {handler.name: handler for source in self._sources for handler in source()}
        found.update({handler.name: handler for handler in self._handlers})
        return sorted(found.values(), key=lambda handler: -handler.priority)

    def _scan(
        self,
        handlers: list[DetectionHandler],
        chosen: list[DetectionHandler],
        probe: bool,
        also: tuple[DeviceInfo, ...],
        on_waiting: Waiting | None,
    ) -> ScanResult:
        began = time.monotonic()
        problems: list[ScanProblem] = []
        now = self._clock()
        kept = {h.name: self._kept[h.name][1] for h in chosen if self._is_kept(h, now)}
        news = self._run([(h, h.find, h.timeout_s) for h in chosen if h.name not in kept], problems, on_waiting)
        self._kept.update({h.name: (now, news[h.name]) for h in chosen if h.keep_s and h.name in news})
        found = {h.name: {**kept, **news}[h.name] for h in chosen if h.name in kept or h.name in news}
        devices = merged([*found.values(), also])
        if probe:
            jobs = [(h, partial(h.probe, devices), h.probe_timeout_s) for h in handlers if _probes(h, chosen)]
            learned = self._run(jobs, problems, on_waiting)
            devices = with_news(devices, learned.values())
        limitations = {h.name: text for h in chosen if (text := h.limitation())}
        left_out = tuple(h.name for h in handlers if h.on_request and h not in chosen)
        return ScanResult(devices, tuple(problems), time.monotonic() - began, found, limitations, left_out)

    def _is_kept(self, handler: DetectionHandler, now: float) -> bool:
        kept = self._kept.get(handler.name)
        return kept is not None and now - kept[0] < handler.keep_s

    def _run(
        self,
        jobs: Sequence[tuple[DetectionHandler, Callable[[], Iterable[DeviceInfo]], float]],
        problems: list[ScanProblem],
        on_waiting: Waiting | None,
    ) -> dict[str, tuple[DeviceInfo, ...]]:
        """Do the jobs side by side; what each handler found, by its name, highest priority first."""
        began = time.monotonic()
        done: queue.SimpleQueue[_Run] = queue.SimpleQueue()
        waiting: dict[str, _Run] = {}
        for handler, work, limit_s in jobs:
            stuck = self._hanging.get(handler.name)
            if stuck is not None and stuck.answer is None:
                problems.append(_hangs(handler, began - stuck.since))
            else:
                waiting[handler.name] = _start(_Run(handler, began, limit_s), work, done)
        found: dict[str, tuple[DeviceInfo, ...]] = {}
        tell = began + self._told_after_s if on_waiting is not None else inf
        while waiting:
            wake = min(tell, *(run.ends for run in waiting.values()))
            try:
                run = done.get(timeout=max(wake - time.monotonic(), 0.0))
            except queue.Empty:
                now = time.monotonic()
                for late in [run for run in waiting.values() if run.ends <= now]:
                    del waiting[late.handler.name]
                    self._hanging[late.handler.name] = late
                    problems.append(_hangs(late.handler, late.limit_s))
                if on_waiting is not None and now >= tell and waiting:
                    on_waiting(tuple(waiting))
                    tell = now + self._told_after_s
                continue
            if waiting.get(run.handler.name) is not run:  # it answered after it had been given up
                continue
            del waiting[run.handler.name]
            self._hanging.pop(run.handler.name, None)
            if isinstance(run.answer, BaseException):
                problems.append(_failed(run.handler, run.answer))
            else:
                found[run.handler.name] = tuple(run.answer or ())
        return {h.name: found[h.name] for h, _, _ in jobs if h.name in found}


def _chosen(handlers: list[DetectionHandler], kinds: Sequence[str]) -> list[DetectionHandler]:
    """Those that `kinds` names; none named: all that need not be asked for. Raises ConfigurationError."""
    if not kinds:
        return [handler for handler in handlers if not handler.on_request]
    names = [handler.name for handler in handlers if not handler.describes]
    for kind in kinds:
        if kind not in names:
            near = alike(kind, names, 1)
            raise ConfigurationError(
                f"there is no kind of detection {kind!r}" + (f"; did you mean {near[0]}?" if near else ""),
                context={"found": kind, "kinds": names},
                remedy=f"There are: {', '.join(sorted(names))}.",
            )
    return [handler for handler in handlers if handler.name in kinds]


def _probes(handler: DetectionHandler, chosen: Sequence[DetectionHandler]) -> bool:
    """Whether `handler` is to probe: one that only describes what others find does so whatever was chosen."""
    return type(handler).probe is not DetectionHandler.probe and (handler in chosen or handler.describes)


def _start(run: _Run, work: Callable[[], Iterable[DeviceInfo]], done: queue.SimpleQueue[_Run]) -> _Run:
    def do() -> None:
        try:
            run.answer = [printable(device) for device in work()]
        except BaseException as error:
            run.answer = error
        done.put(run)

    threading.Thread(target=do, name=f"detect-{run.handler.name}", daemon=True).start()
    return run


def _hangs(handler: DetectionHandler, seconds: float) -> ScanProblem:
    return ScanProblem(
        handler.name,
        f"{handler.name}: no answer after {seconds:.1f} s; what it may have found is missing",
        handler.hang_remedy,
    )


def _failed(handler: DetectionHandler, error: BaseException) -> ScanProblem:
    if isinstance(error, DriverError):
        return ScanProblem(handler.name, f"{handler.name}: {error.message}", error.remedy)
    text = f"{handler.name}: {type(error).__name__}: {error}"
    return ScanProblem(handler.name, text, "The other handlers' results are complete. Report this as a defect.")


def device_dict(device: DeviceInfo) -> dict[str, Any]:
    """A device as plain data for `--json`."""
    plain: dict[str, Any] = msgspec.to_builtins(device)
    return plain


def _seed_dict(devices: Sequence[DeviceInfo]) -> dict[str, Any]:
    return {
        "count": len(devices),
        "devices": [device_dict(device) for device in devices],
        "accessible": any(device.accessible for device in devices),
    }


def _from_seed(name: str, result: Mapping[str, Any]) -> list[DeviceInfo]:
    """The devices of a handler that answers in seed 001's dict: `port`, `host` and `port`, or `address` say where.

    What else it says of a device becomes attributes, as text.
    """
    found: list[DeviceInfo] = []
    for item in result.get("devices", ()):
        address = str(item.get("address") or (f"tcp://{item['host']}:{item['port']}" if "host" in item else ""))
        address = address or str(item.get("port") or item.get("device_id") or "")
        known = {key: value for key, value in item.items() if key in DeviceInfo.__struct_fields__}
        values: dict[str, Any] = {
            "id": f"{name}:{address}",
            "bus": name,
            "name": str(item.get("device_name") or item.get("description") or address),
            "accessible": bool(result.get("accessible", True)),
            **{key: value for key, value in known.items() if value is not None},
            "address": address,
        }
        told = {**{key: item[key] for key in item if key not in {*known, *_PLACES}}, **(item.get("attributes") or {})}
        values["attributes"] = {key: str(value) for key, value in told.items() if value not in (None, "")}
        found.append(msgspec.convert(values, DeviceInfo))
    return found


_PLACES = {"host", "port", "device_name", "description"}
