"""FaultProxy: passes bytes on, and is as bad a peer as it is told to be."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hosting import descriptors
from vfab.model.errors import ConfigurationError, ConnectError, DeviceNotFound, LinkLost, TimeoutExceeded
from vfab.sdk.link import Link, open_address
from vfab.sdk.testing import FaultProxy, soon, why_no_stream

KINDS = ("tcp", "unix", "pty")


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _serve_terminal(master: int) -> None:
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            return
        if data == b"end":
            return
        os.write(master, data.upper())


@contextmanager
def echoing(kind: str, folder: Path) -> Iterator[str]:
    """A peer that says everything back in capitals."""
    if kind == "pty":
        master, slave = os.openpty()
        tty.setraw(slave)
        thread = threading.Thread(target=_serve_terminal, args=(master,), daemon=True)
        thread.start()
        yield os.ttyname(slave)
        os.write(slave, b"end")
        thread.join(5)
        os.close(slave)
        os.close(master)
        return
    server = _Tcp(("127.0.0.1", 0), _Echo) if kind == "tcp" else _Unix(str(folder / "peer"), _Echo)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"tcp://127.0.0.1:{server.server_address[1]}" if kind == "tcp" else f"unix://{folder / 'peer'}"
    server.shutdown()
    server.server_close()


def opened(address: str) -> Link:
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(address.removeprefix("unix://"))
            except OSError as error:
                raise ConnectError(str(error)) from error
            return Link(client.detach(), address)
    return Link(open_address(address), address)


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultProxy]:
    with echoing(request.param, tmp_path) as upstream, FaultProxy(upstream) as made:
        yield made


def test_bytes_pass_both_ways_and_are_counted_and_recorded(proxy: FaultProxy) -> None:
    with opened(proxy.address) as link:
        link.write(b"hello\n")
        assert link.read_until(b"\n") == b"HELLO\n"
        soon(lambda: proxy.said == 6)  # it counts what it has passed on
        assert (proxy.heard, proxy.recorded) == (6, b"hello\n")
        proxy.forget()
        assert proxy.recorded == b"" and not proxy.wait_heard(b"hello", timeout_s=0.0)


def test_a_large_amount_passes_whole(proxy: FaultProxy) -> None:
    data = bytes(range(97, 123)) * 20_000
    with opened(proxy.address) as link:
        writer = threading.Thread(target=link.write, args=(data,))
        writer.start()
        came = bytearray()
        while len(came) < len(data):
            came += link.read()
        writer.join()
    assert came == data.upper()


def test_a_peer_that_left_is_not_there_and_comes_back_at_the_same_address(proxy: FaultProxy) -> None:
    address = proxy.address
    with opened(address) as link:
        proxy.leave()
        with pytest.raises((LinkLost, ConnectError)):
            link.read(timeout_s=5.0)
    with pytest.raises(ConnectError) as told:
        opened(address)
    if address.startswith("/"):
        assert isinstance(told.value, DeviceNotFound)
    proxy.come_back()
    with opened(address) as link:
        link.write(b"again\n")
        assert link.read_until(b"\n") == b"AGAIN\n"


def test_a_hang_up_breaks_the_connection_and_takes_new_ones(proxy: FaultProxy) -> None:
    with opened(proxy.address) as link:
        link.write(b"a\n")
        link.read_until(b"\n")
        proxy.hang_up()
        with pytest.raises(LinkLost):
            link.read(timeout_s=5.0)
    with opened(proxy.address) as link:
        link.write(b"b\n")
        assert link.read_until(b"\n") == b"B\n"


def test_what_is_held_back_comes_late(proxy: FaultProxy) -> None:
    with opened(proxy.address) as link:
        proxy.hold()
        link.write(b"late\n")
        assert proxy.wait_heard(b"late\n")
        with pytest.raises(TimeoutExceeded):
            link.read(timeout_s=0.05)
        proxy.pass_on()
        assert link.read_until(b"\n") == b"LATE\n"


def test_what_is_said_in_a_silence_is_lost(proxy: FaultProxy) -> None:
    with opened(proxy.address) as link:
        proxy.silence()
        link.write(b"lost\n")
        assert proxy.wait_heard(b"lost\n")
        proxy.pass_on()
        link.write(b"found\n")
        assert link.read_until(b"\n") == b"FOUND\n"


def test_garbled_answers_have_their_line_ends_and_nothing_else(proxy: FaultProxy) -> None:
    with opened(proxy.address) as link:
        proxy.garble()
        link.write(b"text\n")
        answer = link.read_until(b"\n")
        assert len(answer) == 5 and all(byte > 127 for byte in answer[:-1])


def test_a_slow_peer_says_the_same_in_pieces(proxy: FaultProxy) -> None:
    with opened(proxy.address) as link:
        proxy.trickle(0.002)
        link.write(b"slowly\n")
        pieces = []
        while b"\n" not in b"".join(pieces):
            pieces.append(link.read())
        assert b"".join(pieces) == b"SLOWLY\n"
        assert len(pieces) > 1


def test_a_flood_comes_unasked_and_ends(proxy: FaultProxy) -> None:
    with opened(proxy.address) as link:
        link.write(b"a\n")
        assert link.read_until(b"\n") == b"A\n"
        proxy.flood()
        came = 0
        while came < 1_000_000:
            came += len(link.read())
        proxy.pass_on()
    with opened(proxy.address) as link:
        if proxy.address.startswith("/"):
            link.discard_input()
        link.write(b"\nb\n")
        while (line := link.read_until(b"\n", limit=1 << 24)) != b"B\n":
            assert line


def test_many_proxies_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        with echoing(kind, tmp_path / kind) as upstream:
            before = descriptors()
            for _ in range(20):
                with FaultProxy(upstream) as proxy, opened(proxy.address) as link:
                    link.write(b"x\n")
                    link.read_until(b"\n")
            assert "fault-proxy" not in [thread.name for thread in threading.enumerate()]
            # the peer's threads end when they have seen the end of the connection
            soon(lambda before=before: descriptors() == before)  # type: ignore[misc]


def test_a_driver_is_hung_up_on_when_nobody_is_behind_the_proxy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with FaultProxy(address) as proxy, opened(proxy.address) as link, pytest.raises(LinkLost):
        link.read(timeout_s=5.0)


def test_a_peer_that_closes_after_its_last_word_is_heard_to_the_end() -> None:
    word = b"x" * 700_000
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(word)

        threading.Thread(target=serve, daemon=True).start()
        with FaultProxy(f"tcp://127.0.0.1:{server.getsockname()[1]}") as proxy, opened(proxy.address) as link:
            came = bytearray()
            with pytest.raises(LinkLost):
                while True:
                    came += link.read(timeout_s=5.0)
    assert came == word


@pytest.mark.parametrize(
    ("address", "stands"),
    [
        ("tcp://127.0.0.1:4000", True),
        ("rtsp://127.0.0.1:8554/test", True),
        ("mqtt://user:word@127.0.0.1:1883", True),
        ("unix:///tmp/socket", True),
        ("http://127.0.0.1", False),
        ("udp://127.0.0.1:1", False),
        ("can://vcan0", False),
        ("/dev/null", False),
        ("GPIB0::24::INSTR", False),
        ("", False),
    ],
)
def test_only_byte_streams_have_proxies(address: str, stands: bool) -> None:
    assert bool(why_no_stream(address)) is not stands
    if not stands:
        with pytest.raises(ConfigurationError) as told:
            FaultProxy(address)
        assert told.value.remedy


def test_the_rest_of_an_address_stays(tmp_path: Path) -> None:
    with FaultProxy("mqtt://user:word@127.0.0.1:1883/a?b=c") as proxy:
        assert proxy.address.startswith("mqtt://user:word@127.0.0.1:")
        assert proxy.address.endswith("/a?b=c") and ":1883" not in proxy.address
    proxy.close()
