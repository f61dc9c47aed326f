"""The host's side of the EiBotBoard protocol: connecting whatever the board was left in, and matching of replies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError, Refused
from vfab.protocols import ebb
from vfab.protocols.ebb.client import INPUT_MAX_BYTES, STALE_MAX_BYTES, Phase

V2, V3 = ebb.Firmware(2, 8, 1), ebb.Firmware(3, 0, 2)


def answers(server: ebb.Server, data: bytes) -> bytes:
    """What a board that moves nothing says."""
    server.feed(data)
    out = b""
    while (item := server.next_command()) is not None:
        match item:
            case ebb.Rejected():
                out += server.rejected(item)
            case ebb.V():
                out += server.data(item, f"EBBv13_and_above EB Firmware Version {server.firmware}")
            case ebb.CU(option=10, value=value) if server.firmware >= V3:
                out += server.switch(ebb.Syntax(value))
            case ebb.CU(option=54, value=value):
                server.checksums = bool(value)
                out += server.ok(item)
            case ebb.CU(option=1, value=value):
                server.acknowledges = bool(value)
                out += server.ok(item)
            case ebb.QS():
                out += server.data(item, "12,-34")
            case ebb.QT():
                out += server.data(item, "")
            case ebb.QG():
                out += server.data(item, "10")
            case _:
                out += server.ok(item)
    return out


def connected(server: ebb.Server, want: ebb.Syntax | None = None) -> ebb.Client:
    client = ebb.Client(want)
    out = client.connect()
    while not client.ready:
        client.receive(answers(server, out))
        out = client.outgoing()
    return client


@pytest.mark.parametrize("firmware", [V2, V3])
@pytest.mark.parametrize("left_in", list(ebb.Syntax))
@pytest.mark.parametrize("acknowledges", [True, False])
@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("want", [None, *ebb.Syntax])
def test_a_board_is_brought_into_the_wanted_state_from_any(
    firmware: ebb.Firmware, left_in: ebb.Syntax, acknowledges: bool, checksums: bool, want: ebb.Syntax | None
) -> None:
    server = ebb.Server(firmware)
    server.acknowledges = acknowledges
    if firmware >= V3:
        server.syntax, server.checksums = left_in, checksums
    client = connected(server, want)
    future = firmware >= V3 and want is not ebb.Syntax.LEGACY
    assert client.firmware == firmware
    assert client.syntax is server.syntax is (ebb.Syntax.FUTURE if future else ebb.Syntax.LEGACY)
    assert server.acknowledges
    assert not server.checksums
    assert client.version_text == f"EBBv13_and_above EB Firmware Version {firmware}"


@given(data=st.data())
@settings(deadline=None)
def test_stale_answers_and_a_half_line_are_survived_whatever_the_cut(data: st.DataObject) -> None:
    firmware = data.draw(st.sampled_from([V2, V3]))
    server = ebb.Server(firmware)
    server.feed(b"SM,1000,40")  # a host died here: must never be executed
    client = ebb.Client(nonce=data.draw(st.integers(0, 99)))
    stale = data.draw(st.sampled_from([b"", b"OK\r\nOK\r\n", b"1,2\n\rOK", b"\xff\x00garbage\n", b"V,EBB 9.9.9\n"]))
    wire = stale + answers(server, client.connect())
    while not client.ready:
        size = data.draw(st.integers(1, len(wire)))
        client.receive(wire[:size])
        wire = wire[size:] + answers(server, client.outgoing())
    assert client.firmware == firmware


def test_the_half_line_of_an_earlier_host_is_not_executed() -> None:
    server = ebb.Server(V3)
    server.feed(b"SM,1000,40")
    server.feed(ebb.Client().connect())
    while (item := server.next_command()) is not None:
        assert isinstance(item, ebb.Rejected)


COMMANDS = [ebb.SM(10, 1, 1), ebb.QS(), ebb.QT(), ebb.EM(1, 1), ebb.QG(), ebb.V(), ebb.QS()]


@given(data=st.data())
@settings(deadline=None)
def test_replies_match_their_commands_whatever_the_cut(data: st.DataObject) -> None:
    server = ebb.Server(data.draw(st.sampled_from([V2, V3])))
    client = connected(server, data.draw(st.sampled_from(list(ebb.Syntax))))
    commands = data.draw(st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=12))
    wire = answers(server, b"".join(client.send(command) for command in commands))
    assert client.pending == tuple(commands)
    replies: list[ebb.Reply] = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        replies += client.receive(wire[:size])
        wire = wire[size:]
    assert [reply.command for reply in replies] == commands
    assert client.pending == ()
    for reply in replies:
        match reply.command:
            case ebb.QS():
                assert (reply.motor1, reply.motor2) == (12, -34)  # type: ignore[attr-defined]
            case ebb.QT():
                assert reply == ebb.Nickname(reply.command, "")
            case ebb.SM() | ebb.EM():
                assert isinstance(reply, ebb.Ok)
            case _:
                assert isinstance(reply, ebb.Version | ebb.Status)


@pytest.mark.parametrize("want", list(ebb.Syntax))
def test_an_error_is_the_reply_to_its_command(want: ebb.Syntax) -> None:
    client = connected(server := ebb.Server(V3), want)
    client.send(ebb.SM(1, 30000, 0))
    client.send(ebb.QS())
    wire = server.error("SM", 0, "<axis1> step rate too high") + answers(server, b"QS\r")
    failure, steps = client.receive(wire)
    assert failure == ebb.Failure(ebb.SM(1, 30000, 0), 0, "<axis1> step rate too high")
    assert steps == ebb.Steps(ebb.QS(), 12, -34)


def test_an_error_may_end_with_the_ok_that_the_reference_speaks_of() -> None:
    client = connected(ebb.Server(V3), ebb.Syntax.LEGACY)
    client.send(ebb.TP(5))
    assert client.receive(b"!6 Err: Invalid parameter valueOK\r\n") == [
        ebb.Failure(ebb.TP(5), 6, "Invalid parameter value")
    ]


def test_an_error_after_the_ok_belongs_to_nobody() -> None:
    client = connected(ebb.Server(V2))
    client.send(ebb.TP(5))
    ok, late = client.receive(b"OK\r\n!7 Err: Extra parameter\r\n")
    assert ok == ebb.Ok(ebb.TP(5))
    assert late == ebb.Failure(None, 7, "Extra parameter")


def test_a_late_error_of_3_leaves_the_next_command_pending() -> None:
    client = connected(ebb.Server(V3))
    client.send(ebb.TP(5))
    client.send(ebb.QS())
    replies = client.receive(b"TP\n,!6 Err: Invalid parameter value\nQS,1,2\n")
    assert replies[1:] == [ebb.Failure(None, 6, "Invalid parameter value"), ebb.Steps(ebb.QS(), 1, 2)]


def test_the_limit_switch_speaks_unasked_between_other_answers() -> None:
    client = connected(ebb.Server(V3))
    client.send(ebb.QS())
    assert client.receive(b"Limit switch triggered. PortB=A4\nQS,0,0\n") == [
        ebb.LimitSwitch(None, 0xA4),
        ebb.Steps(ebb.QS(), 0, 0),
    ]


@pytest.mark.parametrize("want", list(ebb.Syntax))
@pytest.mark.parametrize("garbage", [b"QX,1\n", b"\xff\xfe\n", b"foo\r\n", b"OK,3\n"])
@pytest.mark.parametrize("command", [ebb.SM(10, 1, 1), ebb.QS(), ebb.QM(), ebb.QG(), ebb.V()])
def test_garbage_is_an_error_and_breaks_the_connection(want: ebb.Syntax, garbage: bytes, command: ebb.Command) -> None:
    client = connected(ebb.Server(V3), want)
    client.send(command)
    with pytest.raises(ProtocolError):
        client.receive(garbage + garbage)
    assert client.phase is Phase.BROKEN
    with pytest.raises(ProtocolError):
        client.receive(b"OK\r\n")
    with pytest.raises(Refused):
        client.send(ebb.QS())


def test_replies_before_garbage_are_not_lost() -> None:
    client = connected(ebb.Server(V3))
    client.send(ebb.QS())
    assert client.receive(b"QS,1,2\nwhat?\n") == [ebb.Steps(ebb.QS(), 1, 2)]
    with pytest.raises(ProtocolError, match="nobody asked"):
        client.receive(b"")


def test_an_endless_line_is_an_error() -> None:
    client = connected(ebb.Server(V3))
    with pytest.raises(ProtocolError, match="no line end"):
        client.receive(b"x" * (INPUT_MAX_BYTES + 1))


def test_a_device_that_talks_without_end_is_no_eibotboard() -> None:
    client = ebb.Client()
    client.connect()
    with pytest.raises(ProtocolError, match="no answer to ZA"):
        client.receive(b"$GPGGA,1,2,3\r\n" * (STALE_MAX_BYTES // 12))


@pytest.mark.parametrize("version", [b"grbl 1.1h\r\n", b"EBB of the future\r\n"])
def test_another_device_s_version_is_refused(version: bytes) -> None:
    client = ebb.Client()
    client.connect()
    client.receive(b"!8 Err: Unknown command 'ZA:5A41'\r\n")
    assert client.outgoing() == b"V\r"
    with pytest.raises(ProtocolError):
        client.receive(b"\r\n" + version)


def test_a_board_that_does_not_change_its_syntax_is_refused() -> None:
    client = ebb.Client()
    client.connect()
    fence = b"!8 Err: Unknown command 'ZA:5A41'\r\n"
    with pytest.raises(ProtocolError, match="stays in"):
        client.receive(fence + b"EBBv13_and_above EB Firmware Version 3.0.2\r\n" + b"\n" + fence)


def test_connecting_again_mends_a_broken_connection() -> None:
    server = ebb.Server(V3)
    client = connected(server)
    with pytest.raises(ProtocolError):
        client.receive(b"what?\n")
    out = client.connect()
    while not client.ready:
        client.receive(answers(server, out))
        out = client.outgoing()
    assert client.receive(answers(server, client.send(ebb.QS()))) == [ebb.Steps(ebb.QS(), 12, -34)]


def test_nothing_is_sent_or_received_before_connecting() -> None:
    client = ebb.Client()
    with pytest.raises(Refused, match="not ready"):
        client.send(ebb.QS())
    with pytest.raises(Refused, match="connect"):
        client.receive(b"OK\r\n")


def test_a_refused_command_is_not_pending() -> None:
    client = connected(ebb.Server(V2))
    with pytest.raises(Refused):
        client.send(ebb.SP(3))
    assert client.pending == ()
    client.send(ebb.RB())
    assert client.pending == ()


def test_what_the_board_may_say_in_between_is_passed_over() -> None:
    legacy = connected(ebb.Server(V3), ebb.Syntax.LEGACY)
    legacy.send(ebb.SM(10, 1, 1))
    assert legacy.receive(b"\r\nOK\r\n") == [ebb.Ok(ebb.SM(10, 1, 1))]
    legacy.send(ebb.QS())
    assert legacy.receive(b"\r\n1,2\n\rOK\r\n\r\n") == [ebb.Steps(ebb.QS(), 1, 2)]
    future = connected(ebb.Server(V3))
    future.send(ebb.QU(6))
    assert future.receive(b"\nQU,0\n\n") == [ebb.Utility(ebb.QU(6), (0,))]


@pytest.mark.parametrize(
    ("want", "command", "wire"),
    [
        (ebb.Syntax.LEGACY, ebb.QS(), b"1,2\n\r3,4\n\r"),
        (ebb.Syntax.LEGACY, ebb.QU(2), b"32\r\nOK\r\n"),
        (ebb.Syntax.FUTURE, ebb.SM(10, 1, 1), b"SM,7\n"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_an_error(want: ebb.Syntax, command: ebb.Command, wire: bytes) -> None:
    client = connected(ebb.Server(V3), want)
    client.send(command)
    with pytest.raises(ProtocolError):
        client.receive(wire)
