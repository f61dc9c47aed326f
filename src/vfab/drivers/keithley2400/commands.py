"""The 2400's command tree (manual, section 18) on a `ScpiServer`, with its parameter ranges and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vfab.protocols.scpi import (
    PENDING,
    Call,
    Pending,
    ScpiError,
    ScpiServer,
    format_number,
    is_word,
    short_form,
    unquote,
)

if TYPE_CHECKING or __package__:
    from .sourcemeter import ELEMENTS, LIST_MAX, Side, SourceMeter
    from .subsystems import install_subsystems
else:
    from sourcemeter import ELEMENTS, LIST_MAX, Side, SourceMeter
    from subsystems import install_subsystems

__all__ = ["Trigger", "install"]

FUNCTIONS = ("VOLTage", "CURRent", "RESistance")
_OTHER = {"arm_count": "trigger_count", "trigger_count": "arm_count"}
_PER_LIST = 100
"""Values that one `:SOURce:LIST` command takes."""


class Trigger:
    """The trigger model under way: the points that are left, and who asked."""

    def __init__(self, meter: SourceMeter) -> None:
        self.meter = meter
        self.left: list[float] = []
        self.reads = False
        self.running = False
        self.waiting = False
        """For `*TRG`, or for an event that nobody here can cause."""

    def start(self, reads: bool) -> Pending:
        """`:INITiate` or `:READ?`."""
        self.left = self.meter.begin()
        self.reads, self.running = reads, True
        here = self.meter.settings
        self.waiting = here.arm_source not in {"IMMediate", "TIMer"} or here.trigger_source != "IMMediate"
        return PENDING

    def abort(self) -> None:
        """`:ABORt`: back to idle; what was asked for is not answered."""
        self.running = False
        self.left = []

    def bus(self) -> None:
        """`*TRG`. Raises ScpiError: nothing waits for it."""
        if not (self.running and self.waiting and self.meter.settings.arm_source == "BUS"):
            raise ScpiError(-211)
        self.waiting = False

    def step(self) -> None:
        """One point."""
        if self.left and not self.meter.take(self.left.pop(0)):
            self.left = []


def install(server: ScpiServer, meter: SourceMeter, trigger: Trigger) -> None:
    """Have `server` answer for `meter`."""
    server.on_reset = meter.reset
    _source(server, meter)
    _sense(server, meter)
    _system(server, meter)
    _measure(server, meter, trigger)
    install_subsystems(server, meter, lambda: trigger.start(reads=True))


def _switch(server: ScpiServer, pattern: str, get: Callable[[], bool], put: Callable[[bool], None]) -> None:
    server.setting(pattern, lambda call: put(call.boolean()), lambda: str(int(get())))


def _kept_switch(server: ScpiServer, pattern: str, kept: dict[str, bool]) -> None:
    def put(on: bool) -> None:
        kept[pattern] = on

    _switch(server, pattern, lambda: kept[pattern], put)


def _tell(value: float) -> str:
    return f"{value:+.6E}" if abs(value) < 1e37 else format_number(value)


def _source(server: ScpiServer, meter: SourceMeter) -> None:
    def set_function(call: Call) -> None:
        meter.settings.source = call.word("VOLTage", "CURRent")

    server.setting(":SOURce[1]:FUNCtion[:MODE]", set_function, lambda: meter.settings.source[:4])
    for word in ("VOLTage", "CURRent"):
        _source_side(server, meter, word)
    _sweep(server, meter)

    def set_delay(call: Call) -> None:
        meter.settings.delay_s = call.number(minimum=0, maximum=9999.999, unit="S", default=0.0)
        meter.settings.auto_delay = False

    server.setting(":SOURce[1]:DELay", set_delay, lambda: _tell(meter.settings.delay_s))
    _switch(
        server, ":SOURce[1]:DELay:AUTO", lambda: meter.settings.auto_delay,
        lambda on: setattr(meter.settings, "auto_delay", on),
    )  # fmt: skip
    _switch(
        server, ":SOURce[1]:CLEar:AUTO", lambda: meter.settings.auto_clear,
        lambda on: setattr(meter.settings, "auto_clear", on),
    )  # fmt: skip
    server.on(":SOURce[1]:CLEar[:IMMediate]", lambda call: meter.switch(False))

    def protect(call: Call) -> None:
        here = meter.settings
        none = is_word(call.text(), "NONE")
        here.over_voltage = meter.model.max_v if none else call.number(minimum=0, maximum=meter.model.max_v)

    server.setting(":SOURce[1]:VOLTage:PROTection[:LEVel]", protect, lambda: _tell(meter.settings.over_voltage))


def _source_side(server: ScpiServer, meter: SourceMeter, word: str) -> None:
    root = f":SOURce[1]:{word}"
    most = meter.model.max_v if word == "VOLTage" else meter.model.max_a
    unit = "V" if word == "VOLTage" else "A"

    def side() -> Side:
        return meter.settings.volts if word == "VOLTage" else meter.settings.amperes

    def set_mode(call: Call) -> None:
        side().mode = call.word("FIXed", "SWEep", "LIST")

    def level(name: str) -> Callable[[Call], None]:
        def take(call: Call) -> None:
            setattr(side(), name, call.number(minimum=-most, maximum=most, unit=unit, default=0.0))

        return take

    def set_range(call: Call) -> None:
        side().source_range = abs(call.number(minimum=-most, maximum=most, unit=unit))

    def set_auto(call: Call) -> None:
        side().source_range = None if call.boolean() else most

    def set_list(call: Call) -> None:
        side().values = _values(call, most, unit)

    def append(call: Call) -> None:
        values = side().values + _values(call, most, unit)
        if len(values) > LIST_MAX:
            raise ScpiError(-223)
        side().values = values

    server.setting(f"{root}:MODE", set_mode, lambda: short_form(side().mode))
    server.setting(f"{root}[:LEVel][:IMMediate][:AMPLitude]", level("level"), lambda: _tell(side().level))
    server.setting(f"{root}:STARt", level("start"), lambda: _tell(side().start))
    server.setting(f"{root}:STOP", level("stop"), lambda: _tell(side().stop))
    server.setting(f"{root}:RANGe", set_range, lambda: _tell(side().source_range or most))
    server.setting(f"{root}:RANGe:AUTO", set_auto, lambda: str(int(side().source_range is None)))
    server.setting(f":SOURce[1]:LIST:{word}", lambda call: None, lambda: ",".join(map(_tell, side().values)))
    server.on(f":SOURce[1]:LIST:{word}", set_list)
    server.on(f":SOURce[1]:LIST:{word}:APPend", append)
    server.on(f":SOURce[1]:LIST:{word}:POINts?", lambda call: str(len(side().values)))


def _values(call: Call, most: float, unit: str) -> list[float]:
    call.expect(1, _PER_LIST)
    return [call.number(number, minimum=-most, maximum=most, unit=unit) for number in range(len(call.arguments))]


def _sweep(server: ScpiServer, meter: SourceMeter) -> None:
    def set_points(call: Call) -> None:
        meter.settings.points = int(call.number(minimum=2, maximum=2500, default=2500))

    def word(name: str, *choices: str) -> Callable[[Call], None]:
        return lambda call: setattr(meter.settings, name, call.word(*choices))

    root = ":SOURce[1]:SWEep"
    server.setting(f"{root}:POINts", set_points, lambda: str(meter.settings.points))
    server.setting(
        f"{root}:SPACing", word("spacing", "LINear", "LOGarithmic"), lambda: short_form(meter.settings.spacing)
    )
    server.setting(f"{root}:DIRection", word("direction", "UP", "DOWN"), lambda: meter.settings.direction[:4])
    server.setting(
        f"{root}:CABort",
        word("abort_on_compliance", "NEVer", "EARLy", "LATE"),
        lambda: short_form(meter.settings.abort_on_compliance),
    )
    ranging = ["BEST"]

    def set_ranging(call: Call) -> None:
        ranging[0] = call.word("BEST", "AUTO", "FIXed")

    server.setting(f"{root}:RANGing", set_ranging, lambda: short_form(ranging[0]))


def _sense(server: ScpiServer, meter: SourceMeter) -> None:
    def set_functions(call: Call) -> None:
        named = _functions(call)
        if not meter.settings.concurrent and len(named) > 1:
            raise ScpiError(-221)
        meter.settings.functions = named if not meter.settings.concurrent else meter.settings.functions | named

    def unset(call: Call) -> None:
        meter.settings.functions -= _functions(call)

    def unset_all(call: Call) -> None:
        meter.settings.functions = set()

    def set_concurrent(on: bool) -> None:
        meter.settings.concurrent = on

    root = "[:SENSe[1]]"
    server.setting(
        f"{root}:FUNCtion[:ON]", lambda call: None,
        lambda: ",".join(f'"{name[:4]}{":DC" if name != "RESistance" else ""}"'.replace("RESi", "RES")
                         for name in FUNCTIONS if name in meter.settings.functions),
    )  # fmt: skip
    server.on(f"{root}:FUNCtion[:ON]", set_functions)
    server.on(f"{root}:FUNCtion:OFF", unset)
    server.on(f"{root}:FUNCtion:OFF:ALL", unset_all)
    server.on(f"{root}:FUNCtion[:ON]:ALL", lambda call: meter.settings.functions.update(FUNCTIONS))
    _switch(server, f"{root}:FUNCtion:CONCurrent", lambda: meter.settings.concurrent, set_concurrent)
    for word in ("VOLTage", "CURRent"):
        _sense_side(server, meter, word)

    def set_ohm_nplc(call: Call) -> None:
        meter.settings.volts.nplc = call.number(minimum=0.01, maximum=10, default=1.0)

    server.setting(f"{root}:RESistance:NPLCycles", set_ohm_nplc, lambda: _tell(meter.settings.volts.nplc))

    def set_ohm_mode(call: Call) -> None:
        meter.settings.auto_ohms = call.word("MANual", "AUTO") == "AUTO"

    server.setting(f"{root}:RESistance:MODE", set_ohm_mode, lambda: "AUTO" if meter.settings.auto_ohms else "MAN")


def _functions(call: Call) -> set[str]:
    call.expect(1, len(FUNCTIONS))
    found = set()
    for number in range(len(call.arguments)):
        text = unquote(call.string(number)).upper().removesuffix(":DC")
        named = [name for name in FUNCTIONS if is_word(text, name)]
        if not named:
            raise ScpiError(-224)
        found.add(named[0])
    return found


def _sense_side(server: ScpiServer, meter: SourceMeter, word: str) -> None:
    root = f"[:SENSe[1]]:{word}[:DC]"
    most = meter.model.max_v if word == "VOLTage" else meter.model.max_a

    def side() -> Side:
        return meter.settings.volts if word == "VOLTage" else meter.settings.amperes

    def set_nplc(call: Call) -> None:
        # the manual: one integration rate for all functions
        value = call.number(minimum=0.01, maximum=10, default=1.0)
        meter.settings.volts.nplc = meter.settings.amperes.nplc = value

    def set_range(call: Call) -> None:
        side().sense_range = abs(call.number(minimum=-most, maximum=most))

    def set_auto(call: Call) -> None:
        side().sense_range = None if call.boolean() else most

    def protect(call: Call) -> None:
        value = abs(call.number(minimum=-most, maximum=most))
        full = side().sense_range
        if value == 0 or (full is not None and value < full * 1e-3):
            raise ScpiError(-221)
        side().protection = value

    def tripped() -> bool:
        here = meter.settings
        if not meter.output or (word == "VOLTage") == (here.source == "VOLTage"):
            return False
        source = here.volts if here.source == "VOLTage" else here.amperes
        return bool(meter.measured(source.level).status & 8)

    server.setting(f"{root}:NPLCycles", set_nplc, lambda: _tell(side().nplc))
    server.setting(f"{root}:RANGe[:UPPer]", set_range, lambda: _tell(side().sense_range or most))
    server.setting(f"{root}:RANGe:AUTO", set_auto, lambda: str(int(side().sense_range is None)))
    server.setting(f"{root}:PROTection[:LEVel]", protect, lambda: _tell(side().protection))
    server.on(f"{root}:PROTection:TRIPped?", lambda call: str(int(tripped())))


def _system(server: ScpiServer, meter: SourceMeter) -> None:
    kept = {":SYSTem:BEEPer:STATe": True, ":SYSTem:AZERo[:STATe]": True, ":DISPlay:ENABle": True}
    for pattern in list(kept):
        _kept_switch(server, pattern, kept)

    def auto_zero(call: Call) -> None:
        call.expect(1)
        if not is_word(call.text(), "ONCE"):
            kept[":SYSTem:AZERo[:STATe]"] = call.boolean()

    server.on(":SYSTem:AZERo[:STATe]", auto_zero)
    _switch(
        server, ":SYSTem:RSENse[:STATe]", lambda: meter.settings.four_wire,
        lambda on: setattr(meter.settings, "four_wire", on),
    )  # fmt: skip

    def set_frequency(call: Call) -> None:
        value = call.number()
        if value not in {50.0, 60.0}:
            raise ScpiError(-222)
        meter.line_hz = value

    def reset_clock(call: Call) -> None:
        meter.clock_s = 0.0

    server.setting(":SYSTem:LFRequency", set_frequency, lambda: f"{meter.line_hz:.0f}")
    server.on(":SYSTem:TIME:RESet", reset_clock)
    server.on(":SYSTem:PRESet", lambda call: meter.reset(), immediate=True)
    server.on(":SYSTem:CLEar", lambda call: server.errors.clear())
    server.on(":SYSTem:BEEPer[:IMMediate]", lambda call: call.expect(1, 2))
    for word in ("LOCal", "REMote", "RWLock"):
        server.on(f":SYSTem:{word}", lambda call: None)

    def set_terminals(call: Call) -> None:
        meter.settings.front = call.word("FRONt", "REAR") == "FRONt"
        meter.switch(False)

    server.setting(":ROUTe:TERMinals", set_terminals, lambda: "FRON" if meter.settings.front else "REAR")
    _format(server, meter)
    server.on(":STATus:MEASurement[:EVENt]?", lambda call: _taken(meter))
    server.on(":STATus:MEASurement:CONDition?", lambda call: str(meter.measurement_event))
    server.on(":STATus:QUEue[:NEXT]?", lambda call: server.next_error().to_wire())


def _taken(meter: SourceMeter) -> str:
    told, meter.measurement_event = meter.measurement_event, 0
    return str(told)


def _format(server: ScpiServer, meter: SourceMeter) -> None:
    def set_format(call: Call) -> None:
        call.expect(1, 2)
        word = call.word("ASCii", "REAL", "SREal")
        if word == "REAL" and len(call.arguments) > 1 and call.number(1) != 32:
            raise ScpiError(-222)
        meter.settings.binary = word != "ASCii"

    def set_elements(call: Call) -> None:
        call.expect(1, len(ELEMENTS))
        chosen = {call.word(*ELEMENTS, number=number) for number in range(len(call.arguments))}
        meter.settings.elements = tuple(name for name in ELEMENTS if name in chosen)

    def set_order(call: Call) -> None:
        meter.settings.swapped = call.word("NORMal", "SWAPped") == "SWAPped"

    server.on(":FORMat[:DATA]", set_format)
    server.on(":FORMat[:DATA]?", lambda call: "REAL,32" if meter.settings.binary else "ASC")
    server.on(":FORMat:ELEMents[:SENSe[1]]", set_elements)
    server.on(
        ":FORMat:ELEMents[:SENSe[1]]?", lambda call: ",".join(name[:4].upper() for name in meter.settings.elements)
    )
    server.setting(":FORMat:BORDer", set_order, lambda: "SWAP" if meter.settings.swapped else "NORM")


def _measure(server: ScpiServer, meter: SourceMeter, trigger: Trigger) -> None:
    def output(call: Call) -> None:
        call.expect(1)
        meter.switch(call.boolean())

    def count(name: str) -> Callable[[Call], None]:
        def take(call: Call) -> None:
            if is_word(call.text(), "INFinite"):  # as far as readings are kept
                setattr(meter.settings, name, LIST_MAX // getattr(meter.settings, _OTHER[name]))
                return
            value = int(call.number(minimum=1, maximum=2500, default=1.0))
            if value * getattr(meter.settings, _OTHER[name]) > LIST_MAX:
                raise ScpiError(-222)
            setattr(meter.settings, name, value)

        return take

    def set_trigger_delay(call: Call) -> None:
        meter.settings.trigger_delay_s = call.number(minimum=0, maximum=999.9999, unit="S")

    def fetch(call: Call) -> str | bytes:
        if not meter.readings:
            raise ScpiError(-230)
        return meter.told(meter.readings)

    def measure(call: Call) -> Pending:
        if not meter.output:
            meter.switch(True)
        return trigger.start(reads=True)

    server.on(":OUTPut[1][:STATe]", output)
    server.on(":OUTPut[1][:STATe]?", lambda call: str(int(meter.output)))
    server.setting(":TRIGger[:SEQuence[1]]:COUNt", count("trigger_count"), lambda: str(meter.settings.trigger_count))
    server.setting(":ARM[:SEQuence[1]][:LAYer[1]]:COUNt", count("arm_count"), lambda: str(meter.settings.arm_count))
    server.setting(":TRIGger[:SEQuence[1]]:DELay", set_trigger_delay, lambda: _tell(meter.settings.trigger_delay_s))
    server.on(":TRIGger:CLEar", lambda call: None, immediate=True)
    server.on(":INITiate[:IMMediate]", lambda call: trigger.start(reads=False))
    server.on(":READ?", lambda call: trigger.start(reads=True))
    server.on(":MEASure?", measure)
    server.on(":FETCh?", fetch)
    server.on(
        "[:SENSe[1]]:DATA[:LATest]?",
        lambda call: meter.told(meter.readings[-1:]) if meter.readings else fetch(call),
    )
    server.on(":ABORt", lambda call: trigger.abort(), immediate=True)
    server.on("*TRG", lambda call: trigger.bus(), immediate=True)

    def reset(call: Call) -> None:
        trigger.abort()
        meter.reset()

    server.on("*RST", reset, immediate=True)
