r"""MJPEG over HTTP: pictures as the parts of one endless answer, both sides, sans-IO.

What standards say: HTTP/1.1 (RFC 9112), multipart bodies (RFC 2046, 5.1.1) of the type multipart/x-mixed-replace. What
cameras and programs send is wider, and all of this is understood here: a wrong Content-Type of the answer (FFmpeg says
application/octet-stream), boundaries in quotes, announced with the dashes that belong to the lines only, or lines
without any dashes, a boundary other than the announced one, `\n` in place of `\r\n`, parts without Content-Length, or
with a wrong one, chunked transfer coding, JPEGs in a row without any boundary, and one plain picture (a snapshot).
Authentication is in `http_auth`.

The bytes that come are the same to a `Receiver` however they were cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vfab.model.errors import ProtocolError

__all__ = [
    "HEAD_MAX",
    "PICTURE_MAX",
    "Ended",
    "Picture",
    "Quirks",
    "Receiver",
    "Request",
    "Response",
    "Skipped",
    "Streamer",
    "read_request",
    "request_bytes",
]

HEAD_MAX = 64 << 10
PICTURE_MAX = 128 << 20
_TIMES = ("x-timestamp", "x-time", "x-framestamp")
"""Headers in which cameras tell the time of a picture: mjpg-streamer and its kin say X-Timestamp."""
_MAGIC = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF")


@dataclass(frozen=True, slots=True)
class Response:
    """The answer began. `headers` has lower-case names; of several of a name each value stands in `all_headers`."""

    status: int
    reason: str
    headers: Mapping[str, str]
    all_headers: Sequence[tuple[str, str]] = ()

    def values(self, name: str) -> list[str]:
        """Every value of the header `name`."""
        return [value for key, value in self.all_headers if key == name]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, whole.

    Attributes:
        data: the file: JPEG as a rule.
        headers: those of its part, names in lower case.
        time_s: the camera's time of it (`X-Timestamp`), seconds of the camera's clock; None when it says none.
    """

    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    time_s: float | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A part that is no picture: `reason` says what it is."""

    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is complete; nothing follows."""


Message = Response | Picture | Skipped | Ended


def request_bytes(host: str, target: str = "/", *, headers: Mapping[str, str] | None = None) -> bytes:
    r"""A GET of `target` (path and query, percent-encoded) from `host` (`name` or `name:port`).

    Raises ValueError: a value has a line end or a space where none may be.
    """
    lines = {"Host": host, "User-Agent": "vfab", "Accept": "multipart/x-mixed-replace, image/*;q=0.9, */*;q=0.5"}
    lines |= {"Connection": "close", **(headers or {})}
    if re.search(r"\s", target) or any(re.search(r"[\r\n]", f"{name}{value}") for name, value in lines.items()):
        raise ValueError(f"{target!r} or a header cannot be sent: a space or line end is in it")
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET {target} HTTP/1.1\r\n{text}\r\n".encode("latin-1")


class Receiver:
    """The client's side: bytes in, `Response`, `Picture`, `Skipped`, `Ended` out."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._body: _Body | None = None
        self._parts: _Parts | None = None
        self._ended = False

    def receive(self, data: bytes | bytearray | memoryview) -> Iterator[Message]:
        """What `data` completes. Raises ProtocolError: this is no HTTP answer, or it breaks a limit."""
        if self._body is None:
            self._head += data
            end = _end_of_head(self._head)
            if end < 0:
                if len(self._head) > HEAD_MAX or not _may_be_http(self._head):
                    raise _no_http(self._head)
                return
            response = _read_response(bytes(self._head[:end]))
            data = bytes(self._head[end:])
            self._head.clear()
            if 100 <= response.status < 200:
                yield from self.receive(data)
                return
            self._body = _Body(response)
            self._parts = _Parts(response)
            yield response
        assert self._parts is not None
        yield from self._parts.receive(self._body.receive(data))
        if self._body.ended or self._parts.ended:
            yield from self._finish()

    def close(self) -> Iterator[Message]:
        """The server closed the connection: what that completes. Raises ProtocolError: in the middle of the head."""
        if self._body is None:
            raise _no_http(self._head)
        yield from self._finish()

    def _finish(self) -> Iterator[Message]:
        if not self._ended:
            self._ended = True
            assert self._parts is not None
            yield from self._parts.close()
            yield Ended()


def _may_be_http(begun: bytes | bytearray) -> bool:
    return bytes(begun[:5]) == b"HTTP/"[: len(begun)]


def _no_http(begun: bytes | bytearray) -> ProtocolError:
    return ProtocolError(
        "the server did not answer in HTTP" if begun else "the server closed the connection without an answer",
        context={"begins": bytes(begun[:64]).decode("latin-1")},
        remedy="Check host and port of the address: something else than a camera's web server listens there.",
    )


def _end_of_head(data: bytes | bytearray) -> int:
    r"""Where the body begins; -1 while the empty line is not there. `\n` alone ends lines as well."""
    found = re.search(rb"\r?\n\r?\n", data)
    return found.end() if found else -1


def _read_headers(lines: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found.append((name.strip().lower(), value.strip()))
    return found


def _read_response(head: bytes) -> Response:
    first, *rest = re.split(r"\r?\n", head.decode("latin-1").rstrip("\r\n"))
    match = re.match(r"HTTP/\d(?:\.\d)?\s+(\d{3})\s*(.*)", first)
    if match is None:
        raise _no_http(head)
    headers = _read_headers(rest)
    return Response(int(match[1]), match[2], dict(reversed(headers)), tuple(headers))


class _Body:
    """Takes the transfer coding away: chunks, a length, or until the connection closes."""

    def __init__(self, response: Response) -> None:
        self._chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        length = response.headers.get("content-length", "")
        # on an endless answer some cameras announce a length that means nothing
        endless = response.headers.get("content-type", "").lower().startswith("multipart/")
        self._left = int(length) if length.isdigit() and not self._chunked and not endless else None
        self._held = bytearray()
        self._in_chunk = 0
        self.ended = self._left == 0 or response.status in {204, 304}

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        if self.ended:
            return b""
        if self._chunked:
            return self._unchunk(data)
        if self._left is None:
            return bytes(data)
        taken = bytes(data[: self._left])
        self._left -= len(taken)
        self.ended = self._left == 0
        return taken

    def _unchunk(self, data: bytes | bytearray | memoryview) -> bytes:
        self._held += data
        out = bytearray()
        at = 0
        while not self.ended:
            if self._in_chunk > 2:
                part = self._held[at : at + self._in_chunk - 2]
                if not part:
                    break
                out += part
                at += len(part)
                self._in_chunk -= len(part)
            elif self._in_chunk:  # the line end after a chunk
                if len(self._held) - at < self._in_chunk:
                    break
                at, self._in_chunk = at + self._in_chunk, 0
            else:
                end = self._held.find(b"\n", at)
                if end < 0:
                    if len(self._held) - at > HEAD_MAX:
                        raise ProtocolError("a chunk of the answer has no size")
                    break
                self._in_chunk = self._chunk_size(bytes(self._held[at:end]))
                at = end + 1
        del self._held[:at]
        return bytes(out)

    def _chunk_size(self, line: bytes) -> int:
        text = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", text):
            raise ProtocolError("a chunk of the answer has no size", context={"line": line[:64].decode("latin-1")})
        size = int(text, 16)
        self.ended = size == 0
        return size + 2 if size else 0


def _declared_boundary(response: Response) -> bytes:
    match = re.search(r'boundary\s*=\s*(?:"([^"]*)"|([^;\s]+))', response.headers.get("content-type", ""), re.I)
    return (match[1] or match[2] or "").encode("latin-1") if match else b""


class _Parts:
    """Cuts a body into pictures."""

    def __init__(self, response: Response) -> None:
        self._declared = _declared_boundary(response)
        self._one = response.headers.get("content-type", "").lower().startswith("image/")
        self._wanted = response.status == 200
        self._held = bytearray()
        self._line = b""
        """The line between parts as this server writes it, dashes included."""
        self._state = "begin"
        self._headers: dict[str, str] = {}
        self._searched = 0
        self.ended = False

    def receive(self, data: bytes) -> Iterator[Message]:
        if not self._wanted or self.ended:
            return
        self._held += data
        going = True
        while going and not self.ended:
            state, size = self._state, len(self._held)
            yield from getattr(self, f"_{state}")()
            going = (self._state, len(self._held)) != (state, size)
        if len(self._held) > PICTURE_MAX:
            raise ProtocolError(
                f"a picture has no end within {PICTURE_MAX >> 20} MiB",
                remedy="This address sends no MJPEG: set `path` to the camera's MJPEG stream.",
            )

    def close(self) -> Iterator[Message]:
        """The body ended: what has no length is complete now."""
        self.ended = True
        data = bytes(self._held)
        self._held.clear()
        if self._state == "unsized":
            data = data.removesuffix(b"\n").removesuffix(b"\r")
            if data.startswith(b"\xff\xd8") and not data.endswith(b"\xff\xd9"):
                yield Skipped(len(data), "cut short")
            else:
                yield self._made(data)
        elif self._state == "single" or (self._state == "bare" and data.rstrip(b"\r\n").endswith(b"\xff\xd9")):
            yield self._made(data)
        elif self._state == "sized" and len(data) >= (length := int(self._headers["content-length"])):
            yield self._made(data[:length])
        elif self._state in {"sized", "bare"}:
            yield Skipped(len(data), "cut short")

    # -- states: each takes what it can from self._held and may change the state ---------------------------------------

    def _begin(self) -> Iterator[Message]:
        """Find out what kind of body this is, by its first bytes."""
        del self._held[: len(self._held) - len(self._held.lstrip(b"\r\n"))]
        if self._held and (self._one or self._held[:1] == b"\x89"):
            self._state = "single"
        elif self._held.startswith(b"\xff\xd8"):
            self._state = "bare"
        elif self._held and self._held != b"\xff":
            self._state = "preamble"
        yield from ()

    def _preamble(self) -> Iterator[Message]:
        """The first line that separates parts: `--anything`, or the announced boundary as it is."""
        while (end := self._held.find(b"\n")) >= 0:
            line = bytes(self._held[:end]).rstrip()
            del self._held[: end + 1]
            bare = self._declared.strip(b"-")
            if (line.startswith(b"--") and line.strip(b"-")) or (bare and line.strip(b"-") == bare):
                self._line = line
                self._start_part()
                return
        if len(self._held) > HEAD_MAX:
            raise ProtocolError(
                "the answer has neither pictures nor boundaries between them",
                context={"begins": bytes(self._held[:64]).decode("latin-1")},
                remedy="This address sends no MJPEG: set `path` to the camera's MJPEG stream.",
            )
        yield from ()

    def _start_part(self) -> None:
        self._state, self._headers, self._searched = "part_head", {}, 0

    def _part_head(self) -> Iterator[Message]:
        r"""The headers of a part, up to the empty line; some servers have none, and not even the line."""
        if self._held.startswith(b"\xff\xd8"):
            self._state = "unsized"
            return
        if self._held.startswith((b"\r\n", b"\n")):
            end = self._held.index(b"\n") + 1
        elif bytes(self._held) in {b"\r", b"\xff"}:
            return
        else:
            end = _end_of_head(self._held)
        if end < 0:
            if len(self._held) > HEAD_MAX:
                raise ProtocolError("the headers of a picture have no end")
            return
        self._headers = dict(_read_headers(re.split(r"\r?\n", self._held[:end].decode("latin-1"))))
        del self._held[:end]
        length = self._headers.get("content-length", "")
        self._state = "sized" if length.isdigit() and 0 < int(length) <= PICTURE_MAX else "unsized"
        yield from ()

    def _sized(self) -> Iterator[Message]:
        """A part of known length, if the boundary is where it says; otherwise the length is taken for wrong."""
        length = int(self._headers["content-length"])
        if len(self._held) < length + 2:
            return
        follows = bytes(self._held[length : length + 2])  # no more, or it would matter how the bytes were cut
        if follows not in {b"\r\n", b"\n" + self._line[:1], self._line[:2]}:
            self._state, self._searched = "unsized", 0
            return
        data = bytes(self._held[:length])
        del self._held[:length]
        self._state = "after"
        yield self._made(data)

    def _unsized(self) -> Iterator[Message]:
        """A part up to the next boundary."""
        mark = b"\n" + self._line
        while (at := self._held.find(mark, self._searched)) >= 0:
            end = at + len(mark)
            if len(self._held) <= end:
                self._searched = at
                return
            if bytes(self._held[end : end + 1]) in {b"\r", b"\n", b"-", b" "}:
                data = bytes(self._held[:at]).removesuffix(b"\r")
                del self._held[: at + 1]
                self._state = "after"
                yield self._made(data)
                return
            self._searched = at + 1  # a longer word that begins like the boundary
        self._searched = max(self._searched, len(self._held) - len(mark), 0)

    def _after(self) -> Iterator[Message]:
        """The line between parts; with two dashes behind it, the end."""
        while (end := self._held.find(b"\n")) >= 0:
            line = bytes(self._held[:end]).rstrip()
            del self._held[: end + 1]
            if line == self._line:
                self._start_part()
                return
            if line == self._line + b"--":
                self.ended = True
                return
        if len(self._held) > HEAD_MAX:
            raise ProtocolError("a picture is not followed by a boundary")
        yield from ()

    def _bare(self) -> Iterator[Message]:
        """JPEGs in a row: each ends where the next begins. One that nothing follows is complete with its end mark."""
        while (at := self._held.find(b"\xff\xd9", self._searched)) >= 0:
            end = at + 2
            while self._held[end : end + 1] and self._held[end] in b"\r\n":
                end += 1
            beginning = bytes(self._held[end : end + 2])
            if beginning == b"\xff\xd8":
                data = bytes(self._held[: at + 2])
                del self._held[:end]
                self._searched = 0
                yield self._made(data)
                return
            if not beginning or beginning == b"\xff":
                self._searched = at
                return
            self._searched = at + 2  # the end mark of a thumbnail inside of the picture
        self._searched = max(self._searched, len(self._held) - 1, 0)

    def _single(self) -> Iterator[Message]:
        """One picture, up to the end of the body."""
        yield from ()

    def _made(self, data: bytes) -> Message:
        if not data.startswith(_MAGIC):
            return Skipped(len(data), self._headers.get("content-type", "no picture"))
        return Picture(data, self._headers, _time_of(self._headers))


def _time_of(headers: Mapping[str, str]) -> float | None:
    for name in _TIMES:
        if re.fullmatch(r"\d+(\.\d+)?", headers.get(name, "")):
            return float(headers[name])
    return None


# -- the server's side ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks. `target` is path and query as sent; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]


def read_request(data: bytes | bytearray) -> tuple[Request, int] | None:
    """The request at the start of `data` and its length; None while it is not whole.

    Raises ProtocolError: it is no HTTP request, or longer than `HEAD_MAX`.
    """
    end = _end_of_head(data)
    if end < 0:
        if len(data) > HEAD_MAX:
            raise ProtocolError("the request has no end")
        return None
    first, *rest = re.split(r"\r?\n", bytes(data[:end]).decode("latin-1").rstrip("\r\n"))
    match = re.fullmatch(r"([A-Z]+) (\S+) HTTP/\d\.\d", first)
    if match is None:
        raise ProtocolError("that is no HTTP request", context={"line": first[:80]})
    return Request(match[1], match[2], dict(_read_headers(rest))), end


@dataclass(frozen=True, slots=True)
class Quirks:
    r"""What a server does otherwise than it should; the defaults are right.

    Attributes:
        content_type: of the answer; "" leaves it out. `{boundary}` stands for the boundary.
        line: what separates parts; `{boundary}` stands for the boundary.
        length: parts say how long they are; "wrong" lies.
        chunked: the answer comes in chunks.
        line_end: `\r\n` or `\n`.
        bare: neither boundaries nor headers, only pictures.
    """

    content_type: str = "multipart/x-mixed-replace;boundary={boundary}"
    line: str = "--{boundary}"
    length: bool | str = True
    chunked: bool = False
    line_end: str = "\r\n"
    bare: bool = False


@dataclass(slots=True)
class Streamer:
    """Writes an MJPEG answer: `begin()`, `picture(…)` again and again, `end()`; or `error(…)`, `snapshot(…)` alone."""

    boundary: str = "vfab-frame"
    quirks: Quirks = field(default_factory=Quirks)

    def begin(self) -> bytes:
        """The head of the answer, and the first boundary."""
        lines = ["HTTP/1.1 200 OK", "Cache-Control: no-store", "Connection: close"]
        if self.quirks.content_type:
            lines.append(f"Content-Type: {self._filled(self.quirks.content_type)}")
        if self.quirks.chunked:
            lines.append("Transfer-Encoding: chunked")
        return self._text([*lines, ""]) + (b"" if self.quirks.bare else self._chunk(self._text([self._line()])))

    def picture(self, data: bytes, *, kind: str = "image/jpeg", time_s: float | None = None) -> bytes:
        """One part, and the boundary after it, so that who reads has the picture at once."""
        if self.quirks.bare:
            return self._chunk(data)
        lines = [f"Content-Type: {kind}"]
        if self.quirks.length:
            lines.append(f"Content-Length: {len(data) + (7 if self.quirks.length == 'wrong' else 0)}")
        if time_s is not None:
            lines.append(f"X-Timestamp: {time_s:.6f}")
        return self._chunk(self._text([*lines, ""]) + data + self._text(["", self._line()]))

    def end(self) -> bytes:
        """The last chunk; the boundary was sent with the last picture, so that the connection may simply close."""
        return b"0\r\n\r\n" if self.quirks.chunked else b""

    def snapshot(self, data: bytes, *, kind: str = "image/jpeg") -> bytes:
        """A whole answer: one picture."""
        head = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", f"Content-Length: {len(data)}", "Connection: close", ""]
        return self._text(head) + data

    def error(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> bytes:
        """A whole answer that says no."""
        text = f"{status} {reason}\n".encode()
        lines = [f"HTTP/1.1 {status} {reason}", "Content-Type: text/plain", f"Content-Length: {len(text)}"]
        lines += ["Connection: close", *(f"{name}: {value}" for name, value in (headers or {}).items()), ""]
        return self._text(lines) + text

    def _line(self) -> str:
        return self._filled(self.quirks.line)

    def _filled(self, text: str) -> str:
        return text.replace("{boundary}", self.boundary)

    def _text(self, lines: Sequence[str]) -> bytes:
        return "".join(line + self.quirks.line_end for line in lines).encode("latin-1")

    def _chunk(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.quirks.chunked else data
