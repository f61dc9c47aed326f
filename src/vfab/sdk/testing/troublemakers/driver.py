"""Drivers that misbehave, each in one way. All of them can also behave: `ping` answers `pong`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

from vfab.model.errors import HardwareError
from vfab.sdk.driver import BaseDriver, Environment, command
from vfab.sdk.stream import Streaming, StreamWriter

__all__ = ["CrashingDriver", "DeafDriver", "LeakyDriver", "LyingDriver", "SlowDriver"]


class _Troublemaker(BaseDriver):
    """What all of them share."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.connected = False
        self._misbehave("init")

    def initialize(self) -> None:
        """Prepare, unless the trouble is here."""
        self._misbehave("initialize")

    def connect(self) -> bool:
        """Connect to nothing, unless the trouble is here."""
        self._misbehave("connect")
        self.connected = True
        return True

    def disconnect(self) -> None:
        """Let go of nothing, unless the trouble is here."""
        self._misbehave("disconnect")
        self.connected = False

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """Whether `connect` was called."""
        return self.connected

    @command
    def ping(self) -> str:
        """Answers pong: the driver lives."""
        return "pong"

    @command(concurrent=True)
    def pid(self) -> int:
        """The process that the driver runs in."""
        return os.getpid()

    def _misbehave(self, where: str) -> None:
        if self.config.get("where", "call") == where:
            self.trouble()

    def trouble(self) -> Any:
        """What this class does wrong; a subclass says."""


class SlowDriver(_Troublemaker):
    """Takes `delay_s` seconds, and notices a cancel while it does."""

    @command
    def work(self, delay_s: float | None = None) -> str:
        """Take `delay_s` seconds (default: the setting), telling progress ten times; answers done.

        Raises Cancelled: within 10 ms of the cancel.
        """
        self.trouble(delay_s)
        return "done"

    def trouble(self, delay_s: float | None = None) -> None:
        """Be slow."""
        seconds = float(self.config.get("delay_s", 0.2) if delay_s is None else delay_s)
        end = time.monotonic() + seconds
        told = 0
        while (left := end - time.monotonic()) > 0:
            self.checkpoint()
            tenth = int((1 - left / seconds) * 10)
            if tenth > told:
                told = tenth
                self.progress(done=tenth, total=10, remaining_s=left)
            time.sleep(min(left, 0.01))


class DeafDriver(_Troublemaker):
    """Never looks whether it was cancelled, and does not answer before its time."""

    @command
    def work(self, delay_s: float = 3600.0) -> str:
        """Take `delay_s` seconds, whatever anybody says; answers done."""
        threading.Event().wait(delay_s)
        return "done"

    @command
    def spin(self, delay_s: float = 3600.0) -> str:
        """The same, computing all the time."""
        end = time.monotonic() + delay_s
        while time.monotonic() < end:
            pass
        return "done"

    def trouble(self) -> None:
        """Hang."""
        threading.Event().wait(3600.0)


class CrashingDriver(_Troublemaker):
    """Ends its process, or raises what a driver should not."""

    @command
    def crash(self, how: str | None = None) -> NoReturn:
        """Crash now.

        Args:
            how: raise (ValueError), hardware (HardwareError), exit (`os._exit(7)`), sys_exit, segfault, kill, abort,
                interrupt (KeyboardInterrupt), hang; default: the setting `how`.
        """
        self.trouble(how)
        raise AssertionError("still alive")

    def trouble(self, how: str | None = None) -> None:
        """Crash."""
        match how or str(self.config.get("how", "raise")):
            case "raise":
                raise ValueError("this driver crashes on purpose")
            case "hardware":
                raise HardwareError("the device is on fire", remedy="Call the fire brigade.")
            case "exit":
                os._exit(7)
            case "sys_exit":
                sys.exit(3)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "abort":
                os.abort()
            case "interrupt":
                raise KeyboardInterrupt
            case "hang":
                threading.Event().wait(3600.0)
            case other:
                raise ValueError(f"cannot crash by {other!r}")
        time.sleep(5.0)  # a signal to oneself may come a moment later


class LeakyDriver(_Troublemaker):
    """Keeps memory, descriptors and threads that it should give back."""

    def __init__(self, environment: Environment) -> None:
        self._kept: list[bytearray] = []
        self._files: list[int] = []
        super().__init__(environment)

    @command
    def leak(self, count: int = 1, what: str = "all") -> dict[str, int]:
        """Keep `leak_bytes` of memory, two descriptors and a thread, `count` times over. Returns what is kept now.

        Args:
            what: only one of these: memory, files, threads.
        """
        for _ in range(count):
            self.trouble(what)
        kept = sum(len(piece) for piece in self._kept)
        return {"bytes": kept, "descriptors": len(self._files), "threads": threading.active_count()}

    @command
    def start_program(self, code: str) -> str:
        """Have another Python run `code`, and wait for its end; answers done."""
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as program:
            program.wait()
        return "done"

    @command
    def write(self, count_bytes: int) -> int:
        """Write a file of so many bytes into the driver's folder; returns its size."""
        folder = self.environment.state_dir
        assert folder is not None
        return (folder / "written").write_bytes(b"\x00" * count_bytes)

    @command
    def fill(self, how: str = "files", most_mb: int = 200) -> str:
        """Write 64 KiB after 64 KiB into the driver's folder until something stops it; answers done.

        Args:
            how: files (a new one for each piece), one (a file that grows), hidden (removed first, and held open),
                empty (files without content, 64 for each piece).
            most_mb: when nothing stops it.
        """
        folder = self.environment.state_dir
        assert folder is not None
        if how in {"one", "hidden"}:
            self._files.append(os.open(folder / "grows", os.O_CREAT | os.O_WRONLY))
        if how == "hidden":
            (folder / "grows").unlink()
        for number in range(most_mb * 16):
            if how == "empty":
                for each in range(64):
                    (folder / f"{number}-{each}").touch()
            elif how == "files":
                (folder / str(number)).write_bytes(b"\x01" * 65536)
            else:
                os.write(self._files[-1], b"\x01" * 65536)
            time.sleep(0.0005)
        return "done"

    def trouble(self, what: str = "all") -> None:
        """Leak once."""
        if what in {"all", "memory"}:
            self._kept.append(bytearray(b"\x01" * int(self.config.get("leak_bytes", 1 << 20))))
        if what in {"all", "files"}:
            self._files.extend(os.pipe())
        if what in {"all", "threads"}:
            threading.Thread(target=threading.Event().wait, daemon=True).start()


class LyingDriver(Streaming, _Troublemaker):
    """Says what is not so. Its stream is said to run, and nothing comes; with the setting `stream: ends` it is over."""

    def acquire(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        """Send nothing."""
        while self.config.get("stream") != "ends" and self.acquiring():
            self.pause_s(0.1)

    def disconnect(self) -> None:
        """Let go of nothing, and end the stream of nothing."""
        self.stop_streaming()
        super().disconnect()

    def connect(self) -> bool:
        """Says that it is connected; it is not."""
        return True

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """Always says yes."""
        return True

    @command
    def test_connection(self) -> dict[str, Any]:
        """Not the dict that was promised: a text where a flag belongs, and a key too few."""
        return {"success": "yes", "message": 7}

    @command
    def answer(self) -> object:
        """Answers something that cannot be sent to another process."""
        return object()

    @command
    def flood(self, count: int = 100_000) -> str:
        """Logs, emits and tells progress `count` times each, all of it useless; answers done."""
        for number in range(count):
            self.log.warning("useless log record %d", number)
            self.emit("useless", number=number)
            self.progress(done=number, total=0)
        return "done"

    @command
    def print_rubbish(self) -> str:
        """Writes to standard output and error, where nothing should go wrong for it; answers done."""
        print("rubbish on standard output", flush=True)
        print("rubbish on standard error", file=sys.stderr, flush=True)
        return "done"

    def trouble(self) -> None:
        """Lie in the log."""
        self.log.critical("everything is fine")
