"""A home with small plugins, and devices that announce themselves, for tests of `DeviceDriverManager`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from vfab.kernel.simulators import announce_simulator, simulators_folder
from vfab.model.devices import DeviceInfo

ECHO = """
name: echo
version: "1.0"
author: a test
description: Says what it is told
category: sensor
driver_class: driver.Echo
commands:
  echo: {help: Say the value, parameters: {value: {type: integer, help: any number}}}
  fail: {help: Fail as hardware does}
  wait: {help: Wait until it is let go, timeout_s: 60, parameters: {path: {help: a file to wait for}}}
  which: {help: Which device it is, concurrent: true}
  tea: {help: Needs no connection, needs: initialized}
config_schema:
  type: object
  additionalProperties: false
  properties:
    loudness: {type: integer, default: 3, minimum: 0, maximum: 11, description: how loud}
"""
ECHO_CODE = """
import os, time, uuid
from pathlib import Path
from vfab.sdk import BaseDriver, command
from vfab.model.errors import ConnectError, HardwareError


HOST = uuid.uuid4().hex  # its number may be the same in every PID namespace

class Echo(BaseDriver):
    connected = False

    def initialize(self):
        if (self.log_of() / "no-init").exists():
            raise HardwareError("it does not wake up")

    def connect(self):
        if (self.log_of() / "no-connect").exists():
            raise ConnectError("nobody answers", remedy="Switch it on.")
        self.connected = True
        return True

    def disconnect(self):
        if self.connected:
            (self.log_of() / f"left-{HOST}").touch()
        self.connected = False

    def is_connected(self):
        return self.connected

    def log_of(self):
        return Path(os.environ["ECHO_FOLDER"])

    def echo(self, value=0):
        return {"device": self.device.id, "value": value, "loudness": self.config["loudness"], "host": HOST}

    def fail(self):
        raise HardwareError("it smokes", original_error=OSError("32 A on phase 2"), remedy="Pull the plug.")

    def wait(self, path):
        Path(path + ".began").touch()
        while not Path(path).exists():
            self.checkpoint()
            time.sleep(0.005)
        return "let go"

    def which(self):
        return self.device.id

    def tea(self):
        return "hot"

    @command
    def unlisted(self):
        return "not in the manifest"

    @command
    def die(self):
        os._exit(7)
"""
FINDER = """
name: drv_finder
version: "1.0"
author: a test
description: Finds its devices itself, as seed 002's plugins do
category: sensor
driver_class: driver.Finder
commands:
  scan: {help: Which devices there are, needs: nothing}
  start: {help: Start}
  execute-command:
    help: Run any command
    parameters: {command: {help: which}, args: {help: with what}}
"""
FINDER_CODE = """
from vfab.sdk import BaseDriver
from vfab.model.errors import DeviceNotFound


class Finder(BaseDriver):
    def initialize(self):
        if "device_id" not in self.device.attributes:
            raise DeviceNotFound("there are two")

    def connect(self):
        return True

    def scan(self):
        return [
            {"device_id": f"can{n}", "name": f"CAN {n}", "device_type": "can", "attributes": {"bitrate": 500000}}
            for n in range(2)
        ]

    def start(self):
        raise AssertionError("seed 002's drivers have one method for all commands")

    def execute_command(self, command, args=None):
        return [self.device.attributes["device_id"], command, args]
"""


@dataclass
class Home:
    """A home of vfab's, with its environment."""

    folder: Path
    env: dict[str, str]

    def plugin(self, name: str, manifest: str, code: str) -> None:
        folder = self.folder / "home" / "plugins" / name
        folder.mkdir(parents=True)
        (folder / "plugin.yaml").write_text(manifest)
        (folder / "driver.py").write_text(code)

    @contextmanager
    def announced(self, count: int = 1) -> Iterator[None]:
        """`count` devices that a scan finds for echo."""
        with ExitStack() as stack:
            for number in range(count):
                folder = simulators_folder(self.env)
                stack.enter_context(announce_simulator("echo", f"tcp://127.0.0.1:{number + 1}", folder=folder))
            yield

    def host(self) -> int:
        """The number of the only host of echo that lives."""
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in self.processes()}
        (pid,) = (pid for pid, name in names.items() if name == "vfab:echo")
        return pid

    def processes(self) -> list[int]:
        """Zygotes and hosts of this home that live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found += [process.pid] * (process.environ().get("VFAB_HOME") == self.env["VFAB_HOME"])
            except psutil.Error:
                continue
        return found


def make_home(folder: Path) -> Home:
    """A home in `folder` with the plugins echo and drv_finder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VFAB_")}
    env = {**kept, "HOME": str(folder), "VFAB_HOME": str(folder / "home"), "ECHO_FOLDER": str(folder)}
    env |= {"VFAB_CONFINEMENT_ENVIRONMENT": "ECHO_FOLDER", "VFAB_CONFINEMENT_FILES": f"write:{folder}"}
    home = Home(folder, env)
    home.plugin("echo", ECHO, ECHO_CODE)
    home.plugin("drv_finder", FINDER, FINDER_CODE)
    return home


def device(number: int = 1) -> DeviceInfo:
    """A device that no scan finds."""
    return DeviceInfo(id=f"test:{number}", bus="test", address="/dev/null")
