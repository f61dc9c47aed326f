"""Telnet with COM-PORT-OPTION: both sides, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError
from vfab.protocols.rfc2217 import (
    COM_PORT,
    AccessServer,
    ClientPort,
    Code,
    Control,
    Data,
    Event,
    LineState,
    ModemState,
    OptionOn,
    Parity,
    Request,
    Said,
)

CLIENT_CODES = [code for code in Code if code not in {Code.SET_LINESTATE_MASK, Code.SET_MODEMSTATE_MASK}]


def joined(events: list[Event]) -> list[Event]:
    """Neighbouring data as one: how it was cut does not matter."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Data) and result and isinstance(result[-1], Data):
            result[-1] = Data(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def talk(client: ClientPort, server: AccessServer) -> tuple[list[Event], list[Event]]:
    """Pass bytes to and fro until both are silent; what each side saw."""
    seen: tuple[list[Event], list[Event]] = ([], [])
    for _ in range(10):
        out, back = client.data_to_send(), server.data_to_send()
        if not out and not back:
            return seen
        seen[1].extend(server.feed(out))
        seen[0].extend(client.feed(back))
    raise AssertionError("they quarrel without end")


@given(parts=st.lists(st.binary(max_size=60), max_size=6), places=st.lists(st.integers(0, 500), max_size=10))
def test_every_byte_passes_however_it_was_cut(parts: list[bytes], places: list[int]) -> None:
    client, server = ClientPort(), AccessServer()
    for part in parts:
        client.write(part)
        client.request(Code.SET_BAUDRATE, 0xFFFF00FF)
    wire = client.data_to_send()
    marks = sorted({place % (len(wire) + 1) for place in places})
    pieces = [wire[a:b] for a, b in zip([0, *marks], [*marks, len(wire)], strict=True)]
    came = joined([event for piece in pieces for event in server.feed(piece)])
    wanted: list[Event] = []
    for part in parts:
        wanted += [Data(part)] if part else []
        wanted.append(Request(Code.SET_BAUDRATE, 0xFFFF00FF))
    assert came == joined(wanted)


@pytest.mark.parametrize("beginners", ["client", "server", "both"])
def test_both_sides_agree_whoever_begins_and_do_not_quarrel(beginners: str) -> None:
    client, server = ClientPort(), AccessServer()
    if beginners in {"client", "both"}:
        client.begin()
    if beginners in {"server", "both"}:
        server.begin()
    talk(client, server)
    assert client.agreed(COM_PORT)
    assert server.agreed(COM_PORT, theirs=True)
    assert client.agreed(0) and client.agreed(0, theirs=True)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (Code.SIGNATURE, "vfab \xff"),
        (Code.SET_BAUDRATE, 115200),
        (Code.SET_DATASIZE, 7),
        (Code.SET_PARITY, Parity.EVEN),
        (Code.SET_CONTROL, Control.DTR_ON),
        (Code.PURGE_DATA, 255),
    ],
)
def test_a_request_is_answered_with_what_holds_now(code: Code, value: int | str) -> None:
    client, server = ClientPort(), AccessServer()
    client.request(code, value)
    assert server.feed(client.data_to_send()) == [Request(code, value)]
    server.say(code, value)
    assert client.feed(server.data_to_send()) == [Said(code, value)]


def test_the_bytes_are_those_of_the_rfc() -> None:
    client = ClientPort()
    client.request(Code.SET_BAUDRATE, 9600)
    assert client.data_to_send() == bytes.fromhex("fffa2c0100002580fff0")
    client.begin()
    assert client.data_to_send().endswith(bytes.fromhex("fffb2c"))
    client.write(b"a\xffb")
    assert client.data_to_send() == b"a\xff\xffb"


@pytest.mark.parametrize("code", [Code.NOTIFY_MODEMSTATE, Code.NOTIFY_LINESTATE])
def test_a_client_may_ask_for_the_present_state(code: Code) -> None:
    assert AccessServer().feed(bytes((255, 250, 44, code, 255, 240))) == [Request(code, 0)]
    with pytest.raises(ProtocolError, match="0 bytes instead of 1"):
        ClientPort().feed(bytes((255, 250, 44, 100 + code, 255, 240)))


def test_modem_and_line_states_are_told_only_when_wanted() -> None:
    client, server = ClientPort(), AccessServer()
    client.request(Code.SET_MODEMSTATE_MASK, 0)
    client.request(Code.SET_LINESTATE_MASK, 16)
    seen, _ = talk(client, server)
    assert seen == [Said(Code.SET_MODEMSTATE_MASK, 0), Said(Code.SET_LINESTATE_MASK, 16)]
    server.notify_modem(ModemState.CTS | ModemState.CTS_CHANGED)
    server.notify_line(LineState.OVERRUN_ERROR)
    assert server.data_to_send() == b""
    client.request(Code.SET_MODEMSTATE_MASK, 255)
    talk(client, server)
    server.notify_modem(ModemState.CTS | ModemState.CTS_CHANGED)
    server.notify_line(LineState.BREAK_DETECTED)
    assert client.feed(server.data_to_send()) == [Said(Code.NOTIFY_MODEMSTATE, 17), Said(Code.NOTIFY_LINESTATE, 16)]


def test_flow_control_stops_and_starts_the_access_server() -> None:
    client, server = ClientPort(), AccessServer()
    client.request(Code.FLOWCONTROL_SUSPEND)
    assert server.feed(client.data_to_send()) == []
    assert server.suspended
    client.request(Code.FLOWCONTROL_RESUME)
    server.feed(client.data_to_send())
    assert not server.suspended


def test_unknown_options_are_refused_and_unknown_codes_passed_over() -> None:
    server = AccessServer()
    assert server.feed(bytes((255, 251, 31, 255, 253, 24))) == []
    assert server.data_to_send() == bytes((255, 254, 31, 255, 252, 24))
    assert server.feed(bytes((255, 250, 44, 77, 1, 255, 240, 255, 250, 24, 1, 255, 240, 255, 241))) == []
    assert ClientPort().feed(bytes((255, 250, 44, 5, 1, 255, 240, 255, 250, 44, 255, 240))) == []


def test_a_refused_option_is_told() -> None:
    client = ClientPort()
    client.begin()
    assert client.feed(bytes((255, 254, 44))) == [OptionOn(44, False, False)]
    assert not client.agreed(44)


def test_an_option_taken_back_is_confirmed_once() -> None:
    client = ClientPort()
    client.begin()
    client.feed(bytes((255, 253, 44)))
    client.data_to_send()
    assert client.feed(bytes((255, 254, 44))) == [OptionOn(44, False, False)]
    assert client.data_to_send() == bytes((255, 252, 44))
    assert client.feed(bytes((255, 254, 44))) == []
    assert client.data_to_send() == b""


@pytest.mark.parametrize("side", [ClientPort, AccessServer])
def test_rubbish_in_a_subnegotiation_is_an_error(side: type[ClientPort] | type[AccessServer]) -> None:
    base = 100 if side is ClientPort else 0
    with pytest.raises(ProtocolError, match="3 bytes instead of 4"):
        side().feed(bytes((255, 250, 44, base + 1, 1, 2, 3, 255, 240)))
    with pytest.raises(ProtocolError, match="no end"):
        side().feed(bytes((255, 250)) + b"x" * 2000)


@given(noise=st.binary(max_size=200))
def test_noise_is_read_or_refused_never_a_crash(noise: bytes) -> None:
    for side in (ClientPort(), AccessServer()):
        try:
            side.feed(noise)
        except ProtocolError:
            continue
