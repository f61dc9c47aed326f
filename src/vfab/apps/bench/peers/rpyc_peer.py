"""rpyc over a Unix socket; the remote method is looked up once."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vfab.apps.bench.kernel import BLOB_BYTES
from vfab.apps.bench.peers.process import child, end_with_parent, say_ready

__all__ = ["RpycClient", "rpyc_peer"]

_IN_FLIGHT = 64


class RpycClient:
    """One connection."""

    def __init__(self, connection: Any) -> None:
        import rpyc

        self.nop = connection.root.nop
        self.blob = connection.root.blob
        self._later = rpyc.async_(connection.root.nop)

    def many(self, count: int) -> None:
        """`count` calls, 64 in flight."""
        waiting: deque[Any] = deque()
        for _ in range(count):
            if len(waiting) >= _IN_FLIGHT:
                waiting.popleft().wait()
            waiting.append(self._later())
        for result in waiting:
            result.wait()


@contextmanager
def rpyc_peer(folder: Path) -> Iterator[RpycClient]:
    """A client with its server. Raises ImportError: rpyc is not installed."""
    from rpyc.utils.factory import unix_connect

    path = folder / "rpyc.sock"
    with child(["-m", __name__, str(path)]):
        connection = unix_connect(str(path), config={"logger": None})
        try:
            yield RpycClient(connection)
        finally:
            connection.close()


def serve(path: str) -> None:
    """Serve until the process ends."""
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Bench(rpyc.Service):  # type: ignore[misc,unused-ignore]
        _blob = bytes(BLOB_BYTES)

        def exposed_nop(self) -> None:
            pass

        def exposed_blob(self) -> bytes:
            return self._blob

    class Announced(ThreadedServer):  # type: ignore[misc,unused-ignore]
        def _listen(self) -> None:
            super()._listen()
            say_ready()

    Announced(Bench, socket_path=path).start()


if __name__ == "__main__":
    end_with_parent()
    serve(sys.argv[1])
