"""Calls of a driver in its host: order, concurrency, cancelling, and every way a method can end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from hosting import alive, descriptors, rig
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DependencyError,
    DriverFailed,
    HardwareError,
    HostDied,
    PermissionRefused,
    ProtocolError,
    Refused,
    TimeoutExceeded,
    UnknownCommand,
)
from vfab.model.lifecycle import DriverState

WORKER = """
class D(BaseDriver):
    def __init__(self, environment):
        super().__init__(environment)
        self.done, self.running, self.most = [], 0, 0
        self.go = threading.Event()

    def _one(self, n):
        self.running += 1
        self.most = max(self.most, self.running)
        if n % 7 == 0:
            time.sleep(0.012)  # long enough that the sentry takes the lead away
        self.running -= 1
        self.done.append(n)
        return n * 2

    @command
    def work(self, n): return self._one(n)
    @command
    async def awork(self, n): return self._one(n)
    @command(concurrent=True)
    def story(self): return [self.done, self.most]
    @command
    def hold(self):
        while not self.go.wait(0.01):
            self.checkpoint()
        self.done.append("held")
        return "held"
    @command
    async def ahold(self):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)  # clearing up takes a moment, and must not be interrupted
            self.done.append("cleared up")
            raise
    @command(concurrent=True)
    def release(self): self.go.set()
    @command(concurrent=True)
    def threads(self): return threading.active_count()
    @command
    def told(self, n):
        for i in range(n):
            self.progress(i=i)
        return n
"""


def test_64_calls_in_flight_are_each_answered_with_their_own_result_one_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            for method in ("work", "awork"):
                results = await asyncio.gather(*(device.call(method, n) for n in range(64)))
                assert results == [n * 2 for n in range(64)]
            done, most = await device.call("story")
            assert done == [*range(64), *range(64)], "calls ran in another order than they came"
            assert most == 1, "two calls ran side by side"

    asyncio.run(main())


def test_a_concurrent_call_is_answered_while_a_slow_one_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            held = asyncio.create_task(device.call("hold"))
            assert await device.call("story") == [[], 0]
            later = asyncio.create_task(device.call("work", 3))
            await device.call("story")
            assert not held.done()
            assert not later.done()
            await device.call("release")
            assert await held == "held"
            assert await later == 6

    asyncio.run(main())


def test_a_call_that_begins_when_the_sentry_falls_asleep_is_still_watched(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            for pause_s in (0.49, 0.495, 0.5, 0.505, 0.51):
                await device.call("story")
                await asyncio.sleep(pause_s)  # the moment at which the sentry stops looking
                held = asyncio.create_task(device.call("hold"))
                assert await device.call("story", timeout_s=5)
                held.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await held

    asyncio.run(main())


@pytest.mark.parametrize("method", ["hold", "ahold"])
def test_a_cancelled_call_ends_and_the_driver_goes_on(tmp_path: Path, method: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            pid = device.pid
            task = asyncio.create_task(device.operate(method))
            await device.call("story")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await device.call("work", 1) == 2
            assert device.state is DriverState.CONNECTED
            done, _ = await device.call("story")
            assert done == ([1] if method == "hold" else ["cleared up", 1])
            assert device.pid == pid

    asyncio.run(main())


@pytest.mark.parametrize("method", ["hold", "ahold"])
def test_a_deadline_ends_the_call_in_the_host_too(tmp_path: Path, method: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            with pytest.raises(TimeoutExceeded):
                await device.call(method, timeout_s=0.05)
            assert await device.call("work", 1) == 2
            channel = await device.open_channel()
            with channel, pytest.raises(TimeoutExceeded):
                await asyncio.to_thread(channel.call, method, timeout_s=0.05)

    asyncio.run(main())


def test_a_call_given_up_before_its_turn_is_answered_at_once_and_never_runs(tmp_path: Path) -> None:
    """Else the driver would be taken for deaf, and ended, because it is busy."""

    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            pid = device.pid
            held = asyncio.create_task(device.operate("hold"))
            await device.call("story")
            with pytest.raises(TimeoutExceeded):
                await device.call("work", 5, timeout_s=0.05)
            task = asyncio.create_task(device.call("work", 6))
            await device.call("story")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(2.5)  # longer than a deaf driver is given
            assert device.pid == pid
            await device.call("release")
            assert await held == "held"
            assert (await device.call("story"))[0] == ["held"]

    asyncio.run(main())


def test_two_channels_and_the_main_connection_take_turns(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            with await device.open_channel() as one, await device.open_channel() as two:

                def burst(channel: object, first: int) -> list[int]:
                    return [channel.call("work" if n % 2 else "awork", n) for n in range(first, first + 40)]  # type: ignore[attr-defined]

                a, b, c = await asyncio.gather(
                    asyncio.to_thread(burst, one, 100),
                    asyncio.to_thread(burst, two, 200),
                    asyncio.gather(*(device.call("work", n) for n in range(300, 340))),
                )
                assert (a, b, c) == tuple([n * 2 for n in range(f, f + 40)] for f in (100, 200, 300))
            done, most = await device.call("story")
            assert most == 1
            assert len(done) == 120

    asyncio.run(main())


def test_progress_goes_to_the_connection_whose_call_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            with await device.open_channel() as channel:
                seen: list[int] = []
                wrong: list[object] = []
                held = asyncio.create_task(device.call("told", 0, on_progress=wrong.append))
                await held
                call = asyncio.to_thread(channel.call, "told", 5, on_progress=lambda data: seen.append(data["i"]))
                assert await call == 5
                assert seen == [0, 1, 2, 3, 4]
                assert wrong == []

    asyncio.run(main())


def test_a_listener_of_progress_that_fails_costs_nobody_the_driver(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            pid = device.pid
            assert await device.call("told", 3, on_progress=lambda data: 1 / 0) == 3
            assert device.pid == pid

    asyncio.run(main())


def test_channels_that_are_closed_leave_no_thread_and_no_descriptor_in_the_host(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            assert device.pid is not None
            with await device.open_channel() as channel:
                await asyncio.to_thread(channel.call, "work", 1)
            before = descriptors(device.pid)
            for _ in range(25):
                with await device.open_channel() as channel:
                    assert await asyncio.to_thread(channel.call, "work", 1) == 2
            for _ in range(200):
                if await device.call("threads") <= 8 and descriptors(device.pid) <= before + 1:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError(
                f"{await device.call('threads')} threads, {descriptors(device.pid)} fds, {before} before"
            )

    asyncio.run(main())


def test_a_closed_channel_ends_the_call_that_waits_on_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(WORKER)
            await device.connect()
            channel = await device.open_channel()
            call = asyncio.create_task(asyncio.to_thread(channel.call, "hold", timeout_s=0))
            await r.until(lambda: True)
            while "held" not in (await device.call("story"))[0] and not call.done():
                channel.close()
                await asyncio.sleep(0.01)
            with pytest.raises(HostDied):
                await call
            with pytest.raises(HostDied):
                channel.call("work", 1)

    asyncio.run(main())


ENDINGS = """
class Broken(Exception):
    def __str__(self): raise RuntimeError("not even this")
    __repr__ = __str__

class Own(HardwareError):
    def __init__(self): pass

class D(BaseDriver):
    @command
    def ok(self, value=None): return value
    @command
    def value_error(self): raise ValueError("bad value")
    @command
    def leave(self): sys.exit(3)
    @command
    async def aleave(self): sys.exit(3)
    @command
    def interrupt(self): raise KeyboardInterrupt
    @command
    def generator(self): return (n for n in range(3))
    @command
    def unsendable(self): return object()
    @command
    def self_containing(self):
        a = []; a.append(a); return a
    @command
    def big_number(self): return 2 ** 70
    @command
    def surrogate(self): return "\\ud800"
    @command
    def too_large(self): return ["x" * 1000] * 20_000
    @command
    def broken(self): raise Broken
    @command
    def own(self): raise Own
    @command
    def odd_context(self):
        raise HardwareError("odd", context={"o": object(), "n": 2 ** 80, "b": Broken(), 3: "\\ud800"})
    @command
    def huge_context(self): raise HardwareError("huge" * 100_000, context={"x": "y" * 30_000_000})
    @command
    def imports(self): import no_such_module
    @command
    def permission(self): raise PermissionError("no")
    @command
    def timeout(self): raise TimeoutError
    @command
    def refused(self): raise ConnectionRefusedError("nobody")
    @command
    async def cancels_itself(self): raise asyncio.CancelledError
    @command
    async def background_exit(self):
        async def out(): sys.exit(1)
        asyncio.ensure_future(out())
    @command
    async def aok(self):
        await asyncio.sleep(0)
        return "fine"
    @command
    def lingers(self): threading.Thread(target=time.sleep, args=(3600,)).start()
    @command
    def hard(self, how):
        if how == "exit": os._exit(7)
        if how == "segv": ctypes.string_at(0)
        if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
        os.abort()
    @command
    def speak(self):
        self.emit("said", data=object())
    @command
    def shout(self):
        self.log.info("half a pair \\ud800")
        self.log.warning("wrong %d", "arguments")
        try: 1 / 0
        except ZeroDivisionError: self.log.exception("with a trace")
"""

SOFT = [
    ("value_error", DriverFailed, "ValueError in value_error: bad value"),
    ("leave", DriverFailed, "tried to end its process in leave"),
    ("aleave", DriverFailed, "tried to end its process in aleave"),
    ("interrupt", DriverFailed, "KeyboardInterrupt"),
    ("generator", DriverFailed, "a generator cannot be sent"),
    ("unsendable", DriverFailed, "a object cannot be sent"),
    ("self_containing", DriverFailed, "cannot be sent between processes"),
    ("big_number", DriverFailed, "cannot be sent between processes"),
    ("surrogate", DriverFailed, "cannot be sent between processes"),
    ("too_large", ProtocolError, "too large for one frame"),
    ("broken", DriverFailed, "Broken"),
    ("own", HardwareError, ""),
    ("odd_context", HardwareError, "odd"),
    ("huge_context", HardwareError, "huge"),
    ("imports", DependencyError, "no_such_module"),
    ("permission", PermissionRefused, "does not allow"),
    ("timeout", TimeoutExceeded, "timed out"),
    ("refused", HardwareError.__mro__[1], "the connection failed: nobody"),
    ("cancels_itself", Cancelled, "cancelled"),
    ("speak", DriverFailed, "cannot be sent"),
    ("nothing_like_it", UnknownCommand, "has no command"),
]


def test_whatever_a_method_raises_or_returns_becomes_an_answer_and_the_host_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ENDINGS)
            await device.connect()
            pid = device.pid
            for method, kind, text in SOFT:
                with pytest.raises(kind) as told:
                    await device.call(method, timeout_s=10)
                assert text in str(told.value), method
                assert await device.call("ok", method) == method
                assert await device.call("aok") == "fine"
            assert device.pid == pid
            with pytest.raises(ConfigurationError, match="unexpected keyword"):
                await device.call("ok", nonsense=1)
            with pytest.raises(UnknownCommand) as unknown:
                await device.call("okk")
            assert unknown.value.remedy == "Did you mean ok?"

    asyncio.run(main())


def test_a_task_left_behind_that_exits_does_not_end_the_drivers_event_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ENDINGS)
            await device.connect()
            await device.call("background_exit")
            for _ in range(3):
                assert await device.call("aok", timeout_s=5) == "fine"

    asyncio.run(main())


def test_arguments_that_cannot_be_sent_are_refused_before_anything_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ENDINGS)
            await device.connect()
            channel = await device.open_channel()
            with channel:
                for value in (object(), 2**70, "\ud800", {"deep": [object()]}, ["x" * 1000] * 20_000):
                    with pytest.raises(Refused):
                        await device.call("ok", value)
                    with pytest.raises(Refused):
                        await asyncio.to_thread(channel.call, "ok", value)
                assert await device.call("ok", Path("/a")) == "/a"
                assert await asyncio.to_thread(channel.call, "ok", (1, {"a": b"b"})) == [1, {"a": b"b"}]
            assert device.state is DriverState.CONNECTED

    asyncio.run(main())


@pytest.mark.parametrize(
    ("how", "told"), [("exit", "exit status 7"), ("segv", "SIGSEGV"), ("kill", "SIG(KILL|SYS)"), ("abort", "SIGABRT")]
)
def test_a_host_that_ends_in_a_call_says_how_and_is_started_again(tmp_path: Path, how: str, told: str) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ENDINGS)
            await device.connect()
            with pytest.raises(HostDied, match=told) as died:
                await device.operate("hard", how)
            if how == "segv":
                assert any("string_at" in line for line in died.value.context["last_lines"])
            await device.ready_again()
            assert device.state is DriverState.CONNECTED
            assert await device.call("ok", 1) == 1

    asyncio.run(main())


def test_a_thread_that_a_driver_leaves_behind_does_not_keep_its_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ENDINGS)
            await device.connect()
            pid = device.pid
            await device.call("lingers")
            await device.close()
            assert pid is not None
            assert not alive(pid)
            assert not r.of("host_died")

    asyncio.run(main())


def test_a_large_reply_comes_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ENDINGS)
            await device.connect()
            data = bytes(range(256)) * 40_000
            assert await device.call("ok", [data, {"a": data}]) == [data, {"a": data}]
            values = await asyncio.gather(*(device.call("ok", data[: n * 10_000]) for n in range(20)))
            assert values == [data[: n * 10_000] for n in range(20)]

    asyncio.run(main())


def test_logs_that_cannot_be_formatted_or_sent_are_told_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(ENDINGS)
            await device.connect()
            await device.call("shout")
            messages = [event.data["message"] for event in r.of("log")]
            assert messages[0] == "half a pair \\ud800"
            assert "cannot be formatted" in messages[1]
            assert "ZeroDivisionError" in messages[2]

    asyncio.run(main())


def test_no_thread_of_a_test_is_left() -> None:
    assert threading.active_count() < 20
