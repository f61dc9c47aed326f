"""Any SCPI instrument: vfab's simulated multimeter, and what sinstruments and lewis play."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from vfab.drivers.scpi_generic.driver import ScpiGenericDriver
from vfab.drivers.scpi_generic.simulator import MultimeterSimulator, main
from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    DriverError,
    HardwareError,
    LinkLost,
    ProtocolError,
    Refused,
)
from vfab.sdk.testing import DriverBench, manifest_in

MANIFEST = manifest_in(Path(__file__).parent)
EXPRESSIONS = {"voltage [V]": ":MEAS:VOLT?", "bath [Cel]": ":MEAS:TEMP?"}
WAIT_S = 20.0


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[ScpiGenericDriver]]:
    with DriverBench(ScpiGenericDriver, MANIFEST, address, config=settings) as made:
        made.driver.connect()
        yield made


@pytest.fixture
def meter() -> Iterator[str]:
    with MultimeterSimulator() as simulator:
        yield simulator.address


# -- vfab's own multimeter --------------------------------------------------------------------------------------------


def test_other_peoples_programs_configure_trigger_and_read_the_multimeter(meter: str) -> None:
    pyvisa = pytest.importorskip("pyvisa")
    pytest.importorskip("pyvisa_py")
    host, _, port = meter.removeprefix("tcp://").rpartition(":")
    ends = {"read_termination": "\n", "write_termination": "\n", "timeout": 20_000}
    with pyvisa.ResourceManager("@py").open_resource(f"TCPIP0::{host}::{port}::SOCKET", **ends) as visa:
        visa.write("CONF:VOLT:DC 10,0.001;:SAMP:COUN 3")
        assert visa.query("CONF?") == '"VOLT +1.00000000E+01,+1.00000000E-03"'
        assert visa.query_ascii_values("READ?") == pytest.approx([1.5] * 3, abs=1e-3)
        visa.write("CONF:VOLT:DC 0.1")
        assert visa.query_ascii_values("READ?") == [9.9e37], "an overload"
        visa.write("FUNC 'RES';:RES:RANG 1e4;NPLC 1;:INIT")
        assert visa.query_ascii_values("FETC?") == pytest.approx([1000], abs=1)
        assert visa.query("FUNC?;:RES:RANG:AUTO?") == '"RES";0'
        assert float(visa.query("MEAS:CURR:AC? DEF")) == pytest.approx(2e-4, rel=0.1)
        visa.write("CONF:VOLT:DC 10,MAX")
        assert visa.query("CONF?") == '"VOLT +1.00000000E+01,+1.00000000E-03"'
        visa.write("VOLT:DC:RES MIN;:TRIG:COUN INF")
        assert visa.query("CONF?;:TRIG:COUN?") == '"VOLT +1.00000000E+01,+3.00000000E-06";+9.90000000E+37'
        visa.write("CONF:CURR 1,x")
        assert visa.query("CONF?;:SYST:ERR?").startswith('"VOLT +1.00000000E+01,+3.00000000E-06";-104')
        visa.write(":*RST;:FUNC 'FLUX'")
        assert visa.query("FUNC?;:SYST:ERR?").startswith('"VOLT";-224')


def test_an_instrument_says_who_it_is_and_what_it_can(meter: str) -> None:
    with bench(meter, expressions={**EXPRESSIONS, "flux [Wb]": ":MEAS:FLUX?"}, timeout_s=0.2) as b:
        assert b.driver.get_identity() == {
            "manufacturer": "VFAB", "model": "DMM-1", "serial": "0042", "firmware": "1.0",
        }  # fmt: skip
        assert b.driver.get_capabilities() == ["point", "log", "trace", "voltage", "bath"], "it measures no flux"
        features = b.driver.features()
        assert (features["scpi_version"], features["options"]) == ("1999.0", "0")
        assert b.driver.get_status()["status_byte"] == 0


def test_configured_expressions_are_measured_with_their_units(meter: str) -> None:
    with bench(meter, expressions=EXPRESSIONS) as b:
        point = b.driver.measure("point")
        assert point["columns"] == ["voltage", "bath", "time"]
        assert point["units"] == {"voltage": "V", "bath": "Cel", "time": "s"}
        assert point["rows"][0][0] == pytest.approx(1.5, abs=0.01)
        log = b.driver.measure_log(count=3)
        assert (log["points"], log["completed"]) == (3, True)
        assert b.driver.measure("bath")["columns"] == ["bath", "time"]
        assert b.driver.measure_point(expression=":MEAS:RES?", unit="Ohm")["units"]["value"] == "Ohm"


@pytest.mark.parametrize("text", [{"expression": ":TRAC?"}, {"expression": ":TRAC:BLOC?", "format": "real32"}])
def test_a_waveform_is_taken_as_text_and_as_a_block(meter: str, text: dict[str, str]) -> None:
    with bench(meter) as b:
        trace = b.driver.measure_trace(**text)
        assert trace["points"] == 100
        assert trace["rows"][25] == [25, pytest.approx(1.0)]
        assert len(b.driver.read_block(":TRAC:BLOC?")) == 400


def test_a_block_of_another_size_than_its_format_is_refused(meter: str) -> None:
    with bench(meter) as b, pytest.raises(ProtocolError, match="is not a block"):
        b.driver.measure("trace", expression=":TRAC?", format="real64")


def test_what_there_is_nothing_to_ask_for_is_refused(meter: str) -> None:
    with bench(meter) as b:
        for method in ("point", "log"):
            with pytest.raises(Refused, match="nothing to ask"):
                b.driver.measure(method)
        with pytest.raises(Refused, match="expression: found nothing"):
            b.driver.measure("trace")
        with pytest.raises(Refused, match="voltage"):
            b.driver.measure("voltage")


def test_expressions_that_are_none_are_told() -> None:
    for wrong in ({"1 volt": ":MEAS?"}, {"volt": " "}):
        with pytest.raises(ConfigurationError, match="no named query"):
            DriverBench(ScpiGenericDriver, MANIFEST, config={"expressions": wrong})


def test_an_endless_log_ends_by_abort_and_keeps_what_was_measured(meter: str) -> None:
    with bench(meter, expressions=EXPRESSIONS) as b:
        told = threading.Event()
        b._on_progress = lambda data: told.set() if data["done"] == 2 else None
        running = b.start(lambda: b.driver.measure("log", count=0, interval_s=0.001))
        assert told.wait(WAIT_S)
        assert b.driver.abort()["aborted"] is True
        with pytest.raises(Cancelled) as caught:
            running.result(WAIT_S)
        assert caught.value.context["partial"]["points"] >= 2
        assert b.driver.measure("point")["points"] == 1


def test_numbers_are_streamed_until_stop(meter: str) -> None:
    with bench(meter, expressions=EXPRESSIONS) as b:
        b.driver.start_streaming(interval_s=0.001)
        record = b.streams["main"].read(WAIT_S)
        assert record is not None
        assert record.data[0] == pytest.approx(1.5, abs=0.01)
        assert b.streams["main"].info.about["units"] == ["V", "Cel"]
        b.driver.stop_streaming()


def test_what_the_instrument_refuses_is_told_and_reset_on_connect_resets(meter: str) -> None:
    with bench(meter, reset_on_connect=True, timeout_s=0.2) as b:
        with pytest.raises(HardwareError, match="-113 Undefined header"):
            b.driver.measure("point", expression=":MEAS:FLUX?")
        b.driver.write("*CLS")
        assert b.driver.errors() == []
        b.driver.reset()
        assert b.driver.query("*OPT?") == "0"


def test_the_simulator_runs_as_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    try:
        assert main([]) == 0
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert '"name": "scpi-generic"' in capsys.readouterr().out


# -- other people's instruments ---------------------------------------------------------------------------------------


def soon(find: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    end = time.monotonic() + 30
    while not (found := find()):
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < end, "it does not serve"
        threading.Event().wait(0.05)
    return found


@contextmanager
def served(*command: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """A program that listens on a TCP port of its choice: its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env={**os.environ, **(env or {})}, stderr=subprocess.DEVNULL
    )

    def port() -> int:
        listening = [c for c in psutil.Process(process.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        return next((c.laddr.port for c in listening), 0)

    try:
        yield f"tcp://127.0.0.1:{soon(port, process)}"
    finally:
        process.terminate()
        process.wait(10)


POWER_SUPPLY = """
from sinstruments.simulator import BaseDevice

class PowerSupply(BaseDevice):
    volts = "+1.000000E+00"

    def handle_message(self, line):
        text = line.strip().decode() if isinstance(line, bytes) else line.strip()
        if text == "*IDN?":
            return b"SINSTRUMENTS,PSU,1,2\\n"
        if text == ":SYST:ERR?":
            return b'+0,"No error"\\n'
        if text == ":VOLT?":
            return self.volts.encode() + b"\\n"
        if text.startswith(":VOLT "):
            self.volts = text[6:]
        return None
"""


@pytest.mark.referee
def test_an_instrument_on_the_server_of_sinstruments_is_measured_by_tcp_and_by_a_serial_line(tmp_path: Path) -> None:
    pytest.importorskip("sinstruments")
    (tmp_path / "power_supply_here.py").write_text(POWER_SUPPLY)
    serial = tmp_path / "lines" / "psu"
    (tmp_path / "bench.yml").write_text(
        "devices:\n  - class: PowerSupply\n    package: power_supply_here\n    name: psu\n    transports:\n"
        f"      - {{type: tcp, url: '127.0.0.1:0'}}\n      - {{type: serial, url: '{serial}'}}\n"
    )
    command = ("sinstruments", "-c", str(tmp_path / "bench.yml"))
    with served(*command, env={"PYTHONPATH": str(tmp_path)}) as address:
        for where in (address, str(serial)):
            with bench(where, expressions={"voltage [V]": ":VOLT?"}, timeout_s=5) as b:
                assert b.driver.get_identity()["model"] == "PSU"
                b.driver.write(":VOLT 2.5")
                assert b.driver.measure("voltage")["rows"][0][0] == 2.5


@pytest.mark.referee
def test_a_temperature_bath_of_lewis_is_measured_and_lost_when_it_is_switched_off() -> None:
    pytest.importorskip("lewis")
    adapter = 'julabo-version-1: {bind_address: "127.0.0.1", port: 0}'
    settings = {
        "identity_query": "VERSION", "error_query": "", "write_termination": "\\r", "read_termination": "\\r\\n",
        "expressions": {"bath [Cel]": "IN_PV_00", "target [Cel]": "IN_SP_00"}, "timeout_s": 5,
    }  # fmt: skip
    with served("lewis", "julabo", "-p", adapter) as address:
        with bench(address, **settings) as b:
            assert b.driver.get_identity()["manufacturer"] == "JULABO FP50_MH Simulator"
            assert b.driver.get_capabilities()[-2:] == ["bath", "target"]
            log = b.driver.measure("log", count=3)
            assert [row[:2] for row in log["rows"]] == [[24.0, 24.0]] * 3
        left = bench(address, **settings)
        b = left.__enter__()
    try:
        with pytest.raises((LinkLost, DriverError)):
            b.driver.measure("bath")
    finally:
        left.__exit__(None, None, None)
