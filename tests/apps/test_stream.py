"""`vfab stream`: what a device sends, in every form, by this process and by a node, and for browsers."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from apps.nodes import Node, node_of
from apps.programs import Vfab, plugin
from vfab.apps.stream_text import flat, formatter
from vfab.apps.stream_web import let_in
from vfab.model.errors import ConfigurationError
from vfab.sdk.stream_ends import StreamRecord
from vfab.sdk.stream_words import StreamInfo

TICKER = """
import os
from vfab.model.errors import LinkLost
from vfab.sdk import BaseDriver
from vfab.sdk.stream import Streaming, StreamType

class Driver(Streaming, BaseDriver):
    stream_type = StreamType.SENSOR
    def open_acquisition(self, options):
        return self.open_stream("main", self.stream_type, unit="Cel", records=64)
    def acquire(self, stream, options):
        step, count = options.get("step", 1), 0
        while self.acquiring():
            if options.get("fail_at") == count:
                raise LinkLost("unplugged")
            if options.get("die_at") == count and not (self.environment.state_dir / "died").exists():
                (self.environment.state_dir / "died").touch()
                os._exit(9)
            data = bytes([count % 256]) * 5000 if options.get("bytes") else {"t": count * step, "at": {"x": 0.5}}
            stream.send(data, meta={"n": count})
            count += 1
            self.pause_s(options.get("pause_s", 0.002))
    def disconnect(self): self.stop_streaming()
    def hello(self): return "hello"
"""
MANIFEST = """  start:
    help: Begin to stream
    method: start_streaming
    parameters:
      step: {type: integer, help: h}
      bytes: {type: boolean, help: h}
      fail_at: {type: integer, help: h}
      die_at: {type: integer, help: h}
      pause_s: {type: number, minimum: 0, help: h}
"""


@pytest.fixture
def ticker(vfab: Vfab) -> Iterator[str]:
    """The address of a device whose driver ticks."""
    plugin(vfab.home / "home" / "plugins", "ticker", TICKER, MANIFEST)
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.fixture
def node(vfab: Vfab) -> Iterator[Node]:
    made = node_of(vfab)
    made.up()
    yield made
    made.down()


def test_records_come_as_text_ndjson_csv_and_bytes(vfab: Vfab, ticker: str) -> None:
    given = ("stream", ticker, "--driver", "ticker")
    text = vfab(*given, "-n", 3)
    assert re.fullmatch(r"(\d\d:\d\d:\d\d\.\d{3}  \d  t=\d  at.x=0.5\n){3}", text.out), text
    assert "3 records in" in text.err
    documents = [json.loads(line) for line in vfab(*given, "step=7", "-n", 4, "--json").out.splitlines()]
    assert [d["data"]["t"] for d in documents] == [0, 7, 14, 21]
    assert [d["sequence"] for d in documents] == [0, 1, 2, 3] and documents[0]["meta"] == {"n": 0}
    file = vfab.home / "out.csv"
    done = vfab(*given, "-n", 5, "-o", file)
    assert "written to" in done.err and done.out == ""
    rows = list(csv.DictReader(file.open()))
    assert [row["t"] for row in rows] == list("01234") and set(rows[0]) == {"sequence", "time_s", "t", "at.x"}
    raw = vfab.home / "out.bin"
    vfab(*given, "bytes=true", "-n", 3, "-o", raw)
    assert raw.read_bytes() == b"".join(bytes([n]) * 5000 for n in range(3))
    assert not [path for path in vfab.home.iterdir() if path.name.startswith(".out")]


def test_what_is_asked_wrongly_is_told_before_anything_is_done(vfab: Vfab, ticker: str) -> None:
    given = ("stream", ticker, "--driver", "ticker")
    for wrong, field in ((["step=x"], "step"), (["stepp=1"], "stepp"), (["pause_s=-1"], "pause_s")):
        done = vfab(*given, *wrong, "--json")
        assert done.code != 0 and done.error["context"]["field"] == field, done
    assert "--format" in vfab(*given, "-f", "yaml", "--json").error["context"]["option"]
    assert "KEY=VALUE" in vfab(*given, "step").err
    plugin(
        vfab.home / "home" / "plugins",
        "still",
        "from vfab.sdk import BaseDriver\nclass Driver(BaseDriver):\n    def hello(self): return 1",
    )
    done = vfab("stream", ticker, "--driver", "still", "--json")
    assert "does not stream" in done.error["message"]


def test_a_stream_that_fails_says_why_and_one_whose_driver_dies_goes_on(vfab: Vfab, ticker: str) -> None:
    given = ("stream", ticker, "--driver", "ticker", "--json")
    failed = vfab(*given, "fail_at=5")
    assert failed.error["code"] == "link_lost" and len(failed.out.splitlines()) >= 5
    died = vfab(*given, "die_at=3", "-n", 10)
    assert died.code == 0, died
    documents = [json.loads(line) for line in died.out.splitlines()]
    assert [d["data"]["t"] for d in documents] == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6]
    assert [d["sequence"] for d in documents] == list(range(10))


def test_ctrl_c_is_how_an_endless_stream_ends(vfab: Vfab, ticker: str) -> None:
    for more, code in (((), 0), (("-n", 1_000_000), 130)):
        process = vfab.start("stream", ticker, "--driver", "ticker", *more)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == code


def test_a_node_streams_the_same_and_keeps_the_device(vfab: Vfab, ticker: str, node: Node) -> None:
    given = ("stream", ticker, "--driver", "ticker", "--json")
    documents = [json.loads(line) for line in vfab(*given, "step=2", "-n", 4).out.splitlines()]
    assert [d["data"]["t"] for d in documents] == [0, 2, 4, 6]
    assert node.device()["state"] == "connected"
    raw = vfab.home / "out.bin"
    vfab("stream", ticker, "--driver", "ticker", "bytes=true", "-n", 2, "-o", raw)
    assert raw.read_bytes() == b"\0" * 5000 + b"\1" * 5000
    assert vfab(*given, "fail_at=2").error["code"] == "link_lost"
    assert vfab(*given, "step=x").error["context"]["field"] == "step"
    assert "--no-node" in vfab(*given, "--ws", 0).error["remedy"]
    readers = [vfab.start(*given, "-n", 50) for _ in range(3)]
    for reader in readers:
        out, _ = reader.communicate(timeout=60)
        sequences = [json.loads(line)["sequence"] for line in out.splitlines()]
        assert sequences == list(range(sequences[0], sequences[0] + 50))


@contextmanager
def served(vfab: Vfab, *arguments: object) -> Iterator[str]:
    """The address of a stream that is served to browsers."""
    process = vfab.start(*arguments, "--ws", 0)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://(127\.0\.0\.1:\d+)/", line)
        assert found, line
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_browsers_are_served_and_a_slow_one_misses_only_its_own(vfab: Vfab, ticker: str) -> None:
    with served(vfab, "stream", ticker, "--driver", "ticker", "bytes=true", "pause_s=0.0005") as where:
        with urlopen(f"http://{where}/", timeout=20) as page:
            assert b"WebSocket" in page.read()
        with connect(f"ws://{where}/", max_queue=1) as slow, connect(f"ws://{where}/") as quick:
            about = json.loads(quick.recv(timeout=20))["stream"]
            assert about["about"] == {"unit": "Cel"} and about["name"] == "main"
            last, lost = -1, 0
            for _ in range(400):
                head = json.loads(quick.recv(timeout=20))
                body = quick.recv(timeout=20)
                assert head["size"] == len(body) == 5000 and body[:1] == bytes([head["meta"]["n"] % 256])
                assert last < 0 or head["sequence"] - last - 1 == head.get("lost", 0)
                last = head["sequence"]
            slow.recv(timeout=20)
            heads: list[dict[str, Any]] = []
            while lost == 0 and len(heads) < 5000:  # what was sent meanwhile lies in buffers; then comes the gap
                heads.append(json.loads(slow.recv(timeout=20)))
                slow.recv(timeout=20)
                lost = heads[-1].get("lost", 0)


def test_pages_of_other_servers_may_not_look(vfab: Vfab, ticker: str) -> None:
    with served(vfab, "stream", ticker, "--driver", "ticker") as where:
        with pytest.raises(InvalidStatus):
            connect(f"ws://{where}/", origin="http://evil.example").__enter__()  # type: ignore[arg-type]
        for headers, path, code in (({"Host": "evil.example"}, "/", 403), ({}, "/etc/passwd", 404)):
            with pytest.raises(HTTPError) as refused:
                urlopen(Request(f"http://{where}{path}", headers=headers), timeout=20)
            assert refused.value.code == code


@pytest.mark.parametrize(
    ("host", "origin", "everywhere", "may"),
    [
        ("127.0.0.1:80", None, False, True),
        ("127.0.0.1:80", "http://127.0.0.1:80", False, True),
        ("127.0.0.1:80", "http://evil.example", False, False),
        ("192.0.2.7:80", None, False, False),
        ("192.0.2.7:80", "http://192.0.2.7:80", True, True),
        ("[2001:db8::7]:80", "http://[2001:db8::7]:80", True, True),
        ("192.0.2.7:80", "http://192.0.2.8:80", True, False),
        ("evil.example:80", "http://evil.example:80", True, False),
        ("[broken", None, True, False),
    ],
)
def test_who_listens_everywhere_answers_to_addresses_and_to_no_foreign_name(
    host: str, origin: str | None, everywhere: bool, may: bool
) -> None:
    assert let_in(host, origin, frozenset({"127.0.0.1:80"}), everywhere=everywhere) is may


def test_a_port_in_use_is_told(vfab: Vfab, ticker: str) -> None:
    with served(vfab, "stream", ticker, "--driver", "ticker") as where:
        master, slave = pty.openpty()
        done = vfab("stream", os.ttyname(slave), "--driver", "ticker", "--ws", where.rpartition(":")[2], "--json")
        assert done.error["code"] == "device_busy" and "another port" in done.error["remedy"]
        os.close(master)
        os.close(slave)


def test_every_form_writes_what_came() -> None:
    info = StreamInfo(name="main", about={"fields": ["a", "b"], "unit": "V"})

    def record(data: Any, **more: Any) -> StreamRecord:
        return StreamRecord(1, 1.5, None, data, **more)

    assert formatter("csv", info)([record([1, 2.5])]) == b"sequence,time_s,a,b\n1,1.5,1,2.5\n"
    assert formatter("csv", StreamInfo(name="x"))([record(b"\x01\xff")]) == b"sequence,time_s,data\n1,1.5,01ff\n"
    assert formatter("raw", info)([record(b"ab"), record({"k": float("nan")})]) == b'ab{"k": "nan"}\n'
    assert json.loads(formatter("ndjson", info)([record(b"\xff")]))["data"] == {"base64": "/w=="}
    text = formatter("text", info)
    for data, meta, shown in (
        (b"hello\r\n", {}, b"hello"),
        (b"\x00" * 30, {}, b"(30 bytes)"),
        (b"x", {"pixel_format": "GREY", "width_px": 1, "height_px": 1}, "1 × 1 GREY".encode()),
        (2.0, {}, b"2 V"),
        ({"text": "123#beef"}, {}, b"123#beef"),
        ([1, 2], {}, b"1 2"),
    ):
        assert shown in text([record(data, meta=meta)])
    assert b"(4 lost)" in text([record(1, lost=4)])
    assert flat({"a": [1, 2], "b": {"c": None}}) == {"a.0": 1, "a.1": 2, "b.c": None}
    with pytest.raises(ConfigurationError, match="no format"):
        formatter("yaml", info)
