"""GStreamer, FFmpeg and curl look at the simulated MJPEG camera, and see each picture as it was drawn."""

from __future__ import annotations

import email
import io
import os
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from needs import program

pytest.importorskip("PIL")

from vfab.drivers.mjpeg.simulator import MjpegSimulator
from vfab.protocols.http_auth import Credentials, Gate
from vfab.sdk.testing import soon
from vfab.sdk.testing.moving_picture import has_bars, number_of

SIZE = (320, 240)
CREDENTIALS = Credentials("user", "pass word")
LIMIT_S = 120


def run(*command: str) -> bytes:
    """What the program printed; it went well. No proxy leads to a port of this machine."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@cache
def gst_launch() -> str:
    """GStreamer's program, with the elements that are needed."""
    packages = "gstreamer1.0-tools gstreamer1.0-plugins-good"
    inspect = program("gst-inspect-1.0", package=packages)
    for element in ("souphttpsrc", "multipartdemux", "jpegdec"):
        if subprocess.run([inspect, "--exists", element], timeout=LIMIT_S, check=False).returncode:
            pytest.skip(f"GStreamer has no {element} (Debian: sudo apt-get install {packages})")
    return program("gst-launch-1.0", package=packages)


def gstreamer(sim: MjpegSimulator, folder: Path, *, source: Sequence[str] = (), filters: Sequence[str] = ()) -> bytes:
    """The pixels that GStreamer decodes, picture after picture."""
    made = folder / "pictures.rgb"
    run(
        *(
            gst_launch(),
            "--quiet",
            "souphttpsrc",
            f"location={sim.address}/stream",
            *source,
            "!",
            "multipartdemux",
            "!",
            "jpegdec",
            "!",
        ),
        *(*filters, "videoconvert", "!", "video/x-raw,format=RGB", "!", "filesink", f"location={made}"),
    )
    return made.read_bytes()


def ffmpeg(sim: MjpegSimulator, *, user: str = "", path: str = "/stream") -> bytes:
    """The pixels that FFmpeg decodes, picture after picture."""
    found = program("ffmpeg", package="ffmpeg")
    url = sim.address.replace("//", f"//{user}") + path
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return run(found, "-nostdin", "-loglevel", "error", "-i", url, "-fps_mode", "passthrough", *raw)


def numbers(pixels: bytes) -> list[int]:
    """The numbers that the pictures show; each is whole and has its bars."""
    size = SIZE[0] * SIZE[1] * 3
    pictures = [pixels[start : start + size] for start in range(0, len(pixels), size)]
    assert all(has_bars(picture, *SIZE) for picture in pictures)
    return [number_of(picture, *SIZE) for picture in pictures]


def camera(quirk: str = "none", auth: str = "", frames: int = 5) -> MjpegSimulator:
    """It sends so many pictures as fast as they are taken, then ends the stream."""
    gate = Gate(CREDENTIALS, auth) if auth else None
    return MjpegSimulator(width_px=SIZE[0], height_px=SIZE[1], framerate_hz=0, quirk=quirk, gate=gate, frames=frames)


@pytest.mark.parametrize("quirk", ["none", "ffmpeg", "no-length", "quoted", "dashes", "chunked", "newlines"])
def test_gstreamer_sees_every_picture_of_a_stream(quirk: str, tmp_path: Path) -> None:
    with camera(quirk) as sim:
        assert numbers(gstreamer(sim, tmp_path)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("quirk", ["none", "ffmpeg", "no-length", "quoted", "dashes", "chunked", "newlines", "bare"])
def test_ffmpeg_sees_every_picture_of_a_stream(quirk: str) -> None:
    with camera(quirk) as sim:
        assert numbers(ffmpeg(sim)) == [1, 2, 3, 4, 5]


def test_curl_gets_parts_that_a_mail_reader_takes_apart() -> None:
    from PIL import Image

    with camera() as sim:
        got = run(program("curl", package="curl"), "--silent", "--show-error", "--include", sim.address)
    head, _, body = got.partition(b"\r\n\r\n")
    status, _, fields = head.partition(b"\r\n")
    assert status.split()[1] == b"200"
    parts = email.message_from_bytes(fields + b"\r\n\r\n" + body).get_payload()
    assert isinstance(parts, list)
    pictures = [part for part in parts if part.get("Content-Length")]
    assert {part.get_content_type() for part in pictures} == {"image/jpeg"}
    found = []
    for part in pictures:
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        assert len(data) == int(part["Content-Length"])
        found.append(Image.open(io.BytesIO(data)).convert("RGB").tobytes())
    assert numbers(b"".join(found)) == [1, 2, 3, 4, 5]


def test_a_client_that_leaves_ends_its_stream_and_nobody_elses(tmp_path: Path) -> None:
    with camera(frames=0) as sim:
        seen = numbers(gstreamer(sim, tmp_path, filters=("identity", "eos-after=4", "!")))
        assert len(seen) >= 3
        assert seen == list(range(1, len(seen) + 1))
        soon(lambda: sim.clients == 0, what="the stream ends")
        sent = sim.sent
        sim.frames = 3
        assert numbers(ffmpeg(sim)) == [sent + 1, sent + 2, sent + 3]


def test_ffmpeg_and_curl_take_one_picture() -> None:
    from PIL import Image

    with camera() as sim:
        assert numbers(ffmpeg(sim, path="/snapshot")) == [1]
        data = run(program("curl", package="curl"), "--silent", "--fail", f"{sim.address}/snapshot")
        assert numbers(Image.open(io.BytesIO(data)).convert("RGB").tobytes()) == [2]


def _gstreamer_with_password(sim: MjpegSimulator, folder: Path) -> list[int]:
    given = (f"user-id={CREDENTIALS.user}", f"user-pw={CREDENTIALS.password}")
    return numbers(gstreamer(sim, folder, source=given))


def _ffmpeg_with_password(sim: MjpegSimulator, folder: Path) -> list[int]:
    return numbers(ffmpeg(sim, user="user:pass%20word@"))


@pytest.mark.parametrize("auth", ["basic", "digest", "digest-old"])
@pytest.mark.parametrize("client", [_gstreamer_with_password, _ffmpeg_with_password])
def test_a_password_is_asked_for_and_taken(
    client: Callable[[MjpegSimulator, Path], list[int]], auth: str, tmp_path: Path
) -> None:
    with camera(auth=auth) as sim:
        assert client(sim, tmp_path) == [1, 2, 3, 4, 5]
        assert len(sim.requests) == 2


@pytest.mark.parametrize(("password", "status"), [("pass word", "200"), ("other", "401")])
@pytest.mark.parametrize("auth", ["basic", "digest", "digest-old", "digest-sha256"])
def test_curl_gets_in_with_the_right_password_only(auth: str, password: str, status: str) -> None:
    with camera(auth=auth) as sim:
        written = run(
            *(program("curl", package="curl"), "--silent", "--anyauth", "--user", f"user:{password}"),
            *("--output", "/dev/null", "--write-out", "%{http_code}", f"{sim.address}/snapshot"),
        )
        assert written.decode() == status
