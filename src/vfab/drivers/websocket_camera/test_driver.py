"""What a WebSocket camera does when vfab drives it: told by the simulator, and by servers that know no protocol."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.websocket_camera.driver import WebSocketCamera
from vfab.drivers.websocket_camera.simulator import SocketSimulator
from vfab.model.errors import ConnectError, LinkLost, ProtocolError, Refused, TimeoutExceeded
from vfab.sdk.camera import ImageData
from vfab.sdk.stream import StreamRecord
from vfab.sdk.testing import DriverBench, manifest_in, soon
from vfab.sdk.testing.moving_picture import has_bars, number_of

FOLDER = Path(__file__).parent


@contextmanager
def bench(address: str, **settings: Any) -> Iterator[DriverBench[WebSocketCamera]]:
    with DriverBench(WebSocketCamera, manifest_in(FOLDER), address, config=settings) as made:
        yield made


def number_in(image: ImageData) -> int:
    rgb = image.to_rgb()
    assert image.shape[2] == 1 or has_bars(rgb, image.width_px, image.height_px)
    return number_of(rgb, image.width_px, image.height_px)


def image_of(record: StreamRecord | None) -> ImageData:
    assert record is not None
    return ImageData.from_record(record)


@pytest.mark.parametrize("pixel_format", ["MJPG", "PNG", "RGB24", "YUYV", "GREY"])
def test_a_picture_of_any_format_is_what_the_camera_sees(pixel_format: str) -> None:
    with SocketSimulator(pixel_format=pixel_format) as sim, bench(sim.address) as made:
        made.driver.connect()
        before = sim.sent
        image = made.driver.capture_image()
        assert image.pixel_format == pixel_format
        assert number_in(image) == image.sequence == before + 1
        assert image.device_timestamp_s is not None
        info = made.driver.get_device_info()
        assert (info.name, info.manufacturer, info.serial_number) == ("Simulated camera", "vfab", "1")
        assert made.driver.get_capabilities().formats[0].pixel_format == pixel_format


def test_settings_are_taken_refused_and_said_again_to_a_camera_that_restarted() -> None:
    with SocketSimulator() as sim, bench(sim.address) as made:
        camera = made.driver
        camera.connect()
        assert camera.set_resolution(640, 480)
        assert camera.set_framerate(50)
        assert camera.set_exposure(0.01)
        sim.restart()
        image = camera.capture_image()
        assert (image.shape, image.exposure_s) == ((480, 640, 3), 0.01)
        can = camera.get_capabilities()
        assert (can.width_px, can.framerate_hz, can.exposure_s, can.auto_exposure) == (640, 50, 0.01, False)
        with pytest.raises(Refused, match="does not take width 641") as caught:
            camera.set_resolution(641, 480)
        assert caught.value.remedy
        with pytest.raises(Refused, match="does not take exposure"):
            camera.set_exposure(5.0)
        assert camera.capture_image().shape == (480, 640, 3)
        camera.start_streaming()
        with pytest.raises(Refused, match="streams"):
            camera.set_exposure(0.02)


def test_a_stream_has_every_picture_and_goes_on_after_a_restart() -> None:
    with SocketSimulator(framerate_hz=100) as sim, bench(sim.address) as made:
        made.driver.connect()
        made.driver.start_streaming()
        stream = made.streams["main"]
        numbers = [number_in(image_of(stream.read(5))) for _ in range(20)]
        assert numbers == list(range(numbers[0], numbers[0] + 20))
        assert number_in(made.driver.capture_image()) > numbers[-1]
        sim.restart()
        soon(lambda: stream.read(1) and any(kind == "stream_resumed" for kind, _ in made.events))
        assert number_in(image_of(stream.read(5))) > numbers[-1]
        assert made.driver.stop_streaming()["streaming"] is False


def test_a_server_that_only_sends_jpegs_is_a_camera_too() -> None:
    with SocketSimulator(plain=True, framerate_hz=50) as sim, bench(sim.address) as made:
        made.driver.connect()
        assert number_in(made.driver.capture_image()) > 0
        assert not made.driver.set_resolution(640, 480)
        made.driver.start_streaming()
        numbers = [number_in(image_of(made.streams["main"].read(5))) for _ in range(5)]
        assert numbers == sorted(set(numbers))
        assert made.driver.get_capabilities().width_px == 320


def test_a_camera_that_hangs_is_given_up_in_time() -> None:
    with SocketSimulator(silent=True) as sim, bench(sim.address, timeout_s=0.3) as made:
        with pytest.raises(TimeoutExceeded) as caught:
            made.driver.connect()
        assert "timeout_s" in caught.value.remedy
        with pytest.raises(TimeoutExceeded):
            made.driver.set_exposure(0.01)
        assert all(link.closed for link in made.links)


@contextmanager
def served(handler: Callable[[Any], None]) -> Iterator[str]:
    """Somebody else's WebSocket server."""
    from websockets.sync.server import serve

    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("sent", "kind", "says"),
    [
        ([b"no picture"], ProtocolError, "no JPEG, PNG or WebP"),
        (["hello there"], ProtocolError, "no JSON"),
        (["[1]"], ProtocolError, "no JSON object"),
        (['{"type": "frame", "width": -1}'], ProtocolError, "width"),
        (['{"type": "hello"}', '{"type": "error", "message": "lens cap"}'], ConnectError, "lens cap"),
        (['{"type": "hello"}', '{"type": "odd"}'], LinkLost, "closed"),
    ],
)
def test_what_is_no_picture_is_told(sent: list[Any], kind: type[Exception], says: str) -> None:
    def handler(connection: Any) -> None:
        for one in sent:
            connection.send(one)

    with served(handler) as address, bench(address) as made:
        with pytest.raises(kind, match=says):
            made.driver.connect()
        assert all(link.closed for link in made.links)


def test_a_web_server_that_speaks_no_websocket_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for text in (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"220 mail\r\n", b""):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}/camera"
        for kind in (ConnectError, (ProtocolError, LinkLost), (ProtocolError, LinkLost)):
            with bench(address) as made, pytest.raises(kind) as caught:
                made.driver.connect()
            assert caught.value.remedy


def test_a_server_that_speaks_before_it_is_asked_is_no_camera() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        times = 30  # whether its bytes come before the request, or behind it, is a race

        def greet() -> None:
            for _ in range(times):
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(b"220 mail.example ESMTP\r\n")
                    while peer.recv(65536):
                        pass

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        address = f"ws://127.0.0.1:{listener.getsockname()[1]}/camera"
        for _ in range(times):
            with (
                bench(address) as made,
                pytest.raises((ProtocolError, LinkLost), match=r"does not speak|closed") as caught,
            ):
                made.driver.connect()
            assert caught.value.remedy
        thread.join()
