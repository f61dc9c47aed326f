"""The firmware of a simulated GRBL machine, without any I/O: bytes and seconds in, bytes and a path out.

Time is `now`, in seconds; it passes in `advance` only, or, on an `instant` machine, as fast as the motion needs it.
What a line does is in `program.py`; here is what runs beside it: motion, holds, alarms, resets and reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from math import inf
from typing import Protocol

from vfab.protocols.grbl.gcode import GcodeError, ModalState
from vfab.protocols.grbl.planner import BLOCKS, Planner
from vfab.protocols.grbl.program import Need, execute
from vfab.protocols.grbl.realtime import Realtime
from vfab.protocols.grbl.server import RX_BYTES, InputBuffer
from vfab.protocols.grbl.settings import SETTINGS
from vfab.protocols.grbl.status import Position, State, Status, format_status

__all__ = ["Firmware", "Observer", "Silent"]

AXES = 3
_MOMENT_S = 1e-9
_WCO_EVERY, _OVERRIDES_EVERY = 30, 20
_FEED_STEPS = {
    Realtime.FEED_PLUS_10: 10, Realtime.FEED_MINUS_10: -10, Realtime.FEED_PLUS_1: 1, Realtime.FEED_MINUS_1: -1,
}  # fmt: skip
_SPINDLE_STEPS = {
    Realtime.SPINDLE_PLUS_10: 10, Realtime.SPINDLE_MINUS_10: -10, Realtime.SPINDLE_PLUS_1: 1,
    Realtime.SPINDLE_MINUS_1: -1,
}  # fmt: skip
_RAPIDS = {Realtime.RAPID_100: 100, Realtime.RAPID_50: 50, Realtime.RAPID_25: 25}


class Observer(Protocol):
    """Follows the real machine."""

    def go(self, at: Position) -> None:
        """The carriage goes straight to `at`, in millimetres from where it stood when first switched on."""

    def tool(self, on: bool, speed: float) -> None:
        """The spindle output changes: on or off, and its speed."""


class Silent:
    """An observer that looks away."""

    def go(self, at: Position) -> None:
        """Nothing."""

    def tool(self, on: bool, speed: float) -> None:
        """Nothing."""


class _Stop(Enum):
    """Why motion is being held."""

    HOLD = "hold"
    DOOR = "door"
    JOG = "jog"
    SOFT_LIMIT = "soft limit"


class Firmware:
    """GRBL 1.1h, or grblHAL as far as it differs to a sender.

    Args:
        settings: over the defaults of `SETTINGS`.
        hal: welcome, options and buffer size of grblHAL.
        instant: motion takes no time for whoever watches.
        blocks: motions that the planner holds.
        rx_bytes: of the receive buffer.
        parse_s: how long a line takes to be parsed; more makes a slow planner.
        forced_origin: built so that homing makes the switch the origin, with the machine's space on the positive side
            of a negative switch.
        observer: follows the carriage and the tool.

    Attributes:
        lines: lines that were answered.
        modal: the parser's state.
        offsets: stored coordinates by name: G54 … G59, G28, G30.
        g92: the temporary offset.
        door_open: the door's switch.
    """

    def __init__(
        self,
        settings: Mapping[int, float] | None = None,
        *,
        hal: bool = False,
        instant: bool = False,
        blocks: int = BLOCKS,
        rx_bytes: int = RX_BYTES,
        parse_s: float = 0.0008,
        forced_origin: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self.defaults = {number: known.default for number, known in SETTINGS.items()} | dict(settings or {})
        self.settings = dict(self.defaults)
        self.hal, self.blocks, self.parse_s, self.forced_origin = hal, blocks, parse_s, forced_origin
        self.observer: Observer = observer or Silent()
        self.input = InputBuffer(self._realtime, rx_bytes)
        self.planner = Planner(self._corner, blocks)
        self.offsets: dict[str, Position] = {}
        self.startup = ["", ""]
        self.info = ""
        self.now = 0.0
        self.lines = 0
        self.door_open = False
        self.line_limit: int | None = None
        self._instant = instant
        self._base: Position = (0.0,) * AXES
        self._out: list[tuple[int, bytes]] = []
        self._clear()
        self.position: Position = (0.0,) * AXES

    # life --------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """The plug goes in: the carriage stays where it is, and the firmware takes that for zero."""
        self._base = tuple(base + at for base, at in zip(self._base, self.position, strict=True))
        self.position = (0.0,) * AXES
        self.input.clear()
        self._clear()
        self._out = []
        self.alarmed = bool(self.settings[22])
        self._boot()

    def power_off(self) -> None:
        """The plug is pulled: motion ends where it is, the tool is off."""
        self._stop_motion()
        self.observer.tool(False, 0.0)
        self._clear()
        self.input.clear()
        self._out = []

    def _clear(self) -> None:
        """What a reset forgets."""
        self.modal = ModalState()
        self.g92: Position = (0.0,) * AXES
        self.tool_length = 0.0
        self.alarmed = self.sleeping = self.checking = self.homing = self.critical = False
        self.overrides = [100, 100, 100]
        self._stopping: _Stop | None = None
        self._stopped = False
        self._task: Iterator[Need | float] | None = None
        self._need: Need | None = None
        self._ready_s = 0.0
        self._reports = 0
        self.tool_on = False
        self.planner.scale = 1.0
        self.planner.deviation = self.settings[11]

    def _boot(self) -> None:
        name = "GrblHAL 1.1f ['$' or '$HELP' for help]" if self.hal else "Grbl 1.1h ['$' for help]"
        self.say("", name)
        if self.alarmed:
            self.say("[MSG:'$H'|'$X' to unlock]")
            return
        for text in self.startup:
            if text:
                self._startup_line(text)

    def _startup_line(self, text: str) -> None:
        try:
            for _ in execute(self, text):
                pass
        except GcodeError as error:
            self.say(f">{text}:error:{error.code}")
        else:
            self.say(f">{text}:ok")

    # outside -----------------------------------------------------------------------------------------------------

    def say(self, *lines: str, number: int = 0) -> None:
        """Send lines; `number` is that of the line that they answer, 0 for what nobody asked."""
        self._out.extend((number, line.encode() + b"\r\n") for line in lines)

    def answers(self) -> list[tuple[int, bytes]]:
        """What was sent since the last call: each line with the number of the line that it answers, or 0."""
        out, self._out = self._out, []
        return out

    def outgoing(self) -> bytes:
        """The bytes of `answers`."""
        return b"".join(data for _, data in self.answers())

    def receive(self, data: bytes) -> None:
        """Bytes from the host, at the time `now`."""
        # byte by byte where they come faster than lines are read would be exact; the ring takes what one read brings
        for at in range(0, len(data), 32):
            self.input.feed(data[at : at + 32])
            self._work()
            if self._instant:
                self._run_out()

    def _run_out(self) -> None:
        while (event := self.next_event_s()) is not None:
            self._pass_to(event)
            self._work()

    def next_event_s(self) -> float | None:
        """When something happens by itself; None when nothing will."""
        soonest = self.now + self.planner.next_event_s() if not self.planner.empty else inf
        if self._task is not None and self._need is None and not self._suspended and self._ready_s > self.now:
            soonest = min(soonest, self._ready_s)
        return None if soonest == inf else soonest

    def advance(self, until_s: float) -> None:
        """Let time pass up to `until_s`."""
        self._work()
        while (event := self.next_event_s()) is not None and event <= until_s:
            self._pass_to(event)
            self._work()
        self._pass_to(until_s)

    def catch_up(self) -> None:
        """Show the observer where the carriage is now."""
        at = self.planner.position
        if at is not None:
            self._corner(at)

    def trip_limit(self) -> None:
        """A limit switch closes: everything stops at once."""
        self._stop_motion()
        self._alarm(1)
        self.critical = True
        self.say("[MSG:Reset to continue]")

    def reboot(self) -> None:
        """The processor begins anew, as after a dip of its supply: position and settings of the session are lost."""
        self.power_off()
        self.power_on()

    def _pass_to(self, then: float) -> None:
        left = then - self.now
        while not self.planner.empty:
            phase = self.planner.next_event_s()
            if phase > left + _MOMENT_S:
                self.planner.advance(left)
                break
            self.planner.advance(phase)  # also when it is too short for the clock to show
            left = max(0.0, left - phase)
            self._settle()
        self.now = max(self.now, then)
        self._settle()

    # motion ------------------------------------------------------------------------------------------------------

    def _corner(self, at: Position) -> None:
        steps = [self.settings[100 + axis] for axis in range(AXES)]
        self.position = tuple(round(value * per) / per for value, per in zip(at, steps, strict=True))
        self.observer.go(tuple(base + value for base, value in zip(self._base, self.position, strict=True)))

    def _stop_motion(self) -> None:
        self.planner.clear()

    def place(self, at: Position) -> None:
        """Homing: the carriage now stands at `at`, and its switches say that this is true."""
        self._base = (0.0,) * AXES
        self._corner(at)

    def here(self) -> Position:
        """Where the carriage is, machine millimetres."""
        at = self.planner.position
        return self.position if at is None else at

    @property
    def wco(self) -> Position:
        """The work coordinate offset."""
        stored = self.offsets.get(self.modal.coordinates, (0.0,) * AXES)
        made = [a + b for a, b in zip(stored, self.g92, strict=True)]
        made[2] += self.tool_length
        return tuple(made)

    def set_tool(self, on: bool, speed: float) -> None:
        """Switch the spindle output."""
        self.tool_on = on
        self.observer.tool(on, speed if on else 0.0)

    # the main program --------------------------------------------------------------------------------------------

    @property
    def _suspended(self) -> bool:
        return self._stopping in (_Stop.HOLD, _Stop.DOOR, _Stop.SOFT_LIMIT) or self.sleeping or self.critical

    def _work(self) -> None:
        """Run lines until one waits, or there is none."""
        while not self._suspended:
            if self._task is None:
                if self.line_limit is not None and self.lines >= self.line_limit:
                    return
                found = self.input.next_line()
                if found is None:
                    return
                self._task, self._need = self._answer(*found), None
                self._ready_s = self.now + (0.0 if self._instant else self.parse_s)
            if not self._may_go_on():
                return
            task = self._task
            try:
                wanted = next(task)
            except StopIteration:
                if self._task is task:
                    self._task = None
                continue
            self._need = wanted if isinstance(wanted, Need) else None
            if not isinstance(wanted, Need):
                self._ready_s = self.now + wanted

    def _may_go_on(self) -> bool:
        if self._need is Need.ROOM:
            return self.planner.free > 0
        if self._need is Need.EMPTY:
            return self.planner.empty and self._stopping is None
        return self.now >= self._ready_s

    def _answer(self, text: str, too_long: bool) -> Iterator[Need | float]:
        result = "ok"
        try:
            if too_long:
                raise GcodeError(11)
            yield from execute(self, text)
        except GcodeError as error:
            result = f"error:{error.code}"
        self.lines += 1
        self.say(result, number=self.lines)

    # holds and alarms --------------------------------------------------------------------------------------------

    def soft_limit(self) -> None:
        """A target lies outside: slow down, then the alarm."""
        self._hold(_Stop.SOFT_LIMIT)

    def pause_program(self) -> None:
        """M0."""
        self._hold(_Stop.HOLD)

    def _hold(self, why: _Stop) -> None:
        self._stopping, self._stopped = why, False
        self.planner.hold()
        self._settle()

    def _settle(self) -> None:
        """What is to be done once held motion has come to rest."""
        if self._stopping is None or self._stopped or self.planner.moving:
            return
        self._stopped = True
        match self._stopping:
            case _Stop.JOG:
                self.planner.clear()
                self._stopping = None
            case _Stop.SOFT_LIMIT:
                self.planner.clear()
                self._stopping = None
                self._alarm(2)
                self.critical = True
                self.say("[MSG:Reset to continue]")
            case _Stop.DOOR:
                self.observer.tool(False, 0.0)
            case _Stop.HOLD:
                pass

    def _alarm(self, code: int) -> None:
        self.alarmed = True
        self._stopping = None
        self._task = None
        self.observer.tool(False, 0.0)
        self.tool_on = False
        self.say(f"ALARM:{code}")

    def unlock(self) -> None:
        """$X."""
        if self.alarmed:
            self.alarmed = False
            self.say("[MSG:Caution: Unlocked]")

    # real-time commands --------------------------------------------------------------------------------------------

    def _realtime(self, command: Realtime) -> None:
        match command:
            case Realtime.STATUS:
                self.say(self._report())
            case Realtime.RESET:
                self._soft_reset()
            case Realtime.HOLD:
                self._feed_hold()
            case Realtime.RESUME:
                self._resume()
            case Realtime.DOOR:
                if not self.alarmed and not self.sleeping:
                    self._hold(_Stop.DOOR)
            case Realtime.JOG_CANCEL:
                if self._jogging and self._stopping is None:
                    self._hold(_Stop.JOG)
            case _:
                self._override(command)

    def _feed_hold(self) -> None:
        if self.alarmed or self.checking or self.sleeping or self.homing or self._stopping is not None:
            return
        self._hold(_Stop.JOG if self._jogging else _Stop.HOLD)

    def _resume(self) -> None:
        if not self._stopped or self._stopping not in (_Stop.HOLD, _Stop.DOOR):
            return
        if self._stopping is _Stop.DOOR:
            if self.door_open:
                return
            self.observer.tool(self.tool_on, self.modal.speed)
        self._stopping, self._stopped = None, False
        self.planner.go()
        self._work()

    def _override(self, command: Realtime) -> None:
        feed, rapid, spindle = self.overrides
        if command is Realtime.FEED_100:
            feed = 100
        elif command is Realtime.SPINDLE_100:
            spindle = 100
        feed = min(max(feed + _FEED_STEPS.get(command, 0), 10), 200)
        spindle = min(max(spindle + _SPINDLE_STEPS.get(command, 0), 10), 200)
        self.overrides = [feed, _RAPIDS.get(command, rapid), spindle]
        self.planner.set_scale(feed / 100)
        self._reports = 0

    def _soft_reset(self) -> None:
        moving, homing = self.planner.moving and self.planner.speed > 0, self.homing
        locked = self.alarmed or self.sleeping
        self._stop_motion()
        if moving or homing:
            self._alarm(6 if homing else 3)
            locked = True
        self.observer.tool(False, 0.0)
        self.input.clear()
        self._clear()
        self.alarmed = locked
        self._boot()

    # reports -----------------------------------------------------------------------------------------------------

    @property
    def _jogging(self) -> bool:
        current = self.planner.current
        return current is not None and current.jog

    @property
    def state(self) -> tuple[State, int | None]:
        """The state that a report shows, and its number behind the colon."""
        if self.sleeping:
            return State.SLEEP, None
        if self.alarmed:
            return State.ALARM, None
        if self.homing:
            return State.HOME, None
        if self._stopping is _Stop.DOOR:
            return State.DOOR, (1 if self.door_open else 0) if self._stopped else 2
        if self._stopping in (_Stop.HOLD, _Stop.SOFT_LIMIT):
            return State.HOLD, 0 if self._stopped else 1
        if self.checking:
            return State.CHECK, None
        if self._jogging:
            return State.JOG, None
        return (State.IDLE if self.planner.empty else State.RUN), None

    def _report(self) -> str:
        state, substate = self.state
        steps = [self.settings[100 + axis] for axis in range(AXES)]
        at = tuple(round(value * per) / per for value, per in zip(self.here(), steps, strict=True))
        current = self.planner.current
        status = Status(
            state,
            substate,
            mpos=at,
            planner_free=self.planner.free,
            rx_free=self.input.free,
            line=current.line if current is not None else None,
            feed=self.planner.speed * 60,
            spindle=self.modal.speed if self.tool_on else 0.0,
            pins="D" if self.door_open else "",
            overrides=(self.overrides[0], self.overrides[1], self.overrides[2]),
            accessories="S" if self.tool_on else "",
            wco=self.wco,
        )
        count, self._reports = self._reports, self._reports + 1
        return format_status(
            status,
            int(self.settings[10]),
            with_wco=count % _WCO_EVERY == 0,
            with_overrides=count % _OVERRIDES_EVERY == 1,
        )
