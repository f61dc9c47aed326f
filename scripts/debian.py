"""Debian packages, when this user may install them. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def may_install() -> bool:
    """Whether this process may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(*packages: str) -> str:
    """Install the packages; "" on success, else why not: apt's own last words."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    lists = Path("/var/lib/apt/lists")
    steps = [install, ["apt-get", "update", "-qq"], install]
    if not any(lists.glob("*Packages*")):
        steps = steps[1:]
    for step in steps:
        done = subprocess.run(step, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if step is install and done.returncode == 0:
            return ""
    words = (done.stderr or done.stdout).strip().splitlines()
    return words[-1] if words else f"apt-get ended with exit code {done.returncode}"
