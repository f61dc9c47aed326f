"""What is told while a drawing is read and sorted, before there is a plan with a duration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from vfab.sdk.plot_job import PROGRESS_S

__all__ = ["PlanningProgress"]

_QUIET_S: Final = 1.0
"""Planning that takes less than this is not told of: most files take milliseconds."""


class PlanningProgress:
    """Passes on how far reading and sorting have come, when it takes long and not too often.

    Args:
        tell: is given `phase` ("planning"), `step` ("reading" elements, "joining" or "sorting" strokes), and `done`
            and `total`, which count those.
        clock: seconds that never go back.
    """

    def __init__(self, tell: Callable[..., Any], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._next_s = clock() + _QUIET_S

    def __call__(self, step: str, done: int, total: int) -> None:
        """So much of a step is done."""
        now = self._clock()
        if now >= self._next_s:
            self._next_s = now + PROGRESS_S
            self._tell(phase="planning", step=step, done=min(done, total), total=total)
