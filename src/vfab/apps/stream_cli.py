"""One `vfab stream`: in this process, or by the node that is up; the same records come out."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vfab.apps.interrupts import Interrupts, run
from vfab.apps.recording import StreamRecorder, identity_of
from vfab.apps.session import Session
from vfab.apps.stream_text import FORMATS, Formatter, formatter
from vfab.apps.streaming import Counted, StreamRequest, follow_stream, opened_stream
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import ConfigurationError
from vfab.sdk.stream_ends import StreamRecord
from vfab.sdk.stream_words import StreamInfo

__all__ = ["StreamCommand", "StreamWatcher", "format_of"]

_BY_SUFFIX = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".txt": "text"}


class StreamWatcher(Protocol):
    """Who is told that it begins."""

    def began(self, info: StreamInfo, counted: Counted, where: Mapping[str, Any]) -> None:
        """`where` has the `url` that is served, or `quiet` when records do not go to the terminal."""
        ...


def format_of(form: str | None, output: Path | None, *, as_json: bool, served: bool) -> str:
    """The format that is meant; "" for none. Raises ConfigurationError: there is none of that name."""
    if form is not None and form not in FORMATS:
        raise ConfigurationError(
            f"{form!r} is no format of streams",
            context={"option": "--format", "found": form, "known": list(FORMATS)},
            remedy=f"There are: {', '.join(FORMATS)}.",
        )
    if form is not None:
        return form
    if as_json:
        return "ndjson"
    if output is not None:
        return _BY_SUFFIX.get(output.suffix.lower(), "raw")
    return "" if served else "text"


@dataclass(slots=True)
class StreamCommand:
    """What `vfab stream` was asked for.

    Attributes:
        device, driver, overrides: which device, and with what.
        request: what is read.
        form: how records are written; "" for not at all.
        output: where to; None for standard output.
        serve: (host, port) of the WebSocket server; None for none.
        recorder: what records them, to be replayed; it is closed at the end.
    """

    device: str
    driver: str | None
    overrides: Mapping[str, Any]
    request: StreamRequest
    form: str
    output: Path | None = None
    serve: tuple[str, int] | None = None
    recorder: StreamRecorder | None = None
    _about: dict[str, Any] = field(default_factory=dict, init=False)
    _write: Callable[[bytes], None] = field(default=lambda data: None, init=False)
    _format: Formatter | None = field(default=None, init=False)

    def here(self, env: Mapping[str, str], watcher: StreamWatcher) -> dict[str, Any]:
        """Do it in this process. Raises DriverError; Interrupted, when records were asked for by number or time."""

        async def work(interrupts: Interrupts) -> dict[str, Any]:
            async with Session.open(env) as session:
                return await self._stream(session, interrupts, watcher)

        with self._sink():
            return run(work)

    def by_node(self, client: Any, watcher: StreamWatcher) -> dict[str, Any]:
        """Have the node do it. Raises as `here`."""
        from vfab.apps.node.stream_client import read_stream

        counted = Counted()
        with self._sink():
            return read_stream(client, self, counted, lambda info: self._began(info, counted, {}, watcher), self.take)

    def take(self, records: Sequence[StreamRecord]) -> None:
        """Write `records`."""
        if self.recorder is not None:
            self.recorder.take(records)
        if self._format is not None:
            self._write(self._format(records))

    async def _stream(self, session: Session, interrupts: Interrupts, watcher: StreamWatcher) -> dict[str, Any]:
        stop = threading.Event()
        async with session.device(self.device, self.driver, self.overrides) as device:
            self._about = {
                "driver": device.manifest.name,
                "device": identity_of(device.info),
                "address": device.info.address,
            }
            with interrupts.ending_by(stop.set):
                async with contextlib.AsyncExitStack() as serving:
                    where = await self._serve(device, serving)
                    counted = await follow_stream(
                        device, self.request, self.take, stop, lambda info, c: self._began(info, c, where, watcher)
                    )
            if interrupts.number and (self.request.count or self.request.duration_s):
                raise interrupts.interrupted()
            return self.summary(device.id, device.manifest.name, counted)

    def summary(self, device: str, driver: str, counted: Counted) -> dict[str, Any]:
        """How it was, for people and programs."""
        output = str(self.output) if self.output is not None else None
        return {"device": device, "driver": driver, **counted.to_dict(), "output": output}

    async def _serve(self, device: ManagedDevice, serving: contextlib.AsyncExitStack) -> dict[str, Any]:
        """Serve the device's stream, if that is wanted, until `serving` ends."""
        if self.serve is None:
            return {}
        from vfab.apps.stream_web import StreamServer

        host, port = self.serve
        await serving.enter_async_context(opened_stream(device, self.request))
        server = StreamServer(lambda: device.streams.reader(self.request.name), f"{device.info.name or device.id}")
        address, taken = await server.start(port, host)
        serving.push_async_callback(server.close)
        shown = f"[{address}]" if ":" in address else address
        return {"url": f"http://{shown}:{taken}/", "ws": f"ws://{shown}:{taken}/"}

    def _began(self, info: StreamInfo, counted: Counted, where: Mapping[str, Any], watcher: StreamWatcher) -> None:
        self._format = formatter(self.form, info) if self.form else None
        if self.recorder is not None:
            self.recorder.begin(info, **{"driver": self.driver or "", "device": {"id": self.device}, **self._about})
        watcher.began(info, counted, {**where, "quiet": not self.form or self.output is not None})

    @contextlib.contextmanager
    def _sink(self) -> Iterator[None]:
        """Open what records go to. A file is written beside its name first: an old one is not lost for nothing."""
        try:
            with self._written():
                yield
        finally:
            if self.recorder is not None:
                self.recorder.close()

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        if not self.form:
            yield
            return
        if self.output is None:
            self._write = _to_stdout
            yield
            return
        beside = self.output.with_name(f".{self.output.name}.{os.getpid()}")
        with beside.open("wb") as file:
            self._write = lambda data: (file.write(data), None)[1]
            try:
                yield
            except BaseException:
                if not file.tell():
                    beside.unlink()  # nothing came: the old file stays
                    raise
                file.flush()
                beside.replace(self.output)  # what came before the trouble is kept
                raise
        beside.replace(self.output)


def _to_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
