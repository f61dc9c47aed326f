"""Pyro5 over a Unix socket, with the serializer that its manual calls the fastest (marshal)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vfab.apps.bench.kernel import BLOB_BYTES
from vfab.apps.bench.peers.process import child, end_with_parent, say_ready

__all__ = ["PyroClient", "pyro"]

_THREADS = 64


class PyroClient:
    """One proxy, connected."""

    def __init__(self, uri: str) -> None:
        from Pyro5.api import Proxy

        self._uri = uri
        self._proxy = Proxy(uri)
        self._proxy._pyroBind()
        self.nop = self._proxy.nop
        self.blob = self._proxy.blob
        self._pool: ThreadPoolExecutor | None = None
        self._proxies: list[Any] = []
        self._batching: Any = None

    def many(self, count: int) -> None:
        """`count` calls, 64 in flight: each of 64 threads has a proxy, for a proxy has one call at a time."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS)
            self._proxies = list(self._pool.map(self._bound, range(_THREADS)))
        list(self._pool.map(self._calls, self._proxies, [count // _THREADS] * _THREADS))

    def batch(self, count: int) -> None:
        """`count` calls, 64 to a message, answered in one message: Pyro's own way to make many."""
        from Pyro5.api import BatchProxy

        if self._batching is None:
            self._batching = self._bound(0)
            self._batching._pyroSerializer = "serpent"  # batches fail with marshal (5.17)
        for _ in range(count // _THREADS):
            batch = BatchProxy(self._batching)
            for _ in range(_THREADS):
                batch.nop()
            list(batch())

    def _bound(self, _: int) -> Any:
        from Pyro5.api import Proxy

        proxy = Proxy(self._uri)
        proxy._pyroBind()
        return proxy

    def _calls(self, proxy: Any, count: int) -> None:
        proxy._pyroClaimOwnership()
        for _ in range(count):
            proxy.nop()

    def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            self._pool.shutdown()
        for proxy in [self._proxy, self._batching, *self._proxies]:
            if proxy is not None:
                proxy._pyroClaimOwnership()
                proxy._pyroRelease()


def _configure() -> None:
    from Pyro5 import config

    config.SERIALIZER = "marshal"
    config.THREADPOOL_SIZE = 2 * _THREADS
    config.LOGWIRE = False


@contextmanager
def pyro(folder: Path) -> Iterator[PyroClient]:
    """A client with its server. Raises ImportError: Pyro5 is not installed."""
    _configure()
    path = folder / "pyro.sock"
    with child(["-m", __name__, str(path)]):
        client = PyroClient(f"PYRO:bench@./u:{path}")
        try:
            yield client
        finally:
            client.close()


def serve(path: str) -> None:
    """Serve until the process ends."""
    from Pyro5.api import Daemon, expose

    _configure()

    @expose
    class Bench:
        _blob = bytes(BLOB_BYTES)

        def nop(self) -> None:
            pass

        def blob(self) -> bytes:
            return self._blob

    daemon = Daemon(unixsocket=path)
    daemon.register(Bench(), "bench")
    say_ready()
    daemon.requestLoop()


if __name__ == "__main__":
    end_with_parent()
    serve(sys.argv[1])
