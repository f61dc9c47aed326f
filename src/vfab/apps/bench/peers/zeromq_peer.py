"""ZeroMQ over Unix sockets: one publisher for each mode, subscribers in processes of their own, no limit to queues.

As its users would have it at its best: small messages are copied, frames are sent from where they were made and looked
at where they were received.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vfab.apps.bench.peers.process import say_ready
from vfab.apps.bench.stream_pace import FRAME_WINDOW, MODES, SAMPLE, Pace, joined, new_frame, produce, stamp
from vfab.apps.bench.stream_reader import page_of

__all__ = ["address_of", "subscribed"]


def address_of(folder: Path, mode: str) -> str:
    """Where the publisher of `mode` is."""
    return f"ipc://{folder}/zeromq-{mode}"


def subscribed(address: str, *, in_place: bool) -> Callable[[], Any]:
    """What receives the next message: bytes, or a view of where it lies. Raises ImportError: pyzmq is not installed."""
    import zmq

    socket: Any = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(address)
    if in_place:
        return lambda: socket.recv(copy=False).buffer
    receive: Callable[[], Any] = socket.recv
    return receive


def serve(folder: Path, readers: int) -> None:
    """Publish; each line `MODE COUNT` of standard input is answered by the seconds that it took."""
    import zmq

    sockets: dict[str, Any] = {}
    for mode in MODES:
        sockets[mode] = zmq.Context.instance().socket(zmq.XPUB)
        sockets[mode].setsockopt(zmq.SNDHWM, 0)
        sockets[mode].setsockopt(zmq.XPUB_VERBOSE, 1)
        sockets[mode].bind(address_of(folder, mode))
    paces = {mode: Pace(page_of(folder, mode), readers) for mode in MODES}
    sent = dict.fromkeys(MODES, 0)
    sends = {
        "samples": _sample(sockets["samples"]),
        "batches": _batch(sockets["batches"]),
        "frames": _frame(sockets["frames"]),
    }
    say_ready()
    for socket in sockets.values():
        for _ in range(readers):
            socket.recv()  # a subscription: nothing is lost from here on
    say_ready()
    for line in sys.stdin:
        mode, count = line.split()
        seconds = produce(mode, paces[mode], sent[mode], int(count), sends[mode])
        sent[mode] += int(count)
        sys.stdout.write(json.dumps(seconds) + "\n")
        sys.stdout.flush()


def _sample(socket: Any) -> Callable[[int, int], None]:
    send = socket.send

    def some(first: int, end: int) -> None:
        for _ in range(first, end):
            send(SAMPLE)

    return some


def _batch(socket: Any) -> Callable[[int, int], None]:
    def some(first: int, end: int) -> None:
        for _ in range(first, end):
            socket.send(joined())

    return some


def _frame(socket: Any) -> Callable[[int, int], None]:
    source = new_frame()
    rooms = [memoryview(bytearray(len(source))) for _ in range(FRAME_WINDOW + 2)]

    def some(first: int, end: int) -> None:
        for number in range(first, end):
            room = rooms[number % len(rooms)]
            stamp(source, number)
            room[:] = source  # the camera makes its picture
            socket.send(room, copy=False)

    return some


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
