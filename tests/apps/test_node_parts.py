"""The node's parts: who is blamed for a death, memory for events, jobs, systemd's words, errors on the wire."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vfab.apps.interrupts import Interrupted
from vfab.apps.node.answers import ERROR_TYPE_HEADER, status_of
from vfab.apps.node.client import error_of, find_node
from vfab.apps.node.events import Follower, NodeEvents
from vfab.apps.node.installed import changes
from vfab.apps.node.jobs import Job, JobBook, JobInterrupts
from vfab.apps.node.logs import configure_logs, log_event
from vfab.apps.node.places import NodeLock, NodePlaces, NodeRunning, socket_address
from vfab.apps.node.safe_start import judge, trial_after_s
from vfab.apps.node.systemd import inherited_socket, notify, service_unit
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DeviceBusy,
    DeviceNotFound,
    DriverError,
    DriverErrorType,
    DriverFailed,
    TimeoutExceeded,
)
from vfab.model.events import DriverEvent
from vfab.store.records import InstalledPlugin, JournalEntry, Suspect, Verdict

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


# ---- safe start


def entry(operation: str, driver: str, device: str = "d") -> JournalEntry:
    return JournalEntry(1, NOON, 1, "begin", operation, device, driver)


def test_a_driver_that_was_being_started_is_suspected_at_the_first_death() -> None:
    (accusation,) = judge([entry("start", "one")], [], {})
    assert (accusation.driver, accusation.verdict) == ("one", Verdict.SUSPECT)
    assert "the node died while one was being started for d" in accusation.reason


def test_the_third_death_under_the_same_driver_is_enough() -> None:
    suspect = Suspect("one", Verdict.SUSPECT, "", NOON, deaths=2)
    (accusation,) = judge([entry("trial", "one")], [suspect], {})
    assert accusation.verdict is Verdict.GUILTY and "for the 3. time" in accusation.reason


def test_a_death_under_a_command_is_counted_and_the_third_is_suspicious() -> None:
    assert judge([entry("send move", "one")], [], {})[0].verdict is None
    (third,) = judge([entry("plot", "one")], [], {"one": 2})
    assert third.verdict is Verdict.SUSPECT and "3 times" in third.reason


def test_several_drivers_may_be_suspected_each_once_and_nobody_when_nothing_was_under_way() -> None:
    entries = [
        entry("plot", "one"),
        entry("start", "one"),
        entry("start", "two"),
        entry("start", "two"),
        entry("x", ""),
    ]
    found = {accusation.driver: accusation.verdict for accusation in judge(entries, [], {})}
    assert found == {"one": Verdict.SUSPECT, "two": Verdict.SUSPECT}
    assert judge([], [], {}) == []


def test_a_suspect_is_tried_later_each_time() -> None:
    assert [trial_after_s(deaths) for deaths in (1, 2, 3)] == [2.0, 8.0, 32.0]


# ---- events


def event(kind: str = "state_changed", device: str = "a", minute: int = 0, **data: Any) -> DriverEvent:
    return DriverEvent(kind, NOON + timedelta(minutes=minute), "one", data, "kernel", device, 3)


def test_the_history_is_bounded_and_log_lines_do_not_push_out_the_story() -> None:
    history = NodeEvents(kept=3, lines=2)
    history.emit(event(n=0))
    for number in range(50):
        history.emit(event("log", n=number))
    history.emit(event(n=1))
    assert [(e["number"], e["type"]) for e in history.select()] == [
        (1, "state_changed"), (50, "log"), (51, "log"), (52, "state_changed"),
    ]  # fmt: skip
    assert history.last == 52


def test_events_are_selected_by_number_time_type_device_and_driver() -> None:
    history = NodeEvents()
    history.emit(event(device="a", minute=1))
    history.emit(event("gave_up", device="b", minute=2))
    history.emit(event(device="b", minute=3))
    numbers = lambda **query: [e["number"] for e in history.select(**query)]  # noqa: E731
    assert numbers(after=1) == [2, 3]
    assert numbers(since=NOON + timedelta(minutes=2)) == [2, 3]
    assert numbers(types=frozenset({"gave_up"})) == [2]
    assert numbers(device="b", limit=1) == [3]
    assert numbers(driver="two") == [] and numbers(limit=0) == []


class Client:
    """One who is sent events, when it is ready to take them."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.got: list[Any] = []
        self.broken = False

    async def take(self, event: dict[str, Any]) -> None:
        await self.ready.wait()
        if self.broken:
            raise RuntimeError("nobody is there")
        self.got.append((event["type"], event.get("count", event.get("number"))))


def test_a_slow_follower_loses_the_oldest_is_told_how_many_and_delays_nobody() -> None:
    async def work() -> None:
        events, slow, quick = NodeEvents(), Client(), Client()
        slow.ready.clear()
        with Follower(slow.take, types=frozenset({"x"})).following(events), Follower(quick.take).following(events):
            for _ in range(40):  # in turns, as an event loop would have it
                for _ in range(50):
                    events.emit(event("x"))
                await asyncio.sleep(0.001)
            while len([number for kind, number in quick.got if kind == "x"]) < 2000:
                await asyncio.sleep(0.001)
            assert not slow.got
            assert "lost" not in {kind for kind, _ in quick.got}
            slow.ready.set()
            while len(slow.got) < 1001:
                await asyncio.sleep(0.001)
        lost = dict(slow.got)["lost"]
        assert len(slow.got) + lost == 2001
        numbers = [number for kind, number in slow.got if kind == "x"]
        assert numbers == sorted(numbers) and len(numbers) >= 1000
        (told, *_) = events.select(types=frozenset({"events_lost"}))
        assert told["data"]["listener"] == "follower of everything" and told["number"] > 1000

    asyncio.run(work())


def test_who_follows_gets_the_history_first_then_what_happens_each_once() -> None:
    async def work() -> None:
        events, client = NodeEvents(), Client()
        for number in range(5):
            events.emit(event("log" if number % 2 else "x"))
        client.ready.clear()
        follower = Follower(client.take, device="a", driver="one")
        with follower.following(events):
            catching_up = asyncio.create_task(follower.catch_up(events, 2))
            await asyncio.sleep(0)
            events.emit(event("x"))
            events.emit(event("x", device="b"))
            events.emit(event("y"))
            client.ready.set()
            await catching_up
            await events.settled()
            assert client.got == [("x", 3), ("log", 4), ("x", 5), ("x", 6), ("y", 8)]
        events.emit(event("x"))
        await events.settled()
        assert len(client.got) == 5, "who follows no more hears no more"

    asyncio.run(work())


def test_a_follower_that_is_gone_is_noticed_and_told_no_more() -> None:
    async def work() -> None:
        events, client = NodeEvents(), Client()
        client.broken = True
        follower = Follower(client.take)
        with follower.following(events):
            events.emit(event("x"))
            await asyncio.wait_for(follower.gone.wait(), 5)
            assert await events.settled()
        assert client.got == []

    asyncio.run(work())


# ---- installed plugins


def test_plugins_are_compared_with_the_last_start() -> None:
    def plugin(name: str, version: str = "1", digest: str = "aa", folder: str = "/p") -> InstalledPlugin:
        return InstalledPlugin(name, version, folder, NOON, digest)

    before = [
        plugin("same"),
        plugin("gone"),
        plugin("newer"),
        plugin("edited"),
        plugin("moved"),
        plugin("old", digest=""),
    ]
    now = [plugin("same"), plugin("newer", "2"), plugin("edited", digest="bb"), plugin("moved", folder="/q")]
    now += [plugin("old", digest="cc"), plugin("new")]
    told = {one["driver"]: (one["change"], one["was"], one["is"]) for one in changes(before, now)}
    assert told == {
        "gone": ("vanished", "1", None),
        "newer": ("changed", "1", "2"),
        "edited": ("changed", "1", "1"),
        "moved": ("changed", "1", "1"),
        "new": ("new", None, "1"),
    }
    assert changes([], now) == [], "at the first start of all nothing is new"


# ---- jobs


def test_a_job_tells_what_changes_and_how_it_ended() -> None:
    async def work() -> None:
        book = JobBook(kept=1)
        go = asyncio.Event()

        async def draw(job: Job, interrupts: JobInterrupts) -> str:
            job.advance({"done": 1})
            await go.wait()
            return "drawn"

        job = book.start("plot", draw)
        await job.after(1, 5)
        assert job.progress == {"done": 1}
        await job.after(job.version, 0.01)
        go.set()
        await job.after(job.version, 5)
        assert (job.state, job.to_dict()["result"], job.to_dict()["error"]) == ("done", "drawn", None)
        failing = book.start("x", _raising(ConfigurationError("no", remedy="do")))
        defect = book.start("x", _raising(KeyError("k")))
        cancelled = book.start("x", _raising(Cancelled("over")))
        await asyncio.sleep(0.01)
        assert failing.to_dict()["error"]["type"] == "configuration_error"
        assert defect.to_dict()["error"]["code"] == "driver_failed"
        assert (failing.state, cancelled.state) == ("failed", "cancelled")
        book.start("x", draw)
        assert len(book.all()) == 2
        with pytest.raises(ConfigurationError, match="no job"):
            book.get("1")
        await book.close()
        with pytest.raises(ConfigurationError, match="ending"):
            book.start("x", draw)

    asyncio.run(work())


def _raising(error: Exception) -> Any:
    async def work(job: Job, interrupts: JobInterrupts) -> None:
        raise error

    return work


def test_a_cancel_is_gentle_first_and_then_at_once() -> None:
    async def work() -> None:
        asked: list[int] = []

        async def stubborn(job: Job, interrupts: JobInterrupts) -> None:
            with interrupts.ending_by(lambda: asked.append(1)):
                await asyncio.sleep(60)

        book = JobBook()
        job = book.start("plot", stubborn)
        await asyncio.sleep(0)
        assert job.interrupts is not None
        job.interrupts.take(2)
        await asyncio.sleep(0)
        assert (asked, job.state) == ([1], "running")
        job.interrupts.take(2)
        await job.after(job.version, 5)
        assert job.state == "cancelled" and isinstance(job.error, Interrupted)
        await book.close()

    asyncio.run(work())


# ---- errors on the wire


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeviceNotFound("x"), 404),
        (DeviceBusy("x"), 409),
        (ConfigurationError("x"), 422),
        (ConnectError("x"), 502),
        (TimeoutExceeded("x"), 504),
        (DriverFailed("x"), 500),
        (DriverError("x", DriverErrorType.PERMISSION_ERROR), 403),
    ],
)
def test_an_error_comes_back_from_the_node_as_it_was(error: DriverError, status: int) -> None:
    error.context["file"] = "f"
    error.remedy = "do that"
    assert status_of(error) == status
    again = error_of(json.loads(json.dumps(error.to_public())), error.error_type.value)
    assert type(again) is type(error)
    assert (again.to_public(), again.exit_code) == (error.to_public(), error.exit_code)
    assert ERROR_TYPE_HEADER.lower() == ERROR_TYPE_HEADER


def test_an_interrupted_job_ends_its_command_as_the_signal_would() -> None:
    error = error_of({"code": "interrupted", "message": "m", "remedy": "r", "context": {}}, "", 15)
    assert (error.exit_code, error.remedy) == (143, "r")


# ---- places, systemd, logs


def test_nobody_is_found_where_no_node_is(tmp_path: Path) -> None:
    env = {"VFAB_HOME": str(tmp_path)}
    assert find_node(env) is None
    places = NodePlaces.of(env)
    places.make()
    places.socket.touch()
    assert find_node(env) is None
    assert NodeLock.holder(places) is None


def test_the_lock_is_given_once_and_again_after_its_release(tmp_path: Path) -> None:
    places = NodePlaces(tmp_path)
    lock = NodeLock.acquire(places)
    with pytest.raises(NodeRunning, match=str(os.getpid())):
        NodeLock.acquire(places)
    assert (NodeLock.holder(places) or {})["pid"] == os.getpid()
    lock.release()
    NodeLock.acquire(places).release()


def test_a_short_path_is_its_own_address(tmp_path: Path) -> None:
    with socket_address(Path("/tmp/x.sock")) as address:
        assert address == "/tmp/x.sock"
    with socket_address(tmp_path / ("y" * 120)) as address:
        assert len(address) < 160 and address.startswith("/proc/self/fd/")


def test_systemd_is_only_spoken_to_when_it_asked() -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "/nowhere/at/all"})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "@nobody-listens-here"})
    assert inherited_socket({}) is None
    assert inherited_socket({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}) is None
    assert inherited_socket({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) is None


def test_a_unit_quotes_what_systemd_would_read_otherwise() -> None:
    unit = service_unit({"VFAB_PLUGIN_PATH": "/a b"}, Path("/home/100%"))
    assert "Environment='VFAB_PLUGIN_PATH=/a b'" in unit
    assert "VFAB_HOME=/home/100%%" in unit


@pytest.fixture
def _logging_restored() -> Any:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    import structlog

    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("_logging_restored")
def test_logs_are_json_for_programs() -> None:
    stream = io.StringIO()
    log = configure_logs(stream)
    log_event(log, event(**{"from": "ready", "to": "error", "error": {"error": "gone", "code": "link_lost"}}))
    log_event(log, event("log", level=30, message="hot", logger="x"))
    log_event(log, event("progress", n=1))
    log_event(log, event("gave_up", attempts=8))
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("library").exception("failed")
    first, hot, gave_up, failed = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["level"], first["code"], first["generation"]) == ("warning", "link_lost", 3)
    assert (hot["event"], hot["level"], hot["device"]) == ("hot", "warning", "a")
    assert gave_up["level"] == "warning"
    assert "ValueError: inside" in failed["exception"] and failed["logger"] == "library"


@pytest.mark.usefixtures("_logging_restored")
def test_logs_are_readable_on_a_terminal_and_survive_its_end() -> None:
    stream = Terminal()
    log = configure_logs(stream)
    log_event(log, event(**{"from": "ready", "to": "connecting"}))
    assert "state_changed" in stream.getvalue() and "{" not in stream.getvalue()
    stream.close()
    log_event(log, event(**{"from": "ready", "to": "connecting"}))
