"""Where a receiver is: what its sentences of one moment say together.

A receiver sends a group of sentences for each moment, in an order of its own. The group is over when a sentence of
another time comes; so as not to wait for that, the assembler learns which sentence comes last and ends the group with
it.
"""

from __future__ import annotations

import calendar
import datetime as dt
from dataclasses import dataclass

from vfab.model.errors import ProtocolError

from .framing import Sentence
from .records import GGA, GLL, GNS, GSA, GST, GSV, RMC, VTG, ZDA, Record, parse

__all__ = ["Fix", "FixAssembler"]

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Fix:
    """Where and when; what the receiver does not know is None.

    Attributes:
        valid: the receiver says that the position holds.
        dimensions: 1 no fix, 2 in the plane, 3 in space; 0 not said.
        quality: as in GGA: 1 autonomous, 2 differential, 4 and 5 RTK, 6 estimated, 7 by hand, 8 simulated.
        time_s: Unix time; None without a date.
        latitude_deg, longitude_deg: WGS 84, north and east positive.
        altitude_m: above mean sea level. geoid_m: mean sea level above the ellipsoid.
        latitude_u_m, longitude_u_m, altitude_u_m: standard uncertainties, m, if the receiver gives them.
        satellites: used. in_view: above the horizon.
        bad: sentences of the group that could not be read.
    """

    valid: bool = False
    dimensions: int = 0
    quality: int | None = None
    time_s: float | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    altitude_m: float | None = None
    geoid_m: float | None = None
    speed_m_s: float | None = None
    course_deg: float | None = None
    hdop: float | None = None
    vdop: float | None = None
    pdop: float | None = None
    latitude_u_m: float | None = None
    longitude_u_m: float | None = None
    altitude_u_m: float | None = None
    satellites: int | None = None
    in_view: int | None = None
    bad: int = 0


class FixAssembler:
    """Sentences in, fixes out."""

    def __init__(self) -> None:
        self._group: list[tuple[Sentence, Record]] = []
        self._time_s: float | None = None
        self._date: dt.date | None = None
        self._date_time_s: float | None = None
        self._last: tuple[str, str, str] | None = None
        self._latest: tuple[str, str, str] | None = None
        self._told = False
        self._bad = 0

    def add(self, sentence: Sentence) -> list[Fix]:
        """Take the next sentence; the fixes that are whole now: none, one, seldom two."""
        try:
            record = parse(sentence)
        except ProtocolError:
            self._bad += 1
            return []
        if record is None:
            return []
        fixes: list[Fix] = []
        time_s = getattr(record, "time_s", None)
        if time_s is not None:
            if self._time_s is not None and time_s != self._time_s:
                if self._group:  # its last sentence was lost, or is not known yet
                    fixes.append(self._end())
                self._last, self._told = self._latest, False
            self._time_s = time_s
        self._note_date(record)
        self._latest = _mark(sentence)
        if self._told:
            return fixes  # after what was taken for the last one; with the next moment that is learnt anew
        self._group.append((sentence, record))
        if self._time_s is not None and self._last == self._latest:
            fixes.append(self._end())
        return fixes

    def _end(self) -> Fix:
        group, self._group = self._group, []
        bad, self._bad = self._bad, 0
        self._told = True
        return _fix(group, self._unix_time_s(), bad)

    def _note_date(self, record: Record) -> None:
        date = getattr(record, "date", None)
        if date is not None:
            self._date, self._date_time_s = date, self._time_s

    def _unix_time_s(self) -> float | None:
        if self._date is None or self._time_s is None:
            return None
        midnight = calendar.timegm(self._date.timetuple())
        # a group after midnight may have no date of its own yet
        passed = self._date_time_s is not None and self._time_s < self._date_time_s - _DAY_S / 2
        return midnight + self._time_s + (_DAY_S if passed else 0.0)


def _mark(sentence: Sentence) -> tuple[str, str, str]:
    """What tells the sentences of a group apart: of several GSV and GSA the talker and the system, too."""
    if sentence.kind == "GSA":
        return sentence.talker, sentence.kind, sentence.field(17)
    last = sentence.kind == "GSV" and sentence.field(0) != sentence.field(1)
    return sentence.talker, sentence.kind, "more" if last else ""


def _fix(group: list[tuple[Sentence, Record]], time_s: float | None, bad: int) -> Fix:
    said: dict[str, float | int | None] = {}
    verdicts: list[bool] = []
    used: set[tuple[str, str, int]] = set()
    in_view: dict[str, int] = {}
    for sentence, record in group:
        match record:
            case GGA() | GNS():
                verdicts.append(bool(record.quality))
                _note(said, record, "quality", "satellites", "hdop", "altitude_m", "geoid_m")
            case RMC():
                verdicts.append(bool(record.valid) and record.mode != "N")
                _note(said, record, "speed_m_s", "course_deg")
            case GLL():
                verdicts.append(bool(record.valid) and record.mode != "N")
            case GSA():
                used |= {(sentence.talker, record.system or "", number) for number in record.used}
                said["dimensions"] = max(int(said.get("dimensions") or 0), record.fix or 0)
                _note(said, record, "pdop", "hdop", "vdop")
            case GSV():
                in_view[sentence.talker] = max(in_view.get(sentence.talker, 0), record.in_view or 0)
            case VTG():
                _note(said, record, "speed_m_s", "course_deg")
            case GST():
                said["latitude_u_m"], said["longitude_u_m"] = record.latitude_m, record.longitude_m
                said["altitude_u_m"] = record.altitude_m
            case ZDA() | _:
                pass
        if isinstance(record, GGA | GNS | RMC | GLL) and record.latitude_deg is not None:
            _note(said, record, "latitude_deg", "longitude_deg")
    if said.get("satellites") is None and used:
        said["satellites"] = len(used)
    placed = said.get("latitude_deg") is not None and said.get("longitude_deg") is not None
    return Fix(
        valid=bool(verdicts) and all(verdicts) and placed,
        time_s=time_s,
        in_view=sum(in_view.values()) if in_view else None,
        bad=bad,
        **said,  # type: ignore[arg-type]
    )


def _note(said: dict[str, float | int | None], record: Record, *names: str) -> None:
    """What is said twice counts as first said; what is empty is not said."""
    for name in names:
        value = getattr(record, name)
        if value is not None:
            said.setdefault(name, value)
