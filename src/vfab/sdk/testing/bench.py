"""DriverBench: run a driver in this process, on real links, and see what it told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from vfab.model.devices import DeviceInfo
from vfab.model.manifest import Manifest
from vfab.model.manifest_text import manifest_from_yaml
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import BaseDriver, Environment
from vfab.sdk.link import Link, open_address
from vfab.sdk.ring import RingMemory
from vfab.sdk.stream_ends import StreamReader, StreamWriter
from vfab.sdk.stream_words import StreamInfo

__all__ = ["DriverBench", "defaults_of", "manifest_in"]

_D = TypeVar("_D", bound=BaseDriver)


def manifest_in(folder: Path) -> Manifest:
    """The manifest of the plugin in `folder`. Raises BadManifest, FileNotFoundError."""
    file = folder / "plugin.yaml"
    return manifest_from_yaml(file.read_bytes(), file=str(file))


def defaults_of(manifest: Manifest) -> dict[str, Any]:
    """The settings that a driver has when nobody sets any."""
    properties = (manifest.config_schema or {}).get("properties", {})
    return {name: rule["default"] for name, rule in properties.items() if "default" in rule}


class DriverBench(Generic[_D]):
    """A driver on a test bench: what a host would do for it, done here and written down.

    Use it as a context: at the end the driver is disconnected and its links are closed.

    Args:
        cls: the driver's class.
        manifest: its manifest; `manifest_in(folder)` reads one.
        address: where its device is: a path or `tcp://host:port`.
        config: settings over the defaults of the manifest's schema.
        state_dir: a folder that lasts; None for none.
        on_progress: called with each progress, on the thread that tells it.

    Attributes:
        driver: the driver.
        events: (kind, data) of every event, oldest first.
        progress: every progress, oldest first.
        links: every link that was opened, oldest first.
        streams: a reader of each stream that was opened, by name, from its first record on.
    """

    def __init__(
        self,
        cls: type[_D],
        manifest: Manifest,
        address: str = "",
        *,
        config: Mapping[str, Any] | None = None,
        state_dir: Path | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.progress: list[dict[str, Any]] = []
        self.links: list[Link] = []
        self.streams: dict[str, StreamReader] = {}
        self._on_progress = on_progress
        self.driver = cls(
            Environment(
                manifest=manifest,
                device=DeviceInfo(id=f"bench:{address}", bus="bench", address=address),
                config={**defaults_of(manifest), **(config or {})},
                ports=_Ports(self),
                state_dir=state_dir,
                log=logging.getLogger(f"vfab.bench.{manifest.name}"),
            )
        )

    def __enter__(self) -> DriverBench[_D]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.disconnect()
        for link in self.links:
            link.close()

    @contextmanager
    def call(self, timeout_s: float = 0.0) -> Iterator[CancelToken]:
        """Calls in this context have a token, as in a host: cancel it, or let its time run out."""
        token = CancelToken(timeout_s)
        before = current_token.set(token)
        try:
            yield token
        finally:
            current_token.reset(before)
            token.close()

    def start(self, function: Callable[[], Any]) -> Running:
        """Call `function` on a thread of its own, with a token of its own."""
        return Running(self, function)

    def told(self, data: Mapping[str, Any]) -> None:
        """Write a progress down."""
        plain = dict(data)
        self.progress.append(plain)
        if self._on_progress is not None:
            self._on_progress(plain)


class Running:
    """A call that runs on a thread of its own."""

    def __init__(self, bench: DriverBench[Any], function: Callable[[], Any]) -> None:
        self.token = CancelToken()
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[[], Any]) -> None:
        current_token.set(self.token)
        try:
            self._result = function()
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        """The call has ended."""
        return not self._thread.is_alive()

    def result(self, timeout_s: float = 30.0) -> Any:
        """What the call returned; raises what it raised. AssertionError: it still runs after `timeout_s`."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise AssertionError(f"the call still runs after {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        return self._result


class _Ports:
    def __init__(self, bench: DriverBench[Any]) -> None:
        self._bench = bench
        self._rings: dict[str, tuple[StreamInfo, RingMemory]] = {}

    def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        self._bench.events.append((kind, dict(data)))

    def progress(self, data: Mapping[str, Any]) -> None:
        self._bench.told(data)

    def open_link(self, address: str, settings: Mapping[str, Any]) -> Link:
        link = Link(open_address(address, **settings), address)
        self._bench.links.append(link)
        return link

    def close_link(self, address: str) -> None:
        """Nobody else holds it."""

    def open_stream(self, info: StreamInfo) -> StreamWriter:
        known = self._rings.get(info.name)
        if known is None or known[0].capacity_bytes != info.capacity_bytes or known[0].records != info.records:
            known = self._rings[info.name] = (info, RingMemory.create(info.capacity_bytes, info.records))
            self._bench.streams[info.name] = StreamReader(info, known[1].for_reader(), oldest=True)
        return StreamWriter(info, known[1].copy())
