"""A Modbus device that is not there, sans-IO: its tables, its functions, and both framings.

Functions 1 to 6, 15, 16, 22, 23 and 43/14 of the MODBUS Application Protocol Specification V1.1b3; framing of Modbus
Messaging on TCP/IP V1.0b and Modbus over Serial Line V1.02. Written without pymodbus, so that driver and simulator do
not share their mistakes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

_T = TypeVar("_T", bool, int)

__all__ = ["ModbusDevice", "RtuServer", "TcpServer", "crc16"]

_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE, _FAILURE, _BUSY = 1, 2, 3, 4, 6
_SIZE: Final = 1000
_TCP_LENGTH_MAX: Final = 254
"""Unit and PDU."""
_DIRECT: Final = 255
"""The unit that clients name to a device with an address of its own (Messaging on TCP/IP V1.0b, 4.4.2)."""
_RTU_MIN: Final = 4
_RTU_MAX: Final = 256
"""Unit, PDU and CRC, bytes."""
IDENTITY: Final = (b"vfab", b"modbus simulator", b"1.0")


class _Refuse(Exception):
    """An exception response."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class ModbusDevice:
    """One unit: 1000 entries in each table, from address 0.

    Input registers count up (`input[i]` is `i`), discrete inputs alternate. Holding register 999 answers with exception
    4, 998 with exception 6.

    Attributes:
        unit: its number; requests for others are not answered.
        requests: how many it answered.
        mute: it hears and does not answer.
    """

    unit: int = 1
    coils: list[bool] = field(default_factory=lambda: [False] * _SIZE)
    discrete: list[bool] = field(default_factory=lambda: [bool(number % 2) for number in range(_SIZE)])
    holding: list[int] = field(default_factory=lambda: [0] * _SIZE)
    input: list[int] = field(default_factory=lambda: list(range(_SIZE)))
    requests: int = 0
    mute: bool = False

    def answer(self, pdu: bytes) -> bytes:
        """The PDU that answers `pdu`."""
        self.requests += 1
        try:
            return self._do(pdu[0], pdu[1:])
        except _Refuse as refused:
            return bytes((pdu[0] | 0x80, refused.code))
        except (struct.error, IndexError):
            return bytes((pdu[0] | 0x80, _ILLEGAL_VALUE))

    def _do(self, function: int, body: bytes) -> bytes:
        head = bytes((function,))
        match function:
            case 1 | 2:
                table = self.coils if function == 1 else self.discrete
                bits = self._slice(table, _pair(body), 2000)
                packed = sum(bit << number for number, bit in enumerate(bits)).to_bytes((len(bits) + 7) // 8, "little")
                return head + bytes((len(packed),)) + packed
            case 3 | 4:
                registers = self._slice(self.holding if function == 3 else self.input, _pair(body), 125)
                return head + bytes((2 * len(registers),)) + struct.pack(f">{len(registers)}H", *registers)
            case 5:
                address, value = struct.unpack(">HH", body)
                if value not in {0, 0xFF00}:
                    raise _Refuse(_ILLEGAL_VALUE)
                self._put(self.coils, address, [value != 0])
                return head + body
            case 6:
                address, value = struct.unpack(">HH", body)
                self._put(self.holding, address, [value])
                return head + body
            case 15:
                address, count, size = struct.unpack(">HHB", body[:5])
                _agree(size == (count + 7) // 8 == len(body) - 5)
                number = int.from_bytes(body[5:], "little")
                self._put(self.coils, address, [bool(number >> bit & 1) for bit in range(count)], 1968)
                return head + body[:4]
            case 16:
                address, count, size = struct.unpack(">HHB", body[:5])
                _agree(size == 2 * count)
                self._put(self.holding, address, list(struct.unpack(f">{count}H", body[5:])), 123)
                return head + body[:4]
            case _:
                return self._seldom(function, head, body)

    def _seldom(self, function: int, head: bytes, body: bytes) -> bytes:
        match function:
            case 22:
                address, keep, change = struct.unpack(">HHH", body)
                (now,) = self._slice(self.holding, (address, 1), 1)
                self._put(self.holding, address, [now & keep | change & ~keep & 0xFFFF])
                return head + body
            case 23:
                start, count, address, written, size = struct.unpack(">HHHHB", body[:9])
                _agree(size == 2 * written)
                self._slice(self.holding, (start, count), 125)  # nothing is written when this is refused
                self._put(self.holding, address, list(struct.unpack(f">{written}H", body[9:])), 121)
                registers = self._slice(self.holding, (start, count), 125)
                return head + bytes((2 * count,)) + struct.pack(f">{count}H", *registers)
            case 43 if body[:1] == b"\x0e":
                objects = b"".join(bytes((key, len(text))) + text for key, text in enumerate(IDENTITY))
                return head + bytes((0x0E, body[1], 1, 0, 0, len(IDENTITY))) + objects
            case _:
                raise _Refuse(_ILLEGAL_FUNCTION)

    def _slice(self, table: list[_T], where: tuple[int, int], most: int) -> list[_T]:
        address, count = where
        self._check(table is self.holding, address, count, most)
        return table[address : address + count]

    def _put(self, table: list[_T], address: int, values: list[_T], most: int = 1) -> None:
        self._check(table is self.holding, address, len(values), most)
        table[address : address + len(values)] = values

    @staticmethod
    def _check(holding: bool, address: int, count: int, most: int) -> None:
        if not 0 < count <= most:
            raise _Refuse(_ILLEGAL_VALUE)
        if address + count > _SIZE:
            raise _Refuse(_ILLEGAL_ADDRESS)
        last = address + count - 1
        if holding and last >= 998:
            raise _Refuse(_FAILURE if last == 999 else _BUSY)


def _agree(sizes_agree: bool) -> None:
    """Refuse a request whose sizes say different things."""
    if not sizes_agree:
        raise _Refuse(_ILLEGAL_VALUE)


def _pair(body: bytes) -> tuple[int, int]:
    """An address and a count."""
    address, count = struct.unpack(">HH", body)
    return int(address), int(count)


class TcpServer:
    """Modbus TCP: transaction, protocol, length, unit, PDU. Units 0 and 255 are this device, whatever its number."""

    def __init__(self, device: ModbusDevice) -> None:
        self._device = device
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is answered to what came.

        Raises ConnectionError: this is no Modbus, so that nobody knows where the next request begins.
        """
        self._held += data
        while len(self._held) >= 8:
            transaction, protocol, length, unit = struct.unpack(">HHHB", self._held[:7])
            if protocol != 0 or not 2 <= length <= _TCP_LENGTH_MAX:
                raise ConnectionError(f"no Modbus: protocol {protocol}, {length} bytes")
            if len(self._held) < 6 + length:
                return
            pdu, self._held = self._held[7 : 6 + length], self._held[6 + length :]
            if unit not in {self._device.unit, 0, _DIRECT} or self._device.mute:
                continue
            answer = self._device.answer(pdu)
            yield struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer


class RtuServer:
    """Modbus RTU: unit, PDU, CRC; a frame ends where the line falls silent.

    Nothing else tells how long a request is whose function is not known. One that is known is answered at once when it
    is whole and its CRC is right; everything else waits for `silence`: what came until then was one frame, or is thrown
    away, and the next byte begins a frame. How the bytes were cut does not matter.
    """

    def __init__(self, device: ModbusDevice) -> None:
        self._device = device
        self._held = b""

    @property
    def waits(self) -> bool:
        """Bytes are held whose frame has not ended: `silence` is due when no more come."""
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is answered to what came."""
        self._held += data
        while 0 < (size := _request_size(self._held)) <= min(len(self._held), _RTU_MAX):
            if crc16(self._held[:size]) != 0:
                break
            frame, self._held = self._held[:size], self._held[size:]
            yield from self._answer(frame)
        self._held = self._held[: _RTU_MAX + 1]

    def silence(self) -> Iterator[bytes]:
        """The line was silent for 3.5 characters: what is answered to what came before."""
        frame, self._held = self._held, b""
        if _RTU_MIN <= len(frame) <= _RTU_MAX and crc16(frame) == 0:
            yield from self._answer(frame)

    def _answer(self, frame: bytes) -> Iterator[bytes]:
        unit, device = frame[0], self._device
        if unit not in {device.unit, 0} or device.mute:
            return
        answer = frame[:1] + device.answer(frame[1:-2])
        if unit != 0:  # a broadcast is done by all and answered by none
            yield answer + crc16(answer).to_bytes(2, "little")


def _request_size(held: bytes) -> int:
    """How many bytes the request that begins `held` has; 0 while that is not known, or will not be."""
    if len(held) < 3:
        return 0
    match held[1]:
        case 1 | 2 | 3 | 4 | 5 | 6:
            return 8
        case 15 | 16:
            return 9 + held[6] if len(held) > 6 else 0
        case 22:
            return 10
        case 23:
            return 13 + held[10] if len(held) > 10 else 0
        case 43 if held[2] == 0x0E:
            return 7
        case _:
            return 0


def crc16(data: bytes) -> int:
    """The CRC of Modbus RTU; 0 over a frame with its CRC."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value
