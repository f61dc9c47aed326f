"""What each command does to the simulated board, and what the board answers."""

from __future__ import annotations

from collections.abc import Callable

from vfab.protocols import ebb
from vfab.protocols.ebb import TICKS_PER_MS, Axis, Command
from vfab.protocols.ebb.server import ERRORS
from vfab.sdk.ebb.board import FIFO_MAX, Board, Queued
from vfab.sdk.ebb.rates import REFUSED_2, motor_rate, proportional_rates, refusal

__all__ = ["act"]

Axes = Callable[[int, int], tuple[Axis, Axis]]
LONGEST_DELAY_MS = 100_000
_MICROSTEPS = {1: 16, 2: 8, 3: 4, 4: 2, 5: 1}


def act(board: Board, command: Command) -> bytes:
    """Do what `command` says to `board`; the answer."""
    if isinstance(command, ebb.CU):
        return _configure_user(board, command)
    text = _query(board, command)
    if text is not None:
        return board.server.data(command, text)
    error = _move(board, command) if command.queued else _set(board, command)
    if error is not None:
        return board.server.error(command.name, *error)
    if isinstance(command, ebb.TD):
        # the second half waits for its own place in the queue, and only then is the command answered
        board.said, board.stuck = board.server.ok(command), _second_half(command, board)
        return b""
    return board.server.ok(command)


Error = tuple[int, str] | None
_INVALID: Error = (6, ERRORS[6])


# queries -------------------------------------------------------------------------------------------------------


def _query(board: Board, command: Command) -> str | None:
    match command:
        case ebb.V():
            return f"EBBv13_and_above EB Firmware Version {board.firmware}"
        case ebb.QS():
            board.catch_up()
            return f"{board.steps[0]},{board.steps[1]}"
        case ebb.QM():
            status = _motion_bits(board)
            return f"{status >> 3},{status >> 2 & 1},{status >> 1 & 1},{status & 1}"
        case ebb.QG():
            high = 0 if board.firmware >= (3,) else 0xC0  # 2.x: pins RB2 and RB5, pulled up
            status = _motion_bits(board) | board.pen_up << 4 | board.button << 5 | high
            board.button = False
            return f"{status:02X}"
        case ebb.QB():
            pressed, board.button = board.button, False
            return str(int(pressed))
        case ebb.QP():
            return str(int(board.pen_up))
        case ebb.QR():
            return str(int(board.servo_power and board.now < board.servo_off_at))
        case ebb.QC():
            return f"0394,{board.supply:04d}"
        case ebb.QE():
            return ",".join(str(_MICROSTEPS[board.microstep] * on) for on in board.enabled)
        case ebb.QT():
            return board.nickname
        case ebb.ES(disable_motors=disable):
            return board.stop(disable == 1)
        case _:
            return _minor_query(board, command)


def _minor_query(board: Board, command: Command) -> str | None:
    match command:
        case ebb.QL(index=index):
            return str(board.settings.variables[index or 0])
        case ebb.QN():
            return str(board.settings.node_count)
        case ebb.QU(number=number):
            return _utility(board, number)
        case ebb.PI(port=port, pin=pin):
            return str(_pin(board, port, pin))
        case ebb.I():
            return "128,255,130,000,007"
        case ebb.A():
            return "00:0394"
        case ebb.MR():
            return "000"
        case _:
            return None


def _motion_bits(board: Board) -> int:
    queued = bool(board.queue)
    running = board.current
    moving = [False, False]
    if running is not None and running.entry.axes is not None:
        moving = [board.now - running.begun < axis.ticks for axis in running.axes]
    executing = running is not None or queued
    return executing << 3 | moving[0] << 2 | moving[1] << 1 | queued


def _utility(board: Board, number: int) -> str:
    values = {
        1: "00",
        2: str(FIFO_MAX),
        3: str(board.settings.fifo_depth),
        4: "E71",
        5: "E71",
        6: str(len(board.queue)),
        60: str(board.settings.power_threshold),
        61: str(board.settings.motor_timeout_s),
        200: f"{board.accumulators[0]},{board.accumulators[1]}",
    }
    return values.get(number, "0")


def _pin(board: Board, port: str, pin: int) -> int:
    fine = board.microstep
    wired = {
        ("E", 0): int(not board.enabled[0]),
        ("C", 1): int(not board.enabled[1]),
        ("E", 2): int(fine in (1, 2, 4)),  # MS1
        ("E", 1): int(fine in (1, 2, 3)),  # MS2
        ("A", 6): int(fine == 1),  # MS3
    }
    pull_up = 1 if port == "B" else 0
    return wired.get((port, pin), board.settings.pins.get((port, pin), pull_up))


# settings ------------------------------------------------------------------------------------------------------


def _set(board: Board, command: Command) -> Error:
    here = board.settings
    match command:
        case ebb.SC(number=number, value=value):
            _configure_servo(board, number, value)
        case ebb.CS():
            board.catch_up()
            board.clear_steps()
        case ebb.SL(value=value, index=index):
            here.variables[index or 0] = value
        case ebb.SN(value=value):
            here.node_count = value
        case ebb.NI() | ebb.ND():
            here.node_count = (here.node_count + (1 if command.name == "NI" else -1)) % 2**32
        case ebb.SR(timeout_ms=timeout, state=state):
            here.servo_timeout_ticks = timeout * TICKS_PER_MS
            if state is not None:
                board.power_servo(state == 1)
        case ebb.ST(nickname=name):
            board.nickname = name
        case ebb.PO(port=port, pin=pin, value=value):
            here.pins[port, pin] = value
        case ebb.R():
            board.power_on()
            board.server.reset()
        case ebb.RB() | ebb.BL():
            board.rebooting = True
        case _:
            pass  # directions and latches of pins that drive nothing in an AxiDraw
    return None


def _configure_servo(board: Board, number: int, value: int) -> None:
    here = board.settings
    match number:
        case 4:
            here.pen_up_pulse = value
        case 5:
            here.pen_down_pulse = value
        case 10:
            here.rate_up = here.rate_down = value
        case 11:
            here.rate_up = value
        case 12:
            here.rate_down = value
        case _:
            pass  # drivers' wiring, solenoid, servo slots: nothing that an AxiDraw has


def _configure_user(board: Board, command: ebb.CU) -> bytes:
    server, here, modern = board.server, board.settings, board.firmware >= (3,)
    option, value = command.option, command.value
    if option == 10 and modern and value in (0, 1):
        return server.switch(ebb.Syntax(value))
    flags = {1, 2, 3, 10, 50, 53, 54}
    if modern and option in flags and value not in (0, 1):
        return server.error("CU", *_invalid())
    match option:
        case 1:
            server.acknowledges = bool(value)
        case 2:
            here.limit_checks = bool(value)
        case 4 if modern:
            here.fifo_depth = max(1, min(value, FIFO_MAX))
        case 50 if modern:
            here.auto_enable = bool(value)
        case 54 if modern:
            server.checksums = bool(value)
        case 60 if modern:
            here.power_threshold = value
        case 61 if modern:
            here.motor_timeout_s = value
        case _:
            pass
    return server.ok(command)


def _invalid() -> tuple[int, str]:
    return 6, ERRORS[6]


# the motion queue ----------------------------------------------------------------------------------------------


def _move(board: Board, command: Command) -> Error:
    match command:
        case ebb.SM(duration_ms=duration, steps1=one, steps2=two, clear=clear):
            return _steady(board, command, duration, (one, two or 0), clear or 0)
        case ebb.XM(duration_ms=duration, steps_a=a, steps_b=b, clear=clear):
            return _steady(board, command, duration, (a + b, a - b), clear or 0)
        case ebb.LM() | ebb.L3():
            return _step_limited(board, command)
        case ebb.LT(intervals=ticks, rate1=r1, accel1=a1, rate2=r2, accel2=a2, clear=clear):
            if board.firmware < (3,) and not r1 and not r2:
                return _INVALID
            _push_timed(board, "LT", ticks, ((r1, a1, 0), (r2, a2, 0)), clear)
        case ebb.T3(intervals=ticks, rate1=r1, accel1=a1, jerk1=j1, rate2=r2, accel2=a2, jerk2=j2, clear=clear):
            _push_timed(board, "T3", ticks, ((r1, a1, j1), (r2, a2, j2)), clear)
        case ebb.TD(intervals=ticks, rate1a=r1, jerk1=j1, rate2a=r2, jerk2=j2, clear=clear):
            _push_timed(board, "T3", ticks, ((r1, 0, j1), (r2, 0, j2)), clear)
        case ebb.HM(rate=rate, position1=one, position2=two):
            return _home(board, rate, one or 0, two or 0)
        case ebb.TR(rate=rate, steps1=one, steps2=two, clear=clear):
            board.power_motors()
            board.push(_at_rates("TR", (one, two or 0), proportional_rates(one, two or 0, rate), clear or 0))
        case ebb.EM(enable1=one, enable2=two):
            board.push(Queued("EM", enables=(one, two)))
        case _:
            _pen(board, command)
    return None


def _at_rates(name: str, steps: tuple[int, int], rates: tuple[int, int], clear: int) -> Queued:
    def axes(acc1: int, acc2: int) -> tuple[Axis, Axis]:
        return (
            ebb.steady_axis(rates[0], steps[0], accumulator=0 if clear & 1 else acc1),
            ebb.steady_axis(rates[1], steps[1], accumulator=0 if clear & 2 else acc2),
        )

    return Queued(name, axes, planned=(abs(steps[0]), abs(steps[1])))


def _steady(board: Board, command: Command, duration_ms: int, legs: tuple[int, int], clear: int) -> Error:
    if legs == (0, 0):
        board.push(Queued(command.name, delay_ticks=min(duration_ms, LONGEST_DELAY_MS) * TICKS_PER_MS))
        return None
    text = refusal(duration_ms, legs, board.firmware) if board.settings.limit_checks else None
    if text is not None:
        return 0, text
    rates = [min(motor_rate(steps, duration_ms, board.firmware), 2**31 - 1) for steps in legs]
    rates = [rate or int(steps != 0) for rate, steps in zip(rates, legs, strict=True)]
    board.power_motors()
    board.push(_at_rates(command.name, legs, (rates[0], rates[1]), clear))
    return None


def _step_limited(board: Board, command: ebb.LM | ebb.L3) -> Error:
    jerks = (command.jerk1, command.jerk2) if isinstance(command, ebb.L3) else (0, 0)
    first = (command.rate1, command.steps1, command.accel1, jerks[0])
    second = (command.rate2, command.steps2, command.accel2, jerks[1])
    if any(rate < 0 and steps < 0 for rate, steps, _, _ in (first, second)):
        return _INVALID
    if not any(steps and (rate or accel or jerk) for rate, steps, accel, jerk in (first, second)):
        return _INVALID
    clear, firmware = command.clear or 0, board.firmware

    def axes(acc1: int, acc2: int) -> tuple[Axis, Axis]:
        return (
            ebb.lm_axis(*first, accumulator=None if clear & 1 else acc1, firmware=firmware),
            ebb.lm_axis(*second, accumulator=None if clear & 2 else acc2, firmware=firmware),
        )

    board.power_motors()
    board.push(Queued(command.name, axes, planned=(abs(command.steps1), abs(command.steps2))))
    return None


Profile = tuple[int, int, int]
"""Rate, acceleration and jerk of one motor."""


def _timed(board: Board, name: str, ticks: int, profiles: tuple[Profile, Profile], clear: int) -> Queued:
    firmware = board.firmware
    one, two = profiles

    def axes(acc1: int, acc2: int) -> tuple[Axis, Axis]:
        return (
            ebb.lt_axis(ticks, *one, accumulator=None if clear & 1 else acc1, firmware=firmware),
            ebb.lt_axis(ticks, *two, accumulator=None if clear & 2 else acc2, firmware=firmware),
        )

    return Queued(name, axes)


def _push_timed(board: Board, name: str, ticks: int, profiles: tuple[Profile, Profile], clear: int | None) -> None:
    board.power_motors()
    board.push(_timed(board, name, ticks, profiles, clear or 0))


def _second_half(command: ebb.TD, board: Board) -> Queued:
    one = (command.rate1b, command.accel1, -command.jerk1)
    two = (command.rate2b, command.accel2, -command.jerk2)
    return _timed(board, "T3", command.intervals, (one, two), command.clear or 0)


def _home(board: Board, rate: int, one: int, two: int) -> Error:
    legs = (one - board.steps[0], two - board.steps[1])
    if legs == (0, 0) and board.firmware >= (3,):
        return None
    board.power_motors()
    if board.firmware >= (3,):
        board.push(_at_rates("HM", legs, proportional_rates(*legs, rate), 0))
        return None
    return _home_2(board, rate, legs)


def _home_2(board: Board, rate: int, legs: tuple[int, int]) -> Error:
    """2.x's way home: in whole milliseconds, and in two legs where the shorter one would be too slow for it."""
    short, far = sorted((abs(legs[0]), abs(legs[1])))
    if far > REFUSED_2:
        return 0, "steps to home larger than 16,777,215."
    duration = max(far * 1000 // rate, 10)
    if not far:
        board.push(Queued("HM", delay_ticks=duration * TICKS_PER_MS))
        return None
    if short and duration // 1311 >= short:
        first = (short if legs[0] > 0 else -short, short if legs[1] > 0 else -short)
        _push_leg(board, first, max(short * 1000 // rate, 1))
        legs = (legs[0] - first[0], legs[1] - first[1])
    _push_leg(board, legs, duration)
    return None


def _push_leg(board: Board, legs: tuple[int, int], duration_ms: int) -> None:
    rates = [motor_rate(steps, duration_ms, board.firmware) for steps in legs]
    board.push(_at_rates("HM", legs, (rates[0], rates[1]), 3))


# the pen -------------------------------------------------------------------------------------------------------


def _pen(board: Board, command: Command) -> None:
    here = board.settings
    match command:
        case ebb.SP(value=value, duration_ms=delay, pin=pin):
            here.pen_rp = (1 if pin is None else pin) + 3
            _servo(board, value, delay or 0)
        case ebb.TP(duration_ms=delay):
            _servo(board, int(not board.pen_up), delay or 0)
        case ebb.S2(position=0, output_pin=pin):
            pass  # the servo goes limp: an AxiDraw's pen stays where it is
        case ebb.S2(position=position, output_pin=pin, rate=rate, delay_ms=delay):
            board.push(Queued("S2", None, (delay or 0) * TICKS_PER_MS, (position, pin, rate or 0)))
        case _:
            raise AssertionError(f"{command.name} is not a command of the motion queue")


def _servo(board: Board, value: int, delay_ms: int) -> None:
    here = board.settings
    if value >= 2:
        if value == 3:
            here.pen_down_pulse = here.pen_up_pulse
            for entry in board.queue:
                if entry.servo is not None and entry.servo[1] == here.pen_rp:
                    entry.servo = (here.pen_up_pulse, here.pen_rp, entry.servo[2])
        board.move_servo("SP", here.pen_up_pulse, here.pen_rp, here.rate_up)
        return
    up = value == 1
    board.power_servo()
    position, rate = (here.pen_up_pulse, here.rate_up) if up else (here.pen_down_pulse, here.rate_down)
    board.push(Queued("SP", None, delay_ms * TICKS_PER_MS, (position, here.pen_rp, rate)))
