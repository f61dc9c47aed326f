"""The Keithley 2400 driver: source-meters of the 2400 series, by their SCPI command set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vfab.model.errors import ProtocolError
from vfab.protocols.scpi import Identity, Quoted
from vfab.sdk.driver import Environment, command
from vfab.sdk.measurement import Column, MeasurementRun
from vfab.sdk.scpi_instrument import SAFE_S, ScpiInstrument
from vfab.sdk.scpi_link import ScpiLink, unbothered
from vfab.sdk.stream import StreamWriter

from .models import MODELS, Model, model_named
from .plans import Plan, plan_of
from .readings import ELEMENTS, Point, points_of

__all__ = ["Keithley2400Driver"]

COLUMNS = (Column("voltage", "V"), Column("current", "A"), Column("time", "s"), Column("compliance"), Column("status"))
OHM_COLUMNS = (*COLUMNS[:2], Column("resistance", "Ohm"), *COLUMNS[2:])
_PER_LIST = 100
"""Values that one `:SOURce:LIST` command takes."""
_SLACK_S = 5.0
_CV = (
    "a source-meter of this series has no AC source and measures no capacitance; that takes an LCR meter, or a "
    "semiconductor analyser with a capacitance unit"
)


class Keithley2400Driver(ScpiInstrument):
    """Drives a 2400, 2401, 2410, 2420, 2425, 2430 or 2440.

    The output is on only while a measurement runs: it is off after connecting, after each measurement however it
    ended, and when the link is closed. Every measurement begins with `*RST`.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._model: Model | None = None
        self._line_hz = 50.0

    # -- the life -----------------------------------------------------------------------------------------------------

    def greet(self, link: ScpiLink) -> None:
        """An instrument that another program left in a sweep answers nothing before it ends; so end it."""
        link.interrupt(":ABOR")

    def check_identity(self, identity: Identity) -> None:
        """Raises ProtocolError: it is no source-meter of this series."""
        model = model_named(identity.model)
        if model is None or "KEITHLEY" not in identity.manufacturer.upper():
            who = " ".join(filter(None, (identity.manufacturer, identity.model))) or "something without a name"
            raise ProtocolError(
                f"{self.device.address} is {who}, not a Keithley 2400",
                driver_name=self.manifest.name,
                context={"address": self.device.address, **identity.to_dict()},
                remedy=f"This driver is for the models {', '.join(MODELS)}; `scpi-generic` talks to any other.",
            )
        self._model = model

    def set_up(self, link: ScpiLink) -> None:
        """Output off; readings as text with every element; the power line's frequency for the time a point takes."""
        link.write(":OUTP OFF")
        self._line_hz = link.query_numbers(":SYST:LFR?")[0]

    @property
    def model(self) -> Model:
        """Which one it is."""
        self.require_connected()
        assert self._model is not None
        return self._model

    def make_safe(self) -> None:
        """Abort the sweep and switch the output off, then see that it is off.

        Raises LinkLost, TimeoutExceeded: it is not known.
        """
        link = self.link
        link.interrupt(":ABOR", ":OUTP OFF")
        link.resynchronise(min(SAFE_S, link.timeout_s))
        if link.query(":OUTP?", check=False) != "0":
            self.log.error("the output of the %s at %s is still on", link.identity.model, link.address)
        left = link.errors()
        if left:
            self.log.info("left in the error queue: %s", " · ".join(map(str, left)))

    # -- what is measured ---------------------------------------------------------------------------------------------

    def why_not(self, method: str) -> str:
        """Why a source-meter measures no capacitance."""
        return _CV if method.lower() in {"cv", "cv_sweep", "cv_measurement"} else ""

    def check_parameters(self, method: str, params: Mapping[str, Any]) -> None:
        """Hold the parameters against the limits of the connected model. Raises Refused."""
        if self._model is not None:
            plan_of(method, params, self._model)

    def prepare(self, method: str, params: Mapping[str, Any]) -> None:
        """Send all settings, the error queue read after each; the output stays off."""
        plan, link = plan_of(method, params, self.model), self.link
        link.write("*RST")
        if self.config.get("beeper") is False:
            link.write(":SYST:BEEP:STAT", False)
        link.write(":FORM:ELEM", list(ELEMENTS))
        if plan.rear:
            link.write(":ROUT:TERM", "REAR")
        link.write(":SYST:RSEN", plan.four_wire)
        link.write(":SENS:FUNC:CONC", True)
        functions = ["VOLT", "CURR"]
        if method == "resistance":
            link.write(":SENS:RES:MODE", "MAN")
            functions.append("RES")
        link.write(":SENS:FUNC", [Quoted(name) for name in functions])
        link.write(f":SENS:{plan.sensed}:NPLC", plan.nplc)
        link.write(":SOUR:FUNC", plan.source)
        link.write(f":SENS:{plan.sensed}:PROT", plan.compliance)
        link.write(f":SENS:{plan.sensed}:RANG:AUTO", True)
        if plan.delay_s is None:
            link.write(":SOUR:DEL:AUTO", True)
        else:
            link.write(":SOUR:DEL", plan.delay_s)
        self._prepare_source(plan, link)

    def _prepare_source(self, plan: Plan, link: ScpiLink) -> None:
        source = f":SOUR:{plan.source}"
        if plan.way == "sweep":
            link.write(f"{source}:MODE", "SWE")
            link.write(f"{source}:STAR", plan.levels[0])
            link.write(f"{source}:STOP", plan.levels[-1])
            link.write(":SOUR:SWE:SPAC", plan.spacing)
            link.write(":SOUR:SWE:POIN", len(plan.levels))
        elif plan.way == "list":
            link.write(f"{source}:MODE", "LIST")
            for begin in range(0, len(plan.levels), _PER_LIST):
                append = ":APP" if begin else ""
                link.write(f":SOUR:LIST:{plan.source}{append}", plan.levels[begin : begin + _PER_LIST])
        else:
            link.write(f"{source}:MODE", "FIX")
            link.write(f"{source}:RANG", max(plan.levels, key=abs))
            link.write(source, plan.levels[0])
        link.write(":TRIG:COUN", 1 if plan.way == "step" else len(plan.levels))

    def perform(self, run: MeasurementRun) -> None:
        """Measure; the output is on only in here."""
        plan = plan_of(run.method, run.params, self.model)
        limit = "compliance_a" if plan.source == "VOLT" else "compliance_v"
        run.extras.update({"model": self.model.name, limit: plan.compliance, "compliance_points": 0})
        columns = OHM_COLUMNS if run.method == "resistance" else COLUMNS
        run.begin(columns, plan.count if plan.method == "continuous" else len(plan.levels))
        with self._output_on():
            if plan.way != "step":
                self._triggered(run, plan)
            elif plan.method == "continuous":
                self._continuous(run, plan)
            else:
                self._stepwise(run, plan)

    @contextmanager
    def _output_on(self) -> Iterator[None]:
        """On in here; how it ends by an error is `make_safe`'s business."""
        self.link.write(":OUTP", True)
        yield
        with unbothered():
            self.link.write(":OUTP", False)

    def _triggered(self, run: MeasurementRun, plan: Plan) -> None:
        """The instrument goes through all points by itself, and tells them when it has."""
        expected_s = len(plan.levels) * plan.point_s(self._line_hz)

        def waited(waited_s: float) -> None:
            run.advance(done_s=min(waited_s, expected_s), total_s=expected_s)

        text = self.link.query_slowly(":READ?", timeout_s=2 * expected_s + _SLACK_S, waiting=waited)
        points = points_of(text)
        if len(points) != len(plan.levels):
            raise ProtocolError(
                f"the {self.model.name} told {len(points)} points of {len(plan.levels)}",
                context={"points": len(points), "expected": len(plan.levels)},
            )
        for number, point in enumerate(points, 1):
            self._add(run, point, tell=number == len(points))

    def _stepwise(self, run: MeasurementRun, plan: Plan) -> None:
        for number, level in enumerate(plan.levels):
            run.check()
            if number:
                self.link.write(f":SOUR:{plan.source}", level)
            self._add(run, self._read(plan))

    def _continuous(self, run: MeasurementRun, plan: Plan) -> None:
        while not plan.count or len(run.rows) < plan.count:
            began_s = run.elapsed_s
            self._add(run, self._read(plan))
            if not plan.count or len(run.rows) < plan.count:
                self.wait_s(plan.interval_s - (run.elapsed_s - began_s))

    def _read(self, plan: Plan) -> Point:
        text = self.link.query_slowly(":READ?", timeout_s=2 * plan.point_s(self._line_hz) + _SLACK_S)
        return points_of(text)[-1]

    def _add(self, run: MeasurementRun, point: Point, *, tell: bool = True) -> None:
        run.extras["compliance_points"] += point.in_compliance
        values = [point.voltage, point.current, point.time_s, point.in_compliance, point.status]
        if run.method == "resistance":
            values.insert(2, point.resistance)
        run.add(*values, device_time_s=point.time_s, tell=tell)

    # -- status and streaming -----------------------------------------------------------------------------------------

    def read_status(self) -> dict[str, Any]:
        """Beside the base's: `output` (on?), `in_compliance`, the model and its limits."""
        status = super().read_status()
        if self._model is not None:
            status["limits"] = self._model.words()
        if not self._streams_now():
            status["output"] = self.link.query(":OUTP?", check=False) == "1"
            tripped = [self.link.query(f":SENS:{what}:PROT:TRIP?", check=False) for what in ("CURR", "VOLT")]
            status["in_compliance"] = "1" in tripped
        return status

    def open_acquisition(self, options: Mapping[str, Any]) -> StreamWriter:
        """Check the options, as those of `continuous`, and open the stream of readings."""
        self.require_connected()
        self._streamed(options)
        return self.open_stream(
            "main", self.stream_type, fields=[c.name for c in COLUMNS], units=[c.unit for c in COLUMNS]
        )

    def _streamed(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a stream: those of `continuous` without end; 0 V where no level is given."""
        level = {} if {"source_v", "source_a"} & set(options) else {"source_v": 0.0}
        return self.checked("continuous", {"count": 0, **level, **options}, {})

    def acquire(self, stream: StreamWriter, options: Mapping[str, Any]) -> None:
        """Source a fixed level and stream each reading, until somebody stops it; then the output is off."""
        params = self._streamed(options)
        plan = plan_of("continuous", params, self.model)
        try:
            self.prepare("continuous", params)
            self.link.write(":OUTP", True)
            while self.acquiring():
                point = self._read(plan)
                row = [point.voltage, point.current, point.time_s, point.in_compliance, point.status]
                stream.send(row, device_time_s=point.time_s)
                self.pause_s(plan.interval_s)
        finally:
            self._make_safe_quietly()

    # -- commands of its own ------------------------------------------------------------------------------------------

    @command
    def iv_sweep(self, **params: Any) -> dict[str, Any]:
        """Sweep volts or amperes and measure both: `measure("iv_sweep", …)`."""
        return self.measure("iv_sweep", params)

    @command
    def single(self, **params: Any) -> dict[str, Any]:
        """Source one level and read once: `measure("single", …)`."""
        return self.measure("single", params)

    @command
    def continuous(self, **params: Any) -> dict[str, Any]:
        """Source one level and read again and again: `measure("continuous", …)`."""
        return self.measure("continuous", params)

    @command
    def resistance(self, **params: Any) -> dict[str, Any]:
        """Drive a current and tell volts by amperes: `measure("resistance", …)`."""
        return self.measure("resistance", params)

    @command
    def output_off(self) -> dict[str, Any]:
        """Switch the output off now: `{"output": False}`."""
        self.make_safe()
        return {"output": False}

    @command(concurrent=True)
    def limits(self) -> dict[str, Any]:
        """What the connected model can source: `{"model", "regions", "max_v", "max_a"}`; all models without one."""
        if self._model is None:
            return {name: model.words() for name, model in MODELS.items()}
        return {
            "model": self._model.name,
            "regions": [{"v": volts, "a": amperes} for volts, amperes in self._model.regions],
            "max_v": self._model.max_v,
            "max_a": self._model.max_a,
        }
