"""`vfab driver swap|reload|mode` and `vfab up --dev` on a node that keeps a device."""

from __future__ import annotations

import json
import os
import pty
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.nodes import Node, node_of
from apps.programs import Vfab, plugin
from vfab.drivers.keithley2400.simulator import KeithleySimulator
from vfab.sdk.testing import patience, soon

SOURCE = """
from vfab.sdk import BaseDriver, command
from vfab.sdk.stream import Streaming

class Driver(Streaming, BaseDriver):
    NAME = "{name}"
    link, count = None, 0
    def connect(self):
        self.link = self.open_link()
        self.link.write(b"hello {name}\\n")
    def take_over(self): self.link = self.open_link()
    def disconnect(self):
        self.stop_streaming()
        link, self.link = self.link, None
        if link is not None:
            self.close_link(link)
    def is_connected(self): return self.link is not None
    def save_state(self, version): return {{"count": self.count}}
    def load_state(self, state, version): self.count = state["count"]
    def acquire(self, stream, options):
        while self.acquiring():
            stream.send({{"n": stream.count, "by": self.NAME}})
            self.pause_s(0.005)
    @command
    def hello(self):
        self.count += 1
        return [self.NAME, self.count]
"""


@pytest.fixture
def home(vfab: Vfab) -> Path:
    return vfab.home / "home" / "plugins"


@pytest.fixture
def address(vfab: Vfab, home: Path) -> Iterator[str]:
    """The address of a device; there are the drivers `one`, `two`, and `bad`, which cannot take over."""
    for name in ("one", "two"):
        plugin(home, name, SOURCE.format(name=name))
    plugin(home, "bad", SOURCE.format(name="bad") + "    def take_over(self): raise OSError('not mine')\n")
    master, slave = pty.openpty()
    threading.Thread(target=drain, args=(master,), daemon=True).start()
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


def drain(master: int) -> None:
    try:
        while os.read(master, 4096):
            pass
    except OSError:
        return


@pytest.fixture
def node(vfab: Vfab, address: str) -> Iterator[Node]:
    made = node_of(vfab)
    made.up({"VFAB_UP_DEV": "0"})
    assert vfab("device", "connect", address, "--driver", "one").code == 0
    yield made
    made.down()


def said(vfab: Vfab, address: str) -> list[object]:
    result = vfab("device", "send", address, "hello", "--json").json["result"]
    assert isinstance(result, list)
    return result


def test_a_swap_keeps_state_and_is_wanted_from_then_on(vfab: Vfab, address: str, node: Node) -> None:
    assert said(vfab, address) == ["one", 1]
    stream = vfab.start("stream", address, "-n", 300, "--json")
    done = vfab("driver", "swap", "one", "two", "--probation", "0.1", "--json")
    (swap,) = done.json["swaps"]
    assert swap["outcome"] == "committed" and swap["error"] is None
    assert said(vfab, address) == ["two", 2]
    records = [json.loads(line) for line in stream.communicate(timeout=60)[0].splitlines()]
    assert len(records) == 300 and not any(record.get("lost") for record in records)
    assert node.device()["driver"] == "two"
    operations = [e["operation"] for e in node.get("/v1/journal")["entries"]]
    assert {"swap", "swap drain", "swap hand_over", "swap cut"} <= set(operations)
    os.kill(node.pid, signal.SIGKILL)
    node.up()
    soon(lambda: node.device()["state"] == "connected", 30)
    assert node.device()["driver"] == "two" and said(vfab, address)[0] == "two"


def test_a_swap_that_fails_changes_nothing_and_says_why(vfab: Vfab, address: str, node: Node) -> None:
    assert said(vfab, address) == ["one", 1]
    failed = vfab("driver", "swap", "one", "bad", "--json")
    assert failed.error["code"] == "swap_failed" and failed.error["context"]["restored"] is True
    assert said(vfab, address) == ["one", 2] and node.device()["driver"] == "one"
    for wrong, code in (
        (("swap", "one", "nothing"), "driver_not_found"),
        (("swap", "two", "one"), "device_not_found"),
        (("mode", "one", "sleepy"), "usage"),
    ):
        assert vfab("driver", *wrong, "--json").error["code"] == code, wrong


def test_who_measures_is_waited_for_or_told_in_one_line_that_the_outputs_are_off(vfab: Vfab) -> None:
    made = node_of(vfab)
    made.up()
    with KeithleySimulator("2400", speed="10") as meter:
        assert vfab("device", "connect", meter.address, "--driver", "keithley2400").code == 0
        measuring = vfab.start("measure", "continuous", "source_v=0.5", "count=0", "--device", meter.address)
        soon(lambda: sum("READ?" in message for message in meter.heard) > 5, 30, "a handful of readings")
        refused = vfab("driver", "reload", "keithley2400", "--wait", "0.1", "--json").error
        assert refused["code"] == "refused" and "--now" in refused["remedy"] and not meter.output_off.is_set()
        (swap,) = vfab("driver", "reload", "keithley2400", "--now", "--json").json["swaps"]
        assert swap["outcome"] == "committed" and meter.output_off.is_set()
        _, err = measuring.communicate(timeout=patience(60))
        assert measuring.returncode != 0
        (told,) = [line for line in err.splitlines() if "outputs are off" in line]
        assert told.startswith("vfab: continuous was aborted after "), err
        again = vfab("measure", "single", "source_v=0.5", "--device", meter.address, "--json")
        assert again.json["completed"] is True
    made.down()


def test_a_reload_takes_the_code_that_is_on_disk(vfab: Vfab, address: str, node: Node, home: Path) -> None:
    assert said(vfab, address) == ["one", 1]
    (home / "one" / "driver.py").write_text(SOURCE.format(name="one again"))
    shown = vfab("driver", "reload", "one", "--probation", "0")
    assert "one 1.0.0 → one 1.0.0: committed" in shown.out, shown
    assert said(vfab, address) == ["one again", 2]
    (home / "one" / "driver.py").write_text("this is no Python")
    assert vfab("driver", "reload", "one", "--json").error["code"] == "swap_failed"
    assert said(vfab, address) == ["one again", 3]


def test_modes(vfab: Vfab, address: str, node: Node) -> None:
    assert vfab("driver", "mode", "one", "standby", "--json").json["changed"] is True
    assert node.device()["state"] == "initialized"
    assert vfab("driver", "mode", "one", "active", "--json").json["mode"] == "active"
    assert node.device()["state"] == "connected"
    vfab("driver", "mode", "one", "maintenance")
    refused = vfab("device", "send", address, "hello", "--json")
    assert refused.error["code"] == "device_busy" and "maintenance" in refused.error["message"]
    assert [d["mode"] for d in node.get("/v1/active")["drivers"]] == ["maintenance"]
    assert "as it was" in vfab("driver", "mode", "one", "maintenance").out
    vfab("driver", "mode", "one", "disabled")
    assert node.device()["state"] != "connected"
    vfab("driver", "mode", "one", "active")
    soon(lambda: node.device()["state"] == "connected", 30)
    assert said(vfab, address)[0] == "one"


def test_saving_a_plugin_reloads_its_driver(vfab: Vfab, address: str, home: Path) -> None:
    pytest.importorskip("watchfiles")
    made = node_of(vfab)
    made.starts += 1
    process = vfab.start("up", "--dev")
    made.process = process
    soon(made.answers, 30)
    try:
        assert vfab("device", "connect", address, "--driver", "one").code == 0
        assert said(vfab, address) == ["one", 1]
        new = SOURCE.format(name="saved")
        file = home / "one" / "driver.py"
        soon(lambda: file.write_text(new) and said(vfab, address)[0] == "saved", 30)
        assert int(str(said(vfab, address)[1])) > 1, "its state is kept"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_a_node_that_was_detached_reloads_too(vfab: Vfab, address: str, home: Path) -> None:
    pytest.importorskip("watchfiles")
    try:
        assert vfab("up", "--dev", "--detach").code == 0
        assert vfab("device", "connect", address, "--driver", "one").code == 0
        refused = vfab("device", "send", address, "hello", "--driver", "one", "--no-node")
        assert "(vfab up --dev)" in refused.err and "leave out --no-node" in refused.err
        file, new = home / "one" / "driver.py", SOURCE.format(name="saved")
        soon(lambda: file.write_text(new) and said(vfab, address)[0] == "saved", 30)
    finally:
        vfab("down")


HANG = """
    def initialize(self): self._at("prepare")
    def load_state(self, state, version):
        self._at("cut")
        self.count = state["count"]
    def _at(self, step):
        folder = pathlib.Path(__file__).parent
        if (folder / "hang").exists() and (folder / "hang").read_text() == step:
            self.emit("hangs", step=step)
            time.sleep(600)
"""


@pytest.mark.parametrize("step", ["prepare", "cut", "probation", "after"])
def test_a_node_that_is_killed_at_any_step_comes_back_with_one_driver(
    vfab: Vfab, address: str, node: Node, home: Path, step: str
) -> None:
    source = "import pathlib, time\n" + SOURCE.format(name="three").replace(
        '    def load_state(self, state, version): self.count = state["count"]\n', ""
    )
    plugin(home, "three", source + HANG)
    assert said(vfab, address) == ["one", 1]
    hosts = {device["pid"] for device in node.get("/v1/active")["drivers"]}
    (home / "three" / "hang").write_text(step)
    swap = vfab.start("driver", "swap", "one", "three", "--probation", "600" if step == "probation" else "0")

    def under_way() -> bool:
        steps = [e["operation"] for e in node.get("/v1/journal")["entries"]]
        if step == "probation":
            return "swap cut" in steps and node.get("/v1/active")["drivers"][0]["driver"] == "three"
        return bool(node.get("/v1/events?type=hangs")["events"])

    if step == "after":
        assert swap.wait(60) == 0
    else:
        soon(under_way, 30)
    hosts |= {device["pid"] for device in node.get("/v1/active")["drivers"]}
    (home / "three" / "hang").unlink()
    node.kill()
    swap.communicate(timeout=30)
    node.up()
    soon(lambda: node.device()["state"] == "connected", 30)
    (running,) = node.get("/v1/active")["drivers"]
    assert running["driver"] == ("three" if step == "after" else "one")
    assert said(vfab, address)[0] == running["driver"]
    assert running["pid"] not in hosts and not any(Path(f"/proc/{pid}").exists() for pid in hosts)
