"""CAN frames: text and bytes there and back, and what python-can makes of the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError, ProtocolError
from vfab.protocols.candump import FD_SIZES, CanFrame, parse_filter, parse_frame, parse_log_line, unpack


@st.composite
def frames(draw: st.DrawFn) -> CanFrame:
    kind = draw(st.sampled_from(["data", "remote", "fd", "error"]))
    extended = kind != "error" and draw(st.booleans())
    ident = draw(st.integers(0, (1 << (29 if extended or kind == "error" else 11)) - 1))
    if kind == "remote":
        return CanFrame(ident, extended=extended, remote=True, length=draw(st.integers(0, 8)))
    if kind == "fd":
        size = draw(st.sampled_from(FD_SIZES))
        data = draw(st.binary(min_size=size, max_size=size))
        brs, esi = draw(st.booleans()), draw(st.booleans())
        return CanFrame(ident, data, extended=extended, fd=True, bitrate_switch=brs, error_state=esi)
    return CanFrame(ident, draw(st.binary(max_size=8)), extended=extended, error=kind == "error")


@given(frame=frames())
def test_a_frame_comes_back_from_its_text_and_from_its_bytes(frame: CanFrame) -> None:
    assert frame.problem() == ""
    assert parse_frame(str(frame)) == frame
    assert unpack(frame.pack()) == frame
    time_s, channel, again = parse_log_line(frame.log_line(1436509052.25, "vcan0"))
    assert (time_s, channel, again) == (1436509052.25, "vcan0", frame)


@given(frame=frames())
def test_python_can_makes_the_same_bytes(frame: CanFrame) -> None:
    can = pytest.importorskip("can")
    from can.interfaces.socketcan.socketcan import build_can_frame

    message = can.Message(
        arbitration_id=frame.id,
        data=frame.data,
        is_extended_id=frame.extended,
        is_remote_frame=frame.remote,
        is_error_frame=frame.error,
        is_fd=frame.fd,
        bitrate_switch=frame.bitrate_switch,
        error_state_indicator=frame.error_state,
        dlc=frame.length,
    )
    theirs = build_can_frame(message)
    assert unpack(theirs) == frame
    assert theirs[:7] == frame.pack()[:7]  # the eighth byte is the raw DLC, which only matters over 8 bytes
    assert theirs[8:] == frame.pack()[8:]


@given(frame=frames().filter(lambda frame: not frame.error))
def test_python_can_reads_our_log_lines(frame: CanFrame, tmp_path_factory: pytest.TempPathFactory) -> None:
    can = pytest.importorskip("can")
    file: Path = tmp_path_factory.mktemp("log") / "can.log"
    file.write_text(frame.log_line(1436509052.25, "vcan0") + "\n")
    with can.CanutilsLogReader(file) as reader:
        (message,) = list(reader)
    assert (message.arbitration_id, message.is_extended_id, message.is_remote_frame, message.is_fd) == (
        frame.id,
        frame.extended,
        frame.remote,
        frame.fd,
    )
    assert bytes(message.data) == frame.data
    assert (message.bitrate_switch, message.error_state_indicator) == (frame.bitrate_switch, frame.error_state)


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("123#DEADBEEF", CanFrame(0x123, b"\xde\xad\xbe\xef")),
        ("7ff#11.22", CanFrame(0x7FF, b"\x11\x22")),
        ("18DAF110#", CanFrame(0x18DAF110, extended=True)),
        ("123#R", CanFrame(0x123, remote=True, length=0)),
        ("123#R4", CanFrame(0x123, remote=True, length=4)),
        ("123##1AA", CanFrame(0x123, b"\xaa", fd=True, bitrate_switch=True)),
        ("20000040#0000000000000000", CanFrame(0x40, bytes(8), error=True)),
    ],
)
def test_frames_are_written_as_can_utils_write_them(text: str, frame: CanFrame) -> None:
    assert parse_frame(text) == frame


@pytest.mark.parametrize(
    "text", ["", "12#00", "123#0", "123#112233445566778899", "123##2" + "00" * 9, "800#00", "xyz#00", "FFFFFFFF#00"]
)
def test_what_is_no_frame_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ConfigurationError) as why:
        parse_frame(text)
    assert "123#DEADBEEF" in why.value.remedy


def test_frames_that_cannot_be_sent_say_why() -> None:
    assert "remote" in CanFrame(1, b"x", remote=True).problem()
    assert "29 bits" in CanFrame(1 << 29, extended=True).problem()
    assert "CAN FD can" in CanFrame(1, bytes(9)).problem()
    assert "9 bytes" in CanFrame(1, bytes(9), fd=True).problem()


def test_lines_with_a_direction_are_read_and_others_refused() -> None:
    assert parse_log_line("(1.5) can0 123#00 T")[2] == CanFrame(0x123, b"\0")
    with pytest.raises(ConfigurationError):
        parse_log_line("can0 123#00")


def test_filters_are_written_as_candump_writes_them() -> None:
    assert parse_filter("123:7FF") == (0x123, 0x7FF, False, False)
    assert parse_filter("18DAF100~1FFFFF00") == (0x18DAF100, 0x1FFFFF00, True, True)
    with pytest.raises(ConfigurationError):
        parse_filter("123")


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(4) + b"\x09" + bytes(11)])
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(data)
