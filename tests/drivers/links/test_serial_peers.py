"""The serial driver against socat, ser2net and pyserial."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vfab.drivers.serial_link.driver as driver_module
from needs import program
from vfab.drivers.serial_link.driver import SerialLinkDriver
from vfab.drivers.serial_link.simulator import SerialSimulator
from vfab.drivers.tcp.simulator import TcpSimulator
from vfab.model.errors import ConnectError
from vfab.protocols.rfc2217 import Code, Parity
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(driver_module.__file__).parent


def bench(address: str, **settings: Any) -> DriverBench[SerialLinkDriver]:
    settings = {"reconnect_delay_s": 0.01, **settings}
    return DriverBench(SerialLinkDriver, manifest_in(FOLDER), address, config=settings)


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


def test_an_unplugged_port_is_lost_and_another_one_at_its_place_is_opened(tmp_path: Path) -> None:
    socat = program("socat", package="socat")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    command = [socat, f"PTY,link={ours},rawer", f"PTY,link={theirs},rawer"]
    first = subprocess.Popen(command)
    try:
        soon(lambda: ours.exists() and theirs.exists())
        with bench(str(ours)) as b:
            b.driver.connect()
            first.terminate()
            first.wait()
            soon(lambda: told(b, "link_lost"))
            second = subprocess.Popen(command)
            try:
                soon(lambda: told(b, "reconnected"))
                fd = os.open(theirs, os.O_RDWR | os.O_NOCTTY)
                b.driver.send("hello")
                assert os.read(fd, 100) == b"hello\n"
                os.close(fd)
            finally:
                second.terminate()
                second.wait()
    finally:
        first.kill()
        first.wait()


def test_pyserial_polls_the_modem_lines_of_our_rfc_2217_server() -> None:
    serial = pytest.importorskip("serial")
    with (
        SerialSimulator(rfc2217=True) as device,
        serial.serial_for_url(f"{device.address}?poll_modem&timeout=60", timeout=60) as port,
    ):
        soon(lambda: port.cts)
        port.rts = False
        soon(lambda: not port.cts)
        port.write(b"*IDN?\n")
        assert port.readline() == b"vfab,Serial simulator,0,1.0\r\n"


def test_what_rfc_2217_does_not_have_and_numbers_that_are_none_end_no_simulator() -> None:
    with (
        SerialSimulator(rfc2217=True) as device,
        socket.create_connection(("127.0.0.1", int(device.address.rsplit(":", 1)[1])), 60) as client,
    ):
        lines = client.makefile("rb")
        client.sendall(bytes((255, 250, 44, Code.SET_CONTROL, 99, 255, 240)) + "COUNT ²\n".encode())
        assert next(lines) == b"ERR unknown\r\n"
    with TcpSimulator() as tcp, socket.create_connection(("127.0.0.1", tcp.port), 60) as client:
        lines = client.makefile("rb")
        for line in ("COUNT ²", "LATER soon x", "LATER"):
            client.sendall(f"{line}\n".encode())
            assert next(lines) == b"ERR unknown\n"
        client.sendall(b"LATER 0.01 now\n")
        assert [next(lines), next(lines)] == [b"OK\n", b"now\n"]


def test_pyserial_uses_our_rfc_2217_server() -> None:
    serial = pytest.importorskip("serial")
    with SerialSimulator(rfc2217=True) as device:
        port = serial.serial_for_url(device.address, baudrate=38400, parity="E", bytesize=7, timeout=5)
        try:
            assert device.settings[Code.SET_BAUDRATE] == 38400
            assert device.settings[Code.SET_PARITY] == Parity.EVEN
            port.write(b"ECHO \x01\xc3\xbf\n")
            assert port.readline() == b"\x01\xc3\xbf\r\n"
            port.dtr = False
            soon(lambda: not port.dsr)
            assert port.cts
            port.send_break(0.01)
            assert device.device.breaks == 1
            port.reset_input_buffer()
        finally:
            port.close()


@contextmanager
def ser2net(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """(TCP port of its RFC 2217 server, descriptor of what is plugged into its serial port)."""
    path = program("ser2net", package="ser2net")
    master, slave = os.openpty()
    with socket.socket() as held:  # it cannot say which port it was given
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    config = tmp_path / "ser2net.yaml"
    config.write_text(
        f"connection: &c\n  accepter: telnet(rfc2217),tcp,127.0.0.1,{port}\n"
        f"  connector: serialdev,{os.ttyname(slave)},9600n81,local\n"
    )
    server = subprocess.Popen([path, "-n", "-d", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield port, master
    finally:
        server.terminate()
        server.wait()
        os.close(master)
        os.close(slave)


def test_a_port_of_ser2net_is_used(tmp_path: Path) -> None:
    with ser2net(tmp_path) as (port, master):
        stop = threading.Event()

        def plugged_in() -> None:
            os.set_blocking(master, False)
            while not stop.wait(0.002):
                try:
                    data = os.read(master, 1000)
                except OSError:
                    continue
                os.write(master, data.replace(b"ping", b"pong"))

        thread = threading.Thread(target=plugged_in)
        thread.start()
        try:
            with bench(f"rfc2217://127.0.0.1:{port}", baudrate=19200, reconnect=False) as b:
                soon(lambda: connects(b))
                assert b.driver.send_command("ping").text == "pong"
                assert b.driver.send_command("ping \xff".encode("latin-1").hex(), form="hex").data == b"pong \xff"
                assert b.driver.set_baudrate(115200) is True
                rate = termios.tcgetattr(master)[4]
                assert rate == termios.B115200
        finally:
            stop.set()
            thread.join()


def connects(b: DriverBench[Any]) -> bool:
    try:
        return bool(b.driver.connect())
    except ConnectError as error:
        assert re.search("refused|closed|broke", error.message), error.message
        return False
