"""A recorded conversation is played again: in order, in time, and to clients that say something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError
from vfab.protocols.recording import LinkEntry, LinkEvent, Recording, RecordingHeader
from vfab.protocols.replaying import STALLED_S, Replay

HEADER = RecordingHeader("link", "now", "/dev/ttyACM0", "serial")


def recording(*said: str | bytes, step_s: float = 0.25) -> Recording:
    """`>` from the client, `<` from the device, `+` a new connection; each `step_s` after the one before."""
    entries: list[LinkEntry | LinkEvent] = []
    connection = 1
    for number, text in enumerate(said):
        t, data = number * step_s, text if isinstance(text, bytes) else text.encode()
        if data == b"+":
            connection += bool(entries)
            entries.append(LinkEvent(t, "connected", connection, number + 2))
        else:
            entries.append(LinkEntry(t, "client" if data[:1] == b">" else "device", data[1:], connection, number + 2))
    return Recording("x.rec", HEADER, tuple(entries))


TALK = recording(">V\r", "<v1\r\n", ">Q\r", "<0\r\n", ">Q\r", "<1\r\n", ">GO\r", "<OK\r\n")


def say(replay: Replay, text: bytes, now_s: float = 0.0) -> bytes:
    replay.receive(text, now_s)
    return replay.due(now_s)


def test_answers_come_as_they_came_after_as_long_as_they_took() -> None:
    replay = Replay(TALK)
    assert replay.next_s() is None and replay.due(99.0) == b""
    assert say(replay, b"V\r", 1.0) == b"" and replay.next_s() == 1.25
    assert replay.due(1.2) == b"" and replay.due(1.25) == b"v1\r\n"
    quick = Replay(TALK, speed=5)
    quick.receive(b"V\r", 1.0)
    assert quick.next_s() == pytest.approx(1.05)
    instant = Replay(TALK, speed=0)
    assert say(instant, b"V\rQ\r") == b"v1\r\n0\r\n"
    assert not instant.finished() and (missing := instant.missing()) is not None and missing.line == 6
    assert say(instant, b"Q\rGO\r") == b"1\r\nOK\r\n"
    assert instant.finished() and instant.missing() is None and instant.difference is None


@given(st.lists(st.integers(1, 5), max_size=12))
def test_how_the_clients_bytes_were_cut_does_not_matter(cuts: list[int]) -> None:
    replay, whole, heard = Replay(TALK, speed=0), b"V\rQ\rQ\rGO\r", b""
    for size in [*cuts, len(whole)]:
        heard += say(replay, whole[:size])
        whole = whole[size:]
    assert heard == b"v1\r\n0\r\n1\r\nOK\r\n" and replay.difference is None


def test_what_comes_unasked_comes_by_time() -> None:
    replay = Replay(recording("<tick\n", "<tock\n", ">STOP\n", "<ok\n", "<bye\n"), now_s=10.0)
    assert replay.due(10.0) == b"tick\n" and replay.due(10.3) == b"tock\n" and replay.next_s() is None
    assert say(replay, b"STOP\n", 11.0) == b"" and replay.due(11.5) == b"ok\nbye\n"


def test_a_client_that_skips_is_followed() -> None:
    replay = Replay(TALK, speed=0)
    assert say(replay, b"V\r") == b"v1\r\n"
    assert say(replay, b"GO\r") == b"OK\r\n"
    assert str(replay.difference) == "line 4: the client said 'GO\\r' where the recording has 'Q\\r'"


def test_a_client_that_asks_once_more_is_answered_as_before() -> None:
    replay = Replay(TALK, speed=0)
    assert say(replay, b"V\rQ\rQ\rQ\r") == b"v1\r\n0\r\n1\r\n1\r\n"
    assert replay.difference is not None and replay.difference.line == 8
    assert say(replay, b"GO\rV\r") == b"OK\r\nv1\r\n", "after the end it begins to repeat"


def test_what_was_never_said_is_not_answered_and_told() -> None:
    replay = Replay(TALK, speed=0)
    assert say(replay, b"FIRE\rV\r") == b"v1\r\n"
    assert (replay.unknown, replay.difference and replay.difference.found) == (1, b"FIRE\r")
    over = Replay(TALK, speed=0)
    say(over, b"V\rQ\rQ\rGO\rHM\r")
    assert "after the end" in str(over.difference)
    assert say(over, b"G") == b"" and over.unknown == 1, "it may become a GO"
    assert say(over, b"O\r") == b"OK\r\n"


def test_a_client_that_waits_where_it_once_went_on_is_answered_after_a_while() -> None:
    replay = Replay(recording(">A\r", ">B\r", "<a\r", "<b\r", step_s=0.0))
    assert say(replay, b"A\r", 1.0) == b"" and replay.next_s() == 1.0 + STALLED_S
    assert replay.due(1.0 + STALLED_S).startswith(b"a\r") and replay.difference is not None


def test_a_made_up_word_that_the_device_repeats_may_be_another_one() -> None:
    replay = Replay(recording(">ZN\r", "<!8 unknown 'ZN'\r", ">V\r", "<v1\r", ">ZN\r", "<ZN?\r"), speed=0)
    assert say(replay, b"ZQ\r") == b"!8 unknown 'ZQ'\r"
    assert say(replay, b"V\rZQ\r") == b"v1\rZQ?\r"
    assert replay.difference is None
    number = Replay(recording(">A1\r", "<A1 ok\r"), speed=0)
    assert say(number, b"A2\r") == b"" and number.difference is not None, "a number is no made-up word"


def test_each_connection_is_played_to_one_client_and_then_the_first_again() -> None:
    replay = Replay(recording("+", "<hello 1\n", ">V\n", "<v\n", "+", "<hello 2\n"), speed=0)
    for greeting in (b"hello 1\n", b"hello 2\n", b"hello 1\n"):
        replay.connected(0.0)
        assert replay.due(0.0) == greeting


def test_a_loop_begins_anew() -> None:
    replay = Replay(recording("<tick\n", "<tock\n"), loop=True)
    heard = b"".join(replay.due(n * 0.25) for n in range(6))
    assert heard.startswith(b"tick\ntock\ntick\n") and not replay.finished()


def test_binary_conversations_are_cut_where_the_device_spoke() -> None:
    replay = Replay(recording(b">\x01\x02", b"<\x81", b">\x01\x03", b"<\x82"), speed=0)
    assert say(replay, b"\x01") == b"" and say(replay, b"\x02") == b"\x81"
    assert say(replay, b"\x09\x09") == b"" and replay.unknown == 1
    assert say(replay, b"\x01\x03") == b"\x82"


def test_a_recording_without_anything_to_say_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing was said"):
        Replay(Recording("x.rec", HEADER, ()))
    with pytest.raises(ConfigurationError, match="nothing was said") as refused:
        Replay(Recording("x.rec", RecordingHeader("stream", "now"), ()))
    assert "replay" in refused.value.remedy
