"""The GPS driver against gpsd, which gpsfake feeds with a log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from needs import program
from vfab.drivers.nmea_gps.driver import NmeaSource, sample_of
from vfab.drivers.nmea_gps.simulator import NmeaGpsSimulator
from vfab.drivers.nmea_gps.test_driver import bench, off_track_m, soon
from vfab.sdk.sensor import SensorReading


@contextmanager
def gpsd(log: bytes, folder: Path) -> Iterator[str]:
    """gpsd, which gpsfake feeds with `log` at ten sentences a second and over again; its address."""
    gpsfake = program("gpsfake", package="gpsd-clients")
    program("gpsd", package="gpsd")
    file = folder / "receiver.log"
    file.write_bytes(log)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [gpsfake, "-P", str(port), "-c", "0.02", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"},
    )

    def serves() -> bool:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            return False
        return True

    try:
        soon(serves, 30)
        yield f"tcp://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_gpsd_itself_says_where_a_recorded_receiver_was(tmp_path: Path) -> None:
    simulator = NmeaGpsSimulator(1)
    log = b"".join(simulator.moment_bytes(number) for number in range(1, 120))
    simulator._cable.close()
    with gpsd(log, tmp_path) as address, bench(address, timeout_s=20) as b:
        b.driver.connect()
        assert b.driver.get_sensor_info().details["protocol"] == "gpsd"

        readings: list[SensorReading] = []

        def placed() -> bool:  # until gpsd knows its receiver's order, it leaves time or altitude out
            readings.append(b.driver.read_sensor())
            return "altitude" in readings[-1].values and readings[-1].device_time_s is not None

        soon(placed, 60)
        reading = readings[-1]
        assert reading.device_time_s is not None
        assert off_track_m(reading.values, simulator, reading.device_time_s) < 0.1
        assert reading.values["altitude"] == pytest.approx(519.0, abs=0.01)
        details = b.driver.get_sensor_info().details
        assert details["receivers"], "gpsd names its receiver"
        assert details["gpsd"][0].isdigit()


def test_gpsd_agrees_with_our_reading_of_a_log_with_many_kinds_of_sentences(tmp_path: Path) -> None:
    """The same log, read by this driver from a serial port and by gpsd: the same places."""
    simulator = NmeaGpsSimulator(1, talker="GN")
    moments = [simulator.moment_bytes(number) for number in range(1, 60)]
    simulator._cable.close()
    with gpsd(b"".join(moments), tmp_path) as address, bench(address, timeout_s=20) as theirs:
        theirs.driver.connect()
        theirs.driver.start_streaming()
        reader = theirs.streams["main"]
        told: dict[int, dict[str, float]] = {}

        def enough() -> bool:
            record = reader.read(20)
            assert record is not None
            if record.device_time_s is not None and "altitude" in record.data:
                told[round(record.device_time_s)] = record.data
            return len(told) >= 5

        soon(enough, 60)
    ours: dict[int, dict[str, float]] = {}
    source = NmeaSource()
    for fix in source.receive(b"".join(moments)):
        if fix.time_s is not None:
            ours[round(fix.time_s)] = dict(sample_of(fix, 5.0).values)
    for moment, values in told.items():
        for name in ("latitude", "longitude"):
            assert values[name] == pytest.approx(ours[moment][name], abs=1e-7), name
        assert values["altitude"] == pytest.approx(ours[moment]["altitude"], abs=0.01)
