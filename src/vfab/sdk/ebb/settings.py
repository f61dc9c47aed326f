"""What a board is told, and how its plotter draws: servo pulses, pen times, microsteps, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfab.sdk.ebb.geometry import Geometry
from vfab.sdk.motion import Limits, PlotProfile
from vfab.sdk.plotter import Machine

__all__ = ["EbbSettings"]

_SERVO_LOW, _SERVO_HIGH = 9855, 27831
"""The pulses, in 1/12 µs, that 0 and 100 per cent stand for in the maker's software."""
_FRAME_MS = 24.0
_SWEEP_MS = 200.0
"""A servo at a rate of 100 per cent goes from 0 to 100 per cent in this time."""
_SERVO_LAG_MS = 45.0
"""The pen arrives this much later than the pulse: the servo and the linkage have mass."""
_DELAY_MAX_MS = 65_535


@dataclass(frozen=True, slots=True)
class EbbSettings:
    """What the board is told, and how the plotter draws.

    Attributes:
        up_pulse, down_pulse: servo pulses, 1/12 µs.
        up_rate, down_rate: change of the pulse in 24 ms, 1/12 µs.
        lift_ms, drop_ms: how long the pen takes.
        geometry: how the motors move the pen.
        microstep_mode: what `EM` is given: 1 for 1/16, 2 for 1/8.
        machine: travel and limits.
    """

    up_pulse: int
    down_pulse: int
    up_rate: int
    down_rate: int
    lift_ms: int
    drop_ms: int
    geometry: Geometry
    microstep_mode: int
    machine: Machine

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        *,
        geometry: Geometry,
        size_mm: tuple[float, float],
        top_speed_mm_s: float,
        microstep_mode: int = 1,
    ) -> EbbSettings:
        """What follows from the settings that all such plotters have, and from the machine."""
        up, down = _pulse(config["pen_up_percent"]), _pulse(config["pen_down_percent"])
        up_rate, down_rate = _rate(config["pen_up_rate_percent"]), _rate(config["pen_down_rate_percent"])
        lift_ms = _time_ms(up - down, up_rate, config["pen_up_delay_ms"])
        drop_ms = _time_ms(up - down, down_rate, config["pen_down_delay_ms"])
        per_mm = geometry.steps_per_mm
        profile = PlotProfile(
            pen_down=Limits(config["speed_mm_s"], config["acceleration_mm_s2"], config["cornering_mm"]),
            pen_up=Limits(config["travel_mm_s"], config["travel_acceleration_mm_s2"], 0.0),
            pen_lift_s=lift_ms / 1000,
            pen_drop_s=drop_ms / 1000,
            simplify_mm=0.4 / per_mm,
            return_home=config["home_after_plot"],
        )
        machine = Machine(*size_mm, profile, 1.0 / per_mm, top_speed_mm_s)
        return cls(up, down, up_rate, down_rate, lift_ms, drop_ms, geometry, microstep_mode, machine)


def _pulse(percent: float) -> int:
    return round(_SERVO_LOW + (_SERVO_HIGH - _SERVO_LOW) * percent / 100)


def _rate(percent: float) -> int:
    return max(1, round((_SERVO_HIGH - _SERVO_LOW) * _FRAME_MS / _SWEEP_MS * percent / 100))


def _time_ms(pulses: int, rate: int, more_ms: float) -> int:
    """How long the servo's way takes, and what the user adds or takes away."""
    whole = abs(pulses) / rate * _FRAME_MS + _SERVO_LAG_MS + more_ms
    return round(min(max(whole, 0.0), _DELAY_MAX_MS))
