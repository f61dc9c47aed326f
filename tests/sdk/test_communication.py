"""The communication contract, on a driver whose link is a queue in memory."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from typing import Any

import pytest

from vfab.model.errors import ConfigurationError, ConnectError, LinkLost, TimeoutExceeded
from vfab.model.manifest import manifest_from_dict
from vfab.sdk.communication import CommunicationDriver, Message
from vfab.sdk.messages import Mailbox, in_words
from vfab.sdk.testing import DriverBench, soon

MANIFEST = manifest_from_dict(
    {
        "name": "memory",
        "version": "1.0",
        "author": "a test",
        "description": "a link in memory",
        "category": "communication",
        "driver_class": "driver.Memory",
    }
)


class Memory(CommunicationDriver):
    """What is sent is answered in capitals; `quiet` is not."""

    unread_max = 3
    kind = "memory"

    def open_channel(self) -> None:
        if self.config.get("refuses"):
            raise ConnectError("nobody is there")
        self.line: queue.Queue[Any] = queue.Queue()

    def close_channel(self) -> None:
        self.closed = True

    def interrupt_channel(self) -> None:
        self.line.put(None)

    def receive_messages(self) -> Iterable[Message]:
        item = self.line.get()
        if isinstance(item, Exception):
            raise item
        return [] if item is None else [Message(item)]

    def send_message(self, data: bytes) -> None:
        self.statistics.bytes_out += len(data)
        if data != b"quiet":
            self.line.put(data.upper())


def bench(**config: Any) -> DriverBench[Memory]:
    return DriverBench(Memory, MANIFEST, "memory", config={"timeout_s": 5, "reconnect_delay_s": 0.01, **config})


def test_an_answer_that_comes_too_late_is_unasked() -> None:
    with bench() as b:
        b.driver.connect()
        with pytest.raises(TimeoutExceeded, match="memory did not answer 'quiet'"):
            b.driver.send_command("quiet", wait_s=0.01)
        b.driver.line.put(b"late")
        soon(lambda: b.driver.get_status().unread == 1)
        assert b.driver.send_command("next").text == "NEXT"
        assert b.driver.receive()[0]["text"] == "late"


def test_the_oldest_that_nobody_fetched_is_dropped_and_counted() -> None:
    with bench() as b:
        b.driver.connect()
        for number in range(5):
            b.driver.line.put(b"%d" % number)
        soon(lambda: b.driver.statistics.messages_in == 5)
        assert b.driver.get_status().statistics.unread_dropped == 2
        assert [message["text"] for message in b.driver.receive(9, wait_s=0)] == ["2", "3", "4"]


def test_a_defect_of_the_driver_is_a_lost_link_and_not_a_silent_thread() -> None:
    with bench() as b:
        b.driver.connect()
        b.driver.line.put(ZeroDivisionError("a defect"))
        soon(lambda: ("reconnected", {"attempts": 1}) in b.events)
        kind, data = b.events[0]
        assert kind == "link_lost"
        assert "ZeroDivisionError: a defect" in data["reason"]
        assert b.driver.send_command("again").text == "AGAIN"


def test_reconnecting_goes_on_until_somebody_is_there() -> None:
    with bench() as b:
        b.driver.connect()
        b.driver.config["refuses"] = True
        b.driver.line.put(LinkLost("gone"))
        soon(lambda: b.driver.get_status().last_error == "nobody is there")
        with pytest.raises(LinkLost) as why:
            b.driver.send("x")
        assert why.value.remedy == "Wait until it is reconnected."
        b.driver.config["refuses"] = False
        soon(b.driver.is_connected)
        assert b.driver.statistics.reconnects == 1


def test_what_waits_when_the_link_is_closed_ends_at_once() -> None:
    with bench() as b:
        b.driver.connect()
        running = b.start(lambda: b.driver.send_command("quiet", wait_s=60))
        soon(lambda: b.driver.statistics.messages_out == 1)
        b.driver.close_connection()
        with pytest.raises(LinkLost, match="was closed"):
            running.result()


def test_a_reset_forgets_what_nobody_fetched() -> None:
    with bench() as b:
        b.driver.connect()
        b.driver.line.put(b"old")
        soon(lambda: b.driver.get_status().unread == 1)
        b.driver.reset()
        assert b.driver.get_status().unread == 0
        assert b.driver.get_status().state == "disconnected"


def test_events_are_iterated_where_the_driver_runs_and_named_elsewhere() -> None:
    import msgspec

    with bench() as b:
        b.driver.connect()
        events = b.driver.listen_for_events()
        b.driver.line.put(b"tick")
        assert next(iter(events)).data == b"tick"
        plain = msgspec.msgpack.decode(msgspec.msgpack.encode(events))
        assert plain == {"stream": "main", "stream_type": "messages", "address": "memory"}
        assert list(type(events)(**plain)) == []
        b.driver.close_connection()
        assert list(events) == []


@pytest.mark.parametrize("timeout", [0, -1, 3601])
def test_a_timeout_that_cannot_be_is_refused(timeout: float) -> None:
    with bench() as b, pytest.raises(ConfigurationError):
        b.driver.set_timeout(timeout)


def test_a_driver_says_which_message_may_answer() -> None:
    class Picky(Memory):
        def is_answer(self, asked: str, message: Message) -> bool:
            return message.data == asked.upper().encode()

    with DriverBench(Picky, MANIFEST, "memory", config={"timeout_s": 5}) as b:
        b.driver.connect()
        b.driver.line.put(b"ALARM")
        assert b.driver.send_command("x").text == "X"
        assert b.driver.receive()[0]["text"] == "ALARM"


def test_messages_in_words_have_their_bytes_in_hex() -> None:
    assert in_words(Message(b"\xff", 1.0, meta={"topic": "t"})) == {
        "text": "\\xff", "hex": "ff", "size_bytes": 1, "topic": "t", "time_s": 1.0,
    }  # fmt: skip
    assert in_words(Message({"id": 1, "data": b"\x01"}, 1.0)) == {"id": 1, "data": "01", "time_s": 1.0}


def test_an_answer_nobody_took_is_kept() -> None:
    box = Mailbox()
    with box.expecting(lambda message: True):
        assert box.put(Message(b"answer")) is True
    assert len(box) == 1
    taken = box.take(0)
    assert taken is not None
    assert taken.data == b"answer"
    assert box.take(0) is None
