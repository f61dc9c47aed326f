"""State listeners, and the life of a manager in this process against the one table."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import IllegalTransition
from vfab.model.lifecycle import LEGAL_REQUESTS, TABLE, DriverState, Event
from vfab.sdk.lifecycle import DriverLifecycle, StateListeners

S = DriverState


class Manager:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing: set[str] = set()
        self.refusing = False

    def _do(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise ConnectionError(name)

    def _initialize_hardware(self) -> None:
        self._do("initialize")

    def connect(self) -> bool:
        self._do("connect")
        return not self.refusing

    def disconnect(self) -> None:
        self._do("disconnect")

    def reset_device(self) -> None:
        self._do("reset")

    def _cleanup_resources(self) -> None:
        self._do("cleanup")


def test_a_manager_lives_as_the_document_says() -> None:
    manager = Manager()
    life = DriverLifecycle(manager)
    seen: list[tuple[S, S]] = []
    life.add_state_listener(lambda old, new: seen.append((old, new)))
    assert life.state is S.UNINITIALIZED
    assert life.initialize()
    assert life.connect()
    assert life.reset()
    assert life.state is S.CONNECTED
    assert life.disconnect()
    assert life.shutdown()
    assert manager.calls == [
        "initialize", "connect", "reset", "initialize", "connect", "disconnect", "cleanup",
    ]  # fmt: skip
    assert seen[0] == (S.UNINITIALIZED, S.INITIALIZING)
    assert seen[-1] == (S.SHUTTING_DOWN, S.SHUTDOWN)
    assert all(new is old for (_, new), (old, _) in pairwise(seen))


def test_a_connected_manager_is_disconnected_and_cleaned_up_by_a_shutdown_whatever_fails() -> None:
    manager = Manager()
    life = DriverLifecycle(manager)
    life.initialize()
    life.connect()
    manager.failing = {"disconnect", "cleanup"}
    assert life.shutdown() is False
    assert life.state is S.SHUTDOWN
    assert manager.calls[-2:] == ["disconnect", "cleanup"]
    assert life.last_error.message.endswith("cleanup")


def test_a_failure_leads_to_error_and_a_reset_leads_out() -> None:
    manager = Manager()
    life = DriverLifecycle(manager)
    life.initialize()
    manager.refusing = True
    assert life.connect() is False
    assert life.state is S.ERROR
    assert life.last_error.code == "connection_failed"
    manager.refusing = False
    assert life.reset()
    assert life.state is S.READY
    assert life.connect()


def test_what_does_not_fit_the_state_is_refused_and_calls_nothing() -> None:
    manager = Manager()
    life = DriverLifecycle(manager)
    assert life.connect() is False
    assert isinstance(life.last_error, IllegalTransition)
    assert manager.calls == []
    assert life.state is S.UNINITIALIZED


def test_a_manager_with_fewer_methods_and_one_with_asynchronous_ones() -> None:
    class Bare:
        def connect(self) -> None: ...
        async def disconnect(self) -> None: ...

    life = DriverLifecycle(Bare())
    assert life.initialize()
    assert life.connect()
    assert life.disconnect() is False
    assert "asynchronous" in life.last_error.message


def test_the_end_of_the_program_leaves_an_error_behind() -> None:
    manager = Manager()
    manager.connect = lambda: (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
    life = DriverLifecycle(manager)
    life.initialize()
    with pytest.raises(KeyboardInterrupt):
        life.connect()
    assert life.state is S.ERROR
    assert life.shutdown()


OPERATIONS = {
    "initialize": Event.INITIALIZE,
    "connect": Event.CONNECT,
    "disconnect": Event.DISCONNECT,
    "reset": Event.RESET,
    "shutdown": Event.CLOSE,
}
STEPS = st.tuples(
    st.sampled_from(sorted(OPERATIONS)),
    st.sets(st.sampled_from(["initialize", "connect", "disconnect", "reset", "cleanup"]), max_size=2),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=15))
def test_no_sequence_of_operations_and_failures_leaves_the_table(script: list[tuple[str, set[str]]]) -> None:
    manager = Manager()
    life = DriverLifecycle(manager)
    seen = [life.state]
    arrows = {(state, target) for (state, _), rule in TABLE.items() for target in rule.targets}
    life.add_state_listener(lambda old, new: seen.append(new))
    for name, failing in script:
        before, manager.failing, calls = life.state, failing, len(manager.calls)
        worked = getattr(life, name)()
        legal = OPERATIONS[name] in LEGAL_REQUESTS[before]
        assert worked is (life.last_error is None)
        if not legal:
            assert (worked, life.state, len(manager.calls)) == (False, before, calls)
        assert life.state in {S.UNINITIALIZED, S.READY, S.CONNECTED, S.DISCONNECTED, S.ERROR, S.SHUTDOWN}
    assert all(pair in arrows for pair in pairwise(seen))


# -- listeners


def test_a_failing_listener_harms_neither_the_life_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    life = DriverLifecycle(Manager())
    seen: list[S] = []
    life.add_state_listener(lambda old, new: 1 / 0)
    life.add_state_listener(lambda old, new: seen.append(new))
    assert life.initialize()
    assert seen == [S.INITIALIZING, S.READY]
    assert "uninitialized -> initializing" in caplog.text


def test_a_removed_listener_hears_nothing_more() -> None:
    life = DriverLifecycle(Manager())
    first: list[S] = []
    second: list[S] = []

    def listener(old: S, new: S) -> None:
        second.append(new)

    remove = life.add_state_listener(lambda old, new: first.append(new))
    life.add_state_listener(listener)
    life.initialize()
    remove()
    remove()
    life.remove_state_listener(listener)
    life.connect()
    assert first == second == [S.INITIALIZING, S.READY]


def test_a_listener_that_asks_for_an_operation_is_refused() -> None:
    life = DriverLifecycle(Manager())
    answers: list[bool] = []
    life.add_state_listener(lambda old, new: answers.append(life.shutdown()))
    assert life.initialize()
    assert answers == [False, False]
    assert life.state is S.READY


def test_a_change_made_by_a_listener_is_told_after_the_one_that_it_listens_to() -> None:
    listeners = StateListeners()
    seen: list[tuple[str, S]] = []

    def first(old: S, new: S) -> None:
        seen.append(("first", new))
        if new is S.READY:
            listeners.notify(S.READY, S.CONNECTING)

    listeners.add(first)
    listeners.add(lambda old, new: seen.append(("second", new)))
    assert len(listeners) == 2
    listeners.notify(S.INITIALIZING, S.READY)
    assert seen == [("first", S.READY), ("second", S.READY), ("first", S.CONNECTING), ("second", S.CONNECTING)]


def test_the_end_of_the_program_in_a_listener_does_not_silence_the_others_for_ever() -> None:
    listeners = StateListeners()
    seen: list[S] = []

    def ends(old: S, new: S) -> None:
        raise KeyboardInterrupt

    remove = listeners.add(ends)
    listeners.add(lambda old, new: seen.append(new))
    with pytest.raises(KeyboardInterrupt):
        listeners.notify(S.UNINITIALIZED, S.INITIALIZING)
    remove()
    listeners.notify(S.INITIALIZING, S.READY)
    assert seen == [S.READY]


def test_changes_from_many_threads_are_each_told_once() -> None:
    listeners = StateListeners()
    seen: list[S] = []
    listeners.add(lambda old, new: seen.append(new))
    threads = [
        threading.Thread(target=lambda: [listeners.notify(S.READY, S.CONNECTED) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2000
