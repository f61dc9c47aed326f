"""A ring of records in shared memory: one producer, any number of readers in any process, the oldest is dropped.

Nobody waits for a slow reader: the producer overwrites, and the reader is told how many records it lost. A record
lies in one piece, so that a frame can be made and looked at in place, without a copy.

Layout (native byte order: producer and readers are on one machine)::

    header   one page of u64: [0] magic, [1] records R, [2] capacity C, [8] reserved, [9] committed, [10] state
    table    R entries: u64 sequence, u64 position, f64 time, f64 device time, u32 size, u32 of meta, u32 flags, u32 0
    data     C bytes; a record at position P lies at P mod C; one that would cross the end begins at the start

`reserved` grows before bytes are written and `committed` after its entry is complete; so whatever a reader has taken
is whole if, *afterwards*, `reserved - position <= C` and `committed - sequence < R`. Both are written by one store of
eight bytes. A producer that died in the middle of a record is followed by one that goes on at `reserved`.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import time
from dataclasses import dataclass

import msgspec

from vfab.model.errors import ConfigurationError, ProtocolError
from vfab.sdk.shared_memory import BELL_SIZE, Bell, new_memory, read_only

__all__ = ["ENDED", "OPEN", "RingMemory", "RingReader", "RingRecord", "RingWriter"]

PAGE = mmap.PAGESIZE
MAGIC = int.from_bytes(b"vfabRNG1", "little")
RECORDS, CAPACITY, RESERVED, COMMITTED, STATE = 1, 2, 8, 9, 10
OPEN, ENDED = 1, 2
_ENTRY = struct.Struct("@QQddIIII")
_pack_entry = _ENTRY.pack_into
META_MAX = 1024
"""Bytes of meta that a record made in place may have."""

_AT_ONCE = 256 << 10
_NAP_RATE = 20_000.0
_NAP_FINDS = 256
_NAP_MAX_S = 500e-6
"""A reader that has read so many records a second since it last waited naps until about so many have come."""


@dataclass(frozen=True, slots=True)
class RingMemory:
    """The two descriptors of a ring; whoever holds this owns them."""

    ring: int
    bell: int

    @classmethod
    def create(cls, capacity_bytes: int, records: int) -> RingMemory:
        """Memory for a new ring. `records` is rounded up to a power of two, `capacity_bytes` to whole pages.

        Raises ConfigurationError: a size makes no sense.
        """
        if capacity_bytes < 1 or records < 2:
            raise ConfigurationError(
                f"a ring of {capacity_bytes} bytes and {records} records cannot hold anything",
                context={"capacity_bytes": capacity_bytes, "records": records},
                remedy="Give it at least two records, and room for the largest of them.",
            )
        records = 1 << (records - 1).bit_length()
        capacity = -(-capacity_bytes // PAGE) * PAGE
        fd = new_memory("vfab-stream", _data_start(records) + capacity)
        with mmap.mmap(fd, PAGE) as page, memoryview(page) as view, view.cast("Q") as header:
            header[RECORDS], header[CAPACITY], header[STATE] = records, capacity, OPEN
            header[0] = MAGIC
        return cls(fd, new_memory("vfab-bell", BELL_SIZE))

    def for_reader(self) -> RingMemory:
        """The same for a reader: it can ring and hear the bell, and only look at the records."""
        return RingMemory(read_only(self.ring), os.dup(self.bell))

    def copy(self) -> RingMemory:
        """Descriptors of their own for the same memory."""
        return RingMemory(os.dup(self.ring), os.dup(self.bell))

    def end(self) -> None:
        """Mark the ring as ended, for a producer that cannot any more, and wake its readers."""
        with mmap.mmap(self.ring, PAGE) as page, memoryview(page) as view, view.cast("Q") as header:
            header[STATE] = ENDED
        bell = Bell(self.bell)
        bell.ring()
        bell.close()

    def close(self) -> None:
        """Close the descriptors; maps of them stay."""
        os.close(self.ring)
        os.close(self.bell)


def _data_start(records: int) -> int:
    return PAGE + -(-records * _ENTRY.size // PAGE) * PAGE


class _Mapped:
    """A ring in this process' memory. Takes over the descriptors and closes them: the map is enough."""

    def __init__(self, memory: RingMemory, access: int) -> None:
        try:
            self._map = mmap.mmap(memory.ring, os.fstat(memory.ring).st_size, access=access)
            self._bell = Bell(memory.bell)
        finally:
            memory.close()
        whole = memoryview(self._map)
        self._header = whole[:PAGE].cast("Q")
        records, capacity = self._header[RECORDS], self._header[CAPACITY]
        start = _data_start(records)
        if self._header[0] != MAGIC or records < 2 or records & (records - 1) or start + capacity != len(whole):
            raise ProtocolError("this memory is not a ring of records")
        self._records, self._mask, self._capacity = records, records - 1, capacity
        self._start = start
        self._words64, self._words32 = whole[PAGE:start].cast("Q"), whole[PAGE:start].cast("I")
        self._times = whole[PAGE:start].cast("d")
        self._data = whole[start:]

    @property
    def capacity_bytes(self) -> int:
        """Bytes that records share."""
        return self._capacity

    @property
    def committed(self) -> int:
        """How many records there have been: the sequence number of the next one."""
        return self._header[COMMITTED]

    @property
    def ended(self) -> bool:
        """The producer has ended the stream."""
        return self._header[STATE] == ENDED


class RingWriter(_Mapped):
    """The one producer. Not safe between threads: its owner takes care.

    Args:
        memory: the ring; its descriptors are taken over.
    """

    def __init__(self, memory: RingMemory) -> None:
        super().__init__(memory, mmap.ACCESS_WRITE)
        self._header[STATE] = OPEN
        self._next = self._header[COMMITTED]
        self._end = self._header[RESERVED]
        self._offset = self._end % self._capacity
        self._open: tuple[int, int] | None = None
        self._waiters = self._bell.words

    def write(
        self, data: bytes | bytearray | memoryview, meta: bytes, time_s: float, device_s: float, flags: int
    ) -> int:
        """Add a record of contiguous bytes; its sequence number.

        Raises ConfigurationError: it is larger than the ring.
        """
        sequence = self.put(data, meta, time_s, device_s, flags)
        self._bell.ring()
        return sequence

    def put(self, data: bytes | bytearray | memoryview, meta: bytes, time_s: float, device_s: float, flags: int) -> int:
        """As `write`, but who waits is not woken: that is `ring_bell`, after the last of many."""
        # _take and _publish, written out: a call costs as much as the whole store
        size, meta_size, capacity = len(data), len(meta), self._capacity
        whole = size + meta_size
        position, offset = self._end, self._offset
        if offset + whole > capacity:
            position, offset = self._around(whole, position, offset)
        header, here = self._header, self._map
        used = whole + 7 & -8
        header[RESERVED] = self._end = position + used
        self._offset = offset + used
        offset += self._start
        here[offset : offset + size] = data
        if meta_size:
            here[offset + size : offset + whole] = meta
        sequence = self._next
        at = PAGE + (sequence & self._mask) * 48
        _pack_entry(here, at, sequence, position, time_s, device_s, size, meta_size, flags, 0)
        header[COMMITTED] = self._next = sequence + 1
        return sequence

    def ring_bell(self) -> None:
        """Wake the readers that wait."""
        if self._waiters[1]:
            self._bell.ring()

    def reserve(self, size: int) -> memoryview:
        """Room for a record of `size` bytes in the ring itself, to be filled and then committed."""
        position, offset = self._take(size + META_MAX)
        self._open = (position, size)
        return self._data[offset - self._start : offset - self._start + size]

    def commit(self, size: int | None, meta: bytes, time_s: float, device_s: float, flags: int) -> int:
        """Publish what was reserved last, or its first `size` bytes; its sequence number. Then `ring_bell`."""
        if self._open is None:
            raise ValueError("commit() without reserve()")
        position, reserved = self._open
        size = reserved if size is None else size
        if not 0 <= size <= reserved or len(meta) > META_MAX:
            raise ValueError(f"{reserved} bytes and {META_MAX} of meta were reserved, not {size} and {len(meta)}")
        self._open = None
        behind = self._start + position % self._capacity + size
        self._map[behind : behind + len(meta)] = meta
        return self._publish(position, size, len(meta), time_s, device_s, flags)

    def _take(self, size: int) -> tuple[int, int]:
        """Reserve `size` bytes in one piece: (position, offset in the map)."""
        position, offset = self._end, self._offset
        if offset + size > self._capacity:
            position, offset = self._around(size, position, offset)
        used = size + 7 & -8
        self._header[RESERVED] = self._end = position + used
        self._offset = offset + used
        return position, self._start + offset

    def _around(self, size: int, position: int, offset: int) -> tuple[int, int]:
        """The (position, offset in the data) of the data's next beginning, for what does not fit before its end."""
        if size > self._capacity:
            raise ConfigurationError(
                f"a record of {size} bytes does not fit into a stream of {self._capacity}",
                context={"size": size, "capacity_bytes": self._capacity},
                remedy="Open the stream with a larger capacity_bytes: four times the largest record or more.",
            )
        return position + self._capacity - offset, 0

    def _publish(  # noqa: PLR0917 — an entry's fields in their order
        self, position: int, size: int, meta_size: int, time_s: float, device_s: float, flags: int
    ) -> int:
        sequence = self._next
        at = PAGE + (sequence & self._mask) * 48
        _pack_entry(self._map, at, sequence, position, time_s, device_s, size, meta_size, flags, 0)
        self._header[COMMITTED] = self._next = sequence + 1
        return sequence

    def end(self) -> None:
        """No record follows, for now."""
        self._header[STATE] = ENDED
        self._bell.ring()


class RingRecord(msgspec.Struct, frozen=True):
    """One record as it came; `data` is a copy, or in place when `peek` gave it."""

    sequence: int
    time_s: float
    device_time_s: float | None
    flags: int
    meta: bytes
    data: bytes | memoryview


Row = tuple[int, int, float, float, int, bytes, bytes]
"""A record's sequence number, position, time, device time (NaN for none), flags, meta and data."""


class RingReader(_Mapped):
    """One reader. Not safe between threads.

    Args:
        memory: the ring; its descriptors are taken over.
        oldest: begin with the oldest record that is still there, rather than with the next to come.

    Attributes:
        lost: records that were overwritten before this reader came to them.
    """

    def __init__(self, memory: RingMemory, *, oldest: bool = False) -> None:
        super().__init__(memory, mmap.ACCESS_READ)
        self._next = self.committed
        self._waited_s, self._waited_at = time.monotonic(), self._next
        self.lost = 0
        if oldest:
            self._next = self._oldest(0)

    @property
    def position(self) -> int:
        """Sequence number of the record that is read next."""
        return self._next

    @property
    def waiting(self) -> int:
        """How many records are there to read, those lost already included."""
        return self.committed - self._next

    def times_s(self) -> list[float]:
        """When the records that are still there were taken, oldest first; nothing is read by that."""
        committed = self._header[COMMITTED]
        words, times = self._words64[::6].tolist(), self._times[2::6].tolist()
        entries = ((number, number & self._mask) for number in range(max(committed - self._records + 1, 0), committed))
        return [times[at] for number, at in entries if words[at] == number]

    def wait(self, timeout_s: float | None) -> bool:
        """Whether there is a record to read, or the stream has ended, within `timeout_s` seconds.

        Where records come so quickly that each would wake the reader, which costs the producer more than to write one,
        the reader takes a nap first and then finds many: they are read half a millisecond later at most.
        """
        if self._ready():
            return True
        now, read = time.monotonic(), self._next - self._waited_at
        rate = read / max(now - self._waited_s, 1e-9)
        self._waited_s, self._waited_at = now, self._next
        if rate > _NAP_RATE and (timeout_s is None or timeout_s > _NAP_MAX_S):
            time.sleep(min(_NAP_FINDS / rate, _NAP_MAX_S))
        return self._bell.wait(self._ready, timeout_s)

    def _ready(self) -> bool:
        return self._header[COMMITTED] != self._next or self._header[STATE] == ENDED

    def seek(self, sequence: int) -> None:
        """Go on with record `sequence`, or with the next to come when there was none so far."""
        self._next = max(0, min(sequence, self.committed))

    def skip_to_newest(self) -> int:
        """Forget all that waits but the newest record; how many were skipped."""
        skipped = max(self.committed - 1 - self._next, 0)
        self._next += skipped
        return skipped

    def take(self, limit: int = 1024) -> list[RingRecord]:
        """Up to `limit` records that have come, oldest first; none when there are none."""
        return [
            RingRecord(sequence, time_s, None if math.isnan(device_s) else device_s, flags, meta, data)
            for sequence, _, time_s, device_s, flags, meta, data in self.rows(limit)
        ]

    def rows(self, limit: int = 1024) -> list[Row]:
        """As `take`, without making an object of each: for who makes others of them."""
        while True:
            committed = self._header[COMMITTED]
            first = self._next
            if committed == first:
                return []
            if committed < first or committed - first >= self._records:
                self._catch_up()
                continue
            last = min(committed, first + limit, (first | self._mask) + 1)  # in one piece of the table
            good = self._still_whole(self._copied(first, last))
            self._next = last
            self.lost += last - first - len(good)
            if good:
                return good

    def payloads(self, limit: int = 1024) -> list[bytes] | None:
        """The bytes alone of up to `limit` records that have come, oldest first: the quickest way to read.

        None, and nothing is read, when one of them is lost or is more than bytes: `take` then tells which and how.
        """
        first, committed = self._next, self._header[COMMITTED]
        if committed <= first:
            return [] if committed == first else None
        last = min(committed, first + limit, (first | self._mask) + 1)
        low, high = first & self._mask, (last - 1 & self._mask) + 1
        here, start, capacity = self._map, self._start, self._capacity
        sequences = self._words64[low * 6 : high * 6 : 6].tolist()
        positions = self._words64[low * 6 + 1 : high * 6 : 6].tolist()
        sizes = self._words32[low * 12 + 8 : high * 12 : 12].tolist()
        if (whole := sum(sizes)) > _AT_ONCE:  # large ones a few at a time, as a processor's cache has them
            last = first + max(1, len(sizes) * _AT_ONCE // whole)
            high = low + last - first
            sequences, positions, sizes = sequences[: last - first], positions[: last - first], sizes[: last - first]
        if any(self._words32[low * 12 + 10 : high * 12 : 12].tolist()):
            return None
        places = zip(positions, sizes, strict=True)
        taken = [here[(at := start + position % capacity) : at + size] for position, size in places]
        reserved, committed = self._header[RESERVED], self._header[COMMITTED]
        if (
            reserved - positions[0] > capacity
            or committed - first >= self._records
            or sequences != list(range(first, last))
        ):
            return None
        self._next = last
        return taken

    def peek(self) -> RingRecord | None:
        """The next record with its data in place, or None. What was seen counts only if `pop` says so afterwards."""
        while self.committed != self._next:
            if self.committed < self._next or self.committed - self._next >= self._records:
                self._catch_up()
                continue
            entry = self._entry(self._next)
            if entry is not None and self._whole(self._next, entry[1]):
                return self._in_place(entry)
            self._next += 1
            self.lost += 1
        return None

    def pop(self, record: RingRecord) -> bool:
        """Go on behind `record`; False: it was overwritten while it was looked at, and counts as lost."""
        entry = self._entry(record.sequence)
        whole = entry is not None and self._whole(record.sequence, entry[1])
        self._next = record.sequence + 1
        self.lost += not whole
        return whole

    def _copied(self, first: int, last: int) -> list[Row]:
        """Copies of the records from `first` to before `last`, those whose entries are theirs and make sense."""
        here, capacity, start = self._map, self._capacity, self._start
        low, high = first & self._mask, (last - 1 & self._mask) + 1
        long, half = slice(low * 6, high * 6), slice(low * 12, high * 12)
        words, times, halves = self._words64[long], self._times[long], self._words32[half]
        columns = (words[0::6], words[1::6], times[2::6], times[3::6], halves[8::12], halves[9::12], halves[10::12])
        expected = range(first, last)
        return [
            (
                sequence,
                position,
                time_s,
                device_s,
                flags,
                here[at + size : at + size + meta_size] if meta_size else b"",
                here[at : at + size],
            )
            for should, sequence, position, time_s, device_s, size, meta_size, flags in zip(
                expected, *(column.tolist() for column in columns), strict=True
            )
            if sequence == should and (at := start + position % capacity) + size + meta_size <= start + capacity
        ]

    def _still_whole(self, rows: list[Row]) -> list[Row]:
        """Those of `rows` that nothing was written over until they had been copied."""
        reserved, committed = self._header[RESERVED], self._header[COMMITTED]
        if rows and reserved - rows[0][1] <= self._capacity and committed - rows[0][0] < self._records:
            return rows  # both grow from record to record: what the oldest survived, all did
        return [row for row in rows if reserved - row[1] <= self._capacity and committed - row[0] < self._records]

    def _whole(self, sequence: int, position: int) -> bool:
        reserved, committed = self._header[RESERVED], self._header[COMMITTED]
        return reserved - position <= self._capacity and committed - sequence < self._records

    def _entry(self, sequence: int) -> tuple[int, int, float, float, int, int, int, int] | None:
        """The table's entry, or None: it is another record's by now, or a broken producer's nonsense."""
        entry: tuple[int, int, float, float, int, int, int, int] = _ENTRY.unpack_from(
            self._map, PAGE + (sequence & self._mask) * 48
        )
        found, position, _, _, size, meta_size, _, _ = entry
        if found != sequence or position % self._capacity + size + meta_size > self._capacity:
            return None
        return entry

    def _in_place(self, entry: tuple[int, int, float, float, int, int, int, int]) -> RingRecord:
        sequence, position, time_s, device_s, size, meta_size, flags, _ = entry
        start = position % self._capacity
        middle = start + size
        return RingRecord(
            sequence,
            time_s,
            None if math.isnan(device_s) else device_s,
            flags,
            bytes(self._data[middle : middle + meta_size]) if meta_size else b"",
            self._data[start:middle],
        )

    def _catch_up(self) -> None:
        """The producer is a whole ring ahead: go on with what is safely still there."""
        committed = self.committed
        if committed < self._next:  # a new ring's producer began anew: nothing of it was read yet
            self._next = 0
            return
        oldest = self._oldest(self._next)
        safe = min(oldest + (committed - oldest) // 8, committed)  # else it would be overwritten under our hands
        self.lost += safe - self._next
        self._next = safe

    def _oldest(self, from_sequence: int) -> int:
        """The oldest record from `from_sequence` on whose bytes are still there."""
        committed = self.committed
        low, high = max(from_sequence, committed - self._records + 1, 0), committed
        while low < high:
            middle = (low + high) // 2
            entry = self._entry(middle)
            if entry is not None and self._whole(middle, entry[1]):
                high = middle
            else:
                low = middle + 1
        return low
