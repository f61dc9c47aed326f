"""Every test here runs in a home of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.programs import Vfab


@pytest.fixture
def vfab(tmp_path: Path) -> Iterator[Vfab]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VFAB_")}
    env = {**kept, "HOME": str(tmp_path), "VFAB_HOME": str(tmp_path / "home"), "NO_COLOR": "1", "COLUMNS": "100"}
    made = Vfab(tmp_path, env)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
