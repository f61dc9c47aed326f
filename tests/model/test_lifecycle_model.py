"""The table against a model of the world: hosts that answer, fail, hang and die in any order, and people who ask."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vfab.model.lifecycle import (
    LEGAL_REQUESTS,
    PUBLIC_TRANSITIONS,
    REQUESTS,
    ArmRetry,
    CallConnect,
    CallDisconnect,
    CallInitialize,
    CallReset,
    CancelOperations,
    DriverState,
    Effect,
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
    step,
)

S, E = DriverState, Event
POLICY = RestartPolicy(max_attempts=3)
AT_REST = {S.UNINITIALIZED, S.READY, S.CONNECTED, S.BUSY, S.ERROR, S.DISCONNECTED, S.SHUTDOWN}
NEEDS_HOST = {S.INITIALIZING, S.READY, S.CONNECTING, S.CONNECTED, S.BUSY, S.DISCONNECTING, S.SHUTTING_DOWN}
ANSWER = {
    CallInitialize: E.INITIALIZED,
    CallConnect: E.CONNECTED,
    CallDisconnect: E.DISCONNECTED,
    CallReset: E.RESET_DONE,
}


class World(RuleBasedStateMachine):
    """What is really there: a host or none, what it was asked and has not answered, a timer; and its `Life`."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(present=True, policy=POLICY)
        self.alive = False
        self.dying = False
        self.asked: Event | None = None
        self.operating = False
        self.armed = False
        self.deaths = 0
        self.generation = 0

    def take(self, happening: Request | Signal) -> tuple[Effect, ...]:
        before = self.life
        self.life, effects = step(before, happening)
        public, now = device_state(before), device_state(self.life)
        assert public is now or now in PUBLIC_TRANSITIONS[public], f"{public} -> {now}"
        for effect in effects:
            self.do(effect)
        self.operating = self.operating or self.life.state is S.BUSY
        return effects

    def do(self, effect: Effect) -> None:
        match effect:
            case Spawn(generation):
                assert not self.alive, "a second host beside the first"
                assert generation == self.generation + 1
                self.generation, self.alive, self.dying, self.asked = generation, True, False, E.HOST_READY
                self.armed = False
            case Respawn(generation):
                assert self.alive
                assert generation == self.generation + 1
                self.generation, self.asked = generation, E.HOST_READY
            case CancelOperations():
                self.asked, self.operating = None, False
            case KillHost():
                assert self.alive
                self.dying, self.asked, self.operating = True, None, False
            case ArmRetry(delay_s):
                assert not self.alive
                assert delay_s == POLICY.delay_s(self.life.attempts)
                self.armed = True
            case SafeStop():
                assert not self.alive, "bytes to the device while its driver speaks to it"
            case GiveUp(attempts):
                assert attempts == POLICY.max_attempts + 1
                self.armed = False
            case _:
                assert self.alive, f"{effect} without a host"
                assert self.asked is None, f"{effect} while the host does something else"
                assert not self.operating, f"{effect} while an operation runs"
                self.asked = ANSWER[type(effect)]

    @rule(event=st.sampled_from(sorted(REQUESTS, key=lambda e: e.value)))
    def ask(self, event: Event) -> None:
        if event in LEGAL_REQUESTS[self.life.state]:
            self.take(Request(event))
            return
        before = self.life
        try:
            self.take(Request(event))
        except Illegal as error:
            assert error.state is before.state
        else:
            raise AssertionError("an illegal request was taken")
        assert self.life == before

    @rule(number=st.integers(0, 5))
    def ask_what_fits(self, number: int) -> None:
        legal = sorted(LEGAL_REQUESTS[self.life.state], key=lambda event: event.value)
        if legal:
            self.take(Request(legal[number % len(legal)]))

    @precondition(lambda self: not self.alive and E.INITIALIZE in LEGAL_REQUESTS[self.life.state])
    @rule(steps=st.lists(st.sampled_from([E.CONNECT, E.BEGIN]), max_size=2, unique=True))
    def bring_up(self, steps: list[Event]) -> None:
        for event in (E.INITIALIZE, *sorted(steps, key=lambda e: e is E.BEGIN)):
            if event in LEGAL_REQUESTS[self.life.state]:
                self.take(Request(event))
            while self.asked is not None and (E.BEGIN in steps or self.life.state is not S.CONNECTING):
                self.answer()

    @precondition(lambda self: self.asked is not None)
    @rule()
    def answer(self) -> None:
        asked, self.asked = self.asked, None
        assert asked is not None
        self.take(Signal(asked, self.life.generation))

    @precondition(lambda self: self.asked is not None)
    @rule()
    def fail(self) -> None:
        self.asked = None
        self.take(Signal(E.FAILED, self.life.generation))

    @precondition(lambda self: self.asked in {E.INITIALIZED, E.CONNECTED, E.RESET_DONE})
    @rule()
    def find_another_node(self) -> None:
        """Before a step of its life, not in the middle of it."""
        wanted, self.asked = self.life.wanted, None
        self.take(Signal(E.OUTDATED, self.life.generation))
        assert (self.life.state, self.life.wanted) == (S.INITIALIZING, wanted)

    @precondition(lambda self: self.life.state is S.BUSY)
    @rule(how=st.sampled_from([E.FINISHED, E.FAILED, E.LINK_LOST]))
    def end_operation(self, how: Event) -> None:
        self.operating = False
        self.take(Signal(how, self.life.generation))

    @precondition(lambda self: self.alive)
    @rule()
    def die(self) -> None:
        wanted, attempts = self.life.wanted, max(self.life.attempts, self.life.offences - 1)
        self.alive = self.dying = self.operating = False
        self.asked = None
        effects = self.take(Signal(E.HOST_DIED, self.life.generation))
        if self.life.state is S.ERROR and wanted is not None:
            if attempts < POLICY.max_attempts:
                assert self.armed, "somebody wants it: it is started again"
                assert self.life.wanted is wanted
            else:
                assert GiveUp(attempts + 1) in effects
                assert self.life.wanted is None

    @precondition(lambda self: self.armed)
    @rule()
    def retry(self) -> None:
        self.armed = False
        self.take(Signal(E.RETRY_DUE))

    @rule(
        event=st.sampled_from(
            [E.HOST_READY, E.INITIALIZED, E.CONNECTED, E.FAILED, E.HOST_DIED, E.LINK_LOST, E.FINISHED]
        ),
        age=st.integers(1, 3),
    )
    def report_late(self, event: Event, age: int) -> None:
        before = self.life
        assert self.take(Signal(event, self.life.generation - age)) == ()
        assert self.life == before

    @precondition(lambda self: self.alive)
    @rule()
    def stay_up(self) -> None:
        self.take(Signal(E.STABLE, self.life.generation))
        assert self.life.attempts == 0

    @precondition(lambda self: self.alive and self.life.offences <= POLICY.max_attempts)
    @rule()
    def go_over_a_limit(self) -> None:
        """Who lived long is forgiven for earlier deaths, but not for that; the kernel ends each such host once."""
        self.take(Signal(E.STABLE, self.life.generation))
        offences = self.life.offences
        self.take(Signal(E.OVER_LIMIT, self.life.generation))
        assert self.life.offences == offences + 1
        self.die()
        assert self.life.attempts > offences or self.life.state is not S.ERROR

    @precondition(lambda self: self.alive)
    @rule()
    def keep_within_limits(self) -> None:
        self.take(Signal(E.PARDONED, self.life.generation))
        assert self.life.offences == 0

    @invariant()
    def it_knows_whether_there_is_a_host(self) -> None:
        assert self.life.host_alive is self.alive
        assert self.alive or self.life.state not in NEEDS_HOST

    @invariant()
    def nobody_wants_what_was_let_go(self) -> None:
        assert self.life.wanted is None or self.life.state not in {S.UNINITIALIZED, S.DISCONNECTED, S.SHUTDOWN}

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        if self.asked is None and not self.dying and not self.armed:
            assert self.life.state in AT_REST
            assert self.life.state is not S.ERROR or self.life.wanted is None or self.alive

    @invariant()
    def it_is_never_tried_more_often_than_allowed(self) -> None:
        assert self.life.attempts <= POLICY.max_attempts + 1


TestTheTableAgainstTheWorld = World.TestCase
TestTheTableAgainstTheWorld.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
