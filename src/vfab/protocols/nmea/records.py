"""What the sentences of satellite receivers say: each kind as a value, read from a sentence and written as one.

A field that the receiver left empty, or cut off, is None: receivers without a fix leave nearly all of them out. Angles
are degrees (north and east positive), speeds m/s, lengths m, times seconds since midnight UTC.

Source: NMEA 0183 4.11 §8, u-blox M9 interface description §2 (which fields receivers leave out).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from vfab.model.errors import ProtocolError

from .framing import Sentence

__all__ = [
    "GGA",
    "GLL",
    "GNS",
    "GSA",
    "GST",
    "GSV",
    "KNOT_M_S",
    "RMC",
    "VTG",
    "ZDA",
    "InView",
    "Record",
    "parse",
    "sentence_of",
]

KNOT_M_S = 1852 / 3600
_KMH_M_S = 1 / 3.6
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_TIME = re.compile(r"(\d\d)(\d\d)(\d\d(\.\d*)?)")
_ANGLE = re.compile(r"(\d{1,3})(\d\d(\.\d*)?)")
_QUALITIES = {"N": 0, "A": 1, "D": 2, "P": 3, "R": 4, "F": 5, "E": 6, "M": 7, "S": 8}
_BEST_FIRST = (4, 5, 3, 2, 1, 6, 7, 8, 0)
_PIVOT = 80
"""Two-digit years from here on are of the last century: GPS time begins in 1980."""


class Record(Protocol):
    """What every record can do."""

    kind: ClassVar[str]

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""


@dataclass(frozen=True, slots=True)
class GGA:
    """Position, with its `quality`: 0 no fix, 1 autonomous, 2 differential, 4/5 RTK, 6 estimated, 8 simulated."""

    kind: ClassVar[str] = "GGA"
    time_s: float | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    quality: int | None = None
    satellites: int | None = None
    hdop: float | None = None
    altitude_m: float | None = None
    geoid_m: float | None = None
    age_s: float | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        place = (*_put_angle(self.latitude_deg, 2, "NS"), *_put_angle(self.longitude_deg, 3, "EW"))
        good = (_put_int(self.quality), _put_int(self.satellites, 2), _put(self.hdop, 2))
        heights = (_put(self.altitude_m, 3), "M", _put(self.geoid_m, 3), "M")
        return (_put_time(self.time_s), *place, *good, *heights, _put(self.age_s, 1), "")


@dataclass(frozen=True, slots=True)
class GNS:
    """Position from several systems. `modes`: a letter for each, N none, A autonomous, D differential, R and F RTK."""

    kind: ClassVar[str] = "GNS"
    time_s: float | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    modes: str | None = None
    satellites: int | None = None
    hdop: float | None = None
    altitude_m: float | None = None
    geoid_m: float | None = None
    age_s: float | None = None

    @property
    def quality(self) -> int | None:
        """The best of its systems, as GGA says it; None when nothing is said."""
        found = [_QUALITIES[letter] for letter in self.modes or "" if letter in _QUALITIES]
        return next((quality for quality in _BEST_FIRST if quality in found), None)

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        place = (*_put_angle(self.latitude_deg, 2, "NS"), *_put_angle(self.longitude_deg, 3, "EW"))
        good = (self.modes or "", _put_int(self.satellites, 2), _put(self.hdop, 2))
        heights = (_put(self.altitude_m, 3), _put(self.geoid_m, 3))
        return (_put_time(self.time_s), *place, *good, *heights, _put(self.age_s, 1), "")


@dataclass(frozen=True, slots=True)
class RMC:
    """Position, speed over ground, course, date: the recommended minimum. `valid`: status A, not V."""

    kind: ClassVar[str] = "RMC"
    time_s: float | None = None
    valid: bool | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    speed_m_s: float | None = None
    course_deg: float | None = None
    date: dt.date | None = None
    variation_deg: float | None = None
    mode: str | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        place = (*_put_angle(self.latitude_deg, 2, "NS"), *_put_angle(self.longitude_deg, 3, "EW"))
        moving = (_put(_knots(self.speed_m_s), 4), _put(self.course_deg, 3))
        date = self.date.strftime("%d%m%y") if self.date else ""
        turned = _put(None if self.variation_deg is None else abs(self.variation_deg), 2)
        side = "" if self.variation_deg is None else "EW"[self.variation_deg < 0]
        return (_put_time(self.time_s), _put_valid(self.valid), *place, *moving, date, turned, side, self.mode or "")


@dataclass(frozen=True, slots=True)
class GLL:
    """Position only."""

    kind: ClassVar[str] = "GLL"
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    time_s: float | None = None
    valid: bool | None = None
    mode: str | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        place = (*_put_angle(self.latitude_deg, 2, "NS"), *_put_angle(self.longitude_deg, 3, "EW"))
        return (*place, _put_time(self.time_s), _put_valid(self.valid), self.mode or "")


@dataclass(frozen=True, slots=True)
class GSA:
    """Satellites used and dilutions of precision. `fix`: 1 none, 2 in the plane, 3 in space."""

    kind: ClassVar[str] = "GSA"
    selection: str | None = None
    fix: int | None = None
    used: tuple[int, ...] = ()
    pdop: float | None = None
    hdop: float | None = None
    vdop: float | None = None
    system: str | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        used = [_put_int(number, 2) for number in self.used[:12]]
        dops = (_put(self.pdop, 2), _put(self.hdop, 2), _put(self.vdop, 2))
        head = (self.selection or "", _put_int(self.fix), *used, *[""] * (12 - len(used)))
        return (*head, *dops, *([self.system] if self.system else []))


@dataclass(frozen=True, slots=True)
class InView:
    """One satellite above the horizon; degrees, and dB·Hz of signal to noise (None: not tracked)."""

    number: int | None = None
    elevation_deg: int | None = None
    azimuth_deg: int | None = None
    snr_db: int | None = None


@dataclass(frozen=True, slots=True)
class GSV:
    """Satellites in view: sentence `number` of `total`, four satellites each."""

    kind: ClassVar[str] = "GSV"
    total: int | None = None
    number: int | None = None
    in_view: int | None = None
    satellites: tuple[InView, ...] = ()
    signal: str | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        parts = [_put_int(self.total), _put_int(self.number), _put_int(self.in_view, 2)]
        for seen in self.satellites[:4]:
            parts += [_put_int(seen.number, 2), _put_int(seen.elevation_deg, 2)]
            parts += [_put_int(seen.azimuth_deg, 3), _put_int(seen.snr_db, 2)]
        return (*parts, *([self.signal] if self.signal else []))


@dataclass(frozen=True, slots=True)
class VTG:
    """Course and speed over ground."""

    kind: ClassVar[str] = "VTG"
    course_deg: float | None = None
    course_magnetic_deg: float | None = None
    speed_m_s: float | None = None
    mode: str | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        kmh = None if self.speed_m_s is None else self.speed_m_s / _KMH_M_S
        courses = (_put(self.course_deg, 3), "T", _put(self.course_magnetic_deg, 3), "M")
        return (*courses, _put(_knots(self.speed_m_s), 4), "N", _put(kmh, 4), "K", self.mode or "")


@dataclass(frozen=True, slots=True)
class ZDA:
    """Time and date, with all four digits of the year."""

    kind: ClassVar[str] = "ZDA"
    time_s: float | None = None
    date: dt.date | None = None
    zone_h: int | None = None
    zone_min: int | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        date = self.date.strftime("%d,%m,%Y").split(",") if self.date else ["", "", ""]
        return (_put_time(self.time_s), *date, _put_int(self.zone_h, 2), _put_int(self.zone_min, 2))


@dataclass(frozen=True, slots=True)
class GST:
    """Standard deviations of the position, m."""

    kind: ClassVar[str] = "GST"
    time_s: float | None = None
    rms_m: float | None = None
    latitude_m: float | None = None
    longitude_m: float | None = None
    altitude_m: float | None = None

    def fields(self) -> tuple[str, ...]:
        """The fields of its sentence."""
        sides = (_put(self.latitude_m, 3), _put(self.longitude_m, 3), _put(self.altitude_m, 3))
        return (_put_time(self.time_s), _put(self.rms_m, 3), "", "", "", *sides)


# -- from a sentence --------------------------------------------------------------------------------------------------


def parse(sentence: Sentence) -> Record | None:
    """What `sentence` says; None for a kind that is not known, or a maker's own.

    Raises ProtocolError: a field holds what it cannot hold; the context names kind and fields.
    """
    read = None if sentence.talker == "P" or sentence.start != "$" else _READERS.get(sentence.kind)
    if read is None:
        return None
    try:
        return read(sentence)
    except ValueError as error:
        raise ProtocolError(
            f"the receiver's {sentence.talker}{sentence.kind} cannot be read: {error}",
            context={"kind": sentence.kind, "fields": list(sentence.fields)},
        ) from error


def sentence_of(record: Record, talker: str = "GP") -> Sentence:
    """The sentence that says `record`."""
    return Sentence(talker, record.kind, record.fields())


def _gga(s: Sentence) -> GGA:
    quality = _int(s.field(5))
    return GGA(
        _time(s.field(0)),
        *_place(s, 1, holds=quality != 0),
        quality,
        _int(s.field(6)),
        _float(s.field(7)),
        _float(s.field(8)),
        _float(s.field(10)),
        _float(s.field(12)),
    )


def _gns(s: Sentence) -> GNS:
    modes = s.field(5)
    return GNS(
        _time(s.field(0)),
        *_place(s, 1, holds=bool(modes.strip("N"))),
        modes or None,
        _int(s.field(6)),
        _float(s.field(7)),
        _float(s.field(8)),
        _float(s.field(9)),
        _float(s.field(10)),
    )


def _rmc(s: Sentence) -> RMC:
    turned = _float(s.field(9))
    valid = _valid(s.field(1))
    return RMC(
        _time(s.field(0)),
        valid,
        *_place(s, 2, holds=valid is not False),
        _scaled(s.field(6), KNOT_M_S),
        _float(s.field(7)),
        _date(s.field(8)),
        -turned if turned is not None and s.field(10) == "W" else turned,
        s.field(11) or None,
    )


def _gll(s: Sentence) -> GLL:
    valid = _valid(s.field(5))
    return GLL(*_place(s, 0, holds=valid is not False), _time(s.field(4)), valid, s.field(6) or None)


def _gsa(s: Sentence) -> GSA:
    used = [_int(s.field(number)) for number in range(2, 14)]
    dops = (_float(s.field(14)), _float(s.field(15)), _float(s.field(16)))
    given = tuple(number for number in used if number is not None)
    return GSA(s.field(0) or None, _int(s.field(1)), given, *dops, s.field(17) or None)


def _gsv(s: Sentence) -> GSV:
    rest = len(s.fields) - 3
    satellites = [
        InView(*(_int(s.field(3 + 4 * number + part)) for part in range(4))) for number in range(min(rest // 4, 4))
    ]
    signal = s.field(len(s.fields) - 1) if rest > 0 and rest % 4 == 1 else ""
    seen = tuple(satellite for satellite in satellites if satellite.number is not None)
    return GSV(_int(s.field(0)), _int(s.field(1)), _int(s.field(2)), seen, signal or None)


def _vtg(s: Sentence) -> VTG:
    if "T" not in s.fields[:2] and len(s.fields) in {4, 5}:  # before NMEA 2: course, course, knots, km/h, no letters
        return VTG(_float(s.field(0)), _float(s.field(1)), _scaled(s.field(2), KNOT_M_S))
    knots, kmh = _scaled(s.field(4), KNOT_M_S), _scaled(s.field(6), _KMH_M_S)
    return VTG(_float(s.field(0)), _float(s.field(2)), kmh if knots is None else knots, s.field(8) or None)


def _zda(s: Sentence) -> ZDA:
    day, month, year = (_int(s.field(number)) for number in (1, 2, 3))
    date = None
    if day and month and year:
        date = dt.date(year if year > 99 else _century(year), month, day)
    return ZDA(_time(s.field(0)), date, _int(s.field(4)), _int(s.field(5)))


def _gst(s: Sentence) -> GST:
    return GST(_time(s.field(0)), _float(s.field(1)), _float(s.field(5)), _float(s.field(6)), _float(s.field(7)))


_READERS: dict[str, Callable[[Sentence], Record]] = {
    "GGA": _gga, "GNS": _gns, "RMC": _rmc, "GLL": _gll, "GSA": _gsa, "GSV": _gsv, "VTG": _vtg, "ZDA": _zda, "GST": _gst
}  # fmt: skip


def _float(text: str) -> float | None:
    if not text:
        return None
    if len(text) > 32 or not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)


def _int(text: str) -> int | None:
    value = _float(text)
    if value is None:
        return None
    if value != int(value):
        raise ValueError(f"{text!r} is no whole number")
    return int(value)


def _scaled(text: str, factor: float) -> float | None:
    value = _float(text)
    return None if value is None else value * factor


def _valid(text: str) -> bool | None:
    if text not in {"", "A", "V"}:
        raise ValueError(f"{text[:40]!r} is no status: A or V")
    return text == "A" if text else None


def _time(text: str) -> float | None:
    if not text:
        return None
    match = _TIME.fullmatch(text)
    if match is None or len(text) > 16:
        raise ValueError(f"{text[:40]!r} is no time hhmmss.ss")
    hours, minutes, seconds = int(match[1]), int(match[2]), float(match[3])
    if hours > 23 or minutes > 59 or seconds >= 61:  # 60.x within a leap second
        raise ValueError(f"{text!r} is no time of a day")
    return hours * 3600 + minutes * 60 + seconds


def _century(year: int) -> int:
    return year + (1900 if year >= _PIVOT else 2000)


def _date(text: str) -> dt.date | None:
    if not text or text == "000000":  # what some receivers say before they know
        return None
    if not re.fullmatch(r"\d{6}", text):
        raise ValueError(f"{text[:40]!r} is no date ddmmyy")
    return dt.date(_century(int(text[4:])), int(text[2:4]), int(text[:2]))


def _place(s: Sentence, first: int, *, holds: bool) -> tuple[float | None, float | None]:
    """Latitude and longitude from field `first` on. A receiver without a fix may send what lies on no globe: 8960.0 N.

    Raises ValueError: it is no place, and the sentence says that it `holds`.
    """
    try:
        return (
            _angle(s.field(first), s.field(first + 1), "NS"),
            _angle(s.field(first + 2), s.field(first + 3), "EW"),
        )
    except ValueError:
        if holds:
            raise
        return None, None


def _angle(text: str, side: str, sides: str) -> float | None:
    """Degrees of `dddmm.mmmm` and a letter, the second of `sides` being negative."""
    if not text or not side:
        return None
    match = _ANGLE.fullmatch(text)
    if match is None or side not in sides or len(text) > 24:
        raise ValueError(f"{text[:40]!r} {side[:8]!r} is no angle ddmm.mmmm with {sides[0]} or {sides[1]}")
    value = int(match[1]) + float(match[2]) / 60
    if float(match[2]) >= 60 or value > (90 if sides == "NS" else 180):
        raise ValueError(f"{text!r} is no angle on the globe")
    return -value if side == sides[1] else value


# -- to a sentence ----------------------------------------------------------------------------------------------------


def _knots(speed_m_s: float | None) -> float | None:
    return None if speed_m_s is None else speed_m_s / KNOT_M_S


def _put(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _put_int(value: int | None, width: int = 1) -> str:
    return "" if value is None else f"{value:0{width}d}"


def _put_valid(value: bool | None) -> str:
    return "" if value is None else "VA"[value]


def _put_time(value: float | None) -> str:
    if value is None:
        return ""
    thousandths = round(value * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    if minutes >= 1440:  # the leap second: 23:59:60
        minutes, rest = 1439, rest + 60_000
    return f"{minutes // 60:02d}{minutes % 60:02d}{rest / 1000:06.3f}"


def _put_angle(value: float | None, digits: int, sides: str) -> tuple[str, str]:
    """To 1e-6 minutes, 2 mm on the ground."""
    if value is None:
        return "", ""
    degrees, minutes = divmod(round(abs(value) * 60e6), 60_000_000)
    return f"{degrees:0{digits}d}{minutes / 1e6:09.6f}", sides[value < 0]
