"""Numbers, blocks, lists and headers of SCPI: written by one side, read by the other, and by PyVISA's own helpers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError
from vfab.protocols import scpi
from vfab.protocols.scpi import Framer, HeaderPattern, Quoted

pyvisa_util = pytest.importorskip("pyvisa.util")

numbers = st.one_of(st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False))
texts = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))


# -- numbers ----------------------------------------------------------------------------------------------------------


@given(numbers)
def test_a_number_that_was_written_is_read_as_the_same(value: float) -> None:
    if value in {scpi.parse_number("9.9E36") * 10, 9.9e37, -9.9e37, 9.91e37} and isinstance(value, float):
        return  # these stand for infinity and for no number
    read = scpi.parse_number(scpi.format_number(value))
    assert read == value
    assert type(read) is type(value)


@given(st.lists(st.floats(-1e30, 1e30), min_size=1))
def test_pyvisa_reads_the_numbers_that_we_write(values: list[float]) -> None:
    text = scpi.format_argument(values).decode()
    assert pyvisa_util.from_ascii_block(text) == values
    assert scpi.parse_numbers(text) == values


@given(st.lists(st.floats(-1e30, 1e30), min_size=1))
def test_we_read_the_numbers_that_pyvisa_writes(values: list[float]) -> None:
    text = pyvisa_util.to_ascii_block(values, "e", ",")
    assert scpi.parse_numbers(text) == pytest.approx(values, rel=1e-6, abs=1e-30)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+1", 1),
        ("-0.5", -0.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1.5 E -3", 1.5e-3),
        ("#H1f", 31),
        ("#q17", 15),
        ("#B101", 5),
        ("10 mV", 0.01),
        ("5uA", 5e-6),
        ("1.5KOHM", 1500.0),
        ("2 MOHM", 2e6),
        ("3MHZ", 3e6),
        ("3 MV", 3e-3),
        ("3 MAV", 3e6),
        ("4K", 4e3),
        ("1EXHZ", 1e18),
        ("INF", math.inf),
        ("NINF", -math.inf),
        ("9.9E37", math.inf),
        ("-9.900000E+37", -math.inf),
    ],
)
def test_every_way_to_write_a_number_is_read(text: str, value: float) -> None:
    assert scpi.parse_quantity(text)[0] == pytest.approx(value)


def test_what_stands_for_no_number_is_nan() -> None:
    assert math.isnan(scpi.parse_number("9.91E37"))
    assert math.isnan(scpi.parse_number("+9.910000E+37"))
    assert math.isnan(scpi.parse_number("nan"))
    assert scpi.format_number(math.nan) == "9.91E37"
    assert scpi.format_number(-math.inf) == "-9.9E37"
    assert scpi.format_number(math.inf) == "9.9E37"


def test_a_unit_is_told_and_the_wrong_one_is_refused() -> None:
    assert scpi.parse_quantity("12 dBm") == (12, "DBM")
    assert scpi.parse_number("12 V", "V") == 12
    with pytest.raises(ProtocolError, match="is in V, not in A"):
        scpi.parse_number("12 V", "A")


@pytest.mark.parametrize("text", ["", "volt", "#Hxy", "1 parsec", "--1", "#X1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        scpi.parse_number(text)


@pytest.mark.parametrize(("text", "value"), [("ON", True), ("off", False), ("1", True), ("0.4", False), ("INF", True)])
def test_booleans_are_words_or_rounded_numbers(text: str, value: bool) -> None:
    assert scpi.parse_boolean(text) is value


@pytest.mark.parametrize("text", ["yes", "NAN", ""])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        scpi.parse_boolean(text)


def test_an_empty_reply_has_no_numbers() -> None:
    assert scpi.parse_numbers(" ") == []


# -- texts and blocks -------------------------------------------------------------------------------------------------


@given(texts)
def test_a_quoted_text_comes_back(text: str) -> None:
    assert scpi.unquote(scpi.quote(text)) == text


def test_either_kind_of_quote_is_read_and_a_line_end_is_refused() -> None:
    assert scpi.unquote("'it''s'") == "it's"
    assert scpi.unquote("bare") == "bare"
    assert scpi.strings_of("\"VOLT\",'CURR,DC'") == ["VOLT", "CURR,DC"]
    with pytest.raises(ValueError, match="no line ends"):
        scpi.quote("a\nb")


@given(st.binary(max_size=300))
def test_a_block_that_we_write_is_read_by_pyvisa_and_by_us(data: bytes) -> None:
    block = scpi.format_block(data)
    assert scpi.parse_block(block) == data
    offset, length = pyvisa_util.parse_ieee_block_header(block)
    assert block[offset : offset + length] == data


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32)))
def test_we_read_the_block_that_pyvisa_writes(values: list[float]) -> None:
    block = bytes(pyvisa_util.to_ieee_block(values, "f", True))
    payload = scpi.parse_block(block)
    assert pyvisa_util.from_binary_block(payload, 0, len(payload), "f", True) == values


def test_an_indefinite_block_reaches_to_the_end() -> None:
    assert scpi.parse_block(b"#0ab,c\r\n") == b"ab,c\r"


@pytest.mark.parametrize("data", [b"", b"15abc", b"#", b"#x", b"#15abc", b"#2x5abc", b"#13abcd"])
def test_a_damaged_block_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        scpi.parse_block(data)


def test_an_argument_is_written_by_its_type() -> None:
    assert scpi.format_command(":A", True, 2, 0.5, "LIN", Quoted('x"y'), b"hi", [1, 2]) == (
        b':A ON,2,0.5,LIN,"x""y",#12hi,1,2'
    )
    assert scpi.format_command("*RST") == b"*RST"
    with pytest.raises(TypeError, match="dict"):
        scpi.format_argument({})


# -- channel lists ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9999), max_size=40))
def test_a_channel_list_comes_back(channels: list[int]) -> None:
    assert scpi.parse_channels(scpi.format_channels(channels)) == [(channel,) for channel in channels]


def test_channel_lists_have_ranges_both_ways_and_dimensions() -> None:
    assert scpi.parse_channels("(@1,3:5, 9:7)") == [(1,), (3,), (4,), (5,), (9,), (8,), (7,)]
    assert scpi.parse_channels("( @ 1!1:2!2 )") == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert scpi.format_channels([1, 2, 3, (2, 7), 9]) == "(@1:3,2!7,9)"


@pytest.mark.parametrize("text", ["1,2", "(@a)", "(@1:2!3)", "(@1:999999999)", "(1)"])
def test_a_wrong_channel_list_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        scpi.parse_channels(text)


# -- headers ----------------------------------------------------------------------------------------------------------

PATTERNS = [
    "[:SENSe[1]]:CURRent[:DC]:PROTection[:LEVel]",
    ":SYSTem:ERRor[:NEXT]?",
    ":CALCulate2:LIMit<n>:UPPer",
    "*ESR?",
    ":SOURce[1]:LIST:VOLTage:APPend",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_spelling_of_a_header_is_understood_in_any_case(pattern: str) -> None:
    header = HeaderPattern.of(pattern)
    spellings = list(header.spellings())
    assert len(set(spellings)) == len(spellings)
    for text in spellings:
        assert header.match(text) is not None
        assert header.match(text.lower()) is not None
    others = [HeaderPattern.of(other) for other in PATTERNS if other != pattern]
    assert not any(other.match(text) is not None for other in others for text in spellings)


@given(st.sampled_from(PATTERNS[:1] + PATTERNS[2:3]), st.integers(0, 60), st.sampled_from("abcxyz"))
def test_a_mnemonic_is_short_or_long_and_nothing_between(pattern: str, at: int, extra: str) -> None:
    header = HeaderPattern.of(pattern)
    spelled = ":" + header.spelled(short=True)
    at = at % len(spelled) + 1
    changed = spelled[:at] + extra + spelled[at:]
    assert header.match(changed) is None or changed.upper() in header.spellings()


def test_numeric_suffixes_are_told_and_one_that_is_left_out_is_1() -> None:
    pattern = HeaderPattern.of(":OUTPut<n>:TRIG<m>?")
    assert pattern.match(":OUTP2:TRIG?") == (2, 1)
    assert pattern.match(":OUTPUT:TRIG12?") == (1, 12)
    assert pattern.match(":OUTPU:TRIG?") is None


def test_short_forms_are_what_is_sent() -> None:
    assert scpi.short_form("PROTection") == "PROT"
    assert scpi.short_header(":SENSe:CURRent[:DC]:PROTection[:LEVel]?") == "SENS:CURR:PROT?"
    assert HeaderPattern.of(":CALCulate2:LIMit").spelled(short=False) == "CALCULATE2:LIMIT"
    assert HeaderPattern.of("*IDN?").spelled() == "*IDN?"
    assert list(HeaderPattern.of("*IDN?").spellings()) == ["*IDN?"]
    assert scpi.is_word("logarithmic", "LOGarithmic")
    assert scpi.is_word(" LOG ", "LOGarithmic")
    assert not scpi.is_word("LOGA", "LOGarithmic")


@pytest.mark.parametrize("text", ["volt:", ":SENSe[:DC", "::"])
def test_a_pattern_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="not a header pattern"):
        HeaderPattern(text)


# -- framing ----------------------------------------------------------------------------------------------------------

pieces = st.one_of(
    st.binary(max_size=20).map(scpi.format_block),
    texts.map(scpi.quote).map(lambda text: text.encode("latin-1")),
    st.floats(allow_nan=False).map(lambda value: scpi.format_number(value).encode()),
)


@given(st.lists(st.lists(pieces, min_size=1, max_size=4), max_size=5), st.lists(st.integers(1, 17)), st.booleans())
def test_how_the_bytes_were_cut_does_not_matter(messages: list[list[bytes]], cuts: list[int], crlf: bool) -> None:
    plain = [b",".join(parts) for parts in messages]
    stream = b"".join(message + (b"\r\n" if crlf else b"\n") for message in plain)
    framer, found, at = Framer(), [], 0
    for cut in [*cuts, len(stream)]:
        found += framer.receive(stream[at : at + cut])
        at += cut
    assert found == plain
    assert framer.held == 0
    for message, parts in zip(found, messages, strict=True):
        assert scpi.split_arguments(message) == parts
        assert scpi.split_units(message) == ([message] if message else [])


def test_an_indefinite_block_ends_with_the_line_whatever_is_in_it() -> None:
    framer = Framer()
    assert framer.receive(b'#0a"b #15\r\nnext\n') == [b'#0a"b #15\r', b"next"]
    assert scpi.split_arguments(b"1,#0a,b ") == [b"1", b"#0a,b "]


def test_a_number_sign_that_begins_no_block_is_text() -> None:
    assert Framer().receive(b"#H1F\n#x\n#2ab\n") == [b"#H1F", b"#x", b"#2ab"]
    framer = Framer()
    assert framer.receive(b"#1") == []
    assert framer.receive(b"2ab") == []
    framer.clear()
    assert framer.receive(b"ok\n") == [b"ok"]


def test_a_message_without_an_end_is_forgotten_and_told() -> None:
    framer = Framer(line_max=10, block_max=100)
    with pytest.raises(ProtocolError, match="without a line end"):
        framer.receive(b"x" * 11)
    assert framer.receive(b"y\n") == [b"y"]
    with pytest.raises(ProtocolError, match="announced"):
        framer.receive(b"#3101")
    assert framer.receive(b"#250" + b"z" * 50 + b"\n") == [b"#250" + b"z" * 50], "a block may be longer than a line"


def test_units_and_arguments_are_split_outside_of_quotes_brackets_and_blocks() -> None:
    assert scpi.split_units(b':A "x;y" ; B (@1,2);; C #15;;,\n ') == [b':A "x;y"', b"B (@1,2)", b"C #15;;,\n "]
    assert scpi.split_arguments(b" 1, 'a,b' ,(@1,2), #12, ") == [b"1", b"'a,b'", b"(@1,2)", b"#12, "]
    assert scpi.split_arguments(b"  ") == []
    assert scpi.split_arguments(b"a,,b") == [b"a", b"", b"b"]


def test_a_doubled_quote_is_inside_of_the_text() -> None:
    parts = [b'""","', b"'it''s, #15'", b"7"]
    line = b",".join(parts)
    assert scpi.split_arguments(line) == parts
    assert Framer().receive(line + b"\n") == [line]


# -- replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1234567,C30   Mar 17 2006 09:29:29/A02  /K/J\r\n",
            ("KEITHLEY INSTRUMENTS INC.", "2400", "1234567", "C30   Mar 17 2006 09:29:29/A02  /K/J"),
        ),
        ("HEWLETT-PACKARD,34401A,0,10-5-2", ("HEWLETT-PACKARD", "34401A", "", "10-5-2")),
        ("\"ACME,'X1',7,1.0,extra\"", ("ACME", "X1", "7", "1.0,extra")),
        ("*IDN TEKTRONIX,TDS 210,0,CF:91.1CT", ("TEKTRONIX", "TDS 210", "", "CF:91.1CT")),
        ("ACME X1 7 v1.0 beta", ("ACME", "X1", "7", "v1.0 beta")),
        ("THING", ("", "THING", "", "")),
        ("JULABO FP50_MH Simulator, ISIS", ("JULABO FP50_MH Simulator", "ISIS", "", "")),
        ("", ("", "", "", "")),
    ],
)
def test_who_an_instrument_is_is_read_from_odd_answers_too(text: str, expected: tuple[str, str, str, str]) -> None:
    identity = scpi.parse_identity(text)
    assert (identity.manufacturer, identity.model, identity.serial, identity.firmware) == expected
    assert list(identity.to_dict()) == ["manufacturer", "model", "serial", "firmware"]


@given(st.text())
def test_reading_an_identity_never_fails(text: str) -> None:
    scpi.parse_identity(text)


@pytest.mark.parametrize(
    ("text", "code", "message", "detail"),
    [
        ('-113,"Undefined header;:CURRR"', -113, "Undefined header", ":CURRR"),
        ('+0,"No error"', 0, "No error", ""),
        ("0", 0, "", ""),
        ("No error", 0, "No error", ""),
        ("-222,Parameter data out of range", -222, "Parameter data out of range", ""),
        ("-420 'Query UNTERMINATED'", -420, "Query UNTERMINATED", ""),
        ('803,"Not permitted with OUTPUT off"', 803, "Not permitted with OUTPUT off", ""),
        ('-100,"a ""b"" c"', -100, 'a "b" c', ""),
        ("boom", 1, "boom", ""),
    ],
)
def test_an_entry_of_the_error_queue_is_read(text: str, code: int, message: str, detail: str) -> None:
    entry = scpi.parse_error(text)
    assert (entry.code, entry.message, entry.detail) == (code, message, detail)


def test_all_errors_at_once_are_read_and_none_is_none() -> None:
    entries = scpi.parse_errors('-113,"Undefined header; a,b",+802,"Interlock"')
    assert [entry.code for entry in entries] == [-113, 802]
    assert entries[0].detail == "a,b"
    assert str(entries[0]) == "-113 Undefined header; a,b"
    assert str(entries[1]) == "+802 Interlock"
    assert scpi.parse_errors('0,"No error"') == []
    assert scpi.parse_error(entries[0].to_wire()) == entries[0]


def test_an_error_in_place_of_an_answer_is_seen() -> None:
    assert scpi.looks_like_error('-113,"Undefined header"')
    assert not scpi.looks_like_error("-113.5,2")
    assert not scpi.looks_like_error('0,"No error"')


# -- VISA's names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("TCPIP0::192.0.2.7::5025::SOCKET", "tcp://192.0.2.7:5025"),
        ("visa://tcpip::scope.example::5025::socket", "tcp://scope.example:5025"),
        ("TCPIP::[::1]::5025::SOCKET", "tcp://[::1]:5025"),
        ("ASRL/dev/ttyUSB0::INSTR", "/dev/ttyUSB0"),
        ("ASRL/dev/pts/3", "/dev/pts/3"),
        ("ASRL3::INSTR", None),
        ("TCPIP0::192.0.2.7::inst0::INSTR", None),
        ("TCPIP0::192.0.2.7::99999::SOCKET", None),
        ("TCPIP::192.0.2.7::hislip0::INSTR", None),
        ("USB0::0x05E6::0x2450::04012345::INSTR", None),
        ("GPIB0::24::INSTR", None),
    ],
)
def test_sockets_and_serial_ports_among_visa_names_are_plain_addresses(name: str, address: str | None) -> None:
    assert scpi.is_resource(name)
    assert scpi.as_address(name) == address


def test_other_addresses_are_no_visa_names() -> None:
    for text in ("/dev/ttyUSB0", "tcp://192.0.2.7:5025", "usb:05e6:2450", "serial:by-id/x"):
        assert not scpi.is_resource(text)
        assert scpi.resource_of(text) == text
    assert scpi.resource_of("visa://GPIB0::24::INSTR") == "GPIB0::24::INSTR"
