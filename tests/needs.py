"""What tests need that is not in the checkout. Without it they are skipped and say how to get it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

__all__ = ["program", "receiver_log"]

_RECEIVERS = Path(__file__).parent / "peers" / "receivers"


def program(name: str, *, package: str) -> str:
    """The path of the program `name`; without it the test is skipped, naming the Debian package that has it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: sudo apt-get install {package})")
    return path


def receiver_log(name: str, folder: Path = _RECEIVERS) -> Path:
    """The log `PACKAGE/PATH` of a satellite receiver, which an npm package in `folder` carries."""
    path = folder / "node_modules" / name
    if not path.is_file():
        pytest.skip(f"{name} is not installed: cd tests/peers/receivers && npm ci --ignore-scripts")
    return path
