"""How long a command takes from start to end, the whole process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vfab.apps.bench.findings import Session
from vfab.apps.bench.measure import take_turns

__all__ = ["KEYS", "run"]

KEYS = ("cli_help_ms", "cli_driver_list_ms")
_ARGUMENTS = {"cli_help_ms": ["--help"], "cli_driver_list_ms": ["driver", "list"]}
_NOTHING = "python -c pass"


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    wanted = {key: arguments for key, arguments in _ARGUMENTS.items() if key in session.wanted}
    program = _program()
    rounds = session.many(6, 20)
    session.say(f"{', '.join(wanted)}: {rounds} × each command")
    env = {**os.environ, "VFAB_HOME": str(session.folder / "home")}
    candidates = {key: _process([*program, *arguments], env) for key, arguments in wanted.items()}
    candidates[_NOTHING] = _process([sys.executable, "-c", "pass"], env)
    taken = take_turns(candidates, rounds=rounds, warm=2)
    for key in wanted:
        session.findings.distribution(key, taken[key])
        session.findings.distribution(key, taken[_NOTHING], _NOTHING)


def _program() -> list[str]:
    beside = Path(sys.executable).parent / "vfab"
    found = str(beside) if beside.exists() else shutil.which("vfab")
    return [found] if found else [sys.executable, "-P", "-m", "vfab.apps.cli.main"]


def _process(command: list[str], env: dict[str, str]) -> Callable[[], None]:
    def run_it() -> None:
        done = subprocess.run(command, env=env, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace')[-500:]}")

    return run_it
