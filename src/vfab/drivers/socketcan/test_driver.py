"""What the CAN driver does, on python-can's virtual buses, and on a socket as the broker gives one."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from vfab.model.errors import ConfigurationError, ConnectError, LinkLost, TimeoutExceeded
from vfab.protocols.candump import CanFrame, parse_frame, unpack
from vfab.sdk.link import Link
from vfab.sdk.testing import DriverBench, manifest_in, patience

can = pytest.importorskip("can")

from vfab.drivers.socketcan.bus import BrokerBus, message_of  # noqa: E402
from vfab.drivers.socketcan.driver import SocketCanDriver  # noqa: E402
from vfab.drivers.socketcan.health import BusHealth  # noqa: E402
from vfab.drivers.socketcan.simulator import CanNode  # noqa: E402
from vfab.sdk.testing import soon  # noqa: E402

FOLDER = Path(__file__).parent


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[SocketCanDriver]]:
    settings = {"reconnect_delay_s": 0.01, **settings}
    with DriverBench(SocketCanDriver, manifest_in(FOLDER), address, config=settings) as made:
        yield made


@contextmanager
def virtual(**settings: Any) -> Iterator[tuple[DriverBench[SocketCanDriver], Any]]:
    """A driver on a virtual bus of its own, connected, and python-can's bus on the same."""
    name = f"vfab-{uuid4()}"
    protocol = can.CanProtocol.CAN_FD if settings.get("fd") else can.CanProtocol.CAN_20
    with (
        can.Bus(name, interface="virtual", protocol=protocol) as peer,
        bench(f"can://virtual/{name}", **settings) as b,
    ):
        b.driver.connect()
        yield b, peer


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


# -- on a virtual bus -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["123#DEADBEEF", "18DAF110#0201", "123#R4", "7FF#", "123##1AABB"])
def test_frames_of_every_kind_go_out_and_come_in(text: str) -> None:
    with virtual(fd=True) as (b, peer):
        b.driver.send(text)
        message = peer.recv(5)
        sent = parse_frame(text)
        assert (message.arbitration_id, message.is_extended_id, message.is_remote_frame, message.is_fd) == (
            sent.id,
            sent.extended,
            sent.remote,
            sent.fd,
        )
        assert bytes(message.data) == sent.data
        peer.send(message_of(sent))
        (came,) = b.driver.receive()
        assert (came["text"], came["id"], came["own"]) == (text, sent.id, False)
        assert came["data"] == sent.data.hex()


def test_a_frame_is_sent_by_its_parts() -> None:
    with virtual() as (b, peer):
        b.driver.send_frame(0x18DAF110, [1, 2], extended=True)
        assert bytes(peer.recv(5).data) == b"\1\2"
        with pytest.raises(ConfigurationError, match="11 bits"):
            b.driver.send_frame(0x800)
        with pytest.raises(ConfigurationError, match="CAN FD is off"):
            b.driver.send("123##0AA")


def test_a_question_is_answered_by_the_frame_that_its_filter_passes() -> None:
    name = f"vfab-{uuid4()}"
    with (
        CanNode(can.Bus(name, interface="virtual")) as node,
        can.Bus(name, interface="virtual") as other,
        bench(f"can://virtual/{name}") as b,
    ):
        b.driver.connect()
        answer = b.driver.send_command("7DF#02010C", answer="7E8:7F8")
        assert (answer.text, answer.data[:5]) == ("7E8#04410C1AF8000000", bytes.fromhex("04410c1af8"))
        assert b.driver.send_command("7DF#020199").text.startswith("7E8#037F")
        assert b.driver.send_command("101#R2", answer="101:7FF").hex == "00d7"
        other.send(message_of(CanFrame(0x555)))
        node.say(CanFrame(0x556))
        assert {came["id"] for came in b.driver.receive(2)} == {0x555, 0x556}
        with pytest.raises(TimeoutExceeded):
            b.driver.send_command("7DF#02010C", answer="123:7FF", wait_s=0.05)


def test_filters_hold_until_they_are_set_anew_and_bad_ones_change_nothing() -> None:
    with virtual(filters=["100:700"]) as (b, peer):

        def passing() -> list[int]:
            for ident in (0x123, 0x223, 0x7FF):
                peer.send(message_of(CanFrame(ident)))
            return [came["id"] for came in b.driver.receive(3, wait_s=0.3)]

        assert passing() == [0x123]
        assert b.driver.set_filters("223:7FF, 7FF:7FF") == ["223:7FF", "7FF:7FF"]
        assert passing() == [0x223, 0x7FF]
        for bad in ("123", "123~7FF"):
            with pytest.raises(ConfigurationError):
                b.driver.set_filters(bad)
        assert b.driver.get_connection_info().details["filters"] == ["223:7FF", "7FF:7FF"]
        assert b.driver.set_filters() == []
        assert passing() == [0x123, 0x223, 0x7FF]


def test_frames_are_streamed_in_their_order_with_their_times() -> None:
    with virtual() as (b, peer):
        b.driver.start_streaming()
        soon(lambda: b.driver.get_status().streaming)
        for number in range(500):
            peer.send(message_of(CanFrame(0x100, number.to_bytes(2, "big"))))
        reader = b.streams["main"]
        records = [record for record in (reader.read(timeout_s=5) for _ in range(500)) if record is not None]
        assert [int.from_bytes(record.data["data"], "big") for record in records] == list(range(500))
        assert records[0].device_time_s == pytest.approx(time.time(), abs=60)
        assert reader.lost == 0
        b.driver.stop_streaming()
        status = b.driver.get_status()
        assert (status.statistics.messages_in, status.statistics.bytes_in) == (500, 1000)


def test_own_frames_come_back_when_they_are_wanted() -> None:
    with virtual(receive_own=True) as (b, _):
        b.driver.send("123#01")
        (came,) = b.driver.receive()
        assert came["own"] is True


def test_a_periodic_frame_is_sent_until_it_is_stopped() -> None:
    with virtual() as (b, peer):
        assert b.driver.send_periodic("123#01", 0.005) == ["123#01"]
        assert b.driver.send_periodic("123#02", 0.005) == ["123#02"]
        assert b.driver.get_status().details["periodic"] == ["123#02"]
        soon(lambda: bytes(peer.recv(5).data) == b"\2")
        assert b.driver.stop_periodic("0123") == []
        b.driver.send_periodic("124#01", 0.01)
        assert b.driver.stop_periodic() == []
        with pytest.raises(ConfigurationError):
            b.driver.send_periodic("124#01", 0)


def test_error_frames_tell_the_state_of_the_bus() -> None:
    with virtual() as (b, peer):
        peer.send(message_of(CanFrame(0x100)))
        peer.send(message_of(parse_frame("20000004#0020000000008800")))
        soon(lambda: told(b, "bus_state"))
        assert told(b, "bus_state") == [{"state": "passive", "before": "active"}]
        status = b.driver.get_status()
        assert status.details["bus_state"] == "passive"
        assert status.details["transmit_error_counter"] == 0x88
        assert status.statistics.errors == 1


@pytest.mark.parametrize(
    ("frame", "state"),
    [
        ("20000040#0000000000000000", "bus-off"),
        ("20000100#0000000000000000", "active"),
        ("20000004#0008000000006000", "warning"),
        ("20000004#0040000000000000", "active"),
        ("20000024#0001000000000000", "unknown"),
        ("20000200#0000000000000102", "unknown"),
    ],
)
def test_the_state_is_read_as_linux_writes_it(frame: str, state: str) -> None:
    health = BusHealth()
    health.heard(parse_frame(frame))
    assert health.state == state


def test_connecting_twice_closing_twice_and_again() -> None:
    with virtual() as (b, peer):
        assert b.driver.connect() is True
        b.driver.disconnect()
        b.driver.disconnect()
        with pytest.raises(LinkLost):
            b.driver.send("123#")
        with pytest.raises(LinkLost):
            b.driver.send_periodic("123#", 1)
        b.driver.connect()
        b.driver.send("123#")
        assert peer.recv(5).arbitration_id == 0x123


def test_an_interface_that_cannot_be_opened_is_told() -> None:
    with bench("can://udp_multicast/127.0.0.1") as b, pytest.raises(ConnectError) as why:
        b.driver.connect()
    assert "scan" in why.value.remedy
    with bench("can://vfab-none0") as b, pytest.raises(ConnectError):
        b.driver.connect()


def test_a_scan_needs_no_bus() -> None:
    with bench("can://can0") as b:
        assert all(found["address"].startswith("can://") for found in b.driver.scan())


# -- on the broker's socket -------------------------------------------------------------------------------------------


class HandedOver:
    """Hands over one end of a socket pair that keeps frames apart, where a kernel has no CAN."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.peers: list[socket.socket] = []
        self.closed: list[str] = []

    def emit(self, kind: str, data: Any) -> None:
        self.events.append((kind, dict(data)))

    def progress(self, data: Any) -> None:
        raise NotImplementedError

    def open_stream(self, info: Any) -> Any:
        raise NotImplementedError

    def open_link(self, address: str, settings: Any) -> Link:
        assert address == "can://can0"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.settimeout(5)
        self.peers.append(theirs)
        return Link(ours.detach(), address)

    def close_link(self, address: str) -> None:
        self.closed.append(address)


def test_frames_pass_over_the_socket_that_the_broker_opened() -> None:
    ports = HandedOver()
    made: DriverBench[SocketCanDriver] = DriverBench(SocketCanDriver, manifest_in(FOLDER), "can://can0")
    driver = made.driver
    driver.environment = replace(driver.environment, ports=ports)
    driver.connect()
    (peer,) = ports.peers
    driver.send("123#DEADBEEF")
    assert unpack(peer.recv(100)) == CanFrame(0x123, b"\xde\xad\xbe\xef")
    peer.send(CanFrame(0x18DAF110, b"\1", extended=True).pack())
    assert driver.receive()[0]["text"] == "18DAF110#01"
    began = time.monotonic()
    driver.disconnect()
    assert time.monotonic() - began < patience(5), "the thread that reads is woken"
    assert ports.closed == ["can://can0"]
    peer.close()


def test_a_bus_that_breaks_is_opened_again() -> None:
    ports = HandedOver()
    made: DriverBench[SocketCanDriver] = DriverBench(
        SocketCanDriver, manifest_in(FOLDER), "can://can0", config={"reconnect_delay_s": 0.01}
    )
    driver = made.driver
    driver.environment = replace(driver.environment, ports=ports)
    driver.connect()
    ports.peers[0].send(b"rubbish")
    soon(lambda: len(ports.peers) == 2 and driver.is_connected())
    assert [kind for kind, _ in ports.events] == ["link_lost", "reconnected"]
    driver.disconnect()
    for peer in ports.peers:
        peer.close()


def test_a_bus_of_the_broker_takes_filters_and_shuts_down_twice() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    bus = BrokerBus(ours.detach(), "can0", can_filters=[{"can_id": 1, "can_mask": 0x7FF, "extended": False}])
    for ident in (2, 1):
        theirs.send(CanFrame(ident).pack())
    message = bus.recv(5)
    assert message is not None
    assert message.arbitration_id == 1
    assert bus.recv(0.01) is None
    theirs.close()
    with pytest.raises(can.CanError):
        bus.recv(5)
    bus.shutdown()
    bus.shutdown()


def test_filters_are_packed_as_the_kernel_takes_them() -> None:
    from vfab.drivers.socketcan.bus import _packed

    assert _packed({"can_id": 0x123, "can_mask": 0x7FF, "extended": False}) == struct.pack("=II", 0x123, 0x800007FF)
    assert _packed({"can_id": 1, "can_mask": 1, "extended": True}) == struct.pack("=II", 0x80000001, 0x80000001)
    assert _packed({"can_id": 1, "can_mask": 1}) == struct.pack("=II", 1, 1)
