"""What an MJPEG camera does when vfab drives it: told by the simulator, by ustreamer and by FFmpeg."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.mjpeg.driver import MjpegCamera
from vfab.drivers.mjpeg.simulator import QUIRKS, MjpegSimulator
from vfab.model.errors import (
    Cancelled,
    ConnectError,
    DriverError,
    LinkLost,
    PermissionRefused,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.protocols.http_auth import Credentials, Gate
from vfab.sdk.camera import ImageData
from vfab.sdk.stream import StreamRecord
from vfab.sdk.testing import DriverBench, manifest_in, soon
from vfab.sdk.testing.moving_picture import has_bars, number_of

FOLDER = Path(__file__).parent


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[MjpegCamera]]:
    with DriverBench(MjpegCamera, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def number_in(image: ImageData) -> int:
    rgb = image.to_rgb()
    assert has_bars(rgb, image.width_px, image.height_px)
    return number_of(rgb, image.width_px, image.height_px)


def image_of(record: StreamRecord | None) -> ImageData:
    assert record is not None
    return ImageData.from_record(record)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# -- one picture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_picture_is_what_the_camera_sees_however_odd_its_server_is(quirk: str) -> None:
    with MjpegSimulator(quirk=quirk) as sim, bench(sim.address) as made:
        assert made.driver.connect()
        before = sim.sent
        image = made.driver.capture_image()
        assert image.shape == (240, 320, 3)
        assert image.pixel_format == "MJPG"
        assert number_in(image) > before
        assert abs(image.timestamp_s - time.time()) < 5
        assert (image.device_timestamp_s is None) == (quirk == "bare")


def test_a_picture_is_always_newer_than_the_call_that_asks_for_it() -> None:
    with MjpegSimulator(framerate_hz=0) as sim, bench(sim.address) as made:
        made.driver.connect()
        for _ in range(3):
            before = sim.sent
            assert number_in(made.driver.capture_image()) > before


def test_single_pictures_come_from_where_the_camera_has_them() -> None:
    with MjpegSimulator() as sim, bench(sim.address, snapshot_path="snapshot") as made:
        made.driver.connect()
        number_in(made.driver.capture_image())
        assert {request.target for request in sim.requests} == {"/snapshot"}


def test_a_path_in_the_address_goes_before_the_setting() -> None:
    with MjpegSimulator() as sim, bench(f"{sim.address}/stream?resolution=400x300", path="/nowhere") as made:
        made.driver.connect()
        assert made.driver.capture_image().shape == (300, 400, 3)


def test_nothing_flows_while_nobody_looks() -> None:
    with MjpegSimulator(framerate_hz=0) as sim, bench(sim.address) as made:
        made.driver.connect()
        made.driver.capture_image()
        soon(lambda: not sim.clients)
        assert made.driver.is_connected()


@pytest.mark.parametrize("scheme", ["basic", "digest", "digest-old", "digest-sha256"])
def test_a_camera_with_a_password_is_let_know_it(scheme: str) -> None:
    gate = Gate(Credentials("eve", "p w:1"), scheme)
    with MjpegSimulator(gate=gate) as sim:
        with bench(sim.address, user="eve", password="p w:1") as made:
            made.driver.connect()
            number_in(made.driver.capture_image())
        with bench(sim.address.replace("//", "//eve:p%20w%3A1@")) as made:
            made.driver.connect()
        for settings, says in (({}, "--user"), ({"user": "eve", "password": "no"}, "wrong")):
            with bench(sim.address, **settings) as made, pytest.raises(PermissionRefused) as caught:
                made.driver.connect()
            assert says in caught.value.remedy


def test_size_and_rate_are_told_through_the_path() -> None:
    path = "/stream?resolution={width}x{height}&fps={fps}"
    with MjpegSimulator() as sim, bench(sim.address, path=path) as made:
        camera = made.driver
        camera.connect()
        assert camera.get_capabilities().can_set == ("resolution", "framerate")
        assert camera.set_resolution(800, 600)
        assert camera.capture_image().shape == (600, 800, 3)
        assert camera.set_framerate(25)
        assert sim.requests[-1].target == "/stream?resolution=800x600&fps=10"
        with pytest.raises(Refused, match="1920 × 1080"):
            camera.set_resolution(4000, 3000)
        assert camera.capture_image().shape == (600, 800, 3)
        assert sim.requests[-1].target == "/stream?resolution=800x600&fps=25"
        camera.start_streaming()
        with pytest.raises(Refused, match="streams"):
            camera.set_resolution(640, 480)


def test_what_the_path_has_no_place_for_cannot_be_set() -> None:
    with MjpegSimulator() as sim, bench(sim.address) as made:
        camera = made.driver
        camera.connect()
        assert not camera.set_resolution(800, 600)
        assert not camera.set_framerate(5)
        assert not camera.set_exposure(0.01)
        with pytest.raises(Refused):
            camera.set_resolution(0, 600)
        assert camera.get_capabilities().width_px == 320
        assert camera.get_device_info().details == {"path": "/"}
        assert camera.test_connection()["message"] == "320 × 240 pixels of MJPG"


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_wrong_path_is_told_with_what_to_do() -> None:
    with MjpegSimulator() as sim, bench(sim.address, path="/video") as made:
        with pytest.raises(ConnectError, match="404") as caught:
            made.driver.connect()
        assert "`path`" in caught.value.remedy
        assert not caught.value.retryable
        assert not made.driver.is_connected()
        assert all(link.closed for link in made.links)
        assert made.driver.test_connection()["success"] is False


def test_nobody_there_and_no_web_server_are_told() -> None:
    with bench(f"http://127.0.0.1:{free_port()}") as made, pytest.raises(ConnectError):
        made.driver.connect()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].sendall(b"220 mail\r\n"), daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with bench(address) as made, pytest.raises((ProtocolError, LinkLost)):
            made.driver.connect()


def test_a_camera_that_hangs_is_given_up_in_time_and_a_cancel_ends_the_wait() -> None:
    with MjpegSimulator(stalls=1) as sim, bench(sim.address, timeout_s=0.2) as made:
        made.driver.connect()
        made.driver.start_streaming()
        with pytest.raises(TimeoutExceeded) as caught:
            made.driver.capture_image()
        assert "timeout_s" in caught.value.remedy
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with bench(address, timeout_s=60.0) as made:
            waiting = made.start(made.driver.connect)
            with listener.accept()[0]:
                waiting.token.cancel()
                with pytest.raises(Cancelled):
                    waiting.result()


def test_damaged_pictures_are_left_out() -> None:
    with MjpegSimulator(damaged=2, framerate_hz=0) as sim, bench(sim.address) as made:
        made.driver.connect()
        made.driver.start_streaming()
        stream = made.streams["main"]
        whole = 0
        for _ in range(6):
            with suppress(ProtocolError):  # cut in half behind its size, which only decoding tells
                number_in(image_of(stream.read(5)))
                whole += 1
        assert whole >= 2


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_has_every_picture_with_its_times_and_number() -> None:
    with MjpegSimulator(framerate_hz=100) as sim, bench(sim.address) as made:
        made.driver.connect()
        soon(lambda: not sim.clients)
        made.driver.start_streaming()
        stream = made.streams["main"]
        records = [stream.read(5) for _ in range(20)]
        images = [image_of(record) for record in records]
        numbers = [number_in(image) for image in images]
        assert numbers == list(range(numbers[0], numbers[0] + 20))
        assert [image.sequence for image in images] == list(range(1, 21))
        times = [image.device_timestamp_s or 0.0 for image in images]
        assert times == sorted(times)
        assert stream.info.about == {"width_px": 320, "height_px": 240, "pixel_format": "MJPG", "stride_bytes": 0}
        assert number_in(made.driver.capture_image()) > numbers[-1]
        assert made.driver.stop_streaming()["streaming"] is False
        soon(lambda: not sim.clients)


def test_a_stream_goes_on_when_the_camera_comes_back() -> None:
    with MjpegSimulator() as sim, bench(sim.address) as made:
        made.driver.connect()
        made.driver.start_streaming()
        stream = made.streams["main"]
        before = number_in(image_of(stream.read(5)))
        sim.restart()
        soon(lambda: stream.read(1) and any(kind == "stream_resumed" for kind, _ in made.events))
        assert number_in(image_of(stream.read(5))) > before
        lost = next(data for kind, data in made.events if kind == "stream_lost")
        assert lost["error"]["code"] == "link_lost"
        assert made.driver.streaming_status()["streaming"]


def test_a_camera_that_stays_away_ends_the_stream_after_its_time() -> None:
    with MjpegSimulator() as sim, bench(sim.address, reconnect_s=0.3) as made:
        made.driver.connect()
        made.driver.start_streaming()
        sim.stop()
        soon(lambda: any(kind == "stream_failed" for kind, _ in made.events))
        status = made.driver.streaming_status()
        assert not status["streaming"]
        assert status["error"]["context"]["attempts"] >= 2
        with pytest.raises(DriverError):
            made.driver.start_streaming()


def test_a_wait_for_a_lost_camera_ends_with_the_stream() -> None:
    with MjpegSimulator() as sim, bench(sim.address) as made:
        made.driver.connect()
        made.driver.start_streaming()
        sim.stop()
        soon(lambda: sum(kind == "stream_lost" for kind, _ in made.events) >= 3)
        assert made.driver.stop_streaming()["streaming"] is False
        made.driver.disconnect()
        made.driver.disconnect()


def test_a_capture_that_waits_is_told_that_the_stream_failed() -> None:
    with MjpegSimulator(stalls=1) as sim, bench(sim.address, reconnect_s=0, timeout_s=1.0) as made:
        made.driver.connect()
        made.driver.start_streaming()
        with pytest.raises((TimeoutExceeded, LinkLost)):
            made.driver.capture_image()


def test_reset_ends_the_stream_and_connects_anew() -> None:
    with MjpegSimulator() as sim, bench(sim.address) as made:
        made.driver.connect()
        made.driver.start_streaming()
        made.driver.reset()
        assert not made.driver.is_streaming()
        assert made.driver.is_connected()


# -- https ------------------------------------------------------------------------------------------------------------


@contextmanager
def behind_tls(port: int, folder: Path) -> Iterator[str]:
    """A TLS server in front of a port, with a certificate that nobody signed."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed (Debian: sudo apt-get install openssl)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pump(outer: socket.socket) -> None:
            with (
                suppress(OSError, ssl.SSLError),
                context.wrap_socket(outer, server_side=True) as tls,
                socket.create_connection(("127.0.0.1", port)) as inner,
            ):
                inner.sendall(tls.recv(65536))
                while data := inner.recv(65536):
                    tls.sendall(data)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=pump, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def test_https_is_spoken_and_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    with MjpegSimulator() as sim, behind_tls(sim.port, tmp_path) as address:
        with bench(address, verify_tls=False) as made:
            made.driver.connect()
            number_in(made.driver.capture_image())
            made.driver.start_streaming()
            number_in(image_of(made.streams["main"].read(5)))
        with bench(address) as made, pytest.raises(ConnectError, match="certificate"):
            made.driver.connect()
        plain = sim.address.replace("http", "https")
        with bench(plain, timeout_s=0.3) as made, pytest.raises((ConnectError, TimeoutExceeded)):
            made.driver.connect()


# -- the program, and other people's cameras --------------------------------------------------------------------------


def program(name: str, package: str) -> str:
    from shutil import which

    found = which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: sudo apt-get install {package})")
    return found


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_ustreamer_without_a_camera_is_streamed_from_and_found_again_after_its_restart() -> None:
    port = free_port()
    command = [program("ustreamer", "ustreamer"), "--host=127.0.0.1", f"--port={port}", "--device=/nowhere"]
    with bench(f"http://127.0.0.1:{port}/stream", snapshot_path=None) as made:
        with running(*command):
            soon(lambda: answers(port))
            made.driver.connect()
            image = made.driver.capture_image()
            assert image.shape == (480, 640, 3)
            assert image.device_timestamp_s is not None
            assert len(set(image.to_rgb())) > 2
            made.driver.start_streaming()
            first = image_of(made.streams["main"].read(10))
        with running(*command):
            soon(lambda: made.streams["main"].read(1) and any(kind == "stream_resumed" for kind, _ in made.events), 30)
            assert image_of(made.streams["main"].read(10)).shape == first.shape
    with bench(f"http://127.0.0.1:{port}", snapshot_path="/snapshot") as made, running(*command):
        soon(lambda: answers(port))
        made.driver.connect()
        assert made.driver.capture_image().shape == (480, 640, 3)


@pytest.mark.parametrize("lengths", [True, False])
def test_ffmpegs_odd_mjpeg_with_its_wrong_content_type_is_streamed_from(lengths: bool) -> None:
    port = free_port()
    muxer = ["-f", "mpjpeg"] if lengths else ["-f", "mjpeg"]  # the second: JPEGs in a row without any boundary
    command = [program("ffmpeg", "ffmpeg"), "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=320x240",
               "-pix_fmt", "yuvj420p", *muxer, "-listen", "1", f"http://127.0.0.1:{port}/"]  # fmt: skip
    with running(*command) as process, bench(f"http://127.0.0.1:{port}/", check_on_connect=False) as made:
        soon(lambda: _listens(process.pid, port))
        made.driver.connect()
        made.driver.start_streaming()
        images = [image_of(made.streams["main"].read(10)) for _ in range(5)]
        assert {image.shape for image in images} == {(240, 320, 3)}
        pixels = images[0].to_array()
        assert tuple(pixels[120, 20] > 128) == (False, False, False) or len({tuple(p) for p in pixels[100]}) > 10


def _listens(pid: int, port: int) -> bool:
    """FFmpeg serves one connection only: it must not be wasted on finding out."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)
