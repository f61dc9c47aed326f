"""The simulated AxiDraw at its address: answers, timing, faults, and what the pen drew."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfab.drivers.axidraw import simulator as module
from vfab.drivers.axidraw.simulator import AxiDrawSimulator, main
from vfab.model.errors import ConfigurationError, ProtocolError
from vfab.protocols import ebb
from vfab.sdk.simulation.faults import Fault, Kind, garbled
from vfab.sdk.testing import patience

PATIENCE_S = 5.0


class Silence(Exception):
    """No answer came in time."""


class Wire:
    """A connected client at a simulator's address."""

    def __init__(self, address: str, want: ebb.Syntax | None = None) -> None:
        self._socket: socket.socket | None = None
        if address.startswith("tcp://"):
            host, port = address.removeprefix("tcp://").split(":")
            self._socket = socket.create_connection((host, int(port)))
            self._fd = self._socket.fileno()
        else:
            self._fd = os.open(address, os.O_RDWR | os.O_NOCTTY)
        self.client = ebb.Client(want)
        self.write(self.client.connect())
        while not self.client.ready:
            self.client.receive(self.read())
            self.write(self.client.outgoing())

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def read(self, patience_s: float = PATIENCE_S) -> bytes:
        if not select.select([self._fd], [], [], patience_s)[0]:
            raise Silence
        data = os.read(self._fd, 65536)
        if not data:
            raise OSError("hung up")
        return data

    def ask(self, *commands: ebb.Command, patience_s: float = PATIENCE_S) -> list[ebb.Reply]:
        self.write(b"".join(self.client.send(command) for command in commands))
        replies: list[ebb.Reply] = []
        while self.client.pending:
            replies += self.client.receive(self.read(patience_s))
        return replies

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)


PEN_READY = (ebb.SC(10, 0), ebb.EM(1, 1))
"""With servo rate 0 the pen moves at once."""


def square(side: int = 800) -> Iterator[ebb.Command]:
    yield from PEN_READY
    yield ebb.SP(0, 100)
    for x, y in ((side, 0), (0, side), (-side, 0), (0, -side)):
        yield ebb.plan_xy(x, y, 1000, 4000).command
    yield ebb.SP(1, 100)


@pytest.mark.parametrize("firmware", ["2.8", "3"])
@pytest.mark.parametrize("kind", ["pty", "tcp"])
def test_a_square_is_drawn_and_counted(firmware: str, kind: str) -> None:
    with AxiDrawSimulator(firmware, address=kind) as sim:
        wire = Wire(sim.address)
        replies = wire.ask(*square(), ebb.QS(), ebb.QM(), ebb.QP())
        assert replies[-3:] == [
            ebb.Steps(ebb.QS(), 0, 0),
            ebb.Motion(ebb.QM(), False, False, False, False),
            ebb.Pen(ebb.QP(), True),
        ]
        assert sim.strokes == [[(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)]]
        assert sim.board.gaps_ticks == [0, 0, 0]
        wire.close()


def test_the_syntax_survives_a_client_that_goes_and_comes() -> None:
    with AxiDrawSimulator("3.0.3") as sim:
        first = Wire(sim.address)
        assert first.client.firmware == (3, 0, 3)
        first.write(b"QS\rQM")
        first.close()
        descriptor = os.open(sim.address, os.O_RDWR | os.O_NOCTTY)
        os.write(descriptor, b"\rV\r")
        said = b""
        while b"V,EBB" not in said:
            assert select.select([descriptor], [], [], PATIENCE_S)[0]
            said += os.read(descriptor, 100)
        os.close(descriptor)
        assert Wire(sim.address, ebb.Syntax.LEGACY).client.syntax is ebb.Syntax.LEGACY


def test_the_button_is_told_once() -> None:
    with AxiDrawSimulator("3") as sim:
        wire = Wire(sim.address)
        sim.press_button()
        assert [reply.pressed for reply in wire.ask(ebb.QB(), ebb.QB())] == [True, False]  # type: ignore[attr-defined]
        sim.press_button()
        assert [reply.button for reply in wire.ask(ebb.QG(), ebb.QG())] == [True, False]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("firmware", "depth"), [("2.8", 1), ("3", 5)])
def test_real_time_is_kept_and_the_queue_pushes_back(firmware: str, depth: int) -> None:
    with AxiDrawSimulator(firmware, "real") as sim:
        wire = Wire(sim.address)
        if depth > 1:
            wire.ask(ebb.CU(4, depth))
        began = time.monotonic()
        wire.ask(*[ebb.SM(50, 50, 50)] * 8)
        taken = time.monotonic() - began
        # one is being executed and `depth` wait: so many have ended when the last one is answered
        ended = (8 - 1 - depth) * 0.050
        assert ended <= taken < patience(ended + 1.5)
        while wire.ask(ebb.QM())[0] != ebb.Motion(ebb.QM(), False, False, False, False):
            pass
        assert 0.4 <= time.monotonic() - began < patience(3)
        assert wire.ask(ebb.QS()) == [ebb.Steps(ebb.QS(), 400, 400)]


def test_twenty_times_faster_is_twenty_times_faster() -> None:
    with AxiDrawSimulator("3", 20.0) as sim:
        wire = Wire(sim.address)
        began = time.monotonic()
        wire.ask(*[ebb.SM(1000, 100, 0)] * 4)
        assert 0.08 <= time.monotonic() - began < patience(2)


def test_es_stops_a_move_where_it_is() -> None:
    with AxiDrawSimulator("3", "real") as sim:
        wire = Wire(sim.address)
        wire.ask(*PEN_READY, ebb.SP(0, 10), ebb.SM(60_000, 60_000, 60_000))
        while wire.ask(ebb.QS())[0].motor1 < 50:  # type: ignore[attr-defined]
            pass
        stopped, steps = wire.ask(ebb.ES(), ebb.QS())
        assert stopped == ebb.Stopped(ebb.ES(), True)
        assert 50 <= steps.motor1 < 5000  # type: ignore[attr-defined]
        assert wire.ask(ebb.QS(), ebb.QM())[0] == steps
        assert sim.strokes[0][-1] == (steps.motor1 / 80, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["pty", "tcp"])
def test_an_unplugged_board_vanishes_and_comes_back_without_memory(kind: str) -> None:
    with AxiDrawSimulator("3", faults=["unplug@25"], address=kind) as sim:
        wire = Wire(sim.address)
        address = sim.address
        with pytest.raises(OSError):
            wire.ask(*PEN_READY, ebb.SP(0, 10), *[ebb.SM(10, 80, 80)] * 100)
        drawn = sim.board.place
        assert 0 < drawn[0] < 8000
        with pytest.raises(OSError):
            Wire(address)
        sim.plug_in()
        again = Wire(sim.address)
        assert sim.address == address
        assert again.ask(ebb.QS()) == [ebb.Steps(ebb.QS(), 0, 0)]
        assert sim.board.place == drawn
        again.ask(ebb.SC(10, 0), ebb.SP(1, 10))
        assert sim.strokes == [[(0, 0), (drawn[0] / 80, 0)]]


def test_unplugging_twice_and_plugging_in_twice_is_once() -> None:
    with AxiDrawSimulator("3") as sim:
        sim.unplug()
        sim.unplug()
        sim.plug_in()
        sim.plug_in()
        assert Wire(sim.address).client.ready


def test_a_reboot_leaves_the_bus_and_comes_back() -> None:
    with AxiDrawSimulator("3") as sim:
        wire = Wire(sim.address)
        wire.ask(ebb.SL(7))
        wire.write(wire.client.send(ebb.RB()))
        with pytest.raises(OSError):
            wire.read()
        deadline = time.monotonic() + PATIENCE_S
        while not Path(sim.address).exists():
            assert time.monotonic() < deadline
        assert Wire(sim.address).ask(ebb.QL()) == [ebb.Variable(ebb.QL(), 0)]


def test_a_dropped_answer_is_one_answer() -> None:
    with AxiDrawSimulator("3", faults=["drop@12"]) as sim:
        wire = Wire(sim.address)
        with pytest.raises((Silence, ProtocolError)):
            for number in range(30):
                wire.ask(ebb.SL(number), patience_s=0.2)
        wire.close()
        assert Wire(sim.address).ask(ebb.QL()) == [ebb.Variable(ebb.QL(), sim.board.settings.variables[0])]


def test_a_garbled_answer_is_found() -> None:
    with AxiDrawSimulator("2.8", faults=["garble@12"]) as sim:
        wire = Wire(sim.address)
        with pytest.raises(ProtocolError):
            for number in range(30):
                wire.ask(ebb.SL(number))
        wire.close()
        assert Wire(sim.address).client.ready


def test_a_silent_board_answers_nothing_and_moves_nothing() -> None:
    with AxiDrawSimulator("3", faults=["silent@12"]) as sim:
        wire = Wire(sim.address)
        with pytest.raises(Silence):
            wire.ask(*[ebb.SM(10, 10, 10)] * 50, patience_s=0.3)
        assert sim.board.commands == 12


def test_a_slow_board_answers_late() -> None:
    with AxiDrawSimulator("3", faults=["slow@9"]) as sim:
        wire = Wire(sim.address)
        wire.ask(*[ebb.QB()] * 5)
        began = time.monotonic()
        wire.ask(ebb.QB())
        assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("kind", ["silent", "unplug", "drop"])
def test_faults_come_by_the_clock_too(kind: str) -> None:
    with AxiDrawSimulator("3", faults=[f"{kind}@0.3s"]) as sim:
        wire = Wire(sim.address)
        began = time.monotonic()
        with pytest.raises((Silence, OSError)):
            while True:
                wire.ask(ebb.QB(), patience_s=0.3)
        assert 0.2 < time.monotonic() - began < patience(4)


def test_two_tcp_clients_at_once_are_one_too_many() -> None:
    with AxiDrawSimulator("3", address="tcp") as sim:
        first = Wire(sim.address)
        with pytest.raises(OSError):
            Wire(sim.address)
        first.ask(ebb.QB())
        first.close()
        assert Wire(sim.address).client.ready


def test_a_client_that_reads_late_loses_nothing() -> None:
    with AxiDrawSimulator("3") as sim:
        wire = Wire(sim.address)
        count = 20_000
        line = b"".join(wire.client.send(ebb.QC()) for _ in range(count))
        writer = threading.Thread(target=wire.write, args=(line,))
        writer.start()
        replies: list[ebb.Reply] = []
        while len(replies) < count:
            replies += wire.client.receive(wire.read())
        writer.join()
        assert not wire.client.pending


@pytest.mark.parametrize(
    "text", ["", "unplug", "unplug@", "melt@3", "drop@-1", "drop@1.5", "silent@s", "silent@5m", "unplug@1@2"]
)
def test_a_fault_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not a fault"):
        Fault.parse(text)


def test_faults_are_read() -> None:
    assert Fault.parse("unplug@120") == Fault(Kind.UNPLUG, commands=120)
    assert Fault.parse("Silent@2.5s") == Fault(Kind.SILENT, seconds=2.5)
    assert garbled(b"OK\r\n") not in (b"OK\r\n", b"")
    assert garbled(b"OK\r\n").endswith(b"\r\n")


@pytest.mark.parametrize(
    "options", [{"firmware": "1.9"}, {"firmware": "x"}, {"speed": "fast"}, {"speed": 0}, {"speed": -1}]
)
def test_options_that_mean_nothing_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        AxiDrawSimulator(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "argv",
    [
        ["--page", "A4"],
        ["--page", "0x5"],
        ["--fault", "melt@3"],
        ["--speed", "warp"],
        ["--tcp", "65536"],
        ["--tcp", "-1"],
        ["--record", "/nowhere/at/all/out.svg"],
        ["--record", "/"],
    ],
)
def test_the_program_says_what_it_does_not_understand(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 13
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip()


def test_a_port_that_another_program_has_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--tcp", port]) == 10
    captured = capsys.readouterr()
    assert captured.out == ""
    assert port in captured.err
    assert "another port" in captured.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_drawing_is_kept_when_the_terminal_ends_the_program(tmp_path: Path, number: int) -> None:
    argv = [sys.executable, str(module.__file__), "--record", "out.svg", "--speed", "instant"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as program:
        assert program.stdout is not None
        wire = Wire(json.loads(program.stdout.readline())["address"])
        wire.ask(*square(), ebb.QS())
        program.send_signal(number)
        assert program.wait(PATIENCE_S) == 0
    assert "0,0 10,0 10,10 0,10 0,0" in (tmp_path / "out.svg").read_text()


@pytest.mark.parametrize("tcp", [False, True])
def test_the_program_serves_until_sigterm_and_then_holds_the_drawing(tmp_path: Path, tcp: bool) -> None:
    out = tmp_path / "out.svg"
    argv = [sys.executable, str(module.__file__), "--record", str(out), "--speed", "instant", "--page", "420x297"]
    program = subprocess.Popen([*argv, *(["--tcp", "0"] if tcp else [])], stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        hello = json.loads(program.stdout.readline())
        assert hello["name"] == "axidraw"
        assert hello["pid"] == program.pid
        wire = Wire(hello["address"])
        wire.ask(*square(), ebb.QS())
        program.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE_S
        while not wire.ask(ebb.QB())[0].pressed:  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE_S) == 0
        assert program.stdout.read() == ""
    finally:
        program.kill()
        program.wait()
        if program.stdout is not None:
            program.stdout.close()
    root = ET.parse(out).getroot()
    assert root.get("viewBox") == "0 0 420 297"
    assert root.get("width") == "420mm"
    drawn = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [line.get("points") for line in drawn] == ["0,0 10,0 10,10 0,10 0,0"]
    assert not Path(hello["address"]).exists() or tcp
    assert [path.name for path in tmp_path.iterdir()] == ["out.svg"]
