"""The CAN driver on python-can's multicast bus, in a network of its own: nothing leaves this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vfab.drivers.socketcan as driver_package
from needs import program

FOLDER = Path(driver_package.__file__).parent

pytest.importorskip("can")

MULTICAST = """
import json, subprocess, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "route", "add", "224.0.0.0/4", "dev", "lo"], check=True)
simulator = subprocess.Popen([sys.executable, str(Path({folder!r}) / "simulator.py"), "--period", "0.01"],
                             stdout=subprocess.PIPE)
try:
    address = json.loads(simulator.stdout.readline())["address"]
    from vfab.drivers.socketcan.driver import SocketCanDriver
    from vfab.sdk.testing import DriverBench, manifest_in
    with DriverBench(SocketCanDriver, manifest_in(Path({folder!r})), address) as b:
        b.driver.connect()
        answer = b.driver.send_command("7DF#02010C", answer="7E8:7F8", wait_s=5)
        frames = b.driver.receive(5, wait_s=5)
        print(json.dumps([address, answer.text, [frame["id"] for frame in frames]]))
finally:
    simulator.terminate()
    simulator.wait()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network namespace")
def test_a_node_on_a_multicast_bus_answers_and_counts() -> None:
    pytest.importorskip("msgpack")
    unshare = program("unshare", package="util-linux")
    program("ip", package="iproute2")
    script = MULTICAST.format(path=sys.path, folder=str(FOLDER))
    done = subprocess.run(
        [unshare, "-n", sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    address, answer, idents = json.loads(done.stdout)
    assert address.startswith("can://udp_multicast/239.74.163.2:")
    assert answer == "7E8#04410C1AF8000000"
    assert idents == [0x100] * 5
