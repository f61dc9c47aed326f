"""What tests of swaps share: a driver that counts, what it is connected to, and a swap of it."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hosting import Rig, write_plugin
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.swap import Swap, SwapOptions

QUICK = SwapOptions(probation_s=0.02, drain_s=5.0)

COUNTER = """
from vfab.model.errors import HandedOver
from vfab.sdk.stream import Streaming, StreamType

class D(Streaming, BaseDriver):
    NAME = "one"
    link = None
    count = 0
    wanted = False
    def connect(self):
        self.link = self.open_link()
        self.link.write(b"hello " + self.NAME.encode() + b"\\n")
    def take_over(self):
        self.link = self.open_link()
    def disconnect(self):
        self.stop_streaming()
        if self.link is not None:
            try:
                self.link.write(b"bye " + self.NAME.encode() + b"\\n")
            finally:
                link, self.link = self.link, None
                self.close_link(link)
    def is_connected(self): return self.link is not None
    def save_state(self, version): return {"count": self.count, "v": version}
    def load_state(self, state, version):
        self.count = state["count"]
        self.emit("loaded", version=version, state=state)
    def acquire(self, stream, options):
        while self.acquiring():
            stream.send(self.NAME)
            self.pause_s(0.0005)
    @command
    def add(self, by=1):
        self.count += by
        self.link.write(b"add %d\\n" % by)
        return self.count
    @command
    def name(self): return self.NAME
    @command
    def slow(self, seconds):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.checkpoint()
            time.sleep(0.005)
        return "done"
    @command
    def steps(self, enough, done=0):
        self.wanted = False
        while not Path(enough).exists():
            done += 1
            self.link.write(b"step %d\\n" % done)
            time.sleep(0.002)
            self.checkpoint()
            if self.wanted:
                raise HandedOver("at a safe point", context={"args": [enough, done], "kwargs": {}})
        return done
    def reach_safe_point(self):
        self.wanted = True
        return True
"""
TWO = COUNTER.replace('NAME = "one"', 'NAME = "two"')


@contextmanager
def instrument() -> Iterator[tuple[str, list[str]]]:
    """A pseudo-terminal: its path, and every line that was written to it."""
    master, slave = pty.openpty()
    lines: list[str] = []

    def read() -> None:
        held = b""
        while True:
            try:
                held += os.read(master, 65536)
            except OSError:
                return
            *whole, held = held.split(b"\n")
            lines.extend(line.decode().strip() for line in whole)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    yield os.ttyname(slave), lines
    os.close(slave)
    thread.join(5)
    os.close(master)


_ports: list[int] = []


def port() -> str:
    """A serial port that nobody is behind; open until the tests end."""
    master, slave = pty.openpty()
    _ports.extend((master, slave))
    return os.ttyname(slave)


def swap(r: Rig, device: ManagedDevice, source: str, options: SwapOptions = QUICK, **fields: Any) -> Swap:
    """A swap of the device's driver for `source`, version 2."""
    r.count += 1
    folder = r.folder / f"new{r.count}"
    manifest = write_plugin(folder, source, **{"version": "2", **fields})
    return Swap(device, manifest, folder, {}, options=options)


def hosts_of(r: Rig) -> list[int]:
    """The processes that the zygote has forked and that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == r.spawner.zygote_pid and state not in {"Z", "X"}:
            found.append(int(stat.parent.name))
    return found


async def seen(r: Rig, lines: list[str], last: str) -> list[str]:
    await r.until(lambda: last in lines)
    return lines
