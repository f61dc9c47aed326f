"""Whether a new driver has proved itself: `judge()` decides by what was seen of it; the swap looks, and acts.

A driver that lies says that it is connected, and nothing that is asked of it succeeds. So what counts is what happens:
its process lives, calls to it do not fail by its fault, and a stream that ran before goes on.

Whose fault a failure is, `BLAME` says. A call that was refused, or an error that the device reports, says nothing of
the driver. What may be the device's fault as well, a lost link say, is held against the new driver only if the one
before did not meet it, too, lately: a device that is broken is no reason to keep the old driver for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from vfab.kernel.failures import Failure
from vfab.model.errors import ConnectError, DriverError

__all__ = [
    "BLAME",
    "Blame",
    "Look",
    "Probation",
    "Pulse",
    "StreamSeen",
    "TakeBack",
    "Trust",
    "WatchOn",
    "blame",
    "judge",
]

SILENT_S = 5.0
SILENT_GAPS = 4.0
SILENT_MAX_S = 60.0
"""A stream is dead when nothing came for so many seconds, or so many of its longest gaps, whichever is longer; one for
which that is longer than the last of these is not waited for."""

UNANSWERED_S = 5.0
"""How long calls that were given up and are not answered yet may prolong a probation: the driver may hang."""


class Blame(Enum):
    """Whose fault an error is."""

    NOBODY = "nobody's that concerns us: the caller's, or the device reports it"
    EITHER = "the device's or the driver's"
    DRIVER = "the driver's"


BLAME: Mapping[str, Blame] = {
    "driver_error": Blame.EITHER,
    "connection_failed": Blame.EITHER,
    "link_lost": Blame.EITHER,
    "device_not_found": Blame.EITHER,
    "device_busy": Blame.EITHER,
    "host_died": Blame.DRIVER,
    "limit_exceeded": Blame.DRIVER,
    "timeout": Blame.EITHER,
    "permission_refused": Blame.EITHER,
    "bad_configuration": Blame.NOBODY,
    "cancelled": Blame.NOBODY,
    "swap_failed": Blame.NOBODY,
    "hardware_error": Blame.NOBODY,
    "driver_failed": Blame.DRIVER,
    "protocol_error": Blame.EITHER,
    "dependency_missing": Blame.DRIVER,
}
"""By error code; an error that is not named counts as the nearest one that it is a kind of."""


def blame(error: DriverError) -> Blame:
    """Whose fault `error` is."""
    codes = (kind.code for kind in type(error).__mro__ if issubclass(kind, DriverError))
    return next(BLAME[code] for code in codes if code in BLAME)


@dataclass(frozen=True, slots=True)
class Pulse:
    """A stream of the driver before.

    Attributes:
        name: its name.
        made: which of the streams of that name it is: one that is opened anew has another number.
        records: how many there had been when the driver let go.
        gap_s: the longest time between two of them.
    """

    name: str
    made: int
    records: int
    gap_s: float


@dataclass(frozen=True, slots=True)
class StreamSeen:
    """A stream as it is now: which one, how many records there have been, and whether it has ended."""

    made: int
    records: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Probation:
    """What a new driver is measured by.

    Attributes:
        began_s: when it took over, on the monotonic clock.
        lasts_s: for how long it is watched; 0: it is looked at once.
        before: what had failed lately in the driver before.
        pulses: streams that the driver before had running.
        silence_s: how long a stream may take to its first record, as the manifest declares; 0: see `SILENT_S`.
    """

    began_s: float
    lasts_s: float
    before: tuple[Failure, ...] = ()
    pulses: tuple[Pulse, ...] = ()
    silence_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of it at one moment.

    Attributes:
        now_s: when, on the monotonic clock.
        connected: what it says itself.
        died: its process has ended, and of what.
        failures: what failed in it so far.
        streams: the device's streams.
        asked: people have called it meanwhile: one of them may have ended a stream.
        unanswered: how many calls were given up that it has not answered yet.
        hurry: somebody wants to let go of the device, and waits.
    """

    now_s: float
    connected: bool = True
    died: DriverError | None = None
    failures: tuple[Failure, ...] = ()
    streams: Mapping[str, StreamSeen] = field(default_factory=dict)
    asked: bool = False
    unanswered: int = 0
    hurry: bool = False


@dataclass(frozen=True, slots=True)
class WatchOn:
    """Look again in a moment."""


@dataclass(frozen=True, slots=True)
class Trust:
    """It has proved itself."""


@dataclass(frozen=True, slots=True)
class TakeBack:
    """It has not; `why` is what it did, `error` what it said, if it said something."""

    why: str
    error: DriverError | None = None


def judge(probation: Probation, look: Look) -> WatchOn | Trust | TakeBack:
    """What to do with a new driver of which `look` is seen."""
    if look.died is not None:
        return TakeBack(look.died.message, look.died)
    for failure in look.failures:
        if _counts(failure, probation.before):
            return TakeBack(f"{failure.method} failed: {failure.error.message}", failure.error)
    if not look.connected and not any(isinstance(known.error, ConnectError) for known in probation.before):
        return TakeBack("it is not connected to the device any more")
    passed_s = look.now_s - probation.began_s
    waits = False
    for pulse in probation.pulses if probation.lasts_s and not look.hurry else ():
        verdict = _stream(pulse, probation, look)
        if isinstance(verdict, TakeBack):
            return verdict
        waits = waits or isinstance(verdict, WatchOn)
    hangs = look.unanswered > 0 and passed_s < probation.lasts_s + UNANSWERED_S
    if look.hurry or not (waits or hangs or passed_s < probation.lasts_s):
        return Trust()
    return WatchOn()


def _counts(failure: Failure, before: tuple[Failure, ...]) -> bool:
    """Whether `failure` is held against the driver that it happened in."""
    whose, code = blame(failure.error), failure.error.code
    if whose is Blame.NOBODY:
        return False
    same = (known for known in before if known.error.code == code)
    return not any(whose is Blame.EITHER or known.method == failure.method for known in same)


def _stream(pulse: Pulse, probation: Probation, look: Look) -> WatchOn | Trust | TakeBack:
    """What is to be thought of one stream."""
    seen = look.streams.get(pulse.name)
    allowed_s = probation.silence_s or max(SILENT_S, SILENT_GAPS * pulse.gap_s)
    if seen is None or allowed_s > max(SILENT_MAX_S, probation.silence_s):
        return Trust()
    if seen.records > (pulse.records if seen.made == pulse.made else 0):
        return Trust()
    mine = f"stream {pulse.name}"
    if any(failure.method == mine or blame(failure.error) is not Blame.NOBODY for failure in look.failures):
        return Trust()  # they are not held against it, and what they stand for may have ended the stream
    if seen.ended:
        return Trust() if look.asked else TakeBack(f"its stream {pulse.name} ended without a record")
    passed_s = look.now_s - probation.began_s
    if passed_s < allowed_s:
        return WatchOn()
    return TakeBack(
        f"nothing came on its stream {pulse.name} for {passed_s:.1f} s; "
        f"before, the longest wait for a record was {pulse.gap_s:.3g} s"
    )
