"""Runs a plugin's simulator, as a program: in this very process, and announced so that `vfab device scan` finds it.

A simulator is a file that runs as a program: it prints one JSON line `{"name", "address", "pid"}` on standard output
when it serves, and serves until SIGTERM. Everything else about it is the plugin's.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vfab.kernel.simulators import announce_simulator, simulators_folder
from vfab.model.errors import ConfigurationError, HardwareError, TimeoutExceeded
from vfab.model.plugins import DriverInfo

__all__ = ["Simulation", "announcement_of", "run_simulator", "simulator_file", "start_simulator"]

TIED = "VFAB_SIMULATOR_ENDS_WITH_STDIN"
START_S = 20.0


def simulator_file(driver: DriverInfo) -> Path:
    """The file that simulates the driver's device. Raises ConfigurationError: its plugin has none."""
    if not driver.manifest.simulator:
        raise ConfigurationError(
            f"{driver.name} has no simulator",
            driver_name=driver.name,
            context={"folder": driver.folder, "field": "simulator"},
            remedy="`vfab sim list` shows what can be simulated.",
        )
    file = Path(driver.folder) / driver.manifest.simulator
    if not file.is_file():
        raise ConfigurationError(
            f"{file}: plugin.yaml names this simulator, and there is no such file",
            driver_name=driver.name,
            context={"file": str(file), "field": "simulator"},
            remedy="Put the file there, or correct `simulator:` in plugin.yaml.",
        )
    return file


def announcement_of(driver: DriverInfo) -> dict[str, str]:
    """What the simulated device says of itself: the first `match` rule of the manifest that has USB ids."""
    rules = [rule for rule in driver.manifest.match if rule.vid and rule.pid] or list(driver.manifest.match)
    if not rules:
        return {}
    rule = rules[0]
    texts = {"product": rule.product, "manufacturer": rule.manufacturer, "serial_number": rule.serial_number}
    said = {key: text for key, text in texts.items() if text and not set(text) & set("*?[")}
    ids = {"vid": rule.vid, "pid_usb": rule.pid}
    return {**said, **{key: text.lower().removeprefix("0x") for key, text in ids.items() if text}}


def identity_in(told: Mapping[str, Any]) -> dict[str, str]:
    """What a simulator's first line says of the device's identity: `{"vid", "pid_usb", "product", …}`."""
    known = ("vid", "pid_usb", "product", "manufacturer", "serial_number")
    return {key: str(told["identity"][key]) for key in known if told["identity"].get(key)}


def run_simulator(
    driver: DriverInfo,
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    on_serving: Callable[[], None] = lambda: None,
) -> int:
    """Be the simulator of `driver` until it ends; its exit code. Takes over this process' main thread and output.

    `on_serving` is called once it serves and is announced.
    """
    file = simulator_file(driver)
    folder = simulators_folder(env)
    before = sys.stdout
    if env.get(TIED):
        _end_with_stdin()
    sys.argv = [str(file), *arguments]
    sys.path.insert(0, str(file.parent))
    with contextlib.ExitStack() as announced:
        sys.stdout = _FirstLine(before, driver, folder, announced, on_serving)
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as leaving:
            if isinstance(leaving.code, str):
                print(leaving.code, file=sys.stderr)
                return 1
            return leaving.code or 0
        except (OverflowError, OSError) as error:
            raise _port_refused(driver.name, error) or error from error
        finally:
            sys.stdout = before
    return 0


def _port_refused(name: str, error: Exception) -> ConfigurationError | None:
    """The error for a port that cannot be, or is taken; None: `error` is about something else."""
    remedy = "Choose another port from 1 to 65535, or none: a free one is taken then."
    if isinstance(error, OverflowError) and "port" in str(error):
        return ConfigurationError(f"the simulated {name} cannot serve there: {error}", remedy=remedy)
    if isinstance(error, OSError) and error.errno in {errno.EADDRINUSE, errno.EACCES} and error.filename is None:
        why = (error.strerror or str(error)).lower()
        return ConfigurationError(f"the simulated {name} cannot serve on that port: {why}", remedy=remedy)
    return None


class _FirstLine(io.TextIOBase):
    """Passes on what the simulator prints, and announces it once its first line says where it serves."""

    def __init__(
        self,
        stream: IO[str],
        driver: DriverInfo,
        folder: Path,
        announced: contextlib.ExitStack,
        on_serving: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._driver = driver
        self._folder = folder
        self._announced = announced
        self._on_serving = on_serving
        self._held: str | None = ""

    def write(self, text: str) -> int:
        if self._held is None:
            return self._stream.write(text)
        self._held += text
        line, newline, rest = self._held.partition("\n")
        if newline:
            self._held = None
            self._announce(line)
            self._on_serving()
            self._stream.write(line + newline + rest)
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _announce(self, line: str) -> None:
        try:
            told = json.loads(line)
            address = str(told["address"])
            simulates = str(told.get("simulates", self._driver.name))  # a replay stands for the device it recorded
            said = identity_in(told) if "identity" in told else announcement_of(self._driver)
        except (ValueError, KeyError, TypeError, AttributeError):  # it says something else: run, but not announced
            return
        self._announced.enter_context(announce_simulator(simulates, address, folder=self._folder, **said))


def _end_with_stdin() -> None:
    """End by SIGTERM when standard input does: whoever started us has ended, however that happened."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


class Simulation:
    """A simulator that runs in a process of its own.

    Attributes:
        name, address: what it said.
        process: its process; it ends when this program does.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.name = ""
        self.address = ""

    def wait_until_it_serves(self, timeout_s: float = START_S) -> None:
        """Read its first line. Raises HardwareError: it ended. TimeoutExceeded: it said nothing in time."""
        answer: list[str] = []
        assert self.process.stdout is not None
        reader = threading.Thread(target=lambda: answer.append(self.process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        reader.join(timeout_s)
        if not answer:
            self.process.kill()
            raise TimeoutExceeded(f"the simulator said nothing for {timeout_s:g} s", context={"pid": self.process.pid})
        try:
            said: dict[str, Any] = json.loads(answer[0])
            self.name, self.address = str(said["name"]), str(said["address"])
        except (ValueError, KeyError, TypeError) as error:
            self.process.kill()
            raise HardwareError(
                f"the simulator did not start: it said {answer[0].strip()!r}",
                context={"exit_code": self.process.wait()},
                remedy="Run it by hand to see why: vfab sim run NAME",
            ) from error

    def press_button(self) -> None:
        """Send SIGUSR1: simulators with a button take it for a press."""
        self.process.send_signal(signal.SIGUSR1)

    def end(self, timeout_s: float = 10.0) -> None:
        """End it by SIGTERM and wait: what it was to record is written then."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def start_simulator(name: str, arguments: Sequence[str], env: Mapping[str, str]) -> Iterator[Simulation]:
    """The simulator of the driver `name`, started now and ended with the context. It may not serve yet."""
    command = [sys.executable, "-P", "-m", "vfab.apps.simulate", name, *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**env, TIED: "1"},
        start_new_session=True,
    )
    simulation = Simulation(process)
    try:
        yield simulation
    finally:
        simulation.end()


def main(arguments: Sequence[str]) -> int:
    """`python -m vfab.apps.simulate NAME [options of the simulator]`."""
    from vfab.kernel.places import Places
    from vfab.kernel.registry import DriverRegistry

    driver = DriverRegistry(Places.from_environment(os.environ)).get(arguments[0])
    return run_simulator(driver, arguments[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
