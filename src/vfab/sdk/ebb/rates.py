"""How the firmware turns steps and milliseconds into the rates of its step generator, and what it refuses."""

from __future__ import annotations

import struct

from vfab.protocols.ebb import Firmware

__all__ = ["REFUSED_2", "motor_rate", "proportional_rates", "refusal"]

FULL = 2**31
_FLOAT = struct.Struct("f")
_MASK = 0xFFFF_FFFF
REFUSED_2 = 0xFF_FFFF
"""2.x takes no more steps and no more milliseconds than this."""


def _f32(value: float) -> float:
    """Rounded to the 32-bit float that the board computes with."""
    return float(_FLOAT.unpack(_FLOAT.pack(value))[0])


def motor_rate(steps: int, duration_ms: int, firmware: Firmware) -> int:
    """The rate with which `SM` and `XM` spread `steps` over `duration_ms`; 2³¹ is 25,000 steps/s.

    0 when there are no steps. Above 2³¹, or 0 although there are steps, the move cannot be made (see `refusal`).
    """
    steps = abs(steps)
    if not steps:
        return 0
    if firmware >= (3,):
        return int(_f32(_f32(steps) * _f32(_f32(85899345.92) / _f32(duration_ms))))
    ticks = 25 * duration_ms
    if steps < 0x1FFFF:
        whole, rest = divmod((steps << 15) & _MASK, ticks)
        # the firmware saves itself the second division on short moves, and lets the shift overflow on long ones
        fine = ((rest << 16) & _MASK) // ticks if duration_ms > 30 else 0
    else:
        whole, fine = (steps // duration_ms) * 0x8000 // 25, 0
    return min((max(min(whole, 0x8000), 1) << 16) + fine, FULL - 1)


def proportional_rates(steps1: int, steps2: int, rate: int) -> tuple[int, int]:
    """The rates of `HM` and `TR` on 3.x: `rate` steps/s for the motor that goes farther, the other in proportion."""
    one, two = abs(steps1), abs(steps2)
    most = max(one, two)
    full = _f32(_f32(rate) * _f32(85899.34592))

    def share(steps: int) -> int:
        if not steps or steps == most:
            return min(int(full), FULL - 1) if steps else 0
        return max(min(int(_f32(_f32(_f32(steps) * _f32(rate)) / _f32(most)) * _f32(85899.34592)), FULL - 1), 1)

    return share(one), share(two)


def refusal(duration_ms: int, steps: tuple[int, int], firmware: Firmware) -> str | None:
    """The text of error 0 with which `SM` and `XM` refuse a move; None when they take it."""
    if firmware < (3,) and duration_ms > REFUSED_2:
        return "<move_duration> larger than 16777215 ms."
    for axis, signed in enumerate(steps, start=1):
        count = abs(signed)
        if firmware >= (3,):
            rate = motor_rate(count, duration_ms, firmware)
            if rate > FULL:
                return f"<axis{axis}> step rate too high"
            if count and not rate:
                return f"<axis{axis}> step rate too slow"
        elif count > REFUSED_2:
            return f"<axis{axis}> larger than 16777215 steps."
        elif count // duration_ms > 25:
            return f"<axis{axis}> step rate > 25K steps/second."
        elif count and duration_ms // 1311 >= count:
            return f"<axis{axis}> step rate < 1.31Hz."
    return None
