"""What an RTSP camera does when vfab drives it: told by GStreamer's RTSP server, with H.264 and MJPEG."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.model.errors import ConnectError, DriverError, PermissionRefused, TimeoutExceeded
from vfab.sdk.camera import ImageData
from vfab.sdk.stream import StreamRecord
from vfab.sdk.testing import DriverBench, manifest_in

pytest.importorskip("av")

from vfab.drivers.rtsp.driver import RtspCamera
from vfab.sdk.testing import soon

FOLDER = Path(__file__).parent
SERVER = FOLDER.parents[3] / "tests/drivers/rtsp/gst_server.py"
SOURCE = "videotestsrc is-live=true pattern=smpte75 ! video/x-raw,format=I420,width=320,height=240,framerate=25/1"
H264 = f"( {SOURCE} ! videoconvert ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 config-interval=1 )"
JPEG = f"( {SOURCE} ! jpegenc ! rtpjpegpay name=pay0 )"
BARS = [(191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191)]


@contextmanager
def served(launch: str = H264, port: int = 0, *login: str) -> Iterator[int]:
    """GStreamer's server; its port."""
    command = ["/usr/bin/python3", str(SERVER), str(port), launch, *login]
    if not SERVER.exists() or not Path(command[0]).exists():
        pytest.skip("needs the repository's tests and the system's Python")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            pytest.skip("GStreamer's RTSP server is missing (Debian: sudo apt-get install gir1.2-gst-rtsp-server-1.0)")
        yield int(json.loads(line)["port"])
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(10)
        process.stdout.close()


@contextmanager
def bench(port: int, place: str = "/live", **settings: Any) -> Iterator[DriverBench[RtspCamera]]:
    address = f"rtsp://127.0.0.1:{port}{place}"
    with DriverBench(RtspCamera, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def image_of(record: StreamRecord | None) -> ImageData:
    assert record is not None
    return ImageData.from_record(record)


def shows_bars(image: ImageData) -> bool:
    pixels = image.to_array()
    places = [pixels[60, (2 * n + 1) * 320 // 14] for n in range(7)]
    return all(
        abs(int(found) - wanted) <= 16 for pixel, bar in zip(places, BARS, strict=True)
        for found, wanted in zip(pixel, bar, strict=True)
    )  # fmt: skip


@pytest.mark.referee
@pytest.mark.parametrize(
    ("launch", "settings", "pixel_format"),
    [(H264, {}, "YU12"), (H264, {"pixel_format": "RGB24", "transport": "udp"}, "RGB24"), (JPEG, {}, "MJPG")],
)
def test_pictures_show_what_gstreamer_sends(launch: str, settings: dict[str, Any], pixel_format: str) -> None:
    with served(launch) as port, bench(port, **settings) as made:
        made.driver.connect()
        image = made.driver.capture_image()
        assert (image.shape, image.pixel_format) == ((240, 320, 3), pixel_format)
        assert shows_bars(image)
        made.driver.start_streaming()
        images = [image_of(made.streams["main"].read(10)) for _ in range(10)]
        assert [one.sequence for one in images] == list(range(1, 11))
        own = [one.device_timestamp_s or 0.0 for one in images]
        assert own == sorted(set(own))
        assert made.driver.capture_image().sequence > 10
        assert made.driver.get_device_info().details["codec"] in {"h264", "mjpeg"}
        assert made.driver.get_capabilities().width_px == 320
        assert not made.driver.set_exposure(0.01)


@pytest.mark.referee
def test_a_stream_goes_on_when_the_server_comes_back() -> None:
    with served() as port, bench(port, "", path="/live") as made:
        made.driver.connect()
        made.driver.start_streaming()
        image_of(made.streams["main"].read(10))
    with bench(port, timeout_s=3.0) as made:
        with served(port=port):
            made.driver.connect()
            made.driver.start_streaming()
            image_of(made.streams["main"].read(10))
        soon(lambda: any(kind == "stream_lost" for kind, _ in made.events))
        with served(port=port):
            soon(lambda: made.streams["main"].read(1) and any(kind == "stream_resumed" for kind, _ in made.events))
            assert shows_bars(image_of(made.streams["main"].read(10)))


@pytest.mark.referee
def test_a_password_is_asked_for_and_given() -> None:
    with served(H264, 0, "eve", "p:w") as port:
        for settings in ({}, {"user": "eve", "password": "wrong"}):
            with bench(port, **settings) as made, pytest.raises(PermissionRefused) as caught:
                made.driver.connect()
            assert "VFAB_RTSP_PASSWORD" in caught.value.remedy
            assert "wrong" not in str(caught.value.to_dict())
        with bench(port, user="eve", password="p:w") as made:
            assert made.driver.connect()


@pytest.mark.referee
def test_a_wrong_path_is_told_with_what_to_do() -> None:
    with served() as port, bench(port, "/nowhere") as made, pytest.raises(ConnectError) as caught:
        made.driver.connect()
    assert "rtsp://host/path" in caught.value.remedy


def test_nobody_there_and_somebody_silent_are_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with bench(port, timeout_s=0.5) as made, pytest.raises(TimeoutExceeded) as caught:
            made.driver.connect()
        assert caught.value.remedy
        with bench(port, timeout_s=60.0) as made:
            waiting = made.start(made.driver.connect)
            waiting.token.cancel()
            with pytest.raises(DriverError):
                waiting.result()
    with bench(port) as made, pytest.raises(ConnectError):
        made.driver.connect()
