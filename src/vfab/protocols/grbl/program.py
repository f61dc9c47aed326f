"""What a line does to the simulated firmware: `$` commands, settings, and G-code. One generator a line.

It yields what it waits for: `Need.ROOM` in the planner, `Need.EMPTY` once all motion is over, or seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from math import atan2, ceil, cos, hypot, pi, sin, sqrt
from typing import TYPE_CHECKING

from vfab.model.errors import Refused
from vfab.protocols.grbl.gcode import Block, GcodeError, ModalState, read_block
from vfab.protocols.grbl.planner import Motion, axis_limited
from vfab.protocols.grbl.settings import SETTINGS, check_setting
from vfab.protocols.grbl.status import Position, State

if TYPE_CHECKING:
    from vfab.protocols.grbl.machine import Firmware

__all__ = ["Need", "execute"]

EEPROM_S = 0.02
INCH_MM = 25.4
_HELP = "[HLP:$$ $# $G $I $N $x=val $Nx=line $J=line $SLP $C $X $H ~ ! ? ctrl-x]"
_QUIET = frozenset({State.IDLE, State.ALARM, State.CHECK})


class Need(Enum):
    """What a line waits for."""

    ROOM = "room in the planner"
    EMPTY = "an empty planner"


Steps = Iterator[Need | float]


def execute(machine: Firmware, text: str) -> Steps:
    """Do what `text` says. Raises GcodeError: the firmware's error code; what came before it is done."""
    if not text:
        return
    if text.startswith("$J="):
        yield from _jog(machine, text[3:])
    elif text.startswith("$"):
        yield from _system(machine, text[1:])
    elif machine.alarmed or machine.state[0] is State.JOG:
        raise GcodeError(9)
    else:
        yield from _gcode(machine, read_block(text))


# $ ---------------------------------------------------------------------------------------------------------------


def _system(machine: Firmware, command: str) -> Steps:
    if command in ("", "G", "C", "X"):
        _simple(machine, command)
        return
    if machine.state[0] not in _QUIET:
        raise GcodeError(8)
    match command:
        case "$":
            for number, value in sorted(machine.settings.items()):
                whole = SETTINGS[number].kind != "float" if number in SETTINGS else value == int(value)
                machine.say(f"${number}={value:.0f}" if whole else f"${number}={value:.3f}")
        case "#":
            _show_offsets(machine)
        case "I":
            rx = machine.input.size
            machine.say(f"[VER:1.1{'f' if machine.hal else 'h'}.20190825:{machine.info}]")
            machine.say(f"[OPT:V{'N' if machine.hal else ''},{machine.blocks},{rx}]")
        case "N":
            machine.say(*(f"$N{index}={line}" for index, line in enumerate(machine.startup)))
        case "H":
            yield from _home(machine)
        case "SLP":
            yield Need.EMPTY
            machine.set_tool(False, 0.0)
            machine.sleeping = True
            machine.say("[MSG:Sleeping]")
        case _:
            yield from _store(machine, command)


def _simple(machine: Firmware, command: str) -> None:
    if command == "":
        machine.say(_HELP)
    elif command == "G":
        machine.say(f"[GC:{machine.modal.words()}]")
    elif command == "X":
        machine.unlock()
    elif machine.state[0] in (State.IDLE, State.CHECK):
        machine.checking = not machine.checking
        machine.say(f"[MSG:{'Enabled' if machine.checking else 'Disabled'}]")
    else:
        raise GcodeError(8)


def _show_offsets(machine: Firmware) -> None:
    for name in ("G54", "G55", "G56", "G57", "G58", "G59", "G28", "G30"):
        machine.say(f"[{name}:{_numbers(machine.offsets.get(name, (0.0, 0.0, 0.0)))}]")
    machine.say(f"[G92:{_numbers(machine.g92)}]", f"[TLO:{machine.tool_length:.3f}]", "[PRB:0.000,0.000,0.000:0]")


def _numbers(at: Position) -> str:
    return ",".join(f"{value:.3f}" for value in at)


def _store(machine: Firmware, command: str) -> Steps:
    name, equals, value = command.partition("=")
    if not equals:
        raise GcodeError(3)
    if name == "RST":
        yield from _restore(machine, value)
    elif name == "I":
        machine.info = value
        yield from _write_eeprom(machine)
    elif name in ("N0", "N1"):
        if machine.state[0] is not State.IDLE:
            raise GcodeError(8)
        read_block(value)
        machine.startup[int(name[1])] = value
        yield from _write_eeprom(machine)
    elif name.isdigit():
        _set(machine, int(name), value)
        yield from _write_eeprom(machine)
    else:
        raise GcodeError(3)


def _set(machine: Firmware, number: int, text: str) -> None:
    if number not in machine.settings:
        raise GcodeError(3)
    try:
        value = float(text)
    except ValueError:
        raise GcodeError(2) from None
    if value < 0:
        raise GcodeError(4)
    if number == 0 and value < 3:
        raise GcodeError(6)
    if number == 20 and value and not machine.settings[22]:
        raise GcodeError(10)
    try:
        check_setting(number, value)
    except Refused:
        raise GcodeError(3) from None
    machine.settings[number] = value
    machine.planner.deviation = machine.settings[11]


def _restore(machine: Firmware, what: str) -> Steps:
    if what not in ("$", "#", "*"):
        raise GcodeError(3)
    if what in "$*":
        machine.settings.update(machine.defaults)
    if what in "#*":
        machine.offsets.clear()
    if what == "*":
        machine.startup, machine.info = ["", ""], ""
    yield from _write_eeprom(machine)
    machine.say("[MSG:Restoring defaults]")


def _write_eeprom(machine: Firmware) -> Steps:
    """An AVR has its interrupts off meanwhile: what arrives is lost."""
    if machine.hal:
        return
    machine.input.deaf = True
    yield EEPROM_S
    machine.input.deaf = False


def _home(machine: Firmware) -> Steps:
    settings = machine.settings
    if not settings[22]:
        raise GcodeError(5)
    if machine.door_open:
        raise GcodeError(13)
    mask, pull = int(settings[23]), settings[27]
    target: list[float] = []
    for axis in range(3):
        travel, negative = settings[130 + axis], mask >> axis & 1
        if machine.forced_origin:
            target.append(0.0)
        else:
            target.append(pull - travel if negative else -pull)
    way = max(settings[130], settings[131])
    machine.alarmed, machine.homing = False, True
    yield way / max(settings[25] / 60, 1e-3)
    machine.homing = False
    machine.place(tuple(target))


def _jog(machine: Firmware, text: str) -> Steps:
    if machine.state[0] not in (State.IDLE, State.JOG):
        raise GcodeError(8)
    block = read_block(text)
    if not block.axes or "F" not in block.values:
        raise GcodeError(26 if not block.axes else 22)
    if set(block.groups) - {"units", "distance", "action"} or block.groups.get("action", "G53") != "G53":
        raise GcodeError(16)
    modal = machine.modal
    units = block.groups.get("units", modal.units)
    scale = INCH_MM if units == "G20" else 1.0
    relative = block.groups.get("distance", modal.distance) == "G91"
    target = _target(machine, block, scale, relative, "action" in block.groups)
    if _beyond(machine, target):
        raise GcodeError(15)
    yield from _go(machine, target, block.values["F"] * scale / 60, jog=True)


# G-code ------------------------------------------------------------------------------------------------------------


def _gcode(machine: Firmware, block: Block) -> Steps:
    groups, values, modal = block.groups, block.values, machine.modal
    modal.units = groups.get("units", modal.units)
    modal.distance = groups.get("distance", modal.distance)
    modal.plane = groups.get("plane", modal.plane)
    modal.feed_mode = groups.get("feed mode", modal.feed_mode)
    scale = INCH_MM if modal.units == "G20" else 1.0
    action = groups.get("action")
    if "motion" in groups and action not in (None, "G53", "G4") and block.axes:
        raise GcodeError(24)
    if modal.feed_mode == "G94" and "F" in values:
        modal.feed = values["F"] * scale
    modal.tool = int(values.get("T", modal.tool))
    yield from _spindle(machine, block)
    modal.coolant = groups.get("coolant", modal.coolant)
    if "coordinates" in groups:
        modal.coordinates = groups["coordinates"]
    if "tool length" in groups:
        machine.tool_length = values.get("Z", 0.0) * scale if groups["tool length"] == "G43.1" else 0.0
    if action is not None and action != "G53":
        yield from _action(machine, block, action, scale)
    if action in (None, "G53", "G4") and "tool length" not in groups:
        yield from _motion(machine, block, scale, action == "G53")
    if "stop" in groups:
        yield from _stop(machine, groups["stop"])


def _spindle(machine: Firmware, block: Block) -> Steps:
    modal = machine.modal
    before = (modal.spindle, modal.speed)
    modal.speed = block.values.get("S", modal.speed)
    modal.spindle = block.groups.get("spindle", modal.spindle)
    if (modal.spindle, modal.speed) != before and not (before[0] == "M5" and modal.spindle == "M5"):
        yield Need.EMPTY
        if not machine.checking:
            speed = min(modal.speed, machine.settings[30])
            machine.set_tool(modal.spindle != "M5", max(speed, machine.settings[31]) if speed else 0.0)


def _action(machine: Firmware, block: Block, action: str, scale: float) -> Steps:
    values = block.values
    match action:
        case "G4":
            if "P" not in values:
                raise GcodeError(28)
            yield Need.EMPTY
            yield values["P"]
        case "G10":
            yield from _set_offset(machine, block, scale)
        case "G28" | "G30":
            if block.axes:
                via = _target(machine, block, scale, machine.modal.distance == "G91", False)
                yield from _go(machine, via, None)
            yield from _go(machine, machine.offsets.get(action, (0.0, 0.0, 0.0)), None)
        case "G28.1" | "G30.1":
            yield Need.EMPTY
            machine.offsets[action.removesuffix(".1")] = machine.here()
            yield from _write_eeprom(machine)
        case "G92.1":
            machine.g92 = (0.0, 0.0, 0.0)
        case _:
            if not block.axes:
                raise GcodeError(26)
            machine.g92 = _shifted(machine, block, machine.g92, scale)


def _planned(machine: Firmware) -> Position:
    """Where the parser is: at the end of all that is planned."""
    return machine.planner.end or machine.position


def _shifted(machine: Firmware, block: Block, offset: Position, scale: float) -> Position:
    """The offset with which the planned position gets the axis words' values."""
    wpos = [at - off for at, off in zip(_planned(machine), machine.wco, strict=True)]
    made = list(offset)
    for axis, letter in enumerate("XYZ"):
        if letter in block.axes:
            made[axis] += wpos[axis] - block.axes[letter] * scale
    return tuple(made)


def _set_offset(machine: Firmware, block: Block, scale: float) -> Steps:
    values = block.values
    if "L" not in values or "P" not in values:
        raise GcodeError(28)
    kind, place = int(values["L"]), int(values["P"])
    if kind not in (2, 20):
        raise GcodeError(20)
    if not 0 <= place <= 6:
        raise GcodeError(29)
    if not block.axes:
        raise GcodeError(26)
    name = machine.modal.coordinates if place == 0 else f"G{53 + place}"
    stored = list(machine.offsets.get(name, (0.0, 0.0, 0.0)))
    for axis, letter in enumerate("XYZ"):
        if letter in block.axes:
            wanted = block.axes[letter] * scale
            stored[axis] = wanted if kind == 2 else _planned(machine)[axis] - machine.g92[axis] - wanted
    machine.offsets[name] = tuple(stored)
    yield from _write_eeprom(machine)


def _motion(machine: Firmware, block: Block, scale: float, absolute: bool) -> Steps:
    modal = machine.modal
    modal.motion = block.groups.get("motion", modal.motion)
    if not block.axes:
        if modal.motion in ("G2", "G3") and "motion" in block.groups:
            raise GcodeError(26)
        if set(block.values) & set("IJKR"):
            raise GcodeError(36)
        return
    if modal.motion == "G80":
        raise GcodeError(31)
    if absolute and modal.motion not in ("G0", "G1"):
        raise GcodeError(30)
    target = _target(machine, block, scale, modal.distance == "G91", absolute)
    if modal.motion == "G0":
        yield from _go(machine, target, None, line=_number(block))
        return
    feed = _feed(machine, block, target)
    if modal.motion == "G1":
        yield from _go(machine, target, feed, line=_number(block))
        return
    for point in _arc(machine, block, target, scale):
        yield from _go(machine, point, feed, line=_number(block))


def _number(block: Block) -> int | None:
    return int(block.values["N"]) if "N" in block.values else None


def _feed(machine: Firmware, block: Block, target: Position) -> float:
    """Millimetres a second."""
    if machine.modal.feed_mode == "G93":
        if "F" not in block.values:
            raise GcodeError(22)
        far = sqrt(sum((b - a) ** 2 for a, b in zip(_planned(machine), target, strict=True)))
        return far * block.values["F"] / 60
    if machine.modal.feed <= 0:
        raise GcodeError(22)
    return machine.modal.feed / 60


def _target(machine: Firmware, block: Block, scale: float, relative: bool, absolute: bool) -> Position:
    """The machine position that the axis words mean."""
    here, wco = _planned(machine), machine.wco
    made = list(here)
    for axis, letter in enumerate("XYZ"):
        if letter in block.axes:
            value = block.axes[letter] * scale
            if absolute:
                made[axis] = value
            else:
                made[axis] = here[axis] + value if relative else value + wco[axis]
    return tuple(made)


def _beyond(machine: Firmware, target: Position) -> bool:
    """Whether the soft limits forbid a target. GRBL's space is negative, unless it was built otherwise."""
    settings = machine.settings
    if not settings[20]:
        return False
    for axis, value in enumerate(target):
        travel = settings[130 + axis]
        positive = machine.forced_origin and int(settings[23]) >> axis & 1
        low, high = (0.0, travel) if positive else (-travel, 0.0)
        if not low - 1e-6 <= value <= high + 1e-6:
            return True
    return False


def _go(
    machine: Firmware, target: Position, feed: float | None, *, line: int | None = None, jog: bool = False
) -> Steps:
    """Plan a straight motion; `feed` in mm/s, None for as fast as the axes go."""
    if machine.checking:
        return
    if _beyond(machine, target):
        machine.soft_limit()
        yield Need.EMPTY
        return
    while machine.planner.free <= 0:
        yield Need.ROOM
    settings, start = machine.settings, _planned(machine)
    goal = tuple(round(value * settings[100 + axis]) / settings[100 + axis] for axis, value in enumerate(target))
    far = sqrt(sum((b - a) ** 2 for a, b in zip(start, goal, strict=True)))
    if far < 1e-9:
        return
    unit = [(b - a) / far for a, b in zip(start, goal, strict=True)]
    top = axis_limited(unit, [settings[110 + axis] / 60 for axis in range(3)])
    rate = axis_limited(unit, [settings[120 + axis] for axis in range(3)])
    machine.planner.add(Motion(start, goal, min(top, feed or top), rate, line, jog))


def _arc(machine: Firmware, block: Block, target: Position, scale: float) -> Iterator[Position]:
    """The points of an arc in plane XY, within the arc tolerance `$12`, the last one exact."""
    if machine.modal.plane != "G17":
        raise GcodeError(20)
    if not {"X", "Y"} & set(block.axes):
        raise GcodeError(32)
    start, clockwise = _planned(machine), machine.modal.motion == "G2"
    cx, cy = _centre(block, start, target, scale, clockwise)
    radius = hypot(start[0] - cx, start[1] - cy)
    begin, end = atan2(start[1] - cy, start[0] - cx), atan2(target[1] - cy, target[0] - cx)
    sweep = (begin - end if clockwise else end - begin) % (2 * pi)
    sweep = sweep if sweep > 5e-7 else 2 * pi
    tolerance = max(machine.settings[12], 1e-4)
    parts = max(1, ceil(0.5 * sweep * radius / sqrt(tolerance * max(2 * radius - tolerance, tolerance))))
    for part in range(1, parts):
        share = part / parts
        angle = begin + (-sweep if clockwise else sweep) * share
        height = start[2] + (target[2] - start[2]) * share
        yield (cx + radius * cos(angle), cy + radius * sin(angle), height)
    yield target


def _centre(
    block: Block, start: Position, target: Position, scale: float, clockwise: bool
) -> tuple[float, float]:  # fmt: skip
    values = block.values
    if "R" not in values:
        if not {"I", "J"} & set(values):
            raise GcodeError(35)
        cx, cy = start[0] + values.get("I", 0.0) * scale, start[1] + values.get("J", 0.0) * scale
        here, there = hypot(start[0] - cx, start[1] - cy), hypot(target[0] - cx, target[1] - cy)
        if abs(here - there) > 0.005 and abs(here - there) > 0.001 * here:
            raise GcodeError(33)
        return cx, cy
    radius = values["R"] * scale
    dx, dy = target[0] - start[0], target[1] - start[1]
    far = hypot(dx, dy)
    if far < 1e-9:
        raise GcodeError(33)
    if far > 2 * abs(radius):
        raise GcodeError(34)
    height = sqrt(max(0.0, radius * radius - far * far / 4))
    side = -1 if clockwise == (radius > 0) else 1
    return (start[0] + target[0]) / 2 - side * dy / far * height, (start[1] + target[1]) / 2 + side * dx / far * height


def _stop(machine: Firmware, command: str) -> Steps:
    yield Need.EMPTY
    if command == "M0":
        if not machine.checking:
            machine.pause_program()
            yield Need.EMPTY  # answered once somebody resumes
        return
    if command in ("M2", "M30"):
        modal = machine.modal
        machine.modal = ModalState(motion="G1", units=modal.units, tool=modal.tool, feed=modal.feed)
        machine.set_tool(False, 0.0)
        machine.say("[MSG:Pgm End]")
