"""What the GPS driver makes of a receiver: told by the simulator, over a pseudo-terminal or TCP, and by gpsd itself."""

from __future__ import annotations

import math
import os
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.nmea_gps.driver import NmeaGpsDriver, sample_of
from vfab.drivers.nmea_gps.simulator import NmeaGpsSimulator, Track
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DeviceNotFound,
    LinkLost,
    ProtocolError,
    TimeoutExceeded,
)
from vfab.protocols.nmea import RMC, Fix, encode, sentence_of
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent
FAST: dict[str, Any] = {"rate_hz": 10, "speed": 5}
WAYS = [
    pytest.param({}, id="pty"),
    pytest.param({"tcp": 0}, id="tcp"),
    pytest.param({"tcp": 0, "gpsd": True}, id="gpsd"),
]


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[NmeaGpsDriver]]:
    with DriverBench(NmeaGpsDriver, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def off_track_m(values: dict[str, float], simulator: NmeaGpsSimulator, device_time_s: float) -> float:
    """How far a reading lies from where the receiver was at that time, m."""
    seconds = device_time_s - simulator.start_time.timestamp()
    latitude, longitude, _ = simulator.track.at(seconds)
    north = math.radians(values["latitude"] - latitude) * 6_371_008.8
    east = math.radians(values["longitude"] - longitude) * 6_371_008.8 * math.cos(math.radians(latitude))
    return math.hypot(north, east)


# -- readings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_reading_is_where_the_receiver_was_at_that_time(way: dict[str, Any]) -> None:
    with NmeaGpsSimulator(**FAST, **way) as simulator, bench(simulator.address) as b:
        assert b.driver.connect() is True
        assert b.driver.is_connected()
        reading = b.driver.read_sensor()
        assert reading.device_time_s is not None
        assert off_track_m(reading.values, simulator, reading.device_time_s) < 0.01
        assert reading.values["altitude"] == 519.0
        assert reading.values["speed"] == pytest.approx(10.0, abs=0.001)
        assert reading.units["latitude"] == "deg"
        assert reading.status == "good"
        assert abs(reading.time_s - time.time()) < 60


def test_the_positions_uncertainty_comes_from_the_dilution_of_precision() -> None:
    with NmeaGpsSimulator(**FAST) as simulator, bench(simulator.address, uere_m=4.0) as b:
        b.driver.connect()
        b.driver.read_sensor()
        reading = b.driver.read_sensor()
    north_m = 0.9 * 4.0 / math.sqrt(2)
    assert reading.uncertainties["latitude"] == pytest.approx(north_m / 111_320)
    assert reading.uncertainties["longitude"] > reading.uncertainties["latitude"]
    assert reading.uncertainties["altitude"] == pytest.approx(1.3 * 4.0)
    assert "HDOP" in reading.uncertainty_source["latitude"]
    own = sample_of(Fix(valid=True, latitude_deg=0.0, longitude_deg=0.0, latitude_u_m=1.0, longitude_u_m=2.0), 5.0)
    assert own.uncertainty_source == "told by the receiver"
    assert own.uncertainties["longitude"] == pytest.approx(2.0 / 111_320)
    assert sample_of(Fix(valid=True, latitude_deg=0.0, longitude_deg=0.0), 5.0).uncertainties == {}


@pytest.mark.parametrize("talker", ["GN", "GL", "BD"])
def test_receivers_of_other_systems_are_read_alike(talker: str) -> None:
    with NmeaGpsSimulator(**FAST, talker=talker) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        assert b.driver.read_sensor().status == "good"
        details = b.driver.get_sensor_info().details
        assert f"{talker}GGA" in details["sentences"]
        assert details["protocol"] == "nmea"


def test_how_a_fix_was_found_is_told() -> None:
    place: dict[str, Any] = {"valid": True, "latitude_deg": 1.0, "longitude_deg": 2.0, "altitude_m": 3.0}
    reckoned = sample_of(Fix(**place, quality=6, dimensions=3), 5.0)
    assert (reckoned.status.value, reckoned.flags) == ("uncertain", ("dead-reckoning",))
    plane = sample_of(Fix(**place, quality=1, dimensions=2, bad=1), 5.0)
    assert "altitude" not in plane.values
    assert plane.flags == ("no-altitude", "bad-sentences")


# -- faults -----------------------------------------------------------------------------------------------------------


def test_without_a_fix_there_is_no_position_and_its_loss_and_return_are_events() -> None:
    with NmeaGpsSimulator(**FAST, faults=["no-fix@8"]) as simulator, bench(simulator.address, interrupts=True) as b:
        b.driver.connect()
        b.driver.start_streaming()
        reader = b.streams["main"]
        records = [reader.read(10) for _ in range(20)]
        bad = [record for record in records if record is not None and record.meta.get("status") == "bad"]
        assert len(bad) == 10
        assert all("latitude" not in record.data and record.meta["flags"] == ["no-fix"] for record in bad)
        kinds = [kind for kind, _ in b.events if kind.startswith("fix_")]
        assert kinds == ["fix_lost", "fix_acquired"]


def test_every_moment_is_in_the_stream_once_with_the_receivers_time() -> None:
    with NmeaGpsSimulator(**FAST) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.read_sensor()
        b.driver.read_sensor()
        b.driver.start_streaming()
        reader = b.streams["main"]
        records = [record for record in (reader.read(10) for _ in range(20)) if record is not None]
        times = [round((record.device_time_s or 0) * 10) for record in records]
        assert times == list(range(times[0], times[0] + 20)), "ten a second, none lost, none twice"
        assert all(off_track_m(record.data, simulator, record.device_time_s or 0) < 0.01 for record in records)
        assert all(record.lost == 0 for record in records)


def test_garbled_cut_and_foreign_bytes_cost_no_fix() -> None:
    faults = ["garble@6", "cut@8", "noise@10"]
    with NmeaGpsSimulator(**FAST, faults=faults) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.start_streaming()
        reader = b.streams["main"]
        records = [record for record in (reader.read(10) for _ in range(12)) if record is not None]
        times = [round((record.device_time_s or 0) * 10) for record in records]
        assert times == list(range(times[0], times[0] + 12))
        details = b.driver.get_sensor_info().details
        assert details["bad"] == 3, "garbled, cut, and the noise's own $GP"
        assert details["binary_frames"] == 1
        assert b.driver.streaming_status()["error"] is None


def test_a_makers_own_sentences_are_passed_on() -> None:
    with NmeaGpsSimulator(**FAST) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        receiver = b.driver._source
        receiver.receive(encode("P", "UBX", ["00", "own"]))
        assert any("PUBX,00,own" in text for text in b.driver.get_sensor_info().details["own"])


def test_a_receiver_that_falls_silent_is_told_and_heard_again() -> None:
    with NmeaGpsSimulator(**FAST, faults=["silent@10"]) as simulator, bench(simulator.address, timeout_s=0.3) as b:
        b.driver.connect()
        assert simulator.wait_moments(12)
        with pytest.raises(TimeoutExceeded, match="no position report") as caught:
            while True:
                b.driver.read_sensor()
        assert "GPGGA" in caught.value.context["sentences"]
        simulator._faults.clear()
        assert b.driver.read_sensor().status == "good"


@pytest.mark.parametrize("way", WAYS)
def test_a_pulled_cable_is_told_and_after_the_replug_it_works_again(way: dict[str, Any]) -> None:
    with NmeaGpsSimulator(**FAST, **way) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.start_streaming()
        simulator.unplug()
        with pytest.raises(LinkLost):
            while True:
                b.driver.read_sensor()
        soon(lambda: not b.driver.is_connected())
        soon(lambda: any(kind == "stream_failed" for kind, _ in b.events))
        simulator.plug_in()
        b.driver.connect()
        assert b.driver.read_sensor().values["altitude"] == 519.0


def test_reading_can_be_cancelled() -> None:
    with NmeaGpsSimulator(1) as simulator, bench(simulator.address, timeout_s=60) as b:
        b.driver.connect()
        running = b.start(b.driver.read_sensor)
        running.token.cancel()
        with pytest.raises(Cancelled):
            running.result(10)
        assert b.driver.is_connected()


# -- connecting -------------------------------------------------------------------------------------------------------


def test_nobody_there_is_told() -> None:
    with bench("/dev/vfab-no-such-receiver") as b:
        with pytest.raises(DeviceNotFound):
            b.driver.connect()
        assert not b.driver.is_connected()


@contextmanager
def terminal(send: bytes) -> Iterator[str]:
    """A serial port at which somebody sends `send` over and over."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    over = threading.Event()

    def speak() -> None:
        while not over.wait(0.01):
            try:
                if send:
                    os.write(master, send)
            except BlockingIOError:
                continue

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        over.set()
        thread.join()
        os.close(master)
        os.close(slave)


def test_a_receiver_that_says_nothing_is_told_after_the_timeout() -> None:
    with terminal(b"") as address, bench(address, timeout_s=0.2) as b:
        with pytest.raises(TimeoutExceeded, match="said nothing"):
            b.driver.connect()
        assert not b.driver.is_connected()
        assert all(link.closed for link in b.links)


def test_rubbish_of_a_wrong_speed_is_told_with_the_remedy() -> None:
    with (
        terminal(bytes(range(128, 256)) * 4) as address,
        bench(address, timeout_s=1.0) as b,
        pytest.raises(ProtocolError, match="no NMEA") as caught,
    ):
        b.driver.connect()
    assert "baudrate" in caught.value.remedy


def test_a_receiver_without_position_sentences_is_told_when_it_is_read() -> None:
    with terminal(encode("GP", "TXT", ["01", "01", "02", "hello"])) as address, bench(address, timeout_s=0.3) as b:
        b.driver.connect()
        with pytest.raises(TimeoutExceeded) as caught:
            b.driver.read_sensor()
        assert caught.value.context["sentences"] == ["GPTXT"]
        assert "GGA or RMC" in caught.value.remedy


def test_what_the_port_had_kept_is_not_taken_for_now() -> None:
    old = sentence_of(RMC(1.0, True, 1.0, 1.0)).to_bytes()
    with NmeaGpsSimulator(**FAST) as simulator, bench(simulator.address) as b:
        simulator._cable.write(old)
        b.driver.connect()
        assert b.driver.read_sensor().values["latitude"] == pytest.approx(48.137, abs=0.01)


def test_settings_change_while_it_is_connected() -> None:
    with NmeaGpsSimulator(**FAST) as simulator, bench(simulator.address) as b:
        b.driver.connect()
        b.driver.configure_sensor({"baudrate": 4800, "uere_m": 10})
        assert b.driver.read_sensor().status == "good"
        with pytest.raises(ConfigurationError):
            b.driver.configure("baudrate", "1234")


def test_what_the_simulator_is_told_is_checked() -> None:
    for wrong in ({"rate_hz": 0.0}, {"speed": "fast"}, {"faults": ["burn"]}, {"faults": ["cut@x"]}):
        with pytest.raises(ConfigurationError):
            NmeaGpsSimulator(**wrong)


def test_the_track_is_a_circle_driven_at_its_speed() -> None:
    track = Track()
    lap_s = 2 * math.pi * track.radius_m / track.speed_m_s
    assert track.at(lap_s)[:2] == pytest.approx(track.at(0)[:2])
    assert track.at(0)[2] == pytest.approx(90.0)
