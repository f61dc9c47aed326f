"""ConnectionRecovery: what is tried, in which order, and when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ConfigurationError, Refused, TimeoutExceeded
from vfab.sdk.recovery import ConnectionRecovery

OUTCOMES = {"ok": True, "none": None, "no": False}


class Manager:
    """Does what the script says at each connect; notes every call."""

    def __init__(self, script: Iterable[object], broken: tuple[str, ...] = ()) -> None:
        self.script = iter(script)
        self.broken = broken
        self.calls: list[str] = []

    def connect(self) -> object:
        outcome = next(self.script)
        self.calls.append("connect")
        if isinstance(outcome, BaseException):
            raise outcome
        return OUTCOMES[str(outcome)]

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise OSError(name)

    def disconnect(self) -> None:
        self._step("disconnect")

    def reset_device(self) -> None:
        self._step("reset_device")

    def reinitialize(self) -> None:
        self._step("reinitialize")


class AsyncManager(Manager):
    async def connect(self) -> object:
        await asyncio.sleep(0)
        return super().connect()

    async def reset_device(self) -> None:
        super().reset_device()


class Rig:
    """A recovery with a clock, a die and ears of its own. Runs either way."""

    def __init__(self, manager: object, *, way: str, **options: object) -> None:
        self.waits: list[float] = []
        self.events: list[tuple[str, dict]] = []
        self.way = way

        async def rest(seconds: float) -> None:
            self.waits.append(seconds)

        self.recovery = ConnectionRecovery(
            manager,
            **{"rand": lambda: 0.0, **options},  # type: ignore[arg-type]
            on_event=lambda kind, data: self.events.append((kind, dict(data))),
            sleep=self.waits.append,
            async_sleep=rest,
        )

    def connect(self) -> bool:
        if self.way == "sync":
            return self.recovery.connect_with_recovery()
        return asyncio.run(self.recovery.connect_with_recovery_async())

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@pytest.fixture(params=["sync", "async", "async methods"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(way: str, script: Iterable[object], broken: tuple[str, ...] = ()) -> Manager:
    return AsyncManager(script, broken) if way == "async methods" else Manager(script, broken)


def test_what_connects_at_once_is_left_alone(way: str) -> None:
    for outcome in ("ok", "none"):
        manager = made(way, [outcome])
        rig = Rig(manager, way=way)
        assert rig.connect() is True
        assert (manager.calls, rig.waits, rig.recovery.retry_count) == (["connect"], [], 0)
        assert rig.kinds == ["recovery_attempt", "recovery_succeeded"]


def test_connection_device_and_driver_are_reset_in_this_order_with_doubling_waits(way: str) -> None:
    manager = made(way, [ConnectionError("a"), TimeoutError("b"), "no", "ok"])
    rig = Rig(manager, way=way)
    assert rig.connect() is True
    assert manager.calls == [
        "connect", "disconnect", "connect", "reset_device", "connect", "reinitialize", "connect",
    ]  # fmt: skip
    assert rig.waits == [2.0, 4.0, 8.0]
    steps = [data for kind, data in rig.events if kind == "recovery_step"]
    assert [(s["step"], s["wait_s"]) for s in steps] == [
        ("reset_connection", 2.0),
        ("reset_device", 4.0),
        ("reinitialize", 8.0),
    ]
    assert [s["error"]["type"] for s in steps] == ["connection_error", "timeout_error", "connection_error"]
    assert rig.recovery.last_error is None
    assert rig.recovery.retry_count == 3


def test_it_gives_up_after_the_last_retry_and_says_why(way: str) -> None:
    manager = made(way, [TimeoutError("late")] * 3)
    rig = Rig(manager, way=way, max_retries=2)
    assert rig.connect() is False
    assert isinstance(rig.recovery.last_error, TimeoutExceeded)
    assert rig.events[-1][0] == "recovery_failed"
    assert rig.events[-1][1]["attempt"] == 3
    assert rig.events[-1][1]["retryable"] is True


def test_an_error_that_is_not_retryable_ends_it_at_once(way: str) -> None:
    for error in (Refused("not this one"), ImportError("numpy"), PermissionError("no"), KeyError("bug")):
        manager = made(way, [error])
        rig = Rig(manager, way=way)
        assert rig.connect() is False
        assert manager.calls == ["connect"]
        assert rig.events[-1][1]["retryable"] is False


def test_a_step_that_fails_does_not_end_the_recovery(way: str) -> None:
    manager = made(way, [ConnectionError()] * 3 + ["ok"], broken=("disconnect", "reset_device", "reinitialize"))
    rig = Rig(manager, way=way)
    assert rig.connect() is True
    assert rig.kinds.count("recovery_step_failed") == 3


def test_a_manager_without_steps_is_given_time(way: str) -> None:
    class Bare:
        attempts = 0

        def connect(self) -> bool:
            self.attempts += 1
            return self.attempts == 3

    rig = Rig(Bare(), way=way)
    assert rig.connect() is True
    assert rig.waits == [2.0, 4.0]


def test_a_failing_listener_and_an_error_without_fields_change_nothing(way: str) -> None:
    class Bare(TimeoutExceeded):
        def __init__(self) -> None:
            Exception.__init__(self, "half")

    manager = made(way, [Bare(), "ok"])
    recovery = Rig(manager, way=way).recovery
    recovery._on_event = lambda kind, data: 1 / 0
    rig = Rig(manager, way=way)
    rig.recovery = recovery
    assert rig.connect() is True


@pytest.mark.parametrize("ending", [KeyboardInterrupt, asyncio.CancelledError])
def test_what_ends_a_program_is_not_retried(way: str, ending: type[BaseException]) -> None:
    with pytest.raises(ending):
        Rig(made(way, [ending()]), way=way).connect()


def test_a_recovery_may_be_used_again() -> None:
    manager = Manager([TimeoutError(), TimeoutError(), "no", "ok"])
    rig = Rig(manager, way="sync", max_retries=1)
    assert [rig.connect(), rig.connect()] == [False, True]
    assert rig.recovery.retry_count == 1


@settings(deadline=None)
@given(rand=st.floats(0, 1, exclude_max=True), retries=st.integers(0, 12))
def test_every_wait_is_within_its_share_of_chance(rand: float, retries: int) -> None:
    rig = Rig(Manager(["no"] * (retries + 1)), way="sync", max_retries=retries, rand=lambda: rand, jitter=0.5)
    assert rig.connect() is False
    assert len(rig.waits) == retries
    for n, wait_s in enumerate(rig.waits):
        plain = min(60.0, 2.0 * 2**n)
        assert plain <= wait_s <= plain * 1.5


def test_asynchronous_methods_are_refused_where_nobody_awaits_them() -> None:
    rig = Rig(AsyncManager(["ok"]), way="sync")
    assert rig.connect() is False
    assert "connect_with_recovery_async" in rig.recovery.last_error.remedy


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="negative"):
        ConnectionRecovery(Manager([]), max_retries=-1)
