"""A camera of the kernel: pictures, streams, and a cable that is pulled."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from apps.programs import Vfab
from lab.modules import until
from vfab.drivers.v4l2.abi import JOINED
from vfab.drivers.v4l2.driver import V4l2Camera
from vfab.sdk.testing import DriverBench, manifest_in

V4L2 = manifest_in(Path(__file__).resolve().parents[2] / "src/vfab/drivers/v4l2")
BARS = ["white", "yellow", "cyan", "green", "magenta", "red", "blue", "black"]
ON = {"white": (1, 1, 1), "yellow": (1, 1, 0), "cyan": (0, 1, 1), "green": (0, 1, 0), "magenta": (1, 0, 1)} | {
    "red": (1, 0, 0),
    "blue": (0, 0, 1),
    "black": (0, 0, 0),
}
VIVID = Path("/sys/bus/platform/drivers/vivid")


def bars_of(picture: Image.Image) -> list[str]:
    """The colours of the test pattern's eight bars, below the clock that vivid writes over them."""
    width, height = picture.size
    seen = [picture.getpixel((width * (2 * n + 1) // 16, height * 4 // 5)) for n in range(8)]
    names = {on: name for name, on in ON.items()}
    return [names[tuple(int(part > 96) for part in colour)] for colour in seen]


def test_a_captured_picture_shows_the_test_pattern_in_its_colours(vfab: Vfab, camera: str) -> None:
    done = vfab("capture", "--device", camera, "-o", vfab.home / "now.png", "--json", timeout=280)
    assert done.code == 0, done.err
    with Image.open(vfab.home / "now.png") as picture:
        rgb = picture.convert("RGB")
        assert rgb.size == (640, 360)
        assert bars_of(rgb) == BARS


def test_a_stream_has_the_cameras_frames_with_the_kernels_time(vfab: Vfab, camera: str) -> None:
    file = vfab.home / "frames.raw"
    done = vfab("stream", camera, "-n", 3, "-f", "raw", "-o", file, timeout=280)
    assert done.code == 0, done.err
    assert file.stat().st_size == 3 * 640 * 360 * 2, done.err


@pytest.mark.parametrize("pixel_format", ["NM12", "NM21", "YM12", "YM21", "NV12", "YUYV"])
def test_a_picture_in_several_pieces_of_memory_is_one_to_who_gets_it(planar_camera: str, pixel_format: str) -> None:
    with DriverBench(V4l2Camera, V4L2, planar_camera, config={"pixel_format": pixel_format}) as bench:
        assert bench.driver.connect()
        image = bench.driver.capture_image()
        assert image.pixel_format == JOINED.get(pixel_format, pixel_format)
        with Image.frombytes("RGB", (image.width_px, image.height_px), image.to_rgb()) as rgb:
            assert bars_of(rgb) == BARS
        bench.driver.start_streaming()
        record = until(lambda: bench.streams["main"].read(timeout_s=20), "a frame comes")
        assert len(record.data) == len(image.data)
        bench.driver.stop_streaming()


def test_a_stream_goes_on_when_the_camera_is_plugged_in_again(camera: str) -> None:
    with DriverBench(V4l2Camera, V4L2, camera, config={"reconnect_s": 60}) as bench:
        assert bench.driver.connect()
        bench.driver.start_streaming()
        frames = bench.streams["main"]
        first = frames.read(timeout_s=20)
        assert first is not None and first.device_time_s is not None
        (VIVID / "unbind").write_text("vivid.0")
        until(lambda: any(kind == "stream_lost" for kind, _ in bench.events), "the loss is told")
        assert not Path(camera).exists()
        (VIVID / "bind").write_text("vivid.0")
        until(lambda: any(kind == "stream_resumed" for kind, _ in bench.events), "the stream goes on", limit_s=60)
        back_s = time.time()
        until(lambda: (frames.read(timeout_s=10) or first).time_s > back_s, "frames come again")
        bench.driver.stop_streaming()
