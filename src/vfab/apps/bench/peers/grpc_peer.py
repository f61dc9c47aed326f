"""gRPC over a Unix socket, payloads as bytes: no protobuf, which would cost more on top."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from vfab.apps.bench.kernel import BLOB_BYTES
from vfab.apps.bench.peers.process import child, end, end_with_parent, say_ready, start

__all__ = ["AsyncGrpcClient", "GrpcClient", "grpc_async", "grpc_peer"]

_IN_FLIGHT = 64
_OPTIONS = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]


class GrpcClient:
    """One channel."""

    def __init__(self, channel: Any) -> None:
        self._nop = channel.unary_unary("/bench/nop")
        self._blob = channel.unary_unary("/bench/blob")

    def nop(self) -> None:
        """One call."""
        self._nop(b"")

    def blob(self) -> bytes:
        """One call, 1 MiB back."""
        answer: bytes = self._blob(b"")
        return answer

    def many(self, count: int) -> None:
        """`count` calls, 64 in flight."""
        waiting: deque[Any] = deque()
        for _ in range(count):
            if len(waiting) >= _IN_FLIGHT:
                waiting.popleft().result()
            waiting.append(self._nop.future(b""))
        for result in waiting:
            result.result()


class AsyncGrpcClient:
    """One channel of `grpc.aio`."""

    def __init__(self, channel: Any) -> None:
        self._nop = channel.unary_unary("/bench/nop")

    async def nop(self) -> None:
        """One call."""
        await self._nop(b"")


@contextmanager
def grpc_peer(folder: Path) -> Iterator[GrpcClient]:
    """A client with its server. Raises ImportError: grpcio is not installed."""
    import grpc

    path = folder / "grpc.sock"
    with (
        child(["-m", __name__, "threads", str(path)]),
        grpc.insecure_channel(f"unix:{path}", options=_OPTIONS) as channel,
    ):
        yield GrpcClient(channel)


@asynccontextmanager
async def grpc_async(folder: Path) -> AsyncIterator[AsyncGrpcClient]:
    """The same with `grpc.aio` on both ends. Raises ImportError: grpcio is not installed."""
    import grpc.aio

    path = folder / "grpc-aio.sock"
    process = await asyncio.to_thread(start, ["-m", __name__, "aio", str(path)])
    try:
        async with grpc.aio.insecure_channel(f"unix:{path}", options=_OPTIONS) as channel:
            yield AsyncGrpcClient(channel)
    finally:
        await asyncio.to_thread(end, process)


def serve(path: str) -> None:
    """Serve with threads until the process ends."""
    import grpc

    held = bytes(BLOB_BYTES)
    server = grpc.server(ThreadPoolExecutor(4), handlers=[_handler(lambda *_: b"", lambda *_: held)], options=_OPTIONS)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    say_ready()
    server.wait_for_termination()


async def serve_async(path: str) -> None:
    """Serve with asyncio until the process ends."""
    import grpc.aio

    async def nop(request: bytes, context: Any) -> bytes:
        return b""

    server = grpc.aio.server(handlers=[_handler(nop, nop)], options=_OPTIONS)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    say_ready()
    await server.wait_for_termination()


def _handler(nop: Any, blob: Any) -> Any:
    import grpc

    methods = {
        "nop": grpc.unary_unary_rpc_method_handler(nop),
        "blob": grpc.unary_unary_rpc_method_handler(blob),
    }
    return grpc.method_handlers_generic_handler("bench", methods)


if __name__ == "__main__":
    end_with_parent()
    if sys.argv[1] == "aio":
        asyncio.run(serve_async(sys.argv[2]))
    else:
        serve(sys.argv[2])
