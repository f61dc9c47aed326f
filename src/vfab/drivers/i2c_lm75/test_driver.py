"""What an LM75 does when vfab drives it: told by a chip whose registers are the datasheet's."""

from __future__ import annotations

import os
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.drivers.i2c_lm75.chip import LM75Chip
from vfab.drivers.i2c_lm75.driver import (
    CONFIGURATION,
    HYSTERESIS,
    MODELS,
    OVERTEMPERATURE,
    LM75Driver,
    celsius,
    register_of,
)
from vfab.model.errors import ConfigurationError, DeviceNotFound, LinkLost, ProtocolError, Refused
from vfab.sdk.testing import DriverBench, manifest_in

FOLDER = Path(__file__).parent


@pytest.fixture
def node() -> Iterator[str]:
    """A node that the broker can open; the simulated chip takes the place of the bus behind it."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@contextmanager
def bench(chip: LM75Chip, node: str, state: Path | None = None, **settings: Any) -> Iterator[DriverBench[Any]]:
    class OnChip(LM75Driver):
        bus_factory: ClassVar[Any] = chip.bus

    with DriverBench(OnChip, manifest_in(FOLDER), node, config=settings, state_dir=state) as made:
        yield made


# The table of TI's datasheet SNIS153D, "Temperature Data Format".
@pytest.mark.parametrize(
    ("register", "value"),
    [("7d00", 125.0), ("1900", 25.0), ("0080", 0.5), ("0000", 0.0), ("ff80", -0.5), ("e700", -25.0), ("c900", -55.0)],
)
def test_the_datasheets_examples_are_read_and_written(register: str, value: float) -> None:
    assert celsius(bytes.fromhex(register), 9) == value
    assert register_of(value).hex() == register


def test_only_the_bits_that_the_chip_has_count() -> None:
    assert celsius(b"\x19\x7f", 9) == 25.0, "an LM75's lower bits are undefined"
    assert celsius(b"\x19\x60", 11) == 25.375
    assert celsius(b"\x19\x10", 12) == 25.0625


@given(st.floats(-55, 125), st.sampled_from([9, 11, 12]))
def test_what_is_written_is_read_within_half_a_step(value: float, bits: int) -> None:
    assert celsius(register_of(value, bits), bits) == pytest.approx(value, abs=2.0 ** (8 - bits) / 2 + 1e-9)


def test_a_reading_is_the_chips_temperature_with_its_uncertainty(node: str) -> None:
    chip = LM75Chip()
    chip.warm_to(23.5)
    with bench(chip, node) as b:
        assert b.driver.connect() is True
        reading = b.driver.read_sensor()
        assert reading.values == {"temperature": 23.5}
        assert reading.units == {"temperature": "Cel"}
        assert reading.uncertainties["temperature"] == pytest.approx(1.1635, abs=1e-3)
        assert "SNIS153" in reading.uncertainty_source["temperature"]
        assert b.driver.get_raw_value() == 0x1780
        chip.warm_to(-30.0)
        cold = b.driver.read_sensor()
        assert cold.values == {"temperature": -30.0}
        assert cold.uncertainties["temperature"] > reading.uncertainties["temperature"], "±3 outside -25 to 100"
    assert chip.writes == [], "a chip that is awake is not written to"


@pytest.mark.parametrize("model", list(MODELS))
def test_every_kin_is_read_at_its_resolution(node: str, model: str) -> None:
    chip = LM75Chip(MODELS[model].bits)
    chip.warm_to(25.0625)
    with bench(chip, node, model=model) as b:
        b.driver.connect()
        assert b.driver.read_sensor().values["temperature"] == pytest.approx(25.0625, abs=MODELS[model].step / 2)
        info = b.driver.get_sensor_info()
        assert (info.model, info.manufacturer, info.interface) == (model, MODELS[model].maker, "i2c")


def test_a_chip_asleep_is_woken_and_its_other_bits_stay(node: str) -> None:
    chip = LM75Chip()
    chip.write(CONFIGURATION, b"\x0d")
    chip.writes.clear()
    chip.warm_to(40.0)
    with bench(chip, node) as b:
        b.driver.connect()
        assert chip.writes == [(CONFIGURATION, b"\x0c")]
        assert b.driver.read_sensor().values["temperature"] == 40.0


def test_the_full_resolution_of_a_tmp75_is_set(node: str) -> None:
    chip = LM75Chip(12)
    with bench(chip, node, model="TMP75") as b:
        b.driver.connect()
    assert chip.registers[CONFIGURATION] == b"\x60"


def test_the_address_is_the_settings_or_what_detection_found(node: str) -> None:
    chip = LM75Chip(address=0x4F)
    for address in ("0x4f", 0x4F, "79"):
        with bench(chip, node, address=address) as b:
            b.driver.connect()
            assert b.driver.get_sensor_info().details["chip_address"] == "0x4f"
    with bench(chip, node) as b:
        with pytest.raises(DeviceNotFound, match="0x48"):
            b.driver.connect()
        b.driver.device.attributes["chip_address"] = "0x4f"
        b.driver.connect()
    for wrong in ("x", 0, 0x80):
        with bench(chip, node, address=wrong) as b, pytest.raises(ConfigurationError, match="no address"):
            b.driver.connect()


def test_what_is_no_lm75_is_told(node: str) -> None:
    chip = LM75Chip()
    chip.warm_to(-100.0)
    with bench(chip, node) as b:
        with pytest.raises(ProtocolError, match="no LM75"):
            b.driver.connect()
        assert not b.driver.is_connected()
        assert all(link.closed for link in b.links)


def test_a_chip_that_goes_is_told_and_comes_back(node: str) -> None:
    chip = LM75Chip()
    with bench(chip, node) as b:
        b.driver.connect()
        chip.present = False
        with pytest.raises(DeviceNotFound):
            b.driver.read_sensor()
        chip.present = True
        assert b.driver.read_sensor().values == {"temperature": 20.0}
        chip.adapter = False
        with pytest.raises(LinkLost):
            b.driver.read_sensor()
        assert not b.driver.is_connected()
        chip.adapter = True
        b.driver.connect()
        assert b.driver.is_connected()


def test_a_threshold_goes_to_the_chip_only_if_the_settings_say_so(node: str) -> None:
    chip = LM75Chip()
    with bench(chip, node) as b:
        b.driver.connect()
        b.driver.set_threshold(30.0)
        assert chip.registers[OVERTEMPERATURE] == register_of(80)
        b.driver.configure_sensor({"write_limits": True})
        b.driver.set_threshold(30.0, hysteresis=2.0)
        assert (chip.registers[OVERTEMPERATURE], chip.registers[HYSTERESIS]) == (register_of(30), register_of(28))
        chip.warm_to(31.0)
        assert chip.output_active
        with pytest.raises(Refused, match="cannot watch"):
            b.driver.set_threshold(130.0)


def test_a_stream_and_a_calibration_of_it(node: str, tmp_path: Path) -> None:
    chip = LM75Chip()
    with bench(chip, node, tmp_path) as b:
        b.driver.connect()
        assert b.driver.calibrate(21.0).offset == 1.0
        b.driver.start_streaming(period_s=0.001)
        record = b.streams["main"].read(10)
        assert record is not None
        assert record.data == {"temperature": 21.0}
        chip.adapter = False
        reader = b.streams["main"]
        while not reader.ended:
            reader.read(1)
        error = b.driver.streaming_status()["error"]
        assert error is not None
        assert error["code"] == "link_lost"
