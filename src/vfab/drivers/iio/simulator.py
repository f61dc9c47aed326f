"""An IIO device that is not there: a folder with the files of a kernel driver of an ADC, and a buffer.

Its numbers change as a signal would: a sine on `voltage0`, half the reference on `voltage1`, their difference, a slowly
rising temperature. The files are those of Documentation/ABI/testing/sysfs-bus-iio; the buffer's node is a
pseudo-terminal, so that the same reads and the same layout of samples serve.

As a program: `python simulator.py [--speed real|instant]` prints one JSON line and serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import math
import os
import struct
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from vfab.sdk.simulation import raw_pty, serve_until_told

__all__ = ["IioSimulator", "main"]

_BEAT_S = 0.05
_SAMPLE = struct.Struct("<hHIq")
"""voltage0 (le:s12/16>>4), voltage1 (le:u16/16>>0), padding, timestamp (le:s64/64>>0)."""
_FILES = {
    "name": "vfab-adc", "in_voltage0_raw": "0", "in_voltage1_raw": "0", "in_voltage0-voltage1_raw": "0",
    "in_voltage_scale": "0.5", "in_voltage-voltage_scale": "0.25", "in_temp_raw": "0", "in_temp_scale": "62.5",
    "in_temp_offset": "-64", "in_pressure_input": "101.325", "in_accel_x_raw": "512", "in_accel_scale": "0.009576",
    "in_rot_quaternion_raw": "0 0 0 1", "sampling_frequency": "100", "current_timestamp_clock": "realtime",
    "buffer/enable": "0", "buffer/length": "2", "trigger/current_trigger": "", "out_voltage0_raw": "0",
    "scan_elements/in_voltage0_en": "0", "scan_elements/in_voltage0_index": "0",
    "scan_elements/in_voltage0_type": "le:s12/16>>4", "scan_elements/in_voltage1_en": "0",
    "scan_elements/in_voltage1_index": "1", "scan_elements/in_voltage1_type": "le:u16/16>>0",
    "scan_elements/in_timestamp_en": "0", "scan_elements/in_timestamp_index": "2",
    "scan_elements/in_timestamp_type": "le:s64/64>>0",
}  # fmt: skip


class IioSimulator:
    """The device.

    Args:
        beats: a thread changes the numbers and fills the buffer; without it `step` does.

    Attributes:
        folder: its folder, `…/iio:device0`, as in sysfs.
        node: the node of its buffer.
        steps: how many times its numbers have changed.
    """

    def __init__(self, *, beats: bool = True) -> None:
        self._beats = beats
        self._root = tempfile.TemporaryDirectory(prefix="vfab-iio-")
        self.folder = Path(self._root.name) / "iio:device0"
        self.node = ""
        self.steps = 0
        self._master = self._slave = -1
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where a client finds it."""
        return str(self.folder)

    def start(self) -> IioSimulator:
        """Write the files and begin."""
        for name, text in _FILES.items():
            self.put(name, text)
        self._master, self._slave, self.node = raw_pty()
        self.step()
        if self._beats:
            self._thread = threading.Thread(target=self._run, name="iio-simulator", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End, and remove the files."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1
        self._root.cleanup()

    def __enter__(self) -> IioSimulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def put(self, name: str, text: str) -> None:
        """Write a file, whole or not at all."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(f"{text}\n", encoding="ascii")
        fresh.replace(path)

    def get(self, name: str) -> str:
        """What a file says."""
        return (self.folder / name).read_text(encoding="ascii").strip()

    def step(self, time_ns: int | None = None) -> None:
        """The next moment: numbers change; if the buffer is on, it gets a sample."""
        number = self.steps
        first, second = round(1000 * math.sin(number / 10)), 3300
        self.put("in_voltage0_raw", str(first))
        self.put("in_voltage1_raw", str(second))
        self.put("in_voltage0-voltage1_raw", str(2 * (first - second)))
        self.put("in_temp_raw", str(400 + number % 16))
        if self.get("buffer/enable") == "1":
            stamp = number * 10_000_000 if time_ns is None else time_ns
            with suppress(OSError):  # full: the newest is lost, as in the kernel's buffer
                os.write(self._master, _SAMPLE.pack(first << 4, second, 0, stamp))
        self.steps += 1

    def _run(self) -> None:
        while not self._stopping.wait(_BEAT_S):
            self.step()


def main(argv: Sequence[str]) -> int:
    """Run the simulator until SIGTERM or SIGINT; the process's exit code."""
    parser = argparse.ArgumentParser(prog="vfab sim run iio", description="A simulated IIO device.")
    parser.add_argument("--speed", default="real", help="real or instant; it makes no difference here")
    parser.parse_args(list(argv))
    return serve_until_told("iio", IioSimulator())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
