"""Devices of different categories at once, each in its host, under one kernel: none disturbs another."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from apps.programs import LONG, SMALL, Vfab, plugin
from vfab.apps.commands import ensure_connected
from vfab.apps.session import Session
from vfab.apps.streaming import StreamRequest, opened_stream
from vfab.drivers.axidraw.simulator import AxiDrawSimulator
from vfab.drivers.keithley2400.simulator import KeithleySimulator
from vfab.drivers.mjpeg.simulator import MjpegSimulator
from vfab.drivers.tcp.simulator import TcpSimulator
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import Cancelled
from vfab.model.events import DriverEvent
from vfab.sdk.stream_ends import StreamReader

GAP_S = 5.0
"""No two frames may be so far apart: generous, for machines that do much else."""


SWITCH = """
from vfab.sdk.sensor import Quantity, Sample, SensorDriver

class Driver(SensorDriver):
    link = None
    closed = 0.0
    def quantities(self):
        return (Quantity(name="closed", unit="1"),)
    def open_sensor(self):
        self.link = self.open_link()
    def close_sensor(self):
        if self.link is not None:
            self.close_link(self.link)
        self.link = None
    def sensor_open(self):
        return self.link is not None
    def take_sample(self):
        for byte in self.link.read_available():
            self.closed = float(byte == 49)
        return Sample({"closed": self.closed}, raw=self.closed)
    def hello(self):
        return "hello"
"""
SETTINGS = """config_schema:
  type: object
  properties:
    watch_period_s: {type: number, default: 0.02}
"""


@asynccontextmanager
async def used(session: Session, address: str, driver: str) -> AsyncIterator[ManagedDevice]:
    """A connected device."""
    async with session.device(address, driver) as device:
        await ensure_connected(device)
        yield device


async def plotted(device: ManagedDevice, svg: str, heard: Callable[[Any], None] = lambda data: None) -> dict[str, Any]:
    report: dict[str, Any] = await device.operate_with("plot", (svg.encode(), {}), {}, timeout_s=0, on_progress=heard)
    return report


def frames_until(reader: StreamReader, over: asyncio.Event) -> list[float]:
    """When each frame was taken, until `over`; each is a whole JPEG."""
    times: list[float] = []
    while not over.is_set() or len(times) < 5:
        record = reader.read(timeout_s=GAP_S)
        assert record is not None, "no frame came for too long"
        assert record.data[:2] == b"\xff\xd8" and record.data[-2:] == b"\xff\xd9"
        times.append(record.time_s)
    return times


def test_a_camera_sends_frames_while_a_plot_runs_and_the_drawing_is_the_same(vfab: Vfab) -> None:
    async def main() -> None:
        async with Session.open(vfab.env) as session:
            with AxiDrawSimulator(speed="instant") as alone:
                async with used(session, alone.address, "axidraw") as plotter:
                    assert (await plotted(plotter, SMALL))["completed"]
            with (
                AxiDrawSimulator(speed="10") as board,
                MjpegSimulator(width_px=160, height_px=120, framerate_hz=50) as camera,
            ):
                async with (
                    used(session, board.address, "axidraw") as plotter,
                    used(session, camera.address, "mjpeg") as eye,
                    opened_stream(eye, StreamRequest()) as reader,
                ):
                    over = asyncio.Event()
                    watching = asyncio.create_task(asyncio.to_thread(frames_until, reader, over))
                    report = await plotted(plotter, SMALL)
                    over.set()
                    times = await watching
                    lost = reader.lost
            assert report["completed"] and board.strokes == alone.strokes and board.strokes
            assert max(b - a for a, b in pairwise(times)) < GAP_S
            assert lost == 0

    asyncio.run(main())


@pytest.fixture
def switch(vfab: Vfab) -> Iterator[tuple[int, int]]:
    """A switch on a pseudo-terminal that says 1 when it closes and 0 when it opens, and a driver for it."""
    folder = plugin(vfab.home / "home" / "plugins", "limit-switch", SWITCH)
    manifest = (folder / "plugin.yaml").read_text()
    (folder / "plugin.yaml").write_text(manifest.replace("category: plotter", "category: sensor") + SETTINGS)
    ends = pty.openpty()
    tty.setraw(ends[1])
    yield ends
    for end in ends:
        os.close(end)


def test_a_limit_that_a_sensor_watches_stops_a_plotter_with_its_pen_up(vfab: Vfab, switch: tuple[int, int]) -> None:
    """As a limit switch would: the program subscribes to the event and cancels the plot."""

    async def main() -> None:
        crossed: list[DriverEvent] = []
        stopping: list[asyncio.Task[Any]] = []
        under_way = asyncio.Event()
        plotter: ManagedDevice

        def listen(event: DriverEvent) -> None:
            if event.event_type == "threshold_crossed" and event.data["active"]:
                crossed.append(event)
                stopping.append(asyncio.create_task(plotter.call("cancel", timeout_s=30.0)))

        async with Session.open(vfab.env, listen) as session:
            with AxiDrawSimulator(speed="10") as board:
                async with (
                    used(session, board.address, "axidraw") as plotter,
                    used(session, os.ttyname(switch[1]), "limit-switch") as sensor,
                ):
                    await sensor.call("set_threshold", 0.5, "closed", "high")
                    await sensor.call("enable_interrupts")

                    def heard(data: Any) -> None:
                        if data.get("phase") == "drawing":
                            under_way.set()

                    plot = asyncio.create_task(plotted(plotter, LONG, heard))
                    await asyncio.wait_for(under_way.wait(), 30.0)
                    os.write(switch[0], b"1")  # the carriage touches it
                    with pytest.raises(Cancelled):
                        await asyncio.wait_for(plot, 60.0)
                    await asyncio.gather(*stopping)
                    status = await plotter.call("status")
                    assert status["state"] == "idle" and status["position"]["pen"] == "up"
                assert not board.record.down, "the simulated pen is off the paper"
            assert crossed and crossed[0].data["quantity"] == "closed"
            drawn = sum(len(stroke) for stroke in board.strokes)
            assert drawn < 2 * LONG.count("<path"), "it did not draw everything"

    asyncio.run(main())


def test_an_instruments_readings_are_streamed_to_browsers_while_a_communication_driver_works(
    vfab: Vfab, tmp_path: Path
) -> None:
    with KeithleySimulator(speed="instant") as meter, TcpSimulator() as other:
        process = vfab.start(
            "stream", meter.address, "--driver", "keithley2400", "source_v=0.5", "interval_s=0.01", "--ws", 0
        )
        assert process.stderr is not None
        found = re.search(r"http://(127\.0\.0\.1:\d+)/", process.stderr.readline())
        assert found

        async def talk() -> list[Any]:
            async with (
                Session.open({**vfab.env, "VFAB_HOME": str(tmp_path / "other")}) as session,
                used(session, other.address, "tcp") as link,
            ):
                return [(await link.call("send_command", f"ECHO {number}"))["text"] for number in range(200)]

        with connect(f"ws://{found[1]}/") as browser:
            about = json.loads(browser.recv(timeout=30))["stream"]
            before = json.loads(browser.recv(timeout=30))
            answers = asyncio.run(talk())
            after = [json.loads(browser.recv(timeout=30)) for _ in range(20)]
        assert about["name"] == "main" and answers == [str(number) for number in range(200)]
        sequences = [record["sequence"] for record in after]
        assert sequences == list(range(sequences[0], sequences[0] + 20)) and sequences[0] > before["sequence"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert not meter.meter.output, "the instrument is left with its output off"
