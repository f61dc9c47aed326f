"""A satellite receiver that is not there: it drives round a known circle and tells where it is.

In a test::

    with NmeaGpsSimulator(rate_hz=10, faults=["noise@3"]) as sim:
        ...  # talk to sim.address
        sim.track.at(seconds)  # where it was

As a program: `python simulator.py [--rate HZ] [--talker GP] [--speed real|N|instant] [--fault KIND@AFTER]
[--tcp PORT] [--gpsd]` prints one JSON line and serves until SIGTERM. Faults happen after so many moments: `garble` (a
wrong checksum), `cut` (a sentence without its end), `noise` (binary frames with sentences in them), `no-fix` (ten
moments without a fix), `silent` (nothing any more), `unplug`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vfab.model.errors import ConfigurationError, DriverError
from vfab.protocols.nmea import GGA, GLL, GSA, GSV, RMC, VTG, ZDA, InView, Record, encode, sentence_of, ubx_frame
from vfab.sdk.simulation import refused, serve_until_told

if TYPE_CHECKING or __package__:
    from .cables import PtyCable, TcpCable
else:
    from cables import PtyCable, TcpCable

__all__ = ["FAULTS", "NmeaGpsSimulator", "Track", "main"]

FAULTS = ("garble", "cut", "noise", "no-fix", "silent", "unplug")
_NO_FIX_MOMENTS = 10
_INSTANT_HZ = 50.0
_EARTH_M = 6_371_008.8
_SATELLITES = (2, 5, 7, 13, 15, 21, 24, 29, 30)


@dataclass(frozen=True, slots=True)
class Track:
    """A circle, driven clockwise from its northernmost point at a constant speed."""

    latitude_deg: float = 48.137154
    longitude_deg: float = 11.576124
    altitude_m: float = 519.0
    radius_m: float = 100.0
    speed_m_s: float = 10.0

    def at(self, seconds: float) -> tuple[float, float, float]:
        """(latitude, longitude, course) in degrees, `seconds` after the start."""
        angle = seconds * self.speed_m_s / self.radius_m
        north_m, east_m = self.radius_m * math.cos(angle), self.radius_m * math.sin(angle)
        latitude = self.latitude_deg + math.degrees(north_m / _EARTH_M)
        longitude = self.longitude_deg + math.degrees(east_m / (_EARTH_M * math.cos(math.radians(self.latitude_deg))))
        return latitude, longitude, math.degrees(angle + math.pi / 2) % 360


class NmeaGpsSimulator:
    """A receiver, served by a thread of its own.

    Args:
        rate_hz: moments a second by its own clock, 1 to 10 as receivers have them.
        speed: how fast its clock runs: `real`, a factor, or `instant` (50 moments a second).
        talker: of its sentences.
        faults: `KIND@AFTER`, see above; each happens once.
        tcp: a TCP port of 127.0.0.1 instead of a pseudo-terminal; 0 for any.
        gpsd: speak gpsd's protocol on that port.
        start: its clock at the first moment.

    Attributes:
        address: where a client finds it.
        moments: how many have been told.
    """

    def __init__(
        self,
        rate_hz: float = 1.0,
        speed: str | float = "real",
        *,
        talker: str = "GP",
        faults: Sequence[str] = (),
        tcp: int | None = None,
        gpsd: bool = False,
        track: Track | None = None,
        start: dt.datetime = dt.datetime(2026, 5, 1, 12, 0, 0, tzinfo=dt.UTC),
    ) -> None:
        if not 0.1 <= rate_hz <= 50:
            raise ConfigurationError(
                f"{rate_hz:g} is no rate of a receiver.",
                context={"value": rate_hz},
                remedy="0.1 to 50 Hz; 1 to 10 are usual.",
            )
        self.rate_hz = rate_hz
        self.track = track or Track()
        self.start_time = start
        self.talker = talker
        self.moments = 0
        self._pause_s = _pause_s(rate_hz, speed)
        self._faults = dict(_fault(text) for text in faults)
        self._gpsd = gpsd
        self._cable: PtyCable | TcpCable = PtyCable() if tcp is None and not gpsd else TcpCable(tcp or 0, gpsd=gpsd)
        self._stopping = threading.Event()
        self._told = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where a client finds it; the same after a replug."""
        return self._cable.address

    def start(self) -> NmeaGpsSimulator:
        """Plug in and begin to speak."""
        self._cable.plug_in()
        self._thread = threading.Thread(target=self._speak, name="gps-simulator", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Fall silent and unplug."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._cable.close()

    def __enter__(self) -> NmeaGpsSimulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def unplug(self) -> None:
        """Pull the cable; the receiver goes on."""
        self._cable.unplug()

    def plug_in(self) -> None:
        """Plug the cable in again, at the same address."""
        self._cable.plug_in()

    def wait_moments(self, count: int, timeout_s: float = 30.0) -> bool:
        """Wait until `count` moments have been told; False when that took too long."""
        with self._told:
            return self._told.wait_for(lambda: self.moments >= count, timeout_s)

    def _speak(self) -> None:
        began, number = time.monotonic(), 0
        while not self._stopping.wait(max(0.0, began + number * self._pause_s - time.monotonic())):
            if not self._is("silent"):
                if isinstance(self._cable, TcpCable):
                    self._cable.write(self.moment_bytes(number), self.gpsd_reports(number))
                else:
                    self._cable.write(self.moment_bytes(number))
            if self._faults.get("unplug") == number:
                self._cable.unplug()
            number += 1
            with self._told:
                self.moments = number
                self._told.notify_all()

    # -- what it says -------------------------------------------------------------------------------------------------

    def _is(self, fault: str, moment: int | None = None) -> bool:
        after = self._faults.get(fault)
        return after is not None and (self.moments >= after if moment is None else moment == after)

    def has_fix(self, number: int) -> bool:
        """Whether it knows where it is at moment `number`."""
        after = self._faults.get("no-fix")
        return after is None or not after <= number < after + _NO_FIX_MOMENTS

    def records(self, number: int) -> list[Record]:
        """What is said at moment `number`, in u-blox's order."""
        seconds = number / self.rate_hz
        now = self.start_time + dt.timedelta(seconds=seconds)
        time_s = round((now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds(), 3)
        if not self.has_fix(number):
            return [
                RMC(time_s, False, date=now.date(), mode="N"),
                VTG(mode="N"),
                GGA(time_s, quality=0, satellites=0, hdop=99.99),
                GSA("A", 1, (), 99.99, 99.99, 99.99),
                GSV(1, 1, 0),
                GLL(None, None, time_s, False, "N"),
                ZDA(time_s, now.date(), 0, 0),
            ]
        latitude, longitude, course = self.track.at(seconds)
        speed = self.track.speed_m_s
        seen = [InView(n, 10 + 7 * i, 37 * i % 360, 30 + i) for i, n in enumerate(_SATELLITES)]
        groups = [seen[i : i + 4] for i in range(0, len(seen), 4)]
        return [
            RMC(time_s, True, latitude, longitude, speed, course, now.date(), None, "A"),
            VTG(course, None, speed, "A"),
            GGA(time_s, latitude, longitude, 1, len(_SATELLITES), 0.9, self.track.altitude_m, 47.0),
            GSA("A", 3, _SATELLITES, 1.6, 0.9, 1.3),
            *(GSV(len(groups), i + 1, len(seen), tuple(group)) for i, group in enumerate(groups)),
            GLL(latitude, longitude, time_s, True, "A"),
            ZDA(time_s, now.date(), 0, 0),
        ]

    def moment_bytes(self, number: int) -> bytes:
        """The bytes of moment `number`, faults and all."""
        parts = [sentence_of(record, self.talker).to_bytes() for record in self.records(number)]
        if number == 0:
            parts.insert(0, encode("P", "VFAB", ["simulated receiver", "1"]))
        if self._is("garble", number):
            parts[2] = parts[2].replace(b",", b";", 1)
        if self._is("cut", number):
            parts[2] = parts[2][:20]
        if self._is("noise", number):
            parts.insert(1, ubx_frame(0x01, 0x07, b"".join(parts)[:200]) + b"\x00\xff$\xb5\xd3$GP")
        return b"".join(parts)

    def gpsd_reports(self, number: int) -> dict[str, dict[str, Any]]:
        """What gpsd reports at moment `number`, by class."""
        seconds = number / self.rate_hz
        now = self.start_time + dt.timedelta(seconds=seconds)
        latitude, longitude, course = self.track.at(seconds)
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if not self.has_fix(number):
            return {"TPV": {"device": "/dev/sim", "mode": 1, "time": stamp}}
        altitude_m = self.track.altitude_m
        place = {"lat": round(latitude, 9), "lon": round(longitude, 9), "altMSL": altitude_m, "alt": altitude_m}
        moving = {"speed": self.track.speed_m_s, "track": round(course, 4)}
        return {
            "SKY": {"device": "/dev/sim", "hdop": 0.9, "vdop": 1.3, "nSat": 9, "uSat": 9},
            "TPV": {"device": "/dev/sim", "mode": 3, "time": stamp, **place, **moving},
        }


def _pause_s(rate_hz: float, speed: str | float) -> float:
    if speed == "instant":
        return 1 / _INSTANT_HZ
    try:
        factor = 1.0 if speed == "real" else float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1000:
        raise ConfigurationError(
            f"{speed!r} is not a speed.", context={"value": str(speed)}, remedy="Write real, instant, or such as 10."
        )
    return 1 / (rate_hz * factor)


def _fault(text: str) -> tuple[str, int]:
    kind, _, after = text.partition("@")
    if kind not in FAULTS or not (after or "0").isdigit():
        raise ConfigurationError(
            f"{text!r} is not a fault.",
            context={"value": text},
            remedy=f"Write KIND@AFTER, KIND of {', '.join(FAULTS)}.",
        )
    return kind, int(after or 0)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vfab sim run nmea-gps", description="A simulated satellite receiver.")
    parser.add_argument("--rate", type=float, default=1.0, metavar="HZ", help="moments a second, 1 to 10")
    parser.add_argument("--talker", default="GP", help="GP, GN, GL, GA, BD …")
    parser.add_argument("--speed", default="real", help="real, instant, or how many times faster")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@AFTER", help=", ".join(FAULTS))
    parser.add_argument("--tcp", type=int, metavar="PORT", help="a TCP port of 127.0.0.1 instead of a pty; 0 = any")
    parser.add_argument("--gpsd", action="store_true", help="speak gpsd's protocol, on TCP")
    return parser.parse_args(list(argv))


def main(argv: Sequence[str]) -> int:
    """Run the simulator until SIGTERM or SIGINT; the process's exit code."""
    options = _arguments(argv)
    try:
        simulator = NmeaGpsSimulator(
            options.rate, options.speed, talker=options.talker, faults=options.fault, tcp=options.tcp, gpsd=options.gpsd
        )
        return serve_until_told("nmea-gps", simulator)
    except DriverError as error:
        return refused(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
