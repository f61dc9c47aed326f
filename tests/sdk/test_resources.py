"""ResourceManager and DriverContext: everything is closed once, the newest first."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.sdk.resources import DriverContext, ResourceManager


class Link:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.closed = 0

    def disconnect(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


class AsyncLink(Link):
    async def disconnect(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().disconnect()


def cleaned(manager: ResourceManager, way: str) -> list[BaseException]:
    try:
        if way == "sync":
            manager.cleanup_all()
        else:
            asyncio.run(manager.cleanup_all_async())
    except ExceptionGroup as group:
        return list(group.exceptions)
    return []


@settings(deadline=None)
@given(st.lists(st.sampled_from(["fine", "fails", "no handler"]), max_size=12), st.sampled_from(["sync", "async"]))
def test_everything_is_cleaned_up_newest_first_and_once_whatever_fails(kinds: list[str], way: str) -> None:
    manager = ResourceManager()
    order: list[int] = []

    def handler(resource: tuple[int, str]) -> None:
        order.append(resource[0])
        if resource[1] == "fails":
            raise OSError(resource[0])

    for number, kind in enumerate(kinds):
        resource = (number, kind)
        assert manager.register_resource(resource, handler if kind != "no handler" else None) is resource
    assert manager.resources == list(enumerate(kinds))
    errors = cleaned(manager, way)
    assert order == [n for n, kind in reversed(list(enumerate(kinds))) if kind != "no handler"]
    assert len(errors) == kinds.count("fails")
    assert all("while cleaning up" in error.__notes__[0] for error in errors)
    assert manager.resources == []
    assert cleaned(manager, way) == []


def test_what_a_handler_registers_is_cleaned_up_too() -> None:
    manager = ResourceManager()
    done: list[str] = []
    manager.register_resource("a", lambda a: manager.register_resource("b", done.append))
    manager.cleanup_all()
    assert done == ["b"]


def test_a_resource_may_be_taken_back() -> None:
    manager = ResourceManager()
    done: list[object] = []
    held, other = object(), object()
    manager.register_resource(held, done.append)
    manager.register_resource(other, done.append)
    assert manager.unregister_resource(held) is True
    assert manager.unregister_resource(held) is False
    manager.cleanup_all()
    assert done == [other]


def test_two_threads_that_clean_up_clean_each_resource_once() -> None:
    manager = ResourceManager()
    done: list[int] = []
    for number in range(2000):
        manager.register_resource(number, done.append)
    threads = [threading.Thread(target=manager.cleanup_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(2000))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_ends_a_program_is_raised_after_everything_was_cleaned_up(way: str) -> None:
    manager = ResourceManager()
    first, last = Link(), Link(KeyboardInterrupt())
    manager.register_resource(first, Link.disconnect)
    manager.register_resource(last, Link.disconnect)
    with pytest.raises(KeyboardInterrupt):
        cleaned(manager, way)
    assert first.closed == 1


def test_a_cancelled_clean_up_cleans_up_everything_first() -> None:
    async def work() -> None:
        manager = ResourceManager()
        first, stuck = AsyncLink(), asyncio.Event()
        manager.register_resource(first, lambda link: link.disconnect())
        manager.register_resource(stuck, lambda event: event.wait())
        task = asyncio.create_task(manager.cleanup_all_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert first.closed == 1

    asyncio.run(work())


def test_an_asynchronous_handler_is_refused_where_nobody_awaits_it() -> None:
    manager = ResourceManager()
    manager.register_resource(AsyncLink(), lambda link: link.disconnect())
    with pytest.raises(ExceptionGroup) as group:
        manager.cleanup_all()
    assert "cleanup_all_async" in group.value.exceptions[0].remedy


def test_a_resource_that_cannot_be_printed_is_told_by_its_class() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise ValueError

    manager = ResourceManager()
    manager.register_resource(Shy(), lambda shy: 1 / 0)
    with pytest.raises(ExceptionGroup) as group:
        manager.cleanup_all()
    assert "a Shy" in group.value.exceptions[0].__notes__[0]


def test_the_end_of_the_block_disconnects_last() -> None:
    link, order = Link(), []
    context = DriverContext(link)
    with context as got:
        assert got is link
        context.resource_manager.register_resource("buffer", lambda b: order.append((b, link.closed)))
    assert order == [("buffer", 0)]
    assert link.closed == 1


def test_the_end_of_an_asynchronous_block_awaits() -> None:
    async def work(link: Link) -> None:
        async with DriverContext(link):
            assert link.closed == 0

    for link in (Link(), AsyncLink()):
        asyncio.run(work(link))
        assert link.closed == 1


@pytest.mark.parametrize("kind", [Link, AsyncLink])
def test_the_blocks_own_error_is_not_replaced_by_one_of_the_clean_up(kind: type[Link]) -> None:
    async def work() -> None:
        async with DriverContext(kind(OSError("unplugged"))):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        asyncio.run(work())
    assert "unplugged" in caught.value.__notes__[0]

    with pytest.raises(ValueError, match="mine") as caught, DriverContext(Link(OSError("unplugged"))):
        raise ValueError("mine")
    assert "unplugged" in caught.value.__notes__[0]


def test_a_failing_clean_up_is_raised_when_the_block_was_fine() -> None:
    with pytest.raises(ExceptionGroup), DriverContext(Link(OSError("unplugged"))):
        pass

    async def work() -> None:
        async with DriverContext(AsyncLink(OSError("unplugged"))):
            pass

    with pytest.raises(ExceptionGroup):
        asyncio.run(work())
