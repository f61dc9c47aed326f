"""Where an interrupted plot goes on: one small file in the driver's state folder, replaced whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vfab.model.errors import Refused
from vfab.sdk.drawing import Drawing, Point
from vfab.sdk.motion import Resume
from vfab.sdk.plot_job import Reached
from vfab.sdk.plot_options import PlotOptions

__all__ = ["Checkpoint", "CheckpointFile", "fingerprint"]

_VERSION = 1
_NAME = "interrupted-plot.json"


def fingerprint(svg: bytes) -> str:
    """What tells one file from another: the SHA-256 of its bytes."""
    import hashlib

    return hashlib.sha256(svg).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far an interrupted plot has certainly come.

    Attributes:
        svg_sha256: of the file.
        shape: the options that decide which strokes there are.
        source: the file's name.
        stroke, point, at: as in `Resume`.
        x_mm, y_mm: where the pen was then, in machine millimetres.
        done_mm: length drawn with the pen down, by all runs together.
        strokes: how many strokes the drawing has.
        time: seconds since 1970.
    """

    svg_sha256: str
    shape: dict[str, Any]
    source: str
    stroke: int
    point: int
    at: Point | None
    x_mm: float
    y_mm: float
    done_mm: float
    strokes: int
    time: float = field(default_factory=time.time)

    @classmethod
    def of(cls, mark: str, options: PlotOptions, drawing: Drawing, reached: Reached, before_mm: float) -> Checkpoint:
        """The checkpoint for `reached`, in a run that began when `before_mm` had been drawn."""
        resume = reached.resume
        return cls(
            mark,
            options.shape(),
            drawing.source,
            resume.stroke,
            resume.point,
            resume.at,
            reached.at[0],
            reached.at[1],
            before_mm + reached.done_mm,
            len(drawing.paths),
        )

    @property
    def resume(self) -> Resume:
        """Where to go on."""
        return Resume(self.stroke, self.point, self.at)


class CheckpointFile:
    """The file that holds the checkpoint of the latest interrupted plot.

    Args:
        folder: the driver's state folder; None keeps nothing.
        log: for what goes wrong in saving, which never ends a plot.

    Attributes:
        path: the file; None when nothing is kept.
        elsewhere: another device's file, when `load_for` found the checkpoint there.
    """

    def __init__(self, folder: Path | None, log: logging.Logger) -> None:
        self.path = folder / _NAME if folder is not None else None
        self.elsewhere: Path | None = None
        self._log = log

    def save(self, checkpoint: Checkpoint, *, lasting: bool) -> None:
        """Replace the file. `lasting` waits until the disk has it, which may take tens of milliseconds."""
        if self.path is None:
            return
        temporary = self.path.with_suffix(".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                json.dump({"version": _VERSION, **asdict(checkpoint)}, file)
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            self._log.warning("the place to resume from cannot be saved in %s: %s", self.path, error)

    def remove(self) -> None:
        """The plot is complete: there is nothing to go on with."""
        for path in (self.path, self.elsewhere):
            try:
                if path is not None:
                    path.unlink(missing_ok=True)
            except OSError as error:
                self._log.warning("%s cannot be removed: %s", path, error)

    def load(self, path: Path | None = None) -> Checkpoint | None:
        """The checkpoint in `path`, the device's own if None; None when there is none, or it makes no sense."""
        path = path or self.path
        if path is None:
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("version") != _VERSION:
                return None
            at = data.pop("at")
            return Checkpoint(**data, at=(float(at[0]), float(at[1])) if at is not None else None)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            self._log.warning("%s makes no sense: %s", path, error)
            return None

    def _load_from_elsewhere(self, svg_sha256: str, shape: Mapping[str, Any]) -> Checkpoint | None:
        """The newest checkpoint of this very plot among those of other devices that the same driver drives.

        Many boards have no serial number: plugged into another port they are another device.
        """
        if self.path is None:
            return None
        newest: Checkpoint | None = None
        for path in self.path.parent.parent.glob(f"*/{_NAME}"):
            found = self.load(path) if path != self.path else None
            fits = found is not None and found.svg_sha256 == svg_sha256 and not _changed(found.shape, shape)
            if found is not None and fits and (newest is None or found.time > newest.time):
                newest, self.elsewhere = found, path
        return newest

    def load_for(self, svg_sha256: str, options: PlotOptions) -> Checkpoint:
        """The checkpoint of the plot of this very file with these options.

        Raises Refused: there is none, or it is of another file or of other options; the message names them.
        """
        found = self.load()
        if found is None or found.svg_sha256 != svg_sha256:
            found = self._load_from_elsewhere(svg_sha256, options.shape()) or found
        if found is None:
            raise Refused(
                "there is no interrupted plot to resume",
                context={"folder": str(self.path.parent) if self.path else None},
                remedy="Plot the file from its beginning, without --resume.",
            )
        if found.svg_sha256 != svg_sha256:
            raise Refused(
                f"the interrupted plot is of {found.source or 'another file'}, and this file differs from it",
                context={"interrupted": found.source, "file": options.source},
                remedy="Resume with the file as it was, or plot this one from its beginning, without --resume.",
            )
        changed = _changed(found.shape, options.shape())
        if changed:
            listed = ", ".join(f"{name} was {found.shape.get(name)!r}" for name in changed)
            raise Refused(
                f"the interrupted plot had other options: {listed}",
                context={"changed": changed, "interrupted": {name: found.shape.get(name) for name in changed}},
                remedy="Resume with the options of the interrupted plot, or plot from the beginning, without --resume.",
            )
        return found


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in now if before.get(name) != now[name]]
