"""The firmware of the simulated board, without any I/O: bytes and ticks of 40 µs in, bytes and a drawing out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vfab.protocols import ebb
from vfab.protocols.ebb import NEVER, TICKS_PER_MS, Axis, Firmware
from vfab.sdk.ebb.recording import Recording

__all__ = ["FIFO_MAX", "Board", "Queued", "Settings"]

FIFO_MAX = 32
"""The deepest motion queue of 3.x (`QU,2`)."""
SERVO_FRAME_TICKS = 24 * TICKS_PER_MS
"""A servo's pulse width changes by its rate once in this time."""
PEN_RP = 4
"""The processor's pin RP4, labelled B1, drives the pen servo unless SP says otherwise."""
TOUCH_PULSE = 16_725
"""With `S2` the firmware knows no up and down. AxiDraw's linkage lowers the pen below this pulse (1/12 µs): between the
pulses that its own software and saxi use for up and down."""
STILL = Axis(0, 0, 0, 0, 0)
# How long the parser is busy with a command: what the reference's table of shortest sustained moves says (2.x, 3.x).
_PARSE_MS = {"LM": (3.5, 4.0), "L3": (4.0, 4.0), "LT": (3.5, 4.0), "T3": (4.0, 4.0), "TD": (4.0, 4.0)}
_PARSE_MS |= {"SM": (3.5, 2.0), "XM": (3.5, 2.0), "HM": (5.0, 5.0), "TR": (2.0, 2.0)}
_QUICK_MS = 0.4


@dataclass(slots=True)
class Queued:
    """An entry of the motion queue; `axes` needs the accumulators at the moment when it begins."""

    name: str
    axes: Callable[[int, int], tuple[Axis, Axis]] | None = None
    delay_ticks: int = 0
    servo: tuple[int, int, int] | None = None  # position, RP pin, rate
    enables: tuple[int, int | None] | None = None
    planned: tuple[int, int] = (0, 0)
    """Steps that the command asks for, without sign."""

    @property
    def stoppable(self) -> bool:
        """2.x's ES stops it."""
        return self.axes is not None and self.name != "LT"


@dataclass(slots=True)
class Running:
    entry: Queued
    begun: int
    ends: int
    axes: tuple[Axis, Axis] = (STILL, STILL)
    base: tuple[int, int] = (0, 0)
    counters: tuple[int, int] = (0, 0)
    scale: tuple[int, int] = (1, 1)
    traced: int = 0


@dataclass(slots=True)
class Settings:
    """All that `R` puts back."""

    pen_up_pulse: int = 22_565
    pen_down_pulse: int = 15_302
    rate_up: int = 400
    rate_down: int = 400
    pen_rp: int = PEN_RP
    servo_timeout_ticks: int = 60_000 * TICKS_PER_MS
    fifo_depth: int = 1
    limit_checks: bool = True
    auto_enable: bool = True
    node_count: int = 0
    power_threshold: int = 0
    motor_timeout_s: int = 0
    variables: list[int] = field(default_factory=lambda: [0] * 32)
    pins: dict[tuple[str, int], int] = field(default_factory=dict)


class Board:
    """An EiBotBoard in an AxiDraw.

    Args:
        firmware: which firmware it runs; 2.8 and 3.x are modelled.
        act: does what a command says to the board, and gives the answer.
        instant: each command of the motion queue ends before the next one is parsed; time passes with motion only.
        recording: follows the pen.

    Time is `now`, in ticks of 40 µs; it moves only in `advance` and, on an `instant` board, with each motion.
    """

    def __init__(
        self,
        firmware: Firmware,
        act: Callable[[Board, ebb.Command], bytes],
        recording: Recording | None = None,
        *,
        instant: bool = False,
    ) -> None:
        self.firmware = firmware
        self._instant = instant
        self._act = act
        self.recording = recording or Recording()
        self.server = ebb.Server(firmware)
        self.now = 0
        self.commands = 0
        """How many commands were parsed."""
        self.gaps_ticks: list[int] = []
        """How long the motors stood still between two moves with the pen down because the queue had run dry."""
        self.nickname = ""
        self.rebooting = False
        """`RB` or `BL` came: the board leaves the bus."""
        self.place = (0, 0)
        """Where the motors really stand, in 1/16 steps from home."""
        self.supply = 300
        """What `QC` tells of the power supply; 300 are 9 V."""
        self.command_limit: int | None = None
        """Commands after this many are not taken any more: the board hangs."""
        self._answers: list[tuple[int, bytes]] = []
        self._pulse = (22_565.0, 22_565, 0, 0)  # from, to, rate, since
        self.power_on()

    def power_on(self) -> None:
        """Everything as after plugging in: what `R` and `RB` do. The carriage stays where it is."""
        self.settings = Settings() if self.firmware >= (3,) else Settings(pen_up_pulse=12_000, pen_down_pulse=16_000)
        self.enabled = [False, False]
        self.microstep = 1
        self.pen_up = True
        self.steps = [0, 0]
        self.accumulators = [0, 0]
        self.queue: deque[Queued] = deque()
        self.current: Running | None = None
        self.stuck: ebb.Command | ebb.Rejected | Queued | None = None
        self.said: bytes = b""
        self._ready = 0
        self.button = False
        self.servo_power = False
        self.servo_off_at = NEVER
        here = self._pulse_now()
        self._pulse = (here, round(here), 0, self.now)  # without power the pen stays where it is
        self._touch: tuple[int, bool] | None = None
        self._idle_since: int | None = None

    def power_off(self) -> None:
        """The plug is pulled: all motion ends where it is, and everything but the carriage is as after power-on."""
        self.catch_up()
        self.power_on()
        self.server = ebb.Server(self.firmware)
        self._answers = []

    # outside ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes from the host, at the time `now`."""
        self.server.feed(data)
        self._work()

    def answers(self) -> list[tuple[int, bytes]]:
        """The answers since the last call: each command's number, 1 and up, and the bytes for the host."""
        answers, self._answers = self._answers, []
        return answers

    def outgoing(self) -> bytes:
        """The bytes of `answers`."""
        return b"".join(answer for _, answer in self.answers())

    def press_button(self) -> None:
        """Somebody presses the PRG button."""
        self.button = True

    def next_event(self) -> int | None:
        """The tick at which something happens by itself; None when nothing will."""
        times = []
        if self.current is not None:
            times.append(self.current.ends)
        if self._touch is not None:
            times.append(self._touch[0])
        if self.stuck is not None and self._ready > self.now:
            times.append(self._ready)
        soonest = min(times, default=NEVER)
        return soonest if soonest < NEVER else None

    def advance(self, until: int) -> None:
        """Let time pass up to the tick `until`."""
        while True:
            event = self.next_event()
            if event is None or event > until:
                break
            self._happen(event)
        self.now = max(self.now, until)

    def catch_up(self) -> None:
        """Record a move that is under way up to now."""
        if self.current is not None:
            self._trace(self.current, self.now)

    @property
    def moving(self) -> bool:
        """A command of the motion queue is being executed."""
        return self.current is not None

    # time ------------------------------------------------------------------------------------------------------

    def _happen(self, event: int) -> None:
        self._pass(event)
        self._work()

    def _next_happening(self) -> None:
        event = self.next_event()
        if event is not None:
            self._pass(event)

    def _pass(self, event: int) -> None:
        self.now = max(self.now, event)
        if self._touch is not None and self._touch[0] <= self.now:
            self.catch_up()
            self.recording.touch(self._touch[1])
            self._touch = None
        if self.current is not None and self.current.ends <= self.now:
            self._finish(self.current, self.now)

    def _work(self) -> None:
        """All that the parser can do without time passing."""
        while True:
            if self._instant and self.current is not None and self.current.ends < NEVER:
                self._next_happening()
                continue
            if self.stuck is None:
                if self.command_limit is not None and self.commands >= self.command_limit:
                    return
                self.stuck = self.server.next_command()
                if self.stuck is None:
                    return
                self.commands += 1
                self._ready = self.now if self._instant else self.now + self._parse_ticks(self.stuck)
            if self.now < self._ready or self._must_wait(self.stuck):
                return
            item, self.stuck = self.stuck, None
            if isinstance(item, Queued):
                self.push(item)
                self._answer(self.said)
            elif isinstance(item, ebb.Rejected):
                done = self._act(self, item.command) if item.command is not None else b""
                self._answer(done + self.server.rejected(item))
            else:
                self._answer(self._act(self, item))

    def _answer(self, answer: bytes) -> None:
        if answer:
            self._answers.append((self.commands, answer))

    def _parse_ticks(self, item: ebb.Command | ebb.Rejected | Queued) -> int:
        times = _PARSE_MS.get(item.name)
        ms = times[self.firmware >= (3,)] if times else _QUICK_MS
        return int(ms * TICKS_PER_MS)

    def _must_wait(self, item: ebb.Command | ebb.Rejected | Queued) -> bool:
        if isinstance(item, ebb.HM) or (isinstance(item, ebb.CU) and item.option == 4):
            return self.current is not None or bool(self.queue)
        queued = isinstance(item, Queued) or (isinstance(item, ebb.Command) and _takes_a_place(item))
        return queued and len(self.queue) >= self.settings.fifo_depth

    # the motion queue ------------------------------------------------------------------------------------------

    def push(self, entry: Queued) -> None:
        """Put a command into the motion queue; it begins at once when nothing is being executed."""
        self.queue.append(entry)
        if self.current is None:
            self._begin(self.queue.popleft())

    def _begin(self, entry: Queued) -> None:
        running = Running(entry, self.now, self.now + max(entry.delay_ticks, 1))
        if entry.axes is not None:
            running.axes = entry.axes(*self.accumulators)
            running.ends = min(self.now + max(running.axes[0].ticks, running.axes[1].ticks, 1), NEVER)
            running.base = self.place
            running.counters = (self.steps[0], self.steps[1])
            unit = 1 << (self.microstep - 1)
            running.scale = (unit * self.enabled[0], unit * self.enabled[1])
            if self._idle_since is not None and self.recording.down:
                self.gaps_ticks.append(self.now - self._idle_since)
        elif entry.servo is not None:
            self.move_servo(entry.name, *entry.servo)
        elif entry.enables is not None:
            self._enable(*entry.enables)
        self._idle_since = None
        self.current = running

    def _trace(self, running: Running, now: int) -> None:
        at = min(now, running.ends) - running.begun
        if running.entry.axes is None or at <= running.traced:
            return
        axes = running.axes
        one, two = running.scale
        if one == two:
            self.recording.trace(axes, running.base, one, (running.traced, at))
        else:
            only = (axes[0] if one else STILL, axes[1] if two else STILL)
            self.recording.trace(only, running.base, one or two, (running.traced, at))
        running.traced = at
        taken = (axes[0].steps(at), axes[1].steps(at))
        self.steps = [running.counters[0] + taken[0], running.counters[1] + taken[1]]
        self.place = (running.base[0] + one * taken[0], running.base[1] + two * taken[1])

    def _finish(self, running: Running, now: int) -> None:
        self._trace(running, now)
        if running.entry.axes is not None:
            at = now - running.begun
            self.accumulators = [axis.accumulator(at) for axis in running.axes]
            self._idle_since = now
        self.current = None
        if self.queue:
            self._begin(self.queue.popleft())

    def stop(self, disable: bool) -> str:
        """ES: what it answers. 2.x leaves time-limited moves and everything that is no motion alone."""
        modern = self.firmware >= (3,)
        running = self.current
        waiting = [entry for entry in self.queue if modern or entry.stoppable]
        hit = running is not None and running.entry.axes is not None and (modern or running.entry.stoppable)
        queued = waiting[0].planned if waiting else (0, 0)
        left = (0, 0)
        for entry in waiting:
            self.queue.remove(entry)
        if running is not None and (hit or modern):
            done = [abs(axis.steps(self.now - running.begun)) for axis in running.axes]
            left = (running.entry.planned[0] - done[0], running.entry.planned[1] - done[1])
            self._finish(running, self.now)
            self._idle_since = None
        if disable:
            self.enabled = [False, False]
        interrupted = int(hit or bool(waiting))
        return f"{interrupted}" if modern else f"{interrupted},{queued[0]},{queued[1]},{left[0]},{left[1]}"

    def power_motors(self) -> None:
        """A motion command switches both motors on, unless `CU,50,0` forbids it."""
        if self.settings.auto_enable:
            self.enabled = [True, True]

    def clear_steps(self) -> None:
        """Zero the step counters and the accumulators, without a motor moving."""
        self.steps = [0, 0]
        self.accumulators = [0, 0]
        if self.current is not None:
            done = [axis.steps(self.now - self.current.begun) for axis in self.current.axes]
            self.current.counters = (-done[0], -done[1])

    def _enable(self, one: int, two: int | None) -> None:
        self.enabled[0] = one > 0
        if one:
            self.microstep = one
        if two is not None:
            self.enabled[1] = two > 0
        self.clear_steps()

    # the pen ---------------------------------------------------------------------------------------------------

    def _pulse_now(self) -> float:
        begin, target, rate, since = self._pulse
        if not rate:
            return target
        moved = rate * ((self.now - since) // SERVO_FRAME_TICKS)
        return min(begin + moved, target) if target > begin else max(begin - moved, target)

    def move_servo(self, name: str, position: int, pin: int, rate: int) -> None:
        """A servo sets out; when it is the pen's, plan when the pen reaches or leaves the paper."""
        here = self.settings
        if pin != here.pen_rp:
            return
        begin = self._pulse_now()
        self.pen_up = position == here.pen_up_pulse
        self._pulse = (begin, position, rate, self.now)
        self.power_servo()
        if name == "S2":
            down, middle = position < TOUCH_PULSE, float(TOUCH_PULSE)
        else:
            down, middle = not self.pen_up, (here.pen_up_pulse + here.pen_down_pulse) / 2
        frames = int(abs(middle - begin) / rate) + 1 if rate and (begin - middle) * (position - middle) < 0 else 0
        self._touch = (self.now + frames * SERVO_FRAME_TICKS, down) if down != self.recording.down else None
        if self._touch is not None and not frames:
            self.catch_up()
            self.recording.touch(down)
            self._touch = None

    def power_servo(self, on: bool = True) -> None:
        """Switch the servo's power, and set when it goes off by itself."""
        timeout = self.settings.servo_timeout_ticks
        self.servo_power = on
        self.servo_off_at = self.now + timeout if timeout and on else NEVER


def _takes_a_place(command: ebb.Command) -> bool:
    """Whether a command goes into the motion queue; some do only with certain values."""
    match command:
        case ebb.SP(value=value):
            return value < 2
        case ebb.S2(position=0):
            return False
        case ebb.SE(queued_too=queued_too):
            return queued_too == 1
        case _:
            return command.queued
