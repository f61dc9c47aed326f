"""Children that a program forks hold neither its devices nor its hosts; waiting for a driver ends with its device."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from hosting import alive, rig
from vfab.kernel.leases import LeaseBook
from vfab.model.errors import DeviceBusy, DriverError
from vfab.model.lifecycle import DriverState, RestartPolicy

PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from vfab.kernel.leases import LeaseBook
from vfab.kernel.spawner import ZygoteSpawner

async def main():
    lease = LeaseBook(Path(sys.argv[1])).acquire("usb:1")
    spawner = ZygoteSpawner()
    spawner.start()
    child = os.fork()
    if child == 0:
        lease.release()
        signal.pause()
    assert LeaseBook(Path(sys.argv[1])).holder_of("usb:1")["pid"] == os.getpid()
    print(child, spawner.zygote_pid, flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def test_a_forked_child_keeps_neither_a_lease_nor_the_zygote_of_a_parent_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, zygote = map(int, parent.stdout.readline().split())
        try:
            parent.kill()
            parent.wait()
            asyncio.run(_free_again(tmp_path))
            assert alive(child)
            deadline = asyncio.run(_gone(zygote))
            assert deadline, "the zygote outlived its kernel"
        finally:
            os.kill(child, signal.SIGKILL)


async def _free_again(folder: Path) -> None:
    """The child may not have come to its first instruction yet when the parent was killed."""
    async with asyncio.timeout(10):
        while True:
            try:
                LeaseBook(folder).acquire("usb:1").release()
                return
            except DeviceBusy:
                await asyncio.sleep(0.01)


async def _gone(pid: int) -> bool:
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.sleep(0.01)
    return True


async def _close_while_waiting(folder: Path) -> str:
    slow = RestartPolicy(first_s=30.0)
    async with rig(folder, policy=slow) as made:
        device = made.adopt("class D(BaseDriver): pass")
        await device.connect()
        assert device.pid is not None
        os.kill(device.pid, signal.SIGKILL)
        await made.until_state(device, DriverState.ERROR)
        waiting = asyncio.create_task(device.ready_again())
        await asyncio.sleep(0)
        await device.close()
        try:
            await asyncio.wait_for(waiting, 5)
        except DriverError as error:
            return error.message
        return ""


def test_whoever_waits_for_a_driver_to_come_back_is_told_when_its_device_is_closed(tmp_path: Path) -> None:
    assert "dev1" in asyncio.run(_close_while_waiting(tmp_path))
