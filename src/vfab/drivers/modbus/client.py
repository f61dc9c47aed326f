"""pymodbus' synchronous client on a link of the broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymodbus import FramerType
from pymodbus.client.base import ModbusBaseSyncClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.transport import CommParams, CommType

from vfab.model.errors import (
    ConnectError,
    DeviceBusy,
    DriverError,
    HardwareError,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.sdk.link import Link

__all__ = ["LinkClient", "translated"]


class LinkClient(ModbusBaseSyncClient):
    """Requests and answers over `link`; framing and PDUs are pymodbus'.

    Args:
        link: open, and set up.
        framer: socket, rtu or ascii.
        timeout_s: how long an answer may take.
        retries: how often an unanswered request is sent again.
        local_echo: what is sent is also received, as on some RS-485 adapters.
        count: told (bytes in, bytes out).
    """

    def __init__(  # noqa: PLR0917 — it is made in one place
        self,
        link: Link,
        framer: str,
        timeout_s: float,
        retries: int,
        local_echo: bool,
        write: Callable[[bytes], object],
        count: Callable[[int, int], None],
    ) -> None:
        self.link = link
        self._write = write
        self._count = count
        kind = CommType.TCP if framer == "socket" else CommType.SERIAL
        params = CommParams(
            comm_type=kind,
            comm_name="vfab",
            host=link.address,
            timeout_connect=timeout_s,
            handle_local_echo=local_echo,
        )
        super().__init__(FramerType(framer), retries, params, None, None, None)
        self._asked: ModbusPDU | None = None
        self._frame = self.framer.handleFrame
        if kind is CommType.SERIAL:  # over TCP, answers carry the number of their request
            self.framer.handleFrame = self._answer_in  # type: ignore[method-assign]

    @property
    def connected(self) -> bool:
        """The link is open."""
        return not self.link.closed

    def connect(self) -> bool:
        """The link is open."""
        return self.connected

    def close(self) -> None:
        """The link is the driver's."""

    def execute(self, no_response_expected: bool, request: ModbusPDU) -> ModbusPDU:
        """The answer to `request`; None to what is said to all units of a serial line, which none of them answers."""
        self._asked = request
        return super().execute(no_response_expected or self.to_all(request.dev_id), request)

    def _answer_in(self, data: bytes, exp_devid: int, exp_tid: int) -> tuple[int, ModbusPDU | None]:
        """How much of `data` is done with, and the answer in it to what was asked.

        An answer that was late for an earlier request may come after this one was sent; it is passed over.
        """
        used = 0
        while True:
            size, answer = self._frame(data[used:], exp_devid, exp_tid)
            if answer is None or self._asked is None or _answers(answer, self._asked):
                return used + size, answer
            frame = self.framer.buildFrame(answer)  # pymodbus counts what is behind it as used, too
            at = data.find(frame, used)
            used = at + len(frame) if at >= 0 else used + size

    def to_all(self, unit: int) -> bool:
        """Whether `unit` is every unit of a serial line. Over TCP, unit 0 is the device at the address."""
        return unit == 0 and self.comm_params.comm_type is CommType.SERIAL

    def send(self, request: bytes, addr: tuple[Any, ...] | None = None) -> int:
        """Send a request; what was late for the one before is thrown away."""
        self.link.discard_input()
        self._write(request)
        self._count(0, len(request))
        return len(request)

    def recv(self, size: int | None) -> bytes:
        """What came, nothing after the timeout."""
        try:
            data = self.link.read(timeout_s=self.comm_params.timeout_connect)
        except TimeoutExceeded:
            return b""
        self._count(len(data), 0)
        return data


def _answers(answer: ModbusPDU, request: ModbusPDU) -> bool:
    """Whether `answer` can be that to `request`, as far as it tells: function, and how many or where."""
    function = request.function_code
    if answer.function_code & 0x7F != function:
        return False
    if answer.isError():
        return True
    match function:
        case 1 | 2:
            return 0 <= len(answer.bits) - request.count < 8
        case 3 | 4:
            return len(answer.registers) == request.count
        case 5 | 6 | 15 | 16:
            return answer.address == request.address
        case _:
            return True


_EXCEPTIONS: dict[int, tuple[type[DriverError], str, str]] = {
    1: (Refused, "it does not have this function", "Look into its manual: not every device has every table."),
    2: (Refused, "it has nothing at this address", "Count addresses from 0: a manual's 40001 is holding register 0."),
    3: (Refused, "it does not take this value", "Look into its manual for the range, and for how many at once."),
    4: (HardwareError, "it failed while doing it", "Look at the device: it reports a failure of its own."),
    5: (DeviceBusy, "it takes long and has only begun", "Ask again later."),
    6: (DeviceBusy, "it is busy", "Ask again later."),
    8: (HardwareError, "its memory has a parity error", "The device needs service."),
    10: (ConnectError, "the gateway has no way to it", "Check the gateway's configuration."),
    11: (TimeoutExceeded, "the device behind the gateway did not answer", "Check unit id, wiring and power behind it."),
}


def translated(call: Callable[[], ModbusPDU], address: str, what: str, unit: int) -> ModbusPDU:
    """The answer that `call` gives.

    Raises Refused, HardwareError, DeviceBusy, ConnectError: the device's exception codes. TimeoutExceeded: no answer
    that could be understood. LinkLost: the link broke. ProtocolError: what pymodbus could not make sense of.
    """
    context = {"address": address, "unit": unit}
    try:
        answer = call()
    except ConnectionException as error:
        raise ConnectError(f"{address}: {error}", context=context, original_error=error) from error
    except ModbusException as error:
        text = str(error)
        if "No response" in text or "no response" in text:
            raise TimeoutExceeded(
                f"unit {unit} at {address} did not answer: {what}",
                context=context,
                remedy="Check unit id, wiring, line settings (baudrate, parity) and power.",
                original_error=error,
            ) from error
        raise ProtocolError(f"{address}: {text}", context=context, original_error=error) from error
    if isinstance(answer, ExceptionResponse):
        code = answer.exception_code
        kind, why, remedy = _EXCEPTIONS.get(
            code, (ProtocolError, f"it answers with exception {code}", "Look into its manual.")
        )
        raise kind(
            f"unit {unit} at {address} refuses: {what}: {why}",
            context={**context, "exception_code": code, "function_code": answer.function_code & 0x7F},
            remedy=remedy,
        )
    return answer
