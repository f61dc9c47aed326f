"""The camera contract: one picture, streams that survive, what is refused; with a camera made for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vfab.model.errors import ConfigurationError, DeviceNotFound, LinkLost, ProtocolError, Refused, TimeoutExceeded
from vfab.model.manifest import Manifest
from vfab.protocols.hostwire import Decoder, Reply, encode
from vfab.sdk import CameraDriver, ImageData
from vfab.sdk.camera import CameraCapabilities, FrameFormat, FrameSize, ring_bytes
from vfab.sdk.driver import commands_of
from vfab.sdk.pixels_from_rgb import from_rgb
from vfab.sdk.testing import DriverBench, soon
from vfab.sdk.testing.moving_picture import draw, number_of

MANIFEST = Manifest(
    name="toy", version="1", author="a test", description="a camera for tests", driver_class="driver.Toy",
    category="camera",
    config_schema={"type": "object", "properties": {
        "timeout_s": {"type": "number", "default": 5.0}, "reconnect_s": {"type": "number", "default": 60.0},
        "check_on_connect": {"type": "boolean", "default": True}}},
)  # fmt: skip
SEED_000 = {
    "connect", "disconnect", "capture_image", "start_streaming", "stop_streaming", "get_capabilities", "set_resolution",
    "set_framerate", "set_exposure", "get_device_info",
}  # fmt: skip


class Toy(CameraDriver):
    """Pictures are numbered over all sessions; `fault` is what the next picture or session meets."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.number = 0
        self.open = 0
        self.fault: Exception | None = None
        self.tick = threading.Event()
        self.tick.set()

    def open_source(self) -> Any:
        if self.fault is not None:
            raise self.fault
        self.open += 1
        return Session(self)


class Session:
    def __init__(self, toy: Toy) -> None:
        self._toy = toy
        self._open = True

    def next_frame(self, timeout_s: float) -> ImageData:
        toy = self._toy
        toy.checkpoint()
        if toy.fault is not None:
            raise toy.fault
        if not toy.tick.wait(min(timeout_s, 0.005)):
            time.sleep(0.001)
        toy.number += 1
        rgb = draw(toy.number, 64, 48)
        return ImageData(data=rgb, width_px=64, height_px=48, pixel_format="RGB24", sequence=toy.number)

    def close(self) -> None:
        self._toy.open -= self._open
        self._open = False


@contextmanager
def bench(**settings: Any) -> Iterator[DriverBench[Toy]]:
    with DriverBench(Toy, MANIFEST, "toy:", config=settings) as made:
        yield made


def test_every_operation_of_the_document_is_a_command_under_its_name() -> None:
    assert set(commands_of(CameraDriver)) >= SEED_000


def test_a_picture_is_taken_in_a_session_of_its_own() -> None:
    with bench() as made:
        assert made.driver.connect()
        assert made.driver.open == 0
        first, second = made.driver.capture_image(), made.driver.capture_image()
        assert (first.sequence, second.sequence, made.driver.open) == (2, 3, 0)
        assert made.driver.get_capabilities().width_px == 64
        assert made.driver.test_connection()["success"]


def test_while_a_stream_runs_a_picture_is_the_streams_and_begun_after_the_call() -> None:
    with bench() as made:
        made.driver.connect()
        made.driver.start_streaming()
        stream = made.streams["main"]
        assert stream.info.about["width_px"] == 64
        record = stream.read(5)
        assert record is not None
        image = ImageData.from_record(record, stream.info.about)
        assert number_of(image.to_rgb(), 64, 48) == image.sequence
        before = made.driver.number
        assert made.driver.capture_image().sequence > before
        assert made.driver.open == 1
        made.driver.disconnect()
        assert made.driver.open == 0


def test_a_lost_camera_is_found_again_and_both_are_told() -> None:
    with bench() as made:
        made.driver.connect()
        made.driver.start_streaming()
        made.driver.fault = LinkLost("it went away")
        soon(lambda: sum(kind == "stream_lost" for kind, _ in made.events) >= 2)
        waits = [data["retry_in_s"] for kind, data in made.events if kind == "stream_lost"]
        assert waits[:2] == [0.2, 0.4]
        made.driver.fault = None
        soon(lambda: any(kind == "stream_resumed" for kind, _ in made.events))
        assert made.driver.streaming_status()["streaming"]


@pytest.mark.parametrize(
    ("fault", "settings"),
    [(ConfigurationError("no such thing"), {}), (LinkLost("gone"), {"reconnect_s": 0.0}),
     (DeviceNotFound("gone"), {"reconnect_s": 0.1})],
)  # fmt: skip
def test_what_no_time_will_change_ends_the_stream(fault: Exception, settings: dict[str, Any]) -> None:
    with bench(**settings) as made:
        made.driver.connect()
        made.driver.start_streaming()
        made.driver.fault = fault
        soon(lambda: any(kind == "stream_failed" for kind, _ in made.events))
        assert not made.driver.is_streaming()
        assert made.driver.open == 0


@pytest.mark.parametrize("fault", [LinkLost("gone"), TimeoutExceeded("slow"), ProtocolError("odd")])
def test_a_camera_that_is_not_there_is_told_at_once_and_nothing_stays_open(fault: Exception) -> None:
    with bench() as made:
        made.driver.fault = fault
        for call in (made.driver.connect, made.driver.capture_image, made.driver.start_streaming):
            with pytest.raises(type(fault)):
                call()
        assert not made.driver.is_connected()
        assert made.driver.open == 0
        assert not made.driver.test_connection()["success"]
    with bench(check_on_connect=False) as made:
        made.driver.fault = fault
        assert made.driver.connect()


def test_what_a_camera_cannot_be_told_is_false_and_nonsense_is_refused() -> None:
    with bench() as made:
        made.driver.connect()
        assert not made.driver.set_resolution(640, 480)
        assert not made.driver.set_framerate(30)
        assert not made.driver.set_exposure(0.01)
        assert not made.driver.set_exposure(0)
        for call in (lambda: made.driver.set_resolution(-1, 480), lambda: made.driver.set_framerate(float("nan")),
                     lambda: made.driver.set_exposure(-1.0), lambda: made.driver.set_framerate(True)):  # fmt: skip
            with pytest.raises(Refused):
                call()
        assert made.driver.get_device_info().driver == "toy"


@pytest.mark.parametrize("size", [(64, 48), (2560, 2000)])
def test_a_picture_crosses_the_hosts_wire_whole(size: tuple[int, int]) -> None:
    data = from_rgb(draw(5, *size), "RGB24", *size)
    image = ImageData(data=data, width_px=size[0], height_px=size[1], pixel_format="RGB24", exposure_s=0.5, sequence=9)
    (reply,) = Decoder().receive(b"".join(encode(Reply(1, image))))
    assert isinstance(reply, Reply)
    assert reply.result["shape"] == [size[1], size[0], 3]
    assert ImageData.from_wire(reply.result) == image
    exotic = ImageData(data=b"x", width_px=1, height_px=1, pixel_format="H264")
    assert exotic.to_wire()["shape"] == [1, 1, 0]


def test_a_picture_is_converted_to_files() -> None:
    rgb = draw(3, 64, 48)
    grey = ImageData(data=from_rgb(rgb, "Mono8", 64, 48), width_px=64, height_px=48, pixel_format="Mono8")
    assert grey.to_png()[25] == 0  # colour type of the PNG: grey
    assert grey.to_array().shape == (48, 64, 3)
    assert number_of(grey.to_rgb(), 64, 48) == 3
    jpeg = ImageData(data=from_rgb(rgb, "MJPG", 64, 48), width_px=64, height_px=48, pixel_format="MJPG")
    assert jpeg.to_jpeg() is jpeg.data
    assert jpeg.is_encoded
    assert grey.to_jpeg()[:2] == b"\xff\xd8"


def test_sizes_are_offered_one_by_one_or_as_a_range() -> None:
    ranged = FrameSize(width_px=640, height_px=480, min_width_px=64, min_height_px=48, step_width_px=16)
    assert [ranged.offers(*size) for size in ((64, 48), (80, 49), (65, 48), (656, 480), (640, 47))] == [
        True, True, False, False, False,
    ]  # fmt: skip
    can = CameraCapabilities(
        formats=(FrameFormat(pixel_format="GREY", sizes=(ranged, FrameSize(width_px=100, height_px=100))),)
    )
    assert can.nearest(90, 90) == ["100x100", "640x480"]
    assert can.sizes("YUYV") == []


def test_a_ring_holds_several_pictures_and_always_two() -> None:
    assert ring_bytes(100) == 4 << 20
    assert ring_bytes(1 << 20) == 16 << 20
    assert ring_bytes(1 << 30) == 2 << 30
