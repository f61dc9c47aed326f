"""A program for a network of its own: a CAN bus is streamed while its driver is swapped and killed.

Prints, as JSON, the numbers that came over the stream, oldest first, and how many records there were.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from apps.swapped import Bench
from hosting import rig
from vfab.model.errors import SwapFailed


async def streamed(folder: Path, address: str) -> dict[str, object]:
    """Swap three times, have a new host killed on probation; what came meanwhile."""
    async with rig(folder) as r:
        bench = Bench(r, "socketcan", address)
        device = bench.device
        await device.connect()
        await device.call("start_streaming")
        reader = device.streams.reader(oldest=True)
        await r.until(lambda: reader.waiting > 3)
        for _ in range(3):
            assert (await bench.reload()).outcome == "committed"
            answer = await device.operate("send_command", "7DF#02010C", answer="7E8:7F8", wait_s=30)
            assert answer["text"] == "7E8#04410C1AF8000000", answer
        swapping = await bench.on_probation()
        bench.kill()
        try:
            await swapping
        except SwapFailed as failed:
            assert failed.context["restored"], failed
        await bench.is_one_owner()
        came = reader.waiting
        await r.until(lambda: reader.waiting > came + 3)
        records = reader.read_many(100_000)
        assert not reader.lost
        await device.disconnect()
    frames = [record.data for record in records]
    counts = [int.from_bytes(frame["data"], "big") for frame in frames if frame["id"] == 0x100]
    return {"counts": counts, "sequences": [record.sequence for record in records]}


def main(folder: Path, simulator: Path) -> None:
    """Set the network up, and run it."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "224.0.0.0/4", "dev", "lo"], check=True)
    with subprocess.Popen([sys.executable, simulator, "--period", "0.01"], stdout=subprocess.PIPE) as node:
        try:
            assert node.stdout is not None
            address = json.loads(node.stdout.readline())["address"]
            print(json.dumps(asyncio.run(streamed(folder, address))))
        finally:
            node.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
