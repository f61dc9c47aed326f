"""Framings: any messages, cut anywhere, come out whole; noise costs only the message it hits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError, ProtocolError, Refused
from vfab.protocols.framing import (
    FRAMINGS,
    Cobs,
    Delimiter,
    FixedLength,
    Framer,
    LengthPrefix,
    Lines,
    Raw,
    SilenceGap,
    Slip,
    make_framer,
)

ANY = st.binary(max_size=600)
NOT_EMPTY = st.binary(min_size=1, max_size=600)
NO_LINE_ENDS = st.binary(max_size=80).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b""))
KINDS: list[tuple[str, Callable[[], Framer], st.SearchStrategy[bytes]]] = [
    ("lines", Lines, NO_LINE_ENDS),
    ("crlf", lambda: Lines(b"\r\n"), NO_LINE_ENDS),
    ("cr", lambda: Lines(b"\r"), NO_LINE_ENDS),
    ("delimiter", lambda: Delimiter(b"\x03"), ANY.map(lambda data: data.replace(b"\x03", b""))),
    ("two bytes", lambda: Delimiter(b"ab"), ANY.map(lambda data: data.replace(b"a", b""))),
    ("fixed", lambda: FixedLength(3), st.binary(min_size=3, max_size=3)),
    ("length 1", lambda: LengthPrefix(1), st.binary(max_size=255)),
    ("length 2", LengthPrefix, ANY),
    ("length 4", lambda: LengthPrefix(4, "little", counts_itself=True), ANY),
    ("slip", Slip, NOT_EMPTY),
    ("cobs", Cobs, NOT_EMPTY),
    ("cobs empty", Cobs, ANY),
]
KINDS_ARGS = [pytest.param(make, messages, id=name) for name, make, messages in KINDS]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


@pytest.mark.parametrize(("make", "messages"), KINDS_ARGS)
@given(data=st.data(), places=st.lists(st.integers(0, 10_000), max_size=20))
def test_messages_come_out_as_they_went_in_however_they_were_cut(
    make: Callable[[], Framer], messages: st.SearchStrategy[bytes], data: st.DataObject, places: list[int]
) -> None:
    sent = data.draw(st.lists(messages, max_size=8))
    sender, receiver = make(), make()
    wire = b"".join(map(sender.encode, sent))
    came = [message for piece in cut(wire, places) for message in receiver.feed(piece)]
    assert came == sent
    assert receiver.faults == 0
    assert receiver.held == 0


@pytest.mark.parametrize("make", [make for _, make, _ in KINDS if make().__class__ is not LengthPrefix])
@given(noise=st.binary(max_size=300), places=st.lists(st.integers(0, 10_000), max_size=20))
def test_noise_gives_the_same_messages_and_faults_however_it_was_cut(
    make: Callable[[], Framer], noise: bytes, places: list[int]
) -> None:
    whole, pieces = make(), make()
    whole.limit = pieces.limit = min(20, whole.limit)
    assert [m for piece in cut(noise, places) for m in pieces.feed(piece)] == whole.feed(noise)
    assert (pieces.faults, pieces.end(), pieces.faults) == (whole.faults, whole.end(), whole.faults)


@pytest.mark.parametrize("make", [Lines, Slip, Cobs, lambda: Delimiter(b"\0\0")])
def test_a_message_that_never_ends_is_one_fault_and_holds_no_memory(make: Callable[[], Framer]) -> None:
    framer = make()
    framer.limit = 100
    for _ in range(1000):
        assert framer.feed(b"x" * 97) == []
        assert framer.held < 1000
    assert framer.faults == 1
    good = framer.encode(b"good")
    assert framer.feed(good[-1:] * 2 + good) in ([b"good"], [b"", b"good"])
    assert framer.faults == 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"\x01\x01\x00", b"\0"),
        (b"\x01\x01\x01\x00", b"\0\0"),
        (b"\x03\x11\x22\x02\x33\x00", b"\x11\x22\0\x33"),
        (b"\x05\x11\x22\x33\x44\x00", b"\x11\x22\x33\x44"),
        (b"\xff" + bytes(range(1, 255)) + b"\x00", bytes(range(1, 255))),
        (b"\x01\xff" + bytes(range(1, 255)) + b"\x00", bytes(range(255))),
        (b"\xff" + bytes(range(1, 255)) + b"\x02\xff\x00", bytes(range(1, 256))),
        (b"\xff" + bytes(range(2, 256)) + b"\x01\x01\x00", bytes(range(2, 256)) + b"\0"),
    ],
)
def test_cobs_has_the_examples_of_its_paper(frame: bytes, message: bytes) -> None:
    assert Cobs().encode(message) == frame
    assert Cobs().feed(frame) == [message]


def test_cobs_tells_a_frame_that_is_cut_short() -> None:
    cobs = Cobs()
    assert cobs.feed(b"\x05ab\0" + b"\x03ab\0") == [b"ab"]
    assert cobs.faults == 1


def test_slip_escapes_as_rfc_1055_says_and_tells_a_bad_escape() -> None:
    slip = Slip()
    assert slip.encode(b"a\xc0b\xdbc") == b"\xc0a\xdb\xdcb\xdb\xddc\xc0"
    assert slip.feed(b"\xc0a\xdbX\xc0b\xc0a\xdb\xc0") == [b"b"]
    assert slip.faults == 2
    with pytest.raises(Refused):
        slip.encode(b"")


def test_lines_take_either_line_end() -> None:
    assert Lines().feed(b"one\r\ntwo\n\nthree\rstill\n") == [b"one", b"two", b"", b"three\rstill"]
    assert Lines(b"\r").feed(b"one\rtwo\r\n") == [b"one", b"two"]


def test_a_line_of_just_the_limit_passes_with_either_end() -> None:
    for end in (b"\n", b"\r\n"):
        lines = Lines(limit=3)
        assert lines.feed(b"abc" + end + b"abcd" + end + b"x" + end) == [b"abc", b"x"]
        assert lines.faults == 1


@pytest.mark.parametrize(
    ("framer", "message"),
    [(Lines(), b"a\nb"), (Lines(), b"a\rb"), (Delimiter(b";"), b";"), (Delimiter(b"aa"), b"a"), (FixedLength(2), b"a"),
     (LengthPrefix(1), b"x" * 256), (SilenceGap(limit=2), b"abc"), (Cobs(limit=3), b"abcd")],
)  # fmt: skip
def test_what_a_framing_cannot_carry_is_refused(framer: Framer, message: bytes) -> None:
    with pytest.raises(Refused):
        framer.encode(message)


def test_a_length_that_cannot_be_is_an_error_of_the_sender() -> None:
    framer = LengthPrefix(2, limit=10)
    with pytest.raises(ProtocolError, match="says that it has 11 bytes"):
        framer.feed(b"\x00\x0bhello")
    assert framer.feed(b"\x00\x01x") == [b"x"]
    with pytest.raises(ProtocolError):
        LengthPrefix(2, counts_itself=True).feed(b"\x00\x01")


def test_silence_ends_a_message() -> None:
    framer = SilenceGap(0.1)
    assert framer.due_s(0) is None
    assert framer.feed(b"ab", 1.0) == []
    assert framer.feed(b"", 1.05) == []
    assert framer.feed(b"cd", 1.05) == []
    assert framer.due_s(1.1) == pytest.approx(0.05)
    assert framer.expire(1.1) == []
    assert framer.feed(b"e", 1.16) == [b"abcd"]
    assert framer.expire(1.3) == [b"e"]
    assert framer.held == 0
    assert framer.encode(b"x") == b"x"
    framer.limit = 2
    assert framer.feed(b"xyz", 2.0) == []
    assert framer.faults == 1


def test_raw_is_what_came() -> None:
    raw = Raw()
    assert raw.feed(b"ab") == [b"ab"]
    assert raw.feed(b"") == []
    assert raw.encode(b"x") == b"x"
    assert raw.held == 0
    assert raw.expire(1) == raw.end() == []
    assert raw.due_s(1) is None


def test_settings_name_every_framing() -> None:
    kinds = [type(make_framer({"framing": name, "length": 2})) for name in FRAMINGS]
    assert kinds == [Raw, Lines, Delimiter, FixedLength, LengthPrefix, SilenceGap, Slip, Cobs]
    assert make_framer({"framing": "delimiter", "delimiter": "\\x03\\r"}).encode(b"") == b"\x03\r"
    assert make_framer({"framing": "lines", "line_end": "crlf"}).encode(b"a") == b"a\r\n"
    assert make_framer({"framing": "length", "length": 4, "length_order": "little"}).encode(b"a") == b"\1\0\0\0a"
    assert isinstance(make_framer({}), Raw)


@pytest.mark.parametrize(
    "settings",
    [
        {"framing": "morse"},
        {"framing": "delimiter", "delimiter": ""},
        {"framing": "delimiter", "delimiter": "\\u20ac"},
        {"framing": "delimiter", "delimiter": "\\x"},
        {"framing": "fixed", "length": 0},
        {"framing": "length", "length": 5},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        make_framer(settings)
