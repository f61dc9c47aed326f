"""One caller in a process of its own: it calls when it is told to, and says how long each call took.

A process for each candidate, for a library disturbs its neighbours: with a gRPC channel open in the same process every
other call took 40 µs instead of 15.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns
from types import TracebackType
from typing import Any

from vfab.apps.bench.kernel import LiveKernel
from vfab.apps.bench.peers.process import child

__all__ = [
    "BARE",
    "GRPC",
    "GRPC_AIO",
    "IN_FLIGHT",
    "NOT_CONFINED",
    "OURS",
    "PYRO",
    "RPYC",
    "STREAMS",
    "TANGO",
    "Client",
]

OURS, NOT_CONFINED = "vfab", "vfab, not confined"
BARE, PYRO, RPYC, GRPC, TANGO = "bare socket", "Pyro5", "rpyc", "gRPC", "PyTango"
STREAMS, GRPC_AIO = "asyncio streams", "gRPC asyncio"
IN_FLIGHT = 64

Turn = Callable[[int], list[float]]
"""Makes so many calls; microseconds of each, or calls per second of all."""


class Client:
    """The parent's end: a process that makes the calls of the candidate `name`.

    Args:
        name: who calls.
        folder: for sockets.
        together: both ends run on one core, where the system can keep them there.

    Raises ImportError: its library is not installed.
    """

    def __init__(self, name: str, folder: Path, *, together: bool = False) -> None:
        self.name = name
        self._stack = ExitStack()
        arguments = ["-m", __name__, name, str(folder), *(["together"] if together else [])]
        self._process = self._stack.enter_context(child(arguments))
        problem = self._answer()
        if problem:
            self._stack.close()
            raise ImportError(problem)

    def turn(self, method: str, count: int) -> list[float]:
        """Have `count` calls made: `nop`, `blob`, `later` (from asyncio), `many` (64 in flight) or `batch`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, count]).encode() + b"\n")
        self._process.stdin.flush()
        found: list[float] = self._answer()
        return found

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the caller of {self.name} ended")
        return json.loads(line)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _each(call: Callable[[], Any]) -> Turn:
    def turn(count: int) -> list[float]:
        samples: list[float] = []
        call()
        for _ in range(count):
            begun = perf_counter_ns()
            call()
            samples.append((perf_counter_ns() - begun) / 1e3)
        return samples

    return turn


def _together(many: Callable[[int], None]) -> Turn:
    def turn(count: int) -> list[float]:
        begun = perf_counter()
        many(count)
        return [count / (perf_counter() - begun)]

    return turn


async def _later(call: Callable[[], Awaitable[Any]], count: int) -> list[float]:
    samples: list[float] = []
    await call()
    for _ in range(count):
        begun = perf_counter_ns()
        await call()
        samples.append((perf_counter_ns() - begun) / 1e3)
    return samples


async def _in_flight(call: Callable[[], Awaitable[Any]], count: int) -> None:
    async def caller() -> None:
        for _ in range(count // IN_FLIGHT):
            await call()

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


def _ours(folder: Path, stack: ExitStack, *, confined: bool = True) -> dict[str, Turn]:
    kernel = stack.enter_context(LiveKernel(folder, confined=confined))
    device = kernel.run(kernel.connected())
    channel = stack.enter_context(kernel.run(device.open_channel()))
    nop = partial(device.call, "nop")
    return {
        "nop": _each(partial(channel.call, "nop")),
        "blob": _each(partial(channel.call, "blob")),
        "many": _together(lambda count: kernel.run(_in_flight(nop, count))),
        "later": lambda count: kernel.run(_later(nop, count)),
    }


def _peer(name: str, folder: Path, stack: ExitStack) -> dict[str, Turn]:
    client: Any
    if name == BARE:
        from vfab.apps.bench.peers.bare import bare

        client = stack.enter_context(bare())
    elif name == PYRO:
        from vfab.apps.bench.peers.pyro import pyro

        client = stack.enter_context(pyro(folder))
    elif name == RPYC:
        from vfab.apps.bench.peers.rpyc_peer import rpyc_peer

        client = stack.enter_context(rpyc_peer(folder))
    elif name == TANGO:
        from vfab.apps.bench.peers.tango_peer import tango_peer

        client = stack.enter_context(tango_peer())
    else:
        from vfab.apps.bench.peers.grpc_peer import grpc_peer

        client = stack.enter_context(grpc_peer(folder))
    turns = {"nop": _each(client.nop), "blob": _each(client.blob)}
    return turns | {way: _together(getattr(client, way)) for way in ("many", "batch") if hasattr(client, way)}


def _asyncio_peer(name: str, folder: Path, stack: ExitStack) -> dict[str, Turn]:
    from vfab.apps.bench.peers.grpc_peer import grpc_async
    from vfab.apps.bench.peers.streams import streams

    runner = stack.enter_context(asyncio.Runner())
    contexts = AsyncExitStack()
    stack.callback(lambda: runner.run(contexts.aclose()))
    client: Any = runner.run(contexts.enter_async_context(streams(folder) if name == STREAMS else grpc_async(folder)))
    return {"later": lambda count: runner.run(_later(client.nop, count))}


def serve(name: str, folder: Path) -> None:
    """Take turns until standard input is closed."""
    with ExitStack() as stack:
        try:
            if name in {OURS, NOT_CONFINED}:
                turns = _ours(folder, stack, confined=name == OURS)
            elif name in {STREAMS, GRPC_AIO}:
                turns = _asyncio_peer(name, folder, stack)
            else:
                turns = _peer(name, folder, stack)
        except ImportError as error:
            sys.stdout.write(f"ready\n{json.dumps(str(error))}\n")
            return
        sys.stdout.write('ready\n""\n')
        sys.stdout.flush()
        for line in sys.stdin:
            method, count = json.loads(line)
            sys.stdout.write(json.dumps(turns[method](count)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    if "together" in sys.argv[3:] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    serve(sys.argv[1], Path(sys.argv[2]))
