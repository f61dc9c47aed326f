"""A child that says one line when it is ready, and ends when its standard input is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["child", "end_with_parent", "say_ready", "start"]

START_S = 30.0


def start(
    arguments: Sequence[str], *, pass_fds: Sequence[int] = (), env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start this Python with `arguments` and wait for its first line.

    Raises RuntimeError: it ended before.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=tuple(pass_fds),
        env=env,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(START_S, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    if not line:
        end(process)
        raise RuntimeError(f"python {' '.join(arguments)} ended before it was ready")
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Close its standard input, which ends it; what does not end is killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


@contextmanager
def child(
    arguments: Sequence[str], *, pass_fds: Sequence[int] = (), env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`start`, and `end` at the end of the block."""
    process = start(arguments, pass_fds=pass_fds, env=env)
    try:
        yield process
    finally:
        end(process)


def say_ready() -> None:
    """In the child: say that it serves."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def end_with_parent() -> None:
    """In the child: end this process as soon as standard input is closed."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
