"""`Instrument`: what every native instrument driver gets, shown by one that counts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from vfab.model.errors import Cancelled, ConfigurationError, HardwareError, IllegalTransition, Refused
from vfab.model.manifest import manifest_from_dict
from vfab.sdk.instrument import Instrument
from vfab.sdk.measurement import Column, MeasurementRun, checked_parameters, command_of, parameters_schema
from vfab.sdk.testing import DriverBench

MANIFEST = manifest_from_dict(
    {
        "name": "counter",
        "version": "1.0",
        "author": "a test",
        "description": "counts",
        "category": "instrument",
        "driver_class": "driver.Counter",
        "supported_methods": ["count_up", "free"],
        "commands": {
            "count-up": {
                "help": "Count",
                "parameters": {
                    "points": {"type": "integer", "minimum": 1, "maximum": 100, "default": 3},
                    "steps": {"type": "string"},
                    "pause_s": {"type": "number", "default": 0},
                    "unit": {"type": "string", "required": True},
                },
            }
        },
    }
)


class Counter(Instrument):
    """Counts; `fails_at` says where it fails, and with what."""

    connected = False
    fails_at: Mapping[int, Exception] = MappingProxyType({})
    made_safe = 0
    unsafe: Exception | None = None

    def connect(self) -> bool:
        self.connected = True
        return True

    def disconnect(self) -> None:
        self.connected = False

    def is_connected(self) -> bool:
        return self.connected

    def read_identity(self) -> dict[str, str]:
        return {"manufacturer": "a test", "model": "C-1", "serial": "", "firmware": ""}

    def perform(self, run: MeasurementRun) -> None:
        run.begin([Column("n"), Column("half", "1")], run.params.get("points", 0))
        for number in range(run.params.get("points", 1)):
            if number in self.fails_at:
                raise self.fails_at[number]
            run.add(number, number / 2, device_time_s=float(number))
            self.wait_s(run.params.get("pause_s", 0))

    def make_safe(self) -> None:
        self.made_safe += 1
        if self.unsafe is not None:
            raise self.unsafe


@pytest.fixture
def bench() -> Any:
    with DriverBench(Counter, MANIFEST, config={"stream_points": True}) as made:
        made.driver.connect()
        yield made


def test_a_measurement_has_columns_units_rows_and_who_measured(bench: Any) -> None:
    result = bench.driver.measure("count_up", unit="1")
    assert result["rows"] == [[0, 0.0], [1, 0.5], [2, 1.0]]
    assert (result["columns"], result["units"]) == (["n", "half"], {"half": "1"})
    assert result["instrument"]["model"] == "C-1"
    assert result["parameters"] == {"points": 3, "pause_s": 0, "unit": "1"}
    assert [told["done"] for told in bench.progress] == [0, 1, 2, 3]
    assert bench.progress[-1]["point"] == {"n": 2, "half": 1.0}
    assert bench.driver.made_safe == 0
    assert [record.data for record in bench.streams["points"].read_many(9)] == result["rows"]


def test_an_error_leaves_the_instrument_safe_and_tells_what_was_measured(bench: Any) -> None:
    bench.driver.fails_at = {2: HardwareError("too hot")}
    bench.driver.unsafe = HardwareError("the output does not switch")
    with pytest.raises(HardwareError, match="too hot") as caught:
        bench.driver.measure("count_up", unit="1")
    assert caught.value.context["partial"]["rows"] == [[0, 0.0], [1, 0.5]]
    assert bench.driver.made_safe == 1
    bench.driver.fails_at = {1: ZeroDivisionError("a defect")}
    with pytest.raises(ZeroDivisionError):
        bench.driver.measure("count_up", unit="1")
    assert bench.driver.made_safe == 2
    assert bench.driver.get_status()["state"] == "idle"


def test_an_abort_ends_a_measurement_that_has_no_token_of_a_caller(bench: Any) -> None:
    told, caught = threading.Event(), []
    bench._on_progress = lambda data: told.set() if data["done"] else None

    def measure() -> None:
        try:
            bench.driver.measure("count_up", unit="1", pause_s=86400)
        except Cancelled as error:
            caught.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    assert told.wait(20)
    assert bench.driver.get_status()["state"] == "measuring"
    assert bench.driver.abort() == {"aborted": True, "method": "count_up", "points": 1}
    thread.join(20)
    assert caught[0].context["partial"]["points"] == 1
    assert str(caught[0]) == "count_up was aborted after 1 points; the outputs are off"


def test_without_a_measurement_an_abort_makes_the_instrument_safe(bench: Any) -> None:
    assert bench.driver.cancel()["aborted"] is False
    assert bench.driver.made_safe == 1
    bench.driver.wait_s(-1)
    bench.driver.disconnect()
    bench.driver.abort()
    assert bench.driver.made_safe == 1


def test_parameters_are_held_against_the_manifest(bench: Any) -> None:
    for params, said in (
        ({"unit": "1", "points": 0}, "points: found 0; a whole number from 1"),
        ({}, "unit: found nothing; it is required"),
        ({"unit": "1", "pionts": 1}, "pionts: found an unknown field; did you mean points"),
    ):
        with pytest.raises(Refused, match=said):
            bench.driver.measure("count_up", params)
    with pytest.raises(Refused, match=r"cannot measure 'count'.*count_up"):
        bench.driver.configure("count")
    assert bench.driver.configure("count_up", {"unit": 5, "steps": [1, 0.5], "points": None})["parameters"] == {
        "points": 3, "pause_s": 0, "unit": "5", "steps": "1,0.5",
    }  # fmt: skip
    assert bench.driver.measure("count_up")["parameters"]["steps"] == "1,0.5"


def test_a_method_that_the_manifest_does_not_describe_takes_anything(bench: Any) -> None:
    assert command_of(MANIFEST, "free") is None
    assert parameters_schema(MANIFEST, "free") is None
    assert checked_parameters(MANIFEST, "free", {"a": [1], "b": None}) == {"a": [1]}
    assert bench.driver.measure("free", '{"points": 2}')["points"] == 2
    with pytest.raises(ConfigurationError, match="params"):
        bench.driver.measure("free", "nonsense")


def test_what_is_not_connected_measures_nothing() -> None:
    with DriverBench(Counter, MANIFEST) as b:
        with pytest.raises(IllegalTransition, match="not connected"):
            b.driver.measure("count_up", unit="1")
        assert b.driver.test_connection()["success"] is False
        b.driver.connect()
        assert b.driver.test_connection()["message"] == "a test C-1"


def test_a_driver_that_lacks_what_it_needs_says_so() -> None:
    class Nothing(Counter):
        read_identity = Instrument.read_identity
        perform = Instrument.perform

    with DriverBench(Nothing, MANIFEST) as b:
        b.driver.connect()
        with pytest.raises(NotImplementedError):
            b.driver.get_identity()
        with pytest.raises(NotImplementedError):
            b.driver.perform(MeasurementRun("free", {}))
        assert Instrument.read_status(b.driver) == {}
        assert Instrument.make_safe(b.driver) is None
        assert b.driver.why_not("free") == ""


def test_a_run_tells_the_time_that_is_left() -> None:
    told: list[Mapping[str, Any]] = []
    clock = iter([0.0, 1.0, 2.0, 3.0, 4.0])
    run = MeasurementRun("x", {}, tell=told.append, clock=lambda: next(clock), now=lambda: 100.0)
    run.begin([Column("a")], 4)
    run.add(float("nan"))
    run.advance(done_s=1.0, total_s=4.0)
    assert run.rows == [[None]]
    assert told[1]["remaining_s"] == 3.0
    assert told[2]["remaining_s"] == 3.0
    assert run.result(completed=False)["started_s"] == 100.0


def test_the_sdk_offers_the_native_base_beside_the_older_one() -> None:
    import vfab.sdk.instrument as module

    assert module.Instrument is Instrument
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        module.Nothing  # noqa: B018
