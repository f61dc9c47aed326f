"""`vfab-camera` over a WebSocket: each side reads what the other writes; junk is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError
from vfab.protocols.camera_socket import Frame, Hello, Receiver, Refusal, Settings, hello, message, read_request

VALUES = st.dictionaries(st.sampled_from(["width", "framerate_hz", "exposure_s", "name"]), st.integers(0, 9999))


@given(VALUES, st.binary())
def test_a_picture_is_its_description_and_its_bytes(header: dict[str, int], data: bytes) -> None:
    receiver = Receiver()
    assert receiver.receive(message("frame", **header)) is None
    assert receiver.receive(data) == Frame({"type": "frame", **header}, data)
    assert receiver.receive(data) == Frame({}, data)


@given(VALUES)
def test_what_the_camera_says_is_understood(about: dict[str, int]) -> None:
    receiver = Receiver()
    assert receiver.receive(hello(**about)) == Hello({"type": "hello", "version": 1, **about})
    assert receiver.receive(message("settings", **about)) == Settings({"type": "settings", **about})
    assert receiver.receive(message("error", message="no")) == Refusal("no")
    assert receiver.receive(message("odd")) is None
    assert read_request(message("set", **about)) == ("set", about)


@given(st.one_of(st.text(), st.sampled_from(["[]", "1", '{"width": true}', '{"time_s": -1}', '{"stride": "x"}'])))
def test_junk_is_told_or_means_nothing(text: str) -> None:
    try:
        assert Receiver().receive(text) is None
    except ProtocolError as error:
        assert error.message


def test_a_client_sends_text_only() -> None:
    with pytest.raises(ProtocolError):
        read_request(b"x")
