"""What a communication driver hears and says: messages, who waits for them, and what is counted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vfab.model.errors import DriverError, LinkLost, TimeoutExceeded
from vfab.sdk.cancel import current_token

__all__ = [
    "ConnectionInfo",
    "DeviceStatus",
    "EventStream",
    "LinkStatistics",
    "Mailbox",
    "Message",
    "Response",
    "in_words",
]

_LOOK_S = 0.05
"""How often a wait looks whether its caller still wants it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message that came.

    Attributes:
        data: its bytes; or, where a bus has more to say of it than bytes, a dict of numbers, texts and bytes.
        time_s: when it came here, seconds since 1970.
        device_time_s: when it came by the clock of the interface, same epoch, if it has one.
        meta: more of it for readers of the stream: topic, text or binary, …
    """

    data: bytes | dict[str, Any]
    time_s: float = field(default_factory=time.time)
    device_time_s: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def in_words(message: Message) -> dict[str, Any]:
    """A message for people and programs: `text` and `hex` for bytes, the fields of a dict, the meta, `time_s`."""
    data = message.data
    if isinstance(data, dict):
        shown = {key: value.hex() if isinstance(value, bytes) else value for key, value in data.items()}
    else:
        shown = {"text": data.decode("utf-8", "backslashreplace"), "hex": data.hex(), "size_bytes": len(data)}
    return {**shown, **message.meta, "time_s": message.time_s}


class LinkStatistics(msgspec.Struct, kw_only=True):
    """What passed since the driver was started; a reconnect does not reset it.

    Attributes:
        bytes_in, bytes_out: bytes of the link, framing included.
        messages_in, messages_out: whole messages.
        errors: what could not be read, sent or understood.
        reconnects: how often the link came back after it was lost.
        unread_dropped: messages that nobody fetched with `receive` in time.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    errors: int = 0
    reconnects: int = 0
    unread_dropped: int = 0


class Response(msgspec.Struct, frozen=True, kw_only=True):
    r"""What a device answered to a command.

    Attributes:
        command: what was asked.
        text: the answer as UTF-8; bytes that are none are shown as `\xNN`.
        hex: the answer's bytes in hex.
        elapsed_s: seconds from sending to the answer's last byte.
        fields: what the answer says, where the protocol has fields (topic, id, status code, …).
    """

    command: str
    text: str
    hex: str
    elapsed_s: float
    fields: dict[str, Any] = {}

    @property
    def data(self) -> bytes:
        """The answer's bytes."""
        return bytes.fromhex(self.hex)


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the connection is.

    Attributes:
        address: where the device is.
        kind: how it is reached: serial, tcp, can, …
        connected: the link stands.
        since_s: since when, seconds since 1970; None while it does not.
        timeout_s: how long an answer may take.
        baudrate: bits per second, where there is such a rate.
        details: what else is known of it.
    """

    address: str
    kind: str
    connected: bool
    since_s: float | None
    timeout_s: float
    baudrate: int | None = None
    details: dict[str, Any] = {}


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the connection fares.

    Attributes:
        state: disconnected, connected, reconnecting or lost.
        streaming: what comes is being streamed.
        unread: messages that wait for `receive`.
        statistics: what passed.
        last_error: the last thing that went wrong, "" when nothing has.
        details: what the kind of link adds (bus state, modem lines, …).
    """

    state: str
    streaming: bool
    unread: int
    statistics: LinkStatistics
    last_error: str = ""
    details: dict[str, Any] = {}


class EventStream(msgspec.Struct, kw_only=True, dict=True):
    """What comes unasked, from now on.

    To another process this is the name of the stream to read (`vfab stream DEVICE`); where the driver runs, it is
    iterated: each turn waits for the next message, until the link is closed.

    Attributes:
        stream: name of the driver's stream.
        stream_type: what travels in it.
        address: whose messages.
    """

    stream: str
    stream_type: str
    address: str

    def __iter__(self) -> Iterator[Message]:
        take: Callable[[], Iterator[Message]] | None = self.__dict__.get("take")
        return take() if take is not None else iter(())


class Mailbox:
    """Messages on their way from the thread that reads the link to whoever waits for them.

    A message goes to the command that waits for its answer, if it may be one; otherwise it is kept for `take`.

    Args:
        capacity: how many are kept; the oldest is dropped for a newer one.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self._came: deque[Message] = deque(maxlen=capacity)
        self._changed = threading.Condition()
        self._wanted: Callable[[Message], bool] | None = None
        self._answer: Message | None = None
        self._over: DriverError | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._came)

    def put(self, message: Message) -> bool:
        """A message came. Returns whether it was the answer that somebody waits for."""
        with self._changed:
            answers = self._answer is None and self._wanted is not None and self._wanted(message)
            if answers:
                self._answer = message
            else:
                self.dropped += len(self._came) == self._came.maxlen
                self._came.append(message)
            self._changed.notify_all()
            return answers

    def fail(self, error: DriverError | None) -> None:
        """Nothing comes any more, because of `error`; None: messages may come again."""
        with self._changed:
            self._over = error
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget what nobody fetched."""
        with self._changed:
            self._came.clear()

    @contextmanager
    def expecting(self, wanted: Callable[[Message], bool]) -> Iterator[Callable[[float], Message]]:
        """Within this context the first message that is `wanted` is an answer; what is given waits for it.

        The given function raises TimeoutExceeded: no answer came in so many seconds; LinkLost and its kind: none will.
        """
        with self._changed:
            self._wanted, self._answer = wanted, None
        try:
            yield self._await_answer
        finally:
            self._settle()

    def _settle(self) -> None:
        with self._changed:
            self._wanted = None
            late, self._answer = self._answer, None
            if late is not None:  # it came when nobody waited any more: not lost, but unasked
                self._came.append(late)

    def _await_answer(self, timeout_s: float) -> Message:
        with self._changed:
            self._wait(lambda: self._answer is not None, timeout_s)
            answer, self._answer = self._answer, None
            if answer is None:
                raise TimeoutExceeded(f"no answer came within {timeout_s:g} s", context={"timeout_s": timeout_s})
            self._wanted = None
            return answer

    def take(self, timeout_s: float | None) -> Message | None:
        """The oldest message that nobody fetched; None when none came within `timeout_s` (None: waits on).

        Raises LinkLost and its kind: none will come.
        """
        with self._changed:
            self._wait(lambda: bool(self._came), timeout_s)
            return self._came.popleft() if self._came else None

    def _wait(self, holds: Callable[[], bool], timeout_s: float | None) -> None:
        token = current_token.get()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not holds():
            if token is not None:
                token.check()
            if self._over is not None:
                raise type(self._over)(
                    self._over.message, context=self._over.context, remedy=self._over.remedy
                ) from self._over
            left = _LOOK_S if end is None else min(_LOOK_S, end - time.monotonic())
            if left <= 0:
                return
            self._changed.wait(left)


def lost(address: str, why: DriverError) -> LinkLost:
    """`why`, as the loss of the link to `address`."""
    if isinstance(why, LinkLost):
        return why
    return LinkLost(
        f"the link to {address} is lost: {why.message}",
        context={**why.context, "address": address},
        original_error=why,
    )
