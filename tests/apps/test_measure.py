"""`vfab measure`: an instrument is found by what it is, measured, and left with its outputs off."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps.nodes import node_of
from apps.programs import Vfab
from vfab.apps.chart import axes_of, ticks, write_chart
from vfab.apps.measuring import check_output, driver_for_model, methods_of, parameters_from, write_measurement
from vfab.drivers.keithley2400.simulator import KeithleySimulator
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.model.errors import ConfigurationError, Refused
from vfab.sdk.link import Link, open_address
from vfab.sdk.scpi_link import ScpiLink
from vfab.sdk.scpi_ports import LinkPort
from vfab.sdk.testing import soon

SWEEP = ("iv_sweep", "start_v=0", "stop_v=0.6", "points=7")


def simulator(vfab: Vfab, *options: object, name: str = "keithley2400") -> str:
    """A simulated instrument of `vfab sim run`: its address."""
    process = vfab.start("sim", "run", name, *options)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr and process.stderr.read()
    return str(json.loads(line)["address"])


def asked(address: str, query: str) -> str:
    with Link(open_address(address), address) as link:
        return ScpiLink(LinkPort(link), error_query="").query(query)


@pytest.fixture
def drivers() -> DriverRegistry:
    return DriverRegistry(Places.from_environment({}))


# -- the command ------------------------------------------------------------------------------------------------------


def test_an_instrument_is_found_by_its_model_and_measured_into_a_file_and_a_picture(vfab: Vfab) -> None:
    address = simulator(vfab, "--speed", "instant", "--dut", "resistor:100", "--noise", "0")
    done = vfab("measure", *SWEEP, "wires=4", "--model", "Keithley 2400", "-o", "out.csv", "--picture", "out.png")
    assert done.code == 0, done.err
    assert "KEITHLEY INSTRUMENTS INC. 2400 1234567" in done.err
    assert "7 points" in done.out
    with (vfab.home / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["voltage [V]", "current [A]", "time [s]", "compliance", "status"]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx([0, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3], abs=1e-9)
    assert Image.open(vfab.home / "out.png").size == (800, 500)
    assert asked(address, ":OUTP?") == "0"
    whole = vfab("measure", *SWEEP, "--device", address, "--driver", "keithley2400", "-o", "out.json", "--json")
    assert whole.json["rows"] == json.loads((vfab.home / "out.json").read_text())["rows"]
    assert (whole.json["completed"], whole.json["driver"], whole.err) == (True, "keithley2400", "")
    table = vfab("measure", *SWEEP)
    assert table.out.splitlines()[0].split() == [
        "voltage",
        "[V]",
        "current",
        "[A]",
        "time",
        "[s]",
        "compliance",
        "status",
    ]


@pytest.mark.parametrize("by_node", [False, True])
def test_ctrl_c_leaves_the_output_off_and_keeps_what_was_measured(vfab: Vfab, by_node: bool) -> None:
    if by_node:
        node_of(vfab).up()
    # what it heard tells how far it is: to ask an instrument for a reading that it has not yet is an error, which
    # would stand in its queue for the driver to find
    with KeithleySimulator("2400", dut="resistor:100", speed="10") as meter:
        command = ("measure", "continuous", "source_v=0.5", "count=0", "interval_s=0.01", "--device", meter.address)
        process = vfab.start(*command, "--driver", "keithley2400", "-o", "part.csv", "--stream-points", "true")
        soon(lambda: sum("READ?" in message for message in meter.heard) > 5, 30, "a handful of readings")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert "outputs are off" in err
        assert not meter.meter.output
    assert "points are kept in part.csv" in err
    assert len((vfab.home / "part.csv").read_text().splitlines()) > 2


def test_what_is_wrong_is_told_with_its_field_and_range_before_anything_is_measured(vfab: Vfab) -> None:
    address = simulator(vfab, "--speed", "instant")
    for arguments, said in (
        (("iv_sweep", "start_v=0", "stop_v=300"), "stop_v: found 300 V; a 2400 sources at most ±210 V"),
        (("iv_sweep", "start_v=zero"), "start_v: found 'zero'; a number from -1100"),
        (("iv_sweep", "points=1"), "points: found 1; a whole number from 2"),
        (("iv_sweep", "begin=1"), "begin: found an unknown field"),
        (("iv_sweep", "start_v"), "found 'start_v'"),
        (("cv",), "has no AC source"),
        (("iv_sweep", "-o", "out.txt"), "is no format"),
        (("iv_sweep", "-o", "nowhere/out.csv"), "cannot be written"),
    ):
        done = vfab("measure", *arguments, "--device", address, "--driver", "keithley2400", "--json")
        assert (done.code, done.out) == (13, "")
        assert said in done.error["message"]
        assert done.error["remedy"]
    assert asked(address, ":OUTP?") == "0"


def test_an_instrument_of_another_model_is_not_measured(vfab: Vfab) -> None:
    nobody = vfab("measure", *SWEEP, "--model", "2400", "--json")
    assert (nobody.code, nobody.error["code"]) == (10, "device_not_found")
    address = simulator(vfab, "--speed", "instant", "--model", "2420")
    found = vfab("measure", *SWEEP, "--model", "2410", "--json")
    assert (found.code, found.error["code"]) == (10, "device_not_found")
    assert "is a 2420" in found.error["message"]
    named = vfab("measure", *SWEEP, "--model", "2410", "--device", address, "--json")
    assert (named.code, named.error["context"]["identity"]["model"]) == (13, "2420")
    simulator(vfab, "--speed", "instant", "--model", "2440")
    several = vfab("measure", *SWEEP, "--json")
    assert len(several.error["context"]["devices"]) == 2
    chosen = vfab("measure", *SWEEP, "--model", "2440", "--json")
    assert chosen.json["model"] == "2440"


def test_without_a_method_all_there_are_are_listed(vfab: Vfab) -> None:
    listed = vfab("measure", "--json").json["methods"]
    assert {"method": "iv_sweep", "driver": "keithley2400"}.items() <= listed[1].items()
    assert "keithley2400" in vfab("measure").out
    unknown = vfab("measure", "iv_swep", "--json").error
    assert "did you mean iv_sweep" in unknown["message"]


def test_any_scpi_instrument_is_measured_by_an_expression(vfab: Vfab) -> None:
    address = simulator(vfab, name="scpi-generic")
    done = vfab(
        "measure", "log", "expression=:MEAS:TEMP?", "unit=Cel", "count=3", "--driver", "scpi-generic", "--device",
        address.replace("tcp://", "TCPIP0::").replace(":", "::").replace("::::", "::") + "::SOCKET", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["units"] == {"value": "Cel", "time": "s"}
    assert [row[0] for row in done.json["rows"]] == pytest.approx([23] * 3, abs=1)


# -- an instrument plugin of seed 004 that uses PyVISA ----------------------------------------------------------------

PLUGIN = """
name: bench-supply
version: 1.0.0
author: a lab
description: a power supply
supported_methods: [volts]
supported_models: [PSU-9]
driver_class: supply.BenchSupply
"""
DRIVER = """
import pyvisa
from vfab.sdk import InstrumentDriver

class BenchSupply(InstrumentDriver):
    def __init__(self, resource_name, config=None):
        self.resource_name, self.config, self.session = resource_name, config or {}, None

    def connect(self):
        self.manager = pyvisa.ResourceManager("LIBRARY")
        self.session = self.manager.open_resource(self.resource_name, read_termination="\\n", write_termination="\\n")
        return True

    def disconnect(self):
        self.session.close()
        return True

    def reset(self):
        self.session.write("*RST")

    def get_identity(self):
        maker, model, serial, firmware = self.session.query("*IDN?").split(",")
        return {"manufacturer": maker, "model": model, "serial": serial, "firmware": firmware}

    def get_capabilities(self):
        return ["volts"]

    def configure(self, method, params):
        self.session.write(":VOLT %.4f" % params["volts"])

    def measure(self, method, params):
        self.configure(method, params)
        return {"volts": float(self.session.query(":VOLT?"))}

    def abort(self):
        pass

    def get_status(self):
        return {"error": self.session.query(":SYST:ERR?")}
"""


@pytest.mark.referee
def test_an_instrument_plugin_of_the_older_shape_measures_through_pyvisa(vfab: Vfab) -> None:
    pytest.importorskip("pyvisa_sim")
    library = f"{Path(__file__).parents[1] / 'sdk' / 'samples' / 'pyvisa_sim.yaml'}@sim"
    folder = vfab.home / "home" / "plugins" / "bench-supply"
    folder.mkdir(parents=True)
    permissions = f"permissions: {{files: ['read:{library.removesuffix('@sim')}']}}\n"
    (folder / "plugin.yaml").write_text(PLUGIN.rstrip() + "\n" + permissions)
    (folder / "supply.py").write_text(DRIVER.replace("LIBRARY", library))
    done = vfab(
        "measure", "volts", "volts=2.5", "--model", "PSU-9", "--device", "GPIB0::8::INSTR", "-o", "v.json", "--json"
    )
    assert done.code == 0, done.err
    assert (done.json["result"], done.json["driver"]) == ({"volts": 2.5}, "bench-supply")
    assert json.loads((vfab.home / "v.json").read_text())["result"] == {"volts": 2.5}
    shown = vfab("measure", "volts", "volts=1", "--driver", "bench-supply", "--device", "GPIB0::8::INSTR")
    assert "volts: 1.0" in shown.out
    refused = vfab("measure", "volts", "volts=1", "--device", "GPIB0::8::INSTR", "-o", "v.csv", "--json")
    assert "no rows" in refused.error["message"]


# -- the pieces -------------------------------------------------------------------------------------------------------


def test_a_models_driver_is_found_however_the_model_is_written(drivers: DriverRegistry) -> None:
    for text in ("2400", "MODEL 2400", "Keithley 2400", "keithley model 2400", " 2400 "):
        assert driver_for_model(drivers, text) == "keithley2400"
    with pytest.raises(ConfigurationError, match="did you mean 2440"):
        driver_for_model(drivers, "2450")
    assert drivers.find_driver_for_model("2400") == "keithley2400"
    assert drivers.find_drivers_for_method("iv_sweep") == ["keithley2400"]
    assert drivers.find_drivers_for_method("cv_measurement") == []
    assert {"point", "log", "trace", "iv_sweep"} <= {entry["method"] for entry in methods_of(drivers)}


def test_texts_are_read_by_the_type_of_their_parameter(drivers: DriverRegistry) -> None:
    manifest = drivers.get("keithley2400").manifest
    given = {"start_v": "0", "stop_v": "1e0", "points": "5", "both_ways": "yes", "wires": "4"}
    assert parameters_from(manifest, "iv_sweep", given) == {
        "start_v": 0.0, "stop_v": 1.0, "points": 5, "both_ways": True, "wires": "4",
    }  # fmt: skip
    assert parameters_from(manifest, "unknown", {"a": "[1, 2]", "b": "text", "c": 3}) == {
        "a": [1, 2],
        "b": "text",
        "c": 3,
    }
    with pytest.raises(Refused, match=r"points: found '5\.5'; a whole number"):
        parameters_from(manifest, "iv_sweep", {"points": "5.5"})


RESULT: dict[str, Any] = {
    "method": "iv_sweep",
    "columns": ["voltage", "current", "time", "compliance"],
    "units": {"voltage": "V", "current": "A"},
    "rows": [[0.0, 0.0, 0.0, False], [0.5, None, 0.1, False], [1.0, 1e-3, 0.2, True]],
}


def test_a_chart_has_the_first_column_across_or_the_time(tmp_path: Path) -> None:
    assert axes_of(RESULT) == (0, 1)
    assert axes_of({**RESULT, "method": "continuous"}) == (2, 1)
    fixed = {**RESULT, "method": "log", "columns": ["volts", "time"], "rows": [[1.0, 0.0], [1.0, 1.0]]}
    assert axes_of(fixed) == (1, 0)
    for number, result in enumerate((RESULT, fixed, {**fixed, "rows": [[1.0, 0.0]]})):
        file = tmp_path / f"{number}.png"
        write_chart(file, result)
        assert Image.open(file).format == "PNG"
    with pytest.raises(ConfigurationError, match="nothing to draw"):
        axes_of({"method": "x", "columns": ["name"], "rows": [["a"]]})


def test_ticks_are_round_numbers_within_the_span() -> None:
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(-3e-6, 2e-6) == pytest.approx([-3e-6, -2e-6, -1e-6, 0, 1e-6, 2e-6])
    assert ticks(5.0, 5.0) == [5.0]


def test_what_has_no_value_is_empty_in_a_file_and_half_a_file_is_never_left(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    write_measurement(file, RESULT)
    assert file.read_text().splitlines()[2] == "0.5,,0.1,False"
    check_output(None, (".csv",))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        check_output(tmp_path / "folder.csv", (".csv",))
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(OSError):
        write_measurement(tmp_path / "taken.csv", RESULT)
    assert [path.name for path in tmp_path.glob(".*")] == []
