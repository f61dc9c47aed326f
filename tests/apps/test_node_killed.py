"""kill -9 of the node: it comes back with the same devices, nothing is left over, and a culprit is left out."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from apps.nodes import Node, node_of
from apps.programs import Vfab, plugin, processes_of
from vfab.sdk.testing import soon

QUIET = """
from vfab.sdk import BaseDriver
class Driver(BaseDriver):
    def connect(self): return True
    def disconnect(self): pass
    def is_connected(self): return True
    def test_connection(self): return {"success": True, "message": "well", "details": {}}
    def hello(self): return "hello"
"""

# What a native library may do to a process, done to the one that runs the kernel: the parent of the zygote.
KILLER = QUIET.replace(
    "def connect(self): return True",
    """def connect(self):
        import os, signal
        from pathlib import Path
        if (Path(__file__).parent / "armed").exists():
            zygote = os.getppid()
            kernel = int(Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(kernel, signal.SIGKILL)
        return True""",
)


@pytest.fixture
def node(vfab: Vfab) -> Node:
    plugin(vfab.home / "home" / "plugins", "quiet", QUIET)
    plugin(vfab.home / "home" / "plugins", "other", QUIET)
    return node_of(vfab)


def connect(vfab: Vfab, number: int, driver: str = "quiet") -> None:
    done = vfab("device", "connect", f"tcp://127.0.0.1:{number}", "--driver", driver, "--json")
    assert done.code == 0, done.err


def states(node: Node) -> dict[str, str]:
    return {device["device"]: device["state"] for device in node.get("/v1/status")["devices"]}


def hosts(node: Node) -> set[int]:
    return {device["pid"] for device in node.get("/v1/status")["devices"] if device["pid"]}


def test_a_killed_node_comes_back_with_the_same_devices_and_its_hosts_are_gone(node: Node, vfab: Vfab) -> None:
    node.up()
    connect(vfab, 1)
    connect(vfab, 2, "other")
    vfab("device", "init", "tcp://127.0.0.1:3", "--driver", "quiet")
    vfab("device", "connect", "tcp://127.0.0.1:4", "--driver", "quiet")
    vfab("device", "disconnect", "tcp://127.0.0.1:4")
    before = hosts(node)
    node.kill()
    soon(lambda: not processes_of(node.home))
    assert [d["device"] for d in vfab("status", "--json").json["devices"]] == [
        f"tcp:127.0.0.1:{n}" for n in (1, 2, 3, 4)
    ]
    node.up()
    assert states(node) == {
        "tcp:127.0.0.1:1": "connected",
        "tcp:127.0.0.1:2": "connected",
        "tcp:127.0.0.1:3": "initialized",
        "tcp:127.0.0.1:4": "unknown",
    }
    assert not before & hosts(node)
    assert vfab("device", "connect", "tcp://127.0.0.1:4", "--json").json["state"] == "connected"


def test_a_closed_device_does_not_come_back(node: Node, vfab: Vfab) -> None:
    node.up()
    connect(vfab, 1)
    connect(vfab, 2)
    assert vfab("device", "close", "tcp:127.0.0.1:1").code == 0
    node.kill()
    node.up()
    assert states(node) == {"tcp:127.0.0.1:2": "connected"}


def test_settings_of_a_kept_device_come_back_with_it(node: Node, vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    node.up()
    done = vfab("device", "connect", simulator.address, "--set", "pen_up_percent=57", "--json")
    assert done.code == 0, done.err
    node.kill()
    node.up()
    with sqlite3.connect(node.home / "vfab.db") as database:
        ((overrides,),) = database.execute("SELECT overrides FROM wanted_devices").fetchall()
    assert "57" in overrides
    assert node.device()["state"] == "connected"


def test_a_driver_that_is_installed_again_gets_its_device_again(node: Node, vfab: Vfab) -> None:
    folder = vfab.home / "home" / "plugins" / "quiet"
    node.up()
    connect(vfab, 1)
    node.down()
    folder.rename(vfab.home / "aside")
    node.up()
    device = node.device()
    assert (device["state"], device["problem"]["code"]) == ("unknown", "driver_not_found")
    (vfab.home / "aside").rename(folder)
    vfab("driver", "restart", "quiet")
    assert node.device()["state"] == "connected"


def test_a_driver_that_takes_the_node_down_is_left_out_next_time_and_named(node: Node, vfab: Vfab) -> None:
    vfab.env["VFAB_CONFINEMENT"] = "off"  # confined, it could not even name the node's process
    killer = plugin(node.home / "plugins", "killer", KILLER)
    node.up()
    connect(vfab, 1)
    connect(vfab, 2, "killer")
    node.down()
    (killer / "armed").touch()
    node.begin()
    assert node.process is not None and node.process.wait(30) == -9
    node.up()
    status = node.get("/v1/status")
    assert [one["driver"] for one in status["left_out"]] == ["killer"]
    assert states(node) == {"tcp:127.0.0.1:1": "connected", "tcp:127.0.0.1:2": "unknown"}
    people = vfab("status").out
    assert "left out: killer" in people and "vfab driver enable killer" in people
    # it is tried out in a process of its own, which it takes down, too: it stays out, and the node lives
    soon(lambda: node.get("/v1/status")["left_out"][0]["verdict"] == "guilty", 30)
    assert node.process is not None and node.process.poll() is None
    done = vfab("device", "connect", "tcp://127.0.0.1:9", "--driver", "killer", "--json")
    assert done.code == 13 and "killer" in done.error["message"]
    done = vfab("device", "connect", "tcp://127.0.0.1:9", "--driver", "killer", "--json", "--no-node")
    assert "vfab driver enable killer" in done.error["message"] + done.error["remedy"]
    (killer / "armed").unlink()
    assert vfab("driver", "enable", "killer", "--json").json["devices"] == ["tcp:127.0.0.1:2"]
    assert set(states(node).values()) == {"connected"}
    assert node.get("/v1/status")["left_out"] == []


def test_a_driver_that_was_only_there_when_somebody_killed_the_node_is_let_in_again(node: Node, vfab: Vfab) -> None:
    node.up()
    connect(vfab, 1)
    node.kill()
    with sqlite3.connect(node.home / "vfab.db") as database:
        run, at = database.execute("SELECT max(id), max(started_at) FROM runs").fetchone()
        database.execute(
            "INSERT INTO journal (at, run, phase, operation, device_id, driver, outcome, detail)"
            " VALUES (?, ?, 'begin', 'start', 'tcp:127.0.0.1:1', 'quiet', '', '{}')",
            (at, run),
        )
    database.close()
    node.up()
    assert [one["driver"] for one in node.get("/v1/status")["left_out"]] == ["quiet"]
    assert vfab("status").out.count("left out: quiet") == 1
    soon(lambda: states(node) == {"tcp:127.0.0.1:1": "connected"}, 30)
    assert node.get("/v1/status")["left_out"] == []


SHY = QUIET.replace(
    "def connect(self): return True",
    """def connect(self):
        from pathlib import Path
        return (Path(__file__).parent / "awake").exists()""",
)


def test_a_device_that_does_not_answer_at_the_start_is_tried_again_until_it_does(node: Node, vfab: Vfab) -> None:
    shy = plugin(node.home / "plugins", "shy", SHY)
    (shy / "awake").touch()
    node.up()
    connect(vfab, 5, "shy")
    node.down()
    (shy / "awake").unlink()
    node.up()
    assert node.device()["problem"]["code"] == "connection_failed"
    (shy / "awake").touch()
    soon(lambda: (node.device()["state"], node.device()["problem"]) == ("connected", None), 20)


def test_a_plotter_that_is_unplugged_stays_wanted_and_is_connected_when_it_is_back(node: Node, vfab: Vfab) -> None:
    simulator = vfab.simulator("--speed", "instant")
    node.up()
    assert vfab("device", "connect", simulator.address).code == 0
    (announced,) = (node.home / "run" / "simulators").glob("*.json")
    announced.rename(vfab.home / "aside")  # what detection sees of an unplugged one
    soon(lambda: (node.device()["problem"] or {}).get("code") == "device_not_found", 60)
    assert (node.device()["wanted"], node.device()["pid"]) == ("connected", None)
    (vfab.home / "aside").rename(announced)
    soon(lambda: (node.device()["state"], node.device()["problem"]) == ("connected", None), 30)


def test_two_who_ask_at_once_get_the_same_device(node: Node, vfab: Vfab) -> None:
    node.up()
    arguments = ("device", "connect", "tcp://127.0.0.1:1", "--driver", "quiet", "--json")
    both = [vfab.start(*arguments) for _ in range(2)]
    ended = [process.communicate(timeout=30) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert states(node) == {"tcp:127.0.0.1:1": "connected"}


def test_a_damaged_database_does_not_keep_the_node_from_its_work(node: Node, vfab: Vfab) -> None:
    node.up()
    connect(vfab, 1)
    node.down()
    (node.home / "vfab.db").write_bytes(b"not a database any more " * 1000)
    node.up()
    status = node.get("/v1/status")
    assert status["devices"] == [] and "set aside" in status["notices"][0]
    assert "set aside" in vfab("status").out
    assert list(node.home.glob("vfab.db.damaged-*"))


def _loop(node: Node, vfab: Vfab, times: int, seed: int, longest_s: float) -> None:
    """Kill the node at random points of its start and work; each time everything that was wanted is still wanted."""
    chance = random.Random(seed)
    node.up()
    for number in range(1, 5):
        connect(vfab, number, ("quiet", "other")[number % 2])
    wanted = set(states(node))
    for _ in range(times):
        node.kill()
        node.begin()
        time.sleep(chance.uniform(0.1, longest_s))  # the random point: from before its first import to after its work
    node.kill()
    soon(lambda: not processes_of(node.home), 20)
    node.up()
    assert set(states(node)) == wanted
    soon(lambda: set(states(node).values()) == {"connected"}, 60)
    _sound(node)
    node.down()
    assert processes_of(node.home) == []


def _sound(node: Node) -> None:
    """The database is whole, and every lease in the node's hands."""
    with sqlite3.connect(node.home / "vfab.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows: list[Any] = database.execute("SELECT wanted FROM wanted_devices").fetchall()
    database.close()
    assert rows == [("connected",)] * 4
    assert not list(Path(node.home).glob("vfab.db.damaged-*"))


def test_twenty_kills_at_random_points_lose_and_orphan_nothing(node: Node, vfab: Vfab) -> None:
    _loop(node, vfab, 20, seed=7, longest_s=2.6)  # many reach their work


@pytest.mark.slow
@pytest.mark.timeout(600)  # 160 s here
def test_two_hundred_kills_at_random_points_lose_and_orphan_nothing(node: Node, vfab: Vfab) -> None:
    _loop(node, vfab, 200, seed=11, longest_s=1.4)
