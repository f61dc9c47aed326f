"""A device that streams what was recorded: its simulator reads the file and keeps the pace, this makes a stream of it.

Over the link: lines from us, `{"hello": true}`, `{"play": {"speed": …, "loop": …}}` or `{"stop": true}`; from the
simulator its recording's header, then the recording's lines and `{"end": true}`, or `{"stopped": true}`.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from vfab.model.errors import ProtocolError, TimeoutExceeded
from vfab.protocols.recording import RecordingHeader, parse_entry, read_header
from vfab.sdk import BaseDriver, command
from vfab.sdk.link import Link
from vfab.sdk.stream import Streaming, StreamType, StreamWriter

_LINE_MAX = 256 << 20
_LOOK_S = 0.2
_NAME = "the replayed recording"


class ReplayDriver(Streaming, BaseDriver):
    """Streams a recorded stream again: the same data and meta in the same order, with the recorded pauses."""

    stream_type: ClassVar[StreamType] = StreamType.CUSTOM
    _link: Link | None = None
    _header: RecordingHeader | None = None
    _held = bytearray()

    @command
    def connect(self) -> bool:
        """Reach the simulator, and hear what it has recorded.

        Raises ConnectError, DeviceNotFound: it is not there. ProtocolError: something else answers there.
        """
        if self._link is None:
            link, self._held = self.open_link(), bytearray()
            try:
                self._header = self._greeted(link)
            except BaseException:
                self.close_link(link)
                raise
            self._link = link
        return True

    def _greeted(self, link: Link) -> RecordingHeader:
        """What the simulator has recorded; lines that it still said to a driver that died are passed over."""
        timeout_s = float(self.config.get("timeout_s", 5))
        link.write(b'{"hello": true}\n', timeout_s=timeout_s)
        while "vfab_recording" not in (said := _object(self._line(link, timeout_s))):
            if not said.keys() & {"sequence", "end", "stopped"}:
                raise _no_replay(repr(said))
        return read_header(said, _NAME)

    @command
    def disconnect(self) -> None:
        """Stop and let go of the simulator. Twice is fine."""
        self.stop_streaming()
        link, self._link = self._link, None
        if link is not None:
            self.close_link(link)

    @command
    def reset(self) -> None:
        """Connect anew."""
        self.disconnect()
        self.connect()

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """The simulator is there."""
        return self._link is not None and not self._link.closed

    @command
    def get_recording(self) -> dict[str, Any]:
        """What was recorded: `{"began", "address", "driver", "device", "stream"}`."""
        header = self._known()
        return {
            "began": header.began,
            "address": header.address,
            "driver": header.driver,
            "device": dict(header.device),
            "stream": dict(header.stream),
        }

    def open_acquisition(self, options: dict[str, Any]) -> StreamWriter:
        """A stream like the recorded one."""
        said = self._known().stream
        return self.open_stream(
            self.stream_name,
            str(said.get("stream_type", "custom")),
            capacity_bytes=int(said.get("capacity_bytes", 1 << 20)),
            records=int(said.get("records", 4096)),
            **dict(said.get("about", {})),
        )

    def acquire(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        """Until the recording ends, or `stop`."""
        link = self._link
        assert link is not None
        link.write(json.dumps({"play": options}).encode() + b"\n")
        try:
            while self.acquiring():
                try:
                    said = _object(self._line(link, _LOOK_S))
                except TimeoutExceeded:
                    continue
                if "end" in said:
                    return
                entry = parse_entry(said, _NAME)
                known_s = entry.device_time_s if entry.device_time_s is not None else entry.time_s
                stream.send(entry.data, meta=entry.meta, device_time_s=known_s)
        finally:
            self._stop(link)

    def _stop(self, link: Link) -> None:
        """Have the simulator stop, and forget what it said meanwhile."""
        link.write(b'{"stop": true}\n')
        while "stopped" not in _object(self._line(link, float(self.config.get("timeout_s", 5)))):
            pass

    def _line(self, link: Link, timeout_s: float) -> bytes:
        """The next line; what has come of it is kept when TimeoutExceeded is raised."""
        held, seen = self._held, 0
        while (end := held.find(b"\n", seen)) < 0:
            seen = len(held)
            if seen > _LINE_MAX:
                raise ProtocolError(f"{link.address} sent {seen} bytes without a line end")
            held += link.read(1 << 20, timeout_s=timeout_s)
        line = bytes(held[: end + 1])
        del held[: end + 1]
        return line

    def _known(self) -> RecordingHeader:
        assert self._header is not None
        return self._header


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise _no_replay(line[:80].decode("latin-1"))
    return said


def _no_replay(found: str) -> ProtocolError:
    return ProtocolError(
        "this is no replayed stream",
        context={"found": found[:80]},
        remedy="Start one: vfab sim run replay --from FILE, with a file of vfab stream DEVICE --record FILE.",
    )
