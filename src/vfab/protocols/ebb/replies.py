"""What the board answers, as frozen objects, and how each is read from the text of an answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vfab.model.errors import ProtocolError
from vfab.protocols.ebb import commands as c
from vfab.protocols.ebb.commands import Command, Firmware

__all__ = [
    "Button",
    "Enables",
    "Failure",
    "LimitSwitch",
    "Motion",
    "Nickname",
    "NodeCount",
    "Ok",
    "Pen",
    "Pin",
    "Raw",
    "Reply",
    "ServoPower",
    "Status",
    "Steps",
    "Stopped",
    "Utility",
    "Variable",
    "Version",
    "Voltages",
    "parse_firmware",
    "parse_reply",
]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to `command`."""

    command: Command | None


@dataclass(frozen=True, slots=True)
class Ok(Reply):
    """The board has taken the command. A command of the motion queue need not have begun."""


@dataclass(frozen=True, slots=True)
class Failure(Reply):
    """The board refused the command: `!code Err: text`. `command` is None when nothing was asked.

    Codes: 0 step rate or range, 1 step rate, 2 and 3 buffer overrun, 4 missing, 5 no comma, 6 invalid, 7 extra
    parameter, 8 unknown command, 9 wrong and 10 missing checksum.
    """

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class LimitSwitch(Reply):
    """3.x, unasked: the limit switch has stopped all motion; `port_b` is the state of the pins."""

    port_b: int


@dataclass(frozen=True, slots=True)
class Raw(Reply):
    """The text of an answer that has no class of its own (`A`, `I`, `MR`)."""

    text: str


@dataclass(frozen=True, slots=True)
class Version(Reply):
    """Answer to `V`."""

    text: str
    firmware: Firmware


@dataclass(frozen=True, slots=True)
class Steps(Reply):
    """Answer to `QS`: steps since the counters were zeroed."""

    motor1: int
    motor2: int


@dataclass(frozen=True, slots=True)
class Motion(Reply):
    """Answer to `QM`."""

    executing: bool
    motor1: bool
    motor2: bool
    queued: bool


@dataclass(frozen=True, slots=True)
class Status(Reply):
    """Answer to `QG`. Bits 6 and 7 are pins RB2 and RB5 on 2.x, power lost and limit switch on 3.x."""

    byte: int

    @property
    def queued(self) -> bool:
        """A command waits in the motion queue."""
        return bool(self.byte & 1)

    @property
    def motor2(self) -> bool:
        """Motor 2 moves."""
        return bool(self.byte & 2)

    @property
    def motor1(self) -> bool:
        """Motor 1 moves."""
        return bool(self.byte & 4)

    @property
    def executing(self) -> bool:
        """A command of the motion queue is being executed."""
        return bool(self.byte & 8)

    @property
    def pen_up(self) -> bool:
        """The pen is commanded up."""
        return bool(self.byte & 16)

    @property
    def button(self) -> bool:
        """The PRG button was pressed since the last `QG` or `QB`."""
        return bool(self.byte & 32)

    @property
    def bit6(self) -> bool:
        """2.x: pin RB2. 3.x: the supply fell below the threshold since the last `QG`."""
        return bool(self.byte & 64)

    @property
    def bit7(self) -> bool:
        """2.x: pin RB5. 3.x: the limit switch has stopped all motion."""
        return bool(self.byte & 128)


@dataclass(frozen=True, slots=True)
class Button(Reply):
    """Answer to `QB`."""

    pressed: bool


@dataclass(frozen=True, slots=True)
class Pen(Reply):
    """Answer to `QP`."""

    up: bool


@dataclass(frozen=True, slots=True)
class ServoPower(Reply):
    """Answer to `QR`."""

    on: bool


@dataclass(frozen=True, slots=True)
class Voltages(Reply):
    """Answer to `QC`, 0 to 1023 for 0 to 3.3 V at the converter."""

    reference: int
    supply: int

    @property
    def supply_v(self) -> float:
        """Volts at the power jack, of a board v2.3 or newer; about 0.3 when only USB is plugged in."""
        return self.supply / 1023 * 3.3 * 9.2 + 0.3


@dataclass(frozen=True, slots=True)
class Enables(Reply):
    """Answer to `QE`: microsteps a step (1, 2, 4, 8, 16), 0 when the motor is off."""

    motor1: int
    motor2: int


@dataclass(frozen=True, slots=True)
class Variable(Reply):
    """Answer to `QL`."""

    value: int


@dataclass(frozen=True, slots=True)
class NodeCount(Reply):
    """Answer to `QN`."""

    value: int


@dataclass(frozen=True, slots=True)
class Nickname(Reply):
    """Answer to `QT`; "" when there is none."""

    text: str


@dataclass(frozen=True, slots=True)
class Pin(Reply):
    """Answer to `PI`."""

    high: bool


@dataclass(frozen=True, slots=True)
class Utility(Reply):
    """Answer to `QU`; the accumulators (200) are two numbers, all others one."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stopped(Reply):
    """Answer to `ES`: was a motion command cut short? 2.x also tells the steps that were not taken."""

    interrupted: bool
    queued_steps: tuple[int, int] | None = None
    remaining_steps: tuple[int, int] | None = None


_VERSION = re.compile(r"EBB.*Firmware Version (\d+)\.(\d+)(?:\.(\d+))?")


def parse_firmware(text: str) -> Firmware:
    """The firmware version in the answer to `V`.

    Raises ProtocolError: the text is not that of an EiBotBoard.
    """
    found = _VERSION.search(text)
    if not found:
        raise ProtocolError(
            f"{text!r} is not the version text of an EiBotBoard.",
            context={"answer": text},
            remedy="Check that the port belongs to the plotter.",
        )
    return Firmware(*(int(part or 0) for part in found.groups()))


def _ints(text: str, counts: tuple[int, ...]) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) not in counts:
        raise ValueError(f"{len(numbers)} numbers")
    return numbers


def _flags(text: str, count: int) -> list[bool]:
    numbers = _ints(text, (count,))
    if not all(number in (0, 1) for number in numbers):
        raise ValueError("neither 0 nor 1")
    return [bool(number) for number in numbers]


def _stopped(command: Command, text: str) -> Stopped:
    numbers = _ints(text, (1, 5))
    if len(numbers) == 1:
        return Stopped(command, bool(numbers[0]))
    return Stopped(command, bool(numbers[0]), (numbers[1], numbers[2]), (numbers[3], numbers[4]))


def _utility(command: Command, text: str) -> Utility:
    hexadecimal = isinstance(command, c.QU) and command.number in (1, 4, 5)
    return Utility(command, tuple(int(part, 16 if hexadecimal else 10) for part in text.split(",")))


def _status(command: Command, text: str) -> Status:
    if len(text) != 2:
        raise ValueError("not two digits")
    return Status(command, int(text, 16))


def _enables(command: Command, text: str) -> Enables:
    numbers = _ints(text, (2,))
    if not all(number in (0, 1, 2, 4, 8, 16) for number in numbers):
        raise ValueError("not a number of microsteps")
    return Enables(command, *numbers)


_READERS: dict[str, Callable[[Command, str], Reply]] = {
    "V": lambda command, text: Version(command, text, parse_firmware(text)),
    "QS": lambda command, text: Steps(command, *_ints(text, (2,))),
    "QM": lambda command, text: Motion(command, *_flags(text, 4)),
    "QG": _status,
    "QB": lambda command, text: Button(command, *_flags(text, 1)),
    "QP": lambda command, text: Pen(command, *_flags(text, 1)),
    "QR": lambda command, text: ServoPower(command, *_flags(text, 1)),
    "QC": lambda command, text: Voltages(command, *_ints(text, (2,))),
    "QE": _enables,
    "QL": lambda command, text: Variable(command, *_ints(text, (1,))),
    "QN": lambda command, text: NodeCount(command, *_ints(text, (1,))),
    "QT": Nickname,
    "QU": _utility,
    "ES": _stopped,
    "PI": lambda command, text: Pin(command, *_flags(text, 1)),
}


def parse_reply(command: Command, text: str) -> Reply:
    """The reply to a query from the data of its answer.

    Raises ProtocolError: the data is not what this query is answered with.
    """
    try:
        return _READERS.get(command.name, Raw)(command, text)
    except ValueError as error:
        raise ProtocolError(
            f"The board answered {command.name} with {text!r}.",
            context={"command": command.name, "answer": text},
            original_error=error,
            remedy="The link garbles bytes, or a program got another's answers: connect again.",
            retryable=True,
        ) from error
