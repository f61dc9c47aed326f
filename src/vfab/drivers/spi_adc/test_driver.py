"""What an MCP3X0X measures when vfab asks it: told by a chip that is clocked as its datasheets' figures show."""

from __future__ import annotations

import math
import os
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.drivers.spi_adc.chip import Mcp3x0xChip
from vfab.drivers.spi_adc.driver import MODELS, SpiAdcDriver, counts_of, parse_channel, request_of
from vfab.model.errors import ConfigurationError, LinkLost, ProtocolError
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
def bench(chip: Mcp3x0xChip, node: str, **settings: Any) -> Iterator[DriverBench[Any]]:
    class OnChip(SpiAdcDriver):
        bus_factory: ClassVar[Any] = chip.bus

    with DriverBench(OnChip, manifest_in(FOLDER), node, config=settings) as made:
        yield made


# Microchip DS21295 figure 6-1 and DS21298 figure 6-1: what a microcontroller sends in three bytes.
@pytest.mark.parametrize(
    ("model", "channel", "sent"),
    [
        ("MCP3008", "0", "018000"),
        ("MCP3008", "7", "01f000"),
        ("MCP3008", "0-1", "010000"),
        ("MCP3008", "7-6", "017000"),
        ("MCP3208", "0", "060000"),
        ("MCP3208", "5", "074000"),
        ("MCP3208", "3-2", "04c000"),
    ],
)
def test_the_three_bytes_are_those_of_the_datasheets(model: str, channel: str, sent: str) -> None:
    assert request_of(parse_channel(channel), MODELS[model].bits).hex() == sent


@given(st.sampled_from(list(MODELS)), st.integers(0, 7), st.floats(0, 3.3))
def test_every_input_of_every_chip_is_measured_within_a_step(model: str, channel: int, volts: float) -> None:
    chip = Mcp3x0xChip(model)
    channel %= chip.model.inputs
    chip.inputs_v[channel] = volts
    answer = chip.transfer(request_of(parse_channel(str(channel)), chip.model.bits))
    step_v = 3.3 / chip.model.steps
    assert -1e-9 <= volts - counts_of(answer, chip.model.bits) * step_v <= step_v + 1e-9


def test_a_reading_has_a_voltage_for_each_channel_with_its_uncertainty(node: str) -> None:
    chip = Mcp3x0xChip("MCP3208", reference_v=4.096)
    chip.inputs_v[:4] = [1.0, 2.0, 0.5, 0.25]
    settings = {"model": "MCP3208", "reference_v": 4.096, "channels": ["light=0", "1", "2-3"]}
    with bench(chip, node, **settings, reference_uncertainty_v=0.01) as b:
        assert b.driver.connect() is True
        reading = b.driver.read_sensor()
        assert reading.values == {"light": 1.0, "voltage1": 2.0, "voltage2_3": 0.25}
        assert set(reading.units.values()) == {"V"}
        lsb = 0.001
        assert reading.uncertainties["light"] == pytest.approx(
            math.hypot(lsb * math.sqrt((4 + 9 + 25 + 0.25) / 3), 0.01)
        )
        assert "DS21298" in reading.uncertainty_source["light"]
        assert b.driver.get_raw_value() == {"light": 1000, "voltage1": 2000, "voltage2_3": 250}
        details = b.driver.get_sensor_info().details
        assert details["channels"]["voltage2_3"] == [2, 3]


def test_without_channels_every_input_is_measured(node: str) -> None:
    with bench(Mcp3x0xChip("MCP3004"), node, model="MCP3004") as b:
        b.driver.connect()
        assert list(b.driver.read_sensor().values) == ["voltage0", "voltage1", "voltage2", "voltage3"]


def test_a_full_scale_is_flagged(node: str) -> None:
    chip = Mcp3x0xChip()
    chip.inputs_v[3] = 5.0
    with bench(chip, node, channels=["3"]) as b:
        b.driver.connect()
        assert b.driver.read_sensor().flags == ("full-scale",)


def test_a_line_that_nobody_drives_is_told(node: str) -> None:
    chip = Mcp3x0xChip()
    chip.present = False
    with bench(chip, node) as b:
        with pytest.raises(ProtocolError, match="no converter answers"):
            b.driver.connect()
        assert all(link.closed for link in b.links)


def test_a_controller_that_goes_is_told_and_comes_back(node: str) -> None:
    chip = Mcp3x0xChip()
    with bench(chip, node) as b:
        b.driver.connect()
        chip.controller = False
        with pytest.raises(LinkLost):
            b.driver.read_sensor()
        assert not b.driver.is_connected()
        chip.controller = True
        b.driver.connect()
        assert b.driver.test_connection()["success"]


@pytest.mark.parametrize("channels", [["8"], ["0-2"], ["a=0", "a=1"], ["Light=0"], ["0", "voltage0=1"]])
def test_what_the_chip_cannot_measure_is_refused_before_anything_is_opened(node: str, channels: list[str]) -> None:
    with bench(Mcp3x0xChip(), node, channels=channels) as b:
        with pytest.raises(ConfigurationError):
            b.driver.connect()
        assert b.links == []
    with bench(Mcp3x0xChip("MCP3004"), node, model="MCP3004", channels=["4"]) as b, pytest.raises(ConfigurationError):
        b.driver.connect()


def test_a_stream_of_voltages_with_a_threshold(node: str) -> None:
    chip = Mcp3x0xChip(reference_v=1.024)
    with bench(chip, node, channels=["0"], reference_v=1.024, watch_period_s=0.001) as b:
        b.driver.connect()
        b.driver.set_threshold(0.5)
        b.driver.start_streaming(period_s=0.001)
        b.driver.enable_interrupts()
        chip.inputs_v[0] = 0.75
        reader = b.streams["main"]
        record = reader.read(10)
        while record is not None and record.data["voltage0"] < 0.75:
            record = reader.read(10)
        assert record is not None
        b.driver.disconnect()
        assert [data["value"] for kind, data in b.events if kind == "threshold_crossed"] == [0.75]
