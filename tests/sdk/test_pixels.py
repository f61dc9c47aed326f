"""Pixel formats, with Pillow and FFmpeg's swscale (through PyAV) as referees."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vfab.model.errors import ConfigurationError, ProtocolError
from vfab.sdk.pixels import LAYOUTS, bytes_needed, image_size, layout_of, sniff, to_png, to_rgb
from vfab.sdk.pixels_from_rgb import from_rgb

FFMPEG = {
    "GREY": "gray", "RGB24": "rgb24", "BGR24": "bgr24", "RGBA32": "rgba", "BGRA32": "bgra", "YUYV": "yuyv422",
    "UYVY": "uyvy422", "YVYU": "yvyu422", "NV12": "nv12", "NV21": "nv21", "YU12": "yuv420p", "Y16": "gray16le",
    "BayerRG8": "bayer_rggb8", "BayerGR8": "bayer_grbg8", "BayerGB8": "bayer_gbrg8", "BayerBG8": "bayer_bggr8",
}  # fmt: skip
RAW = [name for name, layout in LAYOUTS.items() if not layout.is_encoded]
COLOUR = [name for name in RAW if layout_of(name).channels >= 3]


def smooth(width: int, height: int, seed: int = 0) -> bytes:
    """A picture without edges: chroma that is stored for several pixels says the same of each."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    r = np.random.default_rng(seed).uniform(0.2, 0.8, 3)
    channels = [127 + 100 * np.sin(r[n] * 3 * (x + (n + 1) * y / 2) + n) for n in range(3)]
    return np.stack(channels, axis=2).clip(0, 255).astype(np.uint8).tobytes()


def furthest(one: bytes, other: bytes, width: int, margin: int = 0) -> int:
    a, b = (np.frombuffer(data, np.uint8).reshape(-1, width, 3).astype(int) for data in (one, other))
    if margin:
        a, b = a[margin:-margin, margin:-margin], b[margin:-margin, margin:-margin]
    return int(np.abs(a - b).max())


def by_ffmpeg(data: bytes, name: str, width: int, height: int) -> bytes:
    av = pytest.importorskip("av")
    frame = av.VideoFrame(width, height, FFMPEG[name])
    start = 0
    planes = [(height, layout_of(name).row_bytes(width))]
    if layout_of(name).planes > 1:
        chroma = -(-width // 2) * (2 if layout_of(name).planes == 2 else 1)
        planes = [(height, width), *[(-(-height // 2), chroma)] * (layout_of(name).planes - 1)]
    for plane, (rows, length) in zip(frame.planes, planes, strict=True):
        padded = bytearray(plane.buffer_size)
        for row in range(rows):
            padded[row * plane.line_size : row * plane.line_size + length] = data[start : start + length]
            start += length
        plane.update(bytes(padded))
    scaler = av.video.reformatter.VideoReformatter()
    return bytes(scaler.reformat(frame, format="rgb24", src_colorspace=5, src_color_range=1).to_ndarray().tobytes())


@pytest.mark.parametrize("name", [name for name in FFMPEG if name != "GREY"])
def test_rgb_is_what_ffmpeg_makes_of_the_same_bytes(name: str) -> None:
    width, height = 64, 48
    data = from_rgb(smooth(width, height), name, width, height)
    limit = 8 if name.startswith("Bayer") else 4  # swscale rounds coarsely and interpolates chroma
    theirs = by_ffmpeg(data, name, width, height)
    assert furthest(to_rgb(data, name, width, height), theirs, width, margin=2) <= limit


@pytest.mark.parametrize("name", RAW)
@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 33), height=st.integers(1, 17), seed=st.integers(0, 99))
def test_there_and_back_a_smooth_picture_stays_itself(name: str, width: int, height: int, seed: int) -> None:
    flat = bytes(np.random.default_rng(seed).integers(0, 256, 3, np.uint8)) * (width * height)
    data = from_rgb(flat, name, width, height)
    assert len(data) == bytes_needed(name, width, height)
    back = to_rgb(data, name, width, height)
    assert len(back) == width * height * 3
    if name in COLOUR:
        assert furthest(back, flat, width) <= 3
    elif not name.startswith("Bayer") or (width > 1 and height > 1):
        grey = from_rgb(flat, "GREY", width, height)
        wanted = flat if name.startswith("Bayer") else bytes(np.repeat(np.frombuffer(grey, np.uint8), 3))
        assert furthest(back, wanted, width) <= 1


@pytest.mark.parametrize("name", RAW)
@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 19), height=st.integers(1, 9), padding=st.integers(1, 9), data=st.data())
def test_padding_at_the_end_of_rows_changes_nothing(
    name: str, width: int, height: int, padding: int, data: Any
) -> None:
    layout, padding = layout_of(name), padding * 2
    packed = bytes(data.draw(st.binary(min_size=(size := bytes_needed(name, width, height)), max_size=size)))
    stride = layout.row_bytes(width) + padding
    row, out, at = layout.row_bytes(width), bytearray(), 0
    chroma = -(-height // 2)
    planes = {1: [(height, row, stride)], 2: [(height, row, stride), (chroma, row, stride)]}.get(
        layout.planes, [(height, row, stride), *[(chroma, row // 2, stride // 2)] * 2]
    )
    for rows, length, step in planes:
        for _ in range(rows):
            out += packed[at : at + length].ljust(step, b"\xee")
            at += length
    assert at == size
    whole = to_rgb(packed, name, width, height)
    assert to_rgb(bytes(out), name, width, height, stride_bytes=stride) == whole
    needed = bytes_needed(name, width, height, stride)
    assert to_rgb(bytes(out[:needed]), name, width, height, stride_bytes=stride) == whole
    with pytest.raises(ProtocolError, match="bytes"):
        to_rgb(bytes(out[: needed - 1]), name, width, height, stride_bytes=stride)


def test_bt709_and_full_range_are_what_their_definitions_say() -> None:
    red = bytes([255, 0, 0]) * 4
    assert to_rgb(bytes([76, 85, 76, 255] * 2), "YUYV", 2, 2, full_range=True)[:3] == bytes([254, 0, 0])
    assert to_rgb(bytes([63, 102, 63, 240] * 2), "YUYV", 2, 2, matrix="bt709")[:3] == bytes([255, 1, 0])
    for matrix in ("bt601", "bt709"):
        data = from_rgb(red, "YUYV", 2, 2, matrix=matrix, full_range=True)
        assert furthest(to_rgb(data, "YUYV", 2, 2, matrix=matrix, full_range=True), red, 2) <= 2
    with pytest.raises(ConfigurationError, match="colour matrix"):
        to_rgb(bytes(8), "YUYV", 2, 2, matrix="bt2020")


@pytest.mark.parametrize("name", ["MJPG", "PNG", "WEBP"])
def test_encoded_pictures_are_decoded_as_pillow_does_and_their_size_is_read(name: str) -> None:
    data = from_rgb(smooth(40, 30), name, 40, 30)
    assert sniff(data) == name
    assert image_size(data) == (40, 30)
    with Image.open(io.BytesIO(data)) as image:
        assert to_rgb(data, name, 40, 30) == image.convert("RGB").tobytes()
    with pytest.raises(ProtocolError, match="40 × 30"):
        to_rgb(data, name, 41, 30)
    with pytest.raises(ProtocolError, match="damaged"):
        to_rgb(data[: len(data) // 3], name, 40, 30)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFFxxxxWEBP"]))
def test_junk_is_no_picture_and_is_told_so(junk: bytes, begin: bytes) -> None:
    try:
        width, height = image_size(begin + junk)
    except ProtocolError as error:
        assert error.message
    else:
        assert (width, height) >= (0, 0)


def test_progressive_and_odd_jpegs_have_a_size() -> None:
    image = Image.frombytes("RGB", (33, 17), smooth(33, 17))
    for options in ({"progressive": True}, {"restart_marker_rows": 1}, {"comment": b"x" * 300}):
        made = io.BytesIO()
        image.save(made, "JPEG", **options)
        assert image_size(made.getvalue()) == (33, 17)
    filled = made.getvalue()
    assert image_size(filled[:2] + b"\xff\xff" + filled[2:]) == (33, 17)


def test_devices_own_names_mean_the_same() -> None:
    for names in (("YUYV", "yuyv", "YUY2", "YUV422_8"), ("GREY", "Mono8", "Y800"), ("Y16 ", "Mono16"),
                  ("RGB3", "RGB8", "RGB24"), ("MJPG", "JPEG", "mjpeg"), ("BA81", "BayerBG8")):  # fmt: skip
        assert len({layout_of(name).name for name in names}) == 1
    with pytest.raises(ConfigurationError) as caught:
        layout_of("H264")
    assert "YUYV" in caught.value.context["known"]


@pytest.mark.parametrize(("width", "height", "stride"), [(0, 4, 0), (4, -1, 0), (1 << 20, 1 << 20, 0), (4, 4, 3)])
def test_impossible_sizes_are_refused(width: int, height: int, stride: int) -> None:
    with pytest.raises(ConfigurationError):
        bytes_needed("GREY", width, height, stride)


def test_a_png_holds_the_same_pixels() -> None:
    rgb = smooth(12, 7)
    with Image.open(io.BytesIO(to_png(rgb, 12, 7))) as image:
        assert image.tobytes() == rgb
    with Image.open(io.BytesIO(to_png(bytes(range(84)), 12, 7, channels=1))) as image:
        assert (image.mode, image.tobytes()) == ("L", bytes(range(84)))
