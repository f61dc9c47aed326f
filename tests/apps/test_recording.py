"""`vfab sim record`, `vfab stream --record` and replay: as the document tells it, and when things go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apps.programs import Vfab
from vfab.drivers.replay.simulator import ReplaySimulator, read_recording
from vfab.protocols.recording import LinkEntry, LinkEvent, StreamEntry

DOCUMENT = Path(__file__).parents[2] / "docs" / "recording.md"
LISTINGS = {
    name: text
    for _, name, text in re.findall(r"^```(\w+) file=(\S+)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
}


def run_listing(vfab: Vfab, name: str) -> subprocess.CompletedProcess[str]:
    """Run a listing of the document in the test's home, with `vfab` and python as they are here."""
    (vfab.home / name).write_text(LISTINGS[name])
    env = {**vfab.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = (
        ["bash", name]
        if name.endswith(".sh")
        else [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    )
    return subprocess.run(command, cwd=vfab.home, env=env, capture_output=True, text=True, timeout=90, check=False)


def start(vfab: Vfab, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A simulator or recorder that is ended with the test, and its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vfab.apps.cli.main", "sim", *arguments],
        env=vfab.env,
        cwd=vfab.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    vfab.started.append(process)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr is not None else ""
    return process, json.loads(line)


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """End it; its exit code and what it wrote to standard error."""
    if process.poll() is None:
        process.send_signal(number)
    _, err = process.communicate(timeout=20)
    return process.returncode, err


def test_the_documents_recording_of_an_instrument_is_replayed_with_the_same_results(vfab: Vfab) -> None:
    done = run_listing(vfab, "record.sh")
    assert done.returncode == 0, done.stderr
    live, replayed = (json.loads((vfab.home / name).read_text()) for name in ("live.json", "replayed.json"))
    assert live["rows"] == replayed["rows"] and len(live["rows"]) == 5
    tested = run_listing(vfab, "test_meter.py")
    assert tested.returncode == 0, tested.stdout


def test_the_documents_recorded_stream_comes_again(vfab: Vfab) -> None:
    done = run_listing(vfab, "stream.sh")
    assert done.returncode == 0, done.stderr
    again = [json.loads(line) for line in (vfab.home / "again.ndjson").read_text().splitlines()]
    recorded = [entry for entry in read_recording(vfab.home / "gps.rec").entries if isinstance(entry, StreamEntry)]
    assert len(recorded) == 10
    assert [record["data"] for record in again] == [entry.data for entry in recorded]


def test_a_plotter_on_a_terminal_is_recorded_found_and_replayed_though_its_recorder_was_killed(vfab: Vfab) -> None:
    plotter, told = start(vfab, "run", "axidraw", "--speed", "instant")
    recorder, shown = start(vfab, "record", told["address"], "-o", "plotter.rec")
    assert shown["file"] == "plotter.rec" and shown["pid"] == recorder.pid
    devices = vfab("device", "scan", "--json").json["devices"]
    mine = next(device for device in devices if device["address"] == shown["address"])
    assert (mine["vid"], mine["pid"], mine["drivers"][0]) == ("04d8", "fd92", "axidraw")
    for command in (["pen-down"], ["move-to", "--x-mm", "30", "--y-mm", "20"]):
        assert vfab("driver", "run", "axidraw", *command, "--device", shown["address"], "--json").code == 0
    recorder.kill()
    ended(recorder)
    ended(plotter)
    recording = read_recording(vfab.home / "plotter.rec")
    assert recording.header.link == "serial" and recording.header.driver == "axidraw"
    assert recording.header.device["vid"] == "04d8"
    replay, said = start(vfab, "run", "replay", "--from", "plotter.rec", "--speed", "instant")
    devices = vfab("device", "scan", "--json").json["devices"]
    mine = next(device for device in devices if device["address"] == said["address"])
    assert (mine["vid"], mine["pid"], mine["drivers"][0]) == ("04d8", "fd92", "axidraw")
    assert vfab("driver", "run", "axidraw", "pen-down", "--device", said["address"], "--json").code == 0
    assert ended(replay)[0] == 0


def test_strict_tells_the_first_difference_with_file_and_line_and_fails(vfab: Vfab) -> None:
    meter, told = start(vfab, "run", "scpi-generic")
    recorder, shown = start(vfab, "record", told["address"], "-o", "dmm.rec", "--driver", "scpi-generic")

    def query(address: str, text: str) -> int:
        ask = ("driver", "run", "scpi-generic", "query", "--command", text, "--device", address, "--json")
        return vfab(*ask).code

    assert query(shown["address"], "MEAS:VOLT:DC?") == 0
    assert "recorded to dmm.rec" in ended(recorder, signal.SIGINT)[1]
    ended(meter)
    entries = read_recording(vfab.home / "dmm.rec").entries
    assert isinstance(entries[0], LinkEvent) and entries[0].event == "connected"
    assert any(isinstance(entry, LinkEntry) and b"MEAS:VOLT" in entry.data for entry in entries)
    replay, said = start(vfab, "run", "replay", "--from", "dmm.rec", "--strict", "--speed", "instant")
    assert query(said["address"], "MEAS:RES?") != 0
    code, err = ended(replay)
    assert code == 1 and re.search(r"dmm\.rec: line \d+: the client said 'MEAS:RES\?.*where the recording has", err)
    replay, said = start(vfab, "run", "replay", "--from", "dmm.rec", "--strict", "--speed", "instant")
    code, err = ended(replay)
    assert code == 1 and "nothing more" in err


def test_what_cannot_be_recorded_is_refused_before_anything_is_written(vfab: Vfab) -> None:
    (vfab.home / "old.rec").write_text("precious")
    refused = vfab("sim", "record", "tcp://127.0.0.1:9", "-o", str(vfab.home / "old.rec"))
    assert refused.code != 0 and "--force" in refused.err
    assert (vfab.home / "old.rec").read_text() == "precious"
    refused = vfab("sim", "record", "tcp://127.0.0.1:9", "-o", str(vfab.home / "no" / "such.rec"))
    assert refused.code != 0 and "cannot be written" in refused.err
    refused = vfab("sim", "record", "can://vcan0", "-o", str(vfab.home / "can.rec"))
    assert refused.code != 0 and "vfab stream DEVICE --record FILE" in refused.err
    refused = vfab("sim", "record", "/dev/null", "-o", str(vfab.home / "null.rec"))
    assert refused.code != 0 and "no serial port" in refused.err
    refused = vfab("sim", "run", "replay", "--from", str(vfab.home / "old.rec"))
    assert refused.code != 0 and "line 1" in refused.err


@pytest.mark.parametrize("strict", [False, True])
def test_a_replay_in_a_test_serves_tcp_with_the_recorded_path(tmp_path: Path, strict: bool) -> None:
    file = tmp_path / "web.rec"
    file.write_text(
        '{"vfab_recording": 1, "kind": "link", "address": "http://192.0.2.7:8080/live?x=1", "link": "tcp"}\n'
        '{"t": 0, "from": "client", "text": "A\\n"}\n{"t": 0, "from": "device", "text": "a\\n"}\n'
    )
    with ReplaySimulator(file, speed=0, strict=strict) as simulator:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/live\?x=1", simulator.address)
        assert "line 2" in simulator.missing()
