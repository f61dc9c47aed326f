"""Where what a driver prints goes, whatever the standard output of vfab itself is."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.spawner import ZygoteSpawner
from vfab.kernel.supervisor import Supervisor
from vfab.model.devices import DeviceInfo

async def main(folder):
    supervisor = Supervisor(ZygoteSpawner())
    manifest = DriverRegistry(Places.only(folder)).get("printer").manifest
    device = supervisor.adopt(DeviceInfo(id="d", bus="test", address="test://d"), manifest, Path(folder))
    await device.connect()
    print(await device.call("twice", 21))
    await supervisor.close()

asyncio.run(main(sys.argv[1]))
"""
_MANIFEST = """\
name: printer
version: 1.0.0
author: somebody
description: Prints while it works
driver_class: driver.Printer
category: sensor
"""
_DRIVER = '''\
from vfab.sdk import BaseDriver, command


class Printer(BaseDriver):
    """Prints."""

    @command
    def twice(self, number: int) -> int:
        """Twice `number`."""
        print("working")
        return 2 * number
'''


def test_drivers_run_and_print_while_the_output_of_vfab_is_a_file(tmp_path: Path) -> None:
    plugin = tmp_path / "printer"
    plugin.mkdir()
    (plugin / "plugin.yaml").write_text(_MANIFEST)
    (plugin / "driver.py").write_text(_DRIVER)
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    with out.open("w") as stdout, err.open("w") as stderr:
        stdout.write("before\n")  # so that the file's position is not where a pipe would begin
        stdout.flush()
        command = [sys.executable, "-c", _PROGRAM, str(plugin)]
        done = subprocess.run(command, stdout=stdout, stderr=stderr, timeout=60, check=False)
    assert (done.returncode, out.read_text()) == (0, "before\n42\n"), err.read_text()
