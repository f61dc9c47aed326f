"""A multimeter that is not there, with the commands that people's programs send to one: configure, trigger, read.

Its command tree is that of bench multimeters since the HP 34401A (SCPI-99 volume 3, "digital meter").

As a program: `python simulator.py [--seed N] [--port N]` prints one JSON line and serves on 127.0.0.1 until SIGTERM.
"""

from __future__ import annotations

import argparse
import math
import socketserver
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from vfab.protocols.scpi import Call, ScpiError, ScpiServer, format_block, format_number, is_word, short_form
from vfab.sdk.simulation import serve_until_told

__all__ = ["Multimeter", "MultimeterSimulator", "main"]

IDENTITY = "VFAB,DMM-1,0042,1.0"
_READINGS_MAX = 512
_FINEST, _FINE, _COARSEST = 3e-7, 1e-6, 1e-4
"""Parts of full scale that are told apart after 100, 10 and 0.02 power line cycles."""
_INFINITE = "+9.90000000E+37"
"""How SCPI writes infinity (SCPI-99 volume 1, 7.2.1.4)."""


@dataclass(frozen=True, slots=True)
class _Function:
    """What one function of the multimeter reads.

    Attributes:
        word: as `CONFigure?` tells it.
        value, sigma: of what hangs on the terminals, and of the noise.
        most: full scale of the widest range.
    """

    word: str
    value: float
    sigma: float
    most: float

    def words(self) -> set[str]:
        """How `FUNCtion` may name it, in capitals."""
        long = {"VOLT": "VOLTAGE", "CURR": "CURRENT", "RES": "RESISTANCE", "FRES": "FRESISTANCE", "FREQ": "FREQUENCY"}
        long |= {"PER": "PERIOD", "TEMP": "TEMPERATURE", "CONT": "CONTINUITY", "DIOD": "DIODE", "CAP": "CAPACITANCE"}
        first, colon, rest = self.word.partition(":")
        return {self.word, f"{long[first]}{colon}{rest}"}


FUNCTIONS = {
    "VOLTage[:DC]": _Function("VOLT", 1.5, 1e-5, 1000.0),
    "VOLTage:AC": _Function("VOLT:AC", 0.23, 1e-4, 750.0),
    "CURRent[:DC]": _Function("CURR", 0.0015, 1e-8, 3.0),
    "CURRent:AC": _Function("CURR:AC", 0.0002, 1e-7, 3.0),
    "RESistance": _Function("RES", 1000.0, 0.01, 1e8),
    "FRESistance": _Function("FRES", 999.9, 0.002, 1e8),
    "FREQuency": _Function("FREQ", 50.0, 0.001, 3e5),
    "PERiod": _Function("PER", 0.02, 1e-6, 1.0),
    "CONTinuity": _Function("CONT", 1000.0, 0.1, 1e3),
    "DIODe": _Function("DIOD", 0.62, 1e-5, 1.0),
    "CAPacitance": _Function("CAP", 1e-7, 1e-11, 1e-4),
    "TEMPerature": _Function("TEMP", 23.0, 0.05, 600.0),
}
"""A battery with a resistor, by every function: `CONFigure:` and `MEASure:` come before these."""
_NUMBERS: dict[str, tuple[float, float]] = {
    ":SAMPle:COUNt": (1, 50_000),
    ":TRIGger:COUNt": (1, 50_000),
    ":TRIGger:DELay": (0.0, 3600.0),
    ":SAMPle:TIMer": (0.0, 3600.0),
}
_SWITCH = ("0", "1")
_WORDS = {
    ":TRIGger:SOURce": ("IMMediate", "BUS", "EXTernal"),
    ":SAMPle:SOURce": ("IMMediate", "TIMer"),
    ":TRIGger:DELay:AUTO": _SWITCH,
    ":INPut:IMPedance:AUTO": _SWITCH,
    "[:SENSe]:ZERO:AUTO": _SWITCH,
    ":DISPlay[:STATe]": _SWITCH,
    ":SYSTem:BEEPer:STATe": _SWITCH,
    ":ROUTe:TERMinals": ("FRONt", "REAR"),
}
"""What is remembered and told; the first is that after `*RST`."""


class Multimeter(ScpiServer):
    """Reads a battery, a resistor, a thermometer and more, with noise that a seed decides."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(IDENTITY, queue_size=20)
        self._random = Random(seed)  # noqa: S311 — noise, no secret
        self.on_reset = self._reset
        self._reset()
        for name, function in FUNCTIONS.items():
            self._offer(name, function)
        self.on(":MEASure?", lambda call: self._measure("VOLTage[:DC]", call))
        self.on(":CONFigure?", lambda call: self._configured())
        self.on(":READ?", lambda call: self._take())
        self.on(":INITiate[:IMMediate]", lambda call: self._initiate())
        self.on(":FETCh?", lambda call: self._fetch())
        self.on("*TRG", lambda call: self._initiate())
        self.on(":ABORt", lambda call: None)
        self.setting("[:SENSe]:FUNCtion[:ON]", self._set_function, lambda: f'"{FUNCTIONS[self._function].word}"')
        for pattern, (least, most) in _NUMBERS.items():
            self._keep_number(pattern, least, most)
        for pattern, choices in _WORDS.items():
            self._keep_word(pattern, choices)
        self.on(":TRACe[:DATA]?", lambda call: ",".join(format_number(value) for value in _wave()))
        self.on(":TRACe:BLOCk?", lambda call: format_block(struct.pack(">100f", *_wave())))
        self.on("*OPT?", lambda call: "0")

    # -- functions ----------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._function = "VOLTage[:DC]"
        self._ranges: dict[str, float | None] = dict.fromkeys(FUNCTIONS)
        self._nplc = dict.fromkeys(FUNCTIONS, 10.0)
        self._resolution = {name: function.most * 1e-6 for name, function in FUNCTIONS.items()}
        self._kept = {pattern: str(low) for pattern, (low, _) in _NUMBERS.items()}
        self._kept |= {pattern: short_form(words[0]) for pattern, words in _WORDS.items()}
        self._readings: list[float] = []

    def _offer(self, name: str, function: _Function) -> None:
        """`CONFigure`, `MEASure?` and the settings of one function."""
        self.on(f":MEASure:{name}?", lambda call: self._measure(name, call))
        self.on(f":CONFigure:{name}", lambda call: self._configure(name, call))
        root = f"[:SENSe]:{name}"

        def set_range(call: Call) -> None:
            self._ranges[name] = call.number(minimum=0, maximum=function.most, default=function.most)

        def set_auto(call: Call) -> None:
            self._ranges[name] = None if call.boolean() else function.most

        def set_nplc(call: Call) -> None:
            self._nplc[name] = call.number(minimum=0.02, maximum=100, default=10.0)

        def set_resolution(call: Call) -> None:
            self._resolution[name] = _resolution(call, 0, self._ranges[name] or function.most, function.most)

        self.setting(f"{root}:RANGe[:UPPer]", set_range, lambda: f"{self._ranges[name] or function.most:+.8E}")
        self.setting(f"{root}:RANGe:AUTO", set_auto, lambda: str(int(self._ranges[name] is None)))
        self.setting(f"{root}:NPLCycles", set_nplc, lambda: f"{self._nplc[name]:+.8E}")
        self.setting(f"{root}:RESolution", set_resolution, lambda: f"{self._resolution[name]:+.8E}")

    def _configure(self, name: str, call: Call) -> None:
        """`CONFigure:… [range[, resolution]]`; AUTO and DEFault leave a choice to the instrument."""
        call.expect(0, 2)
        most = FUNCTIONS[name].most
        left = {number for number in range(len(call.arguments)) if is_word(call.text(number), "AUTO")}
        left |= {number for number in range(len(call.arguments)) if is_word(call.text(number), "DEFault")}
        full = call.number(0, minimum=0, maximum=most) if len(call.arguments) > 0 and 0 not in left else None
        chosen = _resolution(call, 1, full or most, most) if len(call.arguments) > 1 and 1 not in left else None
        self._function, self._ranges[name] = name, full
        self._resolution[name] = (full or most) * _FINE if chosen is None else chosen
        self._kept[":SAMPle:COUNt"] = self._kept[":TRIGger:COUNt"] = "1"
        self._kept[":TRIGger:SOURce"] = "IMM"

    def _measure(self, name: str, call: Call) -> str:
        self._configure(name, call)
        return self._take()

    def _configured(self) -> str:
        function = FUNCTIONS[self._function]
        full = self._ranges[self._function] or function.most
        return f'"{function.word} {full:+.8E},{self._resolution[self._function]:+.8E}"'

    def _set_function(self, call: Call) -> None:
        text = call.string().upper()
        found = [name for name, function in FUNCTIONS.items() if text.removesuffix(":DC") in function.words()]
        if not found:
            raise ScpiError(-224)
        self._function = found[0]

    # -- readings -----------------------------------------------------------------------------------------------------

    def _initiate(self) -> None:
        function = FUNCTIONS[self._function]
        full = self._ranges[self._function]
        count = int(min(float(self._kept[":SAMPle:COUNt"]) * float(self._kept[":TRIGger:COUNt"]), _READINGS_MAX))
        taken = [self._random.gauss(function.value, function.sigma) for _ in range(count)]
        over = full is not None and abs(function.value) > full * 1.2
        self._readings = [9.9e37] * count if over else taken

    def _take(self) -> str:
        self._initiate()
        return self._fetch()

    def _fetch(self) -> str:
        if not self._readings:
            raise ScpiError(-230)
        return ",".join(f"{value:+.8E}" for value in self._readings)

    # -- what is only remembered ---------------------------------------------------------------------------------------

    def _keep_number(self, pattern: str, least: float, most: float) -> None:
        def take(call: Call) -> None:
            if pattern == ":TRIGger:COUNt" and is_word(call.text(), "INFinity"):
                self._kept[pattern] = _INFINITE
                return
            value = call.number(minimum=least, maximum=most, default=least)
            self._kept[pattern] = str(int(value)) if isinstance(least, int) else f"{value:+.8E}"

        self.setting(pattern, take, lambda: self._kept[pattern])

    def _keep_word(self, pattern: str, choices: tuple[str, ...]) -> None:
        def take(call: Call) -> None:
            self._kept[pattern] = short_form(call.word(*choices))

        def switch(call: Call) -> None:
            self._kept[pattern] = str(int(call.boolean()))

        self.setting(pattern, switch if choices == _SWITCH else take, lambda: self._kept[pattern])


def _resolution(call: Call, position: int, full: float, most: float) -> float:
    """The resolution that `call` asks for; MINimum, MAXimum and DEFault are parts of the range's full scale."""
    for word, part in (("MINimum", _FINEST), ("MAXimum", _COARSEST), ("DEFault", _FINE)):
        if is_word(call.text(position), word):
            return full * part
    return call.number(position, minimum=0, maximum=most)


def _wave() -> list[float]:
    return [round(math.sin(2 * math.pi * number / 100), 6) for number in range(100)]


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        instrument = Multimeter(self.server.seed)
        while data := self.request.recv(65536):
            self.request.sendall(instrument.receive(data))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    seed = 1


class MultimeterSimulator:
    """The multimeter on a TCP port of 127.0.0.1; each connection has an instrument of its own.

    Attributes:
        address: `tcp://127.0.0.1:PORT`.
    """

    def __init__(self, seed: int = 1, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.seed = seed
        self.address = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> MultimeterSimulator:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def main(argv: Sequence[str]) -> int:
    """Run the simulator until SIGTERM or SIGINT; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run scpi-generic", description="A simulated multimeter.")
    parser.add_argument("--seed", type=int, default=1, help="decides the noise")
    parser.add_argument("--port", type=int, default=0, help="TCP port of 127.0.0.1; 0 = any")
    options = parser.parse_args(list(argv))
    return serve_until_told("scpi-generic", MultimeterSimulator(options.seed, options.port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
