"""The simulated gpsd and other people's clients: gpspipe, and bytes as gps3 and node-gpsd-client write them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from needs import program
from vfab.drivers.nmea_gps.conversation import GpsdConversation
from vfab.drivers.nmea_gps.simulator import NmeaGpsSimulator


@pytest.fixture
def port() -> Iterator[int]:
    with NmeaGpsSimulator(rate_hz=10, tcp=0, gpsd=True) as simulator:
        yield int(simulator.address.rsplit(":", 1)[1])


def reports(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def classes(data: bytes) -> list[str]:
    return [report["class"] for report in reports(data)]


def test_a_watch_without_an_end_is_heard(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b'?WATCH={"enable":true,"json":true}')
        lines = client.makefile("rb")
        said = [json.loads(next(lines)) for _ in range(5)]
    assert [one["class"] for one in said] == ["VERSION", "DEVICES", "WATCH", "SKY", "TPV"]
    assert said[2]["json"] is True
    assert said[4]["altMSL"] == said[4]["alt"]


def test_gpspipe_shows_sentences_and_reports(port: int) -> None:
    gpspipe = program("gpspipe", package="gpsd-clients")
    place = f"127.0.0.1:{port}"
    shown = {
        how: subprocess.run([gpspipe, how, "-n", "12", place], capture_output=True, timeout=60, check=True).stdout
        for how in ("-r", "-w")
    }
    assert b"$GPRMC," in shown["-r"]
    assert b'"class":"TPV"' in shown["-w"]
    assert b"$GP" not in shown["-w"]


def test_every_command_is_answered() -> None:
    talk = GpsdConversation()
    assert classes(talk.greet()) == ["VERSION"]
    assert classes(talk.hear(b"?VERSION;?DEVICES;?DEVICE;?POLL;?FOO;?\n")) == [
        "VERSION", "DEVICES", "DEVICE", "POLL", "ERROR", "ERROR",
    ]  # fmt: skip
    (poll,) = reports(talk.hear(b"?POLL;"))
    assert (poll["active"], poll["tpv"]) == (0, [])
    assert talk.tell({"TPV": {"mode": 3, "time": "now"}}, b"$GP\r\n") == b""
    (poll,) = reports(talk.hear(b"?POLL;"))
    assert (poll["active"], poll["time"], poll["tpv"][0]["mode"]) == (1, "now", 3)


def test_only_what_is_watched_is_told() -> None:
    talk = GpsdConversation()
    moment: dict[str, dict[str, Any]] = {"TPV": {"mode": 1}}
    tpv, nmea = b'{"class":"TPV","mode":1}\r\n', b"$GPGGA\r\n"
    for command, told in (
        (b"?WATCH;", b""),
        (b'?WATCH={"enable":true}', tpv),
        (b'?WATCH={"nmea":true}', tpv + nmea),
        (b'?WATCH={"json":false}', nmea),
        (b"?WATCH;", nmea),
        (b'?WATCH={"enable":false}', b""),
    ):
        assert classes(talk.hear(command)) == ["DEVICES", "WATCH"]
        assert talk.tell(moment, nmea) == told


def test_a_command_without_end_is_given_up() -> None:
    talk = GpsdConversation()
    assert classes(talk.hear(b'?WATCH={"' + b"x" * 70_000)) == ["ERROR"]
    assert classes(talk.hear(b"?VERSION;")) == ["VERSION"]
