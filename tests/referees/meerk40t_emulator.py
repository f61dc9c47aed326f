"""Serves MeerK40t's GRBL emulator on a port of 127.0.0.1: one client, until the end of standard input.

MeerK40t's own `grblcontrol` listens on all addresses; the emulator is its, the socket is ours.
"""

from __future__ import annotations

import json
import select
import socket
import sys

from meerk40t.grbl.emulator import GRBLEmulator
from meerk40t.svgelements import Matrix


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    client, _ = listener.accept()
    client.sendall(b"Grbl 1.1f ['$' for help]\r\n")
    emulator = GRBLEmulator(units_to_device_matrix=Matrix(), reply=lambda text: client.sendall(text.encode()))
    while True:
        ready, _, _ = select.select([client, sys.stdin], [], [])
        if sys.stdin in ready:
            break
        data = client.recv(4096)
        if not data:
            break
        emulator.write(data)
    job = emulator.job
    print(json.dumps({"x": job.x / job.scale, "y": job.y / job.scale}), flush=True)


if __name__ == "__main__":
    main()
