"""What the serial driver does: on pseudo-terminals, and behind our own RFC 2217 server"""

from __future__ import annotations

import socket
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.serial_link.device import IDENTITY
from vfab.drivers.serial_link.driver import SerialLinkDriver
from vfab.drivers.serial_link.simulator import SerialSimulator
from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DriverError,
    LinkLost,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.protocols.rfc2217 import Code, Control, LineState, Parity, StopSize
from vfab.sdk.serial_line import LineSettings
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[SerialLinkDriver]]:
    settings = {"reconnect_delay_s": 0.01, **settings}
    with DriverBench(SerialLinkDriver, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


# -- here and behind RFC 2217 ---------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["pty", "rfc2217"])
def device(request: pytest.FixtureRequest) -> Iterator[SerialSimulator]:
    with SerialSimulator(rfc2217=request.param) as simulator:
        yield simulator


def test_a_command_is_answered(device: SerialSimulator) -> None:
    with bench(device.address) as b:
        assert b.driver.connect() is True
        assert b.driver.send_command("*IDN?").text == IDENTITY
        info = b.driver.get_connection_info()
        assert (info.kind, info.baudrate, info.details["line"]) == ("serial", 9600, "9600 8N1")


def test_every_byte_passes_both_ways(device: SerialSimulator) -> None:
    device.device.echo = True
    every = bytes(range(256)) * 4
    with bench(device.address, framing="fixed", length=len(every)) as b:
        b.driver.connect()
        assert b.driver.send_command(every.hex(), form="hex").data == every


def test_what_comes_unasked_is_told(device: SerialSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        b.driver.send_command("*IDN?")
        device.say(b"alarm \xff\r\n")
        assert b.driver.receive()[0]["text"] == "alarm \\xff"
        assert told(b, "message")[0]["hex"] == b"alarm \xff".hex()


def test_the_speed_can_be_set_while_it_is_open(device: SerialSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        assert b.driver.set_baudrate(115200) is True
        assert b.driver.get_connection_info().baudrate == 115200
        assert b.driver.send_command("ECHO still").text == "still"
        with pytest.raises(ConfigurationError):
            b.driver.set_baudrate(0)


def test_purging_forgets_what_was_received(device: SerialSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        b.driver.send("COUNT 3")
        soon(lambda: len(told(b, "message")) == 4)
        b.driver.purge()
        assert b.driver.receive(wait_s=0) == []
        b.driver.purge("to-send")
        b.driver.purge("received")


def test_a_break_has_its_limits(device: SerialSimulator) -> None:
    with bench(device.address) as b:
        b.driver.connect()
        with pytest.raises(ConfigurationError, match="cannot be"):
            b.driver.send_break(11)
        b.driver.send_break(0.001)
        assert b.driver.send_command("ECHO still").text == "still"


# -- here -----------------------------------------------------------------------------------------------------------


def test_the_port_is_set_up_as_the_settings_say() -> None:
    with SerialSimulator() as device, bench(device.address, baudrate=57600, stop_bits=2, flow="xonxoff") as b:
        b.driver.connect()
        iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(b.driver.link.fileno())
        assert (ispeed, ospeed) == (termios.B57600, termios.B57600)
        assert cflag & termios.CSTOPB
        assert iflag & (termios.IXON | termios.IXOFF) == termios.IXON | termios.IXOFF
        assert not lflag & (termios.ECHO | termios.ICANON)
        assert not oflag & termios.OPOST


def test_any_speed_can_be_set() -> None:
    with SerialSimulator() as device, bench(device.address, baudrate=31250) as b:
        b.driver.connect()
        assert b.driver.get_connection_info().details["port_baudrate"] == 31250
        assert b.driver.send_command("ECHO midi").text == "midi"


def test_a_pseudo_terminal_has_no_modem_lines() -> None:
    with SerialSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        with pytest.raises(Refused, match="no modem lines") as why:
            b.driver.modem_lines()
        assert why.value.remedy
        assert b.driver.get_status().state == "connected"
    with SerialSimulator() as device, bench(device.address, dtr=True) as b, pytest.raises(Refused):
        b.driver.connect()


def test_rs485_is_refused_where_the_kernel_cannot_switch_it() -> None:
    with (
        SerialSimulator() as device,
        bench(device.address, rs485="kernel") as b,
        pytest.raises(ConfigurationError, match="RS-485") as why,
    ):
        b.driver.connect()
    assert "rts" in why.value.remedy
    assert b.driver.get_status().state == "disconnected"


@pytest.mark.parametrize(
    "settings", [{"rs485": "rts", "flow": "rtscts"}, {"stop_bits": 1.5}, {"stop_bits": 1.5, "data_bits": 8}]
)
def test_settings_that_exclude_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as why:
        LineSettings.of(settings)
    assert why.value.remedy


def test_what_is_no_serial_port_is_refused_with_what_would_be_right() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        bench(f"tcp://127.0.0.1:{server.getsockname()[1]}") as b,
        pytest.raises(ConnectError, match="no serial port") as why,
    ):
        b.driver.connect()
    assert "rfc2217://" in why.value.remedy


# -- RFC 2217 -------------------------------------------------------------------------------------------------------


def test_the_port_behind_rfc_2217_is_set_up_as_the_settings_say() -> None:
    settings = {"baudrate": 19200, "data_bits": 7, "parity": "even", "stop_bits": 2, "flow": "rtscts"}
    with SerialSimulator(rfc2217=True) as device, bench(device.address, **settings) as b:
        b.driver.connect()
        assert device.settings == {
            Code.SET_BAUDRATE: 19200,
            Code.SET_DATASIZE: 7,
            Code.SET_PARITY: Parity.EVEN,
            Code.SET_STOPSIZE: StopSize.TWO,
            Code.SET_CONTROL: Control.FLOW_HARDWARE,
        }


def test_modem_lines_are_switched_and_told() -> None:
    with SerialSimulator(rfc2217=True) as device, bench(device.address) as b:
        b.driver.connect()
        lines = b.driver.set_lines(dtr=False)
        assert (lines["dtr"], lines["rts"]) == (False, True)
        soon(lambda: told(b, "modem"))
        assert told(b, "modem")[-1]["dsr"] is False
        b.driver.set_lines(dtr=True, rts=False)
        soon(lambda: told(b, "modem")[-1]["cts"] is False and told(b, "modem")[-1]["dsr"] is True)
        assert b.driver.get_status().details["modem_lines"]["cts"] is False


def test_a_break_goes_out_and_one_that_comes_is_told() -> None:
    with SerialSimulator(rfc2217=True) as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.send_break(0.01)
        assert b.driver.send_command("BREAKS?").text == "1"
        device.happen(LineState.BREAK_DETECTED)  # nobody asked for it: the mask says what is told
        assert b.driver.send_command("ECHO x").text == "x"


def test_a_speed_that_the_port_lacks_is_refused_and_the_old_one_stays() -> None:
    with SerialSimulator(rfc2217=True) as device, bench(device.address) as b:
        b.driver.connect()
        with pytest.raises(ConfigurationError, match="cannot do 5000000 baud"):
            b.driver.set_baudrate(5_000_000)
        assert b.driver.get_connection_info().baudrate == 9600


def test_a_lost_rfc_2217_connection_is_set_up_anew() -> None:
    with SerialSimulator(rfc2217=True) as device, bench(device.address, baudrate=4800) as b:
        b.driver.connect()
        device.settings.clear()
        device.hang_up()
        soon(lambda: told(b, "reconnected"))
        assert device.settings[Code.SET_BAUDRATE] == 4800
        assert b.driver.send_command("ECHO back").text == "back"


def test_rs485_is_the_servers_business() -> None:
    with (
        SerialSimulator(rfc2217=True) as device,
        bench(device.address, rs485="rts") as b,
        pytest.raises(ConfigurationError, match="RS-485"),
    ):
        b.driver.connect()


@pytest.mark.parametrize(
    ("says", "error"), [(bytes((255, 254, 44)), ProtocolError), (b"", TimeoutExceeded), (None, LinkLost)]
)
def test_a_server_that_does_not_speak_rfc_2217_is_told(says: bytes | None, error: type[DriverError]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                if says is not None:
                    peer.sendall(says)
                    while peer.recv(100):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        with bench(f"rfc2217://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.1) as b:
            with pytest.raises(error):
                b.driver.connect()
            assert all(link.closed for link in b.links)
        thread.join()
