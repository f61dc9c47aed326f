"""What is carried over when a plot goes on in another process: how far it is, and what was drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vfab.sdk.motion import Resume
from vfab.sdk.plot_job import PlotJob, Reached

__all__ = ["CarriedPlot"]


@dataclass(frozen=True, slots=True)
class CarriedPlot:
    """A plot that stopped between two strokes, or is paused in one.

    Attributes:
        stroke: the next one to draw.
        point, at: where in it, and where the pen was lifted, where it was paused in a stroke.
        paused: somebody paused it.
        drawn: what was commanded with the pen down, a polyline a stroke, machine millimetres.
        done_s, done_mm: planned seconds and length behind it, by all processes.
        total_mm, planned_s: as they were when the plot began.
        elapsed_s: seconds since it began.
        figures: of the report, as they were when the plot began.
    """

    stroke: int
    drawn: list[list[list[float]]]
    done_s: float
    done_mm: float
    total_mm: float
    planned_s: float
    elapsed_s: float
    figures: dict[str, Any]
    point: int = 0
    at: list[float] | None = None
    paused: bool = False

    @property
    def resume(self) -> Resume:
        """Where to go on."""
        return Resume(self.stroke, self.point, (self.at[0], self.at[1]) if self.at is not None else None)

    @classmethod
    def of(cls, job: PlotJob, elapsed_s: float, figures: Mapping[str, Any]) -> CarriedPlot:
        """What `job` has done."""
        drawn = [[[x, y] for x, y in line] for line in job.drawn]
        last, resume = job.last, job.last.resume
        return cls(
            resume.stroke,
            drawn,
            last.done_s,
            last.done_mm,
            job.total_mm,
            job.planned_s,
            elapsed_s,
            dict(figures),
            resume.point,
            list(resume.at) if resume.at is not None else None,
            job.is_paused,
        )

    @classmethod
    def from_dict(cls, given: Mapping[str, Any] | None) -> CarriedPlot | None:
        """What `to_dict` made; None of None."""
        return cls(**given) if given is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for another process."""
        return asdict(self)

    def put_into(self, job: PlotJob, left_s: float) -> None:
        """Have `job`, which draws the rest in `left_s` planned seconds, go on counting where the other one stopped."""
        job.drawn = [[(x, y) for x, y in line] for line in self.drawn]
        job.total_mm, job.planned_s = self.total_mm, self.planned_s
        job.last = Reached(self.resume, job.last.at, self.done_s, self.done_mm)
        job.go_on(left_s)
        if self.paused:
            job.ask_pause()
