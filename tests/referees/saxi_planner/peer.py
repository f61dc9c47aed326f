"""saxi's planner as a peer: installed by npm on first use, run by node in a process of its own."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vfab.sdk.drawing import Point
from vfab.sdk.motion import Limits, PlotProfile

HERE = Path(__file__).resolve().parent
INSTALL_TIMEOUT_S = 240
PLAN_TIMEOUT_S = 240


class PeerMissing(Exception):
    """saxi cannot be run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class SaxiPlan:
    """What saxi plans: whole time, each stroke's, each travel's (the last leads home), the servo motion after that."""

    planned_s: float
    strokes_s: list[float]
    travels_s: list[float]
    last_servo_s: float
    segments_per_s: float


def install() -> None:
    """Install saxi beside this file, unless it is there. No install scripts run: the planner is plain JavaScript."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise PeerMissing(f"{tool} is not installed; Debian has it in the packages nodejs and npm")
    with (HERE / "package.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (HERE / "node_modules" / "saxi" / "dist" / "server" / "planning.js").exists():
            return
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                command, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as err:
            raise PeerMissing("npm could not fetch saxi in time") from err
        if done.returncode:
            raise PeerMissing(f"npm could not install saxi: {done.stderr.strip()[-300:]}")


def saxi_plan(paths: Sequence[Sequence[Point]], profile: PlotProfile | None = None, *, repeat: int = 1) -> SaxiPlan:
    """Plan `paths` (mm) with saxi under the profile's limits; the speed is the best of `repeat` runs in one process."""
    install()
    profile = profile or PlotProfile()
    job = {
        "paths": [[list(point) for point in path] for path in paths],
        "repeat": repeat,
        "pen_down": asdict(profile.pen_down),
        "pen_up": asdict(profile.pen_up),
        "pen_lift_s": profile.pen_lift_s,
        "pen_drop_s": profile.pen_drop_s,
    }
    command = ["node", "--stack-size=8000", str(HERE / "plan.js")]
    done = subprocess.run(
        command, cwd=HERE, input=json.dumps(job), capture_output=True, text=True, timeout=PLAN_TIMEOUT_S, check=True
    )
    return SaxiPlan(**json.loads(done.stdout))


def saxi_order(paths: Sequence[Sequence[Point]], join_mm: float) -> list[list[Point]]:
    """The paths as saxi sorts and joins them before it plans."""
    install()
    job = json.dumps({"paths": [[list(point) for point in path] for path in paths], "join_mm": join_mm})
    command = ["node", "--stack-size=8000", str(HERE / "order.js")]
    done = subprocess.run(
        command, cwd=HERE, input=job, capture_output=True, text=True, timeout=PLAN_TIMEOUT_S, check=True
    )
    return [[(x, y) for x, y in path] for path in json.loads(done.stdout)]


def saxi_planned_s(paths: Sequence[Sequence[Point]], limits: Limits | None = None) -> float:
    """Seconds that saxi plans for a drawing with these pen-down limits and the defaults for everything else."""
    return saxi_plan(paths, PlotProfile(pen_down=limits or Limits())).planned_s
