"""The commands of the EiBotBoard as frozen objects, with the ranges of firmware 2.8 and 3.x.

Source: the EBB command reference, http://evil-mad.github.io/EggBot/ebb.html (3.x) and ebb2.html (2.8), checked
against the published firmware sources. Left out: `CK`, `PC`, `PG`, `T` (3.x has dropped the last three; the first
is the firmware's own self-test).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, ClassVar, NamedTuple

from vfab.model.errors import Refused

__all__ = [
    "COMMANDS",
    "Command",
    "Firmware",
    "Parameter",
    "Shape",
    "encode",
    "parameters",
]

MAX_U8, MAX_U16, MAX_U32 = 0xFF, 0xFFFF, 0xFFFF_FFFF
MIN_I32, MAX_I32 = -(2**31), 2**31 - 1
MAX_U24 = 0xFF_FFFF
LINE_MAX_BYTES = 256
"""Longest command, its carriage return included."""


class Firmware(NamedTuple):
    """A firmware version; compares as a tuple does."""

    major: int
    minor: int = 0
    patch: int = 0

    def __str__(self) -> str:
        """`3.0.2`."""
        return f"{self.major}.{self.minor}.{self.patch}"


V3 = Firmware(3)


class Shape(Enum):
    """How a board in legacy syntax answers. In future syntax every answer is `NAME[,data]` and a line feed."""

    OK = "OK\r\n"
    DATA = "data\r\n"
    DATA_OK = "data\r\nOK\r\n"
    REVERSED_OK = "data\n\rOK\r\n"
    NAMED = "NAME,data\r\n"
    NAMED_REVERSED = "NAME,data\n\r"
    NAMED_OK = "NAME,data\r\nOK\r\n"
    NONE = ""


class Parameter(NamedTuple):
    """One parameter of a command: its name, inclusive bounds per firmware generation, whether it may be left out."""

    name: str
    low: int
    high: int
    low2: int
    high2: int
    optional: bool
    text: bool

    def bounds(self, firmware: Firmware) -> tuple[int, int]:
        """Smallest and largest value that `firmware` takes; for text, the number of characters."""
        return (self.low, self.high) if firmware >= V3 else (self.low2, self.high2)


def _arg(low: int, high: int, *, v2: tuple[int, int] | None = None, optional: bool = False, text: bool = False) -> Any:
    low2, high2 = v2 or (low, high)
    metadata = {"ebb": (low, high, low2, high2, optional, text)}
    return field(default=None, metadata=metadata) if optional else field(metadata=metadata)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the board.

    `since` tells which firmware knows it, `queued` whether it waits for its turn in the motion queue, `shape` how
    it is answered.
    """

    name: ClassVar[str] = ""
    shape: ClassVar[Shape] = Shape.OK
    queued: ClassVar[bool] = False
    since: ClassVar[Firmware] = Firmware(2)


def parameters(kind: type[Command]) -> tuple[Parameter, ...]:
    """The parameters of a kind of command, in the order in which they are sent."""
    return _PARAMETERS[kind.name]


@dataclass(frozen=True, slots=True)
class A(Command):
    """Read all analog inputs that `AC` has enabled (10 bits, 3.3 V full scale)."""

    name: ClassVar[str] = "A"
    shape: ClassVar[Shape] = Shape.NAMED


@dataclass(frozen=True, slots=True)
class AC(Command):
    """Enable (1) or disable (0) an analog input channel."""

    name: ClassVar[str] = "AC"
    channel: int = _arg(0, 15)
    enable: int = _arg(0, 1)


@dataclass(frozen=True, slots=True)
class BL(Command):
    """Enter the bootloader. The board leaves the bus; no answer comes."""

    name: ClassVar[str] = "BL"
    shape: ClassVar[Shape] = Shape.NONE


@dataclass(frozen=True, slots=True)
class C(Command):
    """Write the direction registers of ports A to E (bit 1 = input)."""

    name: ClassVar[str] = "C"
    port_a: int = _arg(0, MAX_U8)
    port_b: int = _arg(0, MAX_U8)
    port_c: int = _arg(0, MAX_U8)
    port_d: int = _arg(0, MAX_U8)
    port_e: int = _arg(0, MAX_U8)


@dataclass(frozen=True, slots=True)
class CS(Command):
    """Zero both global step counters and both accumulators."""

    name: ClassVar[str] = "CS"


@dataclass(frozen=True, slots=True)
class CU(Command):
    """Set a user option.

    1 acknowledgements, 2 limit checks; 3.x also: 4 FIFO depth, 10 future syntax, 50 automatic motor enable, 54
    checksums, 60 power-lost threshold (units of 0.0295 V), 61 motor time-out (seconds).
    """

    name: ClassVar[str] = "CU"
    option: int = _arg(0, MAX_U16, v2=(0, MAX_U8))
    value: int = _arg(-32768, MAX_U16)


@dataclass(frozen=True, slots=True)
class EM(Command):
    """Enable or disable the motors: 0 off, 1 to 5 on at 1/16, 1/8, 1/4, 1/2, full steps (the first one sets both).

    Zeroes the global step counters and the accumulators.
    """

    name: ClassVar[str] = "EM"
    queued: ClassVar[bool] = True
    enable1: int = _arg(0, 5)
    enable2: int | None = _arg(0, 5, optional=True)


@dataclass(frozen=True, slots=True)
class ES(Command):
    """Stop at once and empty the queue. 1 also switches the motors off, so that the position is lost."""

    name: ClassVar[str] = "ES"
    shape: ClassVar[Shape] = Shape.REVERSED_OK
    disable_motors: int | None = _arg(0, 1, optional=True)


@dataclass(frozen=True, slots=True)
class HM(Command):
    """Move to an absolute position in steps from where the counters were zeroed; (0, 0) when left out.

    The board answers nothing else until all motion has ended. `rate` is in steps per second.
    """

    name: ClassVar[str] = "HM"
    queued: ClassVar[bool] = True
    rate: int = _arg(2, 25000)
    position1: int | None = _arg(MIN_I32, MAX_I32, v2=(-4294967, 4294967), optional=True)
    position2: int | None = _arg(MIN_I32, MAX_I32, v2=(-4294967, 4294967), optional=True)


@dataclass(frozen=True, slots=True)
class I(Command):  # noqa: E742 (the board's own name)
    """Read the digital inputs of ports A to E."""

    name: ClassVar[str] = "I"
    shape: ClassVar[Shape] = Shape.NAMED


@dataclass(frozen=True, slots=True)
class LM(Command):
    """Move each motor by `steps`, at `rate` (2³¹ = one step per 40 µs tick) that grows by `accel` each tick.

    The sign of `steps` is the direction; rates are kept positive here, which both generations understand alike.
    `clear`: bit 0 zeroes motor 1's accumulator first, bit 1 motor 2's.
    """

    name: ClassVar[str] = "LM"
    queued: ClassVar[bool] = True
    rate1: int = _arg(MIN_I32, MAX_I32, v2=(0, MAX_I32))
    steps1: int = _arg(MIN_I32, MAX_I32)
    accel1: int = _arg(MIN_I32, MAX_I32)
    rate2: int = _arg(MIN_I32, MAX_I32, v2=(0, MAX_I32))
    steps2: int = _arg(MIN_I32, MAX_I32)
    accel2: int = _arg(MIN_I32, MAX_I32)
    clear: int | None = _arg(0, 3, optional=True)


@dataclass(frozen=True, slots=True)
class L3(Command):
    """`LM` with a jerk that is added to each acceleration every tick. Firmware 3.x."""

    name: ClassVar[str] = "L3"
    queued: ClassVar[bool] = True
    since: ClassVar[Firmware] = V3
    rate1: int = _arg(MIN_I32, MAX_I32)
    steps1: int = _arg(MIN_I32, MAX_I32)
    accel1: int = _arg(MIN_I32, MAX_I32)
    jerk1: int = _arg(MIN_I32, MAX_I32)
    rate2: int = _arg(MIN_I32, MAX_I32)
    steps2: int = _arg(MIN_I32, MAX_I32)
    accel2: int = _arg(MIN_I32, MAX_I32)
    jerk2: int = _arg(MIN_I32, MAX_I32)
    clear: int | None = _arg(0, 3, optional=True)


@dataclass(frozen=True, slots=True)
class LT(Command):
    """Move for `intervals` ticks of 40 µs at signed rates that grow by the accelerations each tick."""

    name: ClassVar[str] = "LT"
    queued: ClassVar[bool] = True
    intervals: int = _arg(1, MAX_U32)
    rate1: int = _arg(MIN_I32, MAX_I32, v2=(-MAX_I32, MAX_I32))
    accel1: int = _arg(MIN_I32, MAX_I32)
    rate2: int = _arg(MIN_I32, MAX_I32, v2=(-MAX_I32, MAX_I32))
    accel2: int = _arg(MIN_I32, MAX_I32)
    clear: int | None = _arg(0, 3, optional=True)


@dataclass(frozen=True, slots=True)
class T3(Command):
    """`LT` with a jerk that is added to each acceleration every tick. Firmware 3.x."""

    name: ClassVar[str] = "T3"
    queued: ClassVar[bool] = True
    since: ClassVar[Firmware] = V3
    intervals: int = _arg(1, MAX_U32)
    rate1: int = _arg(MIN_I32, MAX_I32)
    accel1: int = _arg(MIN_I32, MAX_I32)
    jerk1: int = _arg(MIN_I32, MAX_I32)
    rate2: int = _arg(MIN_I32, MAX_I32)
    accel2: int = _arg(MIN_I32, MAX_I32)
    jerk2: int = _arg(MIN_I32, MAX_I32)
    clear: int | None = _arg(0, 3, optional=True)


@dataclass(frozen=True, slots=True)
class TD(Command):
    """Two `T3` back to back, an S-curve: `T3,n,rate_a,0,jerk` then `T3,n,rate_b,accel,-jerk`. Firmware 3.0.1."""

    name: ClassVar[str] = "TD"
    queued: ClassVar[bool] = True
    since: ClassVar[Firmware] = Firmware(3, 0, 1)
    intervals: int = _arg(1, MAX_U32)
    rate1a: int = _arg(MIN_I32, MAX_I32)
    rate1b: int = _arg(MIN_I32, MAX_I32)
    accel1: int = _arg(MIN_I32, MAX_I32)
    jerk1: int = _arg(MIN_I32, MAX_I32)
    rate2a: int = _arg(MIN_I32, MAX_I32)
    rate2b: int = _arg(MIN_I32, MAX_I32)
    accel2: int = _arg(MIN_I32, MAX_I32)
    jerk2: int = _arg(MIN_I32, MAX_I32)
    clear: int | None = _arg(0, 3, optional=True)


@dataclass(frozen=True, slots=True)
class MR(Command):
    """Read one byte of the controller's memory."""

    name: ClassVar[str] = "MR"
    shape: ClassVar[Shape] = Shape.NAMED
    address: int = _arg(0, 4095)


@dataclass(frozen=True, slots=True)
class MW(Command):
    """Write one byte of the controller's memory."""

    name: ClassVar[str] = "MW"
    address: int = _arg(0, 4095)
    value: int = _arg(0, MAX_U8)


@dataclass(frozen=True, slots=True)
class ND(Command):
    """Decrement the node counter."""

    name: ClassVar[str] = "ND"


@dataclass(frozen=True, slots=True)
class NI(Command):
    """Increment the node counter."""

    name: ClassVar[str] = "NI"


@dataclass(frozen=True, slots=True)
class O(Command):  # noqa: E742 (the board's own name)
    """Write the output latches of ports A to E."""

    name: ClassVar[str] = "O"
    port_a: int = _arg(0, MAX_U8)
    port_b: int | None = _arg(0, MAX_U8, optional=True)
    port_c: int | None = _arg(0, MAX_U8, optional=True)
    port_d: int | None = _arg(0, MAX_U8, optional=True)
    port_e: int | None = _arg(0, MAX_U8, optional=True)


@dataclass(frozen=True, slots=True)
class PD(Command):
    """Set the direction of one pin (0 output, 1 input). `port` is a letter from A to E."""

    name: ClassVar[str] = "PD"
    port: str = _arg(1, 1, text=True)
    pin: int = _arg(0, 7)
    direction: int = _arg(0, 1)


@dataclass(frozen=True, slots=True)
class PI(Command):
    """Read one pin. `port` is a letter from A to E."""

    name: ClassVar[str] = "PI"
    shape: ClassVar[Shape] = Shape.NAMED
    port: str = _arg(1, 1, text=True)
    pin: int = _arg(0, 7)


@dataclass(frozen=True, slots=True)
class PO(Command):
    """Write one pin. `port` is a letter from A to E."""

    name: ClassVar[str] = "PO"
    port: str = _arg(1, 1, text=True)
    pin: int = _arg(0, 7)
    value: int = _arg(0, 1)


@dataclass(frozen=True, slots=True)
class QB(Command):
    """Was the PRG button pressed since the last `QB` (or `QG`)?"""

    name: ClassVar[str] = "QB"
    shape: ClassVar[Shape] = Shape.DATA_OK


@dataclass(frozen=True, slots=True)
class QC(Command):
    """Read the motor current's reference voltage and the supply voltage."""

    name: ClassVar[str] = "QC"
    shape: ClassVar[Shape] = Shape.DATA_OK


@dataclass(frozen=True, slots=True)
class QE(Command):
    """Are the motors enabled, and with how many microsteps? Firmware 2.8."""

    name: ClassVar[str] = "QE"
    shape: ClassVar[Shape] = Shape.DATA_OK
    since: ClassVar[Firmware] = Firmware(2, 8)


@dataclass(frozen=True, slots=True)
class QG(Command):
    """Read the status byte. Reading it forgets a press of the button."""

    name: ClassVar[str] = "QG"
    shape: ClassVar[Shape] = Shape.DATA


@dataclass(frozen=True, slots=True)
class QL(Command):
    """Read one of the 32 byte variables (2.8 has one)."""

    name: ClassVar[str] = "QL"
    shape: ClassVar[Shape] = Shape.DATA_OK
    index: int | None = _arg(0, 31, v2=(0, 0), optional=True)


@dataclass(frozen=True, slots=True)
class QM(Command):
    """What moves, and is anything queued?"""

    name: ClassVar[str] = "QM"
    shape: ClassVar[Shape] = Shape.NAMED_REVERSED


@dataclass(frozen=True, slots=True)
class QN(Command):
    """Read the node counter."""

    name: ClassVar[str] = "QN"
    shape: ClassVar[Shape] = Shape.DATA_OK


@dataclass(frozen=True, slots=True)
class QP(Command):
    """Is the pen commanded up?"""

    name: ClassVar[str] = "QP"
    shape: ClassVar[Shape] = Shape.REVERSED_OK


@dataclass(frozen=True, slots=True)
class QR(Command):
    """Has the pen servo power?"""

    name: ClassVar[str] = "QR"
    shape: ClassVar[Shape] = Shape.REVERSED_OK


@dataclass(frozen=True, slots=True)
class QS(Command):
    """Read both global step counters."""

    name: ClassVar[str] = "QS"
    shape: ClassVar[Shape] = Shape.REVERSED_OK


@dataclass(frozen=True, slots=True)
class QT(Command):
    """Read the board's nickname."""

    name: ClassVar[str] = "QT"
    shape: ClassVar[Shape] = Shape.DATA_OK


@dataclass(frozen=True, slots=True)
class QU(Command):
    """Read an internal value. Firmware 3.x.

    2 largest FIFO depth, 3 FIFO depth, 6 commands waiting, 60 power-lost threshold, 61 motor time-out, 200
    accumulators.
    """

    name: ClassVar[str] = "QU"
    shape: ClassVar[Shape] = Shape.NAMED_OK
    since: ClassVar[Firmware] = V3
    number: int = _arg(0, MAX_U8)


@dataclass(frozen=True, slots=True)
class RB(Command):
    """Reboot. The board leaves the bus and comes back; no answer comes."""

    name: ClassVar[str] = "RB"
    shape: ClassVar[Shape] = Shape.NONE


@dataclass(frozen=True, slots=True)
class R(Command):
    """Put the board's state back to that after power-on, without leaving the bus."""

    name: ClassVar[str] = "R"


@dataclass(frozen=True, slots=True)
class S2(Command):
    """Drive an RC servo.

    `position` is the pulse width in 1/12 µs, `output_pin` the pin RPx (4 is the pen's), `rate` the change of width per
    24 ms, `delay_ms` how long the queue waits from the start. Position 0 switches the output off at once, past the
    queue.
    """

    name: ClassVar[str] = "S2"
    queued: ClassVar[bool] = True
    position: int = _arg(0, MAX_U16)
    output_pin: int = _arg(0, 24)
    rate: int | None = _arg(0, MAX_U16, optional=True)
    delay_ms: int | None = _arg(0, MAX_U16, optional=True)


@dataclass(frozen=True, slots=True)
class SC(Command):
    """Configure servo and drivers.

    1 pen lift kind, 2 driver wiring, 4 pen-up and 5 pen-down pulse (1/12 µs), 8 and 9 servo slots, 10 both servo
    rates, 11 rate up, 12 rate down (1/12 µs per 24 ms), 13 alternate button.
    """

    name: ClassVar[str] = "SC"
    number: int = _arg(0, MAX_U8)
    value: int = _arg(0, MAX_U16)


@dataclass(frozen=True, slots=True)
class SE(Command):
    """Switch the engraver output: power 0 to 1023; `queued_too` 1 waits its turn in the motion queue."""

    name: ClassVar[str] = "SE"
    state: int = _arg(0, 1)
    power: int | None = _arg(0, 1023, optional=True)
    queued_too: int | None = _arg(0, 1, optional=True)


@dataclass(frozen=True, slots=True)
class SL(Command):
    """Set one of the 32 byte variables (2.8 has one)."""

    name: ClassVar[str] = "SL"
    value: int = _arg(0, MAX_U8)
    index: int | None = _arg(0, 31, v2=(0, 0), optional=True)


@dataclass(frozen=True, slots=True)
class SM(Command):
    """Move both motors by steps in `duration_ms`, at constant speed; 0 and 0 steps wait so long, 100 s at most."""

    name: ClassVar[str] = "SM"
    queued: ClassVar[bool] = True
    duration_ms: int = _arg(1, MAX_U32, v2=(1, MAX_U24))
    steps1: int = _arg(MIN_I32, MAX_I32, v2=(-MAX_U24, MAX_U24))
    steps2: int | None = _arg(MIN_I32, MAX_I32, v2=(-MAX_U24, MAX_U24), optional=True)
    clear: int | None = _arg(0, 3, optional=True)


@dataclass(frozen=True, slots=True)
class SN(Command):
    """Set the node counter."""

    name: ClassVar[str] = "SN"
    value: int = _arg(0, MAX_U32)


@dataclass(frozen=True, slots=True)
class SP(Command):
    """Pen: 0 down, 1 up, 2 up at once past the queue (3.0.1), 3 the same and no later command lowers it (3.0.1).

    `duration_ms` is how long the queue waits from the start of the servo's move; it does not set the speed.
    """

    name: ClassVar[str] = "SP"
    queued: ClassVar[bool] = True
    value: int = _arg(0, 3, v2=(0, 1))
    duration_ms: int | None = _arg(0, MAX_U16, optional=True)
    pin: int | None = _arg(0, 7, optional=True)


@dataclass(frozen=True, slots=True)
class SR(Command):
    """Set how long (ms, 0 = for ever) the servo keeps its power after a move, and optionally switch it now."""

    name: ClassVar[str] = "SR"
    timeout_ms: int = _arg(0, MAX_U32)
    state: int | None = _arg(0, 1, optional=True)


@dataclass(frozen=True, slots=True)
class ST(Command):
    """Set the board's nickname, 0 to 16 characters. Wears the flash memory: never in a loop."""

    name: ClassVar[str] = "ST"
    nickname: str = _arg(0, 16, text=True)


@dataclass(frozen=True, slots=True)
class TP(Command):
    """Toggle the pen; `duration_ms` as in `SP`."""

    name: ClassVar[str] = "TP"
    queued: ClassVar[bool] = True
    duration_ms: int | None = _arg(0, MAX_U16, optional=True)


@dataclass(frozen=True, slots=True)
class TR(Command):
    """Move by steps at a rate in steps per second of the motor that goes farther. Firmware 3.x, a test command."""

    name: ClassVar[str] = "TR"
    queued: ClassVar[bool] = True
    since: ClassVar[Firmware] = V3
    rate: int = _arg(1, 25000)
    steps1: int = _arg(MIN_I32, MAX_I32)
    steps2: int | None = _arg(MIN_I32, MAX_I32, optional=True)
    clear: int | None = _arg(0, 3, optional=True)


@dataclass(frozen=True, slots=True)
class V(Command):
    """Ask for the version text."""

    name: ClassVar[str] = "V"
    shape: ClassVar[Shape] = Shape.DATA


@dataclass(frozen=True, slots=True)
class XM(Command):
    """Move an H-bot by A and B steps in `duration_ms`: motor 1 goes A + B, motor 2 A − B."""

    name: ClassVar[str] = "XM"
    queued: ClassVar[bool] = True
    duration_ms: int = _arg(1, MAX_I32, v2=(1, MAX_U24))
    steps_a: int = _arg(MIN_I32, MAX_I32, v2=(-MAX_U24, MAX_U24))
    steps_b: int = _arg(MIN_I32, MAX_I32, v2=(-MAX_U24, MAX_U24))
    clear: int | None = _arg(0, 3, optional=True)


_KINDS: tuple[type[Command], ...] = (
    *(A, AC, BL, C, CS, CU, EM, ES, HM, I, L3, LM, LT, MR, MW, ND, NI, O, PD, PI, PO, QB, QC, QE, QG, QL, QM),
    *(QN, QP, QR, QS, QT, QU, R, RB, S2, SC, SE, SL, SM, SN, SP, SR, ST, T3, TD, TP, TR, V, XM),
)
COMMANDS: dict[str, type[Command]] = {kind.name: kind for kind in _KINDS}
"""Every kind of command by its name."""
_PARAMETERS = {
    kind.name: tuple(Parameter(item.name, *item.metadata["ebb"]) for item in fields(kind)) for kind in _KINDS
}


def encode(command: Command, firmware: Firmware = V3) -> bytes:
    """The bytes of a command, carriage return included.

    Raises Refused: the firmware has no such command, a value is out of its range or of the wrong type, or an
    optional value is missing in front of one that is given.
    """
    kind = type(command)
    if firmware < kind.since:
        raise Refused(
            f"{kind.name} needs firmware {kind.since}; this board has {firmware}.",
            context={"command": kind.name, "firmware": str(firmware)},
            remedy="Update the board's firmware.",
        )
    words = [kind.name]
    skipped = ""
    for parameter in parameters(kind):
        value = getattr(command, parameter.name)
        if value is None and parameter.optional:
            skipped = skipped or parameter.name
            continue
        if skipped:
            raise _refused(command, parameter, value, f"{skipped} must be given too")
        words.append(_word(command, parameter, value, firmware))
    return ",".join(words).encode("ascii") + b"\r"


def _word(command: Command, parameter: Parameter, value: object, firmware: Firmware) -> str:
    low, high = parameter.bounds(firmware)
    if parameter.text:
        if not isinstance(value, str) or not low <= len(value) <= high or not value.isascii():
            raise _refused(command, parameter, value, f"a text of {low} to {high} ASCII characters is wanted")
        if not value.isprintable() or "," in value:
            raise _refused(command, parameter, value, "neither commas nor control characters can be sent")
        return value
    if type(value) is not int:
        raise _refused(command, parameter, value, "a whole number is wanted")
    if not low <= value <= high:
        raise _refused(command, parameter, value, f"firmware {firmware} takes {low} to {high}")
    return str(value)


def _refused(command: Command, parameter: Parameter, value: object, why: str) -> Refused:
    return Refused(
        f"{command.name}: {parameter.name} = {value!r}: {why}.",
        context={"command": command.name, "parameter": parameter.name, "value": repr(value)},
        remedy="Nothing was sent. Correct the value.",
    )
