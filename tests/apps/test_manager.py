"""`DeviceDriverManager` with real hosts: what seed 002 documents, and what happens when things go wrong."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from apps.manager_home import Home, device, make_home
from vfab import Device, DeviceDriverManager, DeviceState
from vfab.kernel.leases import LeaseBook
from vfab.model.errors import ConfigurationError, DriverNotFound, HardwareError
from vfab.model.events import DriverEvent
from vfab.model.lifecycle import PUBLIC_TRANSITIONS
from vfab.sdk.testing import soon

S = DeviceState


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = make_home(tmp_path)
    yield made
    soon(lambda: not made.processes())


@pytest.fixture
def manager(home: Home) -> Iterator[DeviceDriverManager]:
    with DeviceDriverManager(home.env) as made:
        yield made


def test_a_device_goes_through_the_life_that_seed_002_documents(home: Home, manager: DeviceDriverManager) -> None:
    with home.announced():
        scanned = manager.scan_devices("drv_echo")
        assert scanned["status"] == "success"
        (found,) = scanned["devices"]
        assert isinstance(found, Device)
        assert found.attributes["address"] == "tcp://127.0.0.1:1"
        assert manager.get_device_state("drv_echo", found) is S.DISCOVERED
        assert manager.initialize_device("drv_echo", found) == {
            "status": "success",
            "operation": "initialize",
            "driver": "echo",
            "message": f"{found.device_id}: initialized",
            "device_id": found.device_id,
            "state": "initialized",
        }
        assert manager.connect_device("drv_echo", found)["state"] == "connected"
        done = manager.execute_command("drv_echo", "echo", {"value": 4}, device_id=found.device_id)
        assert (done["status"], done["command"], done["result"]["value"]) == ("success", "echo", 4)
        assert manager.get_device_state("drv_echo", found) is S.CONNECTED
        assert manager.device_states == {("echo", found.device_id): S.CONNECTED}
        assert manager.close_device("drv_echo", found)["state"] == "disconnected"
        assert manager.connect_device("drv_echo", found)["state"] == "connected"
        cleaned = manager.cleanup_all_devices()
        assert (cleaned["status"], cleaned["closed"], cleaned["failed"]) == ("success", [found.device_id], [])
        assert manager.get_device_state("drv_echo", found) is S.DISCONNECTED
        assert len(list(home.folder.glob("left-*"))) == 2
    told = [line.replace("->", "-").split("-") for line in manager.get_device_story("echo", found)]
    assert all(S(new.strip()) in PUBLIC_TRANSITIONS[S(old.strip())] for old, *_, new in told)
    assert manager.scan_devices("echo")["devices"] == []
    assert manager.get_device_state("drv_echo", found) is S.UNKNOWN


def test_every_answer_but_its_devices_is_plain_data(manager: DeviceDriverManager) -> None:
    manager.connect_device("echo", device())
    answers = [
        manager.execute_command("echo", "fail"),
        manager.reset_device("echo", device()),
        manager.initialize_device("echo", "nothing/there"),
        manager.cleanup_all_devices(),
    ]
    assert json.loads(json.dumps(answers)) == answers


def test_connecting_finds_and_initialises_what_is_unknown(home: Home, manager: DeviceDriverManager) -> None:
    with home.announced(2):
        scan = manager.scan_devices("echo")
    ids = [found.device_id for found in scan["devices"]]
    with home.announced(2), DeviceDriverManager(home.env) as other:
        assert other.connect_device("echo", SimpleNamespace(device_id=ids[0])).ok
        assert other.connect_device("ECHO", "tcp://127.0.0.1:2").ok
        assert {found for _, found in other.device_states} == set(ids)
        assert other.connect_device("echo", {"device_id": ids[0]}).ok
        missing = other.connect_device("echo", "usb:none")
        assert (missing["status"], missing["error"]["code"]) == ("error", "device_not_found")
        with pytest.raises(ConfigurationError, match="is no device"):
            other.connect_device("echo", object()).check()


def test_what_does_not_fit_the_state_is_refused_with_the_story(manager: DeviceDriverManager) -> None:
    early = manager.execute_command("echo", "echo", device_id="test:1")
    assert (early["state"], early["error"]["code"]) == ("unknown", "illegal_transition")
    assert "connect_device" in early["remedy"]
    manager.initialize_device("echo", device())
    refused = manager.execute_command("echo", "echo", device_id="test:1")
    assert refused["state"] == "initialized"
    assert refused["story"] == ["unknown -found-> discovered", "discovered -initialized-> initialized"]
    assert manager.execute_command("echo", "tea", device_id="test:1")["result"] == "hot"
    manager.connect_device("echo", device())
    twice = manager.initialize_device("echo", device())
    assert "cannot initialize while connected" in twice["message"]
    manager.close_device("echo", device())
    for answer in (manager.reset_device("echo", device()), manager.execute_command("echo", "echo", device_id="test:1")):
        assert (answer["state"], answer["error"]["code"]) == ("disconnected", "illegal_transition")
        assert answer["story"][-1] == "connected -close-> disconnected"
    assert manager.close_device("echo", device()).ok
    assert not manager.close_device("echo", "test:99").ok


def test_an_error_says_which_device_its_state_the_cause_and_what_to_do(manager: DeviceDriverManager) -> None:
    manager.connect_device("echo", device())
    failed = manager.execute_command("echo", "fail", device_id="test:1")
    told = {key: failed[key] for key in ("status", "driver", "device_id", "state", "message", "cause", "remedy")}
    assert told == {
        "status": "error",
        "driver": "echo",
        "device_id": "test:1",
        "state": "error",
        "message": "it smokes",
        "cause": "32 A on phase 2",
        "remedy": "Pull the plug.",
    }
    with pytest.raises(HardwareError, match="it smokes"):
        failed.check()
    assert manager.connect_device("echo", device())["error"]["code"] == "illegal_transition"
    assert manager.reset_device("echo", device())["state"] == "initialized"
    assert manager.initialize_device("echo", device())["state"] == "initialized"
    assert manager.connect_device("echo", device()).ok
    assert manager.execute_command("echo", "echo").check()["result"]["value"] == 0


@pytest.mark.parametrize("step", ["init", "connect"])
def test_a_device_that_fails_on_the_way_is_in_error_and_can_be_given_up(
    home: Home, manager: DeviceDriverManager, step: str
) -> None:
    (home.folder / f"no-{step}").touch()
    failed = manager.connect_device("echo", device())
    assert (failed["status"], failed["state"], failed["device_id"]) == ("error", "error", "test:1")
    assert manager.close_device("echo", device())["state"] == "disconnected"
    (home.folder / f"no-{step}").unlink()
    assert manager.connect_device("echo", device()).ok


def test_a_driver_that_dies_is_started_again_and_the_next_command_waits_for_it(
    home: Home, manager: DeviceDriverManager
) -> None:
    manager.connect_device("echo", device())
    first = manager.execute_command("echo", "echo")["result"]["host"]
    died = manager.execute_command("echo", "die")
    assert (died["error"]["code"], died["error"]["retryable"]) == ("host_died", True)
    assert manager.execute_command("echo", "echo").check()["result"]["host"] != first
    os.kill(home.host(), signal.SIGKILL)
    soon(lambda: manager.get_device_state("echo", device()) is not S.CONNECTED)
    assert manager.reset_device("echo", device()).ok
    assert manager.connect_device("echo", device()).ok


def test_wrong_calls_are_told_apart_from_broken_devices(manager: DeviceDriverManager) -> None:
    manager.connect_device("echo", device())
    assert manager.execute_command("echo", "unlisted")["result"] == "not in the manifest"
    for command, args, code in [
        ("ecco", None, "unknown_command"),
        ("disconnect", None, "unknown_command"),
        ("echo", 3, "bad_configuration"),
        ("echo", {"volume": 3}, "bad_configuration"),
    ]:
        answer = manager.execute_command("echo", command, args)
        assert (answer["status"], answer["state"], answer["error"]["code"]) == ("error", "connected", code), command
    assert manager.execute_command("echo", "echo", [5])["result"]["value"] == 5
    with pytest.raises(DriverNotFound, match="did you mean echo"):
        manager.scan_devices("eccho").check()
    assert manager.scan_devices("")["error"]["code"] == "driver_not_found"


def test_a_command_without_a_device_needs_that_only_one_is_in_use(manager: DeviceDriverManager) -> None:
    assert manager.execute_command("echo", "echo")["error"]["code"] == "device_not_found"
    manager.connect_device("echo", device(1))
    assert manager.execute_command("echo", "which")["result"] == "test:1"
    manager.connect_device("echo", device(2))
    refused = manager.execute_command("echo", "which")
    assert refused["error"]["context"]["devices"] == ["test:1", "test:2"]


def test_configuration_is_given_at_initialisation_and_checked(manager: DeviceDriverManager) -> None:
    wrong = manager.initialize_device("echo", device(), {"loudness": 12})
    assert (wrong["state"], wrong["error"]["code"]) == ("discovered", "bad_configuration")
    assert manager.initialize_device("echo", device(), {"loudness": 11}).ok
    assert "close_device" in manager.initialize_device("echo", device(), {"loudness": 1})["remedy"]
    manager.connect_device("echo", device())
    assert manager.execute_command("echo", "echo")["result"]["loudness"] == 11


def test_a_device_has_one_holder_and_others_are_told_who(home: Home, manager: DeviceDriverManager) -> None:
    book = LeaseBook(Path(home.env["VFAB_HOME"]) / "run" / "leases", "another program")
    with book.acquire("test:1"):
        refused = manager.connect_device("echo", device())
        assert (refused["state"], refused["error"]["code"]) == ("discovered", "device_busy")
        assert f"process {os.getpid()} (another program)" in refused["message"]
    assert manager.connect_device("echo", device()).ok
    with DeviceDriverManager(home.env) as other:
        assert other.connect_device("echo", device())["error"]["code"] == "device_busy"
        assert manager.connect_device("finder", device())["error"]["code"] == "device_busy"
        manager.close_device("echo", device())
        assert other.connect_device("echo", device()).ok


def test_a_driver_that_finds_its_devices_itself_is_asked_and_commanded_as_in_seed_002(
    manager: DeviceDriverManager,
) -> None:
    devices = manager.scan_devices("drv_finder")["devices"]
    assert [(d.device_id, d.name, d.device_type) for d in devices] == [
        ("can0", "CAN 0", "can"),
        ("can1", "CAN 1", "can"),
    ]
    assert devices[0].attributes["bitrate"] == 500000
    assert manager.connect_device("drv_finder", devices[1])["device_id"] == "can1"
    done = manager.execute_command("drv_finder", "start", {"rate": 2}, device_id="can1")
    assert done["result"] == ["can1", "start", {"rate": 2}]
    with DeviceDriverManager(manager._runtime.core._session.env) as other:
        assert other.connect_device("drv_finder", "can0").ok


def test_a_scan_tells_of_its_own_driver_and_of_no_other_plugins_trouble(
    home: Home, manager: DeviceDriverManager
) -> None:
    folder = home.folder / "home" / "plugins"
    (folder / "drv_broken.py").write_text(
        LAMP.replace("return [Device", "raise OSError('no bus')\n        return [Device")
    )
    (folder / "drv_lamp.py").write_text(LAMP)
    scan = manager.scan_devices("drv_lamp")
    assert (scan["count"], scan["problems"]) == (2, [])
    assert manager.scan_devices("drv_broken")["status"] == "error"


def test_a_driver_that_opens_its_device_itself_is_connected_by_its_name(
    home: Home, manager: DeviceDriverManager
) -> None:
    folder = home.folder / "home" / "plugins"
    (folder / "kettle.py").write_text(KETTLE)
    assert "kettle opens its own, called 'kettle'" in manager.scan_devices("kettle")["message"]
    assert manager.connect_device("kettle", "kettle").ok
    assert manager.execute_command("kettle", "heat", {"to": 80})["result"] == [None, 80]
    manager.close_device("kettle", "kettle").check()
    assert manager.connect_device("kettle", "COM3")["device_id"] == "kettle:COM3"
    assert manager.execute_command("kettle", "heat", {"to": 60}, device_id="COM3")["result"] == ["COM3", 60]
    assert manager.connect_device("echo", "COM3")["error"]["code"] == "device_not_found"


def test_a_command_may_be_written_as_the_command_line_has_it(home: Home, manager: DeviceDriverManager) -> None:
    folder = home.folder / "home" / "plugins"
    (folder / "drv_lamp.py").write_text(LAMP.replace('"start":', '"set_power": "Set it", "start":'))
    assert manager.connect_device("drv_lamp", "lamp1").ok
    assert manager.execute_command("drv_lamp", "set_power")["result"] == "lamp1 1 set_power None"
    assert manager.execute_command("drv_lamp", "set-power")["result"] == "lamp1 1 set_power None"


KETTLE = """
class KettleManager:
    def __init__(self, port=None):
        self.port = port
    def connect(self):
        return True
    def disconnect(self):
        pass
    def is_connected(self):
        return True
    def test_connection(self):
        return {"success": True, "message": "boils"}
    def heat(self, to: int):
        return [self.port, to]

def is_kettle_available():
    return True

def create_kettle_manager(**kwargs):
    return KettleManager(**kwargs)
"""

LAMP = """
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.models.Device_Model import Device


class LampDriver(BaseDeviceDriver):
    def __init__(self):
        super().__init__()
        self.supported_commands = {"start": "Switch it on", "status": "Say how it is", "boom": "Fail"}

    def _scan_impl(self):
        return [Device(device_id=f"lamp{n}", attributes={"socket": n}) for n in range(2)]

    def _connect_impl(self, device):
        return True

    def _command_impl(self, device, command, args=None):
        if command == "boom":
            raise RuntimeError("the bulb broke")
        return f"{device.device_id} {device.attributes['socket']} {command} {args}"
"""


def test_a_plugin_as_seed_002_shows_it_runs_under_the_manager_that_seed_002_shows(
    home: Home, manager: DeviceDriverManager
) -> None:
    folder = home.folder / "home" / "plugins" / "devices" / "lamp"
    folder.mkdir(parents=True)
    (folder / "drv_lamp.py").write_text(LAMP)
    lamp = manager.scan_devices("drv_lamp").check()["devices"][1]
    assert (lamp.device_id, lamp.attributes["socket"]) == ("lamp1", 1)
    assert manager.initialize_device("drv_lamp", lamp)["state"] == "initialized"
    assert manager.connect_device("drv_lamp", lamp)["state"] == "connected"
    started = manager.execute_command("drv_lamp", "start", {"dim": 3}, device_id=lamp.device_id)
    assert started["result"] == "lamp1 1 start {'dim': 3}"
    assert "status" in manager.execute_command("drv_lamp", "glow", device_id="lamp1")["remedy"]
    broken = manager.execute_command("drv_lamp", "boom", device_id="lamp1")
    assert (broken["state"], broken["cause"]) == ("error", "the bulb broke")
    assert manager.reset_device("drv_lamp", lamp)["state"] == "initialized"
    assert manager.close_device("drv_lamp", lamp)["state"] == "disconnected"


# -- side by side -----------------------------------------------------------------------------------------------------


def test_a_slow_command_keeps_its_own_device_only(home: Home, manager: DeviceDriverManager) -> None:
    gate = home.folder / "gate"
    for number in (1, 2):
        manager.connect_device("echo", device(number))
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(manager.execute_command, "echo", "wait", {"path": str(gate)}, "test:1")
        soon(Path(f"{gate}.began").exists)
        assert manager.get_device_state("echo", "test:1") is S.ACTIVE
        assert manager.execute_command("echo", "echo", {"value": 2}, "test:2")["result"]["value"] == 2
        assert manager.execute_command("echo", "which", None, "test:1")["result"] == "test:1", "it may run beside"
        waiting = pool.submit(manager.execute_command, "echo", "echo", {"value": 1}, "test:1")
        assert not waiting.done()
        gate.touch()
        assert slow.result(10)["result"] == "let go"
        assert waiting.result(10)["result"]["value"] == 1


def test_closing_a_device_ends_what_it_does(home: Home, manager: DeviceDriverManager) -> None:
    gate = home.folder / "gate"
    manager.connect_device("echo", device())
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(manager.execute_command, "echo", "wait", {"path": str(gate)}, "test:1")
        soon(Path(f"{gate}.began").exists)
        next_in_turn = pool.submit(manager.execute_command, "echo", "echo", None, "test:1")
        assert manager.close_device("echo", device())["state"] == "disconnected"
        assert slow.result(10)["error"]["code"] == "cancelled"
        assert next_in_turn.result(10)["error"]["code"] == "illegal_transition"
    assert len(list(home.folder.glob("left-*"))) == 1


def test_a_command_may_take_no_longer_than_its_caller_says(home: Home, manager: DeviceDriverManager) -> None:
    manager.connect_device("echo", device())
    late = manager.execute_command("echo", "wait", [str(home.folder / "gate")], timeout_s=0.1)
    assert (late["error"]["code"], late["state"]) == ("timeout", "error")
    assert manager.reset_device("echo", device()).ok


# -- event loops ------------------------------------------------------------------------------------------------------


def test_asyncio_programs_await_the_same_operations_and_cancel_them(home: Home, manager: DeviceDriverManager) -> None:
    async def program() -> None:
        aio = manager.aio
        assert (await aio.scan_devices("echo"))["status"] == "success"
        assert (await aio.initialize_device("echo", device())).ok
        assert (await aio.connect_device("echo", device())).ok
        gate = home.folder / "gate"
        slow = asyncio.create_task(aio.execute_command("echo", "wait", {"path": str(gate)}))
        while not Path(f"{gate}.began").exists():  # our own loop goes on meanwhile
            await asyncio.sleep(0.01)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert (await aio.execute_command("echo", "echo", {"value": 6}))["result"]["value"] == 6
        assert (await aio.reset_device("echo", device())).ok
        assert manager.execute_command("echo", "which")["result"] == "test:1", "a blocking call only blocks its caller"
        assert (await aio.close_device("echo", device())).ok
        assert (await aio.cleanup_all_devices())["closed"] == []
        await aio.close()
        assert (await aio.cleanup_all_devices()).ok
        assert not (await aio.scan_devices("echo")).ok

    asyncio.run(program())


def test_listeners_hear_everything_and_may_not_wait_for_the_manager(home: Home) -> None:
    heard: list[DriverEvent] = []
    answers: list[object] = []

    def listen(event: DriverEvent) -> None:
        heard.append(event)
        if event.data.get("to") == "connected":
            answers.append(manager.execute_command("echo", "echo"))
            manager.close()  # which does not wait here, either

    manager = DeviceDriverManager(home.env, on_event=listen)
    manager.connect_device("echo", device())
    manager.close()
    assert [event.data["device_state"] for event in heard if event.event_type == "state_changed"][-1] == "disconnected"
    assert answers[0]["error"]["code"] == "refused"  # type: ignore[index]


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_closed_manager_refuses_and_closing_twice_is_fine(home: Home) -> None:
    manager = DeviceDriverManager(home.env)
    assert manager.cleanup_all_devices()["closed"] == []
    manager.close()
    with DeviceDriverManager(home.env) as manager:
        manager.connect_device("echo", device())
        closers = [threading.Thread(target=manager.close) for _ in range(3)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(20)
        assert not home.processes()
        refused = manager.connect_device("echo", device())
        assert (refused["status"], refused["message"]) == ("error", "the manager is closed")
        assert manager.cleanup_all_devices()["status"] == "success"
        assert manager.get_device_state("echo", device()) is S.DISCONNECTED
    LeaseBook(Path(home.env["VFAB_HOME"]) / "run" / "leases").acquire("test:1").release()


def test_operations_under_way_end_with_the_manager(home: Home) -> None:
    gate = home.folder / "gate"
    manager = DeviceDriverManager(home.env)
    manager.connect_device("echo", device())
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(manager.execute_command, "echo", "wait", {"path": str(gate)})
        soon(Path(f"{gate}.began").exists)
        manager.close()
        assert slow.result(10)["error"]["code"] == "cancelled"


def test_a_manager_that_is_dropped_leaves_nothing_behind(home: Home) -> None:
    manager = DeviceDriverManager(home.env)
    manager.connect_device("echo", device())
    assert home.processes()
    del manager
    gc.collect()
    soon(lambda: not home.processes())
    assert len(list(home.folder.glob("left-*"))) == 1


PROGRAM = """
import os, sys
from vfab import DeviceDriverManager
from vfab.model.devices import DeviceInfo
manager = DeviceDriverManager()
device = DeviceInfo(id="test:1", bus="test", address="/dev/null")
assert manager.connect_device("echo", device).ok
if sys.argv[1] == "fork":
    child = os.fork()
    if child == 0:
        answer = manager.execute_command("echo", "echo")
        manager.close()
        os._exit(0 if "after the fork" in answer["remedy"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert manager.execute_command("echo", "echo").ok
if sys.argv[1] == "raise":
    raise SystemExit("the program fails")
"""


@pytest.mark.parametrize("how", ["forget", "raise", "fork"])
def test_a_program_that_ends_without_closing_leaves_devices_safe_and_no_process(home: Home, how: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, how]
    done = subprocess.run(command, env=home.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (1 if how == "raise" else 0), done.stderr
    assert done.stderr.strip() == ("the program fails" if how == "raise" else "")
    assert not home.processes(), "closing was waited for"
    assert len(list(home.folder.glob("left-*"))) == 1


def test_importing_vfab_loads_nothing_of_the_manager() -> None:
    code = "import sys, vfab; print(sorted(m for m in sys.modules if m.startswith('vfab.') or m == 'asyncio'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    import vfab

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = vfab.Nonsense


def test_the_bench_measures_a_command_beside_the_bare_channel() -> None:
    from vfab.apps.bench import run_bench

    made = run_bench(quick=True, only=["manager_command_us"])
    assert made["manager_command_us"]["p50"] > 0
    assert list(made["peers"]) == ["blocking channel, no states"]


def test_who_holds_a_devices_lock_has_it_to_himself(home: Home, manager: DeviceDriverManager) -> None:
    with pytest.raises(ConfigurationError, match="was seen"), manager._get_device_lock(("echo", "nobody")):
        pass
    assert manager.connect_device("echo", device())["status"] == "success"
    assert manager.connect_device("echo", device(2))["status"] == "success"
    with ThreadPoolExecutor(2) as others:
        with manager._get_device_lock(("drv_echo", device())):
            waiting = others.submit(manager.execute_command, "echo", "echo", {"value": 1}, device().id)
            beside = others.submit(manager.execute_command, "echo", "echo", {"value": 2}, device(2).id)
            assert beside.result(60)["result"]["value"] == 2
            assert not waiting.done()
        assert waiting.result(60)["result"]["value"] == 1
