from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from vfab.kernel.addresses import device_at, find_device, is_address
from vfab.kernel.detection import DetectionHandler, DetectionRegistry
from vfab.kernel.detector import DeviceDetector, default_detection
from vfab.kernel.node_access import User, check_node, udev_rule
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry
from vfab.kernel.serial_ports import SerialHandler
from vfab.kernel.simulators import Announcement, SimulatorHandler, _started, announce_simulator, simulators_folder
from vfab.kernel.usb import UsbHandler
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DeviceNotFound, PermissionRefused
from vfab.sdk.testing import patience

ANYBODY = User("ada", frozenset({100}), lambda gid: f"group{gid}", lambda group: False, lambda path: True)
NOBODY = User("ada", frozenset({100}), lambda gid: "dialout", lambda group: False, lambda path: False)


def device(own: str, address: str = "", **more: Any) -> DeviceInfo:
    return DeviceInfo(**{"id": own, "bus": "test", "address": address or f"/dev/{own}", **more})


class Handler(DetectionHandler):
    def __init__(self, name: str, *devices: DeviceInfo, priority: int = 0, error: BaseException | None = None) -> None:
        super().__init__(name, priority)
        self.devices = list(devices)
        self.error = error
        self.asked = 0

    def find(self) -> list[DeviceInfo]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.devices


class Hanging(DetectionHandler):
    def __init__(self, name: str = "hanging", timeout_s: float = 0.05) -> None:
        super().__init__(name, timeout_s=timeout_s)
        self.go_on = threading.Event()
        self.started = 0
        self.ended = threading.Event()

    def find(self) -> list[DeviceInfo]:
        self.started += 1
        self.go_on.wait(20)
        self.ended.set()
        return [device("late")]


def detection(*handlers: DetectionHandler, **options: Any) -> DetectionRegistry:
    registry = DetectionRegistry(**options)
    for handler in handlers:
        registry.register_handler(handler)
    return registry


# --- handlers side by side ---------------------------------------------------------------------------------------


def test_a_handler_that_fails_hides_no_other() -> None:
    result = detection(
        Handler("good", device("a")),
        Handler("bad", error=RuntimeError("boom")),
        Handler("refused", error=PermissionRefused("no", remedy="ask")),
    ).scan()
    assert [d.id for d in result.devices] == ["a"]
    told = {problem.handler: (problem.message, problem.remedy) for problem in result.problems}
    assert told["bad"][0] == "bad: RuntimeError: boom"
    assert told["refused"] == ("refused: no", "ask")


def test_a_handler_that_hangs_is_left_behind_and_named_and_not_started_twice() -> None:
    hanging = Hanging()
    registry = detection(hanging, Handler("good", device("a")), ttl_s=0)
    result = registry.scan()
    assert [d.id for d in result.devices] == ["a"]
    assert [problem.handler for problem in result.problems] == ["hanging"]
    assert "no answer after" in result.problems[0].message
    assert result.elapsed_s < patience(10)
    assert [problem.handler for problem in registry.scan().problems] == ["hanging"]
    assert hanging.started == 1
    hanging.go_on.set()
    assert hanging.ended.wait(10)


def test_a_handler_that_came_to_life_again_is_asked_again() -> None:
    hanging = Hanging(timeout_s=0.02)
    registry = detection(hanging, ttl_s=0)
    registry.scan()
    hanging.go_on.set()
    (thread,) = [t for t in threading.enumerate() if t.name == "detect-hanging"] or [threading.current_thread()]
    if thread is not threading.current_thread():
        thread.join(10)
    hanging.timeout_s = 10
    result = registry.scan()
    assert ([d.id for d in result.devices], result.problems) == (["late"], ())


def test_one_answer_in_time_and_one_too_late() -> None:
    quick, slow = Hanging("quick", 10), Hanging("slow", 0.02)
    quick.go_on.set()
    result = detection(quick, slow).scan()
    assert [problem.handler for problem in result.problems] == ["slow"]
    slow.go_on.set()


def test_a_result_is_kept_for_its_time_to_live() -> None:
    now = [0.0]
    handler = Handler("h", device("a"))
    registry = detection(handler, ttl_s=2.0, clock=lambda: now[0])
    first = registry.scan()
    now[0] = 1.9
    assert registry.scan() is first
    assert registry.scan(refresh=True) is not first
    now[0] = 4.0
    registry.scan()
    assert handler.asked == 3


def test_a_handler_of_the_same_name_replaces_the_old_one_and_priority_orders_them() -> None:
    registry = detection(Handler("a"), Handler("b", priority=5), Handler("a", device("x"), priority=9))
    assert [handler.name for handler in registry.handlers] == ["a", "b"]
    assert [d.id for d in registry.scan().devices] == ["x"]


def test_the_same_device_found_twice_is_one_described_by_the_higher_priority() -> None:
    first = device("a", vid="04d8", attributes={"x": "1"})
    second = device("a", vid="0000", product="Board", attributes={"x": "2", "y": "3"})
    (found,) = detection(Handler("low", second), Handler("high", first, priority=1)).scan().devices
    assert (found.vid, found.product, found.attributes) == ("04d8", "Board", {"x": "1", "y": "3"})


def test_boards_that_share_a_serial_number_are_told_apart_by_their_port() -> None:
    twins = [device("t", f"/dev/tty{n}", attributes={"location": f"1-{n}"}) for n in (1, 2)]
    assert [d.id for d in detection(Handler("h", *twins)).scan().devices] == ["t@1-1", "t@1-2"]
    bare = [device("t", f"/dev/tty{n}") for n in (1, 2)]
    assert [d.id for d in detection(Handler("h", *bare)).scan().devices] == ["t@/dev/tty1", "t@/dev/tty2"]


def test_the_result_has_seed_001s_shape() -> None:
    registry = detection(Handler("full", device("a"), device("b", accessible=False)), Handler("empty"))
    seed = registry.detect_all()
    assert list(seed) == ["full"]
    assert (seed["full"]["count"], seed["full"]["accessible"]) == (2, True)
    assert [d["id"] for d in seed["full"]["devices"]] == ["a", "b"]
    assert registry.handlers[0].detect()["count"] == 2
    plain = registry.scan().to_dict()
    assert msgspec.json.encode(plain)
    assert [d["id"] for d in plain["devices"]] == ["a", "b"]


def test_a_handler_written_after_seed_001_works() -> None:
    class Seed(DetectionHandler):
        def detect(self) -> dict[str, Any]:
            devices = [
                {"port": "/dev/ttyS9", "description": "a port", "manufacturer": None},
                {"host": "192.0.2.1", "port": 80, "responsive": True},
                {"device_id": "x1", "device_name": "X", "id": "own"},
            ]
            return {"count": 3, "accessible": True, "devices": devices}

        def is_compatible(self, device_info: DeviceInfo) -> bool:
            return True

    found = {d.id: d for d in detection(Seed("seed", 3)).scan().devices}
    assert found["seed:/dev/ttyS9"].name == "a port"
    assert found["seed:tcp://192.0.2.1:80"].address == "tcp://192.0.2.1:80"
    assert found["own"].name == "X"


def test_a_handler_that_does_nothing_says_so() -> None:
    handler = DetectionHandler("lazy")
    assert "neither find() nor detect()" in detection(handler).scan().problems[0].message
    assert handler.is_compatible(device("a", bus="lazy"))
    assert not handler.is_compatible(device("a"))


# --- USB ---------------------------------------------------------------------------------------------------------


def plug(sysfs: Path, dev: Path, port: str, ttys: tuple[str, ...] = (), style: str = "acm", **attributes: str) -> None:
    """A USB device as sysfs shows it, and its nodes."""
    node = sysfs / port
    node.mkdir(parents=True)
    values = {"bDeviceClass": "02", "idVendor": "04d8", "idProduct": "fd92", "busnum": "1", "devnum": "7"}
    for key, value in {**values, **attributes}.items():
        (node / key).write_text(value + "\n", encoding="utf-8")
    for number, tty in enumerate(ttys):
        interface = node / f"{port}:1.{number}"
        (interface / ("tty" if style == "acm" else f"{tty}/tty") / tty).mkdir(parents=True)
        (sysfs / interface.name).mkdir()
        (dev / tty).parent.mkdir(exist_ok=True, parents=True)
        (dev / tty).touch()
    raw = dev / "bus" / "usb" / "001" / values["devnum"].zfill(3)
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.touch()


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "sys", tmp_path / "dev"


def test_a_usb_device_with_a_serial_port_is_addressed_by_the_port(tree: tuple[Path, Path]) -> None:
    plug(*tree, "1-1.2", ("ttyACM0",), serial="A 1", product="EiBotBoard", manufacturer="SchmalzHaus")
    (found,) = UsbHandler(*tree, user=ANYBODY).find()
    assert found.id == "usb:04d8:fd92:A_1"
    assert found.address == str(tree[1] / "ttyACM0")
    assert (found.name, found.manufacturer, found.accessible) == ("EiBotBoard", "SchmalzHaus", True)
    assert found.attributes["location"] == "1-1.2"


def test_a_usb_device_without_a_port_is_addressed_by_its_node(tree: tuple[Path, Path]) -> None:
    plug(*tree, "1-3", idVendor="046D", serial="9")
    (found,) = UsbHandler(*tree, user=ANYBODY).find()
    assert (found.id, found.vid) == ("usb:046d:fd92:9", "046d")
    assert found.address == str(tree[1] / "bus/usb/001/007")
    assert found.name == "USB device 046d:fd92"


def test_identical_boards_without_a_serial_number_keep_their_ids_by_their_port(tree: tuple[Path, Path]) -> None:
    plug(*tree, "1-1", ("ttyACM1",))
    plug(*tree, "1-2", ("ttyACM0",))
    assert [d.id for d in UsbHandler(*tree, user=ANYBODY).find()] == ["usb:04d8:fd92:@1-1", "usb:04d8:fd92:@1-2"]


def test_a_device_with_several_ports_is_one_device_a_port(tree: tuple[Path, Path]) -> None:
    plug(*tree, "1-1", ("ttyUSB0", "ttyUSB1"), "usb-serial", serial="FT")
    found = UsbHandler(*tree, user=ANYBODY).find()
    assert [d.id for d in found] == ["usb:04d8:fd92:FT:if1.0", "usb:04d8:fd92:FT:if1.1"]
    assert [Path(d.address).name for d in found] == ["ttyUSB0", "ttyUSB1"]


def test_hubs_and_half_gone_devices_are_left_out(tree: tuple[Path, Path]) -> None:
    plug(*tree, "usb1", bDeviceClass="09")
    (tree[0] / "1-9").mkdir()
    assert UsbHandler(*tree).find() == []


def test_where_usb_cannot_be_listed_the_loss_is_told(tmp_path: Path) -> None:
    handler = UsbHandler(tmp_path / "none", platform="darwin")
    result = detection(handler).scan()
    assert result.devices == ()
    assert "Linux only" in result.limitations["usb"]
    assert UsbHandler(tmp_path, platform="linux").limitation() == ""
    assert handler.is_compatible(device("a", bus="usb"))


# --- permission --------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "ttyACM0"
    path.touch()
    path.chmod(0o660)
    os.chown(path, -1, os.getegid()) if os.geteuid() else os.chown(path, 0, 20)
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to a group")
def test_who_may_not_open_a_port_is_told_the_group_to_join_and_the_rule_to_write(node: Path) -> None:
    access = check_node(str(node), NOBODY, vid="04d8", pid="fd92")
    assert not access.accessible
    assert "ada may not open" in access.problem
    assert "sudo usermod -aG dialout ada, then log out and in again" in access.remedy
    assert udev_rule("04d8", "fd92") in access.remedy
    assert check_node(str(node), NOBODY).remedy.endswith("log out and in again.")
    listed = User("ada", frozenset(), lambda gid: "dialout", lambda group: True, lambda path: False)
    assert "joined dialout after logging in" in check_node(str(node), listed).remedy
    member = User("ada", frozenset({20}), lambda gid: "dialout", lambda group: True, lambda path: False)
    assert "is in dialout already" in check_node(str(node), member).remedy


def test_a_node_that_no_group_may_open_needs_a_rule(node: Path) -> None:
    node.chmod(0o600)
    assert "/etc/udev/rules.d/60-vfab.rules" in check_node(str(node), NOBODY, vid="04d8", pid="fd92").remedy
    assert "Ask the administrator for a udev rule" in check_node(str(node), NOBODY).remedy


def test_a_node_that_is_not_there_is_not_accessible(tmp_path: Path) -> None:
    assert "does not exist" in check_node(str(tmp_path / "none"), ANYBODY).problem
    (tmp_path / "file").touch()
    assert "cannot be looked at" in check_node(str(tmp_path / "file" / "x"), ANYBODY).problem


def test_this_processs_user_is_known(node: Path) -> None:
    me = User.current()
    assert me.name
    assert os.getegid() in me.groups
    assert check_node(str(node), me).accessible
    assert me.group_name(2**31 - 5) == str(2**31 - 5)
    assert me.group_name(0)
    assert not me.is_listed("no-such-group")
    assert me.is_listed(me.group_name(os.getegid())) in {True, False}


# --- serial ports ------------------------------------------------------------------------------------------------


def port(device: str, **more: Any) -> SimpleNamespace:
    blank = dict.fromkeys(["vid", "pid", "serial_number", "location", "product", "manufacturer"])
    return SimpleNamespace(device=device, **{**blank, "description": "n/a", "hwid": "n/a", **more})


def test_a_serial_port_of_a_usb_device_has_the_id_that_usb_gives_it(tree: tuple[Path, Path]) -> None:
    plug(*tree, "1-1", ("ttyACM0",), serial="S")
    address = str(tree[1] / "ttyACM0")
    by_id = tree[1] / "serial" / "by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-EBB-if00").symlink_to(address)
    serial = SerialHandler(
        lambda: [port(address, vid=0x04D8, pid=0xFD92, serial_number="S", location="1-1:1.0", product="EBB")],
        by_id,
        user=ANYBODY,
    )
    result = detection(UsbHandler(*tree, user=ANYBODY), serial).scan()
    (found,) = result.devices
    assert found.id == "usb:04d8:fd92:S"
    assert found.product == "EBB"
    assert found.attributes["by_id"] == str(by_id / "usb-EBB-if00")
    assert len(result.found_by["serial"]) == len(result.found_by["usb"]) == 1
    assert find_device(str(by_id / "usb-EBB-if00"), result.devices) is found


def test_several_ports_of_one_device_are_told_apart(tmp_path: Path) -> None:
    ports = [port(f"/dev/ttyUSB{n}", vid=1, pid=2, location=f"1-1:1.{n}") for n in (1, 0)]
    found = SerialHandler(lambda: ports, tmp_path / "none", user=ANYBODY).find()
    assert [d.id for d in found] == ["usb:0001:0002:@1-1:if1.0", "usb:0001:0002:@1-1:if1.1"]


def test_a_port_that_is_not_usb_is_named_by_its_link_or_itself(tmp_path: Path) -> None:
    (tmp_path / "tty1").touch()
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "pci-uart").symlink_to(tmp_path / "tty1")
    ports = [port(str(tmp_path / "tty1"), description="UART"), port("/dev/ttyS7")]
    handler = SerialHandler(lambda: ports, tmp_path / "by-id", user=ANYBODY)
    found = {d.id: d for d in handler.find()}
    assert set(found) == {"serial:by-id/pci-uart", "serial:ttyS7"}
    assert found["serial:by-id/pci-uart"].name == "UART"
    assert not found["serial:ttyS7"].accessible
    assert handler.is_compatible(found["serial:ttyS7"])
    assert handler.is_compatible(device("x", "/dev/ttyACM0", bus="usb"))
    assert not handler.is_compatible(device("x", "/dev/video0", bus="usb"))


def test_a_usb_port_without_a_location_is_known_by_its_name(tmp_path: Path) -> None:
    ports = [port("/dev/cu.usbmodem1", vid=1, pid=2)]
    (found,) = SerialHandler(lambda: ports, tmp_path, user=ANYBODY).find()
    assert found.id == "usb:0001:0002:@cu.usbmodem1"


def test_this_machines_ports_can_be_listed() -> None:
    assert isinstance(SerialHandler().find(), list)


# --- simulators --------------------------------------------------------------------------------------------------


def test_a_simulator_that_announces_itself_is_found_until_it_ends(tmp_path: Path) -> None:
    folder = simulators_folder({"VFAB_HOME": str(tmp_path)})
    handler = SimulatorHandler(folder)
    assert handler.find() == []
    with announce_simulator("axidraw", "/dev/pts/5", folder=folder, vid="04D8", pid_usb="FD92", product="EBB") as said:
        assert said.pid == os.getpid()
        (found,) = handler.find()
        assert found.id == f"sim:axidraw:{os.getpid()}"
        assert (found.bus, found.address, found.vid, found.pid) == ("simulator", "/dev/pts/5", "04d8", "fd92")
        assert folder.stat().st_mode & 0o777 == 0o700
        with announce_simulator("axidraw", "/dev/pts/6", folder=folder):
            assert [d.id for d in handler.find()] == [found.id + "-2", found.id]
    assert handler.find() == []
    assert list(folder.iterdir()) == []


def test_what_a_killed_simulator_left_behind_is_removed(tmp_path: Path) -> None:
    with announce_simulator("a", "/dev/pts/5", folder=tmp_path) as said:
        alive = msgspec.to_builtins(said)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left: dict[str, dict[str, Any]] = {"dead": {"pid": int(ended.stdout)}, "reused": {"started": "1"}}
    for name, changes in left.items():
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode({**alive, **changes}))
    (tmp_path / "living.json").write_bytes(msgspec.json.encode(alive))
    (tmp_path / "garbage.json").write_text("{", encoding="utf-8")
    tmp_path.chmod(0o700)
    assert [d.id for d in SimulatorHandler(tmp_path).find()] == ["sim:a:living"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["garbage.json", "living.json"]


def test_without_proc_a_process_is_known_by_the_systems_own_list(tmp_path: Path) -> None:
    first = _started(os.getpid(), tmp_path)
    assert first == _started(os.getpid(), tmp_path)
    assert first
    assert _started(2**22 + 1, tmp_path) is None


def test_a_folder_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="other users may write"):
        SimulatorHandler(tmp_path).find()


def test_an_announcement_is_plain_json() -> None:
    said = Announcement(name="a", address="b", pid=1, started="2")
    assert msgspec.json.decode(msgspec.json.encode(said))["pid_usb"] == ""


# --- find_device -------------------------------------------------------------------------------------------------

SOME = [
    device("usb:04d8:fd92:A", "/dev/ttyACM0"),
    device("usb:04d8:fd92:B", "/dev/ttyACM1"),
    device("tcp:h:1", "tcp://h:1"),
    device("sim:axidraw:77", "/dev/pts/77"),
]


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("usb:04d8:fd92:A", "usb:04d8:fd92:A"),
        ("/dev/ttyACM1", "usb:04d8:fd92:B"),
        ("sim:", "sim:axidraw:77"),
        (" sim:axi ", "sim:axidraw:77"),
        ("tcp://h:1", "tcp:h:1"),
        ("tcp://h:1/", "tcp:h:1"),
    ],
)
def test_a_device_is_meant_by_its_id_its_beginning_or_its_address(text: str, own: str) -> None:
    assert find_device(text, SOME).id == own


def test_a_link_to_a_node_means_the_device_of_the_node(tmp_path: Path) -> None:
    (tmp_path / "node").touch()
    (tmp_path / "link").symlink_to("node")
    known = device("x", str(tmp_path / "node"))
    assert find_device(str(tmp_path / "link"), [known]) is known


def test_a_beginning_does_not_end_within_a_number() -> None:
    assert find_device("serial:tty", [device("serial:ttyS10", "/dev/ttyS10")]).id == "serial:ttyS10"
    with pytest.raises(DeviceNotFound, match="did you mean serial:ttyS10"):
        find_device("serial:ttyS1", [device("serial:ttyS10", "/dev/ttyS10")])


def test_a_beginning_of_several_ids_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="begins 2 device ids"):
        find_device("usb:", SOME)


@pytest.mark.parametrize("text", ["usb:04d8:fd92:X", "zzzzzzzz", "", "/dev/no-such-node"])
def test_what_means_no_device_is_refused(text: str) -> None:
    with pytest.raises(DeviceNotFound):
        find_device(text, SOME)


def test_near_ids_are_told() -> None:
    with pytest.raises(DeviceNotFound, match="did you mean sim:axidraw:77") as caught:
        find_device("sim:axidrow:77", SOME)
    assert caught.value.context["near"][0] == "sim:axidraw:77"


@pytest.mark.parametrize(
    ("address", "own", "plain"),
    [
        ("tcp://127.0.0.1:4000", "tcp:127.0.0.1:4000", "tcp://127.0.0.1:4000"),
        ("tcp://[::1]:4000/", "tcp:[::1]:4000", "tcp://[::1]:4000"),
        ("tcp://plotter.local:5", "tcp:plotter.local:5", "tcp://plotter.local:5"),
    ],
)
def test_an_address_given_by_hand_is_a_device_of_its_own(address: str, own: str, plain: str) -> None:
    found = find_device(address, [])
    assert (found.id, found.address, found.bus) == (own, plain, "tcp")


@pytest.mark.parametrize("address", ["tcp://h", "tcp://h:0", "tcp://h:99999", "ftp://h:1", "tcp://a b/c:1"])
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    assert is_address(address)
    with pytest.raises(ConfigurationError, match="is not an address") as caught:
        device_at(address)
    assert "tcp://host:port" in caught.value.remedy


@pytest.fixture
def terminal() -> Iterator[str]:
    ours, theirs = pty.openpty()
    yield os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def test_a_pseudo_terminal_given_by_hand_is_a_device(terminal: str, tmp_path: Path) -> None:
    found = device_at(terminal)
    assert (found.id, found.bus, found.accessible) == (f"pty:{terminal.removeprefix('/dev/')}", "pty", True)
    by_id = tmp_path / "serial" / "by-id"
    by_id.mkdir(parents=True)
    (by_id / "board").symlink_to(terminal)
    found = device_at(str(by_id / "board"), user=NOBODY)
    assert (found.id, found.address, found.accessible) == ("pty:by-id/board", terminal, False)
    assert device_at("/dev/null").bus == "serial"


def test_a_plain_file_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="not a device node"):
        device_at(str(tmp_path / "file"))


# --- together ----------------------------------------------------------------------------------------------------

PLUGIN = "name: my-plotter\nversion: '1'\nauthor: me\ndescription: d\ndriver_class: driver.D\nmatch: [{vid: '04d8'}]\n"


@pytest.fixture
def drivers(tmp_path: Path) -> DriverRegistry:
    folder = tmp_path / "plugins" / "p"
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(PLUGIN, encoding="utf-8")
    (folder / "driver.py").touch()
    return DriverRegistry(Places.only(tmp_path / "plugins"))


def test_devices_carry_the_drivers_that_fit_and_seed_001s_detector_works_for_any_driver(
    drivers: DriverRegistry,
) -> None:
    registry = detection(Handler("h", device("a", vid="04d8", name="A"), device("b")))
    detector = DeviceDetector(drivers, registry)
    assert [d.drivers for d in detector.scan().devices] == [("my-plotter",), ()]
    assert detector.find_device("a").drivers == ("my-plotter",)
    found = detector.detect_my_plotter_devices()
    assert found == detector.detect_devices("my-plotter")
    assert {key: value for key, value in found.items() if key != "devices"} == {
        "count": 1,
        "installed": True,
        "device_id": "a",
        "device_name": "A",
        "accessible": True,
    }
    assert [d["id"] for d in found["devices"]] == ["a"]


def test_no_device_is_seed_001s_empty_result(drivers: DriverRegistry) -> None:
    found = DeviceDetector(drivers, detection()).detect_devices("my-plotter")
    assert (found["count"], found["device_id"], found["accessible"], found["devices"]) == (0, "", False, [])


def test_the_detector_has_no_other_attributes(drivers: DriverRegistry) -> None:
    detector = DeviceDetector(drivers, detection())
    with pytest.raises(AttributeError, match="there is no driver 'camera'"):
        detector.detect_camera_devices()
    with pytest.raises(AttributeError, match="has no attribute"):
        detector.something_else()


def test_the_detection_of_this_machine_finds_an_announced_simulator(tmp_path: Path) -> None:
    env = {"VFAB_HOME": str(tmp_path)}
    registry = default_detection(env)
    kinds = {"usb", "serial", "simulator", "v4l2", "can", "i2c", "gpio", "spi", "iio", "usbtmc", "tcp", "genicam"}
    assert {handler.name for handler in registry.handlers} == {*kinds, "mdns", "visa", "identify"}
    with announce_simulator("axidraw", "/dev/pts/1", folder=simulators_folder(env)):
        result = registry.scan()
    assert f"sim:axidraw:{os.getpid()}" in {d.id for d in result.devices}
    assert result.problems == ()
