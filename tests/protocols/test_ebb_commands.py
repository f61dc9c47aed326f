"""Encoding, parsing and refusing of the EiBotBoard's commands and answers, on both sides."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError, Refused
from vfab.protocols import ebb
from vfab.protocols.ebb.commands import parameters
from vfab.protocols.ebb.replies import parse_reply
from vfab.protocols.ebb.server import ERRORS

V2, V3 = ebb.Firmware(2, 8, 1), ebb.Firmware(3, 0, 2)


@st.composite
def any_command(draw: st.DrawFn, firmware: ebb.Firmware = V3) -> ebb.Command:
    kind = draw(st.sampled_from([kind for kind in ebb.COMMANDS.values() if kind.since <= firmware]))
    values: list[int | str | None] = []
    for parameter in parameters(kind):
        low, high = parameter.bounds(firmware)
        if parameter.optional and draw(st.booleans()):
            break
        if parameter.text:
            letters = st.characters(min_codepoint=48, max_codepoint=90)
            values.append(draw(st.text(letters, min_size=low, max_size=high)))
        else:
            values.append(draw(st.integers(low, high)))
    return kind(*values)


@pytest.mark.parametrize("firmware", [V2, V3])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_what_one_side_encodes_the_other_side_reads(firmware: ebb.Firmware, data: st.DataObject) -> None:
    command = data.draw(any_command(firmware))
    server = ebb.Server(firmware)
    server.feed(ebb.encode(command, firmware))
    assert server.next_command() == command
    assert server.next_command() is None


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (ebb.SM(1000, 250, -766), b"SM,1000,250,-766\r"),
        (ebb.XM(1000, 550, -1234), b"XM,1000,550,-1234\r"),
        (ebb.SP(1), b"SP,1\r"),
        (ebb.SP(0, 150, 1), b"SP,0,150,1\r"),
        (ebb.EM(1, 1), b"EM,1,1\r"),
        (ebb.LM(17179000, 75, -687, 8592000, 75, 687), b"LM,17179000,75,-687,8592000,75,687\r"),
        (ebb.LT(12500, 17179000, -687, 8592000, 687, 3), b"LT,12500,17179000,-687,8592000,687,3\r"),
        (ebb.HM(3200), b"HM,3200\r"),
        (ebb.CU(10, 1), b"CU,10,1\r"),
        (ebb.ST("East EBB"), b"ST,East EBB\r"),
        (ebb.PI("E", 0), b"PI,E,0\r"),
        (ebb.QG(), b"QG\r"),
    ],
)
def test_commands_are_spelt_as_the_reference_has_them(command: ebb.Command, line: bytes) -> None:
    assert ebb.encode(command) == line


@pytest.mark.parametrize(
    ("command", "firmware", "word"),
    [
        (ebb.SM(0, 1, 1), V3, "duration_ms"),
        (ebb.SM(16777216, 1, 1), V2, "duration_ms"),
        (ebb.XM(10, 1 << 24, 0), V2, "steps_a"),
        (ebb.LM(-1, 10, 0, 0, 0, 0), V2, "rate1"),
        (ebb.SP(2), V2, "value"),
        (ebb.HM(1), V3, "rate"),
        (ebb.EM(6, 0), V3, "enable1"),
        (ebb.SM(10, None, 4), V3, "steps1"),  # type: ignore[arg-type]
        (ebb.SM(10, 1.5, 4), V3, "steps1"),  # type: ignore[arg-type]
        (ebb.SM(10, True, 4), V3, "steps1"),
        (ebb.SM(10, 1, None, 3), V3, "steps2"),
        (ebb.ST("x" * 17), V3, "nickname"),
        (ebb.ST("a,b"), V3, "nickname"),
        (ebb.ST("a\rRB"), V3, "nickname"),
        (ebb.L3(1, 1, 1, 1, 1, 1, 1, 1), V2, "3.0.0"),
    ],
)
def test_a_value_that_the_firmware_does_not_take_is_refused_by_name(
    command: ebb.Command, firmware: ebb.Firmware, word: str
) -> None:
    with pytest.raises(Refused, match=word):
        ebb.encode(command, firmware)


def test_every_command_tells_bounds_for_every_parameter() -> None:
    for kind in ebb.COMMANDS.values():
        assert [parameter.name for parameter in parameters(kind)] == [item.name for item in fields(kind)]
        assert all(parameter.low <= parameter.high for parameter in parameters(kind))
        assert kind.__doc__


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (b"SM,100\r", 4, "Missing parameter(s)"),
        (b"SM,\r", 4, "Missing parameter(s)"),
        (b"SM,100A\r", 5, "Need comma next, found: 'A'"),
        (b"TP,-1\r", 6, "Invalid parameter value"),
        (b"SM,0,1,1\r", 6, "Invalid parameter value"),
        (b"SM,1,1,1,0,0\r", 7, "Extra parameter"),
        (b"QS,1\r", 7, "Extra parameter"),
        (b"TP,5x\r", 7, "Extra parameter"),
        (b"B\r", 8, "Unknown command 'B:42'"),
        (b"BB\r", 8, "Unknown command 'BB:4242'"),
        (b"Z" * 256 + b"\r", 3, "RX Buffer overrun"),
    ],
)
def test_the_board_names_what_is_wrong_with_a_line(line: bytes, code: int, text: str) -> None:
    server = ebb.Server(V3)
    server.feed(line)
    found = server.next_command()
    assert isinstance(found, ebb.Rejected)
    assert (found.code, found.text) == (code, text)


def test_2_8_executes_a_command_with_a_surplus_parameter_and_complains_afterwards() -> None:
    server = ebb.Server(V2)
    server.feed(b"SM,1,1,1,0,0\r")
    assert server.next_command() == ebb.Rejected("SM", 7, ERRORS[7], ebb.SM(1, 1, 1, 0))


def test_errors_have_both_spellings() -> None:
    server = ebb.Server(V3)
    rejected = ebb.Rejected("SM", 4, ERRORS[4])
    assert server.rejected(rejected) == b"!4 Err: Missing parameter(s)\r\n"
    assert server.error("SM", 0, "<axis1> step rate too high") == b"!0 Err: <axis1> step rate too high\n\r"
    server.syntax = ebb.Syntax.FUTURE
    assert server.rejected(rejected) == b"SM,!4 Err: Missing parameter(s)\n"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"SM,1000,1000,1000,153\r", ebb.SM(1000, 1000, 1000)),
        (b"CU,54,0,119\r", ebb.CU(54, 0)),
        (b"V,100\r", ebb.Rejected("V", 9, "Checksum incorrect, expected 170")),
        (b"V\r", ebb.Rejected("V", 10, ERRORS[10])),
    ],
)
def test_checksums_are_those_of_the_reference(line: bytes, answer: object) -> None:
    server = ebb.Server(V3)
    server.checksums = True
    server.feed(line)
    assert server.next_command() == answer


LEGACY = [
    (ebb.QB(), "1", b"1\r\nOK\r\n"),
    (ebb.QC(), "0394,0300", b"0394,0300\r\nOK\r\n"),
    (ebb.QE(), "16,16", b"16,16\r\nOK\r\n"),
    (ebb.QL(), "4", b"4\r\nOK\r\n"),
    (ebb.QT(), "", b"\r\nOK\r\n"),
    (ebb.QT(), "OK", b"OK\r\nOK\r\n"),
    (ebb.QU(2), "32", b"QU,32\r\nOK\r\n"),
    (ebb.QS(), "1421,-429", b"1421,-429\n\rOK\r\n"),
    (ebb.QP(), "1", b"1\n\rOK\r\n"),
    (ebb.ES(), "0", b"0\n\rOK\r\n"),
    (ebb.QR(), "1", b"1\n\rOK\r\n"),
    (ebb.V(), "EBBv13_and_above EB Firmware Version 2.8.1", b"EBBv13_and_above EB Firmware Version 2.8.1\r\n"),
    (ebb.QG(), "3E", b"3E\r\n"),
    (ebb.QM(), "0,0,0,0", b"QM,0,0,0,0\n\r"),
    (ebb.PI("D", 2), "1", b"PI,1\r\n"),
]


@pytest.mark.parametrize(("command", "text", "legacy"), LEGACY)
def test_answers_are_spelt_as_the_reference_has_them(command: ebb.Command, text: str, legacy: bytes) -> None:
    server = ebb.Server(V3)
    assert server.data(command, text) == legacy
    server.syntax = ebb.Syntax.FUTURE
    assert server.data(command, text) == f"{command.name},{text}\n".encode()


def test_changing_the_syntax_is_answered_half_in_each() -> None:
    server = ebb.Server(V3)
    assert server.switch(ebb.Syntax.FUTURE) == b"\n"
    assert server.switch(ebb.Syntax.FUTURE) == b"CU\n"
    assert server.switch(ebb.Syntax.LEGACY) == b"CUOK\r\n"
    assert server.switch(ebb.Syntax.LEGACY) == b"OK\r\n"


def test_without_acknowledgements_2_8_says_nothing_and_3_ends_the_line() -> None:
    for firmware, said in ((V2, b""), (V3, b"\r\n")):
        server = ebb.Server(firmware)
        server.acknowledges = False
        assert server.ok(ebb.EM(1, 1)) == said
    assert ebb.Server(V3).ok(ebb.RB()) == b""


@given(data=st.data())
@settings(deadline=None)
def test_how_the_bytes_to_the_board_are_cut_does_not_matter(data: st.DataObject) -> None:
    text = b"sm,10,5,5\r\nQS\r\r\nXM,10,1\b2,3\nFOO\r" + b"Z" * 300 + b"\rv\r"
    whole, cut = ebb.Server(V3), ebb.Server(V3)
    whole.feed(text)
    rest, found = text, []
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        cut.feed(rest[:size])
        rest = rest[size:]
        while (command := cut.next_command()) is not None:
            found.append(command)
    expected = []
    while whole.waiting:
        expected.append(whole.next_command())
    assert found == expected
    assert found[:3] == [ebb.SM(10, 5, 5), ebb.QS(), ebb.XM(10, 2, 3)]
    assert found[-1] == ebb.V()


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_no_bytes_whatever_upset_the_board(data: bytes) -> None:
    server = ebb.Server(V3)
    server.feed(data)
    while (item := server.next_command()) is not None:
        assert isinstance(item, ebb.Command | ebb.Rejected)


@pytest.mark.parametrize(
    ("command", "text", "reply"),
    [
        (ebb.ES(), "1,10,20,30,40", ebb.Stopped(ebb.ES(), True, (10, 20), (30, 40))),
        (ebb.ES(), "0", ebb.Stopped(ebb.ES(), False)),
        (ebb.QU(1), "A0", ebb.Utility(ebb.QU(1), (160,))),
        (ebb.QU(200), "5,6", ebb.Utility(ebb.QU(200), (5, 6))),
        (ebb.MR(3), "071", ebb.Raw(ebb.MR(3), "071")),
        (ebb.QN(), "4294967295", ebb.NodeCount(ebb.QN(), 2**32 - 1)),
    ],
)
def test_data_becomes_typed_replies(command: ebb.Command, text: str, reply: ebb.Reply) -> None:
    assert parse_reply(command, text) == reply


def test_the_status_byte_is_read_bit_by_bit() -> None:
    status = ebb.Status(ebb.QG(), 0x3E)
    assert (status.queued, status.motor2, status.motor1, status.executing) == (False, True, True, True)
    assert (status.pen_up, status.button, status.bit6, status.bit7) == (True, True, False, False)


def test_the_supply_voltage_is_that_of_the_reference_s_example() -> None:
    assert ebb.Voltages(ebb.QC(), 394, 300).supply_v == pytest.approx(9.2, abs=0.1)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (ebb.QS(), "1"),
        (ebb.QS(), "a,b"),
        (ebb.QM(), "0,0,0,7"),
        (ebb.QG(), "3"),
        (ebb.QG(), "XY"),
        (ebb.QE(), "3,3"),
        (ebb.V(), "grbl 1.1"),
    ],
)
def test_data_that_makes_no_sense_is_an_error(command: ebb.Command, text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_reply(command, text)


def test_firmware_versions_compare_and_print() -> None:
    assert ebb.parse_firmware("EBBv13_and_above EB Firmware Version 2.8.1") == V2 < V3
    assert ebb.parse_firmware("EBBv13_and_above EB Firmware Version 3.0") == ebb.Firmware(3)
    assert str(V3) == "3.0.2"
