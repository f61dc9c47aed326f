"""ConnectionPool: bounded, checked, fair; nothing is lost by threads or tasks, by failures or cancellation."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vfab.model.errors import ConfigurationError, ConnectError, Refused, TimeoutExceeded
from vfab.sdk.pool import ConnectionPool
from vfab.sdk.pool_ledger import Ledger
from vfab.sdk.pool_work import in_loop, waker

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def no_complaints_of_asyncio(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task is destroyed while it is pending, and no exception of one is forgotten."""
    yield
    gc.collect()
    assert not [record for record in caplog.get_records("call") if record.name.startswith(("asyncio", "concurrent"))]


class World:
    """Makes connections and knows which are open. Injected failures make nothing, and close all the same."""

    def __init__(self, limit: int, chance: Callable[[], float] = lambda: 1.0, failures: float = 0.0) -> None:
        self.limit = limit
        self.chance = chance
        self.failures = failures
        self.made = 0
        self.open: set[Link] = set()
        self.most = 0
        self.lock = threading.Lock()

    def fails(self) -> bool:
        return self.chance() < self.failures

    def make(self, **kwargs: Any) -> Link:
        if self.fails():
            raise OSError("injected: cannot be made")
        return self.opened(Link(self, kwargs))

    async def make_async(self, **kwargs: Any) -> AsyncLink:
        await self.rest()
        if self.fails():
            raise OSError("injected: cannot be made")
        return self.opened(AsyncLink(self, kwargs))  # type: ignore[return-value]

    async def rest(self) -> None:
        for _ in range(int(self.chance() * 3)):
            await asyncio.sleep(0)

    def opened(self, link: Link) -> Link:
        with self.lock:
            self.made += 1
            self.open.add(link)
            self.most = max(self.most, len(self.open))
        return link

    def closed(self, link: Link) -> None:
        with self.lock:
            self.open.discard(link)
        if self.fails():
            raise OSError("injected: complains while closing")


class Link:
    def __init__(self, world: World, kwargs: dict[str, Any]) -> None:
        self.world = world
        self.kwargs = kwargs
        self.alive = False
        self.answers = True
        self.holder: object = None
        self.checks = 0

    def connect(self) -> bool:
        if self.world.fails():
            return False
        if self.world.fails():
            raise ConnectionError("injected: cannot connect")
        self.alive = True
        return True

    def is_connected(self) -> bool:
        self.checks += 1
        if self.world.fails():
            raise OSError("injected: no answer")
        return self.alive and self.answers

    def disconnect(self) -> None:
        self.world.closed(self)

    def use(self, holder: object) -> None:
        assert self.holder is None, "two have the same connection"
        assert self in self.world.open, "a closed connection was handed out"
        self.holder = holder

    def leave(self) -> None:
        self.holder = None


class AsyncLink(Link):
    async def connect(self) -> bool:  # type: ignore[override]
        await self.world.rest()
        return super().connect()

    async def is_connected(self) -> bool:  # type: ignore[override]
        await self.world.rest()
        return super().is_connected()

    async def disconnect(self) -> None:  # type: ignore[override]
        self.world.closed(self)
        await self.world.rest()


def check_books(pool: ConnectionPool[Any], world: World) -> None:
    """Nothing is on its way: what is open is idle or lent, and nothing else."""
    known = {id(link) for link in [*pool.available, *pool.in_use]}
    assert known == {id(link) for link in world.open}
    assert pool.total_created == len(known)
    assert pool.waiting == 0
    assert world.most <= world.limit


# -- one after the other


def test_a_connection_that_fits_is_used_again_and_one_that_does_not_is_not() -> None:
    world = World(3)
    pool = ConnectionPool(world.make, 3)
    first = pool.get_connection(port="a", options={"baud": [1, 2], "flags": {3}})
    assert first.alive, "it was connected"
    pool.release_connection(first)
    assert pool.get_connection(port="a", options={"flags": {3}, "baud": [1, 2]}) is first
    other = pool.get_connection(port="b")
    assert other is not first
    assert (world.made, set(map(id, pool.in_use)), pool.available) == (2, {id(first), id(other)}, [])


def test_equal_numbers_of_different_types_are_different_arguments() -> None:
    pool = ConnectionPool(World(2).make, 2)
    one = pool.get_connection(flag=1)
    pool.release_connection(one)
    assert pool.get_connection(flag=True) is not one


def test_what_cannot_be_compared_is_refused() -> None:
    pool = ConnectionPool(World(1).make, 1)
    with pytest.raises(ConfigurationError, match="bytearray"):
        pool.get_connection(port=bytearray())
    with pytest.raises(ConfigurationError, match="at least one"):
        ConnectionPool(World(1).make, 0)


def test_a_dead_connection_is_closed_before_it_is_handed_out_and_when_it_comes_back() -> None:
    world = World(1)
    pool = ConnectionPool(world.make, 1)
    first = pool.get_connection()
    pool.release_connection(first)
    first.answers = False
    second = pool.get_connection()
    assert second is not first
    second.answers = False
    pool.release_connection(second)
    assert world.open == set()
    third = pool.get_connection()
    pool.release_connection(third, discard=True)
    assert world.open == set()
    check_books(pool, world)


def test_an_idle_one_that_does_not_fit_makes_room_the_longest_unused_first() -> None:
    world = World(2)
    pool = ConnectionPool(world.make, 2)
    a, b = pool.get_connection(port="a"), pool.get_connection(port="b")
    pool.release_connection(b)
    pool.release_connection(a)
    c = pool.get_connection(port="c")
    assert world.open == {a, c}
    check_books(pool, world)


def test_nobody_waits_longer_than_its_deadline() -> None:
    pool = ConnectionPool(World(1).make, 1, timeout_s=0.01)
    link = pool.get_connection()
    for timeout_s in (None, 0, -1):
        with pytest.raises(TimeoutExceeded, match="exhausted") as late:
            pool.get_connection(timeout_s=timeout_s)
    assert late.value.context == {"max_connections": 1, "in_use": 1, "waiting": 1}
    assert pool.waiting == 0
    pool.release_connection(link)
    assert pool.get_connection() is link


def test_who_waits_is_served_in_turn() -> None:
    world = World(1)
    pool = ConnectionPool(world.make, 1)
    held = pool.get_connection(port="a")
    order: list[int] = []

    def wait(number: int) -> None:
        with pool.connection(timeout_s=PATIENCE_S, port="ab"[number % 2]):
            order.append(number)

    threads = []
    for number in range(6):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        while pool.waiting <= number:
            pass
    pool.release_connection(held)
    for thread in threads:
        thread.join()
    assert order == list(range(6))
    check_books(pool, world)


def test_what_is_not_lent_cannot_be_given_back() -> None:
    pool = ConnectionPool(World(1).make, 1)
    link = pool.get_connection()
    pool.release_connection(link)
    for stranger in (link, Link(World(1), {})):
        with pytest.raises(Refused, match="not lent"):
            pool.release_connection(stranger)


def test_those_that_nobody_wants_are_closed_after_a_while() -> None:
    time_s = [0.0]
    world = World(3)
    pool = ConnectionPool(world.make, 3, max_idle_s=10, clock=lambda: time_s[0])
    a, b = pool.get_connection(port="a"), pool.get_connection(port="b")
    pool.release_connection(a)
    time_s[0] = 6.0
    pool.release_connection(b)
    time_s[0] = 10.0
    assert pool.evict_idle() == 1
    assert world.open == {b}
    time_s[0] = 16.0
    c = pool.get_connection(port="c")
    assert world.open == {c}, "a request evicts, too"


def test_a_new_connection_that_fails_leaves_its_place_free() -> None:
    world = World(1)
    answers: list[Any] = [False, ConnectionError("no"), None]

    def connect(link: Link) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pool = ConnectionPool(world.make, 1, connect=connect)
    for _ in range(2):
        with pytest.raises((ConnectError, ConnectionError)):
            pool.get_connection()
        check_books(pool, world)
    pool.get_connection()


def test_a_factory_that_repeats_itself_is_told_of() -> None:
    link = World(2).make()
    pool = ConnectionPool(lambda: link, 2)
    pool.get_connection()
    with pytest.raises(ConfigurationError, match="returned before"):
        pool.get_connection()
    assert pool.in_use == [link]
    assert pool.total_created == 1


@pytest.mark.parametrize("where", ["make", "check", "connect", "disconnect"])
def test_the_end_of_the_program_loses_no_place(where: str) -> None:
    world = World(1)

    def ends(link: Any = None) -> object:
        raise KeyboardInterrupt

    pool = ConnectionPool(world.make, 1)
    if where == "make":
        pool.manager_factory = ends
        with pytest.raises(KeyboardInterrupt):
            pool.get_connection()
    else:
        link = pool.get_connection() if where != "connect" else None
        setattr(pool, f"_{where}", ends)
        with pytest.raises(KeyboardInterrupt):
            pool.release_connection(link, discard=where == "disconnect") if link else pool.get_connection()
    check_books(pool, world)


def test_the_end_of_the_program_while_waiting_leaves_the_queue() -> None:
    class Interrupted(ConnectionPool[Link]):
        def _granted(self, *waited: object) -> Any:
            raise KeyboardInterrupt

    pool = Interrupted(World(1).make, 1)
    pool.get_connection()
    with pytest.raises(KeyboardInterrupt):
        pool.get_connection(timeout_s=0)
    assert pool.waiting == 0


# -- the end


def test_closing_waits_for_those_that_are_lent_and_refuses_everybody_else() -> None:
    world = World(2)
    pool = ConnectionPool(world.make, 2)
    held, idle = pool.get_connection(port="a"), pool.get_connection(port="b")
    pool.release_connection(idle)
    with pytest.raises(TimeoutExceeded, match="1 connections were not given back"):
        pool.close(timeout_s=0)
    assert world.open == {held}
    with pytest.raises(ConnectError, match="closed"):
        pool.get_connection()
    closer = threading.Thread(target=pool.close, args=(PATIENCE_S,))
    closer.start()
    pool.release_connection(held)
    closer.join(PATIENCE_S)
    assert world.open == set()
    assert not closer.is_alive()


def test_who_waits_when_the_pool_is_closed_is_told_at_once() -> None:
    pool = ConnectionPool(World(1).make, 1)
    held = pool.get_connection()
    errors: list[Exception] = []

    def wait() -> None:
        try:
            pool.get_connection(timeout_s=PATIENCE_S)
        except ConnectError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not pool.waiting:
        pass
    with pytest.raises(TimeoutExceeded):
        pool.close(timeout_s=0)
    waiter.join(PATIENCE_S)
    assert len(errors) == 1
    assert errors[0].retryable is False  # type: ignore[attr-defined]
    pool.release_connection(held)
    pool.close()


def test_a_pool_is_closed_by_its_block() -> None:
    world = World(2)
    with ConnectionPool(world.make, 2) as pool, pool.connection():
        pass
    assert world.open == set()

    async def work() -> None:
        async with ConnectionPool(world.make, 2) as pool, pool.connection_async():
            assert len(world.open) == 1
        assert world.open == set()
        async with ConnectionPool(world.make, 2) as never_used:
            pass
        with pytest.raises(ConnectError):
            await never_used.get_connection_async()
        native = ConnectionPool(world.make_async, 2, blocking=False)
        link = await native.get_connection_async()
        with pytest.raises(TimeoutExceeded):
            await native.close_async(timeout_s=0)
        await native.release_connection_async(link)
        await native.close_async()
        assert world.open == set()

    asyncio.run(work())


# -- asyncio


@pytest.fixture(params=["blocking", "native"])
def pool_of(request: pytest.FixtureRequest) -> Callable[..., ConnectionPool[Any]]:
    """Pools over plain managers on threads, and over `async` managers on the loop."""

    def made(world: World, limit: int, **options: Any) -> ConnectionPool[Any]:
        factory = world.make if request.param == "blocking" else world.make_async
        return ConnectionPool(factory, limit, blocking=request.param == "blocking", **options)  # type: ignore[arg-type]

    return made


def test_tasks_take_turns(pool_of: Callable[..., ConnectionPool[Any]]) -> None:
    async def work() -> None:
        world = World(2)
        pool = pool_of(world, 2)
        first = await pool.get_connection_async(port="a")
        await pool.release_connection_async(first)
        async with pool.connection_async(port="a") as again:
            assert again is first
            async with pool.connection_async(port="b"):
                with pytest.raises(TimeoutExceeded, match="exhausted"):
                    await pool.get_connection_async(timeout_s=0.001)
                waiter = asyncio.create_task(pool.get_connection_async(port="b"))
                while not pool.waiting:
                    await asyncio.sleep(0)
        link = await waiter
        await pool.release_connection_async(link)
        check_books(pool, world)
        await pool.close_async()
        assert world.open == set()

    asyncio.run(work())


def test_idle_ones_are_evicted_from_tasks_too(pool_of: Callable[..., ConnectionPool[Any]]) -> None:
    async def work() -> None:
        time_s = [0.0]
        world = World(2)
        pool = pool_of(world, 2, max_idle_s=5, clock=lambda: time_s[0])
        async with pool.connection_async():
            pass
        assert await pool.evict_idle_async() == 0
        time_s[0] = 5.0
        assert await pool.evict_idle_async() == 1
        assert world.open == set()

    asyncio.run(work())


def test_a_factorys_own_timeout_is_not_taken_for_the_pools(pool_of: Callable[..., ConnectionPool[Any]]) -> None:
    async def work() -> None:
        pool = pool_of(World(1), 1)

        def late() -> None:
            raise TimeoutError("the device")

        pool.manager_factory = late
        with pytest.raises(TimeoutError, match="the device"):
            await pool.get_connection_async()
        assert pool.total_created == 0

    asyncio.run(work())


def test_who_waits_in_a_task_is_told_when_the_pool_closes(pool_of: Callable[..., ConnectionPool[Any]]) -> None:
    async def work() -> None:
        pool = pool_of(World(1), 1)
        held = await pool.get_connection_async()
        waiter = asyncio.create_task(pool.get_connection_async())
        while not pool.waiting:
            await asyncio.sleep(0)
        closer = asyncio.create_task(pool.close_async())
        with pytest.raises(ConnectError, match="closed"):
            await waiter
        await pool.release_connection_async(held)
        await closer

    asyncio.run(work())


def test_asynchronous_and_plain_are_not_mixed_up() -> None:
    world = World(1)
    with pytest.raises(ConfigurationError, match="are asynchronous"):
        ConnectionPool(world.make_async, 1).get_connection()
    native = ConnectionPool(world.make_async, 1, blocking=False)
    for call in (native.get_connection, native.evict_idle, native.close, lambda: native.release_connection(None)):
        with pytest.raises(ConfigurationError, match="event loop") as refused:
            call()  # type: ignore[operator]
        assert "_async" in refused.value.remedy


def test_a_connection_whose_taker_was_cancelled_while_a_thread_made_it_goes_into_the_pool() -> None:
    world = World(1)
    entered, released = threading.Event(), threading.Event()

    def slow() -> Link:
        entered.set()
        assert released.wait(PATIENCE_S)
        return world.make()

    async def work(pool: ConnectionPool[Link]) -> None:
        taker = asyncio.create_task(pool.get_connection_async())
        await asyncio.to_thread(entered.wait)
        taker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taker
        released.set()
        link = await pool.get_connection_async(timeout_s=PATIENCE_S)
        assert world.made == 1
        await pool.release_connection_async(link)
        check_books(pool, world)

    asyncio.run(work(ConnectionPool(slow, 1)))


def test_a_loop_that_ends_while_a_thread_makes_a_connection_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World(1)
    entered, released = threading.Event(), threading.Event()

    def slow() -> Link:
        entered.set()
        assert released.wait(PATIENCE_S)
        return world.make()

    async def work(pool: ConnectionPool[Link]) -> None:
        pending.append(asyncio.create_task(pool.get_connection_async()))
        pending.append(asyncio.create_task(pool.get_connection_async()))  # in the queue
        await asyncio.to_thread(entered.wait)

    pending: list[object] = []
    pool = ConnectionPool(slow, 1)
    asyncio.run(work(pool))
    released.set()
    link = pool.get_connection(timeout_s=PATIENCE_S)
    pool.release_connection(link)
    check_books(pool, world)
    assert not caplog.records


def test_a_place_whose_loop_has_closed_is_given_to_the_next() -> None:
    loop = asyncio.new_event_loop()
    ledger = Ledger(1, lambda: 0.0)
    first = ledger.ask("a", lambda: None)
    dead = ledger.ask("a", waker(loop.create_future()))
    living = ledger.ask("a", lambda: None)
    ledger.watch(waker(loop.create_future()))
    loop.close()
    assert first.order is not None
    ledger.gone()
    assert dead.order is None
    assert living.order is not None
    ledger.ask("a", waker(dead_future()))
    ledger.shut()


def dead_future() -> asyncio.Future[None]:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    return future


def test_a_place_that_was_withdrawn_twice_counts_once() -> None:
    ledger = Ledger(1, lambda: 0.0)
    place = ledger.ask("a", lambda: None)
    ledger.withdraw(place)
    ledger.withdraw(place)
    assert ledger.total == 0


def test_a_result_for_a_loop_that_is_closed_is_dropped() -> None:
    from concurrent.futures import Future

    future: Future[int] = Future()

    async def work() -> None:
        in_loop(future)

    asyncio.run(work())
    future.set_result(1)


# -- many at once


def thread_storm(pool: ConnectionPool[Any], world: World, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        try:
            link = pool.get_connection(timeout_s=PATIENCE_S, port=chance.randrange(3))
        except (OSError, ConnectError):
            continue
        link.use(seed)
        if chance.random() < 0.05:
            link.answers = False
        link.leave()
        pool.release_connection(link, discard=chance.random() < 0.05)


async def task_storm(pool: ConnectionPool[Any], seed: int, tasks: int, rounds: int) -> int:
    """`tasks` that take and give back, cancelled at random and started anew; how many were cancelled."""
    chance = random.Random(seed)

    async def one(number: int) -> None:
        for _ in range(rounds):
            try:
                async with pool.connection_async(timeout_s=PATIENCE_S, port=chance.randrange(3)) as link:
                    link.use(number)
                    try:
                        await asyncio.sleep(0)
                    finally:
                        link.leave()
            except (OSError, ConnectError):
                continue

    cancelled = 0
    running = [asyncio.create_task(one(number)) for number in range(tasks)]
    for _ in range(tasks * 2):
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        index = chance.randrange(tasks)
        cancelled += running[index].cancel()
        running.append(asyncio.create_task(one(index)))
    await asyncio.wait(running)
    for task in running:
        if not task.cancelled():
            assert task.exception() is None
    return cancelled


def test_thousands_of_operations_on_many_threads_lose_nothing() -> None:
    world = World(4, random.Random(1).random, failures=0.03)
    pool = ConnectionPool(world.make, 4)
    threads = [threading.Thread(target=thread_storm, args=(pool, world, seed, 300)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_books(pool, world)
    pool.close()
    assert world.open == set()
    assert world.made > 50, "failures were injected"


def test_thousands_of_operations_of_tasks_that_are_cancelled_lose_nothing(
    pool_of: Callable[..., ConnectionPool[Any]],
) -> None:
    world = World(5, random.Random(2).random, failures=0.03)
    pool = pool_of(world, 5)

    async def work() -> None:
        cancelled = await task_storm(pool, 3, tasks=100, rounds=10)
        assert cancelled > 20
        await pool.close_async(PATIENCE_S)

    asyncio.run(work())
    check_books(pool, world)
    assert world.open == set()


def test_threads_and_tasks_of_two_loops_share_a_pool() -> None:
    world = World(3, random.Random(4).random, failures=0.02)
    pool = ConnectionPool(world.make, 3)

    def loop(seed: int) -> None:
        asyncio.run(task_storm(pool, seed, tasks=30, rounds=8))

    threads = [threading.Thread(target=loop, args=(seed,)) for seed in range(2)]
    threads += [threading.Thread(target=thread_storm, args=(pool, world, seed, 100)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close(PATIENCE_S)
    check_books(pool, world)
    assert world.open == set()


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 10**6), steps=st.integers(0, 40), native=st.booleans())
def test_a_loop_that_ends_at_any_moment_loses_nothing(seed: int, steps: int, native: bool) -> None:
    world = World(2, random.Random(seed).random, failures=0.1)
    factory = world.make_async if native else world.make
    pool: ConnectionPool[Any] = ConnectionPool(factory, 2, blocking=not native)  # type: ignore[arg-type]
    storms: list[object] = []

    async def interrupted() -> None:
        storms.append(asyncio.create_task(task_storm(pool, seed, tasks=5, rounds=5)))
        for _ in range(steps):
            await asyncio.sleep(0)

    asyncio.run(interrupted())
    world.failures = 0.0
    asyncio.run(pool.close_async(PATIENCE_S))
    assert world.most <= 2
    assert world.open == set()
    assert pool.total_created == 0


class PoolAgainstModel(RuleBasedStateMachine):
    """Taking and giving back in any order, with failures, deaths and the passing of time."""

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.time_s = 0.0
        self.world = World(limit)
        self.pool = ConnectionPool(self.world.make, limit, max_idle_s=10, clock=lambda: self.time_s)
        self.held: list[Link] = []

    @rule(port=st.integers(0, 2), fails=st.booleans())
    def take(self, port: int, fails: bool) -> None:
        fitting = [x for x in self.pool.available if x.kwargs == {"port": port} and x.answers]
        self.world.chance, self.world.failures = (lambda: 0.0), (0.5 if fails else 0.0)
        try:
            link = self.pool.get_connection(timeout_s=0, port=port)
        except TimeoutExceeded:
            assert len(self.held) == self.world.limit
        except OSError:
            assert fails
        else:
            assert not fails
            assert link.kwargs == {"port": port}
            assert link.answers
            if fitting and self.time_s == self.before:
                assert link in fitting
            link.use(self)
            self.held.append(link)
        self.world.failures = 0.0

    before = 0.0

    @precondition(lambda self: getattr(self, "held", None))
    @rule(data=st.data(), dies=st.booleans(), discard=st.booleans())
    def give_back(self, data: st.DataObject, dies: bool, discard: bool) -> None:
        link = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        link.answers = not dies
        link.leave()
        self.pool.release_connection(link, discard=discard)
        assert (link in self.world.open) is not (dies or discard)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.time_s += seconds
        self.before = self.time_s
        self.pool.evict_idle()
        assert all(m.idle_since > self.time_s - 10 for m in self.pool._ledger.idle)

    @rule(data=st.data())
    def an_idle_one_dies(self, data: st.DataObject) -> None:
        if self.pool.available:
            data.draw(st.sampled_from(self.pool.available)).answers = False

    @invariant()
    def the_books_are_right(self) -> None:
        if hasattr(self, "pool"):
            check_books(self.pool, self.world)
            assert {id(x) for x in self.pool.in_use} == {id(x) for x in self.held}

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            for link in self.held:
                self.pool.release_connection(link)
            self.pool.close(0)
            assert self.world.open == set()


PoolAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestPoolAgainstModel = PoolAgainstModel.TestCase
