"""Instruments behind VISA, which pyvisa-sim plays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.visa.driver import VisaDriver
from vfab.model.errors import ConfigurationError, HardwareError
from vfab.sdk.testing import DriverBench, manifest_in

pytestmark = pytest.mark.referee
pytest.importorskip("pyvisa_sim")

MANIFEST = manifest_in(Path(__file__).parent)
BENCH = r"""
spec: "1.1"
devices:
  supply:
    eom:
      GPIB INSTR: {q: "\n", r: "\n"}
      TCPIP INSTR: {q: "\n", r: "\n"}
    error:
      status_register:
        - {q: "*ESR?", command_error: 32, query_error: 4}
      error_queue:
        - {q: ":SYST:ERR?", default: '0,"No error"', command_error: '-113,"Undefined header"', query_error: '-420'}
    dialogues:
      - {q: "*IDN?", r: "SIMULATED,PSU-9,77,2.1"}
      - {q: "*RST"}
      - {q: "*CLS"}
      - {q: "*STB?", r: "0"}
      - {q: ":MEAS:CURR?", r: "+1.25000E-03"}
    properties:
      voltage:
        default: 1.0
        getter: {q: ":VOLT?", r: "{:+.6f}"}
        setter: {q: ":VOLT {:.4f}"}
        specs: {min: 0, max: 6, type: float}
resources:
  GPIB0::8::INSTR: {device: supply}
  TCPIP0::localhost::inst0::INSTR: {device: supply}
"""


@contextmanager
def bench(folder: Path, address: str, **settings: Any) -> Iterator[DriverBench[VisaDriver]]:
    file = folder / "bench.yaml"
    file.write_text(BENCH)
    library = {"visa_library": f"{file}@sim", "timeout_s": 5}
    with DriverBench(VisaDriver, MANIFEST, address, config={**library, **settings}) as made:
        yield made


@pytest.mark.parametrize("address", ["GPIB0::8::INSTR", "visa://TCPIP0::localhost::inst0::INSTR"])
def test_an_instrument_of_pyvisa_sim_is_identified_set_and_measured(tmp_path: Path, address: str) -> None:
    with bench(tmp_path, address, expressions={"current [A]": ":MEAS:CURR?"}) as b:
        b.driver.connect()
        assert b.driver.get_identity()["model"] == "PSU-9"
        b.driver.write(":VOLT 2.5000")
        assert b.driver.query(":VOLT?") == "+2.500000"
        log = b.driver.measure("log", count=2)
        assert [row[0] for row in log["rows"]] == [1.25e-3] * 2
        assert log["units"]["current"] == "A"
        with pytest.raises(HardwareError, match="-113 Undefined header"):
            b.driver.write(":NONE")
        assert b.driver.get_status()["state"] == "idle"
        b.driver.reset()
        assert b.driver.measure("current")["points"] == 1
        b.driver.disconnect()
        b.driver.connect()
        assert b.driver.is_connected()


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path, "visa://NONSENSE::1") as b, pytest.raises(ConfigurationError, match="not a VISA resource"):
        b.driver.connect()
