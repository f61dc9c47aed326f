"""PyTango over loopback: a device server without a database, and a proxy of its device."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vfab.apps.bench.kernel import BLOB_BYTES
from vfab.apps.bench.peers.process import child, end_with_parent, say_ready

__all__ = ["TangoClient", "tango_peer"]

_DEVICE = "bench/nop/1"
_IN_FLIGHT = 64


class TangoClient:
    """One proxy."""

    def __init__(self, port: int) -> None:
        import tango

        self._proxy: Any = tango.DeviceProxy(f"tango://127.0.0.1:{port}/{_DEVICE}#dbase=no")
        self._proxy.ping()
        self.nop = self._proxy.nop
        self.blob = self._proxy.blob

    def many(self, count: int) -> None:
        """`count` calls, 64 in flight."""
        for _ in range(count // _IN_FLIGHT):
            asked = [self._proxy.command_inout_asynch("nop") for _ in range(_IN_FLIGHT)]
            for number in asked:
                self._proxy.command_inout_reply(number, 10_000)


@contextmanager
def tango_peer() -> Iterator[TangoClient]:
    """A client with its server. Raises ImportError: PyTango is not installed."""
    import tango  # noqa: F401

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with child(["-m", __name__, str(port)]):
        yield TangoClient(port)


def serve(port: str) -> None:
    """Serve until the process ends."""
    from tango import GreenMode
    from tango.server import Device, command, run

    class Bench(Device):  # type: ignore[misc,unused-ignore]
        _blob = ("bytes", bytes(BLOB_BYTES))

        @command  # type: ignore[untyped-decorator,unused-ignore]
        def nop(self) -> None:
            pass

        @command(dtype_out="DevEncoded")  # type: ignore[untyped-decorator,unused-ignore]
        def blob(self) -> tuple[str, bytes]:
            return self._blob

    arguments = ["Bench", "nop", "-nodb", "-dlist", _DEVICE, "-ORBendPoint", f"giop:tcp:127.0.0.1:{port}"]
    run((Bench,), args=arguments, post_init_callback=say_ready, green_mode=GreenMode.Synchronous, raises=True)


if __name__ == "__main__":
    end_with_parent()
    serve(sys.argv[1])
