"""`vfab capture`: a camera's picture becomes a file, whole or not at all."""

from __future__ import annotations

import io
import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from apps.programs import Vfab
from vfab.apps.capturing import CaptureRequest, names_for
from vfab.model.errors import ConfigurationError
from vfab.sdk.testing import soon
from vfab.sdk.testing.moving_picture import has_bars, number_of


def camera(vfab: Vfab, *options: object) -> str:
    process = vfab.start("sim", "run", "mjpeg", *options)
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return str(json.loads(line)["address"])


def number_in(file: Path) -> int:
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        rgb, size = image.convert("RGB").tobytes(), image.size
    assert has_bars(rgb, *size)
    return number_of(rgb, *size)


def test_a_picture_becomes_a_png_and_what_it_is_is_said(vfab: Vfab) -> None:
    address, file = camera(vfab, "--size", "320x240"), vfab.home / "now.png"
    done = vfab("capture", "--device", address, "-o", file)
    assert done.code == 0, done.err
    for said in (str(file), "320 × 240 pixels of MJPG", "taken 20", "camera's clock"):
        assert said in done.out
    assert number_in(file) > 0
    with Image.open(file) as image:
        assert (image.format, image.size) == ("PNG", (320, 240))


def test_with_json_everything_is_told_and_several_pictures_are_numbered(vfab: Vfab) -> None:
    address = camera(vfab, "--size", "64x48", "--fps", "100")
    done = vfab("capture", "--device", address, "-o", "shot.jpg", "--count", "3", "--json")
    assert done.code == 0, done.err
    files = [Path(picture["file"]) for picture in done.json["pictures"]]
    assert [file.name for file in files] == ["shot-001.jpg", "shot-002.jpg", "shot-003.jpg"]
    assert [file.parent for file in files] == [vfab.home] * 3
    numbers = [number_in(file) for file in files]
    assert numbers == sorted(set(numbers))
    first = done.json["pictures"][0]
    assert (first["shape"], first["pixel_format"], first["bytes"]) == ([48, 64, 3], "MJPG", files[0].stat().st_size)
    assert (done.json["driver"], done.json["camera"]["bus"]) == ("mjpeg", "http")
    assert abs(first["timestamp_s"] - files[0].stat().st_mtime) < 30


def test_without_a_name_the_file_is_named_by_the_time_and_told(vfab: Vfab) -> None:
    done = vfab("capture", "--device", camera(vfab))
    file = Path(done.out.partition(": ")[0])
    assert file.parent == vfab.home
    assert file.name.startswith("capture-20")
    assert number_in(file) > 0


def test_a_size_is_set_where_the_camera_can_be_told_one(vfab: Vfab) -> None:
    address = camera(vfab)
    path = "/stream?resolution={width}x{height}"
    done = vfab(
        "capture", "--device", address, "--path", path, "--width", 400, "--height", 300, "-o", "a.raw", "--json"
    )
    assert done.code == 0, done.err
    with Image.open(vfab.home / "a.raw") as image:  # the camera's own bytes
        assert (image.format, image.size) == ("JPEG", (400, 300))
    refused = vfab("capture", "--device", address, "--width", 400, "--height", 300, "-o", "b.png", "--json")
    assert refused.error["code"] == "refused"
    assert not (vfab.home / "b.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "x.gif"], "'.gif'"),
        (["-o", "nowhere/x.png"], "cannot be written"),
        (["--width", "3"], "a width and a height"),
        (["--count", "9999999"], "9999999"),
        (["--driver", "no-such"], "no-such"),
        (["--device", "http://127.0.0.1:1", "-o", "x.png"], "127.0.0.1:1"),
        (["--device", "tcp://127.0.0.1:1", "--driver", "axidraw"], "no camera: its category is plotter"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(vfab: Vfab, arguments: list[str], says: str) -> None:
    done = vfab("capture", *arguments)
    assert done.code not in {0, 70}
    assert says in done.err
    assert "what to do" in done.err
    assert not list(vfab.home.glob("*.png"))


def test_a_capture_that_waits_is_ended_by_a_signal_and_leaves_nothing(vfab: Vfab) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = vfab.start("capture", "--device", address, "-o", "x.png", "--timeout-s", "100")
        with listener.accept()[0]:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
    assert not list(vfab.home.glob("*x.png*"))


def test_a_node_takes_the_picture_when_one_is_up(vfab: Vfab) -> None:
    address = camera(vfab, "--fps", "50")
    vfab.start("up")
    soon(lambda: vfab("status").code == 0, 30)
    try:
        for arguments in ([], ["--no-node"]):
            done = vfab("capture", "--device", address, "-o", "node.png", "--json", *arguments)
            assert done.code == 0, done.err
            assert number_in(vfab.home / "node.png") > 0
        wrong = vfab("capture", "--device", address, "--path", "/wrong", "--json")
        assert wrong.error["code"] == "connection_failed"
    finally:
        vfab("down")


def test_names_have_as_many_digits_as_the_count_needs(tmp_path: Path) -> None:
    now = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert names_for(CaptureRequest(folder=tmp_path), now) == [tmp_path / "capture-20310203-040506.png"]
    many = names_for(CaptureRequest(output=tmp_path / "a.png", count=12000))
    assert (many[0].name, many[-1].name) == ("a-00001.png", "a-12000.png")
    with pytest.raises(ConfigurationError):
        names_for(CaptureRequest(folder=tmp_path, count=0))
