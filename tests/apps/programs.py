"""The real `vfab`, run as a program in a home of its own; simulated plotters, and plugins, for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfab.sdk.link import Link, open_address
from vfab.sdk.testing import patience

SMALL = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="60mm" height="40mm" viewBox="0 0 60 40">'
    '<path d="M 5 5 H 40 V 30 C 30 10 20 40 5 30 Z" fill="none" stroke="black"/></svg>'
)
LONG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="200mm" height="150mm" viewBox="0 0 200 150">'
    + "".join(f'<path d="M 10 {y} H 190" fill="none" stroke="black"/>' for y in range(10, 140, 4))
    + "</svg>"
)


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.err.strip().splitlines()[-1])["error"]


@dataclass
class Simulator:
    """A simulator that `vfab sim run` started."""

    process: subprocess.Popen[str]
    address: str
    record: Path

    def end(self) -> str:
        """End it; what its pen drew, as SVG text."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(patience(20))
        return self.record.read_text() if self.record.exists() else ""


@dataclass
class Vfab:
    """Runs `vfab` in a home of its own."""

    home: Path
    env: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    program = str(Path(sys.executable).with_name("vfab"))

    def start(self, *arguments: object, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.program, *map(str, arguments)],
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            **more,
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: object, env: Mapping[str, str] | None = None, timeout: float = 60.0) -> Done:
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=patience(timeout))
        return Done(process.returncode, out, err)

    def simulator(self, *options: object, name: str = "axidraw") -> Simulator:
        record = self.home / f"drawn-{len(self.started)}.svg"
        process = self.start("sim", "run", name, "--record", record, *options)
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return Simulator(process, json.loads(line)["address"], record)

    def file(self, text: str, name: str = "drawing.svg") -> Path:
        path = self.home / name
        path.write_text(text)
        return path


def plugin(folder: Path, name: str, code: str, manifest: str = "") -> Path:
    """A plugin folder with one driver of the class `driver.Driver`."""
    home = folder / name
    home.mkdir(parents=True)
    (home / "plugin.yaml").write_text(
        f"name: {name}\nversion: 1.0.0\nauthor: a test\ndescription: a driver for a test\n"
        f"category: plotter\ndriver_class: driver.Driver\n"
        f"commands:\n  hello:\n    help: Say hello\n    needs: nothing\n{manifest}"
    )
    (home / "driver.py").write_text(code)
    return home


def processes_of(home: Path) -> list[int]:
    """Processes that were started with this VFAB_HOME and still live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"VFAB_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def ask(address: str, line: str) -> str:
    """What the board at `address` answers to one line."""
    link = Link(open_address(address), address)
    try:
        link.discard_input()
        link.write(line.encode() + b"\r", timeout_s=2.0)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += link.read(4096, timeout_s=2.0)
        return answer.decode()
    finally:
        link.close()


def pen_is_up(address: str) -> bool:
    """Whether the simulated board says that its pen is up."""
    return "1" in ask(address, "QP").partition("OK")[0]
