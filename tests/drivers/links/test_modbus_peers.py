"""The Modbus driver and the servers of pymodbus and npm's modbus-serial; our simulator and their clients."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.model.errors import Refused, TimeoutExceeded
from vfab.sdk.testing import DriverBench, manifest_in

pytest.importorskip("pymodbus")

import vfab.drivers.modbus.driver as driver_module
from vfab.drivers.modbus.driver import ModbusDriver
from vfab.drivers.modbus.simulator import ModbusSimulator

FOLDER = Path(driver_module.__file__).parent
NPM = Path(__file__).parents[2] / "peers" / "modbus"


def bench(address: str, **settings: Any) -> DriverBench[ModbusDriver]:
    return DriverBench(ModbusDriver, manifest_in(FOLDER), address, config=settings)


def node() -> str:
    path = shutil.which("node")
    if path is None or not (NPM / "node_modules" / "modbus-serial").is_dir():
        pytest.skip("modbus-serial is not installed: cd tests/peers/modbus && npm ci --ignore-scripts")
    return path


# -- pymodbus ---------------------------------------------------------------------------------------------------------


@contextmanager
def pymodbus_server(port: str = "") -> Iterator[str]:
    """The address of pymodbus' server; with `port` on that serial port."""
    from pymodbus import FramerType
    from pymodbus.server import ModbusSerialServer, ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    def device() -> SimDevice:
        bits = [SimData(0, count=32, values=False, datatype=DataType.BITS)]
        inputs = [SimData(0, values=[True, False] * 16, datatype=DataType.BITS)]
        registers = [SimData(0, count=100, values=0, datatype=DataType.REGISTERS)]
        measured = [SimData(0, values=[21.5, -1.25], datatype=DataType.FLOAT32)]
        return SimDevice(id=1, simdata=(bits, inputs, registers, measured))

    ready, stop = threading.Event(), threading.Event()
    where: list[str] = []

    async def serve() -> None:
        server: Any
        if port:
            server = ModbusSerialServer(device(), framer=FramerType.RTU, port=port, baudrate=19200)
            await server.serve_forever(background=True)
            where.append(port)
        else:
            server = ModbusTcpServer(device(), address=("127.0.0.1", 0))
            await server.serve_forever(background=True)
            where.append(f"modbus://127.0.0.1:{server.transport.sockets[0].getsockname()[1]}")
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.shutdown()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield where[0]
    finally:
        stop.set()
        thread.join(10)


@contextmanager
def serial_cable() -> Iterator[tuple[str, str]]:
    """Two ends of a serial cable."""
    pairs = [os.openpty() for _ in range(2)]
    for _, slave in pairs:
        tty.setraw(slave)
    (one, _), (two, _) = pairs
    stop_read, stop_write = os.pipe()

    def carry() -> None:
        import select

        while stop_read not in (ready := select.select([one, two, stop_read], [], [])[0]):
            for end in ready:
                os.write(two if end == one else one, os.read(end, 4096))

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield os.ttyname(pairs[0][1]), os.ttyname(pairs[1][1])
    finally:
        os.write(stop_write, b"x")
        thread.join()
        for fd in (*pairs[0], *pairs[1], stop_read, stop_write):
            os.close(fd)


def use(b: DriverBench[ModbusDriver]) -> None:
    b.driver.connect()
    b.driver.write_coil(1, True)
    b.driver.write_coils(4, "1,1")
    assert b.driver.read_coils(0, 6) == [False, True, False, False, True, True]
    assert b.driver.read_discrete(0, 3) == [True, False, True]
    b.driver.write_registers(10, "-5", "int16")
    b.driver.write_registers(20, "3.5,-1", "float32")
    assert b.driver.read_holding(10, type="int16") == [-5]
    assert b.driver.read_holding(20, 2, "float32") == [3.5, -1.0]
    assert b.driver.read_input(0, 2, "float32") == [21.5, -1.25]
    with pytest.raises(Refused, match="nothing at this address"):
        b.driver.read_holding(5000)


def test_pymodbus_server_is_read_and_written_over_tcp() -> None:
    with pymodbus_server() as address, bench(address) as b:
        use(b)


def test_pymodbus_server_is_read_and_written_on_a_serial_line() -> None:
    with serial_cable() as (ours, theirs), pymodbus_server(theirs), bench(ours, timeout_s=3) as b:
        use(b)


def test_pymodbus_client_is_refused_on_a_serial_line_what_the_simulator_does_not_have() -> None:
    from pymodbus.client import ModbusSerialClient
    from pymodbus.pdu.file_message import FileRecord

    with (
        ModbusSimulator(rtu=True) as device,
        ModbusSerialClient(device.address, timeout=30, retries=0) as client,
    ):
        for ask in (
            client.report_device_id,
            client.read_exception_status,
            client.diag_get_comm_event_log,
            lambda: client.diag_query_data(b"\x12\x34"),
            lambda: client.read_file_record([FileRecord(file_number=4, record_number=1, record_length=2)]),
            lambda: client.read_fifo_queue(address=1246),
        ):
            answer = ask()
            assert (answer.isError(), answer.exception_code) == (True, 1)
            assert client.read_input_registers(7, count=2).registers == [7, 8]
        assert client.read_device_information(read_code=1).information[0] == b"vfab"


# -- modbus-serial ----------------------------------------------------------------------------------------------------


def test_the_server_of_modbus_serial_is_read_and_written() -> None:
    server = subprocess.Popen([node(), "server.js"], cwd=NPM, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        with bench(f"modbus://127.0.0.1:{port}", unit=3, timeout_s=3, retries=0) as b:
            b.driver.connect()
            assert b.driver.read_input(7, 2) == [1007, 1008]
            assert b.driver.read_discrete(0, 9) == [number % 2 == 0 for number in range(9)]
            b.driver.write_registers(0, "123456", "uint32")
            b.driver.write_registers(2, "7")
            assert b.driver.read_holding(0, type="uint32") == [123456]
            assert b.driver.send_command("holding 2").text == "7"
            b.driver.write_coils(3, "1,0,1")
            b.driver.write_coil(9, True)
            assert b.driver.read_coils(3, 7) == [True, False, True, False, False, False, True]
            with pytest.raises(Refused, match="nothing at this address"):
                b.driver.read_holding(500)
            b.driver.set_timeout(0.1)
            with pytest.raises(TimeoutExceeded, match="unit 9"):
                b.driver.read_holding(0, unit=9)
    finally:
        server.terminate()
        server.wait()


def asked(script: str, address: str) -> dict[str, Any]:
    """What a client of modbus-serial found."""
    done = subprocess.run([node(), script, address], cwd=NPM, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_client_of_modbus_serial_uses_our_simulator() -> None:
    with ModbusSimulator() as device:
        assert asked("client.js", device.address.rpartition(":")[2]) == {
            "holding": [1, 2, 65535, 7],
            "input": [5, 6],
            "coils": [True, False, True, True],
            "discrete": [False, True, False, True],
            "masked": [5],
            "refused": 2,
        }


def test_the_client_of_modbus_serial_is_refused_on_a_serial_line_what_our_simulator_does_not_have() -> None:
    with ModbusSimulator(rtu=True) as device:
        assert asked("client_rtu.js", device.address) == {
            "server_id": 1,
            "holding": [1, 2, 65535],
            "beyond": 2,
            "identity": {"0": "vfab", "1": "modbus simulator", "2": "1.0"},
            "input": [5, 6],
        }
