"""DriverCache: values expire, are bounded, and are loaded once however many ask."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vfab.model.errors import Cancelled, ConfigurationError, Refused, TimeoutExceeded
from vfab.sdk.cache import DriverCache

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def no_complaints_of_asyncio(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No callback fails, no task is destroyed while it is pending, and no exception of one is forgotten."""
    yield
    gc.collect()
    assert not [record for record in caplog.get_records("call") if record.name.startswith(("asyncio", "concurrent"))]


class Clock:
    time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def raising(error: BaseException) -> Callable[[], None]:
    def loader() -> None:
        raise error

    return loader


# -- keeping


def test_a_value_stays_for_its_time_and_no_longer() -> None:
    clock = Clock()
    cache = DriverCache(ttl=60, clock=clock)
    assert cache.get("info") is None
    assert cache.get("info", "nothing") == "nothing"
    cache.set("info", {"name": "axidraw"})
    clock.time_s = 59.9
    assert cache.get("info") == {"name": "axidraw"}
    assert "info" in cache
    clock.time_s = 60.0
    assert cache.get("info") is None
    assert (len(cache), "info" in cache) == (0, False)


def test_one_key_or_everything_is_forgotten() -> None:
    cache = DriverCache()
    for key in "abc":
        cache.set(key, key)
    cache.invalidate("a")
    cache.invalidate("never there")
    assert [cache.get(key) for key in "abc"] == [None, "b", "c"]
    cache.invalidate()
    assert len(cache) == 0


def test_it_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    cache = DriverCache(max_entries=2)
    cache.set("a", 1)
    cache.set("b", 2)
    cache.get("a")
    cache.set("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_impossible_bounds_are_refused() -> None:
    for options in ({"ttl": -1}, {"max_entries": 0}):
        with pytest.raises(ConfigurationError, match="room"):
            DriverCache(**options)


def test_with_no_time_at_all_nothing_is_kept() -> None:
    cache = DriverCache(ttl=0)
    calls: list[int] = []
    for _ in range(2):
        cache.get_or_load("a", lambda: calls.append(1))
    assert len(calls) == 2


# -- loading, by threads


def test_what_is_missing_is_loaded_and_none_is_a_value() -> None:
    cache = DriverCache()
    calls: list[int] = []
    for _ in range(3):
        assert cache.get_or_load("a", lambda: calls.append(1)) is None
    assert len(calls) == 1


def test_a_failing_loader_is_not_kept() -> None:
    cache = DriverCache()
    with pytest.raises(OSError, match="unplugged"):
        cache.get_or_load("a", raising(OSError("unplugged")))
    assert cache.get_or_load("a", lambda: 5) == 5


class SlowLoader:
    """Says when it is called and answers when it is let through."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.calls = 0
        self.entered, self.released = threading.Event(), threading.Event()

    def __call__(self) -> object:
        self.calls += 1
        self.entered.set()
        assert self.released.wait(PATIENCE_S)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def wait_for(cache: DriverCache, key: str, count: int) -> None:
    while cache._flights[key].waiting < count:
        pass


def test_many_threads_that_ask_at_once_load_once() -> None:
    cache = DriverCache()
    loader = SlowLoader("value")
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(cache.get_or_load, "a", loader) for _ in range(8)]
        assert loader.entered.wait(PATIENCE_S)
        wait_for(cache, "a", 8)
        loader.released.set()
        assert [future.result(PATIENCE_S) for future in asked] == ["value"] * 8
    assert loader.calls == 1


def test_a_failing_loader_fails_all_who_wait_and_nobody_after_them() -> None:
    cache = DriverCache()
    loader = SlowLoader(TimeoutError("late"))
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(cache.get_or_load, "a", loader) for _ in range(4)]
        assert loader.entered.wait(PATIENCE_S)
        wait_for(cache, "a", 4)
        loader.released.set()
        assert [future.exception(PATIENCE_S) for future in asked] == [loader.answer] * 4
    assert loader.calls == 1
    assert cache.get_or_load("a", lambda: 1) == 1


def test_when_the_one_who_loads_is_interrupted_another_takes_over() -> None:
    cache = DriverCache()
    loader = SlowLoader(KeyboardInterrupt())
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(cache.get_or_load, "a", loader)
        assert loader.entered.wait(PATIENCE_S)
        second = threads.submit(cache.get_or_load, "a", lambda: 2)
        wait_for(cache, "a", 2)
        loader.released.set()
        assert isinstance(first.exception(PATIENCE_S), KeyboardInterrupt)
        assert second.result(PATIENCE_S) == 2


@pytest.mark.parametrize("change", ["invalidate", "invalidate all", "set"])
def test_a_value_that_was_invalidated_or_set_while_it_was_loaded_is_not_kept(change: str) -> None:
    cache = DriverCache()
    loader = SlowLoader("old")
    with ThreadPoolExecutor(2) as threads:
        before = threads.submit(cache.get_or_load, "a", loader)
        assert loader.entered.wait(PATIENCE_S)
        if change == "set":
            cache.set("a", "new")
        else:
            cache.invalidate("a" if change == "invalidate" else None)
        assert cache.get_or_load("a", lambda: "new") == "new"
        loader.released.set()
        assert before.result(PATIENCE_S) == "old"
    assert cache.get("a") == "new"


def test_patience_with_another_ones_loading_is_bounded() -> None:
    cache = DriverCache()
    loader = SlowLoader(1)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(cache.get_or_load, "a", loader)
        assert loader.entered.wait(PATIENCE_S)
        with pytest.raises(TimeoutExceeded, match="somebody else"):
            cache.get_or_load("a", lambda: 2, timeout_s=0.001)
        loader.released.set()


def test_a_loader_that_asks_for_what_it_loads_is_refused() -> None:
    cache = DriverCache()
    with pytest.raises(Refused, match="its loader"):
        cache.get_or_load("a", lambda: cache.get_or_load("b", lambda: cache.get_or_load("a", lambda: 1)))

    async def load() -> object:
        return await asyncio.gather(cache.get_or_load_async("a", load))

    with pytest.raises(Refused, match="its loader"):
        asyncio.run(cache.get_or_load_async("a", load))
    assert cache.get_or_load("a", lambda: cache.get_or_load("b", lambda: 2)) == 2


# -- loading, by tasks


def test_many_tasks_and_threads_that_ask_at_once_load_once() -> None:
    async def work() -> None:
        cache = DriverCache()
        calls: list[int] = []
        released = asyncio.Event()

        async def loader() -> str:
            calls.append(1)
            await released.wait()
            return "value"

        tasks = [asyncio.create_task(cache.get_or_load_async("a", loader)) for _ in range(20)]
        while not calls:
            await asyncio.sleep(0)
        threads = [asyncio.to_thread(cache.get_or_load, "a", lambda: "another") for _ in range(3)]
        waiting = asyncio.gather(*threads)
        while cache._flights["a"].waiting < 23:
            await asyncio.sleep(0)
        with pytest.raises(Refused, match="event loop of this thread"):
            cache.get_or_load("a", lambda: "another")
        tasks[0].cancel()
        tasks[7].cancel()
        released.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(answer, asyncio.CancelledError) for answer in answers].count(True) == 2
        assert set(answers[1:7] + answers[8:]) == {"value"}
        assert await waiting == ["value"] * 3
        assert await cache.get_or_load_async("a", loader) == "value"
        assert len(calls) == 1

    asyncio.run(work())


def test_a_task_waits_for_a_threads_loading() -> None:
    async def work() -> None:
        cache = DriverCache()
        loader = SlowLoader("value")
        loading = asyncio.create_task(asyncio.to_thread(cache.get_or_load, "a", loader))
        await asyncio.to_thread(loader.entered.wait)
        task = asyncio.create_task(cache.get_or_load_async("a", never))
        left = asyncio.create_task(cache.get_or_load_async("a", never))
        await asyncio.sleep(0)
        left.cancel()
        loader.released.set()
        assert (await loading, await task) == ("value", "value")

    async def never() -> object:
        raise AssertionError

    asyncio.run(work())


def test_an_exception_that_no_task_can_raise_reaches_those_who_wait_as_another() -> None:
    async def work() -> None:
        cache = DriverCache()
        loader = SlowLoader(StopIteration())
        loading = asyncio.create_task(asyncio.to_thread(caught, cache, loader))
        await asyncio.to_thread(loader.entered.wait)
        task = asyncio.create_task(cache.get_or_load_async("a", five))
        await asyncio.sleep(0)
        loader.released.set()
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(task, PATIENCE_S)
        await loading

    def caught(cache: DriverCache, loader: SlowLoader) -> None:
        with pytest.raises(StopIteration):
            cache.get_or_load("a", loader)

    asyncio.run(work())


def test_what_nobody_waits_for_any_more_is_not_loaded_to_its_end() -> None:
    async def work() -> None:
        cache = DriverCache()
        ended = asyncio.Event()

        async def hangs() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        tasks = [asyncio.create_task(cache.get_or_load_async("a", hangs)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert await cache.get_or_load_async("a", five) == 5
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
        assert cache.get("a") == 5

    asyncio.run(work())


async def five() -> int:
    return 5


def test_a_loading_that_was_invalidated_and_left_harms_the_next_one_not() -> None:
    async def work() -> None:
        cache = DriverCache()

        async def hangs() -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(cache.get_or_load_async("a", hangs))
        await asyncio.sleep(0)
        cache.invalidate("a")
        task.cancel()
        assert await cache.get_or_load_async("a", five) == 5
        assert cache.get("a") == 5

    asyncio.run(work())


def test_a_failing_or_self_cancelling_loader_of_a_task_is_told() -> None:
    async def work() -> None:
        cache = DriverCache()

        async def fails() -> None:
            raise OSError("unplugged")

        async def cancels() -> None:
            raise asyncio.CancelledError

        for _ in range(2):
            answers = await asyncio.gather(
                *(cache.get_or_load_async("a", fails) for _ in range(3)), return_exceptions=True
            )
            assert [str(answer) for answer in answers] == ["unplugged"] * 3
        answers = await asyncio.gather(
            *(cache.get_or_load_async("a", cancels) for _ in range(3)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {Cancelled}
        assert len(cache) == 0

    asyncio.run(work())


def test_a_loop_that_ends_leaves_the_loading_to_others() -> None:
    cache = DriverCache()
    started = threading.Event()

    async def hangs() -> None:
        started.set()
        await asyncio.Event().wait()

    async def work(executor: ThreadPoolExecutor) -> None:
        pending.append(asyncio.create_task(cache.get_or_load_async("a", hangs)))
        pending.append(asyncio.create_task(cache.get_or_load_async("b", hangs)))
        while not started.is_set():
            await asyncio.sleep(0)
        pending.append(executor.submit(cache.get_or_load, "a", lambda: 7))
        while cache._flights["a"].waiting < 2:
            await asyncio.sleep(0)

    pending: list = []
    with ThreadPoolExecutor(1) as executor:
        asyncio.run(work(executor))
        assert pending[2].result(PATIENCE_S) == 7
    assert cache.get_or_load("b", lambda: 8) == 8


def test_leaving_a_loading_whose_loop_is_closed_is_no_error() -> None:
    cache = DriverCache()
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        cache._start("a", flight, five)

    _, flight, _ = cache._board("a")
    assert flight is not None
    loop.run_until_complete(begin())
    task = flight.task
    flight.task = None
    cache._leave("a", flight)
    loop.run_until_complete(asyncio.wait_for(asyncio.wrap_future(flight.future, loop=loop), PATIENCE_S))
    loop.close()
    cache.invalidate()
    _, flight, _ = cache._board("a")
    assert flight is not None
    flight.task, flight.loop = task, loop
    cache._leave("a", flight)
    assert cache.get_or_load("a", lambda: 1) == 1


# -- many at once


def test_thousands_of_operations_with_failures_and_cancellation_load_one_at_a_time_and_never_serve_what_is_stale() -> (
    None
):
    cache = DriverCache(ttl=1000, max_entries=4)
    chance = random.Random(5)
    versions = dict.fromkeys(range(6), 0)
    counts = {"loads": 0, "failed": 0}
    guard = threading.Lock()

    def load(key: int) -> tuple[int, int]:
        with guard:
            counts["loads"] += 1
            version = versions[key]
            failing = chance.random() < 0.2
            counts["failed"] += failing
        if failing:
            raise OSError("injected")
        return key, version

    def check(key: int, at_least: int, value: tuple[int, int]) -> None:
        assert value[0] == key
        assert value[1] >= at_least, "older than the invalidation before the question"

    def bump(key: int) -> None:
        with guard:
            versions[key] += 1
            version = versions[key]
        cache.invalidate(key)
        with guard:
            settled[key] = max(settled[key], version)

    def thread(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(400):
            key = mine.randrange(6)
            if mine.random() < 0.2:
                bump(key)
                continue
            at_least = settled[key]
            try:
                check(key, at_least, cache.get_or_load(key, lambda key=key: load(key)))  # type: ignore[misc]
            except OSError:
                continue

    async def task(mine: random.Random) -> None:
        for _ in range(20):
            key = mine.randrange(6)

            async def loader(key: int = key) -> tuple[int, int]:
                await asyncio.sleep(0)
                return load(key)

            try:
                check(key, settled[key], await cache.get_or_load_async(key, loader))
            except OSError:
                continue

    async def storm(seed: int) -> None:
        mine = random.Random(seed)
        tasks = [asyncio.create_task(task(mine)) for _ in range(100)]
        for index in range(0, 100, 3):
            await asyncio.sleep(0)
            tasks[index].cancel()
        await asyncio.wait(tasks)
        assert all(one.cancelled() or one.exception() is None for one in tasks)

    settled = dict.fromkeys(range(6), 0)
    threads = [threading.Thread(target=thread, args=(seed,)) for seed in range(6)]
    threads += [threading.Thread(target=lambda seed=seed: asyncio.run(storm(seed))) for seed in (10, 11)]  # type: ignore[misc]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert counts["failed"] > 20
    assert cache._flights == {}
    assert len(cache) <= 4
    for key in versions:
        bump(key)
    thread(99)
    assert sum(settled.values()) > 300


class CacheAgainstModel(RuleBasedStateMachine):
    """Every operation in any order, against a dictionary with times."""

    @initialize(ttl=st.integers(1, 10))
    def begin(self, ttl: int) -> None:
        self.clock = Clock()
        self.ttl = ttl
        self.cache = DriverCache(ttl, clock=self.clock)
        self.model: dict[str, tuple[int, float]] = {}
        self.next = 0

    def expected(self, key: str) -> int | None:
        value, until = self.model.get(key, (None, 0.0))
        return value if until > self.clock.time_s else None

    KEYS = st.sampled_from("abc")

    @rule(key=KEYS)
    def set(self, key: str) -> None:
        self.next += 1
        self.cache.set(key, self.next)
        self.model[key] = (self.next, self.clock.time_s + self.ttl)

    @rule(key=KEYS, fails=st.booleans(), as_task=st.booleans())
    def load(self, key: str, fails: bool, as_task: bool) -> None:
        self.next += 1
        known = self.expected(key)

        def loader() -> int:
            assert known is None
            if fails:
                raise OSError
            return self.next

        async def loader_async() -> int:
            return loader()

        try:
            if as_task:
                value = asyncio.run(self.cache.get_or_load_async(key, loader_async))
            else:
                value = self.cache.get_or_load(key, loader)
        except OSError:
            assert fails
            assert known is None
            return
        assert value == (self.next if known is None else known)
        if known is None:
            self.model[key] = (self.next, self.clock.time_s + self.ttl)

    @rule(key=st.none() | KEYS)
    def invalidate(self, key: str | None) -> None:
        self.cache.invalidate(key)
        if key is None:
            self.model.clear()
        else:
            self.model.pop(key, None)

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.clock.time_s += seconds

    @invariant()
    def it_knows_what_the_model_knows(self) -> None:
        if hasattr(self, "cache"):
            assert [self.cache.get(key) for key in "abc"] == [self.expected(key) for key in "abc"]


CacheAgainstModel.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestCacheAgainstModel = CacheAgainstModel.TestCase
