"""What a GenICam camera does when vfab drives it: told by Aravis' fake GigE Vision camera on the loopback interface."""

from __future__ import annotations

import ctypes
import fcntl
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vfab.drivers.genicam import aravis as binding
from vfab.drivers.genicam.driver import GenicamCamera
from vfab.model.errors import DependencyError, DeviceNotFound, Refused
from vfab.sdk.camera import ImageData
from vfab.sdk.stream import StreamRecord
from vfab.sdk.testing import DriverBench, manifest_in, soon

FOLDER = Path(__file__).parent
pytestmark = pytest.mark.xdist_group("gige-vision")  # one UDP port for all fake cameras: one worker starts them


@pytest.fixture(autouse=True)
def library() -> None:
    try:
        binding.aravis()
    except DependencyError as error:
        pytest.skip(error.message)


class Fake:
    """Aravis' own camera. It has one UDP port only: whoever runs tests beside this one waits."""

    def __init__(self) -> None:
        found = shutil.which("arv-fake-gv-camera-0.8")
        if found is None:
            pytest.skip("arv-fake-gv-camera-0.8 is not installed (Debian: sudo apt-get install aravis-tools)")
        self._program = found
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; again after another test's camera has let go of the port."""
        end = time.monotonic() + 60
        while True:
            command = [self._program, "-i", "127.0.0.1", "-s", "VFAB1"]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                self._process.wait(0.5)
            except subprocess.TimeoutExpired:
                return
            assert time.monotonic() < end, "the port of the fake camera stays in use"

    def stop(self) -> None:
        """End."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@pytest.fixture
def fake() -> Iterator[Fake]:
    with (Path(tempfile.gettempdir()) / "vfab-fake-gv-camera.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Fake()
        made.start()
        try:
            yield made
        finally:
            made.stop()


@contextmanager
def bench(address: str = "genicam://127.0.0.1", **settings: Any) -> Iterator[DriverBench[GenicamCamera]]:
    with DriverBench(GenicamCamera, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def image_of(record: StreamRecord | None) -> ImageData:
    assert record is not None
    return ImageData.from_record(record)


def is_diagonal(image: ImageData) -> bool:
    """The fake camera sends a ramp: each row is the one above, moved by a pixel."""
    pixels = image.to_array()
    return bool(np.array_equal(pixels[10:30, 11:101], pixels[11:31, 10:100])) and len(np.unique(pixels)) > 50


@pytest.mark.referee
@pytest.mark.parametrize(
    ("name", "channels", "bytes_px"), [("Mono8", 1, 1), ("RGB8", 3, 3), ("Mono16", 1, 2), ("BayerRG8", 1, 1)]
)
def test_a_picture_of_each_format_is_what_the_fake_camera_sends(
    fake: Fake, name: str, channels: int, bytes_px: int
) -> None:
    with bench(pixel_format=name, width_px=320, height_px=200) as made:
        made.driver.connect()
        image = made.driver.capture_image()
        assert (image.pixel_format, image.shape) == (name, (200, 320, channels))
        assert len(image.data) == 320 * 200 * bytes_px
        assert name == "BayerRG8" or is_diagonal(image)
        assert abs(image.timestamp_s - time.time()) < 2
        assert image.device_timestamp_s
        assert image.exposure_s == pytest.approx(0.01)


@pytest.mark.referee
def test_size_rate_and_exposure_are_set_or_refused(fake: Fake) -> None:
    with bench() as made:
        camera = made.driver
        camera.connect()
        can = camera.get_capabilities()
        assert {"Mono8", "RGB8", "BayerRG8"} <= {one.pixel_format for one in can.formats}
        assert can.can_set == ("resolution", "framerate", "exposure")
        assert can.exposure_range_s == pytest.approx((1e-5, 10.0))
        assert camera.set_resolution(640, 480)
        assert camera.set_framerate(50)
        assert camera.set_exposure(0.002)
        image = camera.capture_image()
        assert image.shape == (480, 640, 1)
        assert image.exposure_s == pytest.approx(0.002)
        assert camera.get_capabilities().framerate_hz == pytest.approx(50)
        assert not camera.set_exposure(0)
        with pytest.raises(Refused, match="2048 × 2048"):
            camera.set_resolution(5000, 10)
        with pytest.raises(Refused, match="10 s"):
            camera.set_exposure(20)
        info = camera.get_device_info()
        assert (info.manufacturer, info.model, info.serial_number) == ("Aravis", "Fake", "VFAB1")
        assert info.bus == "GigE Vision"


@pytest.mark.referee
def test_a_stream_has_the_cameras_numbers_and_goes_on_when_it_comes_back(fake: Fake) -> None:
    with bench(framerate_hz=50.0, timeout_s=1.0, width_px=320, height_px=200) as made:
        made.driver.connect()
        made.driver.set_exposure(0.003)
        made.driver.start_streaming()
        stream = made.streams["main"]
        images = [image_of(stream.read(5)) for _ in range(20)]
        assert all(map(is_diagonal, images))
        steps = {(after.sequence - before.sequence) % 65535 for before, after in pairwise(images)}
        assert steps == {1}
        assert is_diagonal(made.driver.capture_image())
        fake.stop()
        soon(lambda: any(kind == "stream_lost" for kind, _ in made.events))
        fake.start()
        soon(lambda: any(kind == "stream_resumed" for kind, _ in made.events))
        while stream.waiting:
            stream.read(0)
        image = image_of(stream.read(5))
        assert image.shape == (200, 320, 1)
        assert image.exposure_s == pytest.approx(0.003)
        assert made.driver.stop_streaming()["streaming"] is False


@pytest.mark.referee
def test_a_format_that_it_has_not_is_refused_and_nothing_stays_held(fake: Fake) -> None:
    with bench(pixel_format="YUV422_8") as made, pytest.raises(Refused, match="YUV422_8"):
        made.driver.connect()
    with bench() as made:
        made.driver.connect()
        made.driver.disconnect()
        made.driver.disconnect()


def test_nobody_there_is_told_with_what_to_do() -> None:
    with bench("genicam://127.0.0.77") as made, pytest.raises(DeviceNotFound) as caught:
        made.driver.connect()
    assert "arv-tool-0.8" in caught.value.remedy


def test_without_the_library_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DependencyError) as caught:
        binding.Aravis()
    assert "libaravis-0.8-0" in caught.value.remedy
