"""What a test needs from the machine: a program of Debian's. Without it the test is skipped and names the package."""

from __future__ import annotations

import shutil

import pytest

__all__ = ["program"]


def program(name: str, *, package: str) -> str:
    """The path of the program `name`; without it the test is skipped, naming the Debian package that has it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: sudo apt-get install {package})")
    return path
