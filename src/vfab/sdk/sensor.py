"""SensorDriver: what every sensor's driver can do, and what its author writes.

An author says what is measured (`quantities`), opens and closes the device, and takes one sample; everything else is
here: calibration, uncertainties, thresholds and interrupts as events, streaming at a beat that does not drift::

    class Thermometer(SensorDriver):
        def quantities(self): return (Quantity(name="temperature", unit="Cel", uncertainty=0.3),)
        def open_sensor(self): self.link = self.open_link()
        def close_sensor(self): ...
        def take_sample(self): return Sample({"temperature": ...}, raw=...)

Sensors that speak by themselves publish into a `SampleFeed` and return it from `feed`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vfab.model.errors import ConfigurationError, DriverError, IllegalTransition, LinkLost, Refused
from vfab.model.settings import faults, nearest, parse_text
from vfab.sdk.driver import Environment, command
from vfab.sdk.sensor_calibration import CalibrationStore, Point, through
from vfab.sdk.sensor_data import CalibrationResult, Quantity, ReadingStatus, Sample, SensorInfo, SensorReading
from vfab.sdk.sensor_feed import Pump, SampleFeed
from vfab.sdk.sensor_limits import Beat
from vfab.sdk.sensor_watch import FAILURES_MAX, LOOK_S, SensorWatching
from vfab.sdk.stream import Streaming, StreamType, StreamWriter

__all__ = [
    "CalibrationResult",
    "Pump",
    "Quantity",
    "ReadingStatus",
    "Sample",
    "SampleFeed",
    "SensorDriver",
    "SensorInfo",
    "SensorReading",
]

_PERIOD_S = 1.0


class SensorDriver(Streaming, SensorWatching):
    """Base of every sensor's driver (seed 000).

    Settings that it knows, if the manifest's `config_schema` has them: `period_s` of streams, `watch_period_s` between
    readings while interrupts are enabled, `thresholds` (a list of mappings as `set_threshold` takes them) and
    `interrupts` (enable them on connect), so that a driver that was started again watches as before.

    Events: `threshold_crossed` (quantity, level, direction, active, value, unit, time_s, sequence) while interrupts
    are enabled; `interrupts_failed` when the sensor cannot be watched any more; `reading_failed` within a stream.
    """

    stream_type: ClassVar[StreamType] = StreamType.SENSOR
    interface: ClassVar[str] = ""
    """What the sensor hangs on, for `SensorInfo`: `i2c`, `gpio`, `serial` …"""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._sampling = threading.RLock()
        self._calibrations = CalibrationStore(environment.state_dir)
        self._sequence = 0
        self._beat: Beat | None = None
        self._lost_readings = 0
        self._stream_from = 0
        self._gone = False

    # -- what the author writes ---------------------------------------------------------------------------------------

    def quantities(self) -> Sequence[Quantity]:
        """What is measured. It may depend on settings, and on the device once it is open."""
        raise NotImplementedError

    def open_sensor(self) -> None:
        """Open the device and find out that it is the right one. What it raises is followed by `close_sensor`."""
        raise NotImplementedError

    def close_sensor(self) -> None:
        """Let go of the device. Also called when it is not open, or half."""
        raise NotImplementedError

    def sensor_open(self) -> bool:
        """The device is open."""
        raise NotImplementedError

    def take_sample(self) -> Sample:
        """Measure once. Calls come one at a time, maybe from several threads."""
        raise NotImplementedError

    def feed(self) -> SampleFeed | None:
        """Where the samples of a sensor that speaks by itself come; None for one that must be asked."""
        return None

    def describe(self) -> dict[str, Any]:
        """Fields of `SensorInfo` that are known: manufacturer, model, serial_number, firmware, details."""
        return {}

    def apply_settings(self) -> None:
        """Take over changed settings while connected. Default: close and open again."""
        self.close_sensor()
        self.open_sensor()

    # -- the life -----------------------------------------------------------------------------------------------------

    @command
    def connect(self) -> bool:
        """Open the sensor. Connected already, it is opened afresh.

        Raises what `open_sensor` raises; nothing is left open then.
        """
        self._end_threads()
        with self._sampling:
            self.close_sensor()
            self._calibrations.load()
            if self._calibrations.problem:
                self.log.warning("the sensor is not calibrated: %s", self._calibrations.problem)
            self._gone = False
            try:
                self.open_sensor()
                self._take_thresholds()
            except BaseException:
                self.close_sensor()
                raise
        if self.config.get("interrupts"):
            self.enable_interrupts()
        return True

    @command
    def disconnect(self) -> None:
        """End stream and interrupts, and let go of the sensor. Without a connection, nothing."""
        self._end_threads()
        with self._sampling:
            self.close_sensor()

    @command
    def reset(self) -> None:
        """Interrupts off, thresholds as in the settings. The calibration stays."""
        self.disable_interrupts()
        with self._sampling:
            self._take_thresholds()

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """Whether the sensor is open."""
        return self.sensor_open() and not self._gone

    @command
    def test_connection(self) -> dict[str, Any]:
        """Read once: `{"success", "message", "details"}`."""
        if not self.sensor_open():
            return {"success": False, "message": "not connected", "details": {}}
        try:
            reading = self.read_sensor()
        except DriverError as error:
            return {"success": False, "message": error.message, "details": error.to_public()}
        units = {name: "" if unit == "1" else f" {unit}" for name, unit in reading.units.items()}
        shown = ", ".join(f"{name} {value:g}{units[name]}" for name, value in reading.values.items())
        told = "" if reading.status == ReadingStatus.GOOD else f" ({reading.status}: {', '.join(reading.flags)})"
        details = {"values": reading.values, "status": reading.status, "flags": list(reading.flags)}
        return {"success": True, "message": f"{shown or 'no value'}{told}", "details": details}

    def _end_threads(self) -> None:
        self.disable_interrupts()
        feed = self.feed()
        if feed is not None:
            feed.wake()
        self.stop_streaming()

    # -- reading ------------------------------------------------------------------------------------------------------

    @command
    def read_sensor(self) -> SensorReading:
        """Measure once (seed 000).

        Raises IllegalTransition: not connected. LinkLost: the sensor is gone. TimeoutExceeded: it does not answer.
        """
        return self._read_now()

    @command
    def get_raw_value(self) -> Any:
        """Measure once, and tell what the device said: registers, counts, sentences (seed 000)."""
        return self._sample().raw

    def _read_now(self) -> SensorReading:
        """Readings are taken one after another, so that thresholds see them in their order."""
        if self.feed() is not None:
            return self._reading(self._sample())
        with self._sampling:
            return self._reading(self._sample(), look=True)

    def _sample(self) -> Sample:
        feed = self.feed()
        if feed is not None and feed.error is not None:
            raise feed.error
        if feed is not None and self.sensor_open():
            return self.take_sample()  # it waits for what comes, and touches no device
        with self._sampling:
            if not self.sensor_open():
                raise IllegalTransition(
                    f"{self.manifest.name} is not connected",
                    context={"address": self.device.address},
                    remedy="Connect it: vfab device connect",
                )
            try:
                return self.take_sample()
            except LinkLost:
                self._gone = True
                raise

    def _reading(self, sample: Sample, *, look: bool = False) -> SensorReading:
        known = {quantity.name: quantity for quantity in self.quantities()}
        values: dict[str, float] = {}
        uncertainties: dict[str, float] = {}
        sources: dict[str, str] = {}
        flags = list(sample.flags)
        for name, measured in sample.values.items():
            quantity = known[name]
            calibration = self._calibrations.get(name)
            values[name] = measured if calibration is None else calibration.apply(measured)
            own = sample.uncertainties.get(name)
            u = quantity.uncertainty if own is None else own
            if u is not None:
                uncertainties[name] = u if calibration is None else calibration.uncertainty(measured, u)
                sources[name] = _source(quantity, sample if own is not None else None, calibration is not None)
            flags += _range_flags(quantity, measured)
        if self._calibrations.problem:
            flags.append("calibration-unreadable")
        status = sample.status
        if status is ReadingStatus.GOOD and {"calibration-unreadable", "over-range", "under-range"} & set(flags):
            status = ReadingStatus.UNCERTAIN
        with self._watch_lock:
            self._sequence += 1
            sequence = self._sequence
        reading = SensorReading(
            values=values,
            units={name: known[name].unit for name in values},
            uncertainties=uncertainties,
            uncertainty_source=sources,
            time_s=time.time() if sample.time_s is None else sample.time_s,
            device_time_s=sample.device_time_s,
            sequence=sequence,
            raw=sample.raw,
            status=status.value,
            flags=tuple(dict.fromkeys(flags)),
        )
        if look:
            self._look_at_thresholds(reading)
        return reading

    # -- settings -----------------------------------------------------------------------------------------------------

    @command
    def configure_sensor(self, config: Mapping[str, Any]) -> bool:
        """Change settings while connected (seed 000); the names are those of the driver's schema.

        Raises ConfigurationError: a name or a value that the schema does not allow, or the device refuses; the
        settings before are in force again. They last until the driver ends: `vfab config set` keeps them.
        """
        schema = self.get_config_schema()
        properties = schema.get("properties", {})
        for name in config:
            if name not in properties:
                raise ConfigurationError(
                    f"{self.manifest.name} has no setting {name!r}",
                    context={"field": name, "known": sorted(properties)},
                    remedy=f"{nearest(name, sorted(properties))}.",
                )
        found = faults(schema, {**self.config, **config})
        if found:
            raise ConfigurationError(
                f"{self.manifest.name}: {found[0].field} cannot be {found[0].found}",
                context={"field": found[0].field, "found": found[0].found, "expected": found[0].expected},
                remedy=f"Right would be {found[0].expected}.",
            )
        with self._sampling:
            was_open = self.sensor_open()
            before, self.config = self.config, {**self.config, **config}
            try:
                self.quantities()
                if was_open:
                    self.apply_settings()
                if "thresholds" in config:
                    self._take_thresholds()
            except BaseException:
                self.config = before
                if was_open and not self.sensor_open():
                    self._reopen_quietly()
                raise
        return True

    def _reopen_quietly(self) -> None:
        try:
            self.open_sensor()
        except DriverError as error:
            self.log.warning("the settings before could not be taken up again: %s", error.message)
            self.close_sensor()

    @command
    def configure(self, setting: str, value: str) -> bool:
        """Change one setting, its value as text; what `vfab device send DEVICE configure` calls."""
        properties = self.get_config_schema().get("properties", {})
        try:
            read = parse_text(value, properties[setting]) if setting in properties else value
        except ValueError as error:
            raise ConfigurationError(
                f"{self.manifest.name}: {setting} cannot be {value!r}",
                context={"field": setting, "found": value, "expected": str(error)},
                remedy=f"Right would be {error}.",
            ) from error
        return self.configure_sensor({setting: read})

    @command(concurrent=True)
    def get_sensor_info(self) -> SensorInfo:
        """What is known about the sensor (seed 000). Not connected, what can be known without it."""
        with self._watch_lock:
            thresholds = tuple(threshold.to_dict() for threshold in self._thresholds)
        return SensorInfo(
            name=self.manifest.name,
            interface=self.interface,
            address=self.device.address,
            quantities=tuple(self.quantities()),
            calibrated=self._calibrations.names,
            thresholds=thresholds,
            interrupts=self.interrupts_enabled,
            **self.describe(),
        )

    # -- calibration --------------------------------------------------------------------------------------------------

    @command
    def calibrate(
        self,
        reference: float | None = None,
        quantity: str | None = None,
        point: str = "",
        uncertainty: float = 0.0,
        samples: int = 1,
    ) -> CalibrationResult:
        """Calibrate against a reference (seed 000). The result is kept on disk and outlives the driver.

        Args:
            reference: the true value now, in the quantity's unit; None only tells what is in force.
            quantity: which one; needed when the sensor has several.
            point: "" one point, an offset; "low" and "high", in any order, two points: gain and offset;
                "clear" takes the calibration away.
            uncertainty: standard uncertainty of the reference, k = 1, in the quantity's unit.
            samples: how many readings are averaged.

        Raises Refused: the points do not make a calibration; what was in force still is.
        """
        chosen = self._quantity(quantity)
        if point not in {"", "low", "high", "clear"}:
            raise ConfigurationError(
                f"a calibration has no point {point!r}",
                context={"field": "point", "found": point},
                remedy="Points are low and high; clear takes the calibration away; nothing means an offset.",
            )
        if point == "clear":
            stored = self._calibrations.set(chosen.name, None)
            return self._calibration_result(chosen, stored, "the calibration was taken away")
        if reference is None:
            return self._calibration_result(chosen, self._calibrations.path is not None, "nothing was changed")
        measured = self._mean(chosen.name, samples)
        here = Point(measured, float(reference), float(uncertainty))
        before = self._calibrations.get(chosen.name) if point else None
        low = here if point != "high" else before.low if before is not None else None
        high = here if point == "high" else before.high if before is not None else None
        stored = self._calibrations.set(chosen.name, through(low, high, time.time()))
        kind = "two points" if low is not None and high is not None else "one point"
        return self._calibration_result(chosen, stored, f"calibrated at {kind}; {measured:g} was measured")

    def _mean(self, name: str, samples: int) -> float:
        if not 1 <= samples <= 10_000:
            raise ConfigurationError(
                f"{samples} readings cannot be averaged", context={"field": "samples"}, remedy="1 to 10000."
            )
        total = 0.0
        for _ in range(samples):
            self.checkpoint()
            sample = self._sample()
            if name not in sample.values or sample.status is ReadingStatus.BAD:
                raise Refused(
                    f"the sensor gives no good {name} now",
                    context={"flags": list(sample.flags)},
                    remedy="Calibrate when `read` shows a good reading.",
                )
            total += sample.values[name]
        return total / samples

    def _calibration_result(self, quantity: Quantity, stored: bool, message: str) -> CalibrationResult:
        now = self._calibrations.get(quantity.name)
        points = [point for point in (now.low, now.high) if point is not None] if now is not None else []
        return CalibrationResult(
            success=True,
            quantity=quantity.name,
            gain=1.0 if now is None else now.gain,
            offset=0.0 if now is None else now.offset,
            unit=quantity.unit,
            points=tuple((point.measured, point.reference) for point in points),
            stored=stored,
            time_s=None if now is None else now.time_s,
            message=message,
        )

    # -- streams ------------------------------------------------------------------------------------------------------

    @command(concurrent=True)
    def streaming_status(self) -> dict[str, Any]:
        """As every stream's, with `missed` (moments at which nobody was ready to read) and `failed` readings."""
        missed = self._beat.missed if self._beat is not None else 0
        return {**super().streaming_status(), "missed": missed, "failed": self._lost_readings}

    def open_acquisition(self, options: Mapping[str, Any]) -> StreamWriter:
        """The stream: each record is a mapping of values by quantity; `units` and `fields` say what they are."""
        unknown = sorted(set(options) - {"period_s"})
        if unknown:
            raise ConfigurationError(
                f"a sensor's stream has no option {unknown[0]!r}",
                context={"field": unknown[0], "known": ["period_s"]},
                remedy="Its option is period_s, seconds between readings.",
            )
        self._beat, self._lost_readings = None, 0
        self._period_s(options)
        feed = self.feed()
        self._stream_from = feed.count if feed is not None else 0
        quantities = self.quantities()
        return self.open_stream(
            self.stream_name,
            self.stream_type,
            fields=[quantity.name for quantity in quantities],
            units={quantity.name: quantity.unit for quantity in quantities},
        )

    def acquire(self, stream: StreamWriter, options: Mapping[str, Any]) -> None:
        """Read into `stream` until it is stopped: every sample of the feed, or one each `period_s`.

        A reading that fails is told by the event `reading_failed` and left out; the fifth in a row ends the stream,
        and so does the loss of the link.
        """
        feed = self.feed()
        if feed is not None:
            number = self._stream_from
            while self.acquiring():
                number, sample, lost = feed.after(number, LOOK_S, wanted=self.acquiring)
                if sample is not None:
                    self._send(stream, self._reading(sample), lost)
            return
        period_s = self._period_s(options)
        self._beat, self._lost_readings = Beat(period_s, time.monotonic()), 0
        failed = 0
        while self.acquiring():
            try:
                self._send(stream, self._read_now(), 0)
                failed = 0
            except DriverError as error:
                failed += 1
                self._lost_readings += 1
                if isinstance(error, LinkLost) or not error.retryable or failed >= FAILURES_MAX:
                    raise
                self.emit("reading_failed", error=error.to_public(), failed=failed)
            self.pause_s(self._beat.wait_s(time.monotonic()))

    def _period_s(self, options: Mapping[str, Any]) -> float:
        given = options.get("period_s")
        period_s = float(self.config.get("period_s") or _PERIOD_S) if given is None else float(given)
        if not 0 < period_s <= 86_400:
            raise ConfigurationError(
                f"a stream cannot have a period of {period_s:g} s",
                context={"field": "period_s", "found": period_s},
                remedy="Give seconds, more than 0.",
            )
        return period_s

    def _send(self, stream: StreamWriter, reading: SensorReading, lost: int) -> None:
        meta: dict[str, Any] = {}
        if reading.status != ReadingStatus.GOOD or reading.flags:
            meta = {"status": reading.status, "flags": list(reading.flags)}
        if lost:
            meta["lost_before"] = lost
        stream.send(reading.values, meta=meta or None, time_s=reading.time_s, device_time_s=reading.device_time_s)


def _source(quantity: Quantity, sample: Sample | None, calibrated: bool) -> str:
    source = (sample and sample.uncertainty_source) or quantity.uncertainty_source
    return f"{source}; calibrated" if calibrated else source


def _range_flags(quantity: Quantity, value: float) -> list[str]:
    if quantity.maximum is not None and value > quantity.maximum:
        return ["over-range"]
    if quantity.minimum is not None and value < quantity.minimum:
        return ["under-range"]
    return []
