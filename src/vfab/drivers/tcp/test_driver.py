"""What the TCP driver does, told by its simulator and by sockets of the test's own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.tcp.driver import TcpDriver
from vfab.drivers.tcp.simulator import IDENTITY, TcpSimulator
from vfab.model.errors import Cancelled, ConfigurationError, ConnectError, LinkLost, TimeoutExceeded
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent
NOBODY = "tcp://127.0.0.1:9"


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[TcpDriver]]:
    settings = {"reconnect_delay_s": 0.01, **settings}
    with DriverBench(TcpDriver, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


def test_a_command_is_answered_and_everything_is_counted() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        assert b.driver.connect() is True
        answer = b.driver.send_command("*IDN?")
        assert (answer.text, answer.command, answer.data) == (IDENTITY, "*IDN?", IDENTITY.encode())
        assert answer.elapsed_s > 0
        status = b.driver.get_status()
        assert status.state == "connected"
        counted = status.statistics
        assert (counted.messages_out, counted.messages_in) == (1, 1)
        assert (counted.bytes_out, counted.bytes_in) == (6, len(IDENTITY) + 1)
        assert (counted.errors, counted.reconnects) == (0, 0)


def test_the_connection_says_what_it_is() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        info = b.driver.get_connection_info()
        assert (info.connected, info.since_s, info.kind) == (False, None, "tcp")
        b.driver.connect()
        info = b.driver.get_connection_info()
        assert info.connected
        assert info.since_s is not None
        assert info.details["remote"] == f"127.0.0.1:{device.port}"
        assert info.baudrate is None
        assert b.driver.set_baudrate(9600) is False


def test_keep_alive_is_switched_on_as_the_settings_say() -> None:
    with TcpSimulator() as device, bench(device.address, keep_alive_s=6, keep_alive_probes=4) as b:
        b.driver.connect()
        with b.driver.link.socket() as connection:
            connection.setblocking(False)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            asked = [connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in
                     ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")]  # fmt: skip
        assert asked == [6, 2, 4, 14000]


def test_connecting_twice_and_closing_twice_does_nothing_more() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        assert b.driver.connect() is True
        assert b.driver.establish_connection() is True
        assert len(b.links) == 1
        b.driver.disconnect()
        b.driver.disconnect()
        assert not b.driver.is_connected()
        with pytest.raises(LinkLost, match="no connection"):
            b.driver.send("x")


def test_nobody_there_is_told_and_leaves_nothing_open() -> None:
    with bench(NOBODY) as b:
        with pytest.raises(ConnectError):
            b.driver.connect()
        assert b.driver.get_status().state == "disconnected"


def test_what_comes_unasked_is_kept_told_and_streamed() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        events = b.driver.listen_for_events()
        assert events.stream == "main"
        soon(lambda: b.driver.get_status().streaming)
        assert b.driver.send_command("COUNT 3").text == "OK"
        ticks = [next(iter(events)).data for _ in range(3)]
        assert ticks == [b"tick 1", b"tick 2", b"tick 3"]
        assert [event["text"] for event in told(b, "message")] == ["tick 1", "tick 2", "tick 3"]
        reader = b.streams["main"]
        records = [reader.read(timeout_s=5) for _ in range(3)]
        assert [bytes(record.data) for record in records if record] == [b"tick 1", b"tick 2", b"tick 3"]
        b.driver.stop_streaming()
        assert not b.driver.get_status().streaming


def test_receive_gives_what_came_and_waits_for_no_more_than_it_is_told() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.send("COUNT 2")
        assert [message["text"] for message in b.driver.receive(3, wait_s=0.3)] == ["OK", "tick 1", "tick 2"]
        assert b.driver.receive(wait_s=0) == []
        b.driver.send("COUNT 1")
        soon(lambda: len(told(b, "message")) == 5)
        assert b.driver.drain() == 2
        assert b.driver.receive(wait_s=0) == []


def test_an_answer_that_does_not_come_is_told_with_the_command() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        with pytest.raises(TimeoutExceeded, match=r"'MUTE' within 0\.05 s"):
            b.driver.send_command("MUTE", wait_s=0.05)
        assert b.driver.set_timeout(0.06) is True
        with pytest.raises(TimeoutExceeded, match=r"0\.06 s"):
            b.driver.send_command("MUTE")
        assert b.driver.send_command("ECHO still there", wait_s=5).text == "still there"
        with pytest.raises(ConfigurationError):
            b.driver.set_timeout(0)


def test_waiting_for_an_answer_can_be_cancelled() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        running = b.start(lambda: b.driver.send_command("MUTE", wait_s=60))
        soon(lambda: b.driver.get_status().statistics.messages_out == 1)
        running.token.cancel()
        with pytest.raises(Cancelled):
            running.result()
        assert b.driver.send_command("ECHO a").text == "a"


def test_hex_goes_out_as_bytes_and_bad_hex_is_refused() -> None:
    with TcpSimulator("echo") as device, bench(device.address, framing="raw") as b:
        b.driver.connect()
        assert b.driver.send_command("00 ff 0a", form="hex").hex == "00ff0a"
        with pytest.raises(ConfigurationError, match="not hex"):
            b.driver.send("0g", form="hex")


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"framing": "cobs"}, ["00", "0011ff"]),
        ({"framing": "slip"}, ["c0db", "00"]),
        ({"framing": "length", "length": 4}, ["", "00" * 70]),
        ({"framing": "fixed", "length": 3}, ["010203", "040506"]),
        ({"framing": "delimiter", "delimiter": "\\x03"}, ["61", "62"]),
        ({"framing": "gap", "gap_s": 0.02}, ["0102", "0304"]),
    ],
    ids=lambda value: value.get("framing") if isinstance(value, dict) else "",
)
def test_every_framing_carries_messages_there_and_back(settings: dict[str, Any], messages: list[str]) -> None:
    with TcpSimulator("echo") as device, bench(device.address, **settings) as b:
        b.driver.connect()
        assert [b.driver.send_command(message, form="hex").hex for message in messages] == messages


def test_a_lost_connection_is_told_and_opened_again() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.send_command("ECHO we are both here")
        device.hang_up()
        soon(lambda: told(b, "reconnected"))
        assert told(b, "link_lost")[0]["again"] is True
        assert b.driver.send_command("ECHO back").text == "back"
        assert b.driver.get_status().statistics.reconnects == 1


def test_without_reconnecting_a_lost_connection_stays_lost_until_somebody_connects() -> None:
    with TcpSimulator() as device, bench(device.address, reconnect=False) as b:
        b.driver.connect()
        with pytest.raises(LinkLost):
            b.driver.send_command("BYE")
        soon(lambda: b.driver.get_status().state == "lost")
        assert not b.driver.is_connected()
        with pytest.raises(LinkLost):
            b.driver.receive()
        assert b.driver.connect() is True
        assert b.driver.send_command("ECHO again").text == "again"


def test_a_stream_ends_when_the_link_is_lost_for_good() -> None:
    with TcpSimulator() as device, bench(device.address, reconnect=False) as b:
        b.driver.connect()
        b.driver.start_streaming()
        b.driver.send_command("ECHO we are both here")
        device.hang_up()
        soon(lambda: told(b, "stream_failed"))
        soon(lambda: not b.driver.get_status().streaming)


def test_disconnecting_ends_attempts_to_reconnect() -> None:
    device = TcpSimulator()
    with device, bench(device.address, reconnect_delay_s=20) as b:
        b.driver.connect()
        b.driver.send_command("ECHO we are both here")
        device.hang_up()
        soon(lambda: b.driver.get_status().state == "reconnecting")
        with pytest.raises(LinkLost) as told_why:
            b.driver.send("x")
        assert "reconnected" in told_why.value.remedy
        b.driver.disconnect()
        assert b.driver.get_status().state == "disconnected"


def test_a_message_that_is_too_long_is_counted_and_the_next_one_comes() -> None:
    with TcpSimulator() as device, bench(device.address, message_limit_bytes=10) as b:
        b.driver.connect()
        device_says = "x" * 50
        soon(lambda: b.driver.send_command("ECHO a").text == "a")
        device.say(device_says)
        device.say("short")
        assert b.driver.receive()[0]["text"] == "short"
        status = b.driver.get_status()
        assert status.statistics.errors == 1
        assert "no message" in status.last_error


def test_two_hundred_connections_leak_nothing() -> None:
    with TcpSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.disconnect()
        before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
        for _ in range(200):
            b.driver.connect()
            b.driver.disconnect()
        soon(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208
        soon(lambda: threading.active_count() <= threads)
