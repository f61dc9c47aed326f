"""Streams from a driver in its host to one and to eight processes: samples one at a time and batched, frames."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vfab.apps.bench.findings import Session
from vfab.apps.bench.kernel import LiveKernel, adopt
from vfab.apps.bench.peers.process import child
from vfab.apps.bench.stream_pace import BATCH, FRAME_BYTES, FRAME_WINDOW, MODES, SAMPLE_WINDOW
from vfab.kernel.places import Places
from vfab.kernel.registry import DriverRegistry

__all__ = ["KEYS", "run"]

KEYS = (
    "samples_per_s_1",
    "samples_per_s_8",
    "samples_batched_per_s_1",
    "samples_batched_per_s_8",
    "frames_per_s_1",
    "frames_per_s_8",
)
ZEROMQ = "ZeroMQ"
_REMEDY = "pip install 'vfab[bench]'"
_PREFIX = {"samples": "samples_per_s", "batches": "samples_batched_per_s", "frames": "frames_per_s"}
_COUNTS = {"samples": (30_720, 102_400), "batches": (1_280, 5_120), "frames": (150, 600)}
"""Sends of one round, quick and full; for eight readers a quarter of it."""

_NOTES = {
    "samples": f"64 bytes each, none lost: the producer may be {SAMPLE_WINDOW} samples ahead of the slowest reader",
    "batches": f"{BATCH} samples joined to a batch and split again, none lost; samples to each reader",
    "frames": f"{FRAME_BYTES} bytes, made by one copy into the ring or the message; each reader looks, where it lies, "
    f"at a byte of every page; {FRAME_WINDOW} frames may be under way, none lost",
}
_CALL_S = 120.0
_MANIFEST = """\
name: bench-streams
version: 1.0.0
author: vfab
description: Streams as fast as it can
category: sensor
driver_class: driver.BenchStreams
license: Apache-2.0
permissions: {{files: ["read:{folder}", "write:{folder}"]}}
"""
_DRIVER = '''\
"""Streams as fast as it can."""

from pathlib import Path

from vfab.apps.bench.stream_pace import *
from vfab.apps.bench.stream_reader import page_of
from vfab.sdk import BaseDriver, command


class BenchStreams(BaseDriver):
    """What a camera or a quick sensor does, without the device."""

    @command
    def begin(self, folder, readers):
        """Open the streams."""
        self.paces = {mode: Pace(page_of(Path(folder), mode), readers) for mode in MODES}
        self.sent = dict.fromkeys(MODES, 0)
        samples = self.open_stream("samples", capacity_bytes=4 << 20, records=2 * SAMPLE_WINDOW)
        batches = self.open_stream("batches", capacity_bytes=16 << 20, records=1024)
        frames = self.open_stream("frames", capacity_bytes=(FRAME_WINDOW + 2) * (FRAME_BYTES + 4096), records=64)
        source = new_frame()

        def send_samples(first, end):
            send = samples.send
            for _ in range(first, end):
                send(SAMPLE)

        def send_batches(first, end):
            for _ in range(first, end):
                batches.send(joined())

        def send_frames(first, end):
            for number in range(first, end):
                room = frames.reserve(FRAME_BYTES)
                stamp(source, number)
                room[:] = source  # the camera makes its picture
                frames.commit()

        self.sends = {"samples": send_samples, "batches": send_batches, "frames": send_frames}

    @command
    def send(self, mode, count):
        """Send so many; seconds until all readers have them."""
        seconds = produce(mode, self.paces[mode], self.sent[mode], count, self.sends[mode])
        self.sent[mode] += count
        return seconds
'''

Round = Callable[[str, int], float]
"""Has so many of a mode sent and read; seconds."""


def run(session: Session) -> None:
    """Measure what is wanted of `KEYS`."""
    for readers in (1, 8):
        modes = [mode for mode in MODES if f"{_PREFIX[mode]}_{readers}" in session.wanted]
        if modes:
            session.say(f"{', '.join(f'{_PREFIX[mode]}_{readers}' for mode in modes)}")
            with ExitStack() as stack:
                _measure(session, modes, readers, _candidates(session, readers, stack))


def _candidates(session: Session, readers: int, stack: ExitStack) -> dict[str | None, Round]:
    found: dict[str | None, Round] = {None: stack.enter_context(_ours(_folder(session, f"ours-{readers}"), readers))}
    try:
        import zmq  # noqa: F401

        found[ZEROMQ] = stack.enter_context(_zeromq(_folder(session, f"zeromq-{readers}"), readers))
    except ImportError as error:
        session.findings.lacks(ZEROMQ, f"it is not installed: {error}", _REMEDY)
    return found


def _measure(session: Session, modes: list[str], readers: int, candidates: dict[str | None, Round]) -> None:
    for mode in modes:
        key = f"{_PREFIX[mode]}_{readers}"
        count = session.many(*_COUNTS[mode])
        if readers > 1:
            count = max(count // 4 // BATCH * BATCH, 60)
        each = BATCH if mode == "batches" else 1
        taken: dict[str | None, list[float]] = {name: [] for name in candidates}
        for one_round in candidates.values():
            one_round(mode, max(count // 8 // BATCH * BATCH, 16))  # for the caches, and that memory is there
        for _ in range(session.many(3, 7)):
            for name, one_round in candidates.items():
                taken[name].append(each * count / one_round(mode, count))
        for name, rates in taken.items():
            session.findings.number(key, rates, name)
        session.findings.notes[key] = _NOTES[mode]


def _folder(session: Session, name: str) -> Path:
    made = session.folder / name
    made.mkdir()
    return made


@contextmanager
def _ours(folder: Path, readers: int) -> Iterator[Round]:
    plugin = folder / "bench-streams"
    plugin.mkdir()
    (plugin / "plugin.yaml").write_text(_MANIFEST.format(folder=folder), encoding="utf-8")
    (plugin / "driver.py").write_text(_DRIVER, encoding="utf-8")
    manifest = DriverRegistry(Places.only(plugin)).get("bench-streams").manifest
    with LiveKernel(folder) as kernel, ExitStack() as stack:
        device = adopt(kernel.supervisor, plugin, manifest, 0)
        kernel.run(device.connect())
        kernel.run(device.call("begin", str(folder), readers))
        processes: list[subprocess.Popen[bytes]] = []
        for number in range(readers):
            memories = {mode: device.streams.memory(mode)[1] for mode in MODES}
            told = {"rings": {mode: [memory.ring, memory.bell] for mode, memory in memories.items()}}
            fds = [fd for memory in memories.values() for fd in (memory.ring, memory.bell)]
            processes.append(stack.enter_context(_reader(folder, number, readers, told, fds)))
            for memory in memories.values():
                memory.close()

        def one_round(mode: str, count: int) -> float:
            _tell(processes, mode, count)
            seconds: float = kernel.run(device.call("send", mode, count, timeout_s=_CALL_S))
            return seconds

        yield one_round


@contextmanager
def _zeromq(folder: Path, readers: int) -> Iterator[Round]:
    from vfab.apps.bench.peers.zeromq_peer import __name__ as program
    from vfab.apps.bench.peers.zeromq_peer import address_of

    with child(["-m", program, str(folder), str(readers)]) as publisher, ExitStack() as stack:
        told = {"sockets": {mode: address_of(folder, mode) for mode in MODES}}
        processes = [stack.enter_context(_reader(folder, number, readers, told)) for number in range(readers)]
        assert publisher.stdin is not None
        assert publisher.stdout is not None
        publisher.stdout.readline()  # all have subscribed

        def one_round(mode: str, count: int) -> float:
            _tell([*processes, publisher], mode, count)
            answer = publisher.stdout.readline() if publisher.stdout is not None else b""
            if not answer:
                raise RuntimeError("the publisher of ZeroMQ ended")
            return float(answer)

        yield one_round


@contextmanager
def _reader(
    folder: Path,
    number: int,
    readers: int,
    told: dict[str, dict[str, list[int]]] | dict[str, dict[str, str]],
    fds: list[int] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    said = json.dumps({"folder": str(folder), "reader": number, "readers": readers, **told})
    with child(["-m", "vfab.apps.bench.stream_reader", said], pass_fds=fds or ()) as process:
        yield process


def _tell(processes: list[subprocess.Popen[bytes]], mode: str, count: int) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{mode} {count}\n".encode())
        process.stdin.flush()
