"""Links over real pseudo-terminals and sockets."""

from __future__ import annotations

import os
import pty
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DeviceBusy,
    DeviceNotFound,
    LinkLost,
    PermissionRefused,
    ProtocolError,
    TimeoutExceeded,
)
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.link import DISCARD_MAX, Link, make_raw, open_address, open_error, split_address


@contextmanager
def linked() -> Iterator[tuple[Link, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs, Link(ours.detach(), "test") as link:
        yield link, theirs


def test_bytes_go_both_ways_and_lines_are_cut() -> None:
    with linked() as (link, peer):
        link.write(b"ask")
        assert peer.recv(10) == b"ask"
        peer.sendall(b"one\ntwo\nthr")
        assert link.read_until() == b"one\n"
        assert link.wait_readable(0)
        assert link.read(2) == b"tw"
        assert link.read_available(2) == b"o\n"
        with pytest.raises(TimeoutExceeded):
            link.read_until(timeout_s=0.01)
        peer.sendall(b"ee\n")
        assert link.read_until() == b"three\n"
        assert link.read_available() == b""
        assert not link.wait_readable(0.01)
        peer.sendall(b"stale")
        assert link.wait_readable(5)
        assert link.discard_input() == b"stale"
        peer.sendall(b"x" * 20)
        with pytest.raises(ProtocolError, match="without"):
            link.read_until(limit=10)
        assert link.read() == b"x" * 20


def test_a_peer_that_never_stops_sending_is_not_read_for_ever() -> None:
    with Link(os.open("/dev/zero", os.O_RDWR | os.O_NONBLOCK), "endless") as link:
        assert DISCARD_MAX <= len(link.discard_input()) <= DISCARD_MAX + 65536
        assert link.read_available()


def test_a_peer_that_takes_nothing_and_one_that_is_gone_are_told_apart() -> None:
    with linked() as (link, peer):
        with pytest.raises(TimeoutExceeded, match="would not take more bytes"):
            link.write(b"x" * 10_000_000, timeout_s=0.01)
        peer.close()
        with pytest.raises(LinkLost):
            link.write(b"x")
        with pytest.raises(LinkLost):
            while True:
                link.read(timeout_s=1)
    link.close()
    assert link.closed
    assert link.fileno() == -1
    for use in (link.read, link.read_available, lambda: link.write(b"x"), lambda: link.wait_readable(0)):
        with pytest.raises(LinkLost):
            use()


def test_a_cancel_wakes_whoever_waits_and_a_deadline_cuts_the_wait_short() -> None:
    with linked() as (link, peer):
        token = CancelToken()
        context = current_token.set(token)
        threading.Timer(0.02, token.cancel).start()
        with pytest.raises(Cancelled):
            link.read(timeout_s=None)
        with pytest.raises(Cancelled):
            link.read()
        current_token.set(CancelToken(0.02))
        with pytest.raises(TimeoutExceeded):
            link.read(timeout_s=None)
        token = CancelToken(0.001)
        current_token.set(token)
        token.close()
        peer.sendall(b"late")
        assert link.read() == b"late", "what a call left in the background is not bound by its deadline"
        current_token.reset(context)


def test_a_pseudo_terminal_is_a_port() -> None:
    master, slave = pty.openpty()
    tty.setraw(master)
    path = os.ttyname(slave)
    os.close(slave)
    with Link(open_address(path, baudrate=115200), path) as link:
        with pytest.raises(DeviceBusy, match="another program uses"):
            open_address(path)
        os.close(open_address(path, exclusive=False))
        link.write(b"\x00\x11\x13\r\n")
        assert os.read(master, 100) == b"\x00\x11\x13\r\n", "nothing is translated on the way"
        assert link.read_available() == b""
        with pytest.raises(ConfigurationError, match="not a rate"):
            make_raw(link.fileno(), 12345, path)
        os.close(master)
        with pytest.raises(LinkLost):
            link.read(timeout_s=1)
        with pytest.raises(ConnectError):
            make_raw(link.fileno(), 9600, path)


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound):
        open_address(str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectError, match="is not a device"):
        open_address(str(tmp_path / "file"))
    with pytest.raises(ConnectError, match="cannot open"):
        open_address(str(tmp_path))
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with Link(open_address(f"tcp://127.0.0.1:{port}"), "tcp") as link:
        peer, _ = server.accept()
        link.write(b"hi")
        assert peer.recv(2) == b"hi"
        peer.close()
        with pytest.raises(LinkLost, match="closed the link"):
            link.read()
    server.close()
    with pytest.raises(ConnectError):
        open_address(f"tcp://127.0.0.1:{port}")


def test_a_network_that_does_not_answer_is_a_timeout() -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    held: list[int] = []
    with pytest.raises(TimeoutExceeded, match="did not answer within"):
        # the queue of connections that nobody accepts is full at some point
        held.extend(open_address(address, timeout_s=0.1) for _ in range(8))
    for fd in held:
        os.close(fd)
    server.close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(13, PermissionRefused), (1, PermissionRefused), (16, DeviceBusy), (2, DeviceNotFound), (5, ConnectError)],
)
def test_the_systems_refusals_are_translated(number: int, kind: type[Exception]) -> None:
    assert isinstance(open_error("/dev/x", OSError(number, "told")), kind)


def test_a_port_of_somebody_else_is_refused() -> None:
    master, slave = pty.openpty()
    Path(os.ttyname(slave)).chmod(0)
    me = os.geteuid()
    os.seteuid(me or 65534)  # the superuser may open everything
    try:
        with pytest.raises(PermissionRefused, match="may not open") as told:
            open_address(os.ttyname(slave))
    finally:
        os.seteuid(me)
    assert "usermod" in told.value.remedy
    os.close(master)
    os.close(slave)


def test_addresses() -> None:
    assert split_address("/dev/ttyACM0") == ("path", "/dev/ttyACM0", 0)
    assert split_address("tcp://[::1]:80") == ("tcp", "::1", 80)
    assert split_address("ws://cam.local/live?x=1") == ("tcp", "cam.local", 80)
    assert split_address("http://user:word@192.0.2.7:8080/a:b") == ("tcp", "192.0.2.7", 8080)
    assert split_address("udp://192.0.2.7:5005") == ("udp", "192.0.2.7", 5005)
    assert split_address("can://vcan0") == ("can", "vcan0", 0)
    assert split_address("unix:///run/a.sock") == ("unix", "/run/a.sock", 0)
    for wrong in (
        "ttyACM0",
        "tcp://host",
        "tcp://:80",
        "udp://host",
        "can://",
        "ftp://host:80",
        "tcp://[::1",
        "tcp://host:0",
        "tcp://host:99999",
        "",
    ):
        with pytest.raises(ConfigurationError, match="is not an address"):
            split_address(wrong)


def test_datagrams_and_unix_sockets_are_links_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{peer.getsockname()[1]}"
        with Link(open_address(address), address) as link:
            link.write(b"hello")
            data, sender = peer.recvfrom(100)
            peer.sendto(data + b"!", sender)
            assert link.read(timeout_s=5.0) == b"hello!"
    path = str(tmp_path / "s")
    with pytest.raises(DeviceNotFound):
        open_address(f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with Link(open_address(f"unix://{path}"), path) as link:
            peer_end, _ = server.accept()
            with peer_end, link.socket() as own:
                own.sendall(b"by a library")
                assert peer_end.recv(100) == b"by a library"
            fd = link.detach()
            assert link.closed
            os.close(fd)


def test_a_node_is_no_network_connection() -> None:
    master, slave = os.openpty()
    with Link(slave, "a pty") as link, pytest.raises(ConnectError, match="no network connection"):
        link.socket()
    os.close(master)
