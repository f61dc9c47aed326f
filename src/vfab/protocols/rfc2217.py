"""A serial port behind a network connection: Telnet (RFC 854, 855, 856) with the COM-PORT-OPTION of RFC 2217.

Sans-IO, both sides. `feed` takes what came and returns events; what has to be sent, answers and negotiation included,
is fetched with `data_to_send`. Data bytes travel with every IAC (0xFF) doubled; settings of the port travel as
subnegotiations `IAC SB 44 code value… IAC SE`, and the access server (the side with the port) answers each with
`code + 100` and the value that holds now, which need not be the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from vfab.model.errors import ProtocolError

__all__ = [
    "AccessServer",
    "ClientPort",
    "Code",
    "Control",
    "Data",
    "Event",
    "LineState",
    "ModemState",
    "OptionOn",
    "Parity",
    "Purge",
    "Request",
    "Said",
    "StopSize",
    "escape",
]

IAC: Final = 0xFF
_SE, _SB, _WILL, _WONT, _DO, _DONT = 240, 250, 251, 252, 253, 254
BINARY: Final = 0
SUPPRESS_GO_AHEAD: Final = 3
COM_PORT: Final = 44
_SUB_MAX: Final = 1024
_IAC_BYTE: Final = b"\xff"


class Code(IntEnum):
    """What a subnegotiation is about, as the client writes it; the access server answers with 100 more."""

    SIGNATURE = 0
    SET_BAUDRATE = 1
    SET_DATASIZE = 2
    SET_PARITY = 3
    SET_STOPSIZE = 4
    SET_CONTROL = 5
    NOTIFY_LINESTATE = 6
    NOTIFY_MODEMSTATE = 7
    FLOWCONTROL_SUSPEND = 8
    FLOWCONTROL_RESUME = 9
    SET_LINESTATE_MASK = 10
    SET_MODEMSTATE_MASK = 11
    PURGE_DATA = 12


class Parity(IntEnum):
    """Values of SET_PARITY; 0 asks."""

    NONE = 1
    ODD = 2
    EVEN = 3
    MARK = 4
    SPACE = 5


class StopSize(IntEnum):
    """Values of SET_STOPSIZE; 0 asks."""

    ONE = 1
    TWO = 2
    ONE_AND_HALF = 3


class Control(IntEnum):
    """Values of SET_CONTROL."""

    ASK_FLOW = 0
    FLOW_NONE = 1
    FLOW_XON_XOFF = 2
    FLOW_HARDWARE = 3
    ASK_BREAK = 4
    BREAK_ON = 5
    BREAK_OFF = 6
    ASK_DTR = 7
    DTR_ON = 8
    DTR_OFF = 9
    ASK_RTS = 10
    RTS_ON = 11
    RTS_OFF = 12
    ASK_INBOUND_FLOW = 13
    INBOUND_NONE = 14
    INBOUND_XON_XOFF = 15
    INBOUND_HARDWARE = 16
    FLOW_DCD = 17
    INBOUND_DTR = 18
    FLOW_DSR = 19


class Purge(IntEnum):
    """Values of PURGE_DATA."""

    RECEIVED = 1
    TO_SEND = 2
    BOTH = 3


class ModemState(IntFlag):
    """Bits of NOTIFY_MODEMSTATE: the four lines, and which of them changed since it was last told."""

    CTS_CHANGED = 1
    DSR_CHANGED = 2
    RI_ENDED = 4
    CD_CHANGED = 8
    CTS = 16
    DSR = 32
    RI = 64
    CD = 128


class LineState(IntFlag):
    """Bits of NOTIFY_LINESTATE."""

    DATA_READY = 1
    OVERRUN_ERROR = 2
    PARITY_ERROR = 4
    FRAMING_ERROR = 8
    BREAK_DETECTED = 16
    HOLDING_EMPTY = 32
    SHIFT_EMPTY = 64
    TIMEOUT_ERROR = 128


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the serial line."""

    data: bytes


@dataclass(frozen=True, slots=True)
class OptionOn:
    """A Telnet option was agreed on, or refused.

    Attributes:
        option: its number; 44 is COM-PORT-OPTION.
        on: agreed.
        theirs: what the peer does, not what this side does.
    """

    option: int
    on: bool
    theirs: bool


@dataclass(frozen=True, slots=True)
class Request:
    """To an access server: the client wants this.

    Attributes:
        code: what about.
        value: a number, 0 asks for the present one; for SIGNATURE the text, empty asks for ours. A NOTIFY_… asks for
            the present state.
    """

    code: Code
    value: int | str


@dataclass(frozen=True, slots=True)
class Said:
    """To a client: this holds now. `code` and `value` as in `Request`."""

    code: Code
    value: int | str


Event = Data | OptionOn | Request | Said


def escape(data: bytes) -> bytes:
    """`data` with every IAC doubled, as it travels."""
    return data.replace(_IAC_BYTE, _IAC_BYTE * 2)


class _Telnet:
    """The Telnet layer: which bytes are data, which are commands, which options are agreed on."""

    wanted: frozenset[tuple[str, int]]
    """("us" or "him", option) that this side agrees to."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._mode = "data"
        self._verb = 0
        self._sub = bytearray()
        self._on: set[tuple[str, int]] = set()
        self._asked: set[tuple[str, int]] = set()

    def data_to_send(self) -> bytes:
        """What has to go out now; asking again gives nothing."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def write(self, data: bytes) -> None:
        """Send `data` over the serial line; fetch what to send with `data_to_send`."""
        self._out += escape(data)

    def agreed(self, option: int, *, theirs: bool = False) -> bool:
        """Whether `option` is on."""
        return ("him" if theirs else "us", option) in self._on

    def feed(self, data: bytes) -> list[Event]:
        """What came means this. Raises ProtocolError: a subnegotiation without end, or of a wrong size."""
        return list(self._events(data))

    def _events(self, data: bytes) -> Iterator[Event]:
        plain = bytearray()
        at = 0
        while at < len(data):
            if self._mode == "data":
                end = data.find(IAC, at)
                end = len(data) if end < 0 else end
                plain += data[at:end]
                at = end + 1
                if end < len(data):
                    self._mode = "iac"
                continue
            byte = data[at]
            at += 1
            if self._mode == "iac" and byte == IAC:
                plain.append(IAC)
                self._mode = "data"
                continue
            event = self._command(byte)
            if event is not None:
                if plain:  # what was said before the event stays before it
                    yield Data(bytes(plain))
                    plain.clear()
                yield event
        if plain:
            yield Data(bytes(plain))

    def _command(self, byte: int) -> Event | None:
        match self._mode:
            case "iac":
                self._verb = byte
                self._mode = {_SB: "sub", _WILL: "verb", _WONT: "verb", _DO: "verb", _DONT: "verb"}.get(byte, "data")
                self._sub.clear()
            case "verb":
                self._mode = "data"
                return self._negotiated(self._verb, byte)
            case "sub" if byte == IAC:
                self._mode = "sub iac"
            case "sub iac" if byte == _SE:
                self._mode = "data"
                return self._subnegotiated(bytes(self._sub))
            case _:  # inside a subnegotiation, after IAC a doubled IAC (or what an unkind peer forgot to double)
                self._mode = "sub"
                self._sub.append(byte)
                if len(self._sub) > _SUB_MAX:
                    self._mode = "data"
                    raise ProtocolError(f"a Telnet subnegotiation of over {_SUB_MAX} bytes has no end")
        return None

    def _say(self, verb: int, option: int) -> None:
        self._out += bytes((IAC, verb, option))

    def ask(self, side: str, option: int) -> None:
        """Offer (`us`) or ask for (`him`) an option."""
        self._asked.add((side, option))
        self._say(_WILL if side == "us" else _DO, option)

    def _negotiated(self, verb: int, option: int) -> Event | None:
        side = "us" if verb in {_DO, _DONT} else "him"
        key = (side, option)
        on = verb in {_DO, _WILL}
        asked = key in self._asked
        self._asked.discard(key)
        yes, no = (_WILL, _WONT) if side == "us" else (_DO, _DONT)
        if on and key not in self.wanted:
            self._say(no, option)
            return None
        if on == (key in self._on):  # nothing new: an answer would begin a quarrel without end
            return OptionOn(option, on, side == "him") if asked else None
        (self._on.add if on else self._on.discard)(key)
        if not asked:
            self._say(yes if on else no, option)
        return OptionOn(option, on, side == "him")

    def _subnegotiated(self, body: bytes) -> Event | None:
        if body[:1] != bytes((COM_PORT,)) or len(body) < 2:
            return None
        return self._com_port(body[1], body[2:])

    def _com_port(self, code: int, body: bytes) -> Event | None:
        raise NotImplementedError

    def _subnegotiate(self, code: int, value: int | str, size: int) -> None:
        body = value.encode() if isinstance(value, str) else value.to_bytes(size, "big")
        self._out += bytes((IAC, _SB, COM_PORT, code)) + escape(body) + bytes((IAC, _SE))


def _value_of(code: Code, body: bytes) -> int | str:
    if code is Code.SIGNATURE:
        return body.decode("utf-8", "replace")
    size = 4 if code is Code.SET_BAUDRATE else 1
    if code in {Code.FLOWCONTROL_SUSPEND, Code.FLOWCONTROL_RESUME}:
        return 0
    if len(body) != size:
        raise ProtocolError(
            f"{code.name} came with {len(body)} bytes instead of {size}",
            context={"code": int(code), "body": body.hex()},
        )
    return int.from_bytes(body, "big")


def _size_of(code: Code) -> int:
    if code is Code.SET_BAUDRATE:
        return 4
    return 0 if code in {Code.FLOWCONTROL_SUSPEND, Code.FLOWCONTROL_RESUME} else 1


class ClientPort(_Telnet):
    """The side that uses a port which is elsewhere. Call `begin` first, and wait for `OptionOn(44)`."""

    wanted = frozenset({("us", COM_PORT), ("us", BINARY), ("him", BINARY), ("us", 3), ("him", 3), ("him", COM_PORT)})

    def begin(self) -> None:
        """Ask for what a serial line needs: every byte passes, no go-ahead, the COM-PORT-OPTION."""
        for side, option in (("us", BINARY), ("him", BINARY), ("him", SUPPRESS_GO_AHEAD), ("us", COM_PORT)):
            self.ask(side, option)

    def request(self, code: Code, value: int | str = 0) -> None:
        """Ask for a setting, or with 0 for its present value; the answer comes as `Said`."""
        self._subnegotiate(code, value, _size_of(code))

    def _com_port(self, code: int, body: bytes) -> Event | None:
        try:
            known = Code(code - 100)
        except ValueError:
            return None
        return Said(known, _value_of(known, body))


class AccessServer(_Telnet):
    """The side that has the port. It answers every `Request` with `say`.

    Attributes:
        modemstate_mask, linestate_mask: which changes the client wants to hear of.
        suspended: the client can take no more bytes for now.
    """

    wanted = ClientPort.wanted | {("him", COM_PORT)}

    def __init__(self) -> None:
        super().__init__()
        self.modemstate_mask = 255
        self.linestate_mask = 0
        self.suspended = False

    def begin(self) -> None:
        """Offer the same as the client; RFC 2217 lets either side begin."""
        for side, option in (("us", BINARY), ("him", BINARY), ("us", SUPPRESS_GO_AHEAD), ("him", COM_PORT)):
            self.ask(side, option)

    def say(self, code: Code, value: int | str) -> None:
        """Answer a request with what holds now."""
        self._subnegotiate(code + 100, value, _size_of(code))

    def notify_modem(self, state: ModemState) -> None:
        """Tell the modem lines, if the client wants to hear of what changed."""
        if state & 0x0F & self.modemstate_mask or (state >> 4) & (self.modemstate_mask >> 4):
            self.say(Code.NOTIFY_MODEMSTATE, int(state))

    def notify_line(self, state: LineState) -> None:
        """Tell what happened on the line, if the client wants to hear of it."""
        if state & self.linestate_mask:
            self.say(Code.NOTIFY_LINESTATE, int(state))

    def _com_port(self, code: int, body: bytes) -> Event | None:
        try:
            known = Code(code)
        except ValueError:
            return None
        polls = known in {Code.NOTIFY_LINESTATE, Code.NOTIFY_MODEMSTATE} and not body  # pyserial asks so
        value = 0 if polls else _value_of(known, body)
        match known:
            case Code.SET_MODEMSTATE_MASK:
                self.modemstate_mask = int(value)
                self.say(known, value)
            case Code.SET_LINESTATE_MASK:
                self.linestate_mask = int(value)
                self.say(known, value)
            case Code.FLOWCONTROL_SUSPEND | Code.FLOWCONTROL_RESUME:
                self.suspended = known is Code.FLOWCONTROL_SUSPEND
            case _:
                return Request(known, value)
        return None
