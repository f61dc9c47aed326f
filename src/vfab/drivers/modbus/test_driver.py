"""What the Modbus driver does, on TCP and on a serial line, told by a device that shares no code with it."""

from __future__ import annotations

import os
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DeviceBusy,
    DriverError,
    HardwareError,
    LinkLost,
    Refused,
    TimeoutExceeded,
)
from vfab.sdk.testing import DriverBench, manifest_in

pytest.importorskip("pymodbus")

from vfab.drivers.modbus.device import crc16
from vfab.drivers.modbus.driver import ModbusDriver
from vfab.drivers.modbus.points import Point, parse_request
from vfab.drivers.modbus.simulator import ModbusSimulator
from vfab.drivers.modbus.values import TYPES, from_registers, parse_values, to_registers
from vfab.sdk.testing import soon

FOLDER = Path(__file__).parent


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[ModbusDriver]]:
    with DriverBench(ModbusDriver, manifest_in(FOLDER), address, config=settings) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["tcp", "rtu"])
def device(request: pytest.FixtureRequest) -> Iterator[ModbusSimulator]:
    with ModbusSimulator(rtu=request.param) as simulator:
        yield simulator


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


# -- tables ---------------------------------------------------------------------------------------------------------


def test_all_four_tables_are_read(device: ModbusSimulator) -> None:
    device.device.coils[3] = True
    device.device.holding[0:2] = [1, 65535]
    with bench(device.address) as b:
        b.driver.connect()
        assert b.driver.read_coils(2, 3) == [False, True, False]
        assert b.driver.read_discrete(0, 4) == [False, True, False, True]
        assert b.driver.read_holding(0, 2) == [1, 65535]
        assert b.driver.read_holding(1, type="int16") == [-1]
        assert b.driver.read_input(7, 2) == [7, 8]
        assert len(b.driver.read_coils(0, 1000)) == 1000


def test_coils_and_registers_are_written(device: ModbusSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        b.driver.write_coil(1, True)
        b.driver.write_coils(3, "1,0,1")
        assert device.device.coils[:7] == [False, True, False, True, False, True, False]
        b.driver.write_registers(0, "513")
        b.driver.write_registers(1, "1,0x10")
        b.driver.write_registers(10, [-2.5], "float64")
        assert device.device.holding[:3] == [513, 1, 16]
        assert b.driver.read_holding(10, type="float64") == [-2.5]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int16", [-32768, 32767]),
        ("uint16", [0, 65535]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("uint32", [2**32 - 1]),
        ("int64", [-(2**63)]),
        ("uint64", [2**64 - 1]),
        ("float32", [0.5, -1e10]),
        ("float64", [3.141592653589793]),
        ("string", ["pump 3"]),
    ],
)
@pytest.mark.parametrize("word_order", ["big", "little"])
def test_values_of_every_type_come_back(device: ModbusSimulator, kind: str, values: list[Any], word_order: str) -> None:
    with bench(device.address, word_order=word_order) as b:
        b.driver.connect()
        b.driver.write_registers(20, values, kind)
        count = 3 if kind == "string" else len(values)
        assert b.driver.read_holding(20, count, kind) == values


def test_the_first_register_of_a_big_word_order_is_the_most_significant() -> None:
    assert to_registers([1], "uint32", "big") == [0, 1]
    assert to_registers([1], "uint32", "little") == [1, 0]
    assert to_registers(["ab"], "string", "big") == [0x6162]


@given(data=st.data(), kind=st.sampled_from([kind for kind in TYPES if "int" in kind]))
def test_whole_numbers_survive_their_registers(data: st.DataObject, kind: str) -> None:
    bits = int(kind.lstrip("uint"))
    low, high = (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=5))
    for order in ("big", "little"):
        assert from_registers(to_registers(values, kind, order), kind, order) == values


@pytest.mark.parametrize(
    ("value", "kind"), [(70000, "uint16"), (-1, "uint32"), (1.5, "int16"), (float("nan"), "int16")]
)
def test_a_value_that_does_not_fit_its_type_is_refused(value: float, kind: str) -> None:
    with pytest.raises(Refused, match="does not fit"):
        to_registers([value], kind)


@pytest.mark.parametrize("text", ["", "one", "1,two"])
def test_values_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_values(text, "uint16")


# -- in words -------------------------------------------------------------------------------------------------------


def test_requests_in_words_read_and_write(device: ModbusSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        assert b.driver.send_command("holding 0 = 1,2").text == ""
        b.driver.send("coils 5 = 1")
        assert b.driver.send_command("hr 0 2").text == "1,2"
        answer = b.driver.send_command("coils 4 3")
        assert (answer.text, answer.fields["values"]) == ("0,1,0", [False, True, False])
        b.driver.send_command("holding 6 = 1.5 ".replace("6", "6 1 float32"))
        assert b.driver.send_command("holding 6 1 float32").text == "1.5"
        status = b.driver.get_status().statistics
        assert (status.messages_in, status.messages_out, status.errors) == (6, 6, 0)


@pytest.mark.parametrize(
    ("text", "point", "values"),
    [
        ("holding 0", Point("holding", 0), None),
        ("ir 0x10 2 FLOAT32 @7", Point("input", 16, 2, "float32", 7), None),
        ("coils 3=1,0", Point("coils", 3), "1,0"),
        ("coils 3 2 = 1 0", Point("coils", 3, 2), "1 0"),
        ("holding 3 3 string = día", Point("holding", 3, 3, "string"), "día\0\0"),
    ],
)
def test_words_are_read_as_people_write_them(text: str, point: Point, values: str | None) -> None:
    assert parse_request(text) == (point, values)


MISCOUNTED = ["holding 0 2 float32 = 2.5", "coils 0 1 = 1,0", "holding 0 2 string = hello"]


@pytest.mark.parametrize(
    "text", ["", "holding", "valves 3", "input 3 = 1", "holding 0 1 float13", "holding -1", *MISCOUNTED]
)
def test_words_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as why:
        parse_request(text)
    assert why.value.remedy


def test_a_shorter_text_replaces_a_longer_one(device: ModbusSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        b.driver.send_command("holding 0 8 string = a longer text")
        b.driver.send_command("holding 0 string = hello")
        assert b.driver.send_command("holding 0 8 string").text == "hello"
        b.driver.send_command("holding 0 8 string = hi")
        assert b.driver.read_holding(0, 8) == [0x6869, 0, 0, 0, 0, 0, 0, 0]


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda d: d.read_holding(990, 20), Refused, "nothing at this address"),
        (lambda d: d.read_holding(999), HardwareError, "failed"),
        (lambda d: d.read_holding(998), DeviceBusy, "busy"),
    ],
)
def test_exceptions_of_the_device_say_what_they_mean(
    device: ModbusSimulator, call: Callable[[ModbusDriver], Any], error: type[DriverError], says: str
) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        with pytest.raises(error, match=says) as why:
            call(b.driver)
        assert why.value.remedy
        assert why.value.context["unit"] == 1
        assert b.driver.read_input(1) == [1]


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.read_holding(0, 126),
        lambda d: d.read_holding(0, 63, "uint32"),
        lambda d: d.read_holding(65535, 2),
        lambda d: d.read_coils(-1),
        lambda d: d.write_coils(0, []),
        lambda d: d.read_holding(0, unit=256),
    ],
)
def test_requests_that_cannot_be_are_not_sent(call: Callable[[ModbusDriver], Any]) -> None:
    with ModbusSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        with pytest.raises(ConfigurationError):
            call(b.driver)
        assert device.device.requests == 0


def test_a_device_that_is_not_there_does_not_answer(device: ModbusSimulator) -> None:
    with bench(device.address, timeout_s=0.05, retries=1) as b:
        b.driver.connect()
        with pytest.raises(TimeoutExceeded, match="unit 7"):
            b.driver.read_holding(0, unit=7)
        assert b.driver.send_command("input 3", wait_s=2).text == "3"
        assert b.driver.get_connection_info().timeout_s == 0.05
        assert b.driver.get_status().statistics.errors == 1


def test_the_device_says_who_it_is(device: ModbusSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        assert b.driver.identify() == {"vendor": "vfab", "product": "modbus simulator", "revision": "1.0"}


def test_waiting_for_an_answer_can_be_cancelled(device: ModbusSimulator) -> None:
    with bench(device.address, timeout_s=60) as b:
        b.driver.connect()
        device.device.mute = True
        running = b.start(lambda: b.driver.read_holding(0))
        soon(lambda: b.driver.statistics.bytes_out)
        running.token.cancel()
        with pytest.raises(Cancelled):
            running.result()
        device.device.mute = False
        assert b.driver.read_input(5) == [5]


# -- the connection -------------------------------------------------------------------------------------------------


def test_a_lost_connection_is_told_and_opened_at_the_next_request() -> None:
    with ModbusSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.read_holding(0)
        device.hang_up()
        soon(lambda: _fails(b.driver))
        assert told(b, "link_lost")[0]["again"] is True
        assert not b.driver.is_connected()
        assert b.driver.read_input(4) == [4]
        assert b.driver.get_status().statistics.reconnects == 1


def _fails(driver: ModbusDriver) -> bool:
    try:
        driver.read_holding(0)
    except LinkLost:
        return True
    return False


def test_without_reconnecting_it_stays_lost() -> None:
    with ModbusSimulator() as device, bench(device.address, reconnect=False) as b:
        b.driver.connect()
        b.driver.read_input(4)
        device.hang_up()
        soon(lambda: _fails(b.driver))
        with pytest.raises(LinkLost, match="no connection"):
            b.driver.read_holding(0)
        b.driver.connect()
        assert b.driver.read_input(4) == [4]


def test_connecting_and_closing_twice(device: ModbusSimulator) -> None:
    with bench(device.address) as b:
        assert b.driver.connect() is True
        assert b.driver.connect() is True
        b.driver.disconnect()
        b.driver.disconnect()
        with pytest.raises(LinkLost):
            b.driver.read_holding(0)
        b.driver.connect()
        assert b.driver.read_input(1) == [1]
        assert b.driver.is_connected()


def test_nobody_there_is_told() -> None:
    with bench("modbus://127.0.0.1:9") as b, pytest.raises(ConnectError):
        b.driver.connect()


def test_the_serial_line_is_set_up_and_its_speed_changed() -> None:
    with ModbusSimulator(rtu=True) as device, bench(device.address, baudrate=9600, parity="none", stop_bits=2) as b:
        b.driver.connect()
        assert b.driver.get_connection_info().details["line"] == "9600 8N2"
        assert b.driver.set_baudrate(115200) is True
        assert b.driver.read_input(9) == [9]
    with ModbusSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        assert b.driver.set_baudrate(9600) is False


def test_what_is_written_to_unit_0_of_a_line_is_not_waited_for_and_nothing_is_read_from_it() -> None:
    with ModbusSimulator(rtu=True) as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.send_command("holding 3 @0 = 99")
        b.driver.write_registers(4, [1, 2], unit=0)
        b.driver.write_coil(3, True, unit=0)
        b.driver.write_coils(4, [True], unit=0)
        assert b.driver.read_holding(3, 3) == [99, 1, 2]
        assert b.driver.read_coils(3, 2) == [True, True]
        asked = device.device.requests
        for call in (b.driver.read_holding, b.driver.read_coils):
            with pytest.raises(Refused, match="every unit of the line"):
                call(3, unit=0)
        statistics = b.driver.get_status().statistics
        assert (device.device.requests, asked) == (6, 6)
        assert (statistics.messages_out, statistics.messages_in, statistics.errors) == (6, 2, 0)
    with ModbusSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.send_command("holding 3 @0 = 99")
        assert b.driver.read_holding(3, unit=0) == [99]


LATE = ["01 03 02 dead", "01 04 04 0001 0002", "01 01 01 ff", "01 83 02", "01 06 0005 0007"]


@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "byte by byte"])
@pytest.mark.parametrize("late", LATE)
def test_a_late_answer_to_an_earlier_request_is_not_taken_for_the_answer(late: str, at_once: bool) -> None:
    master, port = os.openpty()
    tty.setraw(port)
    said = b"".join(body + crc16(body).to_bytes(2, "little") for body in map(bytes.fromhex, (late, "01 04 02 0005")))

    def answer() -> None:
        asked = b""
        while len(asked) < 8:
            asked += os.read(master, 8)
        for piece in [said] if at_once else [said[at : at + 1] for at in range(len(said))]:
            os.write(master, piece)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with bench(os.ttyname(port), timeout_s=20, retries=0) as b:
            b.driver.connect()
            assert b.driver.read_input(5) == [5]
    finally:
        thread.join()
        os.close(master)
        os.close(port)


def test_rtu_frames_pass_over_tcp_when_a_gateway_wants_them() -> None:
    import socket

    with ModbusSimulator(rtu=True) as device, socket.create_server(("127.0.0.1", 0)) as server:
        fd = os.open(device.address, os.O_RDWR | os.O_NOCTTY)

        def gateway() -> None:
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(1000):
                    os.write(fd, data)
                    peer.sendall(os.read(fd, 1000))

        thread = threading.Thread(target=gateway)
        thread.start()
        with bench(f"tcp://127.0.0.1:{server.getsockname()[1]}", framer="rtu") as b:
            b.driver.connect()
            assert b.driver.read_input(3) == [3]
        thread.join()
        os.close(fd)


# -- polling --------------------------------------------------------------------------------------------------------


def test_points_are_polled_into_the_stream(device: ModbusSimulator) -> None:
    settings = {"poll": ["holding 0", "coils 0 2"], "poll_s": 0.01, "tell_events": True}
    with bench(device.address, **settings) as b:
        b.driver.connect()
        b.driver.start_streaming()
        soon(lambda: told(b, "polled"))
        assert told(b, "polled")[0]["values"] == {"holding 0": 0, "coils 0 2": [False, False]}
        b.driver.write_registers(0, "42")
        soon(lambda: told(b, "polled")[-1]["values"]["holding 0"] == 42)
        record = b.streams["main"].read(timeout_s=5)
        assert record is not None
        assert set(record.data) == {"holding 0", "coils 0 2"}
        b.driver.stop_streaming()


def test_a_point_that_does_not_answer_is_left_out() -> None:
    with ModbusSimulator() as device:
        settings = {"poll": ["holding 0", "holding 0 @9"], "poll_s": 0.01, "timeout_s": 0.02, "retries": 0}
        with bench(device.address, **settings, tell_events=True) as b:
            b.driver.connect()
            b.driver.start_streaming()
            soon(lambda: len(told(b, "polled")) >= 2)
            assert told(b, "polled")[0]["values"] == {"holding 0": 0}
            b.driver.stop_streaming()


def test_polling_nothing_is_told() -> None:
    with ModbusSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.start_streaming()
        soon(lambda: told(b, "stream_failed"))
