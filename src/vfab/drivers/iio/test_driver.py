"""What an IIO device says when vfab reads it: told by a folder with a kernel driver's files, and a buffer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.drivers.iio.channels import find_channels, read_number
from vfab.drivers.iio.driver import IioDriver
from vfab.drivers.iio.scan import ScanLayout, parse_type
from vfab.drivers.iio.simulator import IioSimulator
from vfab.model.errors import ConfigurationError, DeviceNotFound, LinkLost, ProtocolError
from vfab.sdk.testing import DriverBench, manifest_in

FOLDER = Path(__file__).parent


@contextmanager
def bench(simulator: IioSimulator, **settings: Any) -> Iterator[DriverBench[IioDriver]]:
    config = {"node": simulator.node, **settings}
    with DriverBench(IioDriver, manifest_in(FOLDER), simulator.address, config=config) as made:
        yield made


def test_channels_are_read_in_ucum_units_with_scale_and_offset() -> None:
    with IioSimulator(beats=False) as simulator, bench(simulator) as b:
        assert b.driver.connect() is True
        reading = b.driver.read_sensor()
        assert reading.values == {
            "voltage0": 0.0,
            "voltage1": pytest.approx(3300 * 0.5e-3),
            "voltage0-voltage1": pytest.approx(-6600 * 0.25e-3),
            "temp": pytest.approx((400 - 64) * 62.5e-3),
            "pressure": pytest.approx(101_325.0),
            "accel_x": pytest.approx(512 * 0.009576),
        }
        assert reading.units == {
            "voltage0": "V", "voltage1": "V", "voltage0-voltage1": "V",
            "temp": "Cel", "pressure": "Pa", "accel_x": "m/s2",
        }  # fmt: skip
        assert reading.flags == ()
        assert "rot_quaternion" not in reading.raw, "four numbers are no quantity"
        assert reading.uncertainties["voltage0"] == pytest.approx(0.5e-3 / 12**0.5)
        assert "pressure" not in reading.uncertainties, "what is processed has no resolution to go by"
        assert b.driver.get_sensor_info().model == "vfab-adc"


def test_chosen_channels_are_read_alone() -> None:
    with IioSimulator(beats=False) as simulator, bench(simulator, channels=["temp"]) as b:
        b.driver.connect()
        assert list(b.driver.read_sensor().values) == ["temp"]
        b.driver.configure_sensor({"channels": ["temp", "rot_quaternion"]})
        reading = b.driver.read_sensor()
        assert reading.flags == ("unreadable-channel",)
        assert reading.raw["rot_quaternion"] == "0 0 0 1"
        with pytest.raises(ConfigurationError, match="volts"):
            b.driver.configure_sensor({"channels": ["volts"]})
        assert b.driver.read_sensor().status == "good"


def test_the_devices_rate_is_set_if_it_can_be() -> None:
    with IioSimulator(beats=False) as simulator, bench(simulator, sampling_hz=250) as b:
        b.driver.connect()
        assert simulator.get("sampling_frequency") == "250"
        (simulator.folder / "sampling_frequency").unlink()
        with pytest.raises(ConfigurationError, match="rate"):
            b.driver.connect()
        simulator.put("in_voltage0_sampling_frequency", "1")
        b.driver.connect()
        assert simulator.get("in_voltage0_sampling_frequency") == "250"


def test_the_buffer_streams_every_sample_with_the_kernels_time() -> None:
    with IioSimulator(beats=False) as simulator, bench(simulator, buffered=True, trigger="hrtimer0") as b:
        b.driver.connect()
        b.driver.start_streaming()
        while simulator.get("buffer/enable") != "1":
            pass
        for number in range(50):
            simulator.step(1_700_000_000_000_000_000 + number)
        reader = b.streams["main"]
        records = [record for record in (reader.read(10) for _ in range(50)) if record is not None]
        assert len(records) == 50
        first = records[0]
        assert first.data == {"voltage0": pytest.approx(100 * 0.5e-3), "voltage1": pytest.approx(3300 * 0.5e-3)}
        assert first.device_time_s == pytest.approx(1_700_000_000.0)
        assert simulator.get("trigger/current_trigger") == "hrtimer0"
        assert simulator.get("scan_elements/in_voltage0_en") == "1"
        b.driver.stop_streaming()
        assert simulator.get("buffer/enable") == "0"


def test_without_a_buffer_the_stream_reads_the_files() -> None:
    with IioSimulator() as simulator, bench(simulator, channels=["temp"]) as b:
        b.driver.connect()
        b.driver.start_streaming(period_s=0.001)
        record = b.streams["main"].read(10)
        assert record is not None
        assert record.data["temp"] > 20
        b.driver.stop_streaming()
        import shutil

        shutil.rmtree(simulator.folder / "scan_elements")
        b.driver.configure_sensor({"buffered": True})
        b.driver.start_streaming()
        reader = b.streams["main"]
        while not reader.ended:
            reader.read(1)
        error = b.driver.streaming_status()["error"]
        assert error is not None
        assert "no buffer" in error["error"]


def test_a_device_that_goes_is_told_and_comes_back() -> None:
    with IioSimulator(beats=False) as simulator, bench(simulator) as b:
        b.driver.connect()
        gone = simulator.folder.with_name("gone")
        simulator.folder.rename(gone)
        assert not b.driver.is_connected()
        with pytest.raises(LinkLost):
            b.driver.read_sensor()
        with pytest.raises(DeviceNotFound):
            b.driver.connect()
        gone.rename(simulator.folder)
        b.driver.connect()
        (simulator.folder / "in_temp_raw").unlink()
        with pytest.raises(LinkLost):
            b.driver.read_sensor()


def test_a_folder_without_inputs_is_told(tmp_path: Path) -> None:
    with (
        DriverBench(IioDriver, manifest_in(FOLDER), str(tmp_path)) as b,
        pytest.raises(ConfigurationError, match="no inputs"),
    ):
        b.driver.connect()
    with pytest.raises(LinkLost):
        find_channels(tmp_path / "nowhere")


def test_a_node_is_the_address_of_its_folder() -> None:
    with DriverBench(IioDriver, manifest_in(FOLDER), "/dev/iio:device7") as b:
        assert str(b.driver.folder) == "/sys/bus/iio/devices/iio:device7"
        assert b.driver.node == "/dev/iio:device7"


def test_a_file_that_says_no_number_is_told(tmp_path: Path) -> None:
    file = tmp_path / "in_temp_scale"
    for text in ("", "warm", "nan"):
        file.write_text(text)
        with pytest.raises(ProtocolError, match="no number"):
            read_number(file)
    file.write_text("23.5 C\n")
    assert read_number(file) == 23.5


def test_processed_values_go_before_raw_ones(tmp_path: Path) -> None:
    for name, text in {"in_humidityrelative_input": "45000", "in_humidityrelative_raw": "9", "in_foo_raw": "1"}.items():
        (tmp_path / name).write_text(text)
    found = {channel.name: channel for channel in find_channels(tmp_path)}
    assert found["humidityrelative"].processed
    assert found["humidityrelative"].value(45000) == pytest.approx(45.0)
    assert found["foo"].unit == "1"


# -- the buffer's layout ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "data", "number"),
    [
        ("le:s12/16>>4", b"\xf0\xff", -1),
        ("le:u12/16>>4", b"\xf0\xff", 4095),
        ("be:s12/16>>4", b"\x80\x00", -2048),
        ("be:u10/16>>0", b"\x03\xff", 1023),
        ("le:s64/64>>0", struct.pack("<q", -5), -5),
        ("le:u8/8>>0", b"\xff", 255),
    ],
)
def test_numbers_are_read_as_the_kernel_describes_them(text: str, data: bytes, number: int) -> None:
    element = parse_type("x", 0, text)
    assert element.size == len(data)
    assert element.number(data) == number


@pytest.mark.parametrize("text", ["", "le:f32/32>>0", "le:s12/16", "le:s20/16>>0", "le:s8/12>>0", "me:s8/8>>0"])
def test_a_form_that_is_not_known_is_told(text: str) -> None:
    with pytest.raises(ProtocolError, match="not known"):
        parse_type("x", 0, text)


def test_elements_lie_at_multiples_of_their_size_and_samples_of_the_widest() -> None:
    layout = ScanLayout(
        [parse_type("time", 9, "le:s64/64>>0"), parse_type("a", 0, "le:u16/16>>0"), parse_type("b", 3, "le:u32/32>>0")]
    )
    assert layout.size == 16
    packed = struct.pack("<HxxIq", 1, 2, 3)
    assert layout.receive(packed + packed[:5]) == [{"a": 1, "b": 2, "time": 3}]
    assert layout.receive(packed[5:]) == [{"a": 1, "b": 2, "time": 3}]


def test_a_channel_of_several_numbers_has_a_name_for_each() -> None:
    layout = ScanLayout([parse_type("rot", 0, "le:s16/16X4>>0")])
    assert layout.receive(struct.pack("<4h", 1, -2, 3, -4)) == [{"rot_0": 1, "rot_1": -2, "rot_2": 3, "rot_3": -4}]


@given(st.binary(max_size=100), st.lists(st.integers(1, 20), max_size=10))
def test_how_the_bytes_were_cut_does_not_matter(data: bytes, cuts: list[int]) -> None:
    elements = [parse_type("a", 0, "be:s12/16>>4"), parse_type("t", 1, "le:u32/32>>0")]
    whole, pieces, got, rest = ScanLayout(elements), ScanLayout(elements), [], data
    for cut in cuts:
        got += pieces.receive(rest[:cut])
        rest = rest[cut:]
    assert got + pieces.receive(rest) == whole.receive(data)
