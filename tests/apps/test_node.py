"""The node as a program: started once, private, asked by commands, ended in good order."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from apps.nodes import Node, node_of, raw_request
from apps.programs import LONG, SMALL, Vfab, pen_is_up, plugin, processes_of
from vfab.sdk.testing import soon
from vfab.store.opening import open_store
from vfab.store.records import Wanted

QUIET = """
from vfab.sdk import BaseDriver
class Driver(BaseDriver):
    def connect(self): return True
    def disconnect(self): pass
    def is_connected(self): return True
    def test_connection(self): return {"success": True, "message": "well", "details": {}}
    def hello(self): return "hello"
    def add(self, a, b): return a + b
    def flood(self, count):
        for number in range(int(count)):
            self.emit("useless", number=number, padding="x" * 4000)
"""


@pytest.fixture
def node(vfab: Vfab) -> Node:
    plugin(vfab.home / "home" / "plugins", "quiet", QUIET, _MORE)
    return node_of(vfab)


_MORE = """  add:
    help: Add two numbers
    concurrent: true
    parameters:
      a: {type: number, required: true, help: one}
      b: {type: number, default: 1, help: another}
  flood:
    help: Tell of many things
    parameters:
      count: {type: integer, required: true, help: how many}
"""


def test_the_nodes_socket_is_for_its_owner_alone(node: Node) -> None:
    node.up()
    run = node.home / "run"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert stat.S_IMODE((run / "node.sock").stat().st_mode) == 0o600
    assert stat.S_ISSOCK((run / "node.sock").stat().st_mode)


def test_a_second_node_is_refused_and_told_which_one_runs(node: Node, vfab: Vfab) -> None:
    node.up()
    done = vfab("up", "--json")
    assert done.code == 13
    assert done.error["code"] == "node_running"
    assert str(node.pid) in done.error["message"] and "vfab down" in done.error["remedy"]
    assert vfab("up", "--detach", "--json").error["code"] == "node_running"


def test_a_node_comes_and_goes_by_command(node: Node, vfab: Vfab) -> None:
    assert vfab("status", "--json").json["running"] is False
    assert vfab("down", "--json").json == {"stopped": False, "pid": None}
    started = vfab("up", "--detach", "--json").json
    assert vfab("status", "--json").json["pid"] == started["pid"]
    assert str(started["pid"]) in vfab("status").out
    assert vfab("down", "--json").json == {"stopped": True, "pid": started["pid"]}
    assert not (node.home / "run" / "node.sock").exists()
    assert "no node is running" in vfab("status").out
    lines = [json.loads(line) for line in Path(started["log"]).read_text().splitlines()]
    assert {"ready", "stopped"} <= {line["event"] for line in lines}
    assert stat.S_IMODE(Path(started["log"]).stat().st_mode) == 0o600


def test_a_device_stays_as_it_was_asked_to_be(node: Node, vfab: Vfab) -> None:
    node.up()
    done = vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet", "--json").json
    assert (done["state"], done["released"], done["driver"]) == ("connected", False, "quiet")
    assert done["states"][0] == "discovered"
    assert done["result"]["success"] is True
    known = vfab("device", "state", "tcp:127.0.0.1:1", "--json").json
    assert known["state"] == "connected" and known["node"]["wanted"] == "connected"
    assert "ready -connect-> connecting" in known["story"]
    assert vfab("device", "disconnect", "tcp:127.0.0.1:1", "--json").json["state"] == "disconnected"
    assert vfab("device", "connect", "tcp:127.0.0.1:1", "--json").json["state"] == "connected"
    assert vfab("device", "reset", "tcp:127.0.0.1:1", "--json").json["state"] == "connected"
    done = vfab("device", "close", "tcp:127.0.0.1:1", "--json").json
    assert done["released"] is True
    assert vfab("status", "--json").json["devices"] == []
    error = vfab("device", "close", "tcp://127.0.0.1:1", "--json")
    assert (error.code, error.error["code"]) == (13, "illegal_transition")


def test_what_a_command_gives_is_the_same_with_and_without_a_node(node: Node, vfab: Vfab) -> None:
    send = ("device", "send", "tcp://127.0.0.1:1", "add", "a=2", "--driver", "quiet", "--json")
    run = ("driver", "run", "quiet", "add", "--a", "2", "--device", "tcp://127.0.0.1:1", "--json")
    wrong = ("device", "send", "tcp://127.0.0.1:1", "addd", "--driver", "quiet", "--json")
    without = [vfab(*arguments) for arguments in (send, run, wrong)]
    node.up()
    with_node = [vfab(*arguments) for arguments in (send, run, wrong)]
    assert [(d.code, d.out, d.err) for d in with_node] == [(d.code, d.out, d.err) for d in without]
    assert with_node[0].json["result"] == 3
    assert with_node[2].error["code"] == "unknown_command"
    scans = [vfab("device", "scan", "--json", *more).json for more in ((), ("--no-node",))]
    assert [device["id"] for device in scans[0]["devices"]] == [device["id"] for device in scans[1]["devices"]]


def test_a_kept_device_is_not_for_a_command_that_does_without_the_node(node: Node, vfab: Vfab) -> None:
    node.up()
    assert vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet").code == 0
    done = vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet", "--no-node", "--json")
    assert done.error["code"] == "device_busy"
    assert done.error["context"]["holder"]["pid"] == node.pid


def test_a_device_that_cannot_be_connected_is_not_kept(node: Node, vfab: Vfab) -> None:
    plugin(node.home / "plugins", "sour", QUIET.replace("connect(self): return True", "connect(self): return False"))
    node.up()
    done = vfab("device", "connect", "tcp://127.0.0.1:2", "--driver", "sour", "--json")
    assert (done.code, done.error["code"]) == (10, "connection_failed")
    assert vfab("status", "--json").json["devices"] == []
    assert node.get("/v1/devices/state?device=tcp://127.0.0.1:2")["holder"] is None


def test_the_plotter_draws_through_the_node(node: Node, vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    node.up()
    assert vfab("device", "connect", simulator.address).code == 0
    report = vfab.home / "report.json"
    done = vfab("plot", vfab.file(SMALL), "--report", report, "--json")
    assert done.code == 0, done.err
    assert json.loads(report.read_text())["completed"] is True
    assert set(done.json) == set(vfab("plot", vfab.file(SMALL), "--json").json)
    people = vfab("plot", vfab.file(SMALL))
    assert "plotter: simulated axidraw" in people.err and "drawn:" in people.out
    assert vfab("plot", vfab.file(SMALL), "--dry-run", "--json").json["dry_run"] is True
    assert vfab("plot", vfab.home / "none.svg", "--json").error["code"] == "bad_input"
    assert vfab("plot", vfab.file(SMALL), "--set", "pen_up_percent=55", "--json").code == 0
    (kept,) = vfab("status", "--json").json["devices"]
    assert (kept["state"], kept["job"]) == ("connected", "")
    assert "<path" in simulator.end() or simulator.record.exists()


def test_ctrl_c_ends_a_plot_of_the_node_and_the_device_stays(node: Node, vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "2")
    node.up()
    assert vfab("device", "connect", simulator.address).code == 0
    process = vfab.start("plot", vfab.file(LONG), "--json")
    soon(lambda: [job for job in node.get("/v1/jobs")["jobs"] if job["progress"].get("done_mm")], 60)
    busy = vfab("device", "send", simulator.address, "home", "--json")
    assert busy.error["code"] == "device_busy"
    assert vfab("device", "send", simulator.address, "position", "--json").code == 0
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    error = json.loads(err.strip().splitlines()[-1])["error"]
    assert error["code"] == "interrupted" and "--resume" in error["remedy"]
    assert vfab("status", "--json").json["devices"][0]["state"] == "connected"


def test_a_plot_is_interrupted_when_the_node_ends_and_its_command_is_told(node: Node, vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "2")
    node.up()
    process = vfab.start("plot", vfab.file(LONG), "--json", "--device", simulator.address)
    soon(lambda: [job for job in node.get("/v1/jobs")["jobs"] if job["progress"].get("done_mm")], 60)
    node.down()
    _, err = process.communicate(timeout=20)
    assert json.loads(err.strip().splitlines()[-1])["error"]["code"] == "interrupted"
    assert process.returncode == 130
    assert pen_is_up(simulator.address)


def test_errors_have_the_same_shape_as_those_of_commands(node: Node) -> None:
    node.up()
    for method, path, body, status, code in [
        ("GET", "/v1/nothing", None, 404, "no_such_path"),
        ("DELETE", "/v1/status", None, 405, "no_such_method"),
        ("POST", "/v1/devices/connect", {}, 422, "bad_request"),
        ("POST", "/v1/devices/connect", {"device": "tcp://127.0.0.1:1", "speed": 1}, 422, "bad_request"),
        ("POST", "/v1/devices/connect", {"device": "nobody"}, 404, "device_not_found"),
        ("GET", "/v1/drivers/nobody", None, 404, "driver_not_found"),
        ("GET", "/v1/jobs/77", None, 404, "job_not_found"),
        ("GET", "/v1/events?since=yesterday", None, 422, "bad_request"),
        ("GET", "/v1/events?since=2030-01-01T00:00:00", None, 422, "bad_request"),
        ("POST", "/v1/plots", {"file": "relative.svg"}, 422, "bad_request"),
        ("POST", "/v1/drivers/quiet/commands/nothing", {}, 404, "unknown_command"),
        ("POST", "/v1/plots", b"{", 422, "bad_request"),
        ("POST", "/v1/plots", b"\xff\xfe", 422, "bad_request"),
    ]:
        answered, document = raw_request(node.socket, method, path, body)
        assert (answered, document["error"]["code"]) == (status, code), (path, document)
        assert set(document["error"]) == {"code", "message", "remedy", "context"}
        assert document["error"]["message"] and document["error"]["remedy"], document


JUNK: list[object] = [
    None, b"{", b"\xff\xfe{", [], "text", 7, {"device": 7}, {"device": ""}, {"device": "\x00"}, {"device": "é" * 3000},
    {"device": "/dev/null"}, {"device": "tcp://127.0.0.1:99999"},
    {"device": "tcp://127.0.0.1:1", "overrides": {"a.b": [1]}},
    {"device": "tcp://127.0.0.1:1", "driver": "quiet", "command": "", "parameters": {"": None}},
    {"device": "tcp://127.0.0.1:1", "driver": "../x"}, {"parameters": {"a": {"b": []}}}, {"signal": 10**9},
    {"file": "/dev/null"}, {"file": "/nowhere", "options": {"page": "x"}}, {"file": "/", "device": "tcp://127.0.0.1:1"},
]  # fmt: skip


def test_no_request_whatever_it_says_meets_a_defect(node: Node) -> None:
    node.up()
    for path, methods in node.get("/openapi.json")["paths"].items():
        if "post" not in methods or path == "/v1/shutdown":
            continue
        for body in JUNK:
            url = path.format(name="quiet", new="nobody", command="add", number="1")
            status, document = raw_request(node.socket, "POST", url, body)
            assert status < 500 or status in {502, 504}, (url, body, document)
            if status >= 400:
                assert set(document["error"]) == {"code", "message", "remedy", "context"}
    assert node.process is not None and node.process.poll() is None


def test_the_api_describes_itself(node: Node) -> None:
    node.up()
    document = node.get("/openapi.json")
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            assert described.get("description"), f"{method} {path}"
            assert {"422", "4XX", "5XX"} <= set(described["responses"]), f"{method} {path}"
    assert {"/v1/devices/connect", "/v1/plots", "/v1/events", "/v1/drivers/{name}/restart"} <= set(document["paths"])


def test_settings_and_the_journal_can_be_read(node: Node, vfab: Vfab) -> None:
    node.up()
    assert node.get("/v1/config?driver=axidraw") == vfab("config", "show", "axidraw", "--json").json
    assert node.get("/v1/config")["drivers"]["plot"][0]["field"] == "driver"
    vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet")
    begun, ended = node.get("/v1/journal")["entries"][-2:]
    assert (begun["phase"], begun["operation"], begun["device_id"]) == ("begin", "connect", "tcp:127.0.0.1:1")
    assert (ended["phase"], ended["of"], ended["outcome"]) == ("end", begun["id"], "done")


def test_a_driver_is_disabled_enabled_and_started_anew(node: Node, vfab: Vfab) -> None:
    node.up()
    vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet")
    before = node.device()["pid"]
    done = vfab("driver", "disable", "quiet", "--json").json
    assert done["devices"] == ["tcp:127.0.0.1:1"] and done["changed"]
    assert node.device()["problem"]["code"] == "driver_left_out"
    assert node.device()["pid"] is None
    assert vfab("device", "connect", "tcp://127.0.0.1:3", "--driver", "quiet", "--json").code == 13
    assert [d["status"] for d in vfab("driver", "list", "--json").json["drivers"] if d["name"] == "quiet"] == [
        "disabled"
    ]
    assert vfab("driver", "enable", "quiet", "--json").json["devices"] == ["tcp:127.0.0.1:1"]
    after = node.device()
    assert after["state"] == "connected" and after["pid"] not in {None, before}
    (node.home / "plugins" / "quiet" / "driver.py").write_text(QUIET.replace('"hello"', '"changed"'))
    assert vfab("driver", "restart", "quiet", "--json").json["devices"] == ["tcp:127.0.0.1:1"]
    assert vfab("device", "send", "tcp:127.0.0.1:1", "hello", "--json").json["result"] == "changed"


def test_what_became_of_plugins_since_the_last_start_is_told(node: Node, vfab: Vfab) -> None:
    plugins = vfab.home / "home" / "plugins"
    plugin(plugins, "other", QUIET)

    def told() -> list[tuple[str, str]]:
        changes = node.get("/v1/status")["plugins"]
        return [(one["driver"], one["change"]) for one in changes if one["folder"].startswith(str(plugins))]

    node.up()
    assert told() == []
    node.down()
    shutil.rmtree(plugins / "other")
    manifest = plugins / "quiet" / "plugin.yaml"
    manifest.write_text(manifest.read_text() + "homepage: https://quiet.example\n")
    plugin(plugins, "third", QUIET)
    node.up()
    assert told() == [("other", "vanished"), ("quiet", "changed"), ("third", "new")]
    people = vfab("status").out
    assert f"vanished since the last start: other 1.0.0, {plugins / 'other'}" in people
    shutil.rmtree(plugins / "third")
    assert "quiet" in {driver["name"] for driver in node.get("/v1/drivers")["drivers"]}  # which looks again
    assert told() == [("other", "vanished"), ("quiet", "changed")]
    node.down()
    node.up()
    assert told() == []
    vfab("driver", "disable", "quiet")
    node.down()
    with open_store(node.home / "vfab.db") as store:
        assert [(p.name, p.enabled) for p in store.plugins.all() if p.folder.startswith(str(plugins))] == [
            ("quiet", False)
        ]


def test_a_driver_is_disabled_and_enabled_without_a_node(node: Node, vfab: Vfab) -> None:
    assert vfab("driver", "disable", "quiet", "--json").json["changed"] is True
    assert vfab("driver", "disable", "quiet").out == "quiet is disabled, as it was\n"
    done = vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet", "--json")
    assert done.code == 13 and "disabled" in done.error["message"]
    assert vfab("status", "--json").json["disabled"] == ["quiet"]
    node.up()
    assert node.get("/v1/status")["disabled"] == ["quiet"]
    assert vfab("driver", "enable", "quiet", "--json").json["changed"] is True
    node.down()
    assert vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet", "--json").code == 0


def test_a_device_that_is_gone_is_forgotten_without_a_node_too(node: Node, vfab: Vfab) -> None:
    with open_store(node.home / "vfab.db") as store:
        for device in ("sim:quiet:1", "sim:quiet:12", "sim:other:3"):
            store.wanted.put(device, "quiet", Wanted.CONNECTED)
    assert vfab("device", "close", "sim:quiet", "--json").error["code"] == "device_not_found"  # which of the two?
    done = vfab("device", "close", "sim:quiet:1", "--json").json
    assert (done["device"], done["state"], done["released"]) == ("sim:quiet:1", "unknown", True)
    assert "sim:other:3 is not there; no node will look for it any more" in vfab("device", "close", "sim:oth").out
    assert [device["device"] for device in vfab("status", "--json").json["devices"]] == ["sim:quiet:12"]
    assert vfab("device", "close", "sim:quiet:1", "--json").error["code"] == "device_not_found"


def test_what_needs_a_node_says_so(vfab: Vfab) -> None:
    for arguments in (("device", "events"), ("device", "events", "--follow"), ("driver", "restart", "axidraw")):
        done = vfab(*arguments, "--json")
        assert (done.code, done.error["code"]) == (10, "no_node"), arguments
        assert "vfab up" in done.error["remedy"]


def test_events_are_remembered_and_followed(node: Node, vfab: Vfab) -> None:
    node.up()
    follower = vfab.start("device", "events", "--follow", "--json", "--type", "state_changed")
    vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet")
    seen = []
    while not seen or seen[-1]["data"]["to"] != "connected":
        seen.append(json.loads(follower.stdout.readline()))
    assert seen[0]["device"] == "tcp:127.0.0.1:1" and seen[0]["generation"] >= 0
    assert [event["number"] for event in seen] == sorted(event["number"] for event in seen)
    remembered = node.get("/v1/events?type=state_changed&device=tcp:127.0.0.1:1")["events"]
    assert remembered[: len(seen)] == seen
    assert node.get("/v1/events?driver=nobody")["events"] == []
    for meant in ("tcp:127.0.0.1", "tcp://127.0.0.1:1"):
        assert node.get(f"/v1/events?type=state_changed&device={meant}")["events"] == remembered, meant
    later = node.get(f"/v1/events?after={seen[0]['number']}&limit=2")["events"]
    assert len(later) == 2
    people = vfab("device", "events", "--count", "100").out
    assert "initializing -> ready" in people
    node.down()
    assert follower.wait(20) == 0


def test_who_follows_and_never_reads_harms_nobody_and_is_told_what_it_lost(node: Node, vfab: Vfab) -> None:
    from vfab.apps.node.client import find_node

    node.up()
    client = find_node(vfab.env)
    assert client is not None
    asleep, awake = client.events(type="useless", after=0), client.events(type="useless", after=0)
    vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet")
    vfab("device", "send", "tcp://127.0.0.1:1", "flood", "count=1")
    assert next(asleep)["data"]["number"] == next(awake)["data"]["number"] == 0
    for _ in range(6):  # more than the sockets and the queue between them hold
        vfab("device", "send", "tcp://127.0.0.1:1", "flood", "count=300")
        while next(awake)["data"]["number"] != 299:
            pass
    (told, *_) = node.get("/v1/events?type=events_lost")["events"]
    assert told["data"]["listener"] == "follower of everything"
    while (event := next(asleep))["type"] != "lost":
        assert event["type"] == "useless"
    assert event["count"] > 0
    node.down()


def test_logs_are_lines_of_json_with_device_driver_and_generation(node: Node, vfab: Vfab) -> None:
    node.up()
    vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet")
    node.down()
    lines = [json.loads(line) for line in node.log.read_text().splitlines()]
    (connected,) = [line for line in lines if line.get("to") == "connected" and line["from"] == "connecting"]
    assert (connected["device"], connected["driver"], connected["generation"]) == ("tcp:127.0.0.1:1", "quiet", 1)
    assert {"level", "timestamp", "event"} <= set(connected)


def test_a_node_with_a_very_long_home_serves_all_the_same(vfab: Vfab) -> None:
    home = vfab.home / ("deep" * 20) / ("deeper" * 10) / "home"
    home.mkdir(parents=True)
    vfab.env["VFAB_HOME"] = str(home)
    node = node_of(vfab)
    node.up()
    assert len(str(home)) > 120
    assert vfab("status", "--json").json["pid"] == node.pid


def test_systemd_is_told_when_the_node_is_ready_and_when_it_stops(node: Node, vfab: Vfab) -> None:
    folder = subprocess.check_output(["mktemp", "-d"], text=True).strip()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{folder}/notify")
        systemd.settimeout(20)
        node.up(env={"NOTIFY_SOCKET": f"{folder}/notify"})
        assert systemd.recv(100) == b"READY=1"
        node.down()
        assert systemd.recv(100) == b"STOPPING=1"


ACTIVATE = """
import os, socket, sys
made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
os.chdir(os.path.dirname(sys.argv[1]))
made.bind(os.path.basename(sys.argv[1]))
made.listen()
os.dup2(made.fileno(), 9)
os.dup2(9, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], [sys.argv[2], "up"])
"""


def test_a_socket_that_systemd_opened_is_served_and_left(node: Node, vfab: Vfab) -> None:
    node.socket.parent.mkdir(parents=True, mode=0o700)
    command = [sys.executable, "-c", ACTIVATE, str(node.socket), vfab.program]
    process = subprocess.Popen(command, env=vfab.env, stderr=subprocess.DEVNULL)
    vfab.started.append(process)  # type: ignore[arg-type]
    soon(node.socket.exists)
    soon(lambda: vfab("status", "--json").json["pid"] == process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert node.socket.exists()
    assert vfab("status", "--json").json["running"] is False


def test_the_units_name_this_installation_and_home(node: Node, vfab: Vfab) -> None:
    unit = vfab("up", "--print-unit").out
    assert f"ExecStart={vfab.program} up" in unit
    assert "Type=notify" in unit and f"VFAB_HOME={node.home}" in unit
    assert f"ListenStream={node.socket}" in vfab("up", "--print-socket-unit", "--json").json["unit"]
    assert not node.socket.exists()


def test_nothing_is_left_of_a_node_that_ended(node: Node, vfab: Vfab) -> None:
    node.up()
    vfab("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet")
    assert len(processes_of(node.home)) >= 3
    node.down()
    assert processes_of(node.home) == []
