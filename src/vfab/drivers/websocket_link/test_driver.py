"""What the WebSocket driver does, told by its simulator, which is websockets' own server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.websocket_link.driver import WebSocketLinkDriver
from vfab.drivers.websocket_link.simulator import WebSocketSimulator
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DriverError,
    LinkLost,
    PermissionRefused,
    ProtocolError,
    TimeoutExceeded,
)
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[WebSocketLinkDriver]]:
    settings = {"reconnect_delay_s": 0.01, **settings}
    with DriverBench(WebSocketLinkDriver, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


def test_text_and_binary_messages_are_answered_in_their_kind() -> None:
    with WebSocketSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        answer = b.driver.send_command("grüß dich")
        assert (answer.text, answer.fields["kind"]) == ("grüß dich", "text")
        answer = b.driver.send_command("00 ff", form="hex")
        assert (answer.hex, answer.fields["kind"]) == ("00ff", "binary")
        b.driver.send_binary(b"plain")
        assert b.driver.receive()[0]["kind"] == "binary"
        b.driver.send_text("plain")
        assert b.driver.receive()[0]["kind"] == "text"
        counted = b.driver.get_status().statistics
        assert (counted.messages_in, counted.messages_out) == (4, 4)
        assert counted.bytes_in == counted.bytes_out


def test_what_is_text_travels_as_binary_when_it_is_set_so() -> None:
    with WebSocketSimulator() as device, bench(device.address, send_as="binary") as b:
        b.driver.connect()
        assert b.driver.send_command("plain").fields["kind"] == "binary"


def test_a_ping_is_answered() -> None:
    with WebSocketSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        assert 0 <= b.driver.ping() < 5


def test_a_subprotocol_is_agreed_on_or_the_connection_refused() -> None:
    with WebSocketSimulator() as device:
        with bench(device.address, subprotocols=["other", "echo"]) as b:
            b.driver.connect()
            assert b.driver.get_connection_info().details["subprotocol"] == "echo"
        with bench(device.address, subprotocols=["other"]) as b:
            with pytest.raises(ProtocolError, match="subprotocols other"):
                b.driver.connect()
            assert not b.driver.is_connected()


def test_a_path_that_is_refused_is_told() -> None:
    with WebSocketSimulator() as device, bench(device.address, path="/secret/door", headers=["X-Key: none"]) as b:
        with pytest.raises(PermissionRefused, match="403") as why:
            b.driver.connect()
        assert "path" in why.value.remedy


def test_what_comes_unasked_is_streamed_in_order() -> None:
    with WebSocketSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        b.driver.start_streaming()
        soon(lambda: b.driver.get_status().streaming)
        b.driver.send("ticks 500")
        reader = b.streams["main"]
        records = [record for record in (reader.read(timeout_s=5) for _ in range(500)) if record is not None]
        assert [bytes(record.data) for record in records] == [f"tick {n}".encode() for n in range(1, 501)]
        assert records[0].meta["kind"] == "text"


def test_a_closed_connection_is_told_with_its_code_and_opened_again() -> None:
    with WebSocketSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        with pytest.raises(LinkLost, match="1001 bye"):
            b.driver.send_command("bye")
        soon(lambda: told(b, "reconnected"))
        assert b.driver.send_command("again").text == "again"
        device.hang_up()
        soon(lambda: len(told(b, "reconnected")) == 2)


def test_without_reconnecting_it_stays_lost() -> None:
    with WebSocketSimulator() as device, bench(device.address, reconnect=False) as b:
        b.driver.connect()
        b.driver.send_command("both are here")
        device.hang_up()
        soon(lambda: b.driver.get_status().state == "lost")
        with pytest.raises(LinkLost):
            b.driver.ping()
        b.driver.connect()
        assert b.driver.send_command("again").text == "again"


def test_connecting_and_closing_twice() -> None:
    with WebSocketSimulator() as device, bench(device.address.replace("ws://", "tcp://").rstrip("/")) as b:
        assert b.driver.connect() is True
        assert b.driver.connect() is True
        b.driver.disconnect()
        b.driver.disconnect()
        b.driver.connect()
        assert b.driver.send_command("x").text == "x"


def test_waiting_can_be_cancelled() -> None:
    with WebSocketSimulator() as device, bench(device.address) as b:
        b.driver.connect()
        running = b.start(lambda: b.driver.send_command("ticks 0", wait_s=60))
        soon(lambda: b.driver.get_status().statistics.messages_out)
        running.token.cancel()
        with pytest.raises(Cancelled):
            running.result()
        assert b.driver.send_command("x").text == "x"


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (b"", TimeoutExceeded),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ConnectError),
        (b"SSH-2.0-x\r\n", ProtocolError),
    ],
)
def test_what_is_no_websocket_is_told(says: bytes, error: type[DriverError]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(says)
                while peer.recv(1000):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        with bench(f"ws://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3) as b, pytest.raises(error):
            b.driver.connect()
        thread.join()


def test_nobody_there_is_told() -> None:
    with bench("ws://127.0.0.1:9") as b, pytest.raises(ConnectError):
        b.driver.connect()


def test_certificates_that_cannot_be_read_or_trusted_are_told(tmp_path: Path) -> None:
    with WebSocketSimulator() as device:
        address = device.address.replace("ws://", "wss://")
        with bench(address, ca_file=str(tmp_path / "none")) as b, pytest.raises(ConfigurationError):
            b.driver.connect()
        with bench(address, timeout_s=5) as b, pytest.raises(ConnectError):
            b.driver.connect()
