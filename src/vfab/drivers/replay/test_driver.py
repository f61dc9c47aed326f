"""The driver against its simulator: a recorded stream comes again, as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from vfab.drivers.replay.driver import ReplayDriver
from vfab.drivers.replay.simulator import SAMPLE, ReplaySimulator, read_recording
from vfab.model.errors import ConfigurationError, DriverError, ProtocolError
from vfab.protocols.recording import RecordingHeader, StreamEntry, header_line, stream_line
from vfab.sdk.stream_ends import StreamRecord
from vfab.sdk.testing import DriverBench, manifest_in

MANIFEST = manifest_in(Path(__file__).parent)


@pytest.fixture
def simulator() -> Iterator[ReplaySimulator]:
    with ReplaySimulator(SAMPLE, speed=0) as made:
        yield made


def all_of(bench: DriverBench[ReplayDriver], **options: object) -> list[StreamRecord]:
    """What a stream has until it ends."""
    bench.driver.start_streaming(**options)
    return list(bench.streams["main"])


def test_a_recorded_stream_comes_again_with_its_data_and_times(simulator: ReplaySimulator) -> None:
    with DriverBench(ReplayDriver, MANIFEST, simulator.address) as bench:
        bench.driver.connect()
        assert bench.driver.is_connected()
        assert bench.driver.get_recording()["driver"] == "i2c-lm75"
        recorded = [entry for entry in read_recording(SAMPLE).entries if isinstance(entry, StreamEntry)]
        played = all_of(bench)
        assert [record.data for record in played] == [entry.data for entry in recorded]
        assert [record.device_time_s for record in played] == [entry.time_s for entry in recorded]
        assert bench.streams["main"].info.about["units"] == {"temperature": "Cel"}


def test_it_can_be_played_again_looped_and_stopped(simulator: ReplaySimulator) -> None:
    with DriverBench(ReplayDriver, MANIFEST, simulator.address) as bench:
        bench.driver.connect()
        assert len(all_of(bench)) == 40
        bench.driver.start_streaming(loop=True, speed=0)
        assert bench.streams["main"].read(10.0) is not None
        assert bench.driver.stop_streaming()["streaming"] is False
        bench.driver.reset()
        bench.driver.disconnect()
        bench.driver.disconnect()
        bench.driver.connect()
        assert bench.driver.is_connected()


def test_frames_and_bytes_within_data_come_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "frames.rec"
    frame = bytes(range(256)) * 4096
    header = RecordingHeader("stream", "now", stream={"stream_type": "video", "capacity_bytes": 8 << 20, "records": 8})
    sent = [frame, {"raw": b"\xff", "n": [1, 2.5]}, "text", b"short"]
    lines = [stream_line(StreamEntry(0.0, n, 1.5, data, 2.5, {"mark": b"\0"})) for n, data in enumerate(sent)]
    file.write_text(header_line(header) + "".join(lines), encoding="utf-8")
    with ReplaySimulator(file, speed=0) as simulator, DriverBench(ReplayDriver, MANIFEST, simulator.address) as bench:
        bench.driver.connect()
        records = all_of(bench)
        assert [record.data for record in records] == sent
        assert records[0].meta == {"mark": b"\0"} and records[0].device_time_s == 2.5


def test_a_simulator_that_goes_ends_the_stream(tmp_path: Path) -> None:
    with ExitStack() as there, ExitStack() as stack:
        simulator = there.enter_context(ReplaySimulator(SAMPLE, loop=True))
        bench = stack.enter_context(DriverBench(ReplayDriver, MANIFEST, simulator.address))
        bench.driver.connect()
        bench.driver.start_streaming()
        reader = bench.streams["main"]
        assert reader.read(10.0) is not None
        there.close()
        list(reader)
        assert bench.driver.streaming_status()["error"]["code"] == "link_lost"


def test_a_stranger_at_the_address_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "link.rec"
    header = header_line(RecordingHeader("link", "now", "tcp://127.0.0.1:1", "tcp"))
    hello = '{"t": 0, "from": "client", "text": "{\\"hello\\": true}\\n"}\n'
    for answer in ("who?", '{\\"ok\\": 1}'):
        file.write_text(header + hello + f'{{"t": 0, "from": "device", "text": "{answer}\\n"}}\n', encoding="utf-8")
        with ReplaySimulator(file) as simulator, DriverBench(ReplayDriver, MANIFEST, simulator.address) as bench:
            with pytest.raises(ProtocolError, match="no replayed stream") as refused:
                bench.driver.connect()
            assert "vfab sim run replay" in refused.value.remedy
            assert simulator.difference == "" == simulator.missing()


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "none.rec", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            ReplaySimulator(file)
    (tmp_path / "empty.rec").write_text("")
    with pytest.raises(DriverError, match="vfab_recording"):
        ReplaySimulator(tmp_path / "empty.rec")
