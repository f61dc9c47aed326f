"""What a source-meter does when vfab drives it: told by the simulator, over a TCP port or a pseudo-terminal."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.keithley2400.driver import Keithley2400Driver
from vfab.drivers.keithley2400.dut import DUTS, Dut, Noise, dut_named
from vfab.drivers.keithley2400.models import MODELS, model_named
from vfab.drivers.keithley2400.plans import plan_of
from vfab.drivers.keithley2400.readings import points_of
from vfab.drivers.keithley2400.simulator import KeithleySimulator, main
from vfab.model.devices import DeviceInfo
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DriverError,
    HardwareError,
    IllegalTransition,
    LinkLost,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.sdk.link import Link, open_address
from vfab.sdk.scpi_link import ScpiLink
from vfab.sdk.scpi_ports import LinkPort
from vfab.sdk.testing import DriverBench, manifest_in
from vfab.sdk.visa_port import VisaPort

FOLDER = Path(__file__).parent
MANIFEST = manifest_in(FOLDER)
WAIT_S = 20.0


@contextmanager
def bench(simulator: KeithleySimulator, **settings: Any) -> Iterator[DriverBench[Keithley2400Driver]]:
    with DriverBench(Keithley2400Driver, MANIFEST, simulator.address, config=settings) as made:
        yield made


@contextmanager
def connected(*, settings: dict[str, Any] | None = None, **simulation: Any) -> Iterator[Any]:
    with KeithleySimulator(**simulation) as simulator, bench(simulator, **(settings or {})) as b:
        b.driver.connect()
        yield simulator, b.driver, b


def column(result: dict[str, Any], name: str) -> list[Any]:
    at = result["columns"].index(name)
    return [row[at] for row in result["rows"]]


# -- measuring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "step"])
@pytest.mark.parametrize("pty", [False, True])
def test_a_sweep_measures_what_the_resistor_does(mode: str, pty: bool) -> None:
    with connected(dut="resistor:1000", pty=pty) as (simulator, driver, b):
        result = driver.measure("iv_sweep", start_v=-1, stop_v=1, points=21, mode=mode, wires="4")
        volts, amperes = column(result, "voltage"), column(result, "current")
        assert volts == pytest.approx([-1 + number / 10 for number in range(21)], abs=1e-9)
        assert amperes == pytest.approx([value / 1000 for value in volts], rel=1e-4, abs=1e-12)
        assert column(result, "compliance") == [False] * 21
        assert result["units"] == {"voltage": "V", "current": "A", "time": "s"}
        assert (result["points"], result["completed"], result["model"]) == (21, True, "2400")
        assert result["instrument"]["serial"] == "1234567"
        assert column(result, "time") == sorted(column(result, "time"))
        assert not simulator.meter.output
        assert b.progress[-1]["done"] == b.progress[-1]["total"] == 21
        assert simulator.server.errors == type(simulator.server.errors)()


def test_every_command_is_followed_by_a_look_into_the_error_queue() -> None:
    with connected() as (simulator, driver, _):
        driver.measure("single", source_v=0.1)
        heard = simulator.heard[simulator.heard.index("*RST") :]
        assert len(heard) > 20
        assert all(after == ":SYST:ERR?" for after in heard[1::2])


def test_a_diode_is_swept_by_ratios_there_and_back_and_by_a_list() -> None:
    with connected(dut="diode") as (simulator, driver, _):
        up = driver.measure("iv_sweep", start_a=1e-6, stop_a=1e-2, points=5, spacing="log", compliance_v=2)
        assert column(up, "current") == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
        volts = column(up, "voltage")
        assert volts == sorted(volts)
        assert 0.5 < volts[-2] < 0.65
        both = driver.iv_sweep(start_v=0, stop_v=0.6, points=4, both_ways=True)
        assert column(both, "voltage") == pytest.approx([0, 0.2, 0.4, 0.6, 0.4, 0.2, 0])
        many = [round(number / 1000, 3) for number in range(250)]
        listed = driver.iv_sweep(values_v=many)
        assert column(listed, "voltage") == pytest.approx(many)
        assert sum(1 for line in simulator.heard if line.startswith(":SOUR:LIST:VOLT:APP")) == 2


def test_compliance_is_told_with_each_point() -> None:
    with connected(dut="diode") as (_, driver, _b):
        result = driver.measure("iv_sweep", start_v=0, stop_v=1, points=11, compliance_a=1e-3)
        limited = column(result, "compliance")
        assert limited[0] is False
        assert limited[-1] is True
        assert result["compliance_points"] == sum(limited)
        assert result["compliance_a"] == 1e-3
        assert column(result, "current")[-1] == pytest.approx(1e-3, rel=1e-6)
        assert column(result, "voltage")[-1] < 0.7


def test_one_reading_several_and_a_resistance() -> None:
    with connected(dut="resistor:50") as (simulator, driver, b):
        one = driver.single(source_v=1, compliance_a=0.1, terminals="rear", delay_s=0.001)
        assert one["points"] == 1
        assert ":ROUT:TERM REAR" in simulator.heard
        several = driver.continuous(source_a=0.001, count=4, nplc=0.1)
        assert several["points"] == 4
        assert column(several, "voltage") == pytest.approx([0.0501] * 4, rel=1e-3)
        two, four = driver.resistance(), driver.resistance(wires=4)
        assert column(two, "resistance")[0] == pytest.approx(50.1, rel=1e-4), "the leads are measured, too"
        assert column(four, "resistance")[0] == pytest.approx(50.0, rel=1e-4)
        assert "point" in b.progress[-1]


def test_what_was_configured_is_measured_when_nothing_else_is_said() -> None:
    with connected() as (simulator, driver, _):
        assert driver.configure("iv_sweep", '{"start_v": 0, "stop_v": 0.3, "points": 4}')["parameters"]["points"] == 4
        assert not simulator.meter.output, "the output stays off until it is measured"
        assert driver.measure("iv_sweep")["points"] == 4
        assert driver.measure("iv_sweep", start_v=0, stop_v=0.2, points=3)["points"] == 3


def test_a_solar_cell_in_the_sun_drives_current_back() -> None:
    with connected(dut="solar") as (_, driver, _b):
        result = driver.iv_sweep(start_v=0, stop_v=0.6, points=7, compliance_a=0.1)
        assert column(result, "current")[0] == pytest.approx(-0.03, rel=1e-2)


def test_noise_is_the_same_for_the_same_seed() -> None:
    def once(seed: int) -> list[Any]:
        with connected(noise=1.0, seed=seed) as (_, driver, _b):
            rows: list[Any] = driver.iv_sweep(start_v=0, stop_v=0.5, points=5)["rows"]
            return rows

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_measured_points_are_streamed_when_the_setting_says_so() -> None:
    with connected(settings={"stream_points": True}) as (_, driver, b):
        result = driver.iv_sweep(start_v=0, stop_v=0.5, points=5, mode="step")
        records = b.streams["points"].read_many(100)
        assert [record.data for record in records] == result["rows"]
        assert [record.device_time_s for record in records] == column(result, "time")
        assert b.streams["points"].info.about["fields"] == result["columns"]


# -- aborting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["abort", "cancel", "token", "disconnect"])
@pytest.mark.parametrize("mode", ["auto", "step"])
def test_an_abort_does_not_wait_for_the_sweep_and_leaves_the_output_off(how: str, mode: str) -> None:
    """Held, the instrument never comes to the end of a point: who waited for one would wait for ever."""
    with connected(speed="held") as (simulator, driver, b):
        running = b.start(lambda: driver.measure("iv_sweep", start_v=0, stop_v=0.5, points=100, mode=mode))
        assert simulator.measuring.wait(WAIT_S)
        if mode == "step":
            simulator.release(1)
        assert not simulator.output_off.is_set()
        assert driver.get_status()["state"] == "measuring"
        if how == "token":
            running.token.cancel()
        elif how == "disconnect":
            driver.disconnect()
        else:
            assert getattr(driver, how)()["aborted"] is True
            assert simulator.output_off.is_set(), "when abort returns, the output is off"
        with pytest.raises(Cancelled, match="outputs are off") as caught:
            running.result(WAIT_S)
        assert simulator.output_off.wait(WAIT_S)
        partial = caught.value.context["partial"]
        assert partial["completed"] is False
        assert partial["points"] == len(partial["rows"]) < 2
        if how != "disconnect":
            assert driver.get_status()["state"] == "idle"
            simulator.release(1000)
            assert driver.single(source_v=0.1)["points"] == 1, "and it measures again"


def test_aborting_a_wait_between_readings_ends_it() -> None:
    with connected() as (simulator, driver, b):
        told = threading.Event()
        b._on_progress = lambda data: told.set() if data["done"] == 1 else None
        running = b.start(lambda: driver.continuous(source_v=0.1, count=0, interval_s=86400))
        assert told.wait(WAIT_S)
        assert driver.abort() == {"aborted": True, "method": "continuous", "points": 1}
        with pytest.raises(Cancelled):
            running.result(WAIT_S)
        assert not simulator.meter.output
        assert driver.abort() == {"aborted": False, "method": None, "points": 0}


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "said"),
    [
        ("iv_sweep", {"start_v": 0, "stop_v": 300}, "stop_v: found 300 V; a 2400 sources at most ±210 V"),
        ("iv_sweep", {"values_a": "0,2"}, "values_a: found 2 A; a 2400 sources at most ±1.05 A"),
        ("iv_sweep", {"start_v": 0, "stop_v": 100, "compliance_a": 1}, "from 1e-09 to 0.105 A at 100 V"),
        ("iv_sweep", {"start_v": 0, "stop_v": 1, "compliance_v": 1}, "a voltage source is limited by compliance_a"),
        ("iv_sweep", {"start_a": 0, "stop_a": 1, "compliance_a": 1}, "a current source is limited by compliance_v"),
        ("iv_sweep", {"start_v": 0}, "stop_v: found nothing; it belongs to start_v"),
        ("iv_sweep", {}, "give one of start_v with stop_v"),
        ("iv_sweep", {"start_v": 0, "stop_v": 1, "values_v": "1"}, "give one of start_v"),
        ("iv_sweep", {"start_v": 0, "stop_v": 1, "spacing": "log"}, "start_v: found 0.0; neither end"),
        ("iv_sweep", {"start_v": -1, "stop_v": 1, "spacing": "log"}, "stop_v: found 1.0; neither end"),
        ("iv_sweep", {"start_v": 0, "stop_v": 1, "points": 2000, "both_ways": True}, "at most 2500 points"),
        ("iv_sweep", {"values_v": "a,b"}, "numbers with commas between"),
        ("iv_sweep", {"start_v": 0, "stop_v": 1, "points": 1}, "points: found 1; a whole number from 2"),
        ("iv_sweep", {"start_v": 0, "stop_v": 1, "nplc": 11}, "nplc: found 11"),
        ("iv_sweep", {"stat_v": 0}, "stat_v: found an unknown field; did you mean start_v"),
        ("single", {}, "give either source_v"),
        ("single", {"source_v": 1, "source_a": 1}, "give either source_v"),
        ("single", {"source_v": 1, "wires": 3}, "wires"),
        ("cv", {}, "has no AC source"),
        ("iv_swep", {}, "did you mean iv_sweep"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(method: str, params: dict[str, Any], said: str) -> None:
    with connected() as (simulator, driver, _):
        before = len(simulator.heard)
        with pytest.raises(Refused) as caught:
            driver.measure(method, params)
        assert said in caught.value.message
        assert caught.value.remedy
        assert len(simulator.heard) == before


@pytest.mark.parametrize("text", ["[1]", "{", '"x"'])
def test_parameters_that_are_no_mapping_are_refused(text: str) -> None:
    with connected() as (_, driver, _b), pytest.raises(ConfigurationError, match="params"):
        driver.measure("single", text)


@pytest.mark.parametrize("name", list(MODELS))
def test_each_model_keeps_to_its_own_limits(name: str) -> None:
    model = MODELS[name]
    with connected(model=name, dut="resistor:1000000") as (_, driver, _b):
        assert driver.limits()["model"] == name
        assert driver.measure("single", source_v=model.max_v)["points"] == 1
        with pytest.raises(Refused, match=f"a {name} sources at most|from -1100"):
            driver.measure("single", source_v=model.max_v * 1.01)
        with pytest.raises(Refused, match="compliance_a"):
            driver.measure("single", source_v=model.max_v, compliance_a=model.most_a_at(model.max_v) * 1.01)
        assert model.most_v_at(model.max_a) >= 10
        assert model.most_a_at(model.max_v * 2) == 0


def test_methods_are_only_those_that_the_manifest_says() -> None:
    with connected() as (_, driver, _b):
        assert driver.get_capabilities() == ["iv_sweep", "single", "continuous", "resistance"]
        assert "cv" not in MANIFEST.supported_methods


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_open_interlock_is_told_in_the_instruments_words_and_the_output_is_off() -> None:
    with connected(faults=["interlock@8"]) as (simulator, driver, _):
        with pytest.raises(HardwareError, match=r"\+802 OUTPUT blocked by interlock"):
            driver.measure("single", source_v=0.1)
        assert not simulator.meter.output
        assert simulator.heard[-1] != ":READ?"


def test_a_command_that_the_instrument_refuses_is_told_in_its_words() -> None:
    with connected(settings={"timeout_s": 0.3}) as (_, driver, _b):
        with pytest.raises(HardwareError, match="-113 Undefined header; :VOLT:FOO"):
            driver.write("VOLT:FOO 1")
        with pytest.raises(HardwareError, match="-222 Parameter data out of range"):
            driver.write(":SOUR:VOLT 1000")
        with pytest.raises(HardwareError, match="-113"):
            driver.query(":NONE?")
        assert driver.query(":SOUR:FUNC?") == "VOLT"
        assert driver.errors() == []


def test_an_overflown_error_queue_is_emptied_and_told() -> None:
    with connected(faults=["overflow@12"]) as (_, driver, _b):
        with pytest.raises(HardwareError, match=r"-363 Input buffer overrun.*-350 Queue overflow"):
            driver.measure("single", source_v=0.1)
        assert driver.errors() == []


def test_an_instrument_that_falls_silent_is_told_and_found_again() -> None:
    with KeithleySimulator(faults=["silent@12"]) as simulator, bench(simulator, timeout_s=0.2) as b:
        b.driver.connect()
        with pytest.raises(TimeoutExceeded):
            b.driver.measure("single", source_v=0.1)
        simulator._silent = False
        assert b.driver.measure("single", source_v=0.1)["points"] == 1


def test_garbage_in_place_of_an_answer_is_told_and_not_believed() -> None:
    with connected(faults=["garble@8"]) as (simulator, driver, _):
        with pytest.raises(DriverError):
            driver.measure("single", source_v=0.1)
        assert not simulator.meter.output


def test_a_broken_link_is_told_and_a_new_one_is_made_by_reset() -> None:
    with connected() as (simulator, driver, _):
        simulator.unplug()
        with pytest.raises(LinkLost):
            driver.query("*IDN?")
        assert not driver.is_connected()
        with pytest.raises((LinkLost, IllegalTransition)):
            driver.measure("single", source_v=0.1)
        driver.reset()
        assert driver.measure("single", source_v=0.1)["points"] == 1
        driver.reset()
        assert simulator.heard.count("*CLS") == 1


def test_something_else_than_a_2400_is_refused_with_its_name() -> None:
    with KeithleySimulator() as simulator, bench(simulator) as b:
        simulator.server.identity = "ACME,X1,7,1.0"
        with pytest.raises(ProtocolError, match="is ACME X1, not a Keithley 2400"):
            b.driver.connect()
        assert not b.driver.is_connected()
        assert b.links[0].closed


def test_an_instrument_that_another_program_left_in_a_sweep_is_brought_to_rest() -> None:
    with KeithleySimulator(speed="held") as simulator, bench(simulator) as b:
        with Link(open_address(simulator.address), simulator.address) as other:
            link = ScpiLink(LinkPort(other))
            link.write(":OUTP ON")
            link.interrupt(":READ?")
            assert simulator.measuring.wait(WAIT_S)
        b.driver.connect()
        assert not simulator.meter.output
        assert not simulator.measuring.is_set()


def test_before_connecting_and_after_disconnecting_nothing_is_measured() -> None:
    with KeithleySimulator() as simulator, bench(simulator) as b:
        for _ in range(2):
            with pytest.raises(IllegalTransition, match="not connected"):
                b.driver.measure("single", source_v=0.1)
            assert b.driver.get_status()["state"] == "disconnected"
            assert b.driver.test_connection()["success"] is False
            b.driver.connect()
            assert b.driver.connect()
            assert b.driver.test_connection()["message"].startswith("KEITHLEY")
            assert b.driver.get_identity()["model"] == "2400"
            b.driver.disconnect()
            b.driver.disconnect()


def test_without_an_instrument_the_limits_of_all_models_are_told() -> None:
    with KeithleySimulator() as simulator, bench(simulator) as b:
        assert set(b.driver.limits()) == set(MODELS)


def test_the_status_tells_output_compliance_and_limits() -> None:
    with connected() as (_, driver, _b):
        status = driver.get_status()
        assert (status["state"], status["output"], status["in_compliance"]) == ("idle", False, False)
        assert "±21 V" in status["limits"]
        assert driver.output_off() == {"output": False}


# -- streaming --------------------------------------------------------------------------------------------------------


def test_readings_are_streamed_until_stop_and_then_the_output_is_off() -> None:
    with connected() as (simulator, driver, b):
        driver.start_streaming(source_v=0.5, interval_s=0.001)
        reader = b.streams["main"]
        records = [reader.read(WAIT_S) for _ in range(5)]
        assert all(record is not None and record.data[0] == pytest.approx(0.5) for record in records)
        with pytest.raises(Refused, match="streams"):
            driver.measure("single", source_v=0.1)
        assert driver.get_status()["state"] == "streaming"
        driver.abort()
        assert simulator.output_off.wait(WAIT_S)
        assert driver.streaming_status()["streaming"] is False
        assert driver.measure("single", source_v=0.1)["points"] == 1
        with pytest.raises(Refused):
            driver.start_streaming(source_v=1000)


# -- the pieces -------------------------------------------------------------------------------------------------------


def test_answers_that_are_no_points_are_refused() -> None:
    with pytest.raises(ProtocolError, match="4 numbers"):
        points_of("1,2,3,4")
    assert math.isnan(points_of("1,2,9.91E37,3,8")[0].resistance)
    assert points_of("1,2,3,4,9.91E37")[0].status == 0
    assert points_of("1,2,3,4,65536")[0].in_compliance


def test_models_are_told_from_what_they_call_themselves() -> None:
    assert model_named("2420-C") is MODELS["2420"]
    assert model_named("2450") is None


def test_what_a_serial_port_answers_makes_it_a_device_that_the_driver_fits() -> None:
    answer = b"KEITHLEY INSTRUMENTS INC.,MODEL 2420,1234567,C30   Mar 17 2006 09:29:29/A02  /K/J\r\n"
    (question,) = MANIFEST.identify
    told: Any = question.read(answer)
    assert told == {"manufacturer": "KEITHLEY INSTRUMENTS INC.", "product": "2420", "serial_number": "1234567"}
    assert MANIFEST.score(DeviceInfo(id="serial:x", bus="serial", address="/dev/x", **told)) > 0
    assert question.read(b"KEITHLEY INSTRUMENTS INC.,MODEL 2000,1,2\r\n") is None
    assert MANIFEST.score(DeviceInfo(id="usb:x", bus="usb", address="x", manufacturer="Keithley", product="2450")) == 0


def test_devices_under_test_are_what_they_are_called() -> None:
    assert dut_named("resistor:50").at_voltage(1.0) == pytest.approx(0.02)
    assert dut_named("diode") is DUTS["diode"]
    assert Dut(saturation_a=1e-12).at_current(-1.0, limit_v=100) == -100
    for text in ("coil", "resistor:x", "resistor:0", "diode:1"):
        with pytest.raises(ConfigurationError, match="no device under test"):
            dut_named(text)
    assert Noise(1, 0).on(1.0, 1.0, 1.0) == 1.0


def test_a_plan_knows_how_long_a_point_takes() -> None:
    plan = plan_of("single", {"source_v": 1, "nplc": 5, "delay_s": 1}, MODELS["2400"])
    assert plan.point_s(50.0) == pytest.approx(1.205)
    assert (plan.unit, plan.sensed) == ("V", "CURR")
    assert plan_of("resistance", {}, MODELS["2400"]).unit == "A"


# -- the simulator ----------------------------------------------------------------------------------------------------


@pytest.fixture
def talk() -> Iterator[tuple[ScpiLink, KeithleySimulator]]:
    with (
        KeithleySimulator(dut="resistor:100") as simulator,
        Link(open_address(simulator.address), simulator.address) as link,
    ):
        made = ScpiLink(LinkPort(link), timeout_s=2)
        made.identify()
        yield made, simulator


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (":READ?", 803),
        (":INIT", 803),
        (":FETC?", -230),
        (":SOUR:VOLT 211", -222),
        (":SOUR:CURR 1.06", -222),
        (":SOUR:SWE:POIN 1", -222),
        (":SOUR:SWE:SPAC FOO", -224),
        (":SENS:FUNC VOLT", -151),
        (':SENS:FUNC "AMPS"', -224),
        (":SENS:CURR:PROT 0", -221),
        (":SENS:CURR:NPLC 11", -222),
        (":TRIG:COUN 2501", -222),
        (":OUTP MAYBE", -104),
        (":SOUR:LIST:VOLT " + ",".join(["1"] * 101), -108),
        (":SYST:LFR 55", -222),
        (":FORM REAL,64", -222),
    ],
)
def test_the_simulator_refuses_what_the_manual_forbids(talk: Any, command: str, error: int) -> None:
    link, _ = talk
    link.port.send(command.encode())
    assert [entry.code for entry in link.errors()] == [error]


@pytest.mark.parametrize(
    ("command", "query", "answer"),
    [
        (":SOUR:FUNC CURR", ":SOUR:FUNC?", "CURR"),
        (":SOUR:VOLT:MODE SWE", ":SOUR:VOLT:MODE?", "SWE"),
        (":SOUR:DEL 0.5", ":SOUR:DEL?;DEL:AUTO?", "+5.000000E-01;0"),
        (":SOUR:SWE:SPAC LOG;DIR DOWN;CAB EARL;RANG FIX", ":SOUR:SWE:SPAC?;DIR?;CAB?;RANG?", "LOG;DOWN;EARL;FIX"),
        (":SOUR:LIST:CURR 1E-3,2E-3;CURR:APP 3E-3", ":SOUR:LIST:CURR:POIN?;:SOUR:LIST:CURR?",
         "3;+1.000000E-03,+2.000000E-03,+3.000000E-03"),
        (":SENS:FUNC:OFF:ALL", ":SENS:FUNC?", ""),
        (":SENS:FUNC:ON:ALL;:SENS:FUNC:OFF 'VOLT'", ":SENS:FUNC?", '"CURR:DC","RES"'),
        (":SENS:VOLT:RANG 20", ":VOLT:RANG?;RANG:AUTO?", "+2.000000E+01;0"),
        (":SYST:RSEN ON;BEEP:STAT OFF", ":SYST:RSEN?;BEEP:STAT?", "1;0"),
        (":FORM:ELEM TIME,VOLT", ":FORM:ELEM?", "VOLT,TIME"),
        (":FORM:BORD SWAP;:FORM REAL,32", ":FORM:BORD?;:FORM?", "SWAP;REAL,32"),
        (":ROUT:TERM REAR", ":ROUT:TERM?", "REAR"),
        (":SOUR:VOLT:PROT NONE", ":SOUR:VOLT:PROT?", "+2.100000E+02"),
        (":TRIG:COUN 3;DEL 0.1;:ARM:COUN 2", ":TRIG:COUN?;DEL?;:ARM:COUN?", "3;+1.000000E-01;2"),
        (":SENS:RES:NPLC 2;MODE MAN", ":SENS:RES:NPLC?;MODE?", "+2.000000E+00;MAN"),
        (":SYST:TIME:RES;:SYST:CLE;:SYST:BEEP 500,1;:STAT:PRES", ":STAT:MEAS?;:STAT:MEAS:COND?", "0;0"),
    ],
)  # fmt: skip
def test_the_simulator_keeps_what_it_was_told(talk: Any, command: str, query: str, answer: str) -> None:
    link, _ = talk
    link.write(command)
    if answer:
        assert link.query(query) == answer


def test_the_simulator_ends_a_sweep_at_compliance_where_it_should(talk: Any) -> None:
    link, simulator = talk
    for when, points in (("NEV", 5), ("LATE", 4), ("EARL", 3)):
        link.write("*RST")
        link.write(
            f':SENS:FUNC "VOLT";:SENS:CURR:PROT 0.0249;:SOUR:VOLT:MODE SWE;STAR 0;STOP 4;:SOUR:SWE:POIN 5;CAB {when}'
        )
        link.write(":TRIG:COUN 5")
        link.write(":SOUR:CLE:AUTO ON")
        assert len(points_of(link.query(":READ?"))) == points
        assert not simulator.meter.output, "auto clear"
        assert link.query(":STAT:MEAS?") != "0"


def test_the_simulator_tells_numbers_in_blocks_and_ranges_that_are_too_small(talk: Any) -> None:
    link, _ = talk
    link.write(":FORM:ELEM VOLT,CURR")
    link.write(":SENS:CURR:RANG 1E-6")
    link.write(":SENS:CURR:PROT 0.1")
    link.write(":SOUR:VOLT 1;:OUTP ON")
    assert link.query_numbers(":READ?") == [1.0, math.inf]
    assert link.query_numbers(":SENS:DATA?") == [1.0, math.inf]
    link.write(":FORM REAL")
    assert link.query_block(":FETC?")[:4] == b"\x3f\x80\x00\x00"
    link.write(":SOUR:CLE")
    assert link.query(":OUTP?") == "0"
    link.write(":FORM ASC")
    assert link.query_numbers(":MEAS?")[0] == 1.0


@pytest.mark.referee
def test_pyvisa_measures_on_the_simulator_and_the_driver_through_pyvisa() -> None:
    pyvisa = pytest.importorskip("pyvisa")
    pytest.importorskip("pyvisa_py")
    with KeithleySimulator(dut="resistor:100") as simulator:
        host, port = simulator.address.removeprefix("tcp://").split(":")
        resource = f"TCPIP0::{host}::{port}::SOCKET"
        manager = pyvisa.ResourceManager("@py")
        meter = manager.open_resource(resource, read_termination="\n", write_termination="\n", timeout=5000)
        assert "MODEL 2400" in meter.query("*IDN?")
        meter.write(":FORM:ELEM VOLT,CURR;:SENS:FUNC 'VOLT','CURR';:SENS:CURR:PROT 0.1;:SOUR:VOLT 1;:OUTP ON")
        assert meter.query_ascii_values(":READ?") == pytest.approx([1.0, 1 / 100.1], rel=1e-5)
        meter.write(":FORM REAL,32;:FORM:BORD SWAP")
        meter.write(":READ?")
        assert pyvisa.util.from_ieee_block(meter.read_raw()[:10], "f", False) == pytest.approx(
            [1.0, 1 / 100.1], rel=1e-5
        )
        meter.close()
        manager.close()
        with DriverBench(Keithley2400Driver, MANIFEST, resource, config={"visa_library": ""}) as b:
            b.driver.open_port = lambda: VisaPort(resource, "@py")  # type: ignore[method-assign]
            b.driver.connect()
            assert b.driver.iv_sweep(start_v=0, stop_v=1, points=11)["points"] == 11
            assert not simulator.meter.output


def test_visas_name_of_a_socket_is_opened_by_the_broker() -> None:
    with KeithleySimulator() as simulator:
        name = "visa://TCPIP0::" + simulator.address.removeprefix("tcp://").replace(":", "::") + "::SOCKET"
        with DriverBench(Keithley2400Driver, MANIFEST, name) as b:
            b.driver.connect()
            assert [link.address for link in b.links] == [simulator.address]


def test_the_simulator_works_at_a_speed_and_as_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    with connected(speed=1e5) as (_, driver, _b):
        assert driver.iv_sweep(start_v=0, stop_v=0.5, points=5)["points"] == 5
    assert main(["--model", "2450"]) == 13
    assert main(["--speed", "x"]) == 13
    assert main(["--fault", "fire"]) == 13
    assert "One of" in capsys.readouterr().err
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        assert main(["--pty", "--dut", "resistor:10"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert '"address": "/dev/pts/' in capsys.readouterr().out
