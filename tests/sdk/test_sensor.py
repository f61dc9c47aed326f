"""What every sensor's driver has from its base: readings, calibration, thresholds, interrupts, streams."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    HardwareError,
    IllegalTransition,
    LinkLost,
    Refused,
    TimeoutExceeded,
)
from vfab.model.manifest_text import manifest_from_yaml
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.sensor import Quantity, ReadingStatus, Sample, SampleFeed, SensorDriver
from vfab.sdk.sensor_calibration import CalibrationStore, Point, through
from vfab.sdk.sensor_feed import Pump
from vfab.sdk.sensor_limits import Beat, Threshold
from vfab.sdk.testing import DriverBench, soon
from vfab.sdk.ucum import display_unit, unit_problem

MANIFEST = manifest_from_yaml(
    b"""
name: probe
version: "1.0"
author: A. Author
description: A sensor for tests
category: sensor
driver_class: driver.Probe
config_schema:
  type: object
  additionalProperties: false
  properties:
    range_cel: {type: number, default: 50, minimum: 1}
    period_s: {type: number, default: 0.001}
    watch_period_s: {type: number, default: 0.001}
    interrupts: {type: boolean, default: false}
    thresholds: {type: array, default: [], items: {type: object}}
""",
    file="plugin.yaml",
)


class Probe(SensorDriver):
    """Temperature and humidity, as the test says them."""

    interface = "test"

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.truth: dict[str, float] = {"temperature": 20.0, "humidity": 40.0}
        self.sample_of: Callable[[], Sample] = lambda: Sample(dict(self.truth), raw=[1, 2])
        self.open = False
        self.fails_to_open: Exception | None = None
        self.opened = 0
        self.samples = threading.Semaphore(0)

    def quantities(self) -> Sequence[Quantity]:
        return (
            Quantity(
                name="temperature", unit="Cel", uncertainty=0.3, uncertainty_source="datasheet",
                maximum=self.config["range_cel"], minimum=-40,
            ),
            Quantity(name="humidity", unit="%"),
        )  # fmt: skip

    def open_sensor(self) -> None:
        self.opened += 1
        if self.fails_to_open is not None and self.config["range_cel"] != 50:
            raise self.fails_to_open
        self.open = True

    def close_sensor(self) -> None:
        self.open = False

    def sensor_open(self) -> bool:
        return self.open

    def take_sample(self) -> Sample:
        self.samples.release()
        return self.sample_of()

    def describe(self) -> dict[str, Any]:
        return {"model": "P1"}


@contextmanager
def bench(state: Path | None = None, *, connect: bool = True, **config: Any) -> Iterator[DriverBench[Probe]]:
    with DriverBench(Probe, MANIFEST, "/dev/probe", config=config, state_dir=state) as made:
        if connect:
            made.driver.connect()
        yield made


def events(b: DriverBench[Probe], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


# -- readings ---------------------------------------------------------------------------------------------------------


def test_a_reading_says_value_unit_uncertainty_source_time_and_order() -> None:
    with bench() as b:
        before = time.time()
        first, second = b.driver.read_sensor(), b.driver.read_sensor()
    assert first.values == {"temperature": 20.0, "humidity": 40.0}
    assert first.units == {"temperature": "Cel", "humidity": "%"}
    assert first.uncertainties == {"temperature": 0.3}, "what is not known is not said"
    assert first.uncertainty_source == {"temperature": "datasheet"}
    assert before <= first.time_s <= time.time()
    assert first.device_time_s is None
    assert second.sequence == first.sequence + 1
    assert (first.raw, first.status, first.flags) == ([1, 2], "good", ())


def test_a_reading_is_plain_data_on_the_wire() -> None:
    with bench() as b:
        reading = b.driver.read_sensor()
        info = b.driver.get_sensor_info()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reading))["values"] == {"temperature": 20.0, "humidity": 40.0}
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(info))
    assert plain["quantities"][0]["unit"] == "Cel"
    assert (plain["model"], plain["interface"], plain["address"]) == ("P1", "test", "/dev/probe")


def test_one_value_of_a_reading_is_had_by_name() -> None:
    with bench() as b:
        reading = b.driver.read_sensor()
        assert reading.value("humidity") == 40.0
        with pytest.raises(ConfigurationError, match="several"):
            reading.value()
        with pytest.raises(ConfigurationError, match="pressure"):
            reading.value("pressure")
        b.driver.sample_of = lambda: Sample({"humidity": 3.0})
        assert b.driver.read_sensor().value() == 3.0


def test_a_value_out_of_range_is_told_and_flagged() -> None:
    with bench() as b:
        b.driver.truth["temperature"] = 60.0
        hot = b.driver.read_sensor()
        b.driver.truth["temperature"] = -41.0
        cold = b.driver.read_sensor()
    assert (hot.values["temperature"], hot.status, hot.flags) == (60.0, "uncertain", ("over-range",))
    assert cold.flags == ("under-range",)


def test_what_the_device_says_of_a_sample_goes_before_the_datasheet() -> None:
    with bench() as b:
        b.driver.sample_of = lambda: Sample(
            {"temperature": 1.0}, device_time_s=5.0, time_s=7.0, status=ReadingStatus.BAD, flags=("no-fix",),
            uncertainties={"temperature": 0.1}, uncertainty_source="told by the device",
        )  # fmt: skip
        reading = b.driver.read_sensor()
    assert (reading.device_time_s, reading.time_s, reading.status, reading.flags) == (5.0, 7.0, "bad", ("no-fix",))
    assert reading.uncertainties == {"temperature": 0.1}
    assert reading.uncertainty_source == {"temperature": "told by the device"}


def test_without_a_connection_nothing_can_be_read() -> None:
    with bench(connect=False) as b:
        assert not b.driver.is_connected()
        for call in (b.driver.read_sensor, b.driver.get_raw_value, b.driver.enable_interrupts):
            with pytest.raises(IllegalTransition):
                call()
        assert b.driver.test_connection()["message"] == "not connected"
        b.driver.disconnect()
        b.driver.connect()
        assert b.driver.is_connected()
        assert b.driver.get_raw_value() == [1, 2]


def test_a_test_of_the_connection_reads_once_and_tells_what() -> None:
    with bench() as b:
        assert b.driver.test_connection()["message"] == "temperature 20 Cel, humidity 40 %"
        b.driver.sample_of = lambda: Sample({}, status=ReadingStatus.BAD, flags=("no-fix",))
        assert b.driver.test_connection()["message"] == "no value (bad: no-fix)"

        def fails() -> Sample:
            raise TimeoutExceeded("it does not answer")

        b.driver.sample_of = fails
        result = b.driver.test_connection()
    assert (result["success"], result["message"]) == (False, "it does not answer")


def test_an_opening_that_fails_leaves_nothing_open() -> None:
    with bench(connect=False, range_cel=60) as b:
        b.driver.fails_to_open = HardwareError("no chip")
        with pytest.raises(HardwareError):
            b.driver.connect()
        assert not b.driver.is_connected()


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_changed_while_connected_and_checked_before() -> None:
    with bench() as b:
        assert b.driver.configure_sensor({"range_cel": 80}) is True
        assert b.driver.opened == 2
        assert b.driver.configure("range_cel", "90") is True
        assert b.driver.quantities()[0].maximum == 90
        for wrong in ({"rang": 1}, {"range_cel": 0}, {"range_cel": "hot"}):
            with pytest.raises(ConfigurationError):
                b.driver.configure_sensor(wrong)
        with pytest.raises(ConfigurationError, match="hot"):
            b.driver.configure("range_cel", "hot")
        with pytest.raises(ConfigurationError, match="rang"):
            b.driver.configure("rang", "1")
        assert b.driver.config["range_cel"] == 90


def test_settings_that_the_device_refuses_are_taken_back() -> None:
    with bench() as b:
        b.driver.fails_to_open = HardwareError("not that range")
        with pytest.raises(HardwareError):
            b.driver.configure_sensor({"range_cel": 80})
        assert b.driver.config["range_cel"] == 50
        assert b.driver.read_sensor().values["temperature"] == 20.0


def test_without_a_connection_settings_wait_for_it() -> None:
    with bench(connect=False) as b:
        b.driver.configure_sensor({"range_cel": 80})
        assert b.driver.opened == 0


# -- calibration ------------------------------------------------------------------------------------------------------


def test_one_reference_makes_an_offset_and_its_uncertainty_counts(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        result = b.driver.calibrate(21.0, "temperature", uncertainty=0.4)
        reading = b.driver.read_sensor()
        assert (result.success, result.gain, result.offset, result.points) == (True, 1.0, 1.0, ((20.0, 21.0),))
        assert result.stored
        assert reading.values["temperature"] == 21.0
        assert reading.uncertainties["temperature"] == pytest.approx(math.hypot(0.3, 0.4))
        assert reading.uncertainty_source["temperature"] == "datasheet; calibrated"
        assert b.driver.get_sensor_info().calibrated == ("temperature",)


def test_two_references_in_any_order_make_gain_and_offset() -> None:
    for order in (("low", "high"), ("high", "low")):
        with bench() as b:
            for point in order:
                b.driver.truth["temperature"] = {"low": 1.0, "high": 41.0}[point]
                result = b.driver.calibrate({"low": 0.0, "high": 50.0}[point], "temperature", point)
            assert (result.gain, result.offset, result.stored) == (1.25, pytest.approx(-1.25), False)
            b.driver.truth["temperature"] = 21.0
            assert b.driver.read_sensor().values["temperature"] == pytest.approx(25.0)


def test_a_point_taken_again_replaces_the_one_before() -> None:
    with bench() as b:
        b.driver.calibrate(0.0, "temperature", "low")
        b.driver.truth["temperature"] = 10.0
        result = b.driver.calibrate(0.0, "temperature", "low")
        assert (result.gain, result.offset) == (1.0, -10.0)


def test_a_calibration_lasts_and_can_be_taken_away(tmp_path: Path) -> None:
    with bench(tmp_path) as b:
        b.driver.calibrate(25.0, "temperature")
    with bench(tmp_path) as b:
        assert b.driver.read_sensor().values["temperature"] == 25.0
        shown = b.driver.calibrate(quantity="temperature")
        assert (shown.offset, shown.message) == (5.0, "nothing was changed")
        b.driver.calibrate(quantity="temperature", point="clear")
        assert b.driver.read_sensor().values["temperature"] == 20.0
    with bench(tmp_path) as b:
        assert b.driver.read_sensor().values["temperature"] == 20.0
    assert json.loads((tmp_path / "calibration.json").read_text()) == {"schema": 1, "quantities": {}}
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"], "nothing half written is left"


def test_points_that_make_no_line_are_refused_and_what_was_in_force_still_is() -> None:
    with bench() as b:
        b.driver.calibrate(0.0, "temperature", "low")
        with pytest.raises(Refused, match="same"):
            b.driver.calibrate(50.0, "temperature", "high")
        b.driver.truth["temperature"] = 10.0
        with pytest.raises(Refused, match="upside down"):
            b.driver.calibrate(50.0, "temperature", "high")
        assert b.driver.calibrate(quantity="temperature").offset == -20.0
        with pytest.raises(ConfigurationError, match="middle"):
            b.driver.calibrate(1.0, "temperature", "middle")
        with pytest.raises(ConfigurationError, match="several"):
            b.driver.calibrate(1.0)
        with pytest.raises(ConfigurationError, match="0 readings"):
            b.driver.calibrate(1.0, "temperature", samples=0)


def test_readings_are_averaged_and_a_bad_one_is_no_reference() -> None:
    with bench() as b:
        values = iter([19.0, 20.0, 24.0])
        b.driver.sample_of = lambda: Sample({"temperature": next(values)})
        assert b.driver.calibrate(21.0, "temperature", samples=3).offset == 0.0
        b.driver.sample_of = lambda: Sample({"humidity": 1.0})
        with pytest.raises(Refused, match="no good temperature"):
            b.driver.calibrate(21.0, "temperature")


@pytest.mark.parametrize("text", ["", "{", '{"schema": 2}', "[]", '{"schema": 1, "quantities": 7}'])
def test_a_calibration_that_cannot_be_read_is_flagged_in_every_reading_and_kept_beside(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with bench(tmp_path) as b:
        reading = b.driver.read_sensor()
        assert (reading.status, reading.flags) == ("uncertain", ("calibration-unreadable",))
        b.driver.calibrate(21.0, "temperature")
        assert b.driver.read_sensor().flags == ()
    kept = [path for path in tmp_path.iterdir() if path.suffix == ".unreadable"]
    assert [path.read_text() for path in kept] == [text]


def test_a_calibration_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with bench(tmp_path / "file") as b:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            b.driver.calibrate(21.0, "temperature")
        assert b.driver.read_sensor().values["temperature"] == 20.0
    store = CalibrationStore(tmp_path / "file")
    store.load()
    assert "cannot be read" in store.problem


values = st.floats(-1e6, 1e6)


@given(values, values, values, values, st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
def test_a_line_goes_through_its_points_and_is_there_as_uncertain_as_they(
    x1: float, x2: float, r1: float, r2: float, u: float, u1: float, u2: float
) -> None:
    if abs(x2 - x1) < 1e-2 or (r2 - r1) * (x2 - x1) <= 0 or abs(r2 - r1) < 1e-2:
        return
    made = through(Point(x1, r1, u1), Point(x2, r2, u2))
    assert made.apply(x1) == pytest.approx(r1, abs=1e-3)
    assert made.apply(x2) == pytest.approx(r2, abs=1e-3)
    assert made.uncertainty(x1, u) == pytest.approx(math.hypot(made.gain * u, u1), rel=1e-6, abs=1e-9)
    assert made.uncertainty(x2, u) == pytest.approx(math.hypot(made.gain * u, u2), rel=1e-6, abs=1e-9)


# -- thresholds and interrupts ----------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-100, 100), max_size=60), st.floats(-50, 50), st.floats(0, 20), st.sampled_from(["high", "low"])
)
def test_a_threshold_is_crossed_and_left_by_turns_never_within_its_hysteresis(
    course: list[float], level: float, hysteresis: float, direction: str
) -> None:
    threshold = Threshold("x", level, direction, hysteresis)
    told = [(value, changed) for value in course if (changed := threshold.update(value)) is not None]
    assert [changed for _, changed in told] == [index % 2 == 0 for index in range(len(told))]
    for value, changed in told:
        beyond = value - level if direction == "high" else level - value
        assert beyond >= 0 if changed else beyond <= -hysteresis


def test_what_is_not_a_number_crosses_nothing() -> None:
    threshold = Threshold("x", 0.0)
    assert threshold.update(math.nan) is None
    assert threshold.active is None


def test_a_crossed_threshold_is_an_event_and_so_is_the_way_back() -> None:
    with bench() as b:
        b.driver.set_threshold(30.0, "temperature", hysteresis=2.0)
        b.driver.read_sensor()
        b.driver.truth["temperature"] = 31.0
        b.driver.read_sensor()
        assert events(b, "threshold_crossed") == [], "interrupts are not enabled"
        b.driver.enable_interrupts()
        b.driver.enable_interrupts()
        soon(lambda: len(events(b, "threshold_crossed")) == 1)
        b.driver.truth["temperature"] = 29.0  # within the hysteresis
        for _ in range(5):
            b.driver.samples.acquire(timeout=10)
        b.driver.truth["temperature"] = 27.0
        soon(lambda: len(events(b, "threshold_crossed")) == 2)
        b.driver.disable_interrupts()
        b.driver.disable_interrupts()
        over, back = events(b, "threshold_crossed")
    assert (over["active"], over["value"], over["unit"], over["level"], over["direction"]) == (
        True,
        31.0,
        "Cel",
        30.0,
        "high",
    )
    assert (back["active"], back["value"]) == (False, 27.0)


def test_a_threshold_crossed_already_is_told_when_interrupts_are_enabled() -> None:
    with bench(thresholds=[{"threshold": 25, "quantity": "temperature", "direction": "low"}], interrupts=True) as b:
        soon(lambda: len(events(b, "threshold_crossed")) == 1)
        assert b.driver.get_sensor_info().interrupts
        assert b.driver.get_sensor_info().thresholds[0]["direction"] == "low"
        b.driver.clear_thresholds()
        assert b.driver.get_sensor_info().thresholds == ()
        b.driver.reset()
        assert not b.driver.interrupts_enabled
        assert len(b.driver.get_sensor_info().thresholds) == 1, "the settings' own are back"


def test_a_second_threshold_of_a_kind_takes_the_place_of_the_first() -> None:
    with bench() as b:
        b.driver.set_threshold(30.0, "temperature")
        b.driver.set_threshold(10.0, "temperature", "low")
        b.driver.set_threshold(35.0, "temperature")
        levels = [(t["level"], t["direction"]) for t in b.driver.get_sensor_info().thresholds]
    assert levels == [(10.0, "low"), (35.0, "high")]


def test_what_cannot_be_a_threshold_is_refused() -> None:
    with bench() as b:
        for wrong in [
            (1.0, "humidity", "up"),
            (1.0, "humidity", "high", -1.0),
            (math.nan, "humidity"),
            (1.0, "mood"),
            (1.0,),
        ]:
            with pytest.raises(ConfigurationError):
                b.driver.set_threshold(*wrong)
        with pytest.raises(ConfigurationError):
            b.driver.configure_sensor({"thresholds": [{"threshold": 1, "quantity": "mood"}]})


def test_a_sensor_that_cannot_be_watched_any_more_says_so() -> None:
    with bench() as b:

        def gone() -> Sample:
            raise LinkLost("unplugged")

        b.driver.sample_of = gone
        b.driver.enable_interrupts()
        soon(lambda: len(events(b, "interrupts_failed")) == 1)
        soon(lambda: not b.driver.interrupts_enabled)
        assert events(b, "interrupts_failed")[0]["error"]["code"] == "link_lost"


def test_one_reading_that_fails_does_not_end_the_watch() -> None:
    with bench() as b:
        b.driver.set_threshold(30.0, "temperature")
        answers: Iterator[Any] = iter([TimeoutExceeded("slow")] * 4 + [Sample({"temperature": 31.0})])

        def flaky() -> Sample:
            answer = next(answers, None)
            if isinstance(answer, Exception):
                raise answer
            return answer or Sample({"temperature": 31.0})

        b.driver.sample_of = flaky
        b.driver.enable_interrupts()
        soon(lambda: len(events(b, "threshold_crossed")) == 1)
        assert b.driver.interrupts_enabled


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_has_the_readings_with_names_and_units() -> None:
    with bench() as b:
        b.driver.start_streaming(period_s=0.0005)
        reader = b.streams["main"]
        records = [reader.read(10) for _ in range(5)]
        status = b.driver.stop_streaming()
    assert all(record is not None and record.data == {"temperature": 20.0, "humidity": 40.0} for record in records)
    assert reader.info.about == {
        "fields": ["temperature", "humidity"],
        "units": {"temperature": "Cel", "humidity": "%"},
    }
    assert reader.info.stream_type == "sensor"
    assert status["records"] >= 5
    assert (status["streaming"], status["error"], status["failed"]) == (False, None, 0)


def test_what_is_remarkable_about_a_reading_goes_with_its_record() -> None:
    with bench() as b:
        b.driver.truth["temperature"] = 60.0
        b.driver.start_streaming()
        record = b.streams["main"].read(10)
        assert record is not None
        assert record.meta == {"status": "uncertain", "flags": ["over-range"]}


def test_a_reading_that_fails_is_left_out_and_the_fifth_in_a_row_ends_the_stream() -> None:
    with bench() as b:

        def fails() -> Sample:
            raise TimeoutExceeded("slow")

        b.driver.sample_of = fails
        b.driver.start_streaming()
        soon(lambda: not b.driver.streaming_status()["streaming"])
        assert len(events(b, "reading_failed")) == 4
        assert b.driver.streaming_status()["failed"] == 5
        assert len(events(b, "stream_failed")) == 1
        b.driver.sample_of = lambda: Sample({"temperature": 1.0})
        b.driver.start_streaming()
        record = b.streams["main"].read(10)
        assert record is not None, "it can be started again"


def test_options_of_a_stream_are_checked_before_it_begins() -> None:
    with bench() as b:
        for wrong in ({"period_s": 0}, {"period_s": 1e6}, {"speed": 1}):
            with pytest.raises(ConfigurationError):
                b.driver.start_streaming(**wrong)
        assert not b.driver.streaming_status()["streaming"]


def test_disconnecting_ends_stream_and_interrupts() -> None:
    with bench() as b:
        b.driver.enable_interrupts()
        b.driver.start_streaming()
        b.driver.disconnect()
        assert not b.driver.streaming_status()["streaming"]
        assert not b.driver.interrupts_enabled


@given(st.floats(1e-3, 10), st.lists(st.floats(0, 5), min_size=1, max_size=50))
def test_a_beat_keeps_to_whole_periods_however_long_the_work_takes(period_s: float, works: list[float]) -> None:
    beat, now, number = Beat(period_s, 100.0), 100.0, 0
    for work in works:
        now += work * period_s
        wait = beat.wait_s(now)
        assert 0 <= wait <= period_s * (1 + 1e-9)
        now += wait
        moment = (now - 100.0) / period_s
        if wait > 0:
            assert moment == pytest.approx(round(moment), abs=1e-6)
            assert round(moment) > number
            number = round(moment)


def test_moments_that_were_missed_are_counted() -> None:
    beat = Beat(1.0, 0.0)
    assert (beat.wait_s(0.25), beat.wait_s(1.5), beat.missed) == (0.75, 0.5, 0)
    assert (beat.wait_s(7.25), beat.missed) == (0.0, 4)
    assert beat.wait_s(7.25) == 0.75


# -- sensors that speak by themselves ---------------------------------------------------------------------------------


class Talker(Probe):
    """Publishes what the test says."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.told = SampleFeed(capacity=8)

    def feed(self) -> SampleFeed:
        return self.told


def talker_bench() -> DriverBench[Talker]:
    made = DriverBench(Talker, MANIFEST, "/dev/talker")
    made.driver.connect()
    return made


def test_every_sample_of_a_feed_is_in_the_stream_and_at_the_thresholds() -> None:
    with talker_bench() as b:
        b.driver.set_threshold(30.0, "temperature")
        b.driver.enable_interrupts()
        b.driver.start_streaming()
        count = b.driver.told.count
        for value in (20.0, 31.0, 29.0):
            b.driver.told.publish(Sample({"temperature": value}))
        reader = b.streams["main"]
        records = [reader.read(10) for _ in range(3)]
        assert [record and record.data for record in records] == [{"temperature": v} for v in (20.0, 31.0, 29.0)]
        soon(lambda: len(events(b, "threshold_crossed")) == 2)  # type: ignore[arg-type]
        assert b.driver.told.count == count + 3


def test_a_slow_reader_of_a_feed_is_told_how_much_it_lost() -> None:
    feed = SampleFeed(capacity=3)
    assert feed.latest() is None
    for value in range(5):
        feed.publish(Sample({"x": value}))
    assert feed.after(0, 0.0)[::2] == (3, 2)
    assert feed.after(3, 0.0)[1].values == {"x": 3}  # type: ignore[union-attr]
    assert feed.after(5, 0.0) == (5, None, 0)
    latest = feed.latest()
    assert latest is not None
    assert latest.values == {"x": 4}


def test_a_feed_that_failed_says_so_after_its_last_sample() -> None:
    feed = SampleFeed()
    feed.publish(Sample({}))
    feed.fail(LinkLost("gone"))
    assert feed.after(0, 0.0)[0] == 1
    with pytest.raises(LinkLost):
        feed.after(1, 10.0)


def test_who_waits_at_a_feed_can_be_cancelled_or_not_wanted_any_more() -> None:
    feed = SampleFeed()
    assert feed.after(0, 10.0, wanted=lambda: False) == (0, None, 0)
    token = CancelToken()
    before = current_token.set(token)
    try:
        threading.Thread(target=token.cancel).start()
        with pytest.raises(Cancelled):
            feed.after(0, 60.0)
    finally:
        current_token.reset(before)
        token.close()


def test_a_pump_works_until_it_is_stopped_and_then_its_feed_ends() -> None:
    feed, turns = SampleFeed(), threading.Semaphore(0)

    def work() -> None:
        turns.release()
        feed.publish(Sample({}))

    pump = Pump("test", feed, work)
    assert turns.acquire(timeout=10)
    assert pump.running
    pump.stop()
    assert not pump.running
    with pytest.raises(LinkLost):
        feed.after(feed.count, 0.0)


def test_what_a_pump_runs_into_ends_its_feed() -> None:
    feed = SampleFeed()

    def work() -> None:
        raise HardwareError("burnt")

    pump = Pump("test", feed, work)
    with pytest.raises(HardwareError):
        feed.after(0, 10.0)
    pump.stop()
    cancelled = SampleFeed()

    def cancel() -> None:
        raise Cancelled("over")

    Pump("test", cancelled, cancel)
    with pytest.raises(LinkLost):
        cancelled.after(0, 10.0)


# -- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "Cel",
        "%",
        "Pa",
        "hPa",
        "V",
        "mV",
        "deg",
        "m/s",
        "m/s2",
        "1",
        "rad/s",
        "kOhm",
        "ug/m3",
        "lx",
        "/min",
        "[pH]",
        "N.m",
        "m2",
        "s-1",
    ],
)
def test_units_of_sensors_are_known_by_their_ucum_codes(code: str) -> None:
    assert unit_problem(code) == ""


@pytest.mark.parametrize("code", ["°C", "degC", "percent", "m/s^2", "", "/", "m//s", "volts", "xV", "2m", "Cel!"])
def test_what_is_no_ucum_code_is_refused_with_what_would_be_right(code: str) -> None:
    assert unit_problem(code).startswith("write ")
    with pytest.raises(ConfigurationError, match="is not the unit of t"):
        Quantity(name="t", unit=code)


def test_units_are_shown_as_people_write_them() -> None:
    assert [display_unit(code) for code in ("Cel", "1", "Pa")] == ["°C", "", "Pa"]
