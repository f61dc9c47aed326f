"""gpsd's protocol: what gpsd reports becomes a fix, whatever it leaves out."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError
from vfab.protocols.gpsd import (
    LINE_MAX,
    UNWATCH,
    WATCH,
    GpsdClient,
    LineReceiver,
    encode_report,
    parse_command,
    split_commands,
)
from vfab.protocols.nmea import Fix

TPV = {
    "device": "/dev/pts/1", "mode": 3, "status": 2, "time": "2026-05-01T10:20:30.500Z", "lat": 48.5, "lon": -11.25,
    "altMSL": 500.0, "alt": 510.0, "speed": 2.5, "track": 359.5, "epx": 1.96, "epy": 3.92, "epv": 9.8, "geoidSep": 47.0,
}  # fmt: skip


def test_position_and_satellites_make_a_fix() -> None:
    client = GpsdClient()
    sky = encode_report("SKY", hdop=0.9, vdop=1.5, satellites=[{"PRN": 1, "used": True}, {"PRN": 2, "used": False}])
    assert client.receive(encode_report("VERSION", release="3.22") + sky) == []
    (fix,) = client.receive(encode_report("TPV", **TPV))
    assert client.version == "3.22"
    assert fix == Fix(
        valid=True, dimensions=3, quality=2, time_s=dt.datetime(2026, 5, 1, 10, 20, 30, 500_000, dt.UTC).timestamp(),
        latitude_deg=48.5, longitude_deg=-11.25, altitude_m=500.0, geoid_m=47.0, speed_m_s=2.5, course_deg=359.5,
        hdop=0.9, vdop=1.5,
        latitude_u_m=pytest.approx(2.0), longitude_u_m=pytest.approx(1.0), altitude_u_m=pytest.approx(5.0),
        satellites=1, in_view=2,
    )  # fmt: skip


def test_what_gpsd_leaves_out_is_not_known() -> None:
    (fix,) = GpsdClient().receive(encode_report("TPV", mode=1))
    assert fix == Fix(valid=False, dimensions=1, quality=0)
    (old,) = GpsdClient().receive(encode_report("TPV", mode=3, lat=1.0, lon=2.0, alt=3.0))
    assert (old.valid, old.altitude_m, old.quality) == (True, 3.0, 1)
    (counted,) = GpsdClient().receive(encode_report("SKY", uSat=7, nSat=12) + encode_report("TPV", mode=3))
    assert (counted.satellites, counted.in_view, counted.valid) == (7, 12, False)


def test_devices_and_complaints_are_kept() -> None:
    client = GpsdClient()
    client.receive(
        encode_report("DEVICES", devices=[{"path": "/dev/ttyACM0"}, 7, {}]) + encode_report("ERROR", message="no")
    )
    assert (client.devices, client.error) == (("/dev/ttyACM0",), "no")
    client.receive(encode_report("DEVICES", devices=None))
    assert client.devices == ()
    client.receive(encode_report("DEVICE", path="/dev/ttyS1", activated="2026-05-01T10:20:30.5Z") * 2)
    assert client.devices == ("/dev/ttyS1",)
    client.receive(encode_report("DEVICE", path="/dev/ttyS1", activated=0) + encode_report("DEVICE"))
    assert client.devices == ()


@pytest.mark.parametrize("line", [b"", b"GPSD,O=?", b"[1,2]", b'{"class":7}', b"[" * 20_000, b"\xff\xfe"])
def test_a_line_that_is_no_report_is_left_out_and_the_next_one_read(line: bytes) -> None:
    client = GpsdClient()
    assert len(client.receive(line + b"\n" + encode_report("TPV", **TPV))) == 1
    assert client.bad == (1 if line else 0)


def test_a_peer_without_line_ends_is_not_gpsd() -> None:
    with pytest.raises(ProtocolError, match="without a line end"):
        GpsdClient().receive(b"x" * (LINE_MAX + 1))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


@given(
    st.sampled_from(["TPV", "SKY", "VERSION", "DEVICES", "ERROR"]),
    st.dictionaries(st.sampled_from([*TPV, "satellites", "uSat", "devices", "hdop", "message"]), json_values),
)
def test_any_values_at_all_are_taken_for_what_they_are(kind: str, data: dict[str, object]) -> None:
    line = json.dumps({"class": kind, **data}).encode() + b"\n"
    for fix in GpsdClient().receive(line):
        assert fix.latitude_deg is None or abs(fix.latitude_deg) <= 90


@given(st.lists(st.integers(1, 50), max_size=30))
def test_how_the_bytes_were_cut_does_not_matter(cuts: list[int]) -> None:
    data = encode_report("TPV", **TPV) + b"rubbish\n" + encode_report("SKY", hdop=1.0) + encode_report("TPV", mode=2)
    whole, pieces, got = LineReceiver(), LineReceiver(), []
    rest = data
    for cut in cuts:
        got += pieces.receive(rest[:cut])
        rest = rest[cut:]
    assert got + pieces.receive(rest) == whole.receive(data)
    assert pieces.bad == whole.bad == 1


def test_the_servers_side_reads_what_the_clients_side_asks() -> None:
    assert parse_command(WATCH) == ("WATCH", {"enable": True, "json": True, "scaled": True})
    assert parse_command(UNWATCH) == ("WATCH", {"enable": False})
    assert parse_command(b"?VERSION;\r\n") == ("VERSION", {})
    for bad in (b"WATCH", b"?WATCH={", b"?WATCH=7;", b"?\xff;", b"?;", b"?" + b'W={"a":' + b"[" * 20_000):
        with pytest.raises(ProtocolError):
            parse_command(bad)


@pytest.mark.parametrize(
    ("data", "commands", "rest"),
    [
        pytest.param(WATCH, [b'?WATCH={"enable":true,"json":true,"scaled":true}'], b"", id="our own"),
        pytest.param(b'?WATCH={"enable":true}', [b'?WATCH={"enable":true}'], b"", id="without an end, as gps3 does"),
        pytest.param(b"?VERSION;?POLL;\r\n?DEVICES\n", [b"?VERSION", b"?POLL", b"?DEVICES"], b"", id="several"),
        pytest.param(
            b'?WATCH={"a":"};?X;\xc3\xa9"}?POLL;', [b'?WATCH={"a":"};?X;\xc3\xa9"}', b"?POLL"], b"", id="in a text"
        ),
        pytest.param(b'?WATCH={"enable"', [], b'?WATCH={"enable"', id="begun"),
        pytest.param(b"?WATCH={x}\n?POLL;", [b"?WATCH={x}", b"?POLL"], b"", id="no JSON"),
        pytest.param(b"?PO", [], b"?PO", id="half a name"),
    ],
)
def test_a_command_ends_where_its_object_or_its_line_does(data: bytes, commands: list[bytes], rest: bytes) -> None:
    assert split_commands(data) == (commands, rest)
    held, found = b"", []
    for at in range(len(data)):  # byte by byte
        new, held = split_commands(held + data[at : at + 1])
        found += new
    assert (found, held) == (commands, rest)
