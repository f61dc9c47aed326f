"""The instrument's side of SCPI: what `ScpiServer` does with what a controller sends, ours and PyVISA's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError
from vfab.protocols import scpi
from vfab.protocols.scpi import PENDING, Call, EventStatus, Quoted, ScpiError, ScpiServer


class Bench:
    """A server with one command of each kind, and what its handlers were told."""

    def __init__(self) -> None:
        self.server = ScpiServer("ACME,X1,7,1.0", queue_size=3)
        self.calls: list[Call] = []
        self.level = 0.0
        self.server.setting("[:SOURce[1]]:VOLTage[:LEVel]", self._take, lambda: scpi.format_number(self.level))
        self.server.on(":DATA", self._note)
        self.server.on(":DATA?", lambda call: scpi.format_block(b"a;\nb"))
        self.server.on(":OUTPut<n>:STATe?", lambda call: str(call.suffixes[0]))
        self.server.on(":WAIT?", lambda call: PENDING)
        self.server.on(":ABORt", lambda call: self._abort(), immediate=True)
        self.aborted = 0

    def _take(self, call: Call) -> None:
        self.level = call.number(minimum=-10, maximum=10, unit="V", default=1.0)

    def _note(self, call: Call) -> None:
        self.calls.append(call)

    def _abort(self) -> None:
        self.aborted += 1

    def ask(self, text: str | bytes) -> str:
        data = text.encode() if isinstance(text, str) else text
        return self.server.receive(data + b"\n").decode("latin-1")

    def error(self) -> str:
        return self.ask(":SYST:ERR?").strip()


arguments = st.lists(
    st.one_of(
        st.integers(-(10**9), 10**9),
        st.floats(-1e9, 1e9),
        st.binary(max_size=30),
        st.text(st.characters(min_codepoint=32, max_codepoint=126)).map(Quoted),
    ),
    max_size=4,
)


@given(st.lists(arguments, min_size=1, max_size=3), st.integers(1, 9))
def test_what_our_client_writes_our_server_reads(units: list[list[object]], cut: int) -> None:
    bench = Bench()
    message = scpi.format_message(*(scpi.format_command(":DATA", *items) for items in units)) + b"\n"
    for at in range(0, len(message), cut):
        assert bench.server.receive(message[at : at + cut]) == b""
    assert len(bench.calls) == len(units)
    for call, items in zip(bench.calls, units, strict=True):
        assert len(call.arguments) == len(items)
        for number, item in enumerate(items):
            if isinstance(item, Quoted):
                assert call.string(number) == item
            elif isinstance(item, bytes):
                assert call.block(number) == item
            else:
                assert call.number(number) == item
    assert not bench.server.errors


@given(st.binary(max_size=200))
def test_no_bytes_break_the_server(data: bytes) -> None:
    bench = Bench()
    bench.server.receive(data)
    bench.server.clear()
    bench.server.errors.clear()
    assert bench.ask("*IDN?") == "ACME,X1,7,1.0\n"


def test_answers_of_one_message_are_one_message() -> None:
    bench = Bench()
    assert bench.ask("VOLT 2.5 V; VOLT?;*IDN?;:SOUR1:VOLT:LEV?") == "2.5;ACME,X1,7,1.0;2.5\n"
    assert bench.ask("VOLT mV") == ""
    assert bench.error() == '-104,"Data type error"'
    assert bench.ask("VOLT 500 mV;VOLT?") == "0.5\n"
    assert bench.ask("OUTP2:STAT?;:OUTP:STAT?") == "2;1\n"


def test_a_header_goes_on_from_the_one_before() -> None:
    server = ScpiServer("x")
    told: list[str] = []
    for name in (":A:B:C", ":A:B:D", ":E"):
        server.on(name, lambda call: told.append(call.header))
    server.receive(b":A:B:C;D;*CLS;D;:E;E\n")
    assert told == [":A:B:C", ":A:B:D", ":A:B:D", ":E", ":E"]


def test_a_block_in_an_answer_is_whole_for_our_client() -> None:
    bench = Bench()
    answer = bench.ask("DATA?").encode("latin-1")
    assert [scpi.parse_block(message) for message in scpi.Framer().receive(answer)] == [b"a;\nb"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("VOLT 11", '-222,"Parameter data out of range"'),
        ("VOLT", '-109,"Missing parameter"'),
        ("VOLT 1,2", '-108,"Parameter not allowed"'),
        ("VOLTA 1", '-113,"Undefined header;:VOLTA"'),
        ("VOLT 1 A", '-104,"Data type error"'),
        ("*ESE 256", '-222,"Parameter data out of range"'),
        ("*SRE x", '-104,"Data type error"'),
    ],
)
def test_what_is_wrong_is_in_the_error_queue_and_nothing_is_done(text: str, error: str) -> None:
    bench = Bench()
    assert bench.ask(text) == ""
    assert bench.level == 0.0
    assert bench.error() == error
    assert bench.error() == '0,"No error"'


def test_after_a_command_error_the_rest_of_the_message_is_left_out_after_an_execution_error_not() -> None:
    bench = Bench()
    assert bench.ask("VOLT 99;*IDN?") == "ACME,X1,7,1.0\n"
    assert bench.ask("NONE 99;*IDN?") == ""
    assert [entry.code for entry in bench.server.errors] == [-222, -113]


def test_words_stand_for_limits_and_a_default() -> None:
    bench = Bench()
    assert bench.ask("VOLT MAX;VOLT?;VOLT MINimum;VOLT?;VOLT DEF;VOLT?") == "10;-10;1.0\n"
    call = Call(":X", (b"lin", b"DEF", b"1", b"'t'"))
    assert call.word("LINear", "LOGarithmic") == "LINear"
    assert call.boolean(2) is True
    assert call.string(3) == "t"
    for wrong, code in (
        (lambda: call.word("LOGarithmic"), -224),
        (lambda: call.number(1), -224),
        (lambda: call.string(0), -151),
        (lambda: call.block(0), -161),
        (lambda: call.boolean(0), -104),
        (lambda: call.text(9), -109),
    ):
        with pytest.raises(ScpiError) as caught:
            wrong()
        assert caught.value.entry.code == code


def test_the_queue_overflows_into_its_last_place() -> None:
    bench = Bench()
    for _ in range(5):
        bench.ask("NONE")
    assert bench.ask("SYST:ERR:COUN?") == "3\n"
    entries = scpi.parse_errors(bench.ask("SYST:ERR:ALL?"))
    assert [entry.code for entry in entries] == [-113, -113, -350]
    assert bench.ask("SYST:ERR:ALL?") == '0,"No error"\n'


def test_the_status_byte_sums_up_what_is_enabled() -> None:
    bench = Bench()
    assert int(bench.ask("*ESR?")) == EventStatus.POWER_ON
    assert bench.ask("*ESR?;*STB?") == "0;16\n", "the answer to *ESR? waits: a message is available"
    bench.ask("NONE")
    assert int(bench.ask("*STB?")) == 4
    bench.ask("*ESE 32;*SRE 32")
    assert int(bench.ask("*STB?")) == 4 | 32 | 64
    assert bench.ask("*ESE?;*SRE?") == "32;32\n"
    bench.ask("*CLS")
    assert int(bench.ask("*STB?")) == 0
    bench.ask("*OPC")
    assert int(bench.ask("*ESR?")) == EventStatus.OPERATION_COMPLETE
    bench.server.summary = lambda: 1
    assert int(bench.ask("*STB?")) == 1


@pytest.mark.parametrize(("code", "bit"), [(-102, 32), (-222, 16), (-310, 8), (-410, 4), (802, 8), (0, 0)])
def test_each_class_of_errors_has_its_bit(code: int, bit: int) -> None:
    server = ScpiServer("x")
    server.receive(b"*ESR?\n")
    server.push(scpi.ErrorEntry(code, ""))
    assert int(server.receive(b"*ESR?\n")) == bit


def test_common_commands_do_what_488_says() -> None:
    bench = Bench()
    resets: list[int] = []
    bench.server.on_reset = lambda: resets.append(1)
    assert bench.ask("*RST;*WAI;*OPC?;*TST?;:SYST:VERS?") == "1;0;1999.0\n"
    assert resets == [1]


def test_while_something_is_pending_only_what_is_immediate_is_done() -> None:
    bench = Bench()
    assert bench.ask("*IDN?;:WAIT?;VOLT?") == ""
    assert bench.server.busy
    assert bench.ask("VOLT 3") == ""
    assert bench.ask("ABOR") == ""
    assert (bench.level, bench.aborted) == (0.0, 1)
    assert bench.server.complete("done") == b"ACME,X1,7,1.0;done;0.0\n"
    assert bench.level == 3.0
    assert not bench.server.busy
    with pytest.raises(ValueError, match="nothing is pending"):
        bench.server.complete()


def test_what_is_pending_can_fail_or_be_cleared() -> None:
    bench = Bench()
    bench.ask(":WAIT?")
    assert bench.server.refuse(ScpiError(-230)) == b""
    assert bench.error() == '-230,"Data corrupt or stale"'
    bench.ask(":WAIT?")
    bench.ask("VOLT 3")
    bench.server.clear()
    assert bench.ask("VOLT?") == "0.0\n"


def test_a_message_without_an_end_is_refused() -> None:
    server = ScpiServer("x", message_max=20)
    assert server.receive(b"y" * 30) == b""
    assert server.receive(b"*IDN?\n") == b"x\n"
    assert server.errors[0].code == -223


def test_pyvisa_reads_what_the_server_answers() -> None:
    util = pytest.importorskip("pyvisa.util")
    server = ScpiServer("x")
    values = [0.5, -1e-9, 9.91e37]
    server.on(":READ?", lambda call: ",".join(scpi.format_number(value) for value in values))
    assert util.from_ascii_block(server.receive(b"READ?\n").decode()) == values
    assert math.isnan(scpi.parse_numbers("0,9.91E37")[1])


def test_a_message_of_nothing_is_nothing() -> None:
    assert ScpiServer("x").receive(b"\n ; ;\r\n") == b""
    with pytest.raises(ProtocolError):
        scpi.parse_block(b"")
