r"""The wire between the kernel and a host: sans-IO, both sides, so that a host in another language can speak it.

A connection is a Unix stream socket. The host says one line first, the handshake; then frames follow both ways::

    vfab-host 1 {"driver": "axidraw", "pid": 4711, ...}\n        or      vfab-host 1 {"error": {...}}\n
    frame   := u32 n | u32 m | n bytes of msgpack | m bytes of bulk        (little endian)
    msgpack := [tag, field, ...]                                           (one of the messages below)

Byte strings of `BULK_MIN` bytes or more travel in the bulk part, untouched by msgpack: in their place stands an
extension value of type 1 that holds u32 offset and u32 length. They are looked for in arguments, results and event
data, and one level down in lists and dicts there.

Limits: a frame is at most `FRAME_MAX`, its bulk at most `BULK_MAX` bytes; more is a `ProtocolError`, and the peer is
not to be trusted any further.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from vfab.model.errors import DependencyError, ProtocolError

__all__ = [
    "BULK_MAX",
    "BULK_MIN",
    "FRAME_MAX",
    "HEADER",
    "LET_GO",
    "LOAD_STATE",
    "OPEN_CHANNEL",
    "SAFE_POINT",
    "SAVE_STATE",
    "TAKE_OVER",
    "WIRE_VERSION",
    "Call",
    "Cancel",
    "Decoder",
    "Event",
    "Failure",
    "Handshake",
    "Log",
    "Message",
    "Progress",
    "Reply",
    "decode",
    "encode",
    "handshake_line",
    "parse_handshake",
    "sizes",
]

WIRE_VERSION = 1
HEADER = struct.Struct("<II")
OPEN_CHANNEL = "$channel"
"""A call of the kernel, not of the driver: serve one more connection, whose descriptor came with the token given."""

LET_GO, TAKE_OVER, SAFE_POINT = "$let_go", "$take_over", "$safe_point"
SAVE_STATE, LOAD_STATE = "$save_state", "$load_state"
"""Calls of the kernel when it replaces a driver: hand the device over (with the version of the state), take it over
(with what the other one handed), and have the operation under way stop where another process can go on. The last two
are for backups: say the state of a version, and go on from a state and its version."""

BULK_MIN = 16 * 1024
BULK_MAX = 1 << 30
FRAME_MAX = 16 << 20
HANDSHAKE_MAX = 64 * 1024
_BULK_REF = struct.Struct("<II")
_BULK_CODE = 1


class Call(msgspec.Struct, array_like=True, frozen=True, tag=1, gc=False):
    """Do `method`. Either side may call the other; `id` is unique among the sender's calls.

    Attributes:
        timeout_s: the caller gives up after so many seconds; 0 means never.
    """

    id: int
    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    timeout_s: float = 0.0


class Reply(msgspec.Struct, array_like=True, frozen=True, tag=2, gc=False):
    """What call `id` returned."""

    id: int
    result: Any = None


class Failure(msgspec.Struct, array_like=True, frozen=True, tag=3, gc=False):
    """Call `id` failed: `error` is `DriverError.to_wire()`."""

    id: int
    error: dict[str, Any]


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag=4, gc=False):
    """The caller no longer wants call `id`; a Failure of code `cancelled` or a late Reply still follows."""

    id: int


class Progress(msgspec.Struct, array_like=True, frozen=True, tag=5, gc=False):
    """How far call `id` has come."""

    id: int
    data: dict[str, Any]


class Event(msgspec.Struct, array_like=True, frozen=True, tag=6, gc=False):
    """Something happened in the driver; `time_s` is the host's Unix time."""

    kind: str
    data: dict[str, Any]
    time_s: float


class Log(msgspec.Struct, array_like=True, frozen=True, tag=7, gc=False):
    """One log record; `level` is the number of Python's logging module."""

    level: int
    logger: str
    message: str
    time_s: float
    fields: dict[str, Any] = {}


Message = Call | Reply | Failure | Cancel | Progress | Event | Log


def _foreign(value: object) -> object:
    """What msgpack has no word for, as what comes nearest; a plain refusal for the rest."""
    if hasattr(value, "__fspath__"):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return value.tolist()
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(
        f"a {type(value).__name__} cannot be sent between processes; send numbers, text, bytes, lists, dicts"
    )


_encoder = msgspec.msgpack.Encoder(enc_hook=_foreign)


def _is_bulk(value: object) -> bool:
    if isinstance(value, memoryview):
        return value.nbytes >= BULK_MIN
    return isinstance(value, (bytes, bytearray)) and len(value) >= BULK_MIN


class _Bulk:
    """The bulk part as it grows."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes | bytearray | memoryview] = []
        self.size = 0

    def refer(self, value: bytes | bytearray | memoryview) -> msgspec.msgpack.Ext:
        """Take `value` in; returns what stands in its place."""
        if isinstance(value, memoryview):  # its length counts items of any size, and it may have gaps
            value = value.cast("B") if value.c_contiguous else value.tobytes()
        offset, self.size = self.size, self.size + len(value)
        self.parts.append(value)
        if self.size > BULK_MAX:
            raise _too_large(self.size)
        return msgspec.msgpack.Ext(_BULK_CODE, _BULK_REF.pack(offset, len(value)))


def _lift(value: Any, bulk: _Bulk) -> Any:
    """`value` with its big byte strings replaced by references into `bulk`; the same object when there are none.

    An object with a `to_wire` method is what that says of it.
    """
    if _is_bulk(value):
        return bulk.refer(value)
    if isinstance(value, dict) and any(map(_is_bulk, value.values())):
        return {key: _lift(item, bulk) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and any(map(_is_bulk, value)):
        return [_lift(item, bulk) for item in value]
    described = getattr(value, "to_wire", None)  # a picture: plain data of its own, with big bytes in it
    return _lift(described(), bulk) if described is not None else value


def _too_large(size: int) -> ProtocolError:
    return ProtocolError(
        f"a message of {size} bytes is too large for one frame",
        context={"frame_max": FRAME_MAX, "bulk_max": BULK_MAX},
        remedy="Send it in pieces, or as bytes instead of lists of numbers.",
    )


def encode(message: Message) -> list[bytes | bytearray | memoryview]:
    """The buffers to send, in order, for `message`: header and frame together, then the bulk as it is.

    Raises TypeError: a value in it cannot be sent. ProtocolError: it is too large.
    """
    parts: list[bytes | bytearray | memoryview] = []
    bulk_size = 0
    if _may_hold_bulk(message):
        bulk = _Bulk()
        message = _lifted(message, bulk)
        parts, bulk_size = bulk.parts, bulk.size
    try:
        frame = _encode(message)
    except (OverflowError, ValueError, RecursionError, BufferError) as error:
        # too large a number, half a surrogate pair, something that contains itself, memory with gaps
        raise TypeError(f"this cannot be sent between processes: {error}") from error
    size = len(frame)
    if size > FRAME_MAX:
        raise _too_large(size)
    return [_pack(size, bulk_size) + frame, *parts] if parts else [_pack(size, 0) + frame]


def _may_hold_bulk(message: Message) -> bool:
    """Whether `_lifted` must look; most messages are small and need not pay for it."""
    # not isinstance(): its no costs several times as much, for the classes of msgspec are abstract base classes
    if type(message) is Reply:
        return type(message.result) not in _ATOMS
    if type(message) is Call:
        return bool(message.args or message.kwargs)
    return type(message) is Event


def _lifted(message: Message, bulk: _Bulk) -> Message:
    """`message` with its big byte strings in `bulk`; the same object when there are none."""
    if isinstance(message, Reply):
        lifted = _lift(message.result, bulk)
        return Reply(message.id, lifted) if lifted is not message.result else message
    if isinstance(message, Call):
        args = [_lift(item, bulk) for item in message.args]
        kwargs = {key: _lift(item, bulk) for key, item in message.kwargs.items()}
        return Call(message.id, message.method, args, kwargs, message.timeout_s) if bulk.size else message
    if isinstance(message, Event):
        data = _lift(message.data, bulk)
        return Event(message.kind, data, message.time_s) if bulk.size else message
    return message


_ATOMS = frozenset({type(None), bool, int, float, str})
_pack = HEADER.pack
_encode = _encoder.encode
_plain_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def sizes(header: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Length of frame and bulk that `header` announces.

    Raises ProtocolError: one of them is over its limit.
    """
    frame, bulk = HEADER.unpack_from(header)
    if frame > FRAME_MAX or bulk > BULK_MAX:
        raise ProtocolError(
            f"the peer announces a frame of {frame} and bulk of {bulk} bytes",
            context={"frame_max": FRAME_MAX, "bulk_max": BULK_MAX},
        )
    return frame, bulk


def decode(frame: bytes | bytearray | memoryview, bulk: bytes | bytearray | memoryview = b"") -> Message:
    """The message that `frame` and its `bulk` hold. Bulk values come out as `bytes`.

    Raises ProtocolError: the frame is not a message.
    """
    try:
        if not bulk:
            return _plain_decoder.decode(frame)
        view = memoryview(bulk)
        whole = bulk if isinstance(bulk, bytes) else None
        left = len(view)

        def resolve(code: int, data: memoryview) -> object:
            nonlocal left
            if code != _BULK_CODE or len(data) != _BULK_REF.size:
                raise ValueError(f"unknown extension type {code}")
            offset, length = _BULK_REF.unpack(data)
            if offset + length > len(view):
                raise ValueError("a bulk reference points outside of the bulk")
            left -= length
            if left < 0:  # a small frame could ask for any amount of memory
                raise ValueError("bulk is referred to more than once")
            if whole is not None and offset == 0 and length == len(whole):
                return whole
            return bytes(view[offset : offset + length])

        decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message, ext_hook=resolve)
        return decoder.decode(frame)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a frame is not a message: {error}", original_error=error) from error


class Decoder:
    """Cuts a byte stream into messages; how the bytes were cut on the way does not matter."""

    def __init__(self) -> None:
        self._held = bytearray()

    def receive(self, data: bytes | bytearray | memoryview) -> Iterator[Message]:
        """The messages that `data` completes.

        Raises ProtocolError: the peer broke the protocol.
        """
        self._held += data
        while len(self._held) >= HEADER.size:
            frame, bulk = sizes(self._held)
            end = HEADER.size + frame + bulk
            if len(self._held) < end:
                return
            middle = HEADER.size + frame
            message = decode(bytes(self._held[HEADER.size : middle]), bytes(self._held[middle:end]))
            del self._held[:end]
            yield message


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says first.

    Attributes:
        driver, version: name and version of the plugin that it loaded.
        pid: its process id.
        platform: the platform version that its SDK implements.
        methods: what may be called; those in `concurrent` run while another call runs.
        error: why it could not load the plugin (`DriverError.to_wire()`); the host ends after it.
    """

    driver: str = ""
    version: str = ""
    pid: int = 0
    platform: str = ""
    methods: tuple[str, ...] = ()
    concurrent: tuple[str, ...] = ()
    error: dict[str, Any] | None = None


def handshake_line(handshake: Handshake) -> bytes:
    """The first line that a host sends."""
    return b"vfab-host %d %s\n" % (WIRE_VERSION, msgspec.json.encode(handshake))


def parse_handshake(line: bytes) -> Handshake:
    r"""The handshake of `line`, which ends with `\n`.

    Raises ProtocolError: it is none. DependencyError: the host speaks another version of this wire.
    """
    magic, _, rest = line.partition(b" ")
    version, _, text = rest.partition(b" ")
    if magic != b"vfab-host" or not version.isdigit() or not line.endswith(b"\n"):
        raise ProtocolError("the host did not start with a handshake", context={"line": line[:200].decode("latin-1")})
    if int(version) != WIRE_VERSION:
        raise DependencyError(
            f"the host speaks version {int(version)} of the host wire and this vfab speaks {WIRE_VERSION}",
            remedy="Install a plugin, or a vfab, of the matching generation.",
        )
    try:
        return msgspec.convert(json.loads(text), Handshake)
    except (ValueError, msgspec.ValidationError) as error:
        raise ProtocolError(f"the host's handshake is not valid: {error}", original_error=error) from error
