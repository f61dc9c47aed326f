"""The simulated Modbus device on a serial line, told by raw bytes: where frames end, what noise does."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.drivers.modbus.device import ModbusDevice, RtuServer, TcpServer, crc16
from vfab.drivers.modbus.simulator import ModbusSimulator
from vfab.sdk.testing import soon

READ_TWO = "01 04 00 07 00 02 c0 0a"
TWO = "01 04 04 00 07 00 08 4b 83"
"""Request and answer as another implementation (pymodbus' framer) writes them."""


def frame(*pdu: int, unit: int = 1) -> bytes:
    """A frame with its CRC."""
    plain = bytes((unit, *pdu))
    return plain + crc16(plain).to_bytes(2, "little")


def refusal(function: int, code: int) -> bytes:
    return frame(function | 0x80, code)


def told(server: RtuServer, *parts: bytes) -> bytes:
    """What is answered to the parts, then to silence."""
    answers = [answer for part in parts for answer in server.feed(part)]
    return b"".join([*answers, *server.silence()])


def test_a_known_request_is_answered_when_it_is_whole_without_any_silence() -> None:
    server = RtuServer(ModbusDevice())
    request = bytes.fromhex(READ_TWO)
    assert list(server.feed(request[:-1])) == []
    assert server.waits
    assert list(server.feed(request[-1:])) == [bytes.fromhex(TWO)]
    assert not server.waits


@pytest.mark.parametrize(
    "pdu",
    [
        pytest.param((7,), id="read exception status"),
        pytest.param((8, 0, 0, 0x12, 0x34), id="diagnostics"),
        pytest.param((17,), id="report server id"),
        pytest.param((20, 7, 6, 0, 4, 0, 1, 0, 2), id="read file record"),
        pytest.param((24, 4, 0xDE), id="read FIFO queue"),
        pytest.param((43, 13, 0, 1, 2, 3, 4, 5), id="CANopen"),
        pytest.param((65, *range(250)), id="a maker's own"),
        pytest.param((0,), id="no function"),
    ],
)
def test_a_function_that_it_does_not_have_is_refused_when_the_line_falls_silent(pdu: tuple[int, ...]) -> None:
    server = RtuServer(ModbusDevice())
    assert list(server.feed(frame(*pdu))) == []
    assert list(server.silence()) == [refusal(pdu[0], 1)]
    assert told(server, bytes.fromhex(READ_TWO)) == bytes.fromhex(TWO)


@pytest.mark.parametrize(
    "pdu",
    [
        pytest.param((3, 0, 0, 0), id="too short"),
        pytest.param((3, 0, 0, 0, 1, 0, 0), id="too long"),
        pytest.param((15, 0, 0, 0, 9, 1, 0xFF), id="fewer bits than it says"),
        pytest.param((16, 0, 0, 0, 2, 2, 0, 1), id="fewer registers than it says"),
        pytest.param((16, 0, 0, 0, 1, 9, 0, 1), id="less than it announces"),
        pytest.param((23, 0, 0, 0, 1, 0, 0, 0, 2, 2, 0, 1), id="fewer written than it says"),
    ],
)
def test_a_request_whose_sizes_disagree_is_refused_as_an_illegal_value(pdu: tuple[int, ...]) -> None:
    device = ModbusDevice()
    assert told(RtuServer(device), frame(*pdu)) == refusal(pdu[0], 3)
    assert device.holding == [0] * 1000
    assert device.coils == [False] * 1000


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"\x00", id="a glitch"),
        pytest.param(b"\x01\x03", id="a beginning"),
        pytest.param(frame(3, 0, 0, 0, 1)[:-1] + b"\x00", id="a wrong CRC"),
        pytest.param(frame(17)[:-1] + b"\x00", id="a wrong CRC of what it does not know"),
        pytest.param(frame(16, 0, 0, 0, 100, 200)[:-2], id="a request that breaks off"),
        pytest.param(b"\xff" * 5000, id="a stuck line"),
        pytest.param(bytes.fromhex(READ_TWO)[1:] + bytes.fromhex(READ_TWO), id="a request right behind half of one"),
    ],
)
def test_noise_ends_where_the_line_falls_silent_and_the_next_request_is_answered(noise: bytes) -> None:
    device = ModbusDevice()
    server = RtuServer(device)
    assert told(server, noise) == b""
    assert device.requests == 0
    assert told(server, bytes.fromhex(READ_TWO)) == bytes.fromhex(TWO)


def test_what_others_on_the_line_say_to_each_other_is_not_answered() -> None:
    device = ModbusDevice(unit=1)
    server = RtuServer(device)
    for words in (frame(3, 0, 0, 0, 2, unit=2), frame(3, 4, 0, 1, 0, 2, unit=2), frame(17, unit=2)):
        assert told(server, words) == b""
    assert device.requests == 0


def test_a_broadcast_is_done_and_not_answered() -> None:
    device = ModbusDevice()
    assert told(RtuServer(device), frame(6, 0, 3, 0x12, 0x34, unit=0), frame(99, unit=0)) == b""
    assert device.holding[3] == 0x1234


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    """What may be on a line up to a silence: frames right behind one another, and noise."""
    pdus = st.one_of(
        st.tuples(st.sampled_from([1, 2, 3, 4]), st.just(0), st.integers(0, 255), st.just(0), st.integers(0, 3)),
        st.tuples(st.just(16), st.just(0), st.just(1), st.just(0), st.just(1), st.just(2), st.just(7), st.just(8)),
        st.binary(min_size=1, max_size=260),
    )
    parts = st.one_of(pdus.map(lambda pdu: frame(*pdu)), st.binary(max_size=300))
    return b"".join(draw(st.lists(parts, max_size=4)))


@given(line=_lines(), cuts=st.lists(st.integers(0, 600)))
def test_how_the_bytes_were_cut_does_not_matter(line: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(line), *(cut for cut in cuts if cut < len(line))})
    parts = [line[begin:end] for begin, end in pairwise(edges)]
    whole, pieces = RtuServer(ModbusDevice()), RtuServer(ModbusDevice())
    assert told(whole, line) == told(pieces, *parts)
    assert told(pieces, bytes.fromhex(READ_TWO)) == bytes.fromhex(TWO)


@pytest.mark.parametrize("head", ["0001 0000 0000 01 03", "0001 0000 0001 01 03", "0001 0000 0100 01 03", "GET / HT"])
def test_over_tcp_what_is_no_modbus_ends_the_connection(head: str) -> None:
    data = head.encode() if head.startswith("GET") else bytes.fromhex(head)
    with pytest.raises(ConnectionError, match="no Modbus"):
        list(TcpServer(ModbusDevice()).feed(data))


# -- on a pseudo-terminal, where a clock tells silence ---------------------------------------------------------------


@contextmanager
def line() -> Iterator[int]:
    """The client's end of a serial line to the simulator."""
    with ModbusSimulator(rtu=True) as device:
        fd = os.open(device.address, os.O_RDWR | os.O_NOCTTY)
        try:
            yield fd
        finally:
            os.close(fd)


def heard(fd: int, size: int) -> bytes:
    """The next `size` bytes."""
    data = b""
    while len(data) < size:
        assert select.select([fd], [], [], 60)[0], f"only {data.hex(' ')} came"
        data += os.read(fd, size - len(data))
    return data


def test_on_a_line_an_unknown_function_is_refused_after_its_frame() -> None:
    with line() as fd:
        for function in (17, 8, 100):
            os.write(fd, frame(function, 0, 0))
            assert heard(fd, 5) == refusal(function, 1)
        os.write(fd, bytes.fromhex(READ_TWO))
        assert heard(fd, 9) == bytes.fromhex(TWO)


def test_on_a_line_noise_is_forgotten_after_a_silence() -> None:
    def answered() -> bool:
        os.write(fd, bytes.fromhex(READ_TWO))
        return bool(select.select([fd], [], [], 0.2)[0])

    with line() as fd:
        os.write(fd, b"\x01\x10\x00")
        soon(answered)
        assert heard(fd, 9) == bytes.fromhex(TWO)
