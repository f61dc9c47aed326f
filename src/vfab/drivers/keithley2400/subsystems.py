"""What of the 2400's command tree vfab's own driver does not use, and other people's programs do.

The reading buffer and its statistics, the filter, the layers of the trigger model, status registers, stored set-ups
(manual, sections 9, 11, 14, 15 and 18). What is only kept, and changes no reading, is in `KEPT`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from vfab.protocols.scpi import Call, Pending, ScpiError, ScpiServer, is_word, short_form, unquote

if TYPE_CHECKING or __package__:
    from .sourcemeter import LIST_MAX, NAN, Settings, SourceMeter
else:
    from sourcemeter import LIST_MAX, NAN, Settings, SourceMeter

__all__ = ["KEPT", "install_subsystems"]

KEPT: dict[str, tuple[str, ...]] = {
    ":OUTPut[1]:SMODe": ("NORMal", "HIMPedance", "ZERO", "GUARd"),
    ":SYSTem:GUARd": ("CABLe", "OHMS"),
    ":SYSTem:RCMode": ("SINGle", "MULTiple"),
    ":SYSTem:POSetup": ("RST", "PRESet", "SAV0", "SAV1", "SAV2", "SAV3", "SAV4"),
    ":TRIGger[:SEQuence[1]]:DIRection": ("ACCeptor", "SOURce"),
    ":ARM[:SEQuence[1]][:LAYer[1]]:DIRection": ("ACCeptor", "SOURce"),
    ":TRIGger[:SEQuence[1]]:INPut": ("NONE", "SOURce", "DELay", "SENSe"),
    ":TRIGger[:SEQuence[1]]:OUTPut": ("NONE", "SOURce", "DELay", "SENSe"),
    ":ARM[:SEQuence[1]][:LAYer[1]]:OUTPut": ("NONE", "TENTer", "TEXit"),
    ":TRACe:FEED": ("SENSe[1]", "CALCulate[1]", "CALCulate2"),
    ":TRACe:TSTamp:FORMat": ("ABSolute", "DELTa"),
    ":FORMat:SREGister": ("ASCii", "HEXadecimal", "OCTal", "BINary"),
    ":SOURce[1]:FUNCtion:SHAPe": ("DC",),
    "[:SENSe[1]]:AVERage:TCONtrol": ("REPeat", "MOVing"),
}
"""Words that are remembered, the first one after `*RST`."""
_SWITCHES = {
    "[:SENSe[1]]:AVERage[:STATe]": False,
    "[:SENSe[1]]:RESistance:OCOMpensated": False,
    ":SYSTem:LFRequency:AUTO": False,
    ":SYSTem:TIME:RESet:AUTO": False,
    ":OUTPut[1]:ENABle[:STATe]": False,
    ":DISPlay:WINDow[1]:TEXT:STATe": False,
    ":DISPlay:WINDow2:TEXT:STATe": False,
}
_NUMBERS = {
    "[:SENSe[1]]:AVERage:COUNt": (1, 100, 10),
    ":TRIGger[:SEQuence[1]]:ILINe": (1, 4, 1),
    ":TRIGger[:SEQuence[1]]:OLINe": (1, 4, 2),
    ":ARM[:SEQuence[1]][:LAYer[1]]:ILINe": (1, 4, 1),
    ":ARM[:SEQuence[1]][:LAYer[1]]:OLINe": (1, 4, 2),
    ":DISPlay:DIGits": (4, 7, 6),
    ":SOURce2:TTL[:LEVel]": (0, 15, 15),
}
"""Whole numbers: least, most, after `*RST`."""
_ARMS = ("IMMediate", "TLINe", "TIMer", "MANual", "BUS", "NSTest", "PSTest", "BSTest")
_STATISTICS = ("MEAN", "SDEViation", "MAXimum", "MINimum", "PKPK")
_SETUPS = 5


def install_subsystems(server: ScpiServer, meter: SourceMeter, start: Callable[[], Pending]) -> None:
    """Have `server` answer for these, too; `start` begins a measurement that is answered."""
    kept = _Kept(server)
    meter.on_reset.append(kept.reset)
    _status(server, meter)
    _trace(server, meter)
    _statistics(server, meter)
    _trigger(server, meter)
    _measure(server, meter, start)
    _sources(server, meter)
    _texts(server)
    _setups(server, meter, kept)
    server.on("*OPT?", lambda call: "0")
    server.on(":SYSTem:TIME?", lambda call: f"{meter.clock_s:.3f}")
    server.on(":SYSTem:MEMory:INITialize", lambda call: meter.trace.clear())
    server.on(":OUTPut[1]:ENABle:TRIPped?", lambda call: "1")


class _Kept:
    """Settings that are remembered and told."""

    def __init__(self, server: ScpiServer) -> None:
        self.values: dict[str, str] = {}
        self.reset()
        for pattern, words in KEPT.items():
            server.on(pattern, self._words(pattern, words))
        for pattern, (least, most, _) in _NUMBERS.items():
            server.setting(pattern, self._number(pattern, least, most), self._told(pattern))
        for pattern in _SWITCHES:
            server.setting(pattern, self._switch(pattern), self._told(pattern))
        for pattern in KEPT:
            server.on(pattern + "?", self._answer(pattern))

    def reset(self) -> None:
        """As after `*RST`."""
        self.values = {pattern: short_form(words[0].partition("[")[0]) for pattern, words in KEPT.items()}
        self.values |= {pattern: str(number) for pattern, (_, _, number) in _NUMBERS.items()}
        self.values |= {pattern: str(int(on)) for pattern, on in _SWITCHES.items()}

    def _told(self, pattern: str) -> Callable[[], str]:
        return lambda: self.values[pattern]

    def _answer(self, pattern: str) -> Callable[[Call], str]:
        return lambda call: self.values[pattern]

    def _words(self, pattern: str, words: tuple[str, ...]) -> Callable[[Call], None]:
        plain = [word.replace("[1]", "") for word in words]

        def take(call: Call) -> None:
            call.expect(1, len(words))
            texts = [call.text(number).removesuffix("1") if "FEED" in pattern else call.text(number)
                     for number in range(len(call.arguments))]  # fmt: skip
            found = [next((word for word in plain if is_word(text, word)), None) for text in texts]
            if None in found:
                raise ScpiError(-224)
            self.values[pattern] = ",".join(short_form(str(word)) for word in found)

        return take

    def _number(self, pattern: str, least: int, most: int) -> Callable[[Call], None]:
        def take(call: Call) -> None:
            self.values[pattern] = str(int(call.number(minimum=least, maximum=most)))

        return take

    def _switch(self, pattern: str) -> Callable[[Call], None]:
        def take(call: Call) -> None:
            self.values[pattern] = str(int(call.boolean()))

        return take


def _status(server: ScpiServer, meter: SourceMeter) -> None:
    enables = {"MEASurement": 0, "OPERation": 0, "QUEStionable": 0}
    server.summary = lambda: 1 if meter.measurement_event & enables["MEASurement"] else 0

    def enable(name: str) -> Callable[[Call], None]:
        def take(call: Call) -> None:
            enables[name] = int(call.number(minimum=0, maximum=65535))

        return take

    def preset(call: Call) -> None:
        enables.update(dict.fromkeys(enables, 0))

    for name in list(enables):
        server.setting(f":STATus:{name}:ENABle", enable(name), lambda name=name: str(enables[name]))  # type: ignore[misc]
    for name in ("OPERation", "QUEStionable"):
        server.on(f":STATus:{name}[:EVENt]?", lambda call: "0")
        server.on(f":STATus:{name}:CONDition?", lambda call: "0")
    server.on(":STATus:PRESet", preset)
    server.on(":STATus:QUEue:CLEar", lambda call: server.errors.clear())
    server.on(":SYSTem:ERRor:CODE[:NEXT]?", lambda call: str(server.next_error().code))


def _trace(server: ScpiServer, meter: SourceMeter) -> None:
    def points(call: Call) -> None:
        meter.trace_points = int(call.number(minimum=1, maximum=LIST_MAX, default=100))

    def control(call: Call) -> None:
        meter.trace_feeds = call.word("NEXT", "NEVer") == "NEXT"

    def data(call: Call) -> str | bytes:
        if not meter.trace:
            raise ScpiError(-230)
        return meter.told(meter.trace)

    server.setting(":TRACe:POINts", points, lambda: str(meter.trace_points))
    server.setting(":TRACe:FEED:CONTrol", control, lambda: "NEXT" if meter.trace_feeds else "NEV")
    server.on(":TRACe:POINts:ACTual?", lambda call: str(len(meter.trace)))
    server.on(":TRACe:FREE?", lambda call: f"{48 * (LIST_MAX - len(meter.trace))},{48 * len(meter.trace)}")
    server.on(":TRACe:CLEar", lambda call: meter.trace.clear())
    for root in (":TRACe:DATA?", ":DATA:DATA?"):
        server.on(root, data)


def _statistics(server: ScpiServer, meter: SourceMeter) -> None:
    chosen = [_STATISTICS[0]]

    def choose(call: Call) -> None:
        chosen[0] = call.word(*_STATISTICS)

    def data(call: Call) -> str:
        if not meter.trace:
            raise ScpiError(-230)
        columns = zip(*((r.volts, r.amperes, r.ohms) for r in meter.trace), strict=True)
        return ",".join(f"{_statistic(chosen[0], column):+.6E}" for column in columns)

    server.setting(":CALCulate3:FORMat", choose, lambda: short_form(chosen[0]))
    server.on(":CALCulate3:DATA?", data)


def _statistic(name: str, values: tuple[float, ...]) -> float:
    if any(abs(value) >= NAN / 1.01 for value in values):
        return NAN  # not measured, or an overflow
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
    found = {"MEAN": mean, "SDEViation": spread, "MAXimum": max(values), "MINimum": min(values)}
    return found.get(name, max(values) - min(values))


def _trigger(server: ScpiServer, meter: SourceMeter) -> None:
    def arm(call: Call) -> None:
        meter.settings.arm_source = call.word(*_ARMS)

    def source(call: Call) -> None:
        meter.settings.trigger_source = call.word("IMMediate", "TLINe")

    def timer(call: Call) -> None:
        meter.settings.arm_timer_s = call.number(minimum=0.001, maximum=99999.99, unit="S")

    root = ":ARM[:SEQuence[1]][:LAYer[1]]"
    server.setting(f"{root}:SOURce", arm, lambda: short_form(meter.settings.arm_source))
    server.setting(f"{root}:TIMer", timer, lambda: f"{meter.settings.arm_timer_s:+.6E}")
    server.setting(":TRIGger[:SEQuence[1]]:SOURce", source, lambda: short_form(meter.settings.trigger_source))


def _measure(server: ScpiServer, meter: SourceMeter, start: Callable[[], Pending]) -> None:
    def configure(name: str) -> None:
        here = meter.settings
        here.functions = {name}
        here.trigger_count = here.arm_count = 1
        here.arm_source = here.trigger_source = "IMMediate"
        for side, function in ((here.volts, "VOLTage"), (here.amperes, "CURRent")):
            side.sense_range = None if function == name else side.sense_range
        meter.configured = name
        if not meter.output:
            meter.switch(True)

    def measure(name: str) -> Pending:
        configure(name)
        return start()

    for name in ("VOLTage", "CURRent", "RESistance"):
        dc = "" if name == "RESistance" else "[:DC]"
        server.on(f":CONFigure:{name}{dc}", lambda call, name=name: configure(name))  # type: ignore[misc]
        server.on(f":MEASure:{name}{dc}?", lambda call, name=name: measure(name))  # type: ignore[misc]
    words = {"VOLTage": "VOLT:DC", "CURRent": "CURR:DC", "RESistance": "RES"}
    server.on(":CONFigure?", lambda call: f'"{words[meter.configured]}"')


def _sources(server: ScpiServer, meter: SourceMeter) -> None:
    ohms: list[float | None] = [None]

    def set_range(call: Call) -> None:
        ohms[0] = abs(call.number(minimum=0, maximum=2.1e8, default=2.1e5))

    def set_auto(call: Call) -> None:
        ohms[0] = None if call.boolean() else ohms[0] or 2.1e5

    root = "[:SENSe[1]]:RESistance:RANGe"
    server.setting(f"{root}[:UPPer]", set_range, lambda: f"{ohms[0] or 2.1e5:+.6E}")
    server.setting(f"{root}:AUTO", set_auto, lambda: str(int(ohms[0] is None)))
    for word, name in (("VOLTage", "volts"), ("CURRent", "amperes")):
        _steps(server, meter, word, name)


def _steps(server: ScpiServer, meter: SourceMeter, word: str, name: str) -> None:
    """A sweep by its step, or by centre and span, as well as by points, start and stop."""
    most = meter.model.max_v if word == "VOLTage" else meter.model.max_a

    def step(call: Call) -> None:
        side = getattr(meter.settings, name)
        size, width = call.number(minimum=-2 * most, maximum=2 * most), side.stop - side.start
        if size == 0 or width == 0 or (size < 0) != (width < 0):
            raise ScpiError(-221)
        points = round(width / size, 6)
        if not 1 <= points <= LIST_MAX - 1:
            raise ScpiError(-222)
        meter.settings.points = int(points) + 1

    def told_step() -> str:
        side = getattr(meter.settings, name)
        return f"{(side.stop - side.start) / max(1, meter.settings.points - 1):+.6E}"

    def place(centre: float, span: float) -> None:
        side = getattr(meter.settings, name)
        side.start, side.stop = centre - span / 2, centre + span / 2

    def middle() -> tuple[float, float]:
        side = getattr(meter.settings, name)
        return (side.start + side.stop) / 2, side.stop - side.start

    root = f":SOURce[1]:{word}"
    server.setting(f"{root}:STEP", step, told_step)
    server.setting(
        f"{root}:CENTer",
        lambda call: place(call.number(minimum=-most, maximum=most), middle()[1]),
        lambda: f"{middle()[0]:+.6E}",
    )
    server.setting(
        f"{root}:SPAN",
        lambda call: place(middle()[0], call.number(minimum=-2 * most, maximum=2 * most)),
        lambda: f"{middle()[1]:+.6E}",
    )


def _texts(server: ScpiServer) -> None:
    texts = {"1": "", "2": ""}

    def put(window: str) -> Callable[[Call], None]:
        def take(call: Call) -> None:
            text = unquote(call.string())
            if len(text) > (20 if window == "1" else 32):
                raise ScpiError(-223)
            texts[window] = text

        return take

    for window, header in (("1", "[1]"), ("2", "2")):
        root = f":DISPlay:WINDow{header}:TEXT:DATA"
        server.setting(root, put(window), lambda window=window: f'"{texts[window]}"')  # type: ignore[misc]
    server.on(":DISPlay:CNDisplay", lambda call: None)


def _setups(server: ScpiServer, meter: SourceMeter, kept: _Kept) -> None:
    """`*SAV` and `*RCL`."""
    stored: dict[int, tuple[Settings, dict[str, str]]] = {}

    def save(call: Call) -> None:
        stored[int(call.number(minimum=0, maximum=_SETUPS - 1))] = (copy.deepcopy(meter.settings), dict(kept.values))

    def recall(call: Call) -> None:
        number = int(call.number(minimum=0, maximum=_SETUPS - 1))
        if number not in stored:
            meter.reset()
            return
        settings, values = copy.deepcopy(stored[number])
        meter.switch(False)
        for each in fields(settings):
            setattr(meter.settings, each.name, getattr(settings, each.name))
        kept.values = values

    server.on("*SAV", save)
    server.on("*RCL", recall)
