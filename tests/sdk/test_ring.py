"""Rings in shared memory: what a reader takes is whole and in order, or counted as lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError, LinkLost, ProtocolError
from vfab.sdk.ring import META_MAX, PAGE, RingMemory, RingReader, RingWriter
from vfab.sdk.stream_ends import StreamReader, StreamWriter
from vfab.sdk.stream_words import StreamInfo

NAN = float("nan")


@contextmanager
def ring(capacity: int = PAGE, records: int = 16) -> Iterator[RingMemory]:
    memory = RingMemory.create(capacity, records)
    try:
        yield memory
    finally:
        memory.close()


def put(writer: RingWriter, data: bytes, meta: bytes = b"") -> int:
    return writer.write(data, meta, 1.5, NAN, 0)


def test_records_come_out_as_they_went_in() -> None:
    with ring() as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        assert reader.take() == []
        assert writer.write(b"one", b"m", 1.5, 2.5, 7) == 0
        assert put(writer, b"") == 1
        first, second = reader.take()
        assert (first.sequence, first.data, first.meta, first.flags) == (0, b"one", b"m", 7)
        assert (first.time_s, first.device_time_s) == (1.5, 2.5)
        assert (second.sequence, second.data, second.device_time_s) == (1, b"", None)
        assert reader.waiting == 0 == reader.lost


def test_who_comes_late_begins_with_the_next_or_with_the_oldest_there_is() -> None:
    with ring() as memory:
        writer = RingWriter(memory.copy())
        for number in range(5):
            put(writer, bytes([number]))
        assert RingReader(memory.for_reader()).take() == []
        assert [r.data for r in RingReader(memory.for_reader(), oldest=True).take()] == [bytes([n]) for n in range(5)]


def test_when_records_were_taken_is_told_of_those_that_are_still_there_without_reading_them() -> None:
    with ring(capacity=4 * PAGE, records=16) as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        assert reader.times_s() == []
        for number in range(40):
            writer.write(b"x", b"", float(number), NAN, 0)
            assert reader.times_s()[-1] == number
        assert reader.times_s() == [float(number) for number in range(25, 40)]
        assert reader.waiting == 40


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_record_is_read_whole_or_counted_as_lost(data: st.DataObject) -> None:
    """Against a model: any mixture of sizes, of writing and of reading."""
    with ring(PAGE, 8) as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        written: list[bytes] = []
        read: dict[int, bytes] = {}
        for action in data.draw(st.lists(st.integers(-1, 1500), max_size=60)):
            if action < 0:
                read.update({record.sequence: bytes(record.data) for record in reader.take(5)})
            else:
                written.append(bytes([len(written) % 256]) * action)
                assert put(writer, written[-1]) == len(written) - 1
        while records := reader.take():
            read.update({record.sequence: bytes(record.data) for record in records})
        assert all(written[sequence] == content for sequence, content in read.items())
        assert len(read) + reader.lost == len(written)
        if written and len(written[-1]) <= PAGE:
            assert len(written) - 1 in read, "the newest is never lost"


def test_a_record_is_made_and_looked_at_in_place() -> None:
    with ring(64 * PAGE) as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        room = writer.reserve(10_000)
        room[:5] = b"frame"
        assert reader.take() == [], "what is not committed is not seen"
        assert writer.commit(5, b"meta", 1.0, NAN, 0) == 0
        looked = reader.peek()
        assert looked is not None and isinstance(looked.data, memoryview) and looked.data.readonly
        assert (bytes(looked.data), looked.meta) == (b"frame", b"meta")
        assert reader.pop(looked) and reader.peek() is None
        with pytest.raises(ValueError, match="without reserve"):
            writer.commit(None, b"", 0.0, NAN, 0)
        writer.reserve(10)
        with pytest.raises(ValueError, match="were reserved"):
            writer.commit(11, b"", 0.0, NAN, 0)
        with pytest.raises(ValueError, match="were reserved"):
            writer.commit(1, b"x" * (META_MAX + 1), 0.0, NAN, 0)


def test_what_was_overwritten_while_it_was_looked_at_counts_as_lost() -> None:
    with ring(PAGE, 4) as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        put(writer, b"a" * 2000)
        looked = reader.peek()
        assert looked is not None
        for _ in range(3):
            put(writer, b"b" * 2000)
        assert not reader.pop(looked)
        assert reader.lost == 1
        assert [bytes(r.data[:1]) for r in reader.take()][-1] == b"b"


def test_a_reader_goes_to_the_newest_when_it_wants() -> None:
    with ring() as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        for number in range(4):
            put(writer, bytes([number]))
        assert reader.skip_to_newest() == 3
        assert [r.data for r in reader.take()] == [b"\x03"]
        assert reader.skip_to_newest() == 0


def test_a_record_larger_than_the_ring_is_refused_and_harms_nothing() -> None:
    with ring(PAGE) as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        with pytest.raises(ConfigurationError, match="does not fit") as refused:
            put(writer, b"x" * (PAGE + 1))
        assert "capacity_bytes" in refused.value.remedy
        put(writer, b"x" * PAGE)
        assert len(reader.take()[0].data) == PAGE


@pytest.mark.parametrize(("capacity", "records"), [(0, 4), (4096, 1), (-1, -1)])
def test_a_ring_that_holds_nothing_is_refused(capacity: int, records: int) -> None:
    with pytest.raises(ConfigurationError, match="cannot hold"):
        RingMemory.create(capacity, records)


def test_a_producer_that_follows_another_goes_on_where_it_ended() -> None:
    with ring() as memory:
        reader = RingReader(memory.for_reader())
        put(RingWriter(memory.copy()), b"first")
        dead = RingWriter(memory.copy())
        dead.reserve(100)  # and dies
        memory.end()
        assert reader.ended
        assert put(RingWriter(memory.copy()), b"second") == 1
        assert not reader.ended
        assert [r.data for r in reader.take()] == [b"first", b"second"]


def test_a_reader_cannot_write() -> None:
    with ring() as memory:
        own = memory.for_reader()
        with pytest.raises(OSError):
            os.pwrite(own.ring, b"x", 0)
        with pytest.raises(OSError):
            os.ftruncate(memory.ring, 0)
        own.close()


def test_memory_that_is_no_ring_is_refused() -> None:
    with ring() as memory:
        os.pwrite(memory.ring, b"nonsense", 0)
        with pytest.raises(ProtocolError, match="not a ring"):
            RingReader(memory.for_reader())


def test_a_broken_producer_cannot_make_a_reader_look_outside() -> None:
    with ring() as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        put(writer, b"good")
        os.pwrite(memory.ring, (2**31).to_bytes(4, "little"), PAGE + 32)  # the entry's size
        assert reader.take() == []
        assert reader.peek() is None
        put(writer, b"better")
        assert [r.data for r in reader.take()] == [b"better"]


def test_readers_in_threads_are_woken_and_told_of_the_end() -> None:
    with ring(1 << 20, 1 << 15) as memory:
        writer = RingWriter(memory.copy())
        counts: list[int] = []

        def read(reader: RingReader) -> None:
            count = 0
            while reader.wait(20.0) and (records := reader.take()):
                count += len(records)
            counts.append(count)

        threads = [threading.Thread(target=read, args=(RingReader(memory.for_reader()),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(20_000):
            put(writer, number.to_bytes(8, "little"))
        writer.end()
        for thread in threads:
            thread.join(30.0)
        assert counts == [20_000] * 4


def test_a_reader_in_another_process_sees_what_is_written() -> None:
    with ring() as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        child = os.fork()
        if child == 0:
            put(writer, b"from a child")
            os._exit(0)
        assert reader.wait(20.0)
        assert reader.take()[0].data == b"from a child"
        os.waitpid(child, 0)


def test_waiting_has_an_end() -> None:
    with ring() as memory:
        RingWriter(memory.copy())
        assert not RingReader(memory.for_reader()).wait(0.01)


def test_bytes_alone_are_read_quicker_and_losses_are_counted_all_the_same() -> None:
    with ring(64 * PAGE, 16) as memory:
        info = StreamInfo(name="main")
        writer, reader = StreamWriter(info, memory.copy()), StreamReader(info, memory.for_reader())
        assert reader.read_data() == []
        assert writer.send_many([b"one", b"two"]) == 2
        assert writer.send_many(bytes([n]) for n in range(2)) == 2
        assert reader.read_data() == [b"one", b"two", b"\0", b"\1"]
        writer.send_many([b"raw", {"n": 1}, b"again"])
        assert reader.read_data() == [b"raw", {"n": 1}, b"again"]
        for number in range(40):
            writer.send(bytes([number]))
        read = reader.read_data()
        assert len(read) + reader.lost == 40
        while more := reader.read_data():
            read += more
        assert read[-1] == bytes([39]) and len(read) + reader.lost == 40
        writer.send(b"next")
        assert (record := reader.read()) is not None and record.lost == 0, "those were told of already"


def test_large_records_are_read_a_few_at_a_time() -> None:
    with ring(256 * PAGE, 16) as memory:
        info = StreamInfo(name="main")
        writer, reader = StreamWriter(info, memory.copy()), StreamReader(info, memory.for_reader())
        writer.send_many([bytes(100_000) for _ in range(8)])
        assert [len(reader.read_data()) for _ in range(5)] == [2, 2, 2, 2, 0]
        with pytest.raises(ConfigurationError):
            writer.send_many([b"before", bytes(257 * PAGE), b"after"])
        assert reader.read_data() == [b"before"]
        writer.close()
        with pytest.raises(LinkLost):
            writer.send_many([b"late"])
        with pytest.raises(LinkLost):
            writer.send(b"late")


def test_data_alone_of_what_is_overwritten_meanwhile_is_not_believed() -> None:
    """The producer overtakes the reader in the middle of its copying."""
    with ring(PAGE, 8) as memory:
        writer = RingWriter(memory.copy())

        class Overtaken(RingReader):
            overtaken = False

            @property
            def _start(self) -> int:
                if not self.overtaken:
                    self.overtaken = True
                    for _ in range(8):
                        put(writer, b"new")
                return self._really

            @_start.setter
            def _start(self, value: int) -> None:
                self._really = value

        reader = Overtaken(memory.for_reader())
        reader.overtaken = True
        put(writer, b"old")
        reader.overtaken = False
        assert reader.payloads() is None
        assert {bytes(record.data) for record in reader.take()} == {b"new"}


def test_a_reader_of_many_records_a_second_naps_and_misses_nothing() -> None:
    with ring(64 * PAGE, 1024) as memory:
        writer, reader = RingWriter(memory.copy()), RingReader(memory.for_reader())
        for _ in range(1000):
            put(writer, b"x")
        assert len(reader.take(10_000)) == 1000
        assert not reader.wait(0.002), "it napped, and none had come"
        put(writer, b"y")
        assert reader.wait(1.0) and reader.take()[0].data == b"y"
