"""One reader of the stream figures, a process of its own: of a ring of vfab's, or of a ZeroMQ socket.

Told `MODE COUNT` on a line of standard input it reads so many of that mode, looks at each of them, and counts them in
the page that holds the producer back. It dies of what is lost or not whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vfab.apps.bench.peers.process import say_ready
from vfab.apps.bench.stream_pace import MODES, SAMPLE, Pace, check_frame, split

__all__ = ["page_of", "serve"]

_EVERY = 64
_WAIT_S = 30.0

Read = Callable[[int], None]
"""Reads so many of one mode."""


def page_of(folder: Path, mode: str) -> Path:
    """Where the counts of the readers of `mode` are."""
    return folder / f"pace-{mode}"


def _check_batch(batch: bytes) -> None:
    """What every reader does with a batch. Raises ValueError: it is not what was sent."""
    for sample in split(batch):
        if sample != SAMPLE:
            raise ValueError("a batch is not whole")


def _check_sample(sample: bytes) -> None:
    """What every reader does with a sample. Raises ValueError: it is not what was sent."""
    if sample != SAMPLE:
        raise ValueError("a sample is not whole")


def _of_ring(mode: str, descriptors: tuple[int, int], pace: Pace, reader: int) -> Read:
    from vfab.sdk.ring import RingMemory
    from vfab.sdk.stream_ends import StreamReader
    from vfab.sdk.stream_words import StreamInfo

    stream = StreamReader(StreamInfo(name=mode), RingMemory(*descriptors))
    done = 0
    check = _check_batch if mode == "batches" else _check_sample

    def read(count: int) -> None:
        nonlocal done
        until = done + count
        while done < until:
            found = stream.read_data(timeout_s=_WAIT_S)
            for data in found:
                check(data)
            done += len(found)
            pace.has_read(reader, done)
            if stream.lost:
                raise ValueError(f"{stream.lost} were lost")

    def look(count: int) -> None:
        nonlocal done
        until = done + count
        while done < until:
            looked = stream.look()
            if looked is None:
                stream.wait(_WAIT_S)
                continue
            check_frame(looked[0].data, done)
            if not stream.done(looked) or stream.lost:
                raise ValueError("a frame was lost")
            done += 1
            pace.has_read(reader, done)

    return look if mode == "frames" else read


def _of_socket(mode: str, address: str, pace: Pace, reader: int) -> Read:
    from vfab.apps.bench.peers.zeromq_peer import subscribed

    receive = subscribed(address, in_place=mode == "frames")
    check = _check_batch if mode == "batches" else _check_sample
    every = _EVERY if mode == "samples" else 1
    done = 0

    def read(count: int) -> None:
        nonlocal done
        for done in range(done + 1, done + count + 1):  # noqa: B020 — counts on
            check(receive())
            if not done % every:
                pace.has_read(reader, done)

    def look(count: int) -> None:
        nonlocal done
        for done in range(done + 1, done + count + 1):  # noqa: B020 — counts on
            check_frame(receive(), done - 1)
            pace.has_read(reader, done)

    return look if mode == "frames" else read


def serve(told: dict[str, Any]) -> None:
    """Read whenever told to, until standard input is closed."""
    folder, reader, readers = Path(told["folder"]), told["reader"], told["readers"]
    reads: dict[str, Read] = {}
    for mode in MODES:
        pace = Pace(page_of(folder, mode), readers)
        if "rings" in told:
            reads[mode] = _of_ring(mode, tuple(told["rings"][mode]), pace, reader)
        else:
            reads[mode] = _of_socket(mode, told["sockets"][mode], pace, reader)
    say_ready()
    for line in sys.stdin:
        mode, count = line.split()
        reads[mode](int(count))


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
