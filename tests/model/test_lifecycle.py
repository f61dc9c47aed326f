from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vfab.model.lifecycle import (
    LEGAL_REQUESTS,
    PUBLIC_TRANSITIONS,
    REQUESTS,
    STATE_HIERARCHY,
    TABLE,
    ArmRetry,
    CallConnect,
    CallDisconnect,
    CallInitialize,
    CallReset,
    CancelOperations,
    DeviceState,
    DriverState,
    Event,
    GiveUp,
    Illegal,
    KillHost,
    Life,
    Request,
    Respawn,
    RestartPolicy,
    SafeStop,
    Signal,
    Spawn,
    device_state,
    mermaid,
    step,
)

S, E = DriverState, Event
EVERY = [(state, event) for state in DriverState for event in Event]
EFFECTS = (
    *(Spawn, Respawn, CallInitialize, CallConnect, CallDisconnect, CallReset),
    *(CancelOperations, KillHost, SafeStop, ArmRetry, GiveUp),
)


def life(state: DriverState, **changes: object) -> Life:
    alive = state not in {S.UNINITIALIZED, S.SHUTDOWN}
    made = Life(state=state, present=True, generation=3, host_alive=alive, wanted=S.CONNECTED)
    return replace(made, **changes)  # type: ignore[arg-type]


def happening(event: Event, generation: int | None = 3) -> Request | Signal:
    return Request(event) if event in REQUESTS else Signal(event, generation)


@pytest.mark.parametrize(("state", "event"), EVERY, ids=lambda value: value.value)
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "dead"])
def test_every_pair_of_state_and_event_does_what_the_table_says(state: DriverState, event: Event, alive: bool) -> None:
    before = life(state, host_alive=alive)
    rule = TABLE.get((state, event))
    if rule is None and event in REQUESTS:
        with pytest.raises(Illegal) as caught:
            step(before, Request(event))
        assert caught.value.state is state
        assert caught.value.event is event
        assert all(legal.value in str(caught.value) for legal in LEGAL_REQUESTS[state])
        return
    after, effects = step(before, happening(event))
    if rule is None:
        assert (after, effects) == (before, ())
    else:
        assert after.state in (rule.targets or (state,))
        assert all(isinstance(effect, EFFECTS) for effect in effects)
    born = [effect for effect in effects if isinstance(effect, (Spawn, Respawn))]
    assert len(born) <= (0 if after.generation == before.generation else 1)


@pytest.mark.parametrize(("state", "event"), EVERY, ids=lambda value: value.value)
def test_a_report_of_an_older_host_changes_nothing(state: DriverState, event: Event) -> None:
    before = life(state)
    assert step(before, Signal(event, 2)) == (before, ())


@pytest.mark.parametrize("state", [S.INITIALIZING, S.CONNECTING, S.BUSY, S.DISCONNECTING])
def test_an_operation_that_fails_leads_to_error(state: DriverState) -> None:
    after, effects = step(life(state), Signal(E.FAILED, 3))
    assert (after.state, after.wanted, effects) == (S.ERROR, None, ())


@pytest.mark.parametrize("event", [E.RESET, E.DISCONNECT, E.CLOSE])
@pytest.mark.parametrize("alive", [True, False])
def test_error_is_left_by_reset_disconnect_and_close(event: Event, alive: bool) -> None:
    after, _ = step(life(S.ERROR, host_alive=alive), Request(event))
    assert after.state is not S.ERROR


def test_the_whole_way_there_and_back() -> None:
    now = Life()
    story: list[tuple[Request | Signal, tuple[object, ...], DriverState]] = [
        (Signal(E.FOUND), (), S.UNINITIALIZED),
        (Request(E.INITIALIZE), (Spawn(1),), S.INITIALIZING),
        (Signal(E.HOST_READY, 1), (CallInitialize(),), S.INITIALIZING),
        (Signal(E.INITIALIZED, 1), (), S.READY),
        (Request(E.CONNECT), (CallConnect(),), S.CONNECTING),
        (Signal(E.CONNECTED, 1), (), S.CONNECTED),
        (Request(E.BEGIN), (), S.BUSY),
        (Signal(E.FINISHED, 1), (), S.CONNECTED),
        (Request(E.RESET), (CallReset(),), S.INITIALIZING),
        (Signal(E.RESET_DONE, 1), (CallInitialize(),), S.INITIALIZING),
        (Signal(E.INITIALIZED, 1), (CallConnect(),), S.CONNECTING),
        (Signal(E.CONNECTED, 1), (), S.CONNECTED),
        (Request(E.DISCONNECT), (CallDisconnect(),), S.DISCONNECTING),
        (Signal(E.DISCONNECTED, 1), (), S.DISCONNECTED),
        (Request(E.CLOSE), (KillHost(),), S.SHUTTING_DOWN),
        (Signal(E.HOST_DIED, 1), (), S.SHUTDOWN),
        (Request(E.INITIALIZE), (Spawn(2),), S.INITIALIZING),
    ]
    for event, effects, state in story:
        now, done = step(now, event)
        assert (done, now.state) == (effects, state)


def test_a_host_that_dies_is_started_again_and_brought_back_to_where_it_was() -> None:
    now, effects = step(life(S.BUSY), Signal(E.HOST_DIED, 3))
    assert effects == (SafeStop(), ArmRetry(0.05))
    now, effects = step(now, Signal(E.RETRY_DUE))
    assert (effects, now.state) == ((Spawn(4),), S.INITIALIZING)
    now, _ = step(now, Signal(E.HOST_READY, 4))
    now, effects = step(now, Signal(E.INITIALIZED, 4))
    assert effects == (CallConnect(),)


def test_a_host_that_keeps_dying_is_given_up_loudly() -> None:
    policy = RestartPolicy(max_attempts=3)
    now = life(S.CONNECTED, policy=policy)
    delays: list[float] = []
    for _ in range(3):
        now, effects = step(now, Signal(E.HOST_DIED, now.generation))
        delays += [effect.delay_s for effect in effects if isinstance(effect, ArmRetry)]
        now, _ = step(now, Signal(E.RETRY_DUE))
    now, effects = step(now, Signal(E.HOST_DIED, now.generation))
    assert effects == (SafeStop(), GiveUp(4))
    assert delays == [0.05, 0.1, 0.2]
    assert step(now, Signal(E.RETRY_DUE)) == (now, ())


def test_a_driver_that_stays_up_is_forgiven_its_deaths() -> None:
    now, _ = step(life(S.CONNECTED, attempts=5), Signal(E.STABLE, 3))
    assert now.attempts == 0


def test_a_host_that_nobody_wants_is_not_started_again() -> None:
    _, effects = step(life(S.ERROR, wanted=None), Signal(E.HOST_DIED, 3))
    assert effects == (SafeStop(),)


def test_a_retry_is_not_made_while_the_host_lives() -> None:
    before = life(S.ERROR)
    assert step(before, Signal(E.RETRY_DUE)) == (before, ())


def test_a_disconnected_driver_whose_host_lives_is_initialized_without_a_new_host() -> None:
    after, effects = step(life(S.DISCONNECTED), Request(E.INITIALIZE))
    assert (after.state, effects) == (S.INITIALIZING, (CallInitialize(),))


@settings(deadline=None)
@given(attempt=st.integers(1, 500))
def test_the_back_off_grows_and_ends(attempt: int) -> None:
    policy = RestartPolicy()
    assert policy.delay_s(attempt) <= policy.delay_s(attempt + 1) <= policy.longest_s


# --- the public view ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", DriverState)
@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("prepared", [True, False])
def test_the_public_view_is_defined_for_every_state(state: DriverState, present: bool, prepared: bool) -> None:
    assert isinstance(device_state(Life(state=state, present=present, prepared=prepared)), DeviceState)


def test_the_public_view_of_a_driver_that_never_ran() -> None:
    assert device_state(Life()) is DeviceState.UNKNOWN
    assert device_state(Life(present=True)) is DeviceState.DISCOVERED
    assert device_state(Life(state=S.INITIALIZING, prepared=True)) is DeviceState.DISCONNECTED
    assert device_state(Life(state=S.SHUTDOWN)) is DeviceState.DISCONNECTED


walks = st.lists(
    st.one_of(
        st.sampled_from(sorted(REQUESTS, key=lambda event: event.value)).map(Request),
        st.sampled_from([event for event in Event if event not in REQUESTS]),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(walks)
@example([Request(Event.INITIALIZE), Event.HOST_DIED, Event.SWAPPED])
@example([Request(Event.INITIALIZE), Event.FAILED, Event.SWAPPED, Request(Event.RESET)])
def test_public_transitions_hold_on_every_way(walk: list[Request | Event]) -> None:
    now = Life(policy=RestartPolicy(max_attempts=2))
    for what in walk:
        event = what if isinstance(what, Request) else Signal(what, now.generation)
        before = device_state(now)
        try:
            now, effects = step(now, event)
        except Illegal:
            continue
        after = device_state(now)
        assert after is before or after in PUBLIC_TRANSITIONS[before], (before, event, after)
        if any(isinstance(effect, Spawn) for effect in effects):
            assert now.host_alive


def test_the_hierarchy_orders_the_states_on_the_way_up() -> None:
    assert sorted(STATE_HIERARCHY, key=lambda state: STATE_HIERARCHY[state]) == [
        DeviceState.UNKNOWN,
        DeviceState.DISCOVERED,
        DeviceState.INITIALIZED,
        DeviceState.CONNECTED,
        DeviceState.ACTIVE,
    ]


def test_the_diagram_shows_every_change_of_state() -> None:
    drawn = mermaid()
    assert drawn.startswith("stateDiagram-v2\n")
    for (state, event), rule in TABLE.items():
        for target in rule.targets:
            if target is not state:
                start = f"    {state.value} --> {target.value}:"
                arrow = next(line for line in drawn.splitlines() if line.startswith(start))
                assert event.value in arrow
