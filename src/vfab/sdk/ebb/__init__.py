"""Plotters with an EiBotBoard: what their drivers and their simulators share.

A driver is `EbbPlotter` with a geometry; its simulator is `EbbSimulator` with the same one.
"""

from __future__ import annotations

from vfab.sdk.ebb.geometry import Geometry, HBot, TwoAxes
from vfab.sdk.ebb.plotter import EbbPlotter
from vfab.sdk.ebb.recording import Recording
from vfab.sdk.ebb.settings import EbbSettings
from vfab.sdk.ebb.simulator import EbbSimulator
from vfab.sdk.ebb.steps import STEPS_PER_MM, TOP_SPEED_MM_S

__all__ = [
    "STEPS_PER_MM",
    "TOP_SPEED_MM_S",
    "EbbPlotter",
    "EbbSettings",
    "EbbSimulator",
    "Geometry",
    "HBot",
    "Recording",
    "TwoAxes",
]
