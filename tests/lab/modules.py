"""Modules of the lab's kernel, and what appears when they are loaded."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from vfab.sdk.testing import soon

__all__ = ["appears", "load", "unload", "until"]

_T = TypeVar("_T")


def load(*module_and_options: str) -> None:
    """Load a module with its options (they have a `=`), or several modules; skips the test if the kernel has it not."""
    if any("=" in part for part in module_and_options):
        commands = [list(module_and_options)]
    else:
        commands = [[name] for name in module_and_options]
    for command in commands:
        done = subprocess.run(["modprobe", *command], capture_output=True, text=True, check=False)
        if "not found" in done.stderr:
            pytest.skip(f"the lab's kernel has no module {command[0]}")
        assert done.returncode == 0, done.stderr


def unload(name: str) -> None:
    """Take a module out."""
    subprocess.run(["modprobe", "-r", name], check=True)


def until(condition: Callable[[], _T], what: str, limit_s: float = 20.0) -> _T:
    """`soon`, with what is waited for first: hardware has names."""
    return soon(condition, limit_s, what)


def appears(path: str) -> Path:
    """Wait for a device node."""
    until(Path(path).exists, f"{path} exists")
    return Path(path)
