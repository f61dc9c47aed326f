"""The floor: bytes over a Unix socket pair and nothing else. Blocking reads on both sides, no protocol, no dispatch."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vfab.apps.bench.kernel import BLOB_BYTES
from vfab.apps.bench.peers.process import child, end_with_parent, say_ready
from vfab.protocols.hostwire import Call, Reply, encode

__all__ = ["REPLY", "REQUEST", "BareClient", "bare"]

REQUEST = b"".join(encode(Call(1000, "nop", [], {}, 30.0)))
REPLY = b"".join(encode(Reply(1000)))
_BLOB_REQUEST = b"B" * len(REQUEST)
_PIPE = 65536


class BareClient:
    """Sends as many bytes as vfab's frames have, and waits for as many."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._blob = bytearray(BLOB_BYTES)

    def nop(self) -> None:
        """One request, one reply."""
        self._sock.sendall(REQUEST)
        self._sock.recv(_PIPE)

    def blob(self) -> bytes:
        """One request, 1 MiB back in one new bytes object, as a caller gets it."""
        self._sock.sendall(_BLOB_REQUEST)
        return self._sock.recv(BLOB_BYTES, socket.MSG_WAITALL)


@contextmanager
def bare() -> Iterator[BareClient]:
    """A client with its server."""
    ours, theirs = socket.socketpair()
    with ours, child(["-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()]):
        theirs.close()
        yield BareClient(ours)


def serve(sock: socket.socket) -> None:
    """Answer until the peer is gone."""
    blob = bytes(BLOB_BYTES)
    while data := sock.recv(_PIPE):
        sock.sendall(blob if data[0] == _BLOB_REQUEST[0] else REPLY)


if __name__ == "__main__":
    end_with_parent()
    say_ready()
    serve(socket.socket(fileno=int(sys.argv[1])))
