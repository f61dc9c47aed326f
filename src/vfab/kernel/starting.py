"""A simulator that is about to serve says so at once: a scan that begins meanwhile waits for it a moment.

`vfab sim run axidraw &` and, on the next line, `vfab plot drawing.svg` start at the same time; the plot should not
depend on which of the two imports faster. Little is imported here, so that the mark is there as early as can be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["AWAITED_S", "await_starting", "starting"]

AWAITED_S = 3.0
"""How long a scan waits at most, in seconds."""
_OLD_S = 15.0
_LOOK_S = 0.05


@contextmanager
def starting(folder: Path) -> Iterator[Callable[[], None]]:
    """Mark this process as a simulator that starts, until the given function is called or the context ends.

    Where `folder` cannot be written there is no mark: what follows will tell.
    """
    mark = folder / f"{os.getpid()}.starting"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch(mode=0o600)

    def serves() -> None:
        with suppress(OSError):
            mark.unlink(missing_ok=True)

    try:
        yield serves
    finally:
        serves()


def await_starting(
    folder: Path,
    timeout_s: float = AWAITED_S,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until no simulator of `folder` starts any more, at most `timeout_s` seconds."""
    until = clock() + timeout_s
    while any(list(map(_starts, folder.glob("*.starting")))) and clock() < until:  # looks at every mark
        sleep(_LOOK_S)


def _starts(mark: Path) -> bool:
    """Whether its process lives and began not long ago; the mark of one that does not is removed."""
    try:
        os.kill(int(mark.stem), 0)
        if time.time() - mark.stat().st_mtime < _OLD_S:
            return True
    except PermissionError:  # another user's process has the number now
        pass
    except (OSError, ValueError):  # it is gone, the mark maybe, too
        pass
    with suppress(OSError):
        mark.unlink(missing_ok=True)
    return False
