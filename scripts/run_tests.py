"""Runs the test suite: first installs what tests need beyond Python, then says what it could not, then pytest.

`--gates` measures coverage, child processes included, and fails when a room of `tests/gates.py` is below its gate.
`--html` writes the same as pages. Everything else goes to pytest. Pytest's summary is the last line printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from debian import may_install
from node_packages import install_node_packages
from test_packages import install_test_packages

ROOT = Path(__file__).resolve().parent.parent


def workers() -> list[str]:
    """pytest-xdist's arguments: one worker a core, four at most, because many tests measure time."""
    count = os.environ.get("TEST_WORKERS") or str(min(4, os.cpu_count() or 1))
    return ["-n", count, "--dist", "loadgroup"] if count not in {"0", "1"} else []


def main() -> int:
    chosen = sys.argv[1:]
    gates = "--gates" in chosen
    html = "--html" in chosen
    rest = [part for part in chosen if part not in {"--gates", "--html"}]
    could_not = install_test_packages(may_install()) + install_node_packages(ROOT, may_install())
    for line in could_not:
        print(f"vfab: {line}", flush=True)
    command = [sys.executable, "-m", "pytest"]
    if gates:
        command += ["--cov", "--cov-report=", "--room-gates"] + (["--cov-report=html"] if html else [])
    if not any(part.startswith("-n") for part in rest):
        command += workers()
    env = {**os.environ, "VFAB_TEST_COULD_NOT": "\n".join(could_not)}
    return subprocess.run([*command, *rest], cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
