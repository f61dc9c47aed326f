"""Recordings: what is written is read, and what is wrong is told with file, line and field."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError
from vfab.protocols.recording import (
    LinkEntry,
    LinkEvent,
    RecordingHeader,
    StreamEntry,
    header_line,
    link_line,
    parse_recording,
    stream_line,
)

LINK = RecordingHeader("link", "2026-03-01T09:30:00+00:00", "/dev/ttyACM0", "serial", "axidraw", {"vid": "04d8"})
STREAM = RecordingHeader("stream", "2026-03-01T09:30:00+00:00", stream={"name": "main", "about": {"unit": "Cel"}})


@given(st.lists(st.tuples(st.binary(max_size=600), st.sampled_from(["client", "device"]), st.integers(1, 3))))
def test_what_passed_on_a_link_is_read_as_it_was_written(said: list[tuple[bytes, str, int]]) -> None:
    entries = [LinkEntry(n / 8, source, data, number) for n, (data, source, number) in enumerate(said)]
    lines = [header_line(LINK), *(link_line(entry) for entry in entries)]
    recording = parse_recording(lines, "x.rec")
    assert recording.header == LINK
    read = [LinkEntry(e.t, e.source, e.data, e.connection) for e in recording.entries if isinstance(e, LinkEntry)]
    assert read == entries


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(_plain, st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_what_was_streamed_is_read_as_it_was_written(data: object, device_time_s: float | None) -> None:
    entry = StreamEntry(0.5, 7, 1.5, data, device_time_s, {"gain": 2, "mark": b"\xff"})
    recording = parse_recording([header_line(STREAM), stream_line(entry)], "x.rec")
    assert recording.header.stream["about"] == {"unit": "Cel"}
    assert recording.entries == (StreamEntry(0.5, 7, 1.5, data, device_time_s, {"gain": 2, "mark": b"\xff"}, 2),)


def test_people_can_read_it() -> None:
    assert json.loads(link_line(LinkEntry(0.25, "client", b"V\r"))) == {"t": 0.25, "from": "client", "text": "V\r"}
    assert json.loads(link_line(LinkEntry(0, "device", b"\x01\xff")))["hex"] == "01ff"
    assert "base64" in json.loads(link_line(LinkEntry(0, "device", bytes(300))))
    assert json.loads(link_line(LinkEvent(1, "closed", 2))) == {"t": 1, "event": "closed", "connection": 2}


def test_empty_lines_are_passed_over_and_a_last_line_that_was_cut_off_is_left_out() -> None:
    lines = [header_line(LINK), "\n", link_line(LinkEntry(0, "client", b"V\r")), '{"t": 0.1, "fr']
    assert len(parse_recording(lines, "x.rec").entries) == 1


HEAD = header_line(LINK)
STREAM_HEAD = header_line(STREAM)
WRONG = {
    "": ("vfab_recording", 1),
    "[1]\n": ("", 1),
    "no\n": ("", 1),
    '{"kind": "link"}\n': ("vfab_recording", 1),
    '{"vfab_recording": 2, "kind": "link"}\n': ("vfab_recording", 1),
    '{"vfab_recording": 1, "kind": "film"}\n': ("kind", 1),
    '{"vfab_recording": 1, "kind": "link", "began": 5}\n': ("began", 1),
    '{"vfab_recording": 1, "kind": "link", "device": []}\n': ("device", 1),
    '{"vfab_recording": 1, "kind": "link", "device": {"weight": "1"}}\n': ("device.weight", 1),
    HEAD + "oh\n": ("", 2),
    HEAD + '{"from": "client", "text": ""}\n': ("t", 2),
    HEAD + '{"t": -1, "from": "client", "text": ""}\n': ("t", 2),
    HEAD + '{"t": true, "from": "client", "text": ""}\n': ("t", 2),
    HEAD + '{"t": 0, "from": "me", "text": ""}\n': ("from", 2),
    HEAD + '{"t": 0, "event": "lunch"}\n': ("event", 2),
    HEAD + '{"t": 0, "from": "client"}\n': ("text", 2),
    HEAD + '{"t": 0, "from": "client", "text": "\\u20ac"}\n': ("text", 2),
    HEAD + '{"t": 0, "from": "client", "hex": "0"}\n': ("hex", 2),
    HEAD + '{"t": 0, "from": "client", "base64": "?"}\n': ("base64", 2),
    HEAD + '{"t": 0, "from": "client", "text": "", "connection": 0}\n': ("connection", 2),
    STREAM_HEAD + '{"t": 0, "time_s": 0, "data": 1}\n': ("sequence", 2),
    STREAM_HEAD + '{"t": 0, "sequence": 0, "time_s": 0, "data": 1, "meta": 1}\n': ("meta", 2),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told_with_file_line_and_field(text: str) -> None:
    field, line = WRONG[text]
    with pytest.raises(ConfigurationError) as refused:
        parse_recording(text.splitlines(keepends=True), "bad.rec")
    assert refused.value.message.startswith(f"bad.rec: line {line}" + (f": {field}: " if field else ": "))
    assert refused.value.context["field"] == field and refused.value.remedy.startswith("Expected: ")
