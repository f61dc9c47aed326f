"""Trying a suspect out: its device is connected by a process of its own, whose death is the evidence."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["TRIAL_S", "try_out"]

TRIAL_S = 60.0
"""How long a trial may take; one that hangs would hang the node, too."""

_SHARED = ("config.yaml", "plugins", "run/simulators")


async def try_out(env: Mapping[str, str], home: Path, device: str, driver: str) -> str:
    """Connect `device` with `driver` in another process: "" when that process lived, else how it died.

    That it cannot connect is nobody's death. The process has a home of its own, in which it finds no node to harm.
    """
    with _trial_home(home) as own:
        command = [
            sys.executable, "-P", "-m", "vfab.apps.cli.main", "device", "connect", device, "--driver", driver, "--json",
            "--no-node",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**env, "VFAB_HOME": str(own)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            status = await asyncio.wait_for(process.wait(), TRIAL_S)
        except TimeoutError:
            return f"it hung for {TRIAL_S:g} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return f"signal {-status} ended it" if status < 0 else ""


@contextlib.contextmanager
def _trial_home(home: Path) -> Iterator[Path]:
    """A home with the settings, plugins and simulators of `home`, and nothing else of it."""
    own = Path(tempfile.mkdtemp(prefix="trial-", dir=home / "run"))
    try:
        (own / "run").mkdir(mode=0o700)
        for name in _SHARED:
            if (home / name).exists():
                (own / name).symlink_to(home / name)
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
