"""Satellite receivers: NMEA 0183 over a serial port or TCP, or whatever gpsd makes of a receiver."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from vfab.model.errors import DriverError, ProtocolError, TimeoutExceeded
from vfab.protocols.gpsd import UNWATCH, WATCH, GpsdClient
from vfab.protocols.nmea import Fix, FixAssembler, NmeaReceiver, Sentence
from vfab.sdk.driver import Environment
from vfab.sdk.link import Link
from vfab.sdk.sensor import Pump, Quantity, ReadingStatus, Sample, SampleFeed, SensorDriver

__all__ = ["NmeaGpsDriver", "NmeaSource", "sample_of"]

_METRES_PER_DEGREE = 111_320.0
_QUIET_S = 1.0
_ENOUGH_BYTES = 2000
_QUALITY_FLAGS = {6: "dead-reckoning", 7: "manual-position", 8: "simulated"}
_NAMES = {
    "latitude": "latitude_deg", "longitude": "longitude_deg", "altitude": "altitude_m", "speed": "speed_m_s",
    "course": "course_deg", "hdop": "hdop", "satellites": "satellites",
}  # fmt: skip
_PLACE = ("latitude", "longitude", "altitude", "speed", "course")


class NmeaSource:
    """A receiver that speaks NMEA: bytes in, fixes out.

    Attributes:
        kinds: sentences seen, as `GPGGA`.
        own: the makers' own sentences of late, oldest first.
    """

    name = "nmea"

    def __init__(self) -> None:
        self.receiver = NmeaReceiver()
        self.kinds: set[str] = set()
        self.own: list[Sentence] = []
        self._assembler = FixAssembler()

    @property
    def answered(self) -> bool:
        """It has said something that is NMEA."""
        return bool(self.kinds)

    def receive(self, data: bytes) -> list[Fix]:
        """Take what has come."""
        fixes = []
        for sentence in self.receiver.receive(data):
            if len(self.kinds) < 200:
                self.kinds.add(sentence.talker + sentence.kind)
            if sentence.talker == "P":
                self.own = [*self.own[-19:], sentence]
            fixes += self._assembler.add(sentence)
        return fixes

    def details(self) -> dict[str, Any]:
        """For `SensorInfo`."""
        seen = self.receiver
        return {
            "sentences": sorted(self.kinds),
            "own": [sentence.to_bytes().decode("ascii").strip() for sentence in self.own],
            "bad": seen.bad,
            "skipped_bytes": seen.skipped_bytes,
            "binary_frames": seen.binary_frames,
        }


class _GpsdSource:
    """gpsd: reports in, fixes out."""

    name = "gpsd"

    def __init__(self) -> None:
        self.client = GpsdClient()

    @property
    def answered(self) -> bool:
        return bool(self.client.version)

    def receive(self, data: bytes) -> list[Fix]:
        return self.client.receive(data)

    def details(self) -> dict[str, Any]:
        client = self.client
        said = {"gpsd": client.version, "receivers": list(client.devices), "bad": client.bad}
        return {**said, "error": client.error} if client.error else said


class NmeaGpsDriver(SensorDriver):
    """Reads a receiver. A thread takes what the receiver says; a reading is the next fix, the stream has every one.

    Events while interrupts are enabled: `fix_acquired` and `fix_lost` (time_s, device_time_s).
    """

    interface: ClassVar[str] = "serial"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._link: Link | None = None
        self._source: NmeaSource | _GpsdSource = NmeaSource()
        self._feed = SampleFeed()
        self._pump: Pump | None = None
        self._had_fix: bool | None = None

    def quantities(self) -> Sequence[Quantity]:
        """Position (WGS 84), speed, course, and how good they are."""
        uere_m = float(self.config["uere_m"])
        source = f"HDOP times a range error of {uere_m:g} m (setting uere_m), or the receiver's own estimate"
        return (
            Quantity(name="latitude", unit="deg", minimum=-90, maximum=90, uncertainty_source=source),
            Quantity(name="longitude", unit="deg", minimum=-180, maximum=180, uncertainty_source=source),
            Quantity(name="altitude", unit="m", uncertainty_source=source),
            Quantity(name="speed", unit="m/s", minimum=0),
            Quantity(name="course", unit="deg", minimum=0, maximum=360),
            Quantity(name="hdop", unit="1", minimum=0),
            Quantity(name="satellites", unit="1", minimum=0),
        )

    def open_sensor(self) -> None:
        """Open the link and wait for something that a receiver, or gpsd, says.

        Raises TimeoutExceeded: it says nothing. ProtocolError: what it says is neither; the speed may be wrong.
        """
        link = self._link = self.open_link(baudrate=self.config["baudrate"])
        self._feed, self._had_fix = SampleFeed(), None
        self._source = _GpsdSource() if self.config["protocol"] == "gpsd" else NmeaSource()
        serial = self.device.address.startswith("/")
        if serial:
            link.discard_input()  # what the port has kept since some other time
        undecided = self.config["protocol"] == "auto" and not serial
        deadline, came = time.monotonic() + float(self.config["timeout_s"]), 0
        while not self._source.answered:
            left = deadline - time.monotonic()
            if left <= 0 or (came > _ENOUGH_BYTES and left < float(self.config["timeout_s"]) / 2):
                raise self._not_understood(came)
            try:
                data = link.read(timeout_s=left)
            except TimeoutExceeded:
                continue
            if undecided and data.lstrip():
                undecided = False
                if data.lstrip().startswith(b"{"):
                    self._source = _GpsdSource()
            came += len(data)
            self._publish(self._source.receive(data))
        if self._source.name == "gpsd":
            link.write(WATCH)
        self._pump = Pump("vfab-gps", self._feed, self._take)

    def _not_understood(self, came: int) -> DriverError:
        address, timeout_s = self.device.address, float(self.config["timeout_s"])
        if not came:
            return TimeoutExceeded(
                f"the receiver at {address} said nothing for {timeout_s:g} s",
                context={"address": address, "timeout_s": timeout_s},
                remedy="Check cable and supply; some receivers speak only after they were configured.",
            )
        return ProtocolError(
            f"{address} sent {came} bytes and no NMEA sentence",
            context={"address": address, "bytes": came, **self._source.details()},
            remedy="Set another baudrate (4800, 9600, 38400, 115200 are usual); is it a satellite receiver?",
        )

    def close_sensor(self) -> None:
        """End the thread, and let go of the receiver."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.stop()
        self._feed = SampleFeed()
        link, self._link = self._link, None
        if link is not None:
            if self._source.name == "gpsd" and not link.closed:
                self._say_goodbye(link)
            self.close_link(link)

    def _say_goodbye(self, link: Link) -> None:
        try:
            link.write(UNWATCH, timeout_s=0.2)
        except DriverError:
            self.log.debug("gpsd is gone already")

    def sensor_open(self) -> bool:
        """The link is open, and was still good when something last came."""
        return self._pump is not None and self._pump.running

    def feed(self) -> SampleFeed | None:
        """Every fix."""
        return self._feed

    def take_sample(self) -> Sample:
        """The next fix.

        Raises TimeoutExceeded: none came within `timeout_s`. LinkLost: the receiver is gone.
        """
        timeout_s = float(self.config["timeout_s"])
        _, sample, _ = self._feed.after(self._feed.count, timeout_s)
        if sample is None:
            details = self._source.details()
            raise TimeoutExceeded(
                f"no position report came for {timeout_s:g} s",
                context={"address": self.device.address, **details},
                remedy="Has gpsd a receiver? `info` lists them."
                if self._source.name == "gpsd"
                else "Does the receiver send GGA or RMC? `info` lists what it sends.",
            )
        return sample

    def _take(self) -> None:
        link = self._link
        if link is None:
            return
        try:
            data = link.read(timeout_s=_QUIET_S)
        except TimeoutExceeded:
            return
        self._publish(self._source.receive(data))

    def _publish(self, fixes: Sequence[Fix]) -> None:
        for fix in fixes:
            sample = sample_of(fix, float(self.config["uere_m"]))
            self._feed.publish(sample)
            if fix.valid != self._had_fix:
                if self.interrupts_enabled and self._had_fix is not None:
                    kind = "fix_acquired" if fix.valid else "fix_lost"
                    self.emit(kind, time_s=sample.time_s, device_time_s=fix.time_s)
                self._had_fix = fix.valid

    def describe(self) -> dict[str, Any]:
        """What the receiver has said so far."""
        return {"details": {"protocol": self._source.name, **self._source.details()}}


def sample_of(fix: Fix, uere_m: float) -> Sample:
    """What a fix says in UCUM units. Without a fix there is no position; `bad` and the flag `no-fix` say so."""
    said = asdict(fix)
    values = {name: float(said[field]) for name, field in _NAMES.items() if said[field] is not None}
    flags = [_QUALITY_FLAGS[fix.quality]] if fix.quality in _QUALITY_FLAGS else []
    status = ReadingStatus.UNCERTAIN if flags else ReadingStatus.GOOD
    if not fix.valid:
        values = {name: value for name, value in values.items() if name not in _PLACE}
        flags, status = ["no-fix"], ReadingStatus.BAD
    elif fix.dimensions == 2:
        flags.append("no-altitude")
        values.pop("altitude", None)
    if fix.bad:
        flags.append("bad-sentences")
    given = fix.latitude_u_m is not None and fix.longitude_u_m is not None
    return Sample(
        values,
        raw={name: value for name, value in said.items() if value is not None},
        device_time_s=fix.time_s,
        time_s=time.time(),
        status=status,
        flags=tuple(flags),
        uncertainties=_uncertainties(fix, uere_m) if fix.valid else {},
        uncertainty_source="told by the receiver" if given else "",
    )


def _uncertainties(fix: Fix, uere_m: float) -> dict[str, float]:
    """Standard uncertainties: the receiver's, or dilution times range error, shared evenly by north and east."""
    along_m = None if fix.hdop is None else fix.hdop * uere_m / math.sqrt(2)
    north_m = along_m if fix.latitude_u_m is None else fix.latitude_u_m
    east_m = along_m if fix.longitude_u_m is None else fix.longitude_u_m
    up_m = fix.altitude_u_m
    if up_m is None and fix.vdop is not None:
        up_m = fix.vdop * uere_m
    found: dict[str, float] = {}
    if north_m is not None:
        found["latitude"] = north_m / _METRES_PER_DEGREE
    if east_m is not None:
        shrunk = max(1e-6, math.cos(math.radians(fix.latitude_deg or 0.0)))
        found["longitude"] = east_m / (_METRES_PER_DEGREE * shrunk)
    if up_m is not None:
        found["altitude"] = up_m
    return found
