"""Industrial I/O: an INA226 and an MLX90614 that the kernel's own drivers read from registers of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apps.programs import Vfab
from lab.iio_chips import IioChips
from lab.modules import until
from vfab import DeviceDriverManager
from vfab.drivers.iio.driver import IioDriver
from vfab.model.errors import DeviceNotFound, HardwareError, LinkLost
from vfab.sdk.testing import DriverBench, manifest_in

IIO = manifest_in(Path(__file__).resolve().parents[2] / "src/vfab/drivers/iio")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_power_meter_is_read_in_volts_amperes_and_watts(iio: IioChips, sign: int) -> None:
    iio.measure(bus_v=12.0, shunt_v=sign * 0.0025, power_w=0.75, current_a=sign * 0.0625)
    with DriverBench(IioDriver, IIO, str(iio.meter)) as bench:
        assert bench.driver.connect()
        assert bench.driver.get_sensor_info().model == "ina226"
        reading = bench.driver.read_sensor()
    measured = {"voltage1": 12.0, "voltage0": sign * 0.0025, "power2": 0.75, "current3": sign * 0.0625}
    assert reading.values == pytest.approx(measured, abs=1e-12)
    assert reading.units == {"voltage1": "V", "voltage0": "V", "power2": "W", "current3": "A"}
    assert reading.raw["voltage1"] == "9600"
    step_v = IioChips.BUS_V / 12**0.5
    assert reading.uncertainties["voltage1"] == pytest.approx(step_v), "the resolution's, which the kernel tells"


@pytest.mark.parametrize(("ambient", "thing"), [(25.01, 86.85), (-39.99, -70.01)])
def test_a_thermometers_offset_and_scale_make_degrees_of_its_numbers(
    iio: IioChips, ambient: float, thing: float
) -> None:
    iio.warm_to(ambient_celsius=ambient, object_celsius=thing)
    with DriverBench(IioDriver, IIO, str(iio.thermometer)) as bench:
        assert bench.driver.connect()
        reading = bench.driver.read_sensor()
        assert reading.values == pytest.approx({"temp_ambient": ambient, "temp_object": thing}, abs=1e-9)
        assert set(reading.units.values()) == {"Cel"}
        iio.fail()
        with pytest.raises(HardwareError) as failed:
            bench.driver.read_sensor()
        assert failed.value.retryable and failed.value.remedy
        iio.warm_to(ambient_celsius=21.01, object_celsius=thing)
        assert bench.driver.read_sensor().values["temp_ambient"] == pytest.approx(21.01)


def test_the_kernels_buffer_is_streamed_with_the_kernels_times(iio: IioChips) -> None:
    iio.measure(bus_v=5.0, shunt_v=0.001, power_w=0.5, current_a=0.1)
    with DriverBench(IioDriver, IIO, iio.node, config={"buffered": True}) as bench:
        assert bench.driver.connect()
        bench.driver.start_streaming()
        reader = bench.streams["main"]
        first = until(lambda: reader.read(5), "a sample came")
        measured = {"voltage1": 5.0, "voltage0": 0.001, "power2": 0.5, "current3": 0.1}
        assert first.data == pytest.approx(measured, abs=1e-12)
        iio.measure(bus_v=5.5, shunt_v=0.001, power_w=0.5, current_a=0.1)
        records = [first]

        def rose() -> bool:
            records.extend(record for record in [reader.read(5)] if record is not None)
            return records[-1].data["voltage1"] == 5.5

        until(rose, "what changed is in the stream")
        assert {record.data["voltage1"] for record in records} == {5.0, 5.5}
        times = [record.device_time_s for record in records]
        assert None not in times and times == sorted(set(times)), "each has a time of its own"
        assert (iio.meter / "buffer/enable").read_text().strip() == "1"
        bench.driver.stop_streaming()
        assert (iio.meter / "buffer/enable").read_text().strip() == "0"
        assert bench.driver.read_sensor().values["voltage1"] == pytest.approx(5.5)


def test_a_chip_that_is_pulled_in_the_middle_of_a_stream_ends_it_and_is_read_again_once_it_is_back(
    iio: IioChips,
) -> None:
    iio.measure(bus_v=9.0, shunt_v=0.001, power_w=0.5, current_a=0.1)
    with DriverBench(IioDriver, IIO, iio.node, config={"buffered": True}) as bench:
        assert bench.driver.connect()
        bench.driver.start_streaming()
        reader = bench.streams["main"]
        until(lambda: reader.read(5), "a sample came")
        with iio.meter_pulled():
            until(lambda: reader.read(1) is None and reader.ended, "the stream ends")
            why = bench.driver.streaming_status()["error"]
            assert why is not None and why["code"] == "link_lost", why
            assert not bench.driver.is_connected()
            with pytest.raises(LinkLost):
                bench.driver.read_sensor()
            with pytest.raises(DeviceNotFound):
                bench.driver.connect()
        assert bench.driver.connect()
        assert bench.driver.read_sensor().values["voltage1"] == pytest.approx(9.0)


def test_a_confined_driver_reaches_the_chip_through_sysfs_and_again_after_it_was_pulled(
    manager: DeviceDriverManager, iio: IioChips
) -> None:
    device = "iio:ina226:0-0040"
    iio.measure(bus_v=3.3, shunt_v=0.001, power_w=0.5, current_a=0.1)
    address = str(iio.meter)
    until(lambda: manager.connect_device("iio", address)["status"] != "error", "the driver runs", limit_s=120)
    assert manager.execute_command("iio", "read").check()["result"]["values"]["voltage1"] == pytest.approx(3.3)
    with iio.meter_pulled():
        gone = manager.execute_command("iio", "read")
        assert (gone["status"], gone["state"]) == ("error", "error")
        assert "device is gone" in gone["message"] and gone["remedy"], gone
    # the rights of the process were for files that went with the chip: it is another process that goes on
    until(lambda: manager.reset_device("iio", device)["status"] != "error", "it is reset", limit_s=120)
    until(lambda: manager.connect_device("iio", address)["status"] != "error", "it runs again", limit_s=120)
    assert manager.execute_command("iio", "read").check()["result"]["values"]["voltage1"] == pytest.approx(3.3)


def test_the_buffer_is_streamed_from_the_command_line(vfab: Vfab, iio: IioChips) -> None:
    iio.measure(bus_v=1.25, shunt_v=0.001, power_w=0.5, current_a=0.1)
    buffered = ("--driver", "iio", "--set", "buffered=true", "--count", 5, "--json")
    done = vfab("stream", iio.node, *buffered, timeout=280)
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["data"]["voltage1"] for record in records] == [1.25] * 5
    assert len({record["device_time_s"] for record in records}) == 5
