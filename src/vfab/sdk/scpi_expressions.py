"""ExpressionInstrument: any SCPI instrument, measured by the queries that its settings name."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from vfab.model.errors import ConfigurationError, DriverError, HardwareError, ProtocolError, Refused, TimeoutExceeded
from vfab.protocols.scpi import parse_block, parse_numbers
from vfab.sdk.driver import Environment, command
from vfab.sdk.measurement import Column, MeasurementRun
from vfab.sdk.scpi_instrument import ScpiInstrument
from vfab.sdk.scpi_link import ScpiLink
from vfab.sdk.stream import StreamWriter

__all__ = ["ExpressionInstrument"]

_NAMED = re.compile(r"\s*(?P<name>[A-Za-z][\w-]*)\s*(?:\[(?P<unit>[^\[\]]*)\])?\s*")
_FORMATS = {"real32": "f", "real64": "d", "int16": "h", "int32": "i"}


class ExpressionInstrument(ScpiInstrument):
    """Any SCPI instrument.

    Settings that it reads beside those of `ScpiInstrument`: `expressions`, a mapping such as
    `{"voltage [V]": ":MEAS:VOLT:DC?"}`; `identity_query` and `error_query`, "" where the instrument has none;
    `measure_timeout_s` (30) for answers of measurements; `reset_on_connect` (false).

    Its methods: `point` asks every expression once, `log` again and again, `trace` takes a waveform; and each
    expression that the instrument answers is a method of its own name.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.identity_query = str(self.config.get("identity_query", self.identity_query) or "")
        self.error_query = str(self.config.get("error_query", self.error_query) or "")
        self._expressions = dict(_named(self.config.get("expressions") or {}))
        self._answered: dict[Column, str] = {}

    def set_up(self, link: ScpiLink) -> None:
        """`*RST` if the settings say so; find out which expressions the instrument answers with numbers."""
        if self.config.get("reset_on_connect"):
            link.write("*RST")
        self._answered = {}
        for column, text in self._expressions.items():
            try:
                self._number(text, link)
                self._answered[column] = text
            except (HardwareError, ProtocolError, TimeoutExceeded) as error:
                self.log.warning("%s is left out: %s", column.name, error.message)

    @property
    def _patience_s(self) -> float:
        return float(self.config.get("measure_timeout_s", 30.0))

    @command(concurrent=True)
    def get_capabilities(self) -> list[str]:
        """`point`, `log`, `trace`, and the expressions that the connected instrument answers; all of them without."""
        known = self._answered if self.is_connected() else self._expressions
        return [*self.manifest.supported_methods, *(column.name for column in known)]

    def check_parameters(self, method: str, params: Mapping[str, Any]) -> None:
        """Raises Refused: there is nothing to ask."""
        if method == "trace":
            self._trace_query(params)
        elif not self._asked(method, params):
            raise Refused(
                f"{method}: there is nothing to ask the instrument",
                driver_name=self.manifest.name,
                context={"method": method, "field": "expression", "expected": "a query such as :MEAS:VOLT:DC?"},
                remedy='Give expression=QUERY, or the setting expressions={"voltage [V]": ":MEAS:VOLT:DC?"}.',
            )

    def perform(self, run: MeasurementRun) -> None:
        """See the class."""
        if run.method == "trace":
            self._trace(run)
            return
        asked = self._asked(run.method, run.params)
        count = int(run.params.get("count", 10)) if run.method == "log" else 1
        run.begin((*asked, Column("time", "s")), count)
        began_s = run.elapsed_s
        while not count or len(run.rows) < count:
            run.check()
            at_s = run.elapsed_s
            values = [self._number(text) for text in asked.values()]
            run.add(*values, round(at_s - began_s, 6))
            if not count or len(run.rows) < count:
                self.wait_s(float(run.params.get("interval_s", 0.0)) - (run.elapsed_s - at_s))

    def _asked(self, method: str, params: Mapping[str, Any]) -> dict[Column, str]:
        expression = params.get("expression")
        if expression:
            return {Column("value", str(params.get("unit", ""))): str(expression)}
        known = self._answered if self.is_connected() else self._expressions
        if method in {"point", "log"}:
            return dict(known)
        return {column: text for column, text in known.items() if column.name == method}

    def _number(self, text: str, link: ScpiLink | None = None) -> float:
        link = link or self.link
        numbers = parse_numbers(link.query_slowly(text, timeout_s=self._patience_s, doubt_s=link.timeout_s))
        if not numbers:
            raise ProtocolError(f"{text} was answered with nothing", context={"command": text})
        return numbers[0]

    def _trace_query(self, params: Mapping[str, Any]) -> str:
        text = str(params.get("expression") or "")
        if not text:
            raise Refused(
                "trace: expression: found nothing; give the query that answers with the waveform",
                driver_name=self.manifest.name,
                context={"method": "trace", "field": "expression"},
            )
        return text

    def _trace(self, run: MeasurementRun) -> None:
        text, form = self._trace_query(run.params), str(run.params.get("format", "ascii"))
        run.begin((Column("index"), Column("value", str(run.params.get("unit", "")))))
        link = self.link
        answer = link.query_bytes_slowly(text, timeout_s=self._patience_s, doubt_s=link.timeout_s)
        if form == "ascii":
            values: list[float] = parse_numbers(answer.decode("latin-1"))
        else:
            values = _unpacked(parse_block(answer), form, little=run.params.get("order") == "little")
        run.total = len(values)
        for index, value in enumerate(values):
            run.add(index, value, tell=index + 1 == len(values))

    @command
    def measure_point(self, **params: Any) -> dict[str, Any]:
        """`measure("point", …)`."""
        return self.measure("point", params)

    @command
    def measure_log(self, **params: Any) -> dict[str, Any]:
        """`measure("log", …)`."""
        return self.measure("log", params)

    @command
    def measure_trace(self, **params: Any) -> dict[str, Any]:
        """`measure("trace", …)`."""
        return self.measure("trace", params)

    # -- streaming ------------------------------------------------------------------------------------------------

    def open_acquisition(self, options: Mapping[str, Any]) -> StreamWriter:
        """Check the options, those of `log` without `count`, and open the stream."""
        self.require_connected()
        asked = self._asked("log", self.checked("log", {**options, "count": 0}, {}))
        return self.open_stream("main", self.stream_type, fields=[c.name for c in asked], units=[c.unit for c in asked])

    def acquire(self, stream: StreamWriter, options: Mapping[str, Any]) -> None:
        """Ask every expression again and again until somebody stops it."""
        params = self.checked("log", {**options, "count": 0}, {})
        asked = self._asked("log", params)
        while self.acquiring():
            stream.send([self._number(text) for text in asked.values()])
            self.pause_s(float(params.get("interval_s", 0.0)))

    @command
    def features(self) -> dict[str, Any]:
        """What the instrument says of itself: identity, SCPI version, options, errors; None where it says nothing."""
        link = self.link
        found: dict[str, Any] = {"identity": self.read_identity(), "methods": self.get_capabilities()}
        for name, text in (("scpi_version", ":SYST:VERS?"), ("options", "*OPT?")):
            try:
                found[name] = link.query(text) if self.error_query else None
            except (DriverError, ValueError):
                found[name] = None
        return found


def _named(expressions: Mapping[str, Any]) -> Iterator[tuple[Column, str]]:
    for key, text in expressions.items():
        match = _NAMED.fullmatch(str(key))
        if match is None or not str(text).strip():
            raise ConfigurationError(
                f"expressions: {key!r}: {text!r} is no named query",
                context={"field": "expressions", "found": {str(key): str(text)}},
                remedy='Write name and unit, then the query: {"voltage [V]": ":MEAS:VOLT:DC?"}.',
            )
        yield Column(match["name"], (match["unit"] or "").strip()), str(text).strip()


def _unpacked(data: bytes, form: str, *, little: bool) -> list[float]:
    code = _FORMATS[form]
    size = struct.calcsize(code)
    if len(data) % size:
        raise ProtocolError(f"{len(data)} bytes are no {form} values of {size} each", context={"bytes": len(data)})
    return list(struct.unpack(f"{'<' if little else '>'}{len(data) // size}{code}", data))
