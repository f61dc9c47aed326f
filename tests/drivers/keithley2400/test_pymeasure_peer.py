"""PyMeasure's Keithley 2400, which nobody here wrote, against the simulator: each property, and usual work."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pymeasure")
pytest.importorskip("pyvisa_py")
pytestmark = [pytest.mark.referee, pytest.mark.filterwarnings("ignore::FutureWarning")]

SIMULATOR = Path(importlib.util.find_spec("vfab").origin).parent / "drivers" / "keithley2400" / "simulator.py"  # type: ignore[union-attr, arg-type]
DATA = ("buffer_data", "mean", "max", "min", "std", "standard_devs")
"""Properties that need something in the buffer."""


@pytest.fixture
def meter(request: pytest.FixtureRequest) -> Iterator[Any]:
    import json

    from pymeasure.instruments.keithley import Keithley2400

    command = [sys.executable, str(SIMULATOR), "--speed", "instant", "--noise", "0", "--dut", request.param]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        host, _, port = json.loads(process.stdout.readline())["address"].removeprefix("tcp://").rpartition(":")
        ends = {"read_termination": "\n", "write_termination": "\n", "timeout": 20_000}
        made = Keithley2400(f"TCPIP::{host}::{port}::SOCKET", visa_library="@py", **ends)
        yield made
        assert errors_of(made) == []
        made.adapter.close()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def errors_of(meter: Any) -> list[str]:
    told = iter(lambda: meter.ask(":SYST:ERR?").strip(), '0,"No error"')
    return [text for _, text in zip(range(12), told, strict=False)]


@pytest.mark.parametrize("meter", ["resistor:1000"], indirect=True)
def test_every_property_is_answered_and_takes_back_what_it_told(meter: Any) -> None:
    properties = {name: value for name, value in inspect.getmembers(type(meter)) if isinstance(value, property)}
    told = {}
    for name in properties:
        if not name.startswith(DATA):
            told[name] = getattr(meter, name)
    assert len(told) > 50
    assert errors_of(meter) == []
    for name, value in told.items():
        if properties[name].fset is None or value is None:
            continue
        try:
            setattr(meter, name, value)
        except (LookupError, ValueError):  # PyMeasure has no command for it, or takes other words than it tells
            continue
        assert errors_of(meter) == [], name
        assert getattr(meter, name) == value, name


@pytest.mark.parametrize("meter", ["resistor:1000"], indirect=True)
def test_a_buffer_is_filled_waited_for_and_its_statistics_are_those_of_its_readings(meter: Any) -> None:
    meter.apply_voltage(compliance_current=0.02)
    meter.measure_current()
    meter.enable_source()
    meter.source_voltage = 0.5
    meter.config_buffer(4)
    meter.start_buffer()
    meter.wait_for_buffer(timeout=20)
    assert len(meter.buffer_data) == 4 * 5
    assert meter.mean_current == pytest.approx(0.5 / 1000.1, rel=1e-4)
    assert meter.std_current == pytest.approx(0, abs=1e-9)
    assert meter.max_current >= meter.min_current > 0
    meter.stop_buffer()
    meter.shutdown()
    assert meter.source_enabled is False


@pytest.mark.parametrize("meter", ["resistor:1000"], indirect=True)
def test_currents_and_resistances_are_measured_as_its_manual_has_it(meter: Any) -> None:
    meter.apply_current(compliance_voltage=5)
    meter.measure_voltage()
    meter.enable_source()
    meter.ramp_to_current(1e-3, steps=4, pause=0)
    assert meter.voltage == pytest.approx(1.0001, rel=1e-4)
    meter.reset()
    meter.enable_source()
    assert meter.ask(":SENS:FUNC:ALL;:READ?")
    assert meter.resistance == pytest.approx(1000.1, rel=1e-4), "with the current that the instrument chooses"


@pytest.mark.parametrize("meter", ["diode"], indirect=True)
def test_a_reading_waits_for_the_bus_trigger_that_was_asked_for(meter: Any) -> None:
    meter.apply_voltage(compliance_current=0.02)
    meter.enable_source()
    meter.trigger_on_bus()
    meter.write(":INIT")
    meter.trigger()
    assert len(meter.values(":FETC?")) == 5
    meter.trigger_immediately()
    meter.write(":SOUR:VOLT:STAR 0;:SOUR:VOLT:STOP 0.5;:SOUR:VOLT:STEP 0.1;:SOUR:VOLT:MODE SWE")
    meter.trigger_count = 6
    assert meter.values(":READ?")[::5] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-6)
    meter.write("*SAV 1;*RST;*RCL 1")
    assert meter.trigger_count == 6
