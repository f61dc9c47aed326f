"""The host's part of a swap, with a real driver on a real link: what is handed over, and what a failure leaves."""

from __future__ import annotations

import os
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vfab.host.ahead import Ahead
from vfab.host.handover import Handover
from vfab.model.errors import ConfigurationError, ConnectError, DriverFailed, HardwareError
from vfab.model.manifest import manifest_from_dict
from vfab.sdk.driver import BaseDriver
from vfab.sdk.link import Link
from vfab.sdk.stream import Streaming
from vfab.sdk.stream_ends import StreamWriter
from vfab.sdk.stream_words import StreamInfo
from vfab.sdk.testing import DriverBench

MANIFEST = manifest_from_dict(
    {"name": "mine", "version": "1", "author": "a test", "description": "d", "driver_class": "driver.D"}
)


class Gauge(BaseDriver):
    """Says what it does on its link."""

    fails: str = ""
    link: Link | None = None
    state: Any = None

    def _maybe_fail(self, where: str) -> None:
        if where in self.fails.split():
            raise HardwareError(f"{where} failed")

    def connect(self) -> None:
        self.link = self.open_link()
        self.link.write(b"hello\n")

    def take_over(self) -> None:
        self.link = self.open_link()
        self._maybe_fail("take_over")

    def disconnect(self) -> None:
        if self.link is not None:
            link, self.link = self.link, None
            if not link.closed:
                link.write(b"bye\n")
            self.close_link(link)
        self._maybe_fail("disconnect")

    def is_connected(self) -> bool:
        return self.link is not None and "is_connected" not in self.fails.split()

    def save_state(self, version: int) -> dict[str, Any]:
        self._maybe_fail("save_state")
        return {"count": 3, "what": object()} if "encode" in self.fails.split() else {"count": 3}

    def load_state(self, state: dict[str, Any], version: int) -> None:
        self.state = state, version


class Scope(Streaming, Gauge):
    """The same, with a stream."""

    def acquire(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        while self.acquiring():
            stream.send(options.get("rate", 1))
            self.pause_s(0.001)

    def start_streaming(self, **options: Any) -> dict[str, Any]:
        self._maybe_fail("start_streaming")
        return super().start_streaming(**options)

    def stop_streaming(self) -> dict[str, Any]:
        self._maybe_fail("stop_streaming")
        return super().stop_streaming()


class Book:
    """The links of a driver on a bench."""

    def __init__(self, bench: DriverBench[Any]) -> None:
        self._bench = bench
        self.ahead = Ahead(lambda token: token)  # the token is the descriptor
        self.handing_over = False

    @property
    def links(self) -> list[Link]:
        return [link for link in self._bench.links if not link.closed or link.was_given_on]


class Stand:
    """A driver, its handover, and what its device was told."""

    def __init__(self, bench: DriverBench[Any], master: int, slave: int) -> None:
        self.driver: Any = bench.driver
        self.bench = bench
        self.book = Book(bench)
        self.handover = Handover(bench.driver, self.book, lambda done: done)
        self._master, self._slave = master, slave

    def gone(self) -> bool:
        """Whether the driver has nothing to do with the device any more."""
        return self.handover.gone

    def told(self) -> list[str]:
        """What the device was told; once."""
        os.write(self._slave, b"end\n")  # all that was written before it comes before it
        heard = b""
        while not heard.endswith(b"end\n"):
            heard += os.read(self._master, 4096)
        return heard.decode().split()[:-1]


@contextmanager
def stand(cls: type[Gauge] = Gauge) -> Iterator[Stand]:
    """A driver that is not connected yet, and its device."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with DriverBench(cls, MANIFEST, os.ttyname(slave)) as bench:
            made = Stand(bench, master, slave)
            yield made
            made.driver.fails = ""
            if isinstance(made.driver, Streaming):
                made.driver.stop_streaming()
    finally:
        os.close(slave)
        os.close(master)


def test_what_was_let_go_is_taken_over_and_the_device_hears_nothing_of_it() -> None:
    with stand(Scope) as s:
        s.driver.connect()
        s.driver.start_streaming(rate=7)
        s.driver.link.put_back(b"unread")
        handed = s.handover.let_go(2)
        assert (handed["state"], handed["version"], handed["connected"]) == ({"count": 3}, 2, True)
        assert handed["streaming"] == {"rate": 7} and not handed["cold"]
        assert list(handed["unread"].values()) == [b"unread"]
        assert s.gone() and not s.driver.is_connected() and s.book.links == []
        reader = s.bench.streams["main"]
        before = [record.sequence for record in reader.read_many(100_000)]
        s.handover.take_over(handed)
        assert s.driver.state == ({"count": 3}, 2) and s.driver.is_connected() and not s.gone()
        after = reader.read_many(100_000, timeout_s=20.0)
        assert after[0].data == 7 and after[0].sequence == (before[-1] + 1 if before else 0), "the stream went on"
        assert s.told() == ["hello"]


def test_what_was_neither_connected_nor_kept_any_state_is_taken_over_as_it_is() -> None:
    with stand() as s:
        s.handover.take_over({})
        assert s.driver.state is None and not s.driver.is_connected() and s.told() == []


@pytest.mark.parametrize("why", ["save_state", "encode"])
@pytest.mark.parametrize("cls", [Gauge, Scope])
def test_a_driver_that_cannot_say_its_state_keeps_the_device(cls: type[Gauge], why: str) -> None:
    with stand(cls) as s:
        s.driver.connect()
        if cls is Scope:
            s.driver.start_streaming(rate=7)
        s.driver.fails = why
        with pytest.raises((HardwareError, TypeError)):
            s.handover.let_go(1)
        assert s.driver.is_connected() and not s.driver.link.closed and not s.gone()
        if cls is Scope:
            status = s.driver.streaming_status()
            assert status["streaming"] and status["options"] == {"rate": 7}


def test_a_stream_that_does_not_stop_keeps_the_device_where_it_is() -> None:
    with stand(Scope) as s:
        s.driver.connect()
        s.driver.start_streaming()
        s.driver.fails = "stop_streaming"
        with pytest.raises(HardwareError, match="stop_streaming"):
            s.handover.let_go(1)
        assert s.driver.streaming_status()["streaming"] and not s.driver.link.closed
        s.driver.fails = ""
        s.driver.stop_streaming()
        reader = s.bench.streams["main"]
        while reader.read_many(100_000):
            pass
        assert reader.ended, "and its readers are told when it ends"


def test_a_disconnect_that_fails_on_closed_links_does_not_matter() -> None:
    with stand() as s:
        s.driver.connect()
        s.driver.fails = "disconnect"
        assert s.handover.let_go(1)["connected"]
        assert s.gone() and not s.book.handing_over and s.told() == ["hello"]


def test_a_link_that_a_library_has_is_left_and_made_anew() -> None:
    with stand() as s:
        s.driver.connect()
        s.driver.link.was_given_on = True
        handed = s.handover.let_go(1)
        assert handed["cold"] and handed["unread"] == {}
        for link in s.bench.links:
            link.was_given_on = False
        s.handover.take_over(handed)
        assert s.told() == ["hello", "bye", "hello"]


@pytest.mark.parametrize("why", ["take_over", "is_connected", "start_streaming", "is_connected stop_streaming"])
def test_whoever_cannot_take_over_leaves_the_device_untouched(why: str) -> None:
    with stand(Scope) as s:
        s.driver.connect()
        s.driver.start_streaming()
        handed = s.handover.let_go(1)
        s.driver.fails = f"{why} disconnect"
        error = ConnectError if "is_connected" in why else HardwareError
        with pytest.raises(error):
            s.handover.take_over(handed)
        assert s.gone() and s.book.links == [] and not s.book.handing_over
        assert s.told() == ["hello"], "its disconnect had no link to say anything on"
        s.driver.fails = ""
        s.handover.take_over(handed)
        assert s.driver.is_connected() and s.driver.streaming_status()["streaming"]


def test_a_stream_that_cannot_be_stopped_again_hinders_nobody_from_letting_go() -> None:
    class Late(Scope):
        """Streams, and then turns out not to be able to say that it does."""

        def start_streaming(self, **options: Any) -> dict[str, Any]:
            super().start_streaming(**options)
            self.fails = "stop_streaming"
            raise HardwareError("too late")

    with stand(Late) as s:
        with pytest.raises(HardwareError, match="too late"):
            s.handover.take_over({"connected": True, "streaming": {"rate": 1}})
        assert s.gone() and s.book.links == []


def test_a_driver_without_streams_does_not_take_over_one_that_runs() -> None:
    with stand() as s:
        with pytest.raises(ConfigurationError, match="cannot stream") as refused:
            s.handover.take_over({"connected": True, "streaming": {}, "state": {"count": 1}, "version": 1})
        assert refused.value.remedy == "Stop the stream first."
        assert s.gone() and s.book.links == [] and s.told() == []


def test_links_and_streams_that_came_ahead_are_for_who_asks_for_just_those() -> None:
    info = StreamInfo(name="main", about={"size": (2, 3)})
    told = {"info": {"name": "main", "about": {"size": [2, 3]}}}
    pipes = [os.pipe() for _ in range(4)]
    ends = [end for pair in pipes for end in pair]
    ahead = Ahead(lambda token: ends[token])
    ahead.take_in(
        {
            "links": [
                {"address": "/dev/a", "settings": {"baudrate": 9600}, "token": 0},
                {"address": "/dev/b", "settings": {}, "token": 1},
            ],
            "streams": [{**told, "ring": 2, "bell": 3}, {"info": {"name": "other"}, "ring": 4, "bell": 5}],
        },
        {"/dev/a": b"before", "/dev/b": b"lost"},
    )
    assert ahead.link("/dev/a", {}) is None and ahead.link("/dev/c", {}) is None
    link = ahead.link("/dev/a", {"baudrate": 9600})
    assert link is not None and link.fileno() == ends[0] and link.read() == b"before"
    assert ahead.link("/dev/a", {"baudrate": 9600}) is None, "there is one of it"
    assert ahead.stream(StreamInfo(name="main")) is None
    assert ahead.stream(info) == (ends[2], ends[3]) and ahead.stream(info) is None
    link.close()
    ahead.drop()
    for end in (ends[1], ends[4], ends[5]):  # what nobody asked for
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)
    for end in (ends[2], ends[3], *ends[6:]):
        os.close(end)
    assert ahead.stream(StreamInfo(name="other")) is None


def test_an_error_of_the_driver_comes_through_as_it_was_raised() -> None:
    class Odd(Gauge):
        def load_state(self, state: dict[str, Any], version: int) -> None:
            raise DriverFailed("what is this")

    with stand(Odd) as s:
        with pytest.raises(DriverFailed, match="what is this"):
            s.handover.take_over({"state": {"count": 1}, "version": 1, "connected": True})
        assert s.told() == [] and not s.driver.is_connected()
