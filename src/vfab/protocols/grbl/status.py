"""Status reports `<State|Field:…|…>`: read and written, in every variation that the mask `$10` makes.

Positions are millimetres unless `$13=1`. A report has MPos or WPos, never both; the other follows from the work
coordinate offset, which comes only now and then: `StatusReader` remembers it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

__all__ = ["Position", "State", "Status", "StatusReader", "format_status", "parse_status"]

Position = tuple[float, ...]
"""X, Y, Z and as many more axes as the machine has."""


class State(Enum):
    """What the machine does."""

    IDLE = "Idle"
    RUN = "Run"
    HOLD = "Hold"
    JOG = "Jog"
    ALARM = "Alarm"
    DOOR = "Door"
    CHECK = "Check"
    HOME = "Home"
    SLEEP = "Sleep"
    TOOL = "Tool"
    """grblHAL: waits for a tool change."""
    UNKNOWN = "?"
    """A word that this table does not have."""


@dataclass(frozen=True, slots=True)
class Status:
    """One status report.

    Attributes:
        state: what the machine does.
        substate: `Hold:0` is 0 (stands still, ready to resume), `Hold:1` still slows down; `Door:0` closed and ready,
            1 stopped and ajar, 2 still stopping, 3 restoring. None when the report has none.
        mpos, wpos: machine and work position; what the report lacks comes from `wco`, if that is known.
        planner_free, rx_free: `Bf:` blocks and bytes that are free.
        line: `Ln:` the line that is executed.
        feed, spindle: `FS:` or `F:`, units a minute and rpm.
        pins: `Pn:` letters of the inputs that are active: X Y Z limits, P probe, D door, H hold, R reset, S start.
        overrides: `Ov:` feed, rapid, spindle, per cent.
        accessories: `A:` letters: S C spindle, F flood, M mist.
        wco: the work coordinate offset, of this report or an earlier one.
        extra: fields that this class does not name, as they were written.
    """

    state: State
    substate: int | None = None
    mpos: Position | None = None
    wpos: Position | None = None
    planner_free: int | None = None
    rx_free: int | None = None
    line: int | None = None
    feed: float | None = None
    spindle: float | None = None
    pins: str = ""
    overrides: tuple[int, int, int] | None = None
    accessories: str | None = None
    wco: Position | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def at_rest(self) -> bool:
        """Nothing moves, and nothing will without a command."""
        if self.state in (State.HOLD, State.DOOR):
            return self.substate in (0, 1) if self.state is State.DOOR else self.substate in (0, None)
        return self.state in (State.IDLE, State.ALARM, State.SLEEP, State.CHECK)


def parse_status(text: str) -> Status | None:
    """Read a report, with its angle brackets; None when it is none or damaged."""
    if len(text) < 3 or text[0] != "<" or text[-1] != ">":
        return None
    head, *fields = text[1:-1].split("|")
    word, _, sub = head.partition(":")
    try:
        state = State(word)
    except ValueError:
        if not word.isalpha():
            return None
        state = State.UNKNOWN
    values: dict[str, object] = {}
    extra: dict[str, str] = {} if state is not State.UNKNOWN else {"state": word}
    try:
        if sub:
            values["substate"] = int(sub)
        for item in fields:
            name, colon, value = item.partition(":")
            if not colon or not _read(name, value, values):
                extra[name] = value
    except ValueError:
        return None
    return Status(state, extra=extra, **values)  # type: ignore[arg-type]


def _read(name: str, value: str, into: dict[str, object]) -> bool:
    match name:
        case "MPos" | "WPos" | "WCO":
            into[name.lower()] = _position(value)
        case "Bf":
            blocks, _, size = value.partition(",")
            into["planner_free"], into["rx_free"] = int(blocks), int(size)
        case "Ln":
            into["line"] = int(value)
        case "FS":
            feed, spindle, *_ = value.split(",")
            into["feed"], into["spindle"] = float(feed), float(spindle)
        case "F":
            into["feed"] = float(value)
        case "Pn":
            into["pins"] = value
        case "Ov":
            one, two, three = (int(part) for part in value.split(","))
            into["overrides"] = (one, two, three)
        case "A":
            into["accessories"] = value
        case _:
            return False
    return True


def _position(text: str) -> Position:
    made = tuple(float(part) for part in text.split(","))
    if len(made) < 2:
        raise ValueError(text)
    return made


class StatusReader:
    """Completes reports: remembers the work coordinate offset, and computes MPos or WPos from the other.

    An offset is forgotten by `forget`, which a reset needs: until the next `WCO:` only what was reported is known.
    """

    def __init__(self) -> None:
        self.wco: Position | None = None

    def forget(self) -> None:
        """The firmware was reset: its offset may be another one."""
        self.wco = None

    def complete(self, status: Status) -> Status:
        """`status` with everything that follows from it and earlier ones."""
        if status.wco is not None:
            self.wco = status.wco
        wco = self.wco
        if wco is None:
            return status
        mpos, wpos = status.mpos, status.wpos
        if mpos is not None and wpos is None and len(mpos) == len(wco):
            wpos = tuple(at - off for at, off in zip(mpos, wco, strict=True))
        elif wpos is not None and mpos is None and len(wpos) == len(wco):
            mpos = tuple(at + off for at, off in zip(wpos, wco, strict=True))
        return replace(status, mpos=mpos, wpos=wpos, wco=wco)


def format_status(status: Status, mask: int = 1, *, with_wco: bool = False, with_overrides: bool = False) -> str:
    """Write a report as firmware does.

    Args:
        status: what to say; needs `mpos` and `wco`.
        mask: `$10`: bit 0 MPos instead of WPos, bit 1 `Bf:`; higher bits are grblHAL's and change nothing here.
        with_wco, with_overrides: whether it is this report's turn for `WCO:` or `Ov:`; never both.
    """
    wco = status.wco or (0.0,) * len(status.mpos or (0.0, 0.0, 0.0))
    mpos = status.mpos or (0.0,) * len(wco)
    sub = "" if status.substate is None else f":{status.substate}"
    if mask & 1:
        parts = [f"{status.state.value}{sub}", f"MPos:{_numbers(mpos)}"]
    else:
        wpos = tuple(at - off for at, off in zip(mpos, wco, strict=True))
        parts = [f"{status.state.value}{sub}", f"WPos:{_numbers(wpos)}"]
    if mask & 2 and status.planner_free is not None and status.rx_free is not None:
        parts.append(f"Bf:{status.planner_free},{status.rx_free}")
    if status.line is not None:
        parts.append(f"Ln:{status.line}")
    if status.feed is not None:
        tail = "" if status.spindle is None else f",{status.spindle:.0f}"
        parts.append(f"F{'S' if tail else ''}:{status.feed:.0f}{tail}")
    if status.pins:
        parts.append(f"Pn:{status.pins}")
    if with_wco:
        parts.append(f"WCO:{_numbers(wco)}")
    elif with_overrides and status.overrides is not None:
        parts.append("Ov:" + ",".join(map(str, status.overrides)))
        if status.accessories:
            parts.append(f"A:{status.accessories}")
    return f"<{'|'.join(parts)}>"


def _numbers(values: Position) -> str:
    return ",".join(f"{value + 0.0:.3f}" for value in values)
