"""CommunicationDriver: a link to something that answers, and that says things unasked (seed 000's operations).

An author says how the channel is opened, read, written and closed; this class does the rest: one thread reads, an
answer goes to the command that waits for it, everything else is streamed, told as events and kept for `receive`; what
passes is counted; a lost link is opened again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

from vfab.model.errors import ConfigurationError, DriverError, DriverFailed, LinkLost, TimeoutExceeded
from vfab.sdk.driver import BaseDriver, Environment, command
from vfab.sdk.messages import (
    ConnectionInfo,
    DeviceStatus,
    EventStream,
    LinkStatistics,
    Mailbox,
    Message,
    Response,
    in_words,
    lost,
)
from vfab.sdk.stream import Streaming, StreamType, StreamWriter

__all__ = [
    "CommunicationDriver",
    "ConnectionInfo",
    "DeviceStatus",
    "EventStream",
    "LinkStatistics",
    "Message",
    "Response",
]

_BACK_OFF_MAX_S = 30.0
_JOIN_S = 5.0


class CommunicationDriver(Streaming, BaseDriver):
    """Base of drivers whose device is a conversation.

    Settings that it reads, if the manifest has them: `timeout_s` (5), `reconnect` (true), `reconnect_delay_s` (0.5; it
    doubles at each failure, up to 30 s), `tell_events` (whether what comes unasked is also told as `message` events).

    Events: `message` (fields of `in_words`), `link_lost` (`reason`, `again`: it will be tried), `reconnected`
    (`attempts`).

    Attributes:
        kind: what the link is, for `get_connection_info`.
        statistics: what passed.
    """

    kind: ClassVar[str] = "link"
    stream_type = StreamType.MESSAGES
    unread_max: ClassVar[int] = 1000
    listens: ClassVar[bool] = True
    """Something may come unasked: a thread reads. A device that only answers (Modbus) is read by whoever asks."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.statistics = LinkStatistics()
        self.timeout_s = float(self.config.get("timeout_s", 5.0))
        self._mailbox = Mailbox(self.unread_max)
        self._state = "disconnected"
        self._since_s: float | None = None
        self._last_error = ""
        self._closing = threading.Event()
        self._receiver: threading.Thread | None = None
        self._opening = threading.RLock()
        self._asking = threading.Lock()
        self._sending = threading.Lock()
        self._writing = threading.Lock()
        self._writer: StreamWriter | None = None

    # -- what an author overrides ---------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the device is; a setting `address` goes before the address that was found."""
        return str(self.config.get("address") or self.device.address)

    def open_channel(self) -> None:
        """Open the link and whatever is spoken first. Raises DriverError: nothing is left open."""
        raise NotImplementedError

    def close_channel(self) -> None:
        """Close the link; also when it is lost, or was never open."""
        raise NotImplementedError

    def interrupt_channel(self) -> None:
        """Make a `receive_messages` that waits return; called from another thread, before `close_channel`."""

    def receive_messages(self) -> Iterable[Message]:
        """Wait until something comes; the messages that are whole by now, maybe none.

        Raises DriverError: the link is lost.
        """
        raise NotImplementedError

    def send_message(self, data: bytes) -> None:
        """Send one message; add what went over the link to `statistics.bytes_out`."""
        raise NotImplementedError

    def is_answer(self, asked: str, message: Message) -> bool:
        """Whether `message` may be the answer to the command `asked`; otherwise it came unasked."""
        return True

    def channel_details(self) -> dict[str, Any]:
        """What else `get_connection_info` tells."""
        return {}

    def status_details(self) -> dict[str, Any]:
        """What else `get_status` tells."""
        return {}

    # -- seed 000's operations -------------------------------------------------------------------------------------

    @command
    def establish_connection(self) -> bool:
        """Open the connection; True when it stands, also when it stood before.

        Raises ConnectError and its kind, TimeoutExceeded, ProtocolError: with what to do; nothing is left open.
        """
        with self._opening:
            if self._state == "connected":
                return True
            self._stop_receiver()
            self.open_channel()
            self._closing.clear()
            self._mailbox.clear()
            self._stands()
            if self.listens:
                self._receiver = threading.Thread(target=self._receive, name=f"vfab-{self.kind}", daemon=True)
                self._receiver.start()
            return True

    @command
    def close_connection(self) -> None:
        """Close the connection; closing twice is fine."""
        with self._opening:
            self._stop_receiver()
            self._state, self._since_s = "disconnected", None
            self._mailbox.fail(LinkLost(f"the link to {self.address} was closed", context={"address": self.address}))

    @command
    def send_command(self, command: str, wait_s: float | None = None, form: str = "text") -> Response:
        r"""Send a command and wait for its answer: the first message that comes afterwards and may be one.

        Args:
            command: what to send; with `form` "hex" its bytes in hex.
            wait_s: how long the answer may take, seconds; default is the setting timeout_s.
            form: text (UTF-8) or hex.

        Raises TimeoutExceeded: no answer came. LinkLost: the link broke. Refused: the framing cannot carry it.
        """
        with self._asking, self._mailbox.expecting(lambda message: self.is_answer(command, message)) as answer:
            begun = time.monotonic()
            self.send(command, form)
            patience_s = self.timeout_s if wait_s is None else wait_s
            try:
                message = answer(patience_s)
            except TimeoutExceeded as error:
                error.context.update(address=self.address, command=command)
                error.message = f"{self.address} did not answer {command!r} within {patience_s:g} s"
                error.args = (error.message,)
                raise
        return self.response_to(command, message, time.monotonic() - begun)

    def response_to(self, command: str, message: Message, elapsed_s: float) -> Response:
        """`message` as the answer to `command`."""
        shown = in_words(message)
        shown.pop("size_bytes", None)
        return Response(
            command=command,
            text=str(shown.pop("text", "")),
            hex=str(shown.pop("hex", None) or shown.get("data", "")),
            elapsed_s=elapsed_s,
            fields=shown,
        )

    @command
    def listen_for_events(self) -> EventStream:
        """Stream what comes unasked from now on; names the stream. Here it can be iterated, too."""
        if not self.streaming_status()["streaming"]:
            self.start_streaming()
        stream = EventStream(stream="main", stream_type=self.stream_type.value, address=self.address)
        stream.__dict__["take"] = self._take_on
        return stream

    @command(concurrent=True)
    def get_connection_info(self) -> ConnectionInfo:
        """What the connection is."""
        return ConnectionInfo(
            address=self.address,
            kind=self.kind,
            connected=self.is_connected(),
            since_s=self._since_s,
            timeout_s=self.timeout_s,
            baudrate=self.config.get("baudrate"),
            details=self.channel_details(),
        )

    @command
    def set_baudrate(self, rate: int) -> bool:
        """Set the speed of the line, bits per second; False: this kind of link has none."""
        return False

    @command(concurrent=True)
    def set_timeout(self, timeout: float) -> bool:
        """Set how long answers may take, seconds. Raises ConfigurationError: it is not over 0."""
        if not 0 < timeout <= 3600:
            raise ConfigurationError(
                f"a timeout of {timeout:g} s cannot be",
                context={"field": "timeout", "value": timeout},
                remedy="Write seconds over 0, at most 3600.",
            )
        self.timeout_s = float(timeout)
        return True

    @command(concurrent=True)
    def get_status(self) -> DeviceStatus:
        """How the connection fares, and what passed."""
        self.statistics.unread_dropped = self._mailbox.dropped
        return DeviceStatus(
            state=self._state,
            streaming=self._writer is not None,
            unread=len(self._mailbox),
            statistics=self.statistics,
            last_error=self._last_error,
            details=self.status_details(),
        )

    # -- the rest of a conversation ---------------------------------------------------------------------------------

    @command
    def send(self, command: str, form: str = "text") -> None:
        """Send a command, or anything else, and wait for no answer.

        Args:
            command: what to send; with `form` "hex" its bytes in hex, spaces allowed.
            form: text (UTF-8) or hex.
        """
        if form == "hex":
            try:
                data = bytes.fromhex(command)
            except ValueError as error:
                raise ConfigurationError(
                    f"{command!r} is not hex: {error}",
                    context={"field": "command", "value": command},
                    remedy="Write two hex digits a byte: 01 a0 ff.",
                ) from error
        else:
            data = command.encode("utf-8", "surrogateescape")
        self.write(data)

    @command
    def write(self, data: bytes) -> None:
        """Send `data` as one message. Raises LinkLost: the link is not there, or broke; some may have been sent."""
        if self._state != "connected":
            raise LinkLost(
                f"there is no connection to {self.address}",
                context={"address": self.address, "state": self._state},
                remedy="Wait until it is reconnected." if self._state == "reconnecting" else "Connect first.",
            )
        try:
            with self._sending:
                self.send_message(data)
        except DriverError as error:
            self.statistics.errors += 1
            self._last_error = error.message
            raise
        self.statistics.messages_out += 1

    @command
    def receive(self, count: int = 1, wait_s: float | None = None) -> list[dict[str, Any]]:
        """What came unasked and was not fetched yet, oldest first.

        Args:
            count: how many at most.
            wait_s: how long to wait until so many came, seconds; default is the setting timeout_s. 0 waits for none.

        Returns:
            A list of messages, shorter when fewer came: `text` and `hex` (or the fields of the message), `time_s`.
        """
        end = time.monotonic() + (self.timeout_s if wait_s is None else wait_s)
        found: list[dict[str, Any]] = []
        while len(found) < count:
            try:
                message = self._mailbox.take(max(0.0, end - time.monotonic()))
            except LinkLost:
                if not found:
                    raise
                break
            if message is None:
                break
            found.append(in_words(message))
        return found

    def _take_on(self) -> Iterator[Message]:
        while True:
            try:
                message = self._mailbox.take(None)
            except LinkLost:
                return
            if message is not None:
                yield message

    # -- the life ---------------------------------------------------------------------------------------------------

    @command
    def connect(self) -> bool:
        """Establish the connection."""
        return self.establish_connection()

    @command
    def disconnect(self) -> None:
        """End the stream and close the connection."""
        self.stop_streaming()
        self.close_connection()

    @command
    def reset(self) -> None:
        """Close the connection and forget what nobody fetched; the host connects again."""
        self.disconnect()
        self._mailbox.clear()

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """Whether the link stands."""
        return self._state == "connected"

    # -- the stream -------------------------------------------------------------------------------------------------

    def acquire(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        """The thread that reads the link writes the stream; this one waits, and ends it when the link is lost."""
        with self._writing:
            self._writer = stream
        try:
            while self.acquiring():
                if self._state == "lost":
                    raise LinkLost(self._last_error, context={"address": self.address})
                self.pause_s(0.2)
        finally:
            with self._writing:
                self._writer = None

    # -- the thread that reads --------------------------------------------------------------------------------------

    def deliver(self, message: Message) -> None:
        """A message came: to whoever waits for an answer, or to the stream, the events and `receive`."""
        self.statistics.messages_in += 1
        if self._mailbox.put(message):
            return
        with self._writing:
            if self._writer is not None:
                self._writer.send(
                    message.data,
                    meta=dict(message.meta),
                    time_s=message.time_s,
                    device_time_s=message.device_time_s,
                )
        if self.config.get("tell_events", False):
            self.environment.ports.emit("message", in_words(message))  # its fields may have any name

    def fault(self, error: DriverError) -> None:
        """Something went wrong that does not end the link; it is counted and shown by `get_status`."""
        self.statistics.errors += 1
        self._last_error = error.message
        self.log.warning("%s", error.message)

    def _receive(self) -> None:
        while not self._closing.is_set():
            try:
                for message in self.receive_messages():
                    self.deliver(message)
            except Exception as error:
                if self._closing.is_set():
                    return
                if not self._lose(lost(self.address, self._in_family(error))):
                    return

    def _in_family(self, error: Exception) -> DriverError:
        if isinstance(error, DriverError):
            return error
        self.log.exception("reading %s failed", self.address)
        return DriverFailed(f"{type(error).__name__}: {error}", original_error=error)

    def _lose(self, why: LinkLost) -> bool:
        """The link is lost; True once it is back."""
        self.statistics.errors += 1
        self._last_error = why.message
        again = bool(self.config.get("reconnect", True))
        self._state, self._since_s = "reconnecting" if again else "lost", None
        self._mailbox.fail(why)
        with suppress(DriverError):
            self.close_channel()
        self.emit("link_lost", reason=why.message, again=again)
        return again and self._reconnect()

    def _reconnect(self) -> bool:
        delay_s = float(self.config.get("reconnect_delay_s", 0.5))
        attempts = 0
        while not self._closing.wait(delay_s):
            attempts += 1
            try:
                self.open_channel()
            except DriverError as error:
                self._last_error = error.message
                delay_s = min(delay_s * 2, _BACK_OFF_MAX_S)
                continue
            self.statistics.reconnects += 1
            self._stands()
            self.emit("reconnected", attempts=attempts)
            return True
        return False

    def _stands(self) -> None:
        self._mailbox.fail(None)
        self._state, self._since_s = "connected", time.time()

    def _stop_receiver(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._closing.set()
        if receiver is not None:
            self.interrupt_channel()
            receiver.join(_JOIN_S)
        if receiver is not None or not self.listens:
            self.close_channel()
