"""The two ends of a stream: the driver writes, any number of readers in any process read.

A stream is a ring in shared memory (see `sdk.ring`) that the kernel made: every reader sees each record with its
sequence number and times, and a slow reader loses the oldest and is told how many.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import msgspec.structs

from vfab.model.errors import LinkLost
from vfab.sdk.ring import RingMemory, RingReader, RingRecord, RingWriter
from vfab.sdk.stream_words import StreamInfo

__all__ = ["StreamReader", "StreamRecord", "StreamWriter"]

_RAW, _PACKED = 0, 1
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_NONE = math.nan
_now = time.time


class StreamWriter:
    """The producer's end. Safe between threads, but what is reserved must be committed by the same one.

    Args:
        info: what the stream is.
        memory: its ring; the descriptors are taken over.
        on_close: called once, at `close`.

    Attributes:
        first: sequence number of the first record that this writer sends.
    """

    def __init__(self, info: StreamInfo, memory: RingMemory, on_close: Callable[[], None] | None = None) -> None:
        self.info = info
        self.name = info.name
        self._ring = RingWriter(memory)
        self.first = self._ring.committed
        self._lock = threading.Lock()
        self._put, self._wake = self._ring.put, self._ring.ring_bell
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._on_close = on_close
        self._closed = False

    @property
    def closed(self) -> bool:
        """The stream was closed here."""
        return self._closed

    @property
    def count(self) -> int:
        """How many records there have been, those of an earlier process included."""
        return self._ring.committed

    def send(
        self,
        data: Any,
        *,
        meta: Mapping[str, Any] | None = None,
        time_s: float | None = None,
        device_time_s: float | None = None,
    ) -> int:
        """Add one record.

        Args:
            data: bytes of any kind travel as they are; numbers, text, lists and dicts as themselves.
            meta: a few words about this record.
            time_s: when it was taken, seconds since 1970; default is now.
            device_time_s: the same by the device's own clock, in its seconds, where it has one.

        Returns:
            Its sequence number.

        Raises ConfigurationError: it is larger than the stream's capacity. TypeError: it cannot be sent.
        Raises LinkLost: the stream is closed.
        """
        raw, flags = (data, _RAW) if type(data) is bytes else _raw(data)
        about = _encode(meta) if meta else b""
        now = _now() if time_s is None else time_s
        self._acquire()  # `with` takes twice as long
        try:
            if self._closed:
                raise LinkLost(f"the stream {self.name} is closed")
            sequence = self._put(raw, about, now, _NONE if device_time_s is None else device_time_s, flags)
        finally:
            self._release()
        self._wake()
        return sequence

    def send_many(self, items: Iterable[Any], *, time_s: float | None = None) -> int:
        """Add a record for each of `items`, all taken at `time_s`; how many there were.

        Those of a list or tuple go in at one go: readers that wait are woken after the last. Raises as `send`; those
        before are sent.
        """
        now = time.time() if time_s is None else time_s
        if not isinstance(items, list | tuple):  # who knows how long each takes to come
            return sum(1 for item in items if self.send(item, time_s=now) >= 0)
        put = self._put
        try:
            with self._lock:
                if self._closed:
                    raise LinkLost(f"the stream {self.name} is closed")
                for item in items:
                    raw, flags = (item, _RAW) if type(item) is bytes else _raw(item)
                    put(raw, b"", now, _NONE, flags)
        finally:
            self._wake()
        return len(items)

    def reserve(self, size: int) -> memoryview:
        """`size` bytes in the ring itself, to be filled and then committed: a frame that is made in place.

        Raises ConfigurationError: it is larger than the stream's capacity. LinkLost: the stream is closed.
        """
        with self._lock:
            if self._closed:
                raise LinkLost(f"the stream {self.name} is closed")
            return self._ring.reserve(size)

    def commit(
        self,
        size: int | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        time_s: float | None = None,
        device_time_s: float | None = None,
    ) -> int:
        """Publish what was reserved last, or its first `size` bytes; its sequence number. `meta`: 1 KiB at most."""
        with self._lock:
            sequence = self._ring.commit(
                size,
                _encode(meta) if meta else b"",
                time.time() if time_s is None else time_s,
                _NONE if device_time_s is None else device_time_s,
                _RAW,
            )
        self._wake()  # not before the lock is let go: it is the barrier between publishing and looking who waits
        return sequence

    def leave(self) -> None:
        """Write no more, without a word to the readers: another process goes on with the stream."""
        with self._lock:
            self._closed = True

    def close(self) -> None:
        """End the stream: its readers read what is there and are told. Closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._ring.end()
        if self._on_close is not None:
            self._on_close()


def _raw(data: Any) -> tuple[bytes | bytearray | memoryview, int]:
    """`data` as contiguous bytes, and whether they are itself or stand for it."""
    if isinstance(data, bytes | bytearray):
        return data, _RAW
    if isinstance(data, memoryview):
        return (data.cast("B") if data.c_contiguous else data.tobytes()), _RAW
    return _encode(data), _PACKED


class StreamRecord(msgspec.Struct, frozen=True):
    """One record of a stream.

    Attributes:
        sequence: counts up by one; a gap is a loss.
        time_s: when it was taken, seconds since 1970, by this machine's clock.
        device_time_s: the same by the device's clock, in its seconds, or None.
        data: bytes, or what was sent.
        meta: what the driver says of this record.
        lost: records lost just before this one.
    """

    sequence: int
    time_s: float
    device_time_s: float | None
    data: Any
    meta: dict[str, Any] = {}
    lost: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; bytes as they are."""
        plain: dict[str, Any] = {"sequence": self.sequence, "time_s": self.time_s, "data": self.data}
        if self.device_time_s is not None:
            plain["device_time_s"] = self.device_time_s
        if self.meta:
            plain["meta"] = self.meta
        if self.lost:
            plain["lost"] = self.lost
        return plain


class StreamReader:
    """A reader's end. Not safe between threads: each has one of its own.

    Args:
        info: what the stream is.
        memory: its ring; the descriptors are taken over.
        oldest: begin with the oldest record that is still there, rather than with the next to come.
    """

    def __init__(self, info: StreamInfo, memory: RingMemory, *, oldest: bool = False) -> None:
        self.info = info
        self._ring = RingReader(memory, oldest=oldest)
        self._expected: int | None = None

    def seek(self, sequence: int) -> None:
        """Go on with the record `sequence`, or the oldest after it that is still there; those between count as lost."""
        self._ring.seek(sequence)
        self._expected = None

    @property
    def lost(self) -> int:
        """Records that were overwritten before they were read."""
        return self._ring.lost

    @property
    def waiting(self) -> int:
        """How many records are there to read."""
        return self._ring.waiting

    @property
    def ended(self) -> bool:
        """The producer has ended the stream and everything was read. A producer may begin again."""
        return self._ring.ended and not self._ring.waiting

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether there is a record to read within `timeout_s` seconds (None: no end); False also when it ended."""
        return self._ring.wait(timeout_s) and self._ring.waiting > 0

    def read(self, timeout_s: float | None = None) -> StreamRecord | None:
        """The next record; None when none came in time, or the stream has ended."""
        records = self.read_many(1, timeout_s=timeout_s)
        return records[0] if records else None

    def read_many(self, limit: int = 1024, *, timeout_s: float | None = 0.0) -> list[StreamRecord]:
        """Up to `limit` records, oldest first; waits for the first. Empty as `read` returns None."""
        if not self._ring.waiting and (timeout_s == 0.0 or not self.wait(timeout_s)):
            return []
        rows = self._ring.rows(limit)
        expected = self._expected
        records = [
            StreamRecord(
                sequence,
                time_s,
                device_s if device_s == device_s else None,  # noqa: PLR0124 — NaN, the quick way
                _decode(data) if flags == _PACKED else data,
                _decode(meta) if meta else {},
            )
            for sequence, _, time_s, device_s, flags, meta, data in rows
        ]
        if rows and (rows[-1][0] - rows[0][0] >= len(rows) or expected not in {None, rows[0][0]}):
            records = [self._counted(record) for record in records]
        elif rows:
            self._expected = rows[-1][0] + 1
        return records

    def read_data(self, limit: int = 1024, *, timeout_s: float | None = 0.0) -> list[Any]:
        """As `read_many`, but only what was sent, without times and meta: for many samples, three times as quick."""
        if not self._ring.waiting and (timeout_s == 0.0 or not self.wait(timeout_s)):
            return []
        quick = self._ring.payloads(limit)
        if quick is None:
            return [record.data for record in self.read_many(limit)]
        self._expected = self._ring.position
        return quick

    def newest(self, timeout_s: float | None = None) -> StreamRecord | None:
        """The newest record, skipping older ones that wait; for who shows frames and is late. Waits like `read`."""
        if self._ring.waiting > 1:
            self._ring.skip_to_newest()
        return self.read(timeout_s)

    def look(self) -> tuple[StreamRecord, RingRecord] | None:
        """The next record with its bytes in place, nothing copied, to be given to `done`; None when there is none."""
        found = self._ring.peek()
        if found is None:
            return None
        record = self._record(found)
        return record, found

    def done(self, looked: tuple[StreamRecord, RingRecord]) -> bool:
        """Go on behind what `look` gave. False: it was overwritten meanwhile, so what was seen must not count."""
        return self._ring.pop(looked[1])

    def __iter__(self) -> Iterator[StreamRecord]:
        """Records as they come, until the producer ends the stream."""
        while not self.ended:
            yield from self.read_many(timeout_s=None)

    def _record(self, found: RingRecord) -> StreamRecord:
        data = _decode(found.data) if found.flags == _PACKED else found.data
        meta = _decode(found.meta) if found.meta else {}
        return self._counted(StreamRecord(found.sequence, found.time_s, found.device_time_s, data, meta))

    def _counted(self, record: StreamRecord) -> StreamRecord:
        """`record` with how many were lost just before it."""
        expected, self._expected = self._expected, record.sequence + 1
        if expected is None or record.sequence <= expected:
            return record
        return msgspec.structs.replace(record, lost=record.sequence - expected)
