"""Chips by their profiles: every profile that comes along is held against a chip with the datasheet's registers."""

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

from vfab.drivers.i2c_sensor.driver import I2cSensorDriver
from vfab.drivers.i2c_sensor.profile import RegisterQuantity, builtin_profiles, load_profile, profile_from
from vfab.model.errors import ConfigurationError, DeviceNotFound, ProtocolError
from vfab.sdk.testing import DriverBench, manifest_in

FOLDER = Path(__file__).parent


class Chip:
    """Registers of one or two bytes, high byte first, as these chips have them."""

    def __init__(self, registers: dict[int, bytes]) -> None:
        self.registers = dict(registers)
        self.writes: list[tuple[int, bytes]] = []
        self.address = -1
        self.present = True

    def bus(self, fd: int, address: int, *, force: bool = False) -> Chip:
        self.address = address
        return self

    def read(self, register: int, size: int) -> bytes:
        if not self.present:
            raise DeviceNotFound("no chip answers")
        return self.registers[register].ljust(size, b"\0")[:size]

    def write(self, register: int, data: bytes) -> None:
        self.writes.append((register, data))
        self.registers[register] = data


@pytest.fixture
def node() -> Iterator[str]:
    """A node that the broker can open; the simulated chip takes the place of the bus behind it."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@contextmanager
def bench(chip: Chip, node: str, **settings: Any) -> Iterator[DriverBench[Any]]:
    class OnChip(I2cSensorDriver):
        bus_factory: ClassVar[Any] = chip.bus

    with DriverBench(OnChip, manifest_in(FOLDER), node, config=settings) as made:
        yield made


def registers(**by_name: str) -> dict[int, bytes]:
    return {int(name[1:], 16): bytes.fromhex(value) for name, value in by_name.items()}


# Each row: registers, and what they mean by the datasheet's description of the format.
CHIPS: dict[str, tuple[dict[int, bytes], dict[str, float]]] = {
    "tmp102": (registers(r00="e700"), {"temperature": -25.0}),
    "tmp117": (registers(r00="f380", r0f="0117"), {"temperature": -25.0}),
    "mcp9808": (registers(r05="1e74", r06="0054", r07="0400"), {"temperature": -24.75}),
    "ina219": (registers(r01="8300", r02="5d98"), {"bus_voltage": 11.98, "shunt_voltage": -0.32}),
    "ina226": (
        registers(r01="2710", r02="2570", rfe="5449", rff="2260"),
        {"bus_voltage": 11.98, "shunt_voltage": 0.025},
    ),
    "adt7410": (registers(r00="f380", r0b="cb"), {"temperature": -25.0}),
    "ads1115": (registers(r00="7fff"), {"voltage": 4.095875}),
}


def test_every_profile_that_comes_along_is_tried_here() -> None:
    assert set(builtin_profiles()) == set(CHIPS)


@pytest.mark.parametrize("name", list(CHIPS))
def test_a_profile_reads_its_datasheets_example(node: str, name: str) -> None:
    there, meant = CHIPS[name]
    chip = Chip(there)
    with bench(chip, node, profile=name) as b:
        b.driver.connect()
        reading = b.driver.read_sensor()
        assert reading.values == {quantity: pytest.approx(value) for quantity, value in meant.items()}
        assert reading.status == "good"
        profile = load_profile(name, [])
        assert chip.address == profile.addresses[0]
        assert b.driver.get_sensor_info().model == name.upper()
        assert [register for register, _ in chip.writes] == [write.register for write in profile.setup]


def test_another_chip_at_the_address_is_told(node: str) -> None:
    chip = Chip(registers(r00="0000", r0f="1234"))
    with bench(chip, node, profile="tmp117") as b:
        with pytest.raises(ProtocolError, match="no TMP117") as caught:
            b.driver.connect()
        assert caught.value.context["found"] == 0x1234
        assert not b.driver.is_connected()


def test_a_chip_described_in_the_settings_is_read(node: str) -> None:
    own = [
        {
            "name": "pressure",
            "register": 0x10,
            "size": 3,
            "endian": "little",
            "scale": 0.5,
            "offset": 100.0,
            "unit": "Pa",
        },
        {"name": "humidity", "register": 0x20, "size": 1, "unit": "%", "bits": [6, 0], "uncertainty": 2.0},
    ]
    chip = Chip({0x10: b"\x10\x00\x01", 0x20: b"\xb2"})
    with bench(chip, node, registers=own, address="0x77") as b:
        b.driver.connect()
        assert chip.address == 0x77
        assert b.driver.read_sensor().values == {"pressure": 0x010010 * 0.5 + 100, "humidity": 50.0}
        assert b.driver.get_raw_value() == {"pressure": 0x010010, "humidity": 0xB2}
        assert b.driver.read_sensor().uncertainties == {"humidity": 2.0}


def test_a_profile_of_ones_own_is_a_file(node: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: MINE\nquantities: [{name: light, register: 4, endian: little, unit: lx, scale: 0.1}]\n")
    with bench(Chip({4: b"\x64\x00"}), node, profile=str(file)) as b:
        b.driver.connect()
        assert b.driver.read_sensor().values == {"light": pytest.approx(10.0)}


def test_a_chip_that_goes_is_told_and_comes_back(node: str) -> None:
    chip = Chip(CHIPS["tmp102"][0])
    with bench(chip, node, profile="tmp102") as b:
        b.driver.connect()
        chip.present = False
        with pytest.raises(DeviceNotFound):
            b.driver.read_sensor()
        chip.present = True
        assert b.driver.read_sensor().values == {"temperature": -25.0}


def test_a_stream_of_a_chip(node: str) -> None:
    with bench(Chip(CHIPS["ina226"][0]), node, profile="ina226") as b:
        b.driver.connect()
        b.driver.start_streaming(period_s=0.001)
        record = b.streams["main"].read(10)
        assert record is not None
        assert record.data["bus_voltage"] == pytest.approx(11.98)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"quantities": []}, "no quantities"),
        ({"quantities": 7}, "array"),
        ({"quantities": [{"name": "t", "register": 0, "unit": "degC"}]}, "not the unit"),
        ({"quantities": [{"name": "t", "register": 300, "unit": "V"}]}, "register 300"),
        ({"quantities": [{"name": "t", "register": 0, "unit": "V", "size": 33}]}, "size 33"),
        ({"quantities": [{"name": "t", "register": 0, "unit": "V", "bits": [3, 9]}]}, "bits"),
        ({"quantities": [{"name": "t", "register": 0, "unit": "V", "scale": 0}]}, "scale"),
        ({"quantities": [{"name": "t", "register": 0, "unit": "V", "sign_bit": 16}]}, "sign_bit"),
        ({"quantities": [{"name": "t", "register": 0, "unit": "V", "speed": 1}]}, "speed"),
        ({"quantities": [{"name": "t", "register": 0, "unit": "V"}] * 2}, "one name"),
        (
            {"quantities": [{"name": "t", "register": 0, "unit": "V"}], "setup": [{"register": 1, "value": 256}]},
            "0x100",
        ),
    ],
)
def test_a_profile_that_breaks_a_rule_is_refused_with_the_place(data: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        profile_from(data, "mine.yaml")


def test_a_profile_that_is_not_there_or_no_yaml_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("quantities: [")
    for name, said in (("nosuch", "no profile"), ("", "was not said"), (str(broken), "line")):
        with pytest.raises(ConfigurationError, match=said) as caught:
            load_profile(name, [])
        assert caught.value.remedy


@given(st.integers(0, 0xFFFF), st.integers(0, 15), st.integers(0, 15), st.booleans())
def test_bits_and_sign_are_those_of_twos_complement(word: int, a: int, b: int, signed: bool) -> None:
    high, low = max(a, b), min(a, b)
    quantity = RegisterQuantity(name="x", register=0, unit="1", bits=(high, low), signed=signed)
    text = f"{word:016b}"[15 - high : 16 - low]
    expected = int(text, 2) - ((1 << len(text)) if signed and text[0] == "1" else 0)
    assert quantity.number(word.to_bytes(2, "big")) == expected
