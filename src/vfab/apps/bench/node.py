"""The process under test of `memory`: a kernel that waits, and connects devices when it is told how many."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from vfab.apps.bench.kernel import adopt, make_plugin, manifest_of
from vfab.apps.bench.peers.process import say_ready
from vfab.kernel.detector import DeviceDetector, default_detection
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor

__all__ = ["serve"]

_AT_ONCE = 10


async def serve(folder: Path) -> None:
    """Serve until standard input is closed; each line of it is a number of devices to connect."""
    registry = DriverRegistry(Places.from_environment(os.environ))
    detector = DeviceDetector(registry, default_detection(os.environ))
    detector.scan()
    plugin = make_plugin(folder)
    manifest = manifest_of(plugin)
    spawner = ZygoteSpawner()
    supervisor = Supervisor(spawner)
    spawner.start()
    first = adopt(supervisor, plugin, manifest, 0)
    await first.initialize()  # so that the zygote is up
    await supervisor.release(first.id)
    say_ready()
    number = 0
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        count = int(line)
        for begin in range(0, count, _AT_ONCE):
            part = range(begin, min(count, begin + _AT_ONCE))
            await asyncio.gather(*(adopt(supervisor, plugin, manifest, number + n + 1).connect() for n in part))
        number += count
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()
    await supervisor.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
