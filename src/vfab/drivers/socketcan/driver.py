"""The CAN driver: frames from and to a bus, on SocketCAN or on another interface of python-can."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vfab.model.errors import ConfigurationError, ConnectError, DriverError, LinkLost, TimeoutExceeded
from vfab.protocols.candump import CanFrame, parse_filter, parse_frame
from vfab.sdk.communication import CommunicationDriver, Message, Response
from vfab.sdk.driver import Environment, command
from vfab.sdk.stream import StreamType

from .health import BusHealth

if TYPE_CHECKING:
    import can

__all__ = ["SocketCanDriver"]

_BATCH = 256
_LOOK_S = 0.05
"""How often python-can's own interfaces, which cannot be woken, are asked whether to go on."""
_NET = Path("/sys/class/net")
_ARPHRD_CAN = "280"


class SocketCanDriver(CommunicationDriver):
    """Speaks on a CAN bus.

    Each frame is a dict in the stream: `id`, `data` (bytes), `dlc`, `extended`, `remote`, `error`, `fd`,
    `bitrate_switch`, `error_state`, `own` (this driver sent it), `text` (as candump writes it).

    Events besides a link's own: `bus_state` (`state`: active, warning, passive, bus-off; `before`).
    """

    kind: ClassVar[str] = "can"
    stream_type = StreamType.CAN

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._bus: can.BusABC | None = None
        self._health = BusHealth()
        self._filters = list(self.config["filters"])
        self._closed = threading.Event()
        self._periodic: dict[str, Any] = {}
        self._echoes: deque[CanFrame] = deque(maxlen=_BATCH)

    # -- where -------------------------------------------------------------------------------------------------------

    @property
    def interface(self) -> str:
        """`socketcan`, or which other interface of python-can."""
        return self._where()[0]

    @property
    def channel(self) -> str:
        """The interface's channel: `can0`, a multicast group, the name of a virtual bus."""
        return self._where()[1]

    def _where(self) -> tuple[str, str]:
        """`can://can0` is SocketCAN's; `can://virtual/name` and `can://udp_multicast/239.74.163.2` are python-can's."""
        interface, channel = str(self.config["interface"]), self.config["channel"]
        rest = self.address.removeprefix("can://")
        before, slash, after = rest.partition("/")
        if rest != self.address and slash:
            interface, rest = before, after
        return interface, str(channel or rest)

    # -- the channel -------------------------------------------------------------------------------------------------

    def open_channel(self) -> None:
        """Open the bus. Raises DeviceNotFound, ConnectError: with what to do."""
        self._closed.clear()
        self._health = BusHealth()
        try:
            self._bus = self._open_socketcan() if self.interface == "socketcan" else self._open_other()
        except DriverError:
            raise
        except Exception as error:  # python-can's interfaces raise what they like
            raise ConnectError(
                f"cannot open the CAN bus {self.address}: {error}",
                context={"address": self.address, "interface": self.interface, "channel": self.channel},
                remedy="`scan` lists the buses of this machine; check the settings interface and channel.",
                original_error=error,
            ) from error

    def _open_socketcan(self) -> can.BusABC:
        from .bus import BrokerBus

        link = self.open_link(f"can://{self.channel}")
        try:
            return BrokerBus(
                link.detach(),
                self.channel,
                fd=bool(self.config["fd"]),
                receive_own_messages=bool(self.config["receive_own"]),
                error_frames=bool(self.config["error_frames"]),
                can_filters=self._python_can_filters(),
            )
        except OSError as error:
            raise ConnectError(
                f"{self.channel} cannot do what the settings say: {error.strerror}",
                context={"address": self.address, "fd": self.config["fd"]},
                remedy="Set fd to false if the interface has no CAN FD.",
            ) from error

    def _open_other(self) -> can.BusABC:
        import can

        channel, more = self.channel, dict[str, Any]()
        if self.interface == "udp_multicast":
            channel, _, port = channel.partition(":") if channel.count(":") == 1 else (channel, "", "")
            more = {"port": int(port or self.config["udp_port"]), "hop_limit": int(self.config["hop_limit"])}
            more["fd"] = bool(self.config["fd"])
        elif self.interface == "virtual":
            more = {"receive_own_messages": bool(self.config["receive_own"])}
            more["protocol"] = can.CanProtocol.CAN_FD if self.config["fd"] else can.CanProtocol.CAN_20
        return can.Bus(channel=channel, interface=self.interface, can_filters=self._python_can_filters(), **more)

    def close_channel(self) -> None:
        """Close the bus and end what is sent periodically."""
        bus, self._bus = self._bus, None
        self._periodic.clear()
        if bus is not None:
            with suppress(Exception):  # it may be gone; closing says nothing new
                bus.shutdown()
            if self.interface == "socketcan":
                self.environment.ports.close_link(f"can://{self.channel}")

    def interrupt_channel(self) -> None:
        """Wake the thread that reads."""
        self._closed.set()
        wake = getattr(self._bus, "interrupt", None)
        if wake is not None:
            wake()

    def receive_messages(self) -> Iterable[Message]:
        """Wait for frames; as many as are there."""
        bus = self._bus
        if bus is None:
            raise LinkLost(f"there is no connection to {self.address}", context={"address": self.address})
        import can

        found: list[Message] = []
        timeout_s: float | None = None if hasattr(bus, "interrupt") else _LOOK_S
        try:
            while len(found) < _BATCH:
                message = bus.recv(timeout_s)
                if message is None:
                    break
                timeout_s = 0.0
                taken = self._take(message)
                if taken is not None:
                    found.append(taken)
        except (can.CanError, OSError, ValueError) as error:
            if self._closed.is_set():
                return found
            raise LinkLost(
                f"the CAN bus {self.address} is gone: {error}",
                context={"address": self.address},
                remedy="Check that the interface is up: sudo ip link set can0 up type can bitrate 500000",
            ) from error
        return found

    def _take(self, message: can.Message) -> Message | None:
        from .bus import frame_of

        frame = frame_of(message)
        own = not message.is_rx or self._is_echo(frame)
        if own and not self.config["receive_own"]:
            return None
        self.statistics.bytes_in += len(frame.data)
        before = self._health.state
        if self._health.heard(frame):
            self.emit("bus_state", state=self._health.state, before=before)
        self.statistics.errors += frame.error
        return Message(_fields(frame, own), device_time_s=message.timestamp or None)

    def _is_echo(self, frame: CanFrame) -> bool:
        """A multicast group hears itself; python-can does not tell which frames are one's own."""
        if self.interface != "udp_multicast":
            return False
        with suppress(ValueError):
            self._echoes.remove(frame)
            return True
        return False

    def send_message(self, data: bytes) -> None:
        """Send one frame, given as its text."""
        self._send_frame(parse_frame(data.decode("ascii", "replace")))

    def _send_frame(self, frame: CanFrame) -> None:
        import can

        from .bus import message_of

        if self._bus is None:
            raise LinkLost(f"there is no connection to {self.address}", context={"address": self.address})
        if frame.fd and not self.config["fd"]:
            raise ConfigurationError(
                "CAN FD is off",
                context={"field": "fd", "frame": str(frame)},
                remedy="Set fd to true and connect again.",
            )
        if self.interface == "udp_multicast":
            self._echoes.append(frame)
        try:
            self._bus.send(message_of(frame), self.timeout_s)
        except can.CanTimeoutError as error:
            raise TimeoutExceeded(
                f"{self.address} takes no more frames: {error}",
                context={"address": self.address},
                remedy="Nobody acknowledges: check cable, termination, bit rate, and that another node is on the bus.",
            ) from error
        except (can.CanError, OSError, ValueError) as error:
            raise LinkLost(f"{self.address}: {error}", context={"address": self.address}) from error
        self.statistics.bytes_out += len(frame.data)

    # -- commands ----------------------------------------------------------------------------------------------------

    @command
    def send_frame(  # noqa: PLR0917 — a frame has so many parts
        self,
        id: int,  # noqa: A002 — that is what everybody calls it
        data: bytes | list[int] = b"",
        extended: bool = False,
        remote: bool = False,
        fd: bool = False,
        bitrate_switch: bool = False,
    ) -> None:
        """Send a frame of these parts. Raises ConfigurationError: there is no such frame."""
        frame = CanFrame(id, bytes(data), extended=extended, remote=remote, fd=fd, bitrate_switch=bitrate_switch)
        problem = frame.problem()
        if problem:
            raise ConfigurationError(problem, context={"field": "frame", "value": str(frame)})
        self.write(str(frame).encode())

    @command
    def send_command(self, command: str, wait_s: float | None = None, form: str = "text", answer: str = "") -> Response:
        """Send a frame and wait for one that answers.

        Args:
            command: the frame, as candump writes it.
            wait_s: how long the answer may take, seconds; default is the setting timeout_s.
            form: text.
            answer: which frames are answers, as a filter `id:mask`; default is any data frame.
        """
        self._wanted = parse_filter(answer) if answer else None
        try:
            return super().send_command(command, wait_s, form)
        finally:
            self._wanted = None

    _wanted: tuple[int, int, bool, bool] | None = None

    def is_answer(self, asked: str, message: Message) -> bool:
        """A data frame that the command's filter passes."""
        fields = message.data
        assert isinstance(fields, dict)
        if fields["error"] or fields["own"]:
            return False
        if self._wanted is None:
            return True
        ident, mask, extended, inverted = self._wanted
        return bool(fields["id"] & mask == ident & mask and fields["extended"] == extended) != inverted

    @command
    def set_filters(self, filters: str = "") -> list[str]:
        """Receive only frames that pass one of `filters`, from now on.

        Args:
            filters: `123:7FF,18DAF100:1FFFFF00` (identifier:mask, hex; eight digits mean extended); "" passes all.

        Returns:
            The filters that hold now.

        Raises ConfigurationError: one of them is no filter; the old ones stay.
        """
        wanted = [text for text in filters.replace(",", " ").split() if text]
        checked = _python_can_filters(wanted)
        self._filters = wanted
        if self._bus is not None:
            self._bus.set_filters(checked)
        return wanted

    def _python_can_filters(self) -> list[Any] | None:
        return _python_can_filters(self._filters)

    @command
    def send_periodic(self, frame: str, period_s: float) -> list[str]:
        """Send `frame` every `period_s` seconds until `stop_periodic`; a frame of the same identifier is replaced.

        Returns:
            Every frame that is sent periodically now.
        """
        from .bus import message_of

        parsed = parse_frame(frame)
        if self._bus is None:
            raise LinkLost(f"there is no connection to {self.address}", context={"address": self.address})
        if not 0.001 <= period_s <= 3600:
            raise ConfigurationError(
                f"a period of {period_s:g} s cannot be", context={"field": "period_s", "value": period_s}
            )
        self.stop_periodic(f"{parsed.id:X}")
        task = self._bus.send_periodic(message_of(parsed), period_s)
        self._periodic[f"{parsed.id:X}"] = (parsed, task)
        return [str(held) for held, _ in self._periodic.values()]

    @command
    def stop_periodic(self, id: str = "") -> list[str]:  # noqa: A002
        """Stop sending the frame with this identifier (hex); "" stops all. Returns what is still sent."""
        for key in [id.upper().lstrip("0") or "0"] if id else list(self._periodic):
            held = self._periodic.pop(key, None)
            if held is not None:
                held[1].stop()
        return [str(held) for held, _ in self._periodic.values()]

    @command(concurrent=True)
    def scan(self) -> list[dict[str, Any]]:
        """The CAN interfaces of this machine, each with `channel`, `up` and `address` (seed 002's `_scan_impl`)."""
        found = []
        for folder in sorted(_NET.glob("*")) if _NET.is_dir() else []:
            with suppress(OSError):
                if (folder / "type").read_text().strip() == _ARPHRD_CAN:
                    up = bool(int((folder / "flags").read_text(), 16) & 1)
                    found.append({"channel": folder.name, "up": up, "address": f"can://{folder.name}"})
        return found

    def channel_details(self) -> dict[str, Any]:
        """Interface, channel, filters."""
        return {
            "interface": self.interface,
            "channel": self.channel,
            "fd": bool(self.config["fd"]),
            "filters": list(self._filters),
        }

    def status_details(self) -> dict[str, Any]:
        """How the bus fares, and what is sent periodically."""
        return {**self._health.to_dict(), "periodic": [str(frame) for frame, _ in self._periodic.values()]}


def _fields(frame: CanFrame, own: bool) -> dict[str, Any]:
    return {
        "id": frame.id,
        "data": frame.data,
        "dlc": frame.length,
        "extended": frame.extended,
        "remote": frame.remote,
        "error": frame.error,
        "fd": frame.fd,
        "bitrate_switch": frame.bitrate_switch,
        "error_state": frame.error_state,
        "own": own,
        "text": str(frame),
    }


def _python_can_filters(texts: list[str]) -> list[Any] | None:
    found = []
    for text in texts:
        ident, mask, extended, inverted = parse_filter(text)
        if inverted:
            raise ConfigurationError(
                f"{text!r}: a filter of the bus cannot be inverted",
                context={"field": "filters", "value": text},
                remedy="Write identifier:mask; leave out what is not wanted where the stream is read.",
            )
        found.append({"can_id": ident, "can_mask": mask, "extended": extended})
    return found or None
