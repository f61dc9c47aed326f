"""asyncio streams on both ends, length-prefixed: how a daemon in Python is usually written, without its protocol."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from vfab.apps.bench.peers.bare import REPLY, REQUEST
from vfab.apps.bench.peers.process import end, end_with_parent, say_ready, start

__all__ = ["StreamsClient", "streams"]

_LENGTH = struct.Struct("<I")


class StreamsClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def nop(self) -> None:
        """One request, one reply."""
        self._writer.write(_LENGTH.pack(len(REQUEST)) + REQUEST)
        (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        await self._reader.readexactly(length)


@asynccontextmanager
async def streams(folder: Path) -> AsyncIterator[StreamsClient]:
    """A client with its server."""
    path = folder / "streams.sock"
    process = await asyncio.to_thread(start, ["-m", __name__, str(path)])
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            yield StreamsClient(reader, writer)
        finally:
            writer.close()
    finally:
        await asyncio.to_thread(end, process)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            await reader.readexactly(length)
            writer.write(_LENGTH.pack(len(REPLY)) + REPLY)
    except asyncio.IncompleteReadError:
        writer.close()


async def _serve(path: str) -> None:
    server = await asyncio.start_unix_server(_answer, path)
    say_ready()
    await server.serve_forever()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(_serve(sys.argv[1]))
