"""What real receivers sent, read by the driver's source and by pynmea2: the same places at the same times.

Two npm packages carry such logs (`tests/peers/receivers`). They have what simulators leave out: characters lost between
two sentences, a checksum without its star, numbers of fifteen digits, ships' reports.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from needs import receiver_log
from vfab.drivers.nmea_gps.driver import NmeaSource
from vfab.protocols.nmea import Fix

LOGS = ["nmea-parser/nmeaGps.txt", "ggencoder/test/FeedSample/GprmcSample.nmea"]
PIECES = [1, 7, 82, 4096]


def fixes_in(log: bytes, piece_bytes: int) -> tuple[list[Fix], NmeaSource]:
    source = NmeaSource()
    found = [fix for at in range(0, len(log), piece_bytes) for fix in source.receive(log[at : at + piece_bytes])]
    return found, source


def places_by_pynmea2(log: bytes) -> dict[float, tuple[float, float]]:
    """Unix time, s, to latitude and longitude, degrees, of every RMC sentence that is valid and well-formed."""
    pynmea2 = pytest.importorskip("pynmea2")
    found: dict[float, tuple[float, float]] = {}
    for line in log.decode("ascii", "replace").splitlines():
        try:
            said = pynmea2.parse(line.strip(), check=True)
        except pynmea2.ParseError:
            continue
        if said.sentence_type == "RMC" and said.status == "A":
            at = dt.datetime.combine(said.datestamp, said.timestamp.replace(tzinfo=dt.UTC))
            found[at.timestamp()] = (said.latitude, said.longitude)
    return found


@pytest.mark.parametrize("piece_bytes", PIECES)
@pytest.mark.parametrize("name", LOGS)
def test_a_real_receiver_was_where_pynmea2_says(name: str, piece_bytes: int) -> None:
    log = receiver_log(name).read_bytes()
    wanted = places_by_pynmea2(log)
    assert len(wanted) > 20
    fixes, _ = fixes_in(log, piece_bytes)
    ours = {fix.time_s: fix for fix in fixes if fix.valid and fix.time_s is not None}
    last = max(wanted)  # whether the log's last moment is whole, only the next one would tell
    for time_s, (latitude, longitude) in wanted.items():
        if time_s != last:
            assert ours[time_s].latitude_deg == pytest.approx(latitude, abs=1e-9)
            assert ours[time_s].longitude_deg == pytest.approx(longitude, abs=1e-9)
    assert set(ours) <= set(wanted)


def test_the_height_of_a_real_receiver_is_that_of_its_gga_sentences() -> None:
    log = receiver_log(LOGS[0]).read_bytes()
    told = {float(line.split(",")[9]) for line in log.decode().split("$") if line.startswith("GPGGA")}
    fixes, source = fixes_in(log, 82)
    heights = [fix.altitude_m for fix in fixes if fix.altitude_m is not None]
    assert len(heights) > 20 and set(heights) <= told
    assert all(fix.satellites == 7 for fix in fixes if fix.satellites is not None)
    assert source.details()["bad"] == 1  # a character was lost between two sentences


def test_ships_reports_are_no_places_of_the_receiver() -> None:
    log = receiver_log("ggencoder/test/FeedSample/AisHubSample.nmea").read_bytes()
    fixes, source = fixes_in(log, 82)
    assert not [fix for fix in fixes if fix.valid]
    assert "AIVDM" in source.kinds


def test_where_the_logs_lie_is_told_when_they_are_missing(tmp_path: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="npm ci"):
        receiver_log("nobody/nothing.nmea", tmp_path)
