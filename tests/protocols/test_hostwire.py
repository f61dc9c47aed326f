"""The wire between kernel and host: every message, however it is cut, and everything that is not one."""

from __future__ import annotations

import array
import asyncio
import itertools
import json
import socket
import struct
import threading
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.kernel.connection import HostConnection, HostListener
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DependencyError, DriverError, ProtocolError
from vfab.model.manifest import manifest_from_dict
from vfab.protocols import zygotewire
from vfab.protocols.hostwire import (
    BULK_MAX,
    BULK_MIN,
    FRAME_MAX,
    HANDSHAKE_MAX,
    HEADER,
    WIRE_VERSION,
    Call,
    Cancel,
    Decoder,
    Event,
    Failure,
    Handshake,
    Log,
    Message,
    Progress,
    Reply,
    decode,
    encode,
    handshake_line,
    parse_handshake,
    sizes,
)
from vfab.sdk.transport import FrameReader, FrameWriter, LinkClosed

BIG = st.integers(0, 3).map(lambda n: bytes([n]) * (BULK_MIN + n))
LEAF = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
TREE = st.recursive(LEAF, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(), t, max_size=3), max_leaves=8)
VALUE = TREE | BIG | st.lists(TREE | BIG, max_size=4) | st.dictionaries(st.text(max_size=5), TREE | BIG, max_size=4)
FIELDS = st.dictionaries(st.text(max_size=5), VALUE, max_size=3)
IDS = st.integers(0, 2**32)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Call, IDS, st.text(), st.lists(VALUE, max_size=3), FIELDS, st.floats(0, 1e6)),
    st.builds(Reply, IDS, VALUE),
    st.builds(Failure, IDS, FIELDS),
    st.builds(Cancel, IDS),
    st.builds(Progress, IDS, FIELDS),
    st.builds(Event, st.text(), FIELDS, st.floats(0, 1e9)),
    st.builds(Log, st.integers(0, 50), st.text(), st.text(), st.floats(0, 1e9), FIELDS),
)


def wire(messages: list[Message]) -> bytes:
    return b"".join(bytes(buffer) for message in messages for buffer in encode(message))


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(n % (len(data) + 1) for n in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@settings(deadline=None, max_examples=150)
@given(st.lists(MESSAGES, max_size=4), st.lists(st.integers(0, 200_000), max_size=6))
def test_how_the_bytes_were_cut_does_not_matter(messages: list[Message], at: list[int]) -> None:
    data = wire(messages)
    decoder, came = Decoder(), []
    for piece in cut(data, at):
        came += list(decoder.receive(piece))
    assert came == messages
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            for piece in cut(data, at):
                theirs.sendall(piece)

        sender = threading.Thread(target=send)
        sender.start()
        reader = FrameReader(ours)
        assert [reader.read() for _ in messages] == messages
        sender.join()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(VALUE, st.booleans()), min_size=1, max_size=5), st.lists(st.integers(0, 200_000), max_size=6))
def test_the_kernels_end_reads_whatever_way_it_comes(values: list[tuple[Any, bool]], at: list[int]) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        heard = Heard()
        connection = await HostConnection.open(ours, heard, "d")
        calls = [asyncio.create_task(connection.call("m", timeout_s=20)) for _ in values]
        await asyncio.sleep(0)
        messages: list[Message] = []
        for number, (value, good) in enumerate(values, 1):
            messages.append(Event("e", {"value": value}, 0.0))
            messages.append(Reply(number, value) if good else Failure(number, {"code": "refused", "error": "no"}))
        data = handshake_line(Handshake(driver="d")) + wire(messages)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        for piece in cut(data, at):
            await loop.sock_sendall(theirs, piece)
            await asyncio.sleep(0)
        results = await asyncio.gather(*calls, return_exceptions=True)
        for (value, good), result in zip(values, results, strict=True):
            assert result == value if good else isinstance(result, DriverError)
        assert [event.data["value"] for event in heard.events] == [value for value, _ in values]
        connection.close()
        theirs.close()
        await heard.closed.wait()

    asyncio.run(main())


class Heard(HostListener):
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.logs: list[Log] = []
        self.closed = asyncio.Event()
        self.error: DriverError | None = None

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def on_log(self, record: Log) -> None:
        self.logs.append(record)

    def on_closed(self, error: DriverError | None) -> None:
        self.error = error
        self.closed.set()


def frame_of(value: Any, bulk: bytes = b"") -> bytes:
    body = msgspec.msgpack.encode(value)
    return HEADER.pack(len(body), len(bulk)) + body + bulk


def ref(offset: int, length: int, code: int = 1) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, struct.pack("<II", offset, length))


FORGED = {
    "a bulk reference beyond the bulk": frame_of([2, 1, ref(5, 10)], b"123456"),
    "a bulk reference far beyond": frame_of([2, 1, ref(2**32 - 1, 2**32 - 1)], b"123456"),
    "the same bulk again and again": frame_of([2, 1, [ref(0, 6)] * 1000], b"123456"),
    "a bulk reference cut short": frame_of([2, 1, msgspec.msgpack.Ext(1, b"123")], b"123456"),
    "another extension": frame_of([2, 1, ref(0, 6, code=7)], b"123456"),
    "a tag that is none": frame_of([99, 1, 2]),
    "no tag": frame_of({}),
    "wrong types": frame_of([1, "one", 2]),
    "too few fields": frame_of([3, 1]),
    "no msgpack": HEADER.pack(3, 0) + b"\xc1\xc1\xc1",
    "nothing": HEADER.pack(0, 0),
    "deep nesting": HEADER.pack(100_003, 0) + b"\x93\x02\x01" + b"\x91" * 100_000,
    "frame over its limit": HEADER.pack(FRAME_MAX + 1, 0),
    "bulk over its limit": HEADER.pack(1, BULK_MAX + 1),
}


@pytest.mark.parametrize("data", FORGED.values(), ids=FORGED)
def test_what_is_no_message_is_a_protocol_error_on_every_end(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Decoder().receive(data))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ProtocolError):
            FrameReader(ours).read()

    async def main() -> None:
        ours, theirs = socket.socketpair()
        heard = Heard()
        connection = await HostConnection.open(ours, heard, "d")
        theirs.sendall(handshake_line(Handshake()) + data)
        await asyncio.wait_for(heard.closed.wait(), 10)
        assert isinstance(heard.error, ProtocolError)
        with pytest.raises(ProtocolError):
            await connection.call("m")
        theirs.close()

    asyncio.run(main())


def test_references_within_the_bulk_are_resolved_and_an_unused_extension_without_bulk_is_kept_as_it_is() -> None:
    body = msgspec.msgpack.encode([2, 1, [ref(0, 2), ref(2, 4), ref(6, 0)]])
    for bulk in (b"123456", bytearray(b"123456"), memoryview(b"123456")):
        assert decode(body, bulk) == Reply(1, [b"12", b"3456", b""])


@pytest.mark.parametrize(
    "view",
    [
        memoryview(array.array("d", [1.5] * BULK_MIN)),
        memoryview(bytes(range(256)) * 1000)[::2],
        memoryview(b"ab" * BULK_MIN).cast("B", (2, BULK_MIN)),
        memoryview(array.array("d", [1.5] * 3)),
    ],
    ids=["of doubles", "with gaps", "of two dimensions", "small"],
)
def test_memory_of_any_shape_arrives_as_its_bytes(view: memoryview) -> None:
    assert list(Decoder().receive(wire([Reply(1, view), Reply(2, 3)]))) == [Reply(1, view.tobytes()), Reply(2, 3)]


def test_values_of_other_libraries_arrive_as_what_comes_nearest() -> None:
    import numpy as np

    class Text(str):
        __slots__ = ()

    given_ = [np.float64(1.5), np.int32(3), np.arange(3), PurePosixPath("/a"), Text("t"), np.str_("n"), (1, 2), {3}]
    assert list(Decoder().receive(wire([Reply(1, given_)]))) == [
        Reply(1, [1.5, 3, [0, 1, 2], "/a", "t", "n", [1, 2], [3]])
    ]


def loop_in_itself() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    "value",
    [object(), 2**70, "\ud800", loop_in_itself(), memoryview(b"abcdef")[::2], lambda: 0, 1j],
    ids=["object", "number", "surrogate", "ring", "gaps", "function", "complex"],
)
def test_what_cannot_be_sent_is_a_type_error_and_nothing_is_sent(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(Reply(1, value))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(TypeError):
            FrameWriter(ours).write(Reply(1, value))
        FrameWriter(ours).write(Cancel(5))
        assert FrameReader(theirs).read() == Cancel(5)


def test_a_message_that_is_too_large_is_refused_by_its_sender() -> None:
    with pytest.raises(ProtocolError, match="too large"):
        encode(Reply(1, ["x" * 1000] * (FRAME_MAX // 1000)))
    large = bytes(BULK_MAX // 4)
    with pytest.raises(ProtocolError, match="too large"):
        encode(Call(1, "m", [large] * 5))
    assert sizes(HEADER.pack(FRAME_MAX, BULK_MAX)) == (FRAME_MAX, BULK_MAX)


SHAKES: dict[str, tuple[bytes, type[DriverError]]] = {
    "another program": (b"HTTP/1.1 200 OK\n", ProtocolError),
    "no version": (b"vfab-host x {}\n", ProtocolError),
    "a newer version": (b"vfab-host %d {}\n" % (WIRE_VERSION + 1), DependencyError),
    "no JSON": (b"vfab-host 1 {\n", ProtocolError),
    "wrong fields": (b'vfab-host 1 {"pid": "x"}\n', ProtocolError),
    "not a mapping": (b"vfab-host 1 []\n", ProtocolError),
    "binary": (b"\x00\xff\n", ProtocolError),
    "no text": (b"vfab-host 1 \xff\xff\n", ProtocolError),
}


@pytest.mark.parametrize(("line", "kind"), SHAKES.values(), ids=SHAKES)
def test_a_handshake_that_is_none_is_refused(line: bytes, kind: type[DriverError]) -> None:
    with pytest.raises(kind):
        parse_handshake(line)

    async def main() -> None:
        ours, theirs = socket.socketpair()
        heard = Heard()
        connection = await HostConnection.open(ours, heard, "d")
        theirs.sendall(line)
        with pytest.raises(kind):
            await connection.handshake(5)
        await heard.closed.wait()
        theirs.close()

    asyncio.run(main())


def test_a_handshake_without_end_is_refused() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        heard = Heard()
        connection = await HostConnection.open(ours, heard, "d")
        theirs.sendall(b"x" * (HANDSHAKE_MAX + 1))
        with pytest.raises(ProtocolError):
            await connection.handshake(5)
        theirs.close()

    asyncio.run(main())
    with pytest.raises(ProtocolError):
        parse_handshake(b'vfab-host 1 {"pid": 1}')


@given(st.builds(Handshake, driver=st.text(), pid=st.integers(0, 2**31), methods=st.lists(st.text()).map(tuple)))
def test_a_handshake_comes_back_as_it_was(shake: Handshake) -> None:
    line = handshake_line(shake)
    assert line.count(b"\n") == 1
    assert json.loads(line.split(b" ", 2)[2])["driver"] == shake.driver
    assert parse_handshake(line) == shake


SPEC = zygotewire.HostSpec(
    folder="/p",
    manifest=manifest_from_dict(
        {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "d.D"}
    ),
    device=DeviceInfo(id="d", bus="b", address="/a"),
)


@given(st.lists(st.integers(0, 3), max_size=5), st.lists(st.integers(0, 5000), max_size=5))
def test_the_zygotes_wire_does_not_mind_how_it_is_cut(kinds: list[int], at: list[int]) -> None:
    every = [
        zygotewire.SpawnRequest(1, SPEC),
        zygotewire.Spawned(1, 2),
        zygotewire.SpawnFailed(1, "no"),
        zygotewire.Exited(2, -9),
    ]
    messages = [every[kind] for kind in kinds]
    cutter, came = zygotewire.FrameCutter(), []
    for piece in cut(b"".join(map(zygotewire.encode, messages)), at):
        came += list(cutter.receive(piece))
    assert came == messages


@pytest.mark.parametrize("data", [struct.pack("<I", 1 << 31), b"\x01\0\0\0\xc1", b"\x02\0\0\0\x91\x09"])
def test_the_zygotes_wire_refuses_rubbish(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(zygotewire.FrameCutter().receive(data))


def test_a_reader_goes_on_after_its_time_limit_wherever_it_came() -> None:
    data = wire([Reply(1, "x")])
    for first in range(1, 8):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 1000))
            reader = FrameReader(ours)
            theirs.sendall(data[:first])
            with pytest.raises(LinkClosed) as told:
                reader.read()
            assert isinstance(told.value.__cause__, BlockingIOError)
            theirs.sendall(data[first:])
            assert reader.read() == Reply(1, "x")


def test_a_peer_that_goes_away_is_told_wherever_it_stopped(tmp_path: Path) -> None:
    data = wire([Reply(1, bytes(BULK_MIN))])
    for stop in (0, 3, 9, 20, len(data) - 1):
        ours, theirs = socket.socketpair()
        with ours:
            theirs.sendall(data[:stop])
            theirs.close()
            with pytest.raises(LinkClosed):
                FrameReader(ours).read()
            with pytest.raises(LinkClosed):
                FrameWriter(ours).write(Cancel(1))


def test_a_line_is_read_up_to_its_end_or_to_the_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"one\ntwo" + b"x" * 50)
        reader = FrameReader(ours)
        assert reader.read_line() == b"one\n"
        assert reader.read_line(limit=10) == b"twoxxxxxxx"


class Described:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def to_wire(self) -> dict[str, Any]:
        return {"data": self.data, "size": len(self.data)}


@pytest.mark.parametrize("size", [3, BULK_MIN, 17 << 20])
def test_an_object_that_describes_itself_travels_as_that_however_big_it_is(size: int) -> None:
    data = bytes(size)
    (reply,) = Decoder().receive(b"".join(encode(Reply(1, Described(data)))))
    assert reply == Reply(1, {"data": data, "size": size})
