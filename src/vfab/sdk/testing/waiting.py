"""Waiting in tests: for what shall come true, never for a time; and with more patience where the machine is busy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["patience", "soon"]

_T = TypeVar("_T")
_MOST = 10.0
_LOOK_S = 0.01


def patience(limit_s: float) -> float:
    """`limit_s` seconds as they are on a machine of one's own: longer, up to ten times, while more waits than runs.

    What a test calls too long is a statement on vfab, not on what else runs beside it.
    """
    try:
        waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        waiting = 1.0
    return limit_s * min(_MOST, max(1.0, waiting))


def soon(holds: Callable[[], _T], limit_s: float = 30.0, what: str = "it") -> _T:
    """The first true value of `holds`, which is asked again and again.

    Raises AssertionError: `what` did not come true within `limit_s` seconds, of which a busy machine gives more.
    """
    began = time.monotonic()
    while not (found := holds()):
        waited_s = time.monotonic() - began
        assert waited_s < limit_s or waited_s < patience(limit_s), f"{what} did not come true within {waited_s:.1f} s"
        time.sleep(_LOOK_S)
    return found
