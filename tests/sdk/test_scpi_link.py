"""A conversation with a SCPI instrument: on sockets, the kernel's USBTMC node, and VISA resources of pyvisa-sim."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DependencyError,
    HardwareError,
    LinkLost,
    ProtocolError,
    TimeoutExceeded,
)
from vfab.protocols.scpi import PENDING, ErrorEntry, ScpiServer, format_block
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.link import Link
from vfab.sdk.scpi_link import ScpiLink, unbothered
from vfab.sdk.scpi_ports import LinkPort, UsbtmcPort

SIM = f"{Path(__file__).parent / 'samples' / 'pyvisa_sim.yaml'}@sim"


class Instrument:
    """An instrument at the other end of a socket pair, on a thread of its own."""

    def __init__(self, filters: Callable[[bytes], bytes] = lambda data: data) -> None:
        ours, self.theirs = socket.socketpair()
        self.link = Link(ours.detach(), "tcp://bench:5025")
        self.server = ScpiServer("ACME,X1,7,1.0")
        self.server.on(":NUM?", lambda call: "1.5,9.91E37,-2")
        self.server.on(":WORD?", lambda call: "ready")
        self.server.on(":BLOCk?", lambda call: format_block(b"a\nb\r\n"))
        self.server.on(":HANG?", lambda call: PENDING)
        self.server.on(":SET", lambda call: None)
        self.server.on(":ABORt", lambda call: None, immediate=True)
        self.server.on(":ODD?", lambda call: '-222,"Parameter data out of range"')
        self.hanging = threading.Event()
        self._filter = filters
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while data := self.theirs.recv(65536):
            said = self.server.receive(data)
            if self.server.busy:
                if b"ABOR" in data.upper():
                    said += self.server.complete("late")
                else:
                    self.hanging.set()
            if said:
                self.theirs.sendall(self._filter(said))

    def close(self) -> None:
        self.link.close()
        self.theirs.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.theirs.close()


@contextmanager
def conversation(timeout_s: float = 5.0, **settings: Any) -> Iterator[tuple[ScpiLink, Instrument]]:
    instrument = Instrument()
    link = ScpiLink(LinkPort(instrument.link), timeout_s=timeout_s, **settings)
    try:
        yield link, instrument
    finally:
        instrument.close()


def test_commands_and_queries_are_exchanged_and_the_error_queue_is_read_after_each() -> None:
    with conversation() as (link, instrument):
        assert link.identify().model == "X1"
        link.write(":SET", 1.5, True)
        assert link.query(":WORD?") == "ready"
        numbers = link.query_numbers(":NUM?")
        assert numbers[0] == 1.5
        assert numbers[1] != numbers[1]
        assert link.query_block(":BLOC?") == b"a\nb\r\n"
        assert link.query_slowly(":WORD?", timeout_s=5) == "ready"
        assert instrument.server.handled == 1 + 5 * 2
        assert link.to_dict() == {
            "address": "tcp://bench:5025", "lost": False, "manufacturer": "ACME", "model": "X1", "serial": "7",
            "firmware": "1.0",
        }  # fmt: skip


def test_what_the_instrument_says_is_wrong_is_told_in_its_own_words() -> None:
    with conversation() as (link, instrument):
        link.identify()
        with pytest.raises(HardwareError, match="X1 refuses ':NONE 1': -113 Undefined header; :NONE") as caught:
            link.write(":NONE", 1)
        assert caught.value.context["errors"] == [{"code": -113, "message": "-113 Undefined header; :NONE"}]
        assert caught.value.remedy
        instrument.server.push(ErrorEntry(802, "Interlock"))
        instrument.server.push(ErrorEntry(-222, "Out of range"))
        with pytest.raises(HardwareError, match=r"\+802 Interlock · -222 Out of range"):
            link.query(":WORD?")
        assert link.errors() == []
        with pytest.raises(HardwareError, match="-222"):
            link.query(":ODD?")
        with pytest.raises(ProtocolError, match="which are no numbers"):
            link.query_numbers(":WORD?")


def test_a_query_that_is_refused_is_told_as_what_it_is_and_the_next_answer_is_the_right_one() -> None:
    with conversation(timeout_s=0.2) as (link, _):
        link.identify()
        with pytest.raises(HardwareError, match="-113"):
            link.query(":NONE?")
        assert link.query(":WORD?") == "ready"


def test_an_instrument_without_an_error_queue_is_not_asked_for_one() -> None:
    with conversation(timeout_s=0.1, error_query="", identity_query="") as (link, instrument):
        assert link.identify().model == ""
        link.write(":NONE")
        assert link.errors() == []
        assert link.query(":WORD?") == "ready"
        assert instrument.server.handled == 1
        with pytest.raises(TimeoutExceeded, match="did not answer ':NONE\\?'"):
            link.query(":NONE?")
        assert link.query(":WORD?") == "ready", "nothing is known of it to get in step by, but nothing is stale either"


def test_an_error_queue_that_never_ends_is_left() -> None:
    with conversation() as (link, instrument):
        instrument.server.on(":SYSTem:ERRor?", lambda call: '-350,"Queue overflow"')
        assert 20 < len(link.errors()) < 40


def test_a_cancelled_query_leaves_the_conversation_in_step() -> None:
    with conversation() as (link, instrument):
        link.identify()
        token = CancelToken()
        before = current_token.set(token)
        watcher = threading.Thread(target=lambda: (instrument.hanging.wait(5), token.cancel()))
        watcher.start()
        try:
            with pytest.raises(Cancelled):
                link.query(":HANG?", timeout_s=60)
            with unbothered():
                link.interrupt(":ABOR")
                link.resynchronise()
                assert link.query(":WORD?") == "ready", "and not the late answer to :HANG?"
        finally:
            current_token.reset(before)
            watcher.join()
            token.close()


def test_an_instrument_that_stays_silent_holds_up_nobody_and_is_put_in_step_before_the_next_query() -> None:
    with conversation(timeout_s=60) as (link, instrument):
        link.identify()
        token = CancelToken()
        before = current_token.set(token)
        watcher = threading.Thread(target=lambda: (instrument.hanging.wait(5), token.cancel()))
        watcher.start()
        try:
            with pytest.raises(Cancelled):
                link.query(":HANG?", timeout_s=60)
        finally:
            current_token.reset(before)
            watcher.join()
            token.close()
        with pytest.raises(TimeoutExceeded):
            link.resynchronise(timeout_s=0.05)
        instrument.theirs.sendall(instrument.server.complete("late"))
        assert link.query(":WORD?") == "ready", "and neither the late answer to :HANG? nor an identity"


def test_a_slow_answer_is_waited_for_and_told() -> None:
    with conversation(timeout_s=0.2) as (link, instrument):
        link.identify()
        waited: list[float] = []

        def waiting(seconds: float) -> None:
            waited.append(seconds)
            instrument.theirs.sendall(b"done\n")
            instrument.server.clear()

        assert link.query_slowly(":HANG?", timeout_s=10, waiting=waiting) == "done"
        assert len(waited) == 1
        with pytest.raises(HardwareError, match="-113"):
            link.query_slowly(":NONE?", timeout_s=0.0)


def test_a_slow_query_that_is_refused_is_found_out_before_its_time_is_up() -> None:
    with conversation(timeout_s=0.05) as (link, instrument):
        link.identify()
        with pytest.raises(HardwareError, match="-113 Undefined header"):
            link.query_slowly(":NONE?", timeout_s=3600, doubt_s=0.05)
        assert link.query(":WORD?") == "ready"

        def answer(seconds: float) -> None:
            if seconds > 0.3 and instrument.server.busy:
                instrument.theirs.sendall(instrument.server.complete("42"))

        assert link.query_slowly(":HANG?", timeout_s=3600, doubt_s=0.05, waiting=answer) == "42"
        assert link.query(":WORD?") == "ready"


def test_nonsense_is_neither_an_identity_nor_an_error() -> None:
    with conversation() as (link, instrument):
        instrument.server.on("*IDN?", lambda call: b"\xee\xe0\xec")
        with pytest.raises(ProtocolError, match="nobody can read"):
            link.identify()
        instrument.server.on(":SYSTem:ERRor?", lambda call: "vfab")
        with pytest.raises(ProtocolError, match="which is no error"):
            link.write(":SET 1")


def test_a_chatterbox_is_told() -> None:
    instrument = Instrument(lambda said: b"noise\n" * 25)
    link = ScpiLink(LinkPort(instrument.link), timeout_s=1)
    try:
        link.identify()
        link.identity = link.identify()
        link._identity_text = "ACME,X1,7,1.0"
        with pytest.raises(ProtocolError, match="nobody asked for"):
            link.resynchronise()
    finally:
        instrument.close()


def test_a_lost_link_is_known_to_be_lost() -> None:
    with conversation() as (link, instrument):
        instrument.theirs.shutdown(socket.SHUT_RDWR)
        with pytest.raises(LinkLost):
            link.query(":WORD?")
        assert link.lost
        link.close()
        assert link.port.closed


def test_late_answers_to_another_program_are_no_identity() -> None:
    with conversation() as (link, instrument):
        instrument.theirs.sendall(b"+1.0E+00,+2.0E+00\n\n")
        assert link.identify().model == "X1"
        assert link.query(":WORD?") == "ready"


def test_other_line_ends_are_kept_to() -> None:
    ours, theirs = socket.socketpair()
    with Link(ours.detach(), "tcp://bench:1") as link, theirs:
        port = LinkPort(link, write_end=b"\r", read_end=b"\r\n")
        port.send(b"in_pv_00")
        assert theirs.recv(100) == b"in_pv_00\r"
        theirs.sendall(b"24.0\r\nnext")
        assert port.receive(5) == b"24.0"
        port.clear()
        with pytest.raises(TimeoutExceeded):
            port.receive(0.01)


# -- USBTMC ------------------------------------------------------------------------------------------------------------


class Usbtmc:
    """What the kernel does with the requests of `/dev/usbtmcN`; its messages come through a socket of packets."""

    def __init__(self, *, has_status: bool = True) -> None:
        ours, self.instrument = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = Link(ours.detach(), "/dev/usbtmc0")
        self.has_status = has_status
        self.statuses = [0, 0x10]
        self.timeouts_ms: list[int] = []
        self.cleared = 0
        self.error: OSError | None = None

    def ioctl(self, fd: int, request: int, data: bytes) -> bytes | int:
        if self.error is not None:
            raise self.error
        if request == 0x80015B12:
            if not self.has_status:
                raise OSError(errno.ENOTTY, "no status")
            return bytes([self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]])
        if request == 0x40045B0A:
            self.timeouts_ms.append(struct.unpack("I", data)[0])
            return data
        self.cleared += 1
        return 0


@pytest.fixture
def usbtmc() -> Iterator[Usbtmc]:
    made = Usbtmc()
    yield made
    made.link.close()
    made.instrument.close()


def test_a_message_of_usbtmc_is_read_when_the_status_byte_says_that_it_is_there(usbtmc: Usbtmc) -> None:
    port = UsbtmcPort(usbtmc.link, usbtmc.ioctl)
    port.send(b"*IDN?")
    assert usbtmc.instrument.recv(100) == b"*IDN?\n"
    usbtmc.instrument.send(b"ACME,X1\r\n")
    assert port.receive(5.0) == b"ACME,X1"
    assert usbtmc.timeouts_ms
    port.clear()
    assert usbtmc.cleared == 1
    port.close()
    assert port.closed


def test_usbtmc_without_a_status_byte_is_read_with_the_whole_timeout(usbtmc: Usbtmc) -> None:
    usbtmc.has_status = False
    port = UsbtmcPort(usbtmc.link, usbtmc.ioctl)
    usbtmc.instrument.send(b"1\n")
    assert port.receive(5.0) == b"1"
    with pytest.raises(
        TimeoutExceeded
    ):  # the descriptor does not block: the kernel's own does, and then says ETIMEDOUT
        port.receive(0.01)


def test_waiting_for_usbtmc_ends_by_a_cancel_by_time_and_by_unplugging(usbtmc: Usbtmc) -> None:
    port = UsbtmcPort(usbtmc.link, usbtmc.ioctl)
    usbtmc.statuses = [0]
    with pytest.raises(TimeoutExceeded, match="sent nothing"):
        port.receive(0.01)
    token = CancelToken()
    token.cancel()
    before = current_token.set(token)
    try:
        with pytest.raises(Cancelled):
            port.receive(60)
    finally:
        current_token.reset(before)
        token.close()
    usbtmc.error = OSError(errno.ENODEV, "gone")
    with pytest.raises(LinkLost, match="gone"):
        port.receive(1)
    os.close(os.dup(usbtmc.link.fileno()))
    usbtmc.link.close()
    with pytest.raises(LinkLost):
        port.send(b"x")


# -- VISA ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def visa() -> Any:
    pytest.importorskip("pyvisa_sim")
    from vfab.sdk.visa_port import VisaPort

    return VisaPort


@pytest.mark.referee
@pytest.mark.parametrize("resource", ["GPIB0::8::INSTR", "TCPIP0::localhost::inst0::INSTR", "ASRL1::INSTR"])
def test_an_instrument_of_pyvisa_sim_is_talked_to(visa: Any, resource: str) -> None:
    port = visa(resource, SIM)
    link = ScpiLink(port, timeout_s=5)
    assert link.identify().to_dict() == {
        "manufacturer": "SIMULATED", "model": "PSU-9", "serial": "77", "firmware": "2.1",
    }  # fmt: skip
    link.write(":VOLT", "2.5000")
    assert link.query_numbers(":VOLT?") == [2.5]
    assert link.query_numbers(":MEAS:CURR?") == [1.25e-3]
    with pytest.raises(HardwareError, match="-113 Undefined header"):
        link.write(":NONE")
    link.close()
    link.close()
    assert port.closed
    with pytest.raises(LinkLost):
        port.receive(1)


@pytest.mark.referee
def test_waiting_for_visa_ends_by_time_and_by_a_cancel(visa: Any) -> None:
    port = visa("GPIB0::8::INSTR", SIM)
    with pytest.raises(TimeoutExceeded, match="sent nothing"):
        port.receive(0.01)
    token = CancelToken()
    token.cancel()
    before = current_token.set(token)
    try:
        with pytest.raises(Cancelled):
            port.receive(60)
    finally:
        current_token.reset(before)
        token.close()
    port.clear()
    port.close()


@pytest.mark.referee
def test_what_visa_cannot_open_is_told_with_what_to_do(visa: Any) -> None:
    with pytest.raises(ConfigurationError, match="not a VISA resource"):
        visa("NONSENSE::1", SIM)
    with pytest.raises((ConnectError, TimeoutExceeded)):  # pyvisa-py opens lazily
        ScpiLink(visa("TCPIP0::127.0.0.1::1::SOCKET", "@py"), timeout_s=0.1).identify()
    with pytest.raises(DependencyError) as caught:
        visa("GPIB0::8::INSTR", "/nowhere/libvisa.so")
    assert "visa_library" in caught.value.remedy
    with pytest.raises((DependencyError, ConnectError)):
        visa("GPIB0::8::INSTR", "@py")
