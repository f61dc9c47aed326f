"""The words of a driver's life: its states, what can happen, what the shell is told to do. Its laws: `lifecycle`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = [
    "REQUESTS",
    "STATE_HIERARCHY",
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
    "KillHost",
    "Life",
    "Request",
    "Respawn",
    "RestartPolicy",
    "SafeStop",
    "Signal",
    "Spawn",
]


class DriverState(Enum):
    """The eleven states of a driver's life (seed 001)."""

    UNINITIALIZED = "uninitialized"
    INITIALIZING = "initializing"
    READY = "ready"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    BUSY = "busy"
    ERROR = "error"
    DISCONNECTING = "disconnecting"
    DISCONNECTED = "disconnected"
    SHUTTING_DOWN = "shutting_down"
    SHUTDOWN = "shutdown"


class DeviceState(Enum):
    """The seven public states of a device (seed 002)."""

    UNKNOWN = "unknown"
    DISCOVERED = "discovered"
    INITIALIZED = "initialized"
    CONNECTED = "connected"
    ACTIVE = "active"
    ERROR = "error"
    DISCONNECTED = "disconnected"


STATE_HIERARCHY: Mapping[DeviceState, int] = {
    DeviceState.UNKNOWN: 0,
    DeviceState.DISCOVERED: 1,
    DeviceState.INITIALIZED: 2,
    DeviceState.CONNECTED: 3,
    DeviceState.ACTIVE: 4,
}
"""How far along a device is (seed 002 §8); ERROR and DISCONNECTED lie outside of it."""


class Event(Enum):
    """What can happen. Requests come from people, signals from hosts and timers."""

    # requests
    INITIALIZE = "initialize"
    CONNECT = "connect"
    BEGIN = "begin"
    DISCONNECT = "disconnect"
    RESET = "reset"
    CLOSE = "close"
    # signals
    FOUND = "found"
    LOST = "lost"
    HOST_READY = "host_ready"
    INITIALIZED = "initialized"
    CONNECTED = "connected"
    FINISHED = "finished"
    FAILED = "failed"
    LINK_LOST = "link_lost"
    DISCONNECTED = "disconnected"
    RESET_DONE = "reset_done"
    HOST_DIED = "host_died"
    RETRY_DUE = "retry_due"
    STABLE = "stable"
    OVER_LIMIT = "over_limit"
    PARDONED = "pardoned"
    SWAPPED = "swapped"
    OUTDATED = "outdated"


REQUESTS = frozenset({Event.INITIALIZE, Event.CONNECT, Event.BEGIN, Event.DISCONNECT, Event.RESET, Event.CLOSE})


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for `event`."""

    event: Event


@dataclass(frozen=True, slots=True)
class Signal:
    """`event` happened to the host of `generation`; None is for what concerns no host (found, lost, retry due)."""

    event: Event
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a host as `generation`; answer HOST_READY or HOST_DIED."""

    generation: int


@dataclass(frozen=True, slots=True)
class Respawn:
    """End the host, then start one as `generation`; answer HOST_READY or HOST_DIED for that one."""

    generation: int


@dataclass(frozen=True, slots=True)
class CallInitialize:
    """Have the driver prepare itself; answer INITIALIZED or FAILED."""


@dataclass(frozen=True, slots=True)
class CallConnect:
    """Have the driver connect; answer CONNECTED or FAILED."""


@dataclass(frozen=True, slots=True)
class CallDisconnect:
    """Have the driver disconnect; answer DISCONNECTED or FAILED."""


@dataclass(frozen=True, slots=True)
class CallReset:
    """Have the driver reset its device; answer RESET_DONE or FAILED."""


@dataclass(frozen=True, slots=True)
class CancelOperations:
    """Cancel every operation under way."""


@dataclass(frozen=True, slots=True)
class KillHost:
    """End the host; answer HOST_DIED."""


@dataclass(frozen=True, slots=True)
class SafeStop:
    """Send the manifest's safe_stop bytes on the links that the dead host held."""


@dataclass(frozen=True, slots=True)
class ArmRetry:
    """Signal RETRY_DUE after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Say loudly that the driver died `attempts` times in a row and is not started again."""

    attempts: int


Effect = (
    Spawn
    | Respawn
    | CallInitialize
    | CallConnect
    | CallDisconnect
    | CallReset
    | CancelOperations
    | KillHost
    | SafeStop
    | ArmRetry
    | GiveUp
)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How a dead host is started again.

    Attributes:
        first_s: delay before the first restart, in seconds.
        factor: by how much each further delay is longer.
        longest_s: no delay is longer.
        max_attempts: how many deaths in a row are forgiven.
        stable_s: a host that lived so long is stable: earlier deaths are forgiven.
        pardon_s: one that lived so long keeps within its limits: that earlier ones did not is forgiven, too.
    """

    first_s: float = 0.05
    factor: float = 2.0
    longest_s: float = 10.0
    max_attempts: int = 8
    stable_s: float = 30.0
    pardon_s: float = 3600.0

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait before restart number `attempt` (from 1)."""
        return float(min(self.first_s * self.factor ** (attempt - 1), self.longest_s))


@dataclass(frozen=True, slots=True)
class Life:
    """Where a driver stands.

    Attributes:
        state: seed 001's state.
        present: the device was seen by detection, or given by address.
        generation: number of the newest host, 0 before the first.
        host_alive: the host of `generation` lives, as far as we were told.
        attempts: deaths in a row since the driver was last stable.
        offences: hosts in a row that were ended for staying over a limit, since the last that kept within for long.
        wanted: the state that somebody wants kept: READY, CONNECTED, or None.
        prepared: the driver was READY once since the last close.
    """

    state: DriverState = DriverState.UNINITIALIZED
    present: bool = False
    generation: int = 0
    host_alive: bool = False
    attempts: int = 0
    offences: int = 0
    wanted: DriverState | None = None
    prepared: bool = False
    policy: RestartPolicy = field(default=RestartPolicy(), repr=False)
