"""The life of a driver: one table, one pure `step()`, two views.

`DriverState` (seed 001 §6) is the machine. `DeviceState` (seed 002) is its public projection, as a service manager
shows seven of its twenty-five states. The shell in the kernel does what the effects say and feeds back what happened.

Rules that the table keeps:

- A request that does not fit the state is refused (`Illegal`), with what would fit.
- What a host reports carries the host's generation; a report of an older generation changes nothing.
- Any operation that fails leads to ERROR; ERROR is left by reset, disconnect or close.
- A host that dies while somebody wants it is started again after an exponential back-off, at most
  `RestartPolicy.max_attempts` times in a row; then the device stays in ERROR and says so (`GiveUp`). One that lived
  for a while begins a new row, unless it was ended for staying over a limit: those add up for much longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vfab.model.life import (
    REQUESTS,
    STATE_HIERARCHY,
    ArmRetry,
    CallConnect,
    CallDisconnect,
    CallInitialize,
    CallReset,
    CancelOperations,
    DeviceState,
    DriverState,
    Effect,
    Event,
    GiveUp,
    KillHost,
    Life,
    Request,
    Respawn,
    RestartPolicy,
    SafeStop,
    Signal,
    Spawn,
)

__all__ = [
    "LEGAL_REQUESTS",
    "PUBLIC_TRANSITIONS",
    "REQUESTS",
    "STATE_HIERARCHY",
    "TABLE",
    "ArmRetry",
    "CallConnect",
    "CallDisconnect",
    "CallInitialize",
    "CallReset",
    "CancelOperations",
    "DeviceState",
    "DriverState",
    "Effect",
    "Event",
    "GiveUp",
    "Illegal",
    "KillHost",
    "Life",
    "Request",
    "Respawn",
    "RestartPolicy",
    "SafeStop",
    "Signal",
    "Spawn",
    "device_state",
    "mermaid",
    "step",
]


class Illegal(Exception):
    """The request does not fit the state."""

    def __init__(self, state: DriverState, event: Event) -> None:
        legal = ", ".join(sorted(e.value for e in LEGAL_REQUESTS[state])) or "nothing"
        super().__init__(f"cannot {event.value} while {state.value}; possible now: {legal}")
        self.state = state
        self.event = event


Outcome = tuple[Life, tuple[Effect, ...]]
S, E = DriverState, Event


@dataclass(frozen=True, slots=True)
class _Rule:
    """What happens: `apply` it to a life; `targets` are the states it may lead to, none for where it stays."""

    apply: Callable[[Life], Outcome]
    targets: tuple[DriverState, ...]


def _to(state: DriverState, *effects: Effect) -> _Rule:
    """Go to `state` and do `effects`."""
    return _Rule(lambda life: (replace(life, state=state), effects), (state,))


def _wanting(wanted: DriverState | None, state: DriverState, *effects: Effect) -> _Rule:
    """Go to `state`, do `effects`, and keep `wanted` from now on."""
    return _Rule(lambda life: (replace(life, state=state, wanted=wanted), effects), (state,))


def _rule(*targets: DriverState) -> Callable[[Callable[[Life], Outcome]], _Rule]:
    return lambda apply: _Rule(apply, targets)


def _spawned(life: Life) -> Outcome:
    born = replace(life, state=S.INITIALIZING, generation=life.generation + 1, host_alive=True)
    return born, (Spawn(born.generation),)


@_rule(S.INITIALIZING)
def _initialize(life: Life) -> Outcome:
    life = replace(life, attempts=0, offences=0, wanted=S.READY)
    if life.host_alive:
        return replace(life, state=S.INITIALIZING), (CallInitialize(),)
    return _spawned(life)


@_rule(S.READY, S.CONNECTING)
def _initialized(life: Life) -> Outcome:
    life = replace(life, prepared=True)
    if life.wanted is S.CONNECTED:
        return replace(life, state=S.CONNECTING), (CallConnect(),)
    return replace(life, state=S.READY), ()


@_rule(S.ERROR)
def _died(life: Life) -> Outcome:
    life = replace(life, host_alive=False, attempts=max(life.attempts + 1, life.offences), state=S.ERROR)
    if life.wanted is None:
        return life, (SafeStop(),)
    if life.attempts > life.policy.max_attempts:
        return replace(life, wanted=None), (SafeStop(), GiveUp(life.attempts))
    return life, (SafeStop(), ArmRetry(life.policy.delay_s(life.attempts)))


@_rule(S.DISCONNECTED)
def _died_disconnecting(life: Life) -> Outcome:
    return replace(life, host_alive=False, state=S.DISCONNECTED), (SafeStop(),)


@_rule(S.SHUTDOWN)
def _died_shutting_down(life: Life) -> Outcome:
    return replace(life, host_alive=False, state=S.SHUTDOWN, prepared=False, attempts=0, offences=0), ()


@_rule()
def _died_unwanted(life: Life) -> Outcome:
    return replace(life, host_alive=False), ()


@_rule(S.INITIALIZING, S.ERROR)
def _retry(life: Life) -> Outcome:
    if life.wanted is None or life.host_alive:
        return life, ()
    return _spawned(life)


@_rule(S.INITIALIZING)
def _reset_from_error(life: Life) -> Outcome:
    life = replace(life, wanted=life.wanted or S.READY, attempts=0, offences=0, state=S.INITIALIZING)
    return (life, (CallReset(),)) if life.host_alive else _spawned(life)


@_rule(S.DISCONNECTING, S.DISCONNECTED)
def _disconnect_from_error(life: Life) -> Outcome:
    life = replace(life, wanted=None, attempts=0, offences=0)
    if life.host_alive:
        return replace(life, state=S.DISCONNECTING), (CallDisconnect(),)
    return replace(life, state=S.DISCONNECTED), ()


@_rule(S.SHUTTING_DOWN, S.SHUTDOWN)
def _close(life: Life) -> Outcome:
    life = replace(life, wanted=None)
    if not life.host_alive:
        return replace(life, state=S.SHUTDOWN, prepared=False, attempts=0, offences=0), ()
    return replace(life, state=S.SHUTTING_DOWN), (CallDisconnect(),)


@_rule(S.SHUTTING_DOWN, S.SHUTDOWN)
def _close_idle(life: Life) -> Outcome:
    if not life.host_alive:
        return _close.apply(life)
    return replace(life, state=S.SHUTTING_DOWN, wanted=None), (KillHost(),)


@_rule(S.SHUTTING_DOWN)
def _close_busy(life: Life) -> Outcome:
    return replace(life, state=S.SHUTTING_DOWN, wanted=None), (CancelOperations(), CallDisconnect())


@_rule(S.ERROR)
def _failed(life: Life) -> Outcome:
    """The operation failed while the host lives: nobody retries by itself, a person resets or disconnects."""
    return replace(life, state=S.ERROR, wanted=None), ()


@_rule()
def _found(life: Life) -> Outcome:
    return replace(life, present=True), ()


@_rule()
def _lost(life: Life) -> Outcome:
    return replace(life, present=False), ()


@_rule()
def _stable(life: Life) -> Outcome:
    return replace(life, attempts=0), ()


@_rule()
def _over_limit(life: Life) -> Outcome:
    """The host is being ended for staying over a limit: it may have lived long until then, and so will the next."""
    return replace(life, offences=life.offences + 1), ()


@_rule()
def _pardoned(life: Life) -> Outcome:
    return replace(life, offences=0), ()


@_rule()
def _swapped(life: Life) -> Outcome:
    """Another host took the device over, warm: what the old one still says is stale from now on."""
    return replace(life, generation=life.generation + 1, host_alive=True, attempts=0, offences=0, prepared=True), ()


@_rule(S.CONNECTED)
def _swapped_back(life: Life) -> Outcome:
    """The new host failed, and the one before has the device again."""
    life, effects = _swapped.apply(life)
    return replace(life, state=S.CONNECTED, wanted=S.CONNECTED), effects


@_rule(S.INITIALIZING)
def _outdated(life: Life) -> Outcome:
    """The host was confined to a device node that is another one by now: a new host gets the new one."""
    born = replace(life, state=S.INITIALIZING, generation=life.generation + 1, host_alive=True)
    return born, (Respawn(born.generation),)


@_rule()
def _stay(life: Life) -> Outcome:
    return life, ()


TABLE: Mapping[tuple[DriverState, Event], _Rule] = {
    # a first start, and one after close or disconnect
    (S.UNINITIALIZED, E.INITIALIZE): _initialize,
    (S.SHUTDOWN, E.INITIALIZE): _initialize,
    (S.DISCONNECTED, E.INITIALIZE): _initialize,
    (S.INITIALIZING, E.HOST_READY): _to(S.INITIALIZING, CallInitialize()),
    (S.INITIALIZING, E.INITIALIZED): _initialized,
    (S.INITIALIZING, E.RESET_DONE): _to(S.INITIALIZING, CallInitialize()),
    # connecting
    (S.READY, E.CONNECT): _wanting(S.CONNECTED, S.CONNECTING, CallConnect()),
    (S.CONNECTING, E.CONNECTED): _to(S.CONNECTED),
    # working
    (S.CONNECTED, E.BEGIN): _to(S.BUSY),
    (S.BUSY, E.FINISHED): _to(S.CONNECTED),
    (S.CONNECTED, E.RESET): _wanting(S.CONNECTED, S.INITIALIZING, CallReset()),
    (S.READY, E.RESET): _wanting(S.READY, S.INITIALIZING, CallReset()),
    (S.ERROR, E.RESET): _reset_from_error,
    # leaving
    (S.CONNECTED, E.DISCONNECT): _wanting(None, S.DISCONNECTING, CallDisconnect()),
    (S.BUSY, E.DISCONNECT): _wanting(None, S.DISCONNECTING, CancelOperations(), CallDisconnect()),
    (S.CONNECTING, E.DISCONNECT): _wanting(None, S.DISCONNECTING, CancelOperations(), CallDisconnect()),
    (S.READY, E.DISCONNECT): _wanting(None, S.DISCONNECTED),
    (S.ERROR, E.DISCONNECT): _disconnect_from_error,
    (S.DISCONNECTING, E.DISCONNECTED): _to(S.DISCONNECTED),
    # closing
    (S.UNINITIALIZED, E.CLOSE): _close,
    (S.DISCONNECTED, E.CLOSE): _close_idle,
    (S.READY, E.CLOSE): _close_idle,
    (S.INITIALIZING, E.CLOSE): _close_idle,
    (S.CONNECTING, E.CLOSE): _close_busy,
    (S.CONNECTED, E.CLOSE): _close,
    (S.BUSY, E.CLOSE): _close_busy,
    (S.ERROR, E.CLOSE): _close,
    (S.DISCONNECTING, E.CLOSE): _wanting(None, S.SHUTTING_DOWN, KillHost()),
    (S.SHUTTING_DOWN, E.CLOSE): _stay,
    (S.SHUTDOWN, E.CLOSE): _stay,
    (S.SHUTTING_DOWN, E.DISCONNECTED): _to(S.SHUTTING_DOWN, KillHost()),
    (S.SHUTTING_DOWN, E.FAILED): _to(S.SHUTTING_DOWN, KillHost()),
    # failing
    (S.INITIALIZING, E.FAILED): _failed,
    (S.CONNECTING, E.FAILED): _failed,
    (S.BUSY, E.FAILED): _failed,
    (S.DISCONNECTING, E.FAILED): _failed,
    (S.CONNECTED, E.LINK_LOST): _failed,
    (S.BUSY, E.LINK_LOST): _failed,
    (S.CONNECTING, E.LINK_LOST): _failed,
    # dying
    (S.INITIALIZING, E.HOST_DIED): _died,
    (S.READY, E.HOST_DIED): _died,
    (S.CONNECTING, E.HOST_DIED): _died,
    (S.CONNECTED, E.HOST_DIED): _died,
    (S.BUSY, E.HOST_DIED): _died,
    (S.ERROR, E.HOST_DIED): _died,
    (S.DISCONNECTING, E.HOST_DIED): _died_disconnecting,
    (S.DISCONNECTED, E.HOST_DIED): _died_unwanted,
    (S.SHUTTING_DOWN, E.HOST_DIED): _died_shutting_down,
    (S.ERROR, E.RETRY_DUE): _retry,
    # replaced while it runs
    (S.READY, E.SWAPPED): _swapped,
    (S.CONNECTED, E.SWAPPED): _swapped,
    (S.BUSY, E.SWAPPED): _swapped,
    (S.ERROR, E.SWAPPED): _swapped_back,
    # its device came back as another node
    (S.INITIALIZING, E.OUTDATED): _outdated,
    (S.CONNECTING, E.OUTDATED): _outdated,
    # idempotent requests: what is asked for is so already
    (S.READY, E.INITIALIZE): _stay,
    (S.CONNECTED, E.CONNECT): _stay,
    (S.DISCONNECTED, E.DISCONNECT): _stay,
    # in every state
    **{(state, E.FOUND): _found for state in S},
    **{(state, E.LOST): _lost for state in S},
    **{(state, E.STABLE): _stable for state in S},
    **{(state, E.OVER_LIMIT): _over_limit for state in S},
    **{(state, E.PARDONED): _pardoned for state in S},
}
"""(state, event) -> rule. A request that is not here is refused; a signal that is not here changes nothing."""

LEGAL_REQUESTS: Mapping[DriverState, frozenset[Event]] = {
    state: frozenset(event for event in REQUESTS if (state, event) in TABLE) for state in S
}


def step(life: Life, happening: Request | Signal) -> Outcome:
    """What becomes of `life`, and what the shell must do about it.

    Raises Illegal: a request does not fit the state.
    """
    rule = TABLE.get((life.state, happening.event))
    if isinstance(happening, Request):
        if rule is None:
            raise Illegal(life.state, happening.event)
        return rule.apply(life)
    if happening.generation is not None and happening.generation != life.generation:
        return life, ()
    return rule.apply(life) if rule is not None else (life, ())


_PROJECTION: Mapping[DriverState, DeviceState] = {
    S.READY: DeviceState.INITIALIZED,
    S.CONNECTING: DeviceState.INITIALIZED,
    S.CONNECTED: DeviceState.CONNECTED,
    S.BUSY: DeviceState.ACTIVE,
    S.ERROR: DeviceState.ERROR,
    S.DISCONNECTING: DeviceState.DISCONNECTED,
    S.DISCONNECTED: DeviceState.DISCONNECTED,
}


def device_state(life: Life) -> DeviceState:
    """Seed 002's view of `life`; defined for every state.

    UNINITIALIZED and INITIALIZING look as the device did before: unknown, discovered, or disconnected after an earlier
    use. So do SHUTTING_DOWN and SHUTDOWN.
    """
    shown = _PROJECTION.get(life.state)
    if shown is not None:
        return shown
    if life.prepared or life.state in {S.SHUTTING_DOWN, S.SHUTDOWN}:
        return DeviceState.DISCONNECTED
    return DeviceState.DISCOVERED if life.present else DeviceState.UNKNOWN


_D = DeviceState
PUBLIC_TRANSITIONS: Mapping[DeviceState, frozenset[DeviceState]] = {
    # seed 002's table …
    _D.UNKNOWN: frozenset({_D.DISCOVERED}) | {_D.INITIALIZED, _D.ERROR, _D.DISCONNECTED},
    _D.DISCOVERED: frozenset({_D.INITIALIZED}) | {_D.UNKNOWN, _D.ERROR, _D.DISCONNECTED},
    _D.INITIALIZED: frozenset({_D.CONNECTED, _D.DISCONNECTED}) | {_D.ERROR},
    _D.CONNECTED: frozenset({_D.ACTIVE, _D.DISCONNECTED}) | {_D.ERROR},
    _D.ACTIVE: frozenset({_D.CONNECTED, _D.ERROR}) | {_D.DISCONNECTED},
    _D.ERROR: frozenset({_D.DISCONNECTED}) | {_D.CONNECTED, _D.UNKNOWN, _D.DISCOVERED},
    _D.DISCONNECTED: frozenset({_D.INITIALIZED}) | {_D.ERROR, _D.CONNECTED, _D.UNKNOWN, _D.DISCOVERED},
}
"""Seed 002's transitions, then (after each `|`) those that its text asks for and its table forgot: any operation may
fail into ERROR, a close ends any state, what is unplugged is unknown again, and where a replacement fails the driver
before it has the device again, connected as it was."""


def mermaid() -> str:
    """The state diagram, drawn from the table, in Mermaid's language."""
    lines = ["stateDiagram-v2", "    [*] --> uninitialized"]
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), rule in TABLE.items():
        for target in rule.targets:
            if target is not state:
                arrows.setdefault((state.value, target.value), []).append(event.value)
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in arrows.items()]
    return "\n".join(lines) + "\n"
