"""Whole servers that people use for a part of what vfab does: how much memory each holds while nothing happens.

They are too large to be dependencies of the bench: it takes those that are installed. Each runs in a network of its own
where this user may make one, with settings that have it ask nobody anything: what is measured is a server at rest.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["SERVERS", "Server"]

START_S = 180.0
END_S = 20.0
REST_PERCENT = 2.0
"""A server that uses less than so much of a core, for two seconds, has come to rest."""
_PORT = 18_311
_LISTENS = "0A"
_OCTOPRINT = """\
server: {firstRun: false, onlineCheck: {enabled: false}}
plugins: {_disabled: [announcements, softwareupdate, tracking, discovery, pluginmanager]}
"""
_ALONE = ("unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh")


def _octoprint(program: str, folder: Path) -> list[str]:
    (folder / "config.yaml").write_text(_OCTOPRINT, encoding="utf-8")
    serve = [program, "serve", "--basedir", str(folder), "--host", "127.0.0.1", "--port", str(_PORT), "--safe"]
    return [*serve, "--iknowwhatimdoing"]  # inside its namespace it looks like root


def _home_assistant(program: str, folder: Path) -> list[str]:
    text = f"http: {{server_host: 127.0.0.1, server_port: {_PORT}}}\nfrontend:\n"
    (folder / "configuration.yaml").write_text(text, encoding="utf-8")
    return [program, "--config", str(folder), "--skip-pip"]


@dataclass(frozen=True, slots=True)
class Server:
    """One of them.

    Attributes:
        name: what people call it.
        program: its command; `variable` of the environment may name another path.
        command: how it is started, given the program and an empty folder.
    """

    name: str
    program: str
    variable: str
    command: Callable[[str, Path], list[str]]

    def find(self, env: Mapping[str, str]) -> str | None:
        """Where its command lies; None: it is not installed."""
        return shutil.which(env.get(self.variable) or self.program)

    @contextmanager
    def at_rest(self, program: str, folder: Path) -> Iterator[list[psutil.Process]]:
        """Its processes, once it serves and has nothing more to do.

        Raises RuntimeError: it ended, or did not come so far in three minutes.
        """
        folder.mkdir()
        command = [*(_ALONE if _may_be_alone() else ()), *self.command(program, folder)]
        with (folder / "said.txt").open("wb") as said:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        try:
            yield self._rested(process, folder)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _rested(self, process: subprocess.Popen[bytes], folder: Path) -> list[psutil.Process]:
        ends, quiet = time.monotonic() + START_S, 0
        family: dict[int, psutil.Process] = {}
        while quiet < 2:
            if process.poll() is not None or time.monotonic() > ends:
                said = (folder / "said.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise RuntimeError(f"{self.name} did not come to rest: {said[-1] if said else 'it said nothing'}")
            time.sleep(1.0)
            root = psutil.Process(process.pid)
            now = {one.pid: family.get(one.pid, one) for one in [root, *root.children(recursive=True)]}
            busy = sum(one.cpu_percent() for one in now.values())  # since the last look
            serves = any(_listens(pid) for pid in now)
            quiet = quiet + 1 if serves and busy < REST_PERCENT and family.keys() == now.keys() else 0
            family = now
        return list(family.values())


SERVERS = (
    Server("OctoPrint", "octoprint", "BENCH_OCTOPRINT", _octoprint),
    Server("Home Assistant", "hass", "BENCH_HASS", _home_assistant),
)
"""Whom vfab is measured beside where they are installed."""


def _may_be_alone() -> bool:
    """Whether this user may have a network namespace."""
    try:
        return subprocess.run([*_ALONE, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _listens(pid: int) -> bool:
    """Whether somebody listens at the port in the network that process `pid` is in."""
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return False
    fields = (line.split() for line in lines)
    return any(field[3] == _LISTENS and int(field[1].rpartition(":")[2], 16) == _PORT for field in fields)
