"""EventManager: order, history, loss, and listeners that are slow, wrong or gone."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vfab.model.errors import ConfigurationError
from vfab.model.events import DriverEvent
from vfab.sdk import event_threads
from vfab.sdk.event_bus import EVENTS_LOST, EventManager
from vfab.sdk.event_delivery import Delivery

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
PATIENCE_S = 20.0


def event(kind: str = "a", number: int = 0, device: str = "") -> DriverEvent:
    return DriverEvent(kind, NOON + timedelta(seconds=number), "driver", {"n": number}, device_id=device)


def numbers(events: list[DriverEvent]) -> list[int]:
    return [e.data["n"] for e in events]


@pytest.fixture(autouse=True)
def no_complaints_of_asyncio(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No callback fails, no task is destroyed while it is pending, and no exception of one is forgotten."""
    yield
    gc.collect()
    assert not [record for record in caplog.get_records("call") if record.name.startswith(("asyncio", "concurrent"))]


@pytest.fixture
def bus() -> Iterator[EventManager]:
    made = EventManager()
    yield made
    made.close()


class Gate:
    """A listener that stands still until it is let through."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.seen: list[DriverEvent] = []

    def __call__(self, told: DriverEvent) -> None:
        self.entered.set()
        assert self.released.wait(PATIENCE_S)
        self.seen.append(told)


# -- who is told what


def test_a_listener_gets_the_events_of_its_type_in_their_order(bus: EventManager) -> None:
    seen: list[DriverEvent] = []
    subscription = bus.subscribe("a", seen.append)
    for number in range(500):
        bus.emit(event("a", number))
        bus.emit(event("b", number))
    assert bus.flush()
    assert numbers(seen) == list(range(500))
    assert {e.event_type for e in seen} == {"a"}
    assert (subscription.delivered, subscription.lost, subscription.failures) == (500, 0, 0)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("*", ["motor.hot", "motor.stopped", "state_changed"]),
        ("motor.*", ["motor.hot", "motor.stopped"]),
        (["state_changed", "motor.hot"], ["motor.hot", "state_changed"]),
        ("nothing", []),
    ],
)
def test_types_may_be_several_or_patterns(bus: EventManager, wanted: str | list[str], told: list[str]) -> None:
    seen: list[str] = []
    bus.subscribe(wanted, lambda e: seen.append(e.event_type))
    for kind in ("motor.hot", "motor.stopped", "state_changed"):
        bus.emit(event(kind))
    assert bus.flush()
    assert seen == told


def test_types_without_end_do_not_fill_the_memory(bus: EventManager) -> None:
    seen: list[DriverEvent] = []
    bus.subscribe("*", seen.append)
    for number in range(3000):
        bus.emit(event(f"kind-{number}", number))
        if number % 500 == 0:
            bus.flush()
    assert bus.flush()
    assert numbers(seen) == list(range(3000))
    assert len(bus._routes) <= 1024


def test_one_function_may_listen_twice_and_is_removed_once(bus: EventManager) -> None:
    seen: list[DriverEvent] = []
    bus.subscribe("a", seen.append)
    bus.subscribe("a", seen.append)
    bus.emit(event())
    assert bus.flush()
    bus.unsubscribe("a", seen.append)
    bus.unsubscribe("b", seen.append)
    bus.emit(event())
    assert bus.flush()
    assert len(seen) == 3


def test_unsubscribing_one_type_leaves_the_others(bus: EventManager) -> None:
    seen: list[str] = []

    def listener(told: DriverEvent) -> None:
        seen.append(told.event_type)

    subscription = bus.subscribe(["a", "b"], listener)
    bus.unsubscribe("a", listener)
    bus.emit(event("a"))
    bus.emit(event("b"))
    assert bus.flush()
    assert (seen, subscription.closed) == (["b"], False)
    bus.unsubscribe("b", listener)
    assert subscription.closed


def test_no_call_begins_after_a_subscription_was_closed(bus: EventManager) -> None:
    gate = Gate()
    with bus.subscribe("a", gate) as subscription:
        for number in range(10):
            bus.emit(event("a", number))
        assert gate.entered.wait(PATIENCE_S)
    subscription.close()
    gate.released.set()
    bus.emit(event("a", 99))
    bus.close(PATIENCE_S)
    assert numbers(gate.seen) == [0]


def test_a_weak_listener_is_not_kept_alive(bus: EventManager) -> None:
    class Panel:
        def __init__(self) -> None:
            self.seen: list[DriverEvent] = []

        def show(self, told: DriverEvent) -> None:
            self.seen.append(told)

    panel, seen = Panel(), []
    method = bus.subscribe("a", panel.show, weak=True)

    def listener(told: DriverEvent) -> None:
        seen.append(told)

    function = bus.subscribe("a", listener, weak=True)
    bus.emit(event())
    assert bus.flush()
    assert (len(panel.seen), len(seen)) == (1, 1)
    del panel, listener
    gc.collect()
    bus.emit(event())
    assert bus.flush()
    assert (method.closed, function.closed) == (True, True)
    assert bus._subscriptions == []


def test_a_listener_may_emit_and_subscribe(bus: EventManager) -> None:
    seen: list[str] = []

    def first(told: DriverEvent) -> None:
        bus.subscribe("b", lambda e: seen.append(e.event_type))
        bus.emit(event("b"))

    bus.subscribe("a", first)
    bus.emit(event("a"))
    assert bus.flush()
    assert bus.flush()
    assert seen == ["b"]


def test_what_cannot_be_is_refused(bus: EventManager) -> None:
    async def listener(told: DriverEvent) -> None: ...

    with pytest.raises(ConfigurationError, match="no event loop"):
        bus.subscribe("a", listener)
    with pytest.raises(ConfigurationError, match="needs a type"):
        bus.subscribe([], print)
    with pytest.raises(ConfigurationError, match="needs a type"):
        bus.subscribe("a", print, max_queue=0)
    with pytest.raises(ConfigurationError, match="max_queue"):
        EventManager(max_queue=0)
    bus.close()
    with pytest.raises(ConfigurationError, match="closed"):
        bus.subscribe("a", print)


# -- listeners that fail or hang


def test_a_failing_listener_harms_nobody_and_is_told_of_in_the_log(
    bus: EventManager, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[DriverEvent] = []

    def failing(told: DriverEvent) -> None:
        raise SystemExit if told.data["n"] % 2 else ValueError

    broken = bus.subscribe("a", failing)
    bus.subscribe("a", seen.append)
    for number in range(100):
        bus.emit(event("a", number))
    assert bus.flush()
    assert numbers(seen) == list(range(100))
    assert broken.failures == broken.delivered == 100
    assert 1 <= len(caplog.records) <= 7, "told at first and at each doubling"


def test_listeners_that_hang_keep_nobody_waiting(bus: EventManager) -> None:
    gates = [Gate() for _ in range(8)]
    for gate in gates:
        bus.subscribe("a", gate)
    quick: list[int] = []
    told = threading.Event()

    def listener(e: DriverEvent) -> None:
        quick.append(e.data["n"])
        if e.data["n"] == 9:
            told.set()

    bus.subscribe("a", listener)
    for number in range(10):
        bus.emit(event("a", number))
    assert told.wait(PATIENCE_S)
    assert all(gate.entered.wait(PATIENCE_S) for gate in gates)
    assert quick == list(range(10))
    assert len(bus._workers.threads) <= 2 + len(gates)
    assert bus.flush(timeout_s=0.0) is False
    assert bus.close(timeout_s=0.0) is False
    for gate in gates:
        gate.released.set()


def test_a_listener_that_was_slow_runs_beside_the_leader_until_it_is_quick_again(bus: EventManager) -> None:
    gate = Gate()
    slow = bus.subscribe("a", gate)
    other = threading.Event()
    bus.subscribe("b", lambda e: other.set())
    bus.emit(event("a", 0))
    assert gate.entered.wait(PATIENCE_S)
    bus.emit(event("b"))
    assert other.wait(PATIENCE_S), "the leader was replaced"
    gate.released.set()
    assert bus.flush()
    assert slow._delivery.slow is True  # type: ignore[attr-defined]
    gate.released.clear()
    gate.entered.clear()
    other.clear()
    bus.emit(event("a", 1))
    assert gate.entered.wait(PATIENCE_S)
    assert bus._workers._leading is None, "nobody else waits for a slow one's turn"
    bus.emit(event("b"))
    assert other.wait(PATIENCE_S)
    gate.released.set()
    assert bus.flush()
    for number in range(2, 50):
        bus.emit(event("a", number))
        assert bus.flush()
        if not slow._delivery.slow:  # type: ignore[attr-defined]
            break
    else:
        pytest.fail("a quick listener is still called slow")
    assert numbers(gate.seen) == list(range(number + 1))


def test_threads_without_work_end(bus: EventManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_threads, "IDLE_S", 0.0)
    bus.subscribe("a", lambda e: None)
    for _ in range(3):
        bus.emit(event())
        assert bus.flush()
        for thread in list(bus._workers.threads):
            thread.join(PATIENCE_S)
        assert not bus._workers.threads


def test_a_plain_function_that_returns_a_coroutine_is_told_of(
    bus: EventManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None: ...

    subscription = bus.subscribe("a", lambda e: work())
    bus.emit(event())
    assert bus.flush()
    assert subscription.failures == 1
    assert "coroutine" in caplog.text


# -- loss


def test_a_slow_listener_loses_its_oldest_events_and_that_is_counted_logged_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time_s = [100.0]
    bus = EventManager(max_queue=10, clock=lambda: time_s[0], now=lambda: NOON)
    gate, losses = Gate(), []
    heard = threading.Event()

    def on_loss(told: DriverEvent) -> None:
        losses.append(told.data)
        heard.set()

    # a clock that stands still cannot depose the leader: whoever hears of losses has a thread of its own
    slow = bus.subscribe("a", gate)
    bus.emit(event("a", 0))
    assert gate.entered.wait(PATIENCE_S)
    for number in range(1, 12):
        bus.emit(event("a", number))
    bus.subscribe(EVENTS_LOST, on_loss)
    for number in range(12, 21):
        bus.emit(event("a", number))
    assert slow.lost == 10
    gate.released.set()
    assert heard.wait(PATIENCE_S)
    assert bus.flush()
    assert numbers(gate.seen) == [0, *range(11, 21)]
    assert (slow.delivered, slow.lost) == (11, 10)
    first, *_ = bus.get_recent_events(EVENTS_LOST)
    assert (first.timestamp, first.source, first.data["lost"]) == (NOON, "kernel", 1)
    assert sum(e.data["lost"] for e in bus.get_recent_events(EVENTS_LOST)) == 10
    assert losses[-1]["lost_in_all"] == 10
    assert "too slow" in caplog.text
    bus.close()


def test_losses_that_go_on_are_told_once_a_second() -> None:
    time_s = [100.0]
    bus = EventManager(max_queue=1, clock=lambda: time_s[0])
    gate = Gate()
    bus.subscribe("a", gate)
    bus.emit(event())
    assert gate.entered.wait(PATIENCE_S)
    bus.emit(event())
    for _ in range(3):
        for _ in range(50):
            bus.emit(event())
        time_s[0] += 1.0
    told = [e.data["lost"] for e in bus.get_recent_events(EVENTS_LOST)]
    assert told == [1, 50, 50]
    gate.released.set()
    assert bus.close(PATIENCE_S)


def test_a_queue_that_is_emptied_just_when_it_is_full_loses_nothing() -> None:
    class Unscheduled(Delivery):
        def schedule(self) -> None: ...

    delivery = Unscheduled("x", print, 1, weak=False)

    class Emptied(type(delivery.queue)):  # type: ignore[misc]
        def __len__(self) -> int:
            return 1

    delivery.queue = Emptied()
    assert delivery.offer(event()) is True
    assert delivery.lost == 0
    with pytest.raises(NotImplementedError):
        Delivery("x", print, 1, weak=False).offer(event())
    Delivery("x", print, 1, weak=False).stop()


# -- asyncio


def test_asynchronous_listeners_run_on_their_loop_in_order_and_wait_for_nobody(bus: EventManager) -> None:
    async def work() -> None:
        seen: list[int] = []
        stuck = asyncio.Event()
        loop_thread = threading.get_ident()

        async def listener(told: DriverEvent) -> None:
            assert threading.get_ident() == loop_thread
            await asyncio.sleep(0)
            seen.append(told.data["n"])

        class Callable:
            async def __call__(self, told: DriverEvent) -> None:
                await stuck.wait()

        def plain(told: DriverEvent) -> None:
            assert threading.get_ident() == loop_thread

        bus.subscribe("a", listener)
        hanging = bus.subscribe("a", Callable())
        on_loop = bus.subscribe("a", plain, loop=asyncio.get_running_loop())
        thread = threading.Thread(target=lambda: [bus.emit(event("a", n)) for n in range(300)])
        thread.start()
        while thread.is_alive() or len(seen) < 300:
            await asyncio.sleep(0)
        assert seen == list(range(300))
        assert (hanging.delivered, on_loop.failures) == (1, 0)
        hanging.close()
        assert await bus.settled()
        assert on_loop.delivered == 300

    asyncio.run(work())


def test_an_asynchronous_listener_that_fails_or_cancels_itself_goes_on(bus: EventManager) -> None:
    async def work() -> None:
        async def failing(told: DriverEvent) -> None:
            if told.data["n"] % 2:
                raise ValueError
            raise asyncio.CancelledError

        subscription = bus.subscribe("a", failing)
        for number in range(10):
            bus.emit(event("a", number))
        assert await bus.settled()
        assert subscription.failures == 10

    asyncio.run(work())


def test_a_subscription_ends_with_its_loop(bus: EventManager, caplog: pytest.LogCaptureFixture) -> None:
    started = threading.Event()

    async def listener(told: DriverEvent) -> None:
        started.set()
        await asyncio.Event().wait()

    async def work() -> None:
        subscriptions.append(bus.subscribe("a", listener))
        subscriptions.append(bus.subscribe("b", listener))
        bus.emit(event())
        while not started.is_set():
            await asyncio.sleep(0)

    subscriptions: list = []
    asyncio.run(work())
    assert subscriptions[0].closed, "its call was cancelled with the loop"
    bus.emit(event("b"))
    assert subscriptions[1].closed
    assert "its event loop is closed" in caplog.text
    assert bus.flush()


def test_closing_the_bus_cancels_what_asynchronous_listeners_do(bus: EventManager) -> None:
    async def work() -> None:
        started, ended = asyncio.Event(), asyncio.Event()

        async def listener(told: DriverEvent) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        idle = bus.subscribe("b", listener)
        bus.subscribe("a", listener)
        bus.emit(event())
        await started.wait()
        assert bus.close()
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
        assert idle.closed

    asyncio.run(work())


def test_a_loop_that_closes_while_it_is_called_is_no_error(bus: EventManager) -> None:
    loop = asyncio.new_event_loop()
    subscription = bus.subscribe("a", print, loop=loop)
    loop.close()
    subscription._delivery.schedule()
    subscription._delivery.stop()


# -- history


def test_the_history_is_bounded_and_filtered_by_type_time_and_device(bus: EventManager) -> None:
    bus.max_history = 6
    for number in range(10):
        bus.emit(event("a" if number % 2 else "b.x", number, f"device-{number % 3}"))
    assert numbers(bus.event_history) == [4, 5, 6, 7, 8, 9]
    assert numbers(bus.get_recent_events()) == [4, 5, 6, 7, 8, 9]
    assert numbers(bus.get_recent_events("a")) == [5, 7, 9]
    assert numbers(bus.get_recent_events(["b.*", "a"], NOON + timedelta(seconds=7))) == [7, 8, 9]
    assert numbers(bus.get_recent_events(since=NOON + timedelta(seconds=5), until=NOON + timedelta(seconds=8))) == [
        5, 6, 7,
    ]  # fmt: skip
    assert numbers(bus.get_recent_events(device_id="device-0")) == [6, 9]
    assert numbers(bus.get_recent_events(limit=2)) == [8, 9]
    assert bus.get_recent_events(limit=0) == []
    bus.max_history = 1
    assert (bus.max_history, numbers(bus.event_history)) == (1, [9])


def test_what_comes_in_masses_is_remembered_apart_and_pushes_nothing_else_out() -> None:
    bus = EventManager(max_history=2, apart={"log": 3})
    for number, kind in enumerate(["a", *["log"] * 50, "b", "log"]):
        bus.emit(event(kind, number))
    assert numbers(bus.event_history) == [0, 49, 50, 51, 52]
    assert numbers(bus.get_recent_events("log", limit=2)) == [50, 52]
    assert bus.max_history == 2
    bus.close()


def test_after_its_end_a_bus_remembers_and_tells_nobody(bus: EventManager) -> None:
    seen: list[DriverEvent] = []
    subscription = bus.subscribe("a", seen.append)
    assert bus.close()
    assert bus.close()
    bus.emit(event())
    subscription._delivery.schedule()
    assert (seen, len(bus.event_history)) == ([], 1)


# -- many at once


def test_thousands_of_events_from_many_threads_reach_every_listener_in_the_order_of_the_history() -> None:
    senders, each, max_queue = 4, 1500, 200
    bus = EventManager(max_history=senders * each * 2, max_queue=max_queue)
    chance = random.Random(7)
    taken: list[list[tuple[int, int]]] = [[] for _ in range(20)]
    logging.getLogger("vfab.events").setLevel(logging.CRITICAL)

    def listener_of(index: int):
        def listener(told: DriverEvent) -> None:
            taken[index].append((told.data["sender"], told.data["n"]))
            if chance.random() < 0.05:
                raise OSError("injected")

        return listener

    subscriptions = [bus.subscribe("x", listener_of(i), max_queue=10**6 if i % 2 else None) for i in range(20)]

    def send(sender: int) -> None:
        for n in range(each):
            bus.emit(DriverEvent("x", NOON, "d", {"sender": sender, "n": n}))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bus.flush(PATIENCE_S)
    order = [(e.data["sender"], e.data["n"]) for e in bus.get_recent_events("x")]
    assert len(order) == senders * each
    place = {what: index for index, what in enumerate(order)}
    for index, subscription in enumerate(subscriptions):
        assert subscription.delivered + subscription.lost == len(order)
        assert len(taken[index]) == subscription.delivered
        if index % 2:
            assert taken[index] == order
        else:
            places = [place[what] for what in taken[index]]
            assert places == sorted(places)
    assert len(bus._workers.threads) <= 2 + len(subscriptions)
    assert bus.close(PATIENCE_S)
    logging.getLogger("vfab.events").setLevel(logging.NOTSET)


class BusAgainstModel(RuleBasedStateMachine):
    """Subscribing, unsubscribing and emitting in any order; listeners fail as the machine says."""

    @initialize()
    def begin(self) -> None:
        self.bus = EventManager(max_history=5)
        self.seen: dict[int, list[tuple[str, int]]] = {}
        self.expected: dict[int, list[tuple[str, int]]] = {}
        self.open: dict[int, tuple[frozenset[str], object, object]] = {}
        self.history: list[tuple[str, int]] = []

    @rule(types=st.frozensets(st.sampled_from(["a", "b", "*"]), min_size=1), fails=st.booleans())
    def subscribe(self, types: frozenset[str], fails: bool) -> None:
        number = len(self.seen)
        seen = self.seen[number] = []
        self.expected[number] = []

        def listener(told: DriverEvent) -> None:
            seen.append((told.event_type, told.data["n"]))
            if fails:
                raise ValueError

        self.open[number] = (types, listener, self.bus.subscribe(types, listener))

    @rule(kind=st.sampled_from(["a", "b", "c"]))
    def emit(self, kind: str) -> None:
        what = (kind, len(self.history))
        self.history.append(what)
        for number, (types, _, _) in self.open.items():
            if kind in types or "*" in types:
                self.expected[number].append(what)
        self.bus.emit(event(*what))

    @rule(data=st.data(), by_name=st.booleans())
    def unsubscribe(self, data: st.DataObject, by_name: bool) -> None:
        if not self.open:
            return
        number = data.draw(st.sampled_from(sorted(self.open)))
        assert self.bus.flush()
        types, listener, subscription = self.open[number]
        if by_name:
            kind = data.draw(st.sampled_from(sorted(types)))
            self.bus.unsubscribe(kind, listener)  # type: ignore[arg-type]
            types -= {kind}
        else:
            subscription.close()  # type: ignore[attr-defined]
            types = frozenset()
        if types:
            self.open[number] = (types, listener, subscription)
        else:
            del self.open[number]

    @invariant()
    def everybody_was_told_what_it_wanted(self) -> None:
        if hasattr(self, "bus"):
            assert self.bus.flush()
            assert self.seen == self.expected
            assert [(e.event_type, e.data["n"]) for e in self.bus.event_history] == self.history[-5:]

    def teardown(self) -> None:
        if hasattr(self, "bus"):
            assert self.bus.close(PATIENCE_S)


BusAgainstModel.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestBusAgainstModel = BusAgainstModel.TestCase
