"""Node packages that tests use as outside referees: one folder with a `package-lock.json` each, below `tests/`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from debian import apt_install

NODE_MIN = 18


def install_node_packages(root: Path, may_install: bool) -> list[str]:
    """Install the packages of every such folder; returns one sentence for each thing that could not be installed."""
    locks = sorted(path for path in (root / "tests").rglob("package-lock.json") if "node_modules" not in path.parts)
    due = [lock.parent for lock in locks if not _is_installed(lock)]
    if not due:
        return []
    fault = _ensure_npm(may_install)
    if fault:
        return [f"{fault} Skipped for that: the tests that use {_named(folder, root)}." for folder in due]
    return [problem for folder in due if (problem := _npm_ci(folder, root))]


def _named(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root))


def _mark(lock: Path) -> tuple[Path, str]:
    return lock.parent / "node_modules" / ".vfab-installed", hashlib.sha256(lock.read_bytes()).hexdigest()


def _is_installed(lock: Path) -> bool:
    mark, digest = _mark(lock)
    return mark.is_file() and mark.read_text(encoding="utf-8") == digest


def _node_major() -> int:
    """The major version of `node`; 0 when there is none that runs."""
    if not shutil.which("node") or not shutil.which("npm"):
        return 0
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    digits = done.stdout.strip().lstrip("v").partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _ensure_npm(may_install: bool) -> str:
    """Node and npm, installed as Debian packages when that is allowed; "" when they are there, else what to do."""
    if _node_major() >= NODE_MIN:
        return ""
    if not may_install:
        return f"Node {NODE_MIN} or newer with npm is not installed (on Debian: sudo apt-get install nodejs npm)."
    print("vfab: installing the Debian packages nodejs and npm, which the referee tests need", flush=True)
    if problem := apt_install("nodejs", "npm"):
        return f"The Debian packages nodejs and npm could not be installed: {problem}."
    return "" if _node_major() >= NODE_MIN else f"Debian's Node is older than {NODE_MIN}."


def _npm_ci(folder: Path, root: Path) -> str:
    """Install one folder's packages exactly as locked, running none of their scripts; "" or what went wrong."""
    print(f"vfab: installing the Node packages of {_named(folder, root)}", flush=True)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        return f"npm ci failed in {_named(folder, root)}, whose tests are skipped: {words[-1]}"
    mark, digest = _mark(folder / "package-lock.json")
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(digest, encoding="utf-8")
    return ""
