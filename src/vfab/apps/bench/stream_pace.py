"""What holds a producer of the stream figures back, so that nothing is lost, and what its readers do: for every peer.

Each reader counts what it has read in a page of memory that all share, and the producer goes on as long as the slowest
is not further behind than what its queue is allowed to hold. No candidate's own flow control is measured, or needed.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "BATCH",
    "FRAME_BYTES",
    "FRAME_WINDOW",
    "MODES",
    "SAMPLE",
    "SAMPLE_WINDOW",
    "Pace",
    "check_frame",
    "joined",
    "new_frame",
    "produce",
    "split",
    "stamp",
]

MODES = ("samples", "batches", "frames")
"""Single samples, batches of samples, frames: each has a stream, or a socket, and a page of its own."""

SAMPLE = bytes(range(64))
BATCH = 256
SAMPLE_WINDOW = 32_768
"""Samples that may be under way."""

FRAME_BYTES = 1920 * 1080 * 2
FRAME_WINDOW = 4
_WINDOWS = {"samples": (SAMPLE_WINDOW, 256), "batches": (SAMPLE_WINDOW // BATCH, 4), "frames": (FRAME_WINDOW, 1)}
"""How much may be under way, and how much is sent before the page is looked at again."""

_PAGE = 4096
_NAP_S = 50e-6
_PATIENCE_S = 30.0


class Pace:
    """The page: one count for each reader, in a file at `path`."""

    def __init__(self, path: Path, readers: int) -> None:
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(mmap.PAGESIZE)
        self._map = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)
        self._counts = memoryview(self._map).cast("Q")[:readers]

    def has_read(self, reader: int, count: int) -> None:
        """Reader number `reader` has read `count` so far."""
        self._counts[reader] = count

    def slowest(self) -> int:
        """How much the slowest reader has read."""
        return min(self._counts)

    def hold(self, sent: int, window: int) -> None:
        """Wait until no reader is more than `window` behind `sent`. Raises TimeoutError: one does not read any more."""
        if sent - self.slowest() <= window:
            return
        until = time.monotonic() + _PATIENCE_S
        while sent - self.slowest() > window:
            if time.monotonic() > until:
                raise TimeoutError("a reader of the bench does not read")
            time.sleep(_NAP_S)

    def close(self) -> None:
        """Let go of the page."""
        self._counts.release()
        self._file.close()


def produce(mode: str, pace: Pace, sent: int, count: int, send: Callable[[int, int], None]) -> float:
    """Have `send(first, end)` send `count` things after the first `sent`, some at a time, held back by `pace`.

    Returns:
        Seconds from the first to when the slowest reader has read the last.
    """
    window, every = _WINDOWS[mode]
    last = sent + count
    begun = time.perf_counter()
    for first in range(sent, last, every):
        pace.hold(first + every, window)
        send(first, min(first + every, last))
    pace.hold(last, 0)
    return time.perf_counter() - begun


def joined() -> bytes:
    """A batch of samples as one piece, made of as many samples, as a driver would."""
    return b"".join([SAMPLE] * BATCH)


def split(batch: bytes) -> list[bytes]:
    """The samples of a batch."""
    return [batch[at : at + len(SAMPLE)] for at in range(0, len(batch), len(SAMPLE))]


def new_frame() -> bytearray:
    """A picture as a camera has it, 1080p in YUYV: its first and last eight bytes are for its number."""
    return bytearray(bytes(range(256)) * (FRAME_BYTES // 256))


def stamp(frame: bytearray | memoryview, number: int) -> None:
    """Write `number` into both ends of `frame`."""
    frame[:8] = frame[-8:] = number.to_bytes(8, "little")


_TOUCHED = 8 * len(range(8, FRAME_BYTES, _PAGE))


def check_frame(frame: bytes | memoryview, number: int) -> None:
    """Look at one byte of every page of `frame`, and at its number at both ends. Raises ValueError: it is not whole."""
    ends = int.from_bytes(frame[:8], "little"), int.from_bytes(frame[-8:], "little")
    if len(frame) != FRAME_BYTES or ends != (number, number) or sum(bytes(frame[8::_PAGE])) != _TOUCHED:
        raise ValueError(f"frame {number} is not whole")
