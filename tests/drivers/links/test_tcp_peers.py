"""The TCP driver against socat, and against a network that falls silent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vfab.drivers.tcp.driver as driver_module
from needs import program
from vfab.drivers.tcp.driver import TcpDriver
from vfab.model.errors import ConnectError
from vfab.sdk.testing import DriverBench, manifest_in, soon

TCP = Path(driver_module.__file__).parent


def bench(address: str, **settings: Any) -> DriverBench[TcpDriver]:
    return DriverBench(TcpDriver, manifest_in(TCP), address, config=settings)


def test_socat_echoes_what_the_driver_says() -> None:
    socat = program("socat", package="socat")
    with socket.socket() as held:  # socat cannot say which port it was given
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    server = subprocess.Popen([socat, f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", "EXEC:cat"])
    try:
        with bench(f"tcp://127.0.0.1:{port}") as b:
            soon(lambda: connects(b))
            assert b.driver.send_command("hello socat").text == "hello socat"
    finally:
        server.terminate()
        server.wait()


def connects(b: DriverBench[Any]) -> bool:
    try:
        return bool(b.driver.connect())
    except ConnectError:
        return False


HALF_OPEN = """
import subprocess, sys, threading, time
from pathlib import Path
sys.path[:0] = {path!r}
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
from vfab.drivers.tcp.driver import TcpDriver
from vfab.drivers.tcp.simulator import TcpSimulator
from vfab.sdk.testing import DriverBench, manifest_in
settings = {{"keep_alive_s": 1, "keep_alive_probes": 1, "reconnect": False}}
with TcpSimulator() as device:
    b = DriverBench(TcpDriver, manifest_in(Path({folder!r})), device.address, config=settings)
    b.driver.connect()
    assert b.driver.send_command("ECHO a").text == "a"
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    ended = threading.Event()
    end = time.monotonic() + 30
    while b.driver.is_connected() and time.monotonic() < end:
        ended.wait(0.05)
    print(b.driver.get_status().state, b.driver.get_status().last_error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network namespace")
def test_a_peer_that_vanished_without_a_word_is_noticed() -> None:
    unshare = program("unshare", package="util-linux")
    program("ip", package="iproute2")
    script = HALF_OPEN.format(path=sys.path, folder=str(TCP))
    done = subprocess.run(
        [unshare, "-n", sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("lost the link to tcp://127.0.0.1"), done.stderr
