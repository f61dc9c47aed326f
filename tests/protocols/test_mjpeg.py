"""MJPEG over HTTP, both sides: a client reads what a server writes, however it was cut and however odd it is."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError
from vfab.protocols.mjpeg import (
    HEAD_MAX,
    Ended,
    Message,
    Picture,
    Quirks,
    Receiver,
    Response,
    Skipped,
    Streamer,
    read_request,
    request_bytes,
)

HEAD = b"HTTP/1.1 200 OK\r\n"
MULTIPART = HEAD + b"Content-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n"
ODD = [
    Quirks(content_type=kind, line=line, length=length, chunked=chunked, line_end=end)
    for kind, line, length, chunked, end in product(
        (
            "multipart/x-mixed-replace;boundary={boundary}",
            'multipart/x-mixed-replace; boundary="{boundary}"',
            "multipart/x-mixed-replace; boundary=--{boundary}",
            "multipart/x-mixed-replace; boundary=other",
        ),
        ("--{boundary}", "----{boundary}"),
        (True, False, "wrong"),
        (False, True),
        ("\r\n", "\n"),
    )
] + [
    Quirks(content_type="application/octet-stream"),
    Quirks(content_type="", length=False),
    Quirks(content_type="multipart/x-mixed-replace; boundary=--{boundary}", line="{boundary}", length=False),
    Quirks(content_type="multipart/x-mixed-replace;boundary={boundary}", line="{boundary}"),
]


def jpeg(body: bytes) -> bytes:
    """Like a JPEG for the protocol: inside of one, 0xFF is followed by 0 or a restart marker."""
    return b"\xff\xd8" + body.replace(b"\xff", b"\xff\x00") + b"\xff\xd9"


pictures = st.lists(st.binary(max_size=300).map(jpeg), min_size=1, max_size=5)


def fed(data: bytes, sizes: list[int], close: bool = True) -> list[Message]:
    receiver, found, at = Receiver(), [], 0
    for size in [*sizes, len(data)]:
        found += receiver.receive(data[at : at + size])
        at += size
    return found + (list(receiver.close()) if close else [])


def shown(messages: list[Message]) -> list[bytes]:
    return [message.data for message in messages if isinstance(message, Picture)]


@pytest.mark.parametrize("quirks", ODD, ids=str)
@settings(max_examples=8, deadline=None)
@given(sent=pictures, sizes=st.lists(st.integers(1, 40), max_size=40))
def test_every_picture_of_any_server_arrives_whole(quirks: Quirks, sent: list[bytes], sizes: list[int]) -> None:
    server = Streamer(quirks=quirks)
    data = server.begin() + b"".join(server.picture(one) for one in sent) + server.end()
    found = fed(data, sizes)
    assert shown(found) == sent
    assert isinstance(found[0], Response)
    assert found[-1] == Ended()


@settings(max_examples=60, deadline=None)
@given(sent=pictures, sizes=st.lists(st.integers(1, 40), max_size=40), chunked=st.booleans())
def test_pictures_in_a_row_without_boundaries_arrive_whole(sent: list[bytes], sizes: list[int], chunked: bool) -> None:
    server = Streamer(quirks=Quirks(content_type="video/x-motion-jpeg", bare=True, chunked=chunked))
    data = server.begin() + b"".join(map(server.picture, sent)) + server.end()
    assert shown(fed(data, sizes)) == sent


pieces = st.lists(
    st.sampled_from(
        [b"--frame", b"frame", b"\r\n", b"\n", b"\r", b"--", b"Content-Length: 5\r\n", b"Content-Type: image/jpeg\r\n",
         b"\xff\xd8", b"\xff\xd9", b"\xff", b"abc", b"\x89PNG\r\n\x1a\n", b"5\r\n", b"0\r\n\r\n"]
    ), max_size=30
).map(b"".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    junk=pieces,
    sizes=st.lists(st.integers(1, 9), max_size=60),
    head=st.sampled_from(
        [MULTIPART, HEAD + b"\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", HEAD + b"Content-Length: 20\r\n\r\n",
         HEAD + b"Content-Type: image/jpeg\r\n\r\n"]
    ),
)  # fmt: skip
def test_how_the_bytes_were_cut_does_not_matter_whatever_they_are(junk: bytes, sizes: list[int], head: bytes) -> None:
    def outcome(cuts: list[int]) -> Any:
        receiver, found, at = Receiver(), [], 0
        data = head + junk
        try:
            for size in [len(head), *cuts, len(data)]:
                found.extend(receiver.receive(data[at : at + size]))
                at += size
            found += receiver.close()
        except ProtocolError as error:
            found.append(error.message)
        return found

    assert outcome(sizes) == outcome([])


def test_a_picture_of_known_length_is_there_before_the_next_begins() -> None:
    server, receiver = Streamer(), Receiver()
    list(receiver.receive(server.begin()))
    part = server.picture(jpeg(b"one"))
    body = part[: part.index(b"\xff\xd9") + 4]
    assert shown(list(receiver.receive(body))) == [jpeg(b"one")]


def test_the_cameras_time_comes_with_the_picture() -> None:
    server = Streamer()
    first, second = server.picture(jpeg(b"a"), time_s=12.5), server.picture(jpeg(b"b"))
    found = [m for m in fed(server.begin() + first + second, []) if isinstance(m, Picture)]
    assert [picture.time_s for picture in found] == [12.5, None]
    assert found[0].headers["content-type"] == "image/jpeg"


def test_a_snapshot_is_one_picture_with_and_without_a_length() -> None:
    data = jpeg(b"x" * 50)
    whole = Streamer().snapshot(data)
    for closing in (whole, whole.replace(b"Content-Length", b"X-Length")):
        found = fed(closing, [7, 60])
        assert shown(found) == [data]
        assert found[-1] == Ended()
    assert Ended() in list(Receiver().receive(whole))


def test_parts_that_are_no_pictures_are_skipped_and_told() -> None:
    server = Streamer()
    data = server.begin() + server.picture(b"hello", kind="text/plain") + server.picture(jpeg(b""))
    assert fed(data, [])[1:3] == [Skipped(5, "text/plain"), Picture(jpeg(b""), {"content-type": "image/jpeg",
                                                                             "content-length": "4"})]  # fmt: skip


@pytest.mark.parametrize("length", [True, False])
def test_a_picture_cut_short_by_the_end_is_not_shown(length: bool) -> None:
    server = Streamer(quirks=Quirks(length=length))
    part = server.picture(jpeg(b"y" * 100))
    assert [type(m) for m in fed(server.begin() + part[:90], [])] == [Response, Skipped, Ended]
    picture_end = part.index(b"\xff\xd9") + 2
    assert shown(fed(server.begin() + part[:picture_end], [])) == [jpeg(b"y" * 100)]
    assert [type(m) for m in fed(HEAD + b"\r\n\xff\xd8abc", [])] == [Response, Skipped, Ended]


def test_the_last_boundary_ends_the_answer() -> None:
    data = MULTIPART + b"--frame\r\n\r\n" + jpeg(b"") + b"\r\n--frame--\r\nafterwards" + jpeg(b"no")
    found = fed(data, [], close=False)
    assert shown(found) == [jpeg(b"")]
    assert found[-1] == Ended()
    assert list(Receiver().receive(b"HTTP/1.1 204 No Content\r\n\r\n"))[-1] == Ended()


def test_a_word_like_the_boundary_inside_of_a_picture_is_no_boundary() -> None:
    tricky = jpeg(b"--frame\n--framework\n--frame")
    data = (
        MULTIPART
        + b"a preamble\r\n--\r\n--frame\r\n\r\n"
        + tricky
        + b"\r\n--frame\r\n"
        + jpeg(b"")
        + b"\r\n--frame\r\n"
    )
    assert shown(fed(data, [])) == [tricky, jpeg(b"")]


def test_an_answer_says_its_status_and_every_header_of_a_name() -> None:
    data = b"HTTP/1.0 401 Unauthorized\nWWW-Authenticate: Basic\nWWW-Authenticate: Digest x=1\nodd line\n\nbody"
    response, *rest = fed(b"HTTP/1.1 100 Continue\r\n\r\n" + data, [3, 20])
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (401, "Unauthorized")
    assert response.values("www-authenticate") == ["Basic", "Digest x=1"]
    assert rest == [Ended()]


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * HEAD_MAX,
        MULTIPART + b"x" * (HEAD_MAX + 1),
        MULTIPART + b"--frame\r\n" + b"x" * (HEAD_MAX + 1),
        MULTIPART + b"--frame\r\nContent-Length: 4\r\n\r\n" + jpeg(b"") + b"\r\n" + b"x" * (HEAD_MAX + 1),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * (HEAD_MAX + 1),
    ],
    ids=["ssh", "no status", "long head", "no boundary", "long part head", "no line after", "chunk", "long chunk"],
)
def test_what_is_no_mjpeg_is_told_as_such(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Receiver().receive(data))


def test_a_picture_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfab.protocols.mjpeg.PICTURE_MAX", 1000)
    with pytest.raises(ProtocolError, match="no end"):
        list(Receiver().receive(MULTIPART + b"--frame\r\n\r\n\xff\xd8" + bytes(2000)))


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 2"])
def test_a_connection_closed_before_the_answer_is_an_error(begun: bytes) -> None:
    receiver = Receiver()
    assert not list(receiver.receive(begun))
    with pytest.raises(ProtocolError):
        list(receiver.close())


def test_a_request_is_read_as_it_was_written() -> None:
    data = request_bytes("cam:8080", "/stream?x=1", headers={"Authorization": "Basic eA=="})
    assert read_request(data[:20]) is None
    found = read_request(data + b"more")
    assert found is not None
    request, length = found
    assert (request.method, request.target, length) == ("GET", "/stream?x=1", len(data))
    assert (request.headers["host"], request.headers["authorization"]) == ("cam:8080", "Basic eA==")


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y"])
def test_a_request_cannot_be_smuggled(target: str) -> None:
    with pytest.raises(ValueError, match="space or line end"):
        request_bytes("cam", target)


def test_a_server_refuses_what_is_no_request() -> None:
    with pytest.raises(ProtocolError):
        read_request(b"hello\r\n\r\n")
    with pytest.raises(ProtocolError):
        read_request(b"x" * (HEAD_MAX + 1))
    response = next(iter(Receiver().receive(Streamer().error(404, "Not Found", {"X-A": "b"}))))
    assert isinstance(response, Response)
    assert (response.status, response.headers["x-a"]) == (404, "b")
