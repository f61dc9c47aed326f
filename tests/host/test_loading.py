"""What can go wrong while a plugin is loaded, and what a driver says before it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hosting import alive, children, rig, write_plugin
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DependencyError, DriverError, DriverFailed, HardwareError, Refused, TimeoutExceeded
from vfab.model.lifecycle import DriverState

GOOD = "class D(BaseDriver):\n    @command\n    def ok(self): return 1\n"

BAD: list[tuple[str, str, dict[str, Any], type[DriverError], str]] = [
    ("no module", GOOD, {"driver_class": "other.D"}, DependencyError, "other.py is not there"),
    ("no class", GOOD, {"driver_class": "driver.E"}, DriverFailed, "has no class E"),
    ("syntax error", "class D(BaseDriver:\n", {}, DriverFailed, "SyntaxError"),
    ("import fails", "import no_such_module\n", {}, DependencyError, "no_such_module"),
    ("import exits", "sys.exit(5)\n", {}, DriverFailed, "sys.exit"),
    ("wrong class", "class D: pass\n", {}, DriverFailed, "is not a driver"),
    ("not a class", "D = 3\n", {}, DriverFailed, "is not a driver"),
    (
        "constructor raises",
        "class D(BaseDriver):\n    def __init__(self, e): raise HardwareError('no', context={'o': object()})\n",
        {},
        HardwareError,
        "no",
    ),
    (
        "opens a link too early",
        "class D(BaseDriver):\n    def __init__(self, e):\n        super().__init__(e)\n        self.open_link()\n",
        {},
        Refused,
        "while the driver is constructed",
    ),
    ("no method", GOOD, {"commands": {"go": {"help": "Go."}}}, DriverError, "no method go"),
]


@pytest.mark.parametrize(("source", "fields", "kind", "text"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_plugin_that_cannot_be_loaded_says_why_and_leaves_no_process(
    tmp_path: Path, source: str, fields: dict[str, Any], kind: type[DriverError], text: str
) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(source, **fields)
            with pytest.raises(kind, match=text) as told:
                await device.initialize()
            assert told.value.driver_name == "mine"
            assert device.state is DriverState.ERROR
            await r.until(lambda: device.pid is None)
            with pytest.raises(kind, match=text):
                await device.reset()
            await device.close()

    asyncio.run(main())


def test_a_plugin_that_hangs_while_it_is_imported_is_ended_and_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt("threading.Event().wait(3600)\n", runtime={"start_timeout_s": 0.3})
            with pytest.raises(TimeoutExceeded, match="was not loaded within"):
                await device.initialize()
            await r.until(lambda: device.pid is None)

    asyncio.run(main())


def test_a_plugin_that_dies_while_it_is_imported_is_started_again_and_then_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt("print('last words'); os._exit(9)\n")
            with pytest.raises(DriverError, match="exit status 9"):
                await device.initialize()
            await r.until(lambda: bool(r.of("gave_up")))
            assert len(r.of("restart_planned")) == 8
            assert "last words" in r.of("host_died")[-1].data["context"]["last_lines"]

    asyncio.run(main())


def test_what_is_logged_and_emitted_while_loading_comes_after_the_handshake(tmp_path: Path) -> None:
    source = """
    import logging
    logging.warning("while importing")
    class D(BaseDriver):
        def __init__(self, environment):
            super().__init__(environment)
            self.log.info("while constructed")
            self.emit("hello", n=1)
    """

    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(source)
            await device.connect()
            await device.call("get_info")
            assert [event.data["message"] for event in r.of("log")] == ["while importing", "while constructed"]
            assert r.of("hello")[0].data == {"n": 1}
            failing = r.adopt("import logging\nlogging.error('before it failed')\n1 / 0\n")
            with pytest.raises(DriverFailed):
                await failing.initialize()
            await r.until(lambda: any(e.data["message"] == "before it failed" for e in r.of("log")))

    asyncio.run(main())


def test_siblings_are_imported_both_ways_and_two_plugins_do_not_mix(tmp_path: Path) -> None:
    source = """
    from . import steps
    from .sub.deep import WHERE as DEEP
    import steps as by_path
    class D(BaseDriver):
        @command(concurrent=True)
        def where(self): return [steps.WHERE, by_path.WHERE, DEEP]
    """

    async def main() -> None:
        async with rig(tmp_path) as r:
            devices = []
            for name in ("one", "two"):
                folder = tmp_path / name
                manifest = write_plugin(folder, source)
                (folder / "steps.py").write_text(f"WHERE = {name!r}\n")
                (folder / "sub").mkdir()
                (folder / "sub" / "deep.py").write_text(f"WHERE = {name + ' deep'!r}\n")
                if name == "two":
                    (folder / "__init__.py").write_text("NAME = 'two'\n")
                info = DeviceInfo(id=name, bus="test", address="/dev/null")
                devices.append(r.supervisor.adopt(info, manifest, folder))
            for name, device in zip(("one", "two"), devices, strict=True):
                await device.connect()
                assert await device.call("where") == [name, name, f"{name} deep"]

    asyncio.run(main())


def test_a_drivers_module_is_the_one_that_an_import_finds(tmp_path: Path) -> None:
    source = """
    class D(BaseDriver):
        @command
        def facts(self):
            from . import driver, other
            return [__name__, __file__, driver is sys.modules[__name__] and other.driver is driver]
    """

    async def main() -> None:
        async with rig(tmp_path) as r:
            for name in ("file", "package"):
                folder = tmp_path / name
                manifest = write_plugin(folder, source)
                (folder / "other.py").write_text("from . import driver\n")
                file = folder / "driver.py"
                if name == "package":  # beside a file of that name it is what Python takes
                    (folder / "driver").mkdir()
                    text = file.read_text().replace("from . import driver, other", "from .. import driver, other")
                    file.write_text("raise ImportError('not this one')\n")
                    file = folder / "driver" / "__init__.py"
                    file.write_text(text)
                device = r.supervisor.adopt(DeviceInfo(id=name, bus="t", address="/dev/null"), manifest, folder)
                await device.connect()
                assert await device.call("facts") == ["vfab_plugin_mine.driver", str(file), True]

    asyncio.run(main())


def test_a_package_is_a_driver_module_and_manifest_commands_name_its_methods(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            folder = tmp_path / "packed"
            manifest = write_plugin(
                folder,
                "",
                driver_class="inside.D",
                commands={
                    "pen-up": {"help": "Up."},
                    "look": {"help": "Look.", "method": "see", "concurrent": True},
                    "ok": {"help": "Marked in the class, too."},
                },
            )
            (folder / "inside").mkdir()
            (folder / "inside" / "__init__.py").write_text(
                "from vfab.sdk import BaseDriver, command\n"
                "class D(BaseDriver):\n"
                "    def pen_up(self): return 'up'\n"
                "    def see(self): return str(self.environment.state_dir)\n"
                "    @command(concurrent=True)\n"
                "    def ok(self): return 1\n"
            )
            device = r.supervisor.adopt(DeviceInfo(id="p", bus="t", address="/dev/null"), manifest, folder)
            await device.connect()
            assert await device.call("pen_up") == "up"
            assert await device.call("see") == "None"
            assert device.handshake is not None
            assert set(device.handshake.concurrent) >= {"see", "ok"}
            assert "pen_up" not in device.handshake.concurrent

    asyncio.run(main())


def test_a_driver_has_a_folder_of_its_own_that_lasts(tmp_path: Path) -> None:
    source = """
    class D(BaseDriver):
        @command
        def keep(self): (self.environment.state_dir / "x").write_text("kept"); return str(self.environment.state_dir)
        @command
        def kept(self): return (self.environment.state_dir / "x").read_text()
    """

    async def main() -> None:
        async with rig(tmp_path, state_root=tmp_path / "state") as r:
            device = r.adopt(source)
            await device.connect()
            assert await device.call("keep") == str(tmp_path / "state" / "mine" / "dev1")
            await device.close()
            await device.connect()
            assert await device.call("kept") == "kept"
        (tmp_path / "file").write_text("")
        async with rig(tmp_path / "again", state_root=tmp_path / "file") as r:
            device = r.adopt(source)
            with pytest.raises(DriverError, match="cannot be made"):
                await device.initialize()

    asyncio.run(main())


CHATTER = """
class D(BaseDriver):
    @command
    def flood(self, n):
        for i in range(n):
            self.log.warning("record %d", i)
            self.emit("useless", i=i)
            self.progress(i=i)
        return "done"
    @command
    def prints(self):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.write(1, b"no line end")
        os.system("echo from a program")
    @command
    def print_until_stopped(self):
        self.stop = False
        while not self.stop:
            self.checkpoint()
            os.write(2, b"rubbish\\n" * 5000)
    @command(concurrent=True)
    def enough(self): self.stop = True
    @command
    def hello(self):
        self.log.info("hello")
        self.emit("hello")
    @command
    def child(self):
        import subprocess
        return subprocess.Popen(["sleep", "600"]).pid
    @command
    def close_everything(self):
        os.closerange(0, 100)
        threading.Event().wait(600)
"""


def test_what_a_driver_prints_is_told_as_log_and_never_gets_into_the_wire(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(CHATTER, permissions={"subprocess": True})
            await device.connect()
            await device.call("prints")
            wanted = {"to stdout", "to stderr", "no line endfrom a program"}
            await r.until(lambda: wanted <= {event.data["message"] for event in r.of("log")})

    asyncio.run(main())


def test_a_flood_is_cut_and_counted_and_others_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            loud, quiet = r.adopt(CHATTER), r.adopt(CHATTER)
            await loud.connect()
            await quiet.connect()
            flood = asyncio.create_task(loud.call("flood", 20_000, timeout_s=60))
            for _ in range(20):
                await quiet.call("hello")
                await loud.call("get_info")
            assert await flood == "done"
            await asyncio.sleep(1.0)
            await loud.call("hello")
            events = [e for e in r.of("useless") if e.device_id == loud.id]
            dropped = sum(e.data["count"] for e in r.of("events_dropped"))
            assert len(events) + dropped == 20_000
            assert dropped > 0
            records = [e.data["message"] for e in r.of("log") if e.device_id == loud.id]
            assert any("log records dropped" in message for message in records)

    asyncio.run(main())


def test_a_driver_that_prints_without_end_does_not_keep_the_kernel(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            loud, quiet = r.adopt(CHATTER), r.adopt(CHATTER)
            await loud.connect()
            await quiet.connect()
            flood = asyncio.create_task(loud.call("print_until_stopped", timeout_s=120))
            for _ in range(50):
                await quiet.call("hello")
            await r.until(lambda: any("lines dropped" in e.data["message"] for e in r.of("log")))
            assert not flood.done()
            await loud.call("enough")
            await flood

    asyncio.run(main())


def test_programs_that_a_driver_started_end_with_its_host(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(CHATTER, permissions={"subprocess": True})
            await device.connect()
            assert device.pid is not None
            await device.call("child")
            (child,) = children(device.pid)
            assert alive(child)
            await device.close()
            await r.until(lambda: not alive(child))

    asyncio.run(main())


def test_a_driver_that_closes_its_hosts_descriptors_is_ended_and_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            device = r.adopt(CHATTER)
            await device.connect()
            pid = device.pid
            with pytest.raises(DriverError):
                await device.call("close_everything", timeout_s=20)
            await r.until(lambda: device.pid not in {pid, None} and device.state is DriverState.CONNECTED)
            await device.call("hello")

    asyncio.run(main())
