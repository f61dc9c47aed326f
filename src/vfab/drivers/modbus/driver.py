"""The Modbus driver: coils, inputs and registers of a device on TCP or on a serial line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from vfab.model.errors import ConfigurationError, ConnectError, LinkLost, Refused, TimeoutExceeded
from vfab.sdk.communication import CommunicationDriver, Message, Response
from vfab.sdk.driver import Environment, command
from vfab.sdk.link import Link
from vfab.sdk.serial_line import LineSettings, LocalLine
from vfab.sdk.stream import StreamWriter

from .points import Point, parse_request
from .values import Value, from_registers, parse_values, size_of, to_registers

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

    from .client import LinkClient

__all__ = ["ModbusDriver"]

_READS = {
    "coils": "read_coils",
    "discrete": "read_discrete_inputs",
    "holding": "read_holding_registers",
    "input": "read_input_registers",
}
_REST_S = 0.00175
"""Silence between frames on a fast serial line; 3.5 characters where that is longer (Modbus over serial line V1.02)."""
_TURNAROUND_S = 0.1
"""How long the units of a line are given to do what was said to all of them (the same, 2.4.1)."""


class ModbusDriver(CommunicationDriver):
    """Reads and writes the tables of a Modbus device.

    Addresses count from 0, as they travel: what a manual calls 40001 is holding register 0. `unit` is the device's
    number on its line, or behind its gateway. Streaming polls the points of the setting `poll`: each record is a dict
    of their texts and values.
    """

    kind: ClassVar[str] = "modbus"
    listens: ClassVar[bool] = False

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._link: Link | None = None
        self._client: LinkClient | None = None
        self._line: LocalLine | None = None
        self._one = threading.RLock()
        self._quiet_s = 0.0

    # -- the channel -------------------------------------------------------------------------------------------------

    @property
    def framer(self) -> str:
        """Which framing: socket (Modbus TCP), rtu or ascii; "auto" goes by the address."""
        chosen = str(self.config["framer"])
        return chosen if chosen != "auto" else "rtu" if self.address.startswith("/") else "socket"

    def open_channel(self) -> None:
        """Open the link; on a serial line set it up."""
        from .client import LinkClient

        link = self.open_link(self.address)
        write: Callable[[bytes], object] = lambda data: link.write(data, timeout_s=self.timeout_s)  # noqa: E731
        try:
            if self.address.startswith("/"):
                line = LocalLine(link)
                line.apply(LineSettings.of(self.config))
                self._line = line
                write = lambda data: line.write(data, self.timeout_s)  # noqa: E731
        except BaseException:
            self.close_link(link)
            raise
        self._link = link
        self._client = LinkClient(
            link, self.framer, self.timeout_s, int(self.config["retries"]), bool(self.config["local_echo"]), write,
            self._count,
        )  # fmt: skip

    def _count(self, came: int, went: int) -> None:
        self.statistics.bytes_in += came
        self.statistics.bytes_out += went

    def close_channel(self) -> None:
        """Close the link."""
        link, self._link, self._client, self._line = self._link, None, None, None
        if link is not None:
            self.close_link(link)

    @command(concurrent=True)
    def set_timeout(self, timeout: float) -> bool:
        """Set how long answers may take, seconds."""
        done = super().set_timeout(timeout)
        if self._client is not None:
            self._client.comm_params.timeout_connect = self.timeout_s
        return done

    @command
    def set_baudrate(self, rate: int) -> bool:
        """Set the speed of the serial line, bits per second; False: there is none."""
        if self._line is None:
            return False
        self._line.apply(LineSettings.of({**self.config, "baudrate": rate}))
        self.config["baudrate"] = rate
        return True

    def _ask(self, what: str, call: Callable[[LinkClient], ModbusPDU], unit: int, *, asks: bool = True) -> ModbusPDU:
        """One request and its answer; a link that was lost is opened again first.

        Args:
            what: the request in words.
            call: sends it.
            unit: whom to; 0 on a serial line is everybody, who is told and answers nothing.
            asks: nothing is done by it when nobody answers.
        """
        from .client import translated

        with self._one:
            client = self._open_client()
            to_all = client.to_all(unit)
            if to_all and asks:
                raise Refused(
                    f"unit 0 at {self.address} is every unit of the line, and none of them answers: {what}",
                    context={"field": "unit", "value": 0},
                    remedy="Name one unit to read from; unit 0 can only be written to.",
                )
            self._rest()
            try:
                answer = translated(lambda: call(client), self.address, what, unit)
            except LinkLost as error:
                self.statistics.errors += 1
                self._last_error, self._state, self._since_s = error.message, "lost", None
                self.close_channel()
                self.emit("link_lost", reason=error.message, again=bool(self.config["reconnect"]))
                raise
            except Exception as error:
                self.statistics.errors += 1
                self._last_error = str(error)
                raise
            finally:
                self._quiet_s = time.monotonic() + (_TURNAROUND_S if to_all else 0)
                self.statistics.messages_out += 1
            self.statistics.messages_in += not to_all
            return answer

    def _open_client(self) -> LinkClient:
        if self._client is None and self._state == "lost" and self.config["reconnect"]:
            self.open_channel()
            self.statistics.reconnects += 1
            self._stands()
            self.emit("reconnected", attempts=1)
        if self._client is None:
            raise LinkLost(
                f"there is no connection to {self.address}", context={"address": self.address}, remedy="Connect first."
            )
        return self._client

    def _rest(self) -> None:
        rest_s = max(_REST_S, 3.5 * 11 / int(self.config["baudrate"])) if self.framer == "rtu" else 0.0
        left_s = self._quiet_s + rest_s - time.monotonic()
        if left_s > 0:
            threading.Event().wait(left_s)

    # -- reading -----------------------------------------------------------------------------------------------------

    @command
    def read_coils(self, address: int, count: int = 1, unit: int | None = None) -> list[bool]:
        """Read coils (function 1): `count` of them, at most 2000."""
        return self._read_bits("coils", address, count, unit)

    @command
    def read_discrete(self, address: int, count: int = 1, unit: int | None = None) -> list[bool]:
        """Read discrete inputs (function 2): `count` of them, at most 2000."""
        return self._read_bits("discrete", address, count, unit)

    @command
    def read_holding(
        self,
        address: int,
        count: int = 1,
        type: str = "uint16",  # noqa: A002
        unit: int | None = None,
    ) -> list[Value]:
        """Read holding registers (function 3).

        Args:
            address: the first register, from 0.
            count: how many values; of a string, how many registers.
            type: uint16, int16, uint32, int32, uint64, int64, float32, float64 or string.
            unit: default is the setting.

        Raises Refused: the device has nothing there. TimeoutExceeded: it did not answer.
        """
        return self._read_values("holding", address, count, type, unit)

    @command
    def read_input(
        self,
        address: int,
        count: int = 1,
        type: str = "uint16",  # noqa: A002
        unit: int | None = None,
    ) -> list[Value]:
        """Read input registers (function 4); otherwise as `read_holding`."""
        return self._read_values("input", address, count, type, unit)

    def _read_bits(self, table: str, address: int, count: int, unit: int | None) -> list[bool]:
        _check(address, count, 2000)
        answer = self._read(table, address, count, unit)
        return [bool(bit) for bit in answer.bits[:count]]

    def _read_values(self, table: str, address: int, count: int, kind: str, unit: int | None) -> list[Value]:
        registers = count * size_of(kind)
        _check(address, registers, 125)
        answer = self._read(table, address, registers, unit)
        return from_registers(answer.registers, kind, str(self.config["word_order"]))

    def _read(self, table: str, address: int, count: int, unit: int | None) -> ModbusPDU:
        number = self._unit(unit)
        what = f"read {count} of {table} from {address}"
        return self._ask(
            what, lambda client: getattr(client, _READS[table])(address, count=count, device_id=number), number
        )

    def _unit(self, unit: int | None) -> int:
        number = int(self.config["unit"]) if unit is None else unit
        if not 0 <= number <= 255:
            raise ConfigurationError(
                f"unit {number} cannot be", context={"field": "unit", "value": number}, remedy="Write 0 to 255."
            )
        return number

    # -- writing -----------------------------------------------------------------------------------------------------

    @command
    def write_coil(self, address: int, value: bool, unit: int | None = None) -> None:
        """Write one coil (function 5)."""
        _check(address, 1, 1)
        number = self._unit(unit)
        self._ask(
            f"write coil {address}", lambda c: c.write_coil(address, bool(value), device_id=number), number, asks=False
        )

    @command
    def write_coils(self, address: int, values: str | Sequence[bool], unit: int | None = None) -> None:
        """Write several coils at once (function 15): `1,0,1`, at most 1968."""
        bits = [bool(v) for v in (parse_values(values, "uint16") if isinstance(values, str) else values)]
        _check(address, len(bits), 1968)
        number = self._unit(unit)
        self._ask(
            f"write {len(bits)} coils from {address}",
            lambda c: c.write_coils(address, bits, device_id=number),
            number,
            asks=False,
        )

    @command
    def write_registers(
        self,
        address: int,
        values: str | Sequence[Value],
        type: str = "uint16",  # noqa: A002
        unit: int | None = None,
    ) -> None:
        """Write holding registers: one with function 6, several at once with function 16, at most 123.

        Args:
            address: the first register, from 0.
            values: `1,2.5,0x10`, or a list of them; a string as it is.
            type: as in `read_holding`.
            unit: default is the setting.

        Raises Refused: a value does not fit, or the device does not take it; nothing was written then.
        """
        plain = parse_values(values, type) if isinstance(values, str) else list(values)
        registers = to_registers(plain, type, str(self.config["word_order"]))
        _check(address, len(registers), 123)
        number = self._unit(unit)
        what = f"write {len(registers)} holding registers from {address}"
        if len(registers) == 1 and not self.config["always_write_multiple"]:
            self._ask(what, lambda c: c.write_register(address, registers[0], device_id=number), number, asks=False)
        else:
            self._ask(what, lambda c: c.write_registers(address, registers, device_id=number), number, asks=False)

    @command
    def identify(self, unit: int | None = None) -> dict[str, str]:
        """What the device says it is (function 43/14): vendor, product, revision. Raises Refused: it does not say."""
        number = self._unit(unit)
        answer = self._ask(
            "identify", lambda c: c.read_device_information(read_code=1, object_id=0, device_id=number), number
        )
        names = ("vendor", "product", "revision")
        told: dict[int, bytes] = getattr(answer, "information", {})
        return {name: told[key].decode("utf-8", "replace") for key, name in enumerate(names) if key in told}

    # -- in words ----------------------------------------------------------------------------------------------------

    @command
    def send_command(self, command: str, wait_s: float | None = None, form: str = "text") -> Response:
        """Read or write in words: `holding 0 2 float32`, `coils 5 8`, `holding 10 = 1,2`, `coils 3 = 1,0`.

        Raises ConfigurationError: the words are none of these.
        """
        begun = time.monotonic()
        before = self.timeout_s
        if wait_s is not None:
            self.set_timeout(wait_s)
        try:
            values = self._do(command)
        finally:
            self.set_timeout(before)
        text = ",".join(str(int(value) if isinstance(value, bool) else value) for value in values)
        elapsed_s = time.monotonic() - begun
        return Response(command=command, text=text, hex="", elapsed_s=elapsed_s, fields={"values": values})

    def send_message(self, data: bytes) -> None:
        """Do what the words say, answered or not."""
        self._do(data.decode("utf-8", "replace"))
        self.statistics.messages_out -= 1  # `write` counts it, too

    def _do(self, text: str) -> list[Value]:
        point, values = parse_request(text)
        if values is None:
            return self._read_point(point)
        if point.table == "coils":
            self.write_coils(point.address, values, point.unit)
        else:
            self.write_registers(point.address, values, point.type, point.unit)
        return []

    def _read_point(self, point: Point) -> list[Value]:
        if point.table in {"coils", "discrete"}:
            return list(self._read_bits(point.table, point.address, point.count, point.unit))
        return self._read_values(point.table, point.address, point.count, point.type, point.unit)

    # -- polling -----------------------------------------------------------------------------------------------------

    def acquire(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        """Read the points every `poll_s` seconds; a point that fails is left out, and counted."""
        points = {str(text): parse_request(str(text))[0] for text in options.get("poll") or self.config["poll"]}
        if not points:
            raise ConfigurationError(
                "no points are set to be polled",
                context={"field": "poll"},
                remedy="Name them: --set 'poll=holding 0 2 float32, coils 0 8'; `vfab config set` keeps them.",
            )
        period_s = float(options.get("poll_s") or self.config["poll_s"])
        due_s = time.monotonic()
        self._writer = stream
        try:
            while self.acquiring():
                self._poll(stream, points)
                due_s = max(due_s + period_s, time.monotonic())
                self.pause_s(max(0.0, due_s - time.monotonic()))
        finally:
            self._writer = None

    def _poll(self, stream: StreamWriter, points: dict[str, Point]) -> None:
        found: dict[str, Any] = {}
        for text, point in points.items():
            try:
                values = self._read_point(point)
            except (TimeoutExceeded, ConnectError) as error:
                if isinstance(error, LinkLost) and not self.config["reconnect"]:
                    raise
                self.log.warning("%s", error.message)
                continue
            found[text] = values[0] if len(values) == 1 else values
        if found:
            self.deliver_polled(stream, Message(found))

    def deliver_polled(self, stream: StreamWriter, message: Message) -> None:
        """Pass on what was polled."""
        stream.send(message.data, time_s=message.time_s)
        if self.config["tell_events"]:
            self.emit("polled", values=message.data)

    def channel_details(self) -> dict[str, Any]:
        """Framing, unit, and the serial line."""
        details: dict[str, Any] = {"framer": self.framer, "unit": self.config["unit"]}
        if self.address.startswith("/"):
            details["line"] = LineSettings.of(self.config).shorthand
        return details


def _check(address: int, count: int, most: int) -> None:
    if not 0 < count <= most:
        raise ConfigurationError(
            f"{count} at once cannot be: 1 to {most} can",
            context={"field": "count", "value": count},
            remedy="Split it into several commands.",
        )
    if not 0 <= address <= 65536 - count:
        raise ConfigurationError(
            f"address {address} cannot be",
            context={"field": "address", "value": address},
            remedy="Addresses go from 0 to 65535; what a manual calls 40001 is holding register 0.",
        )
