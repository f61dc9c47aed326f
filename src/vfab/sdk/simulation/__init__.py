"""What simulators of devices share: the cable's far end, faults on request, a program's frame, what a pen drew.

A simulator is a plugin's own program; this is for its author, as `vfab.sdk.testing` is for the author of its tests.
"""

from __future__ import annotations

from vfab.sdk.simulation.faults import SLOW_S, Fault, Kind, garbled
from vfab.sdk.simulation.links import PtyLink, TcpLink, raw_pty
from vfab.sdk.simulation.machine import A4_LANDSCAPE_MM, MachineSimulator
from vfab.sdk.simulation.program import arguments, page_mm, refused, serve, serve_until_told, speed_factor
from vfab.sdk.simulation.strokes import StrokeRecord, simplified

__all__ = [
    "A4_LANDSCAPE_MM",
    "SLOW_S",
    "Fault",
    "Kind",
    "MachineSimulator",
    "PtyLink",
    "StrokeRecord",
    "TcpLink",
    "arguments",
    "garbled",
    "page_mm",
    "raw_pty",
    "refused",
    "serve",
    "serve_until_told",
    "simplified",
    "speed_factor",
]
