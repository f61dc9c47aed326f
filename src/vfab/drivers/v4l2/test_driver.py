"""What a V4L2 camera does when vfab drives it: on a pretended kernel, with linuxpy's layouts as referee.

With real nodes (`vivid`) it is run in the lab.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.v4l2 import abi
from vfab.drivers.v4l2.abi import BufferState, Pix, PlaneFormat, PlaneState
from vfab.drivers.v4l2.buffers import BufferRequest
from vfab.drivers.v4l2.driver import V4l2Camera
from vfab.drivers.v4l2.fake_kernel import FakeCamera
from vfab.model.errors import ConnectError, DeviceBusy, DriverError, Refused, TimeoutExceeded
from vfab.sdk.camera import ImageData
from vfab.sdk.stream import StreamRecord
from vfab.sdk.testing import DriverBench, manifest_in, soon
from vfab.sdk.testing.moving_picture import has_bars, number_of

FOLDER = Path(__file__).parent


@contextmanager
def bench(camera: FakeCamera, **settings: Any) -> Iterator[DriverBench[Any]]:
    class OnFake(V4l2Camera):
        system = camera

    with DriverBench(OnFake, manifest_in(FOLDER), camera.address, config=settings) as made:
        yield made


@pytest.fixture
def camera() -> Iterator[FakeCamera]:
    with FakeCamera() as made:
        yield made


def number_in(image: ImageData) -> int:
    rgb = image.to_rgb()
    assert has_bars(rgb, image.width_px, image.height_px)
    return number_of(rgb, image.width_px, image.height_px)


def image_of(record: StreamRecord | None) -> ImageData:
    assert record is not None
    return ImageData.from_record(record)


# -- the kernel's structures ------------------------------------------------------------------------------------------

STRUCTURES = {
    "CAPABILITY": "v4l2_capability", "FMTDESC": "v4l2_fmtdesc", "FRMSIZEENUM": "v4l2_frmsizeenum",
    "FRMIVALENUM": "v4l2_frmivalenum", "FORMAT": "v4l2_format", "PIX_FORMAT": "v4l2_pix_format",
    "PIX_FORMAT_MPLANE": "v4l2_pix_format_mplane", "PLANE": "v4l2_plane",
    "STREAMPARM": "v4l2_streamparm", "REQUESTBUFFERS": "v4l2_requestbuffers", "BUFFER": "v4l2_buffer",
    "QUERY_EXT_CTRL_STRUCT": "v4l2_query_ext_ctrl", "QUERYMENU_STRUCT": "v4l2_querymenu", "CONTROL": "v4l2_control",
}  # fmt: skip
REQUESTS = [
    "QUERYCAP", "ENUM_FMT", "G_FMT", "S_FMT", "REQBUFS", "QUERYBUF", "QBUF", "DQBUF", "STREAMON", "STREAMOFF", "G_PARM",
    "S_PARM", "G_CTRL", "S_CTRL", "QUERYMENU", "ENUM_FRAMESIZES", "ENUM_FRAMEINTERVALS", "QUERY_EXT_CTRL",
]  # fmt: skip


@pytest.mark.referee
@pytest.mark.parametrize(("ours", "theirs"), STRUCTURES.items())
def test_structures_are_as_large_as_linuxpys(ours: str, theirs: str) -> None:
    raw = pytest.importorskip("linuxpy.video.raw")
    assert getattr(abi, ours).size == ctypes.sizeof(getattr(raw, theirs))


@pytest.mark.referee
@pytest.mark.parametrize("name", REQUESTS)
def test_requests_have_linuxpys_numbers(name: str) -> None:
    raw = pytest.importorskip("linuxpy.video.raw")
    assert getattr(abi, name) == int(getattr(raw.IOC, name).value) & 0xFFFFFFFF


@pytest.mark.referee
def test_fields_lie_where_linuxpy_has_them() -> None:
    raw = pytest.importorskip("linuxpy.video.raw")
    theirs = raw.v4l2_buffer.from_buffer(BufferState(3, 17, abi.FLAG_ERROR, 12.5, 99, 4096, 8192).pack())
    assert (theirs.index, theirs.type, theirs.bytesused, theirs.flags) == (3, 1, 17, abi.FLAG_ERROR)
    assert (theirs.sequence, theirs.memory, theirs.m.offset, theirs.length) == (99, 1, 4096, 8192)
    assert BufferState.unpack(bytes(theirs)) == BufferState(3, 17, abi.FLAG_ERROR, 12.5, 99, 4096, 8192)
    format_ = raw.v4l2_format.from_buffer(Pix(640, 480, "MJPG").pack())
    assert (format_.fmt.pix.width, format_.fmt.pix.height) == (640, 480)
    format_.fmt.pix.bytesperline, format_.fmt.pix.quantization = 1234, 1
    assert Pix.unpack(bytes(format_)) == Pix(640, 480, "MJPG", 1234, quantization=1)


@pytest.mark.referee
def test_planes_lie_where_linuxpy_has_them() -> None:
    raw = pytest.importorskip("linuxpy.video.raw")
    plane = raw.v4l2_plane.from_buffer_copy(PlaneState(17, 4096, 8192, 5).pack())
    assert (plane.bytesused, plane.length, plane.m.mem_offset, plane.data_offset) == (17, 4096, 8192, 5)
    request = BufferRequest(3, abi.CAPTURE_MPLANE)
    theirs = raw.v4l2_buffer.from_buffer(request.argument)
    assert (theirs.index, theirs.type, theirs.length) == (3, abi.CAPTURE_MPLANE, abi.PLANES_MAX)
    theirs.m.planes[1].bytesused, theirs.length, theirs.flags = 99, 2, abi.FLAG_ERROR
    told = request.state()
    assert (told.used_bytes, told.flags, [plane.used_bytes for plane in told.planes]) == (99, abi.FLAG_ERROR, [0, 99])
    format_ = raw.v4l2_format.from_buffer(Pix(640, 480, "NM12").pack(abi.CAPTURE_MPLANE))
    multi = format_.fmt.pix_mp
    assert (format_.type, multi.width, multi.height, multi.pixelformat) == (9, 640, 480, abi.fourcc("NM12"))
    multi.num_planes, multi.colorspace, multi.quantization, multi.ycbcr_enc = 2, 8, 1, 2
    for number, (size, row) in enumerate(((640 * 480, 640), (640 * 240, 648))):
        multi.plane_fmt[number].sizeimage, multi.plane_fmt[number].bytesperline = size, row
    planes = (PlaneFormat(640 * 480, 640), PlaneFormat(640 * 240, 648))
    assert Pix.unpack(bytes(format_)) == Pix(640, 480, "NM12", 640, 640 * 720, 8, 2, 1, planes)


def test_formats_have_names_and_colours_their_meaning() -> None:
    assert abi.name_of(abi.fourcc("Y16")) == "Y16"
    assert abi.name_of(abi.fourcc("Y16") | 1 << 31) == "Y16-BE"
    assert (Pix(1, 1, "YUYV", colorspace=3).matrix, Pix(1, 1, "YUYV", encoding=1).matrix) == ("bt709", "bt601")
    assert [Pix(1, 1, "YUYV", colorspace=c, quantization=q).full_range for c, q in ((7, 0), (8, 0), (7, 2))] == [
        True, False, False,
    ]  # fmt: skip


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_format", ["NM12", "NM21", "YM12", "YM21"])
@pytest.mark.parametrize(("padding", "before"), [(0, 0), (32, 0), (0, 64), (16, 8)])
def test_a_picture_whose_planes_lie_apart_comes_as_one(pixel_format: str, padding: int, before: int) -> None:
    with FakeCamera(padding=padding, apart=before) as camera, bench(camera, pixel_format=pixel_format) as b:
        assert b.driver.connect()
        first = b.driver.capture_image()
        assert first.pixel_format == abi.JOINED[pixel_format] and first.stride_bytes == 320 + padding
        assert number_in(first) >= 0
        b.driver.start_streaming()
        read = soon(lambda: b.streams["main"].read(timeout_s=5))
        assert number_in(image_of(read)) >= 0
        b.driver.stop_streaming()
        offered = [one.pixel_format for one in b.driver.get_capabilities().formats]
        assert offered == ["NM12", "NM21", "YM12", "YM21"]


@pytest.mark.parametrize("pixel_format", ["YUYV", "GREY", "MJPG"])
@pytest.mark.parametrize("padding", [0, 32])
def test_a_picture_is_what_the_camera_sees(pixel_format: str, padding: int) -> None:
    with FakeCamera(padding=padding) as camera, bench(camera, pixel_format=pixel_format) as made:
        made.driver.connect()
        image = made.driver.capture_image()
        assert image.pixel_format == pixel_format
        assert image.shape == (240, 320, 1 if pixel_format == "GREY" else 3)
        rgb = image.to_rgb()
        assert number_of(rgb, 320, 240) == image.sequence == 2  # two are skipped while the exposure settles
        assert pixel_format == "GREY" or has_bars(rgb, 320, 240)
        assert abs(image.timestamp_s - time.time()) < 2
        assert image.device_timestamp_s is not None
        assert abs(image.device_timestamp_s - time.monotonic()) < 2
        assert image.exposure_s == pytest.approx(0.0157)


def test_between_pictures_the_camera_is_free_for_others(camera: FakeCamera) -> None:
    with bench(camera) as made:
        made.driver.connect()
        made.driver.capture_image()
        assert camera._memory is None
        assert camera.calls[abi.STREAMON] == camera.calls[abi.STREAMOFF] == 2


def test_pictures_that_the_kernel_calls_damaged_are_left_out(camera: FakeCamera) -> None:
    camera.damaged = {0, 2, 3}
    with bench(camera, skip_pictures=0) as made:
        made.driver.connect()
        assert made.driver.capture_image().sequence == 1
        made.driver.start_streaming()
        assert [image_of(made.streams["main"].read(5)).sequence for _ in range(3)] == [1, 4, 5]


def test_a_stream_goes_into_the_ring_with_the_cameras_numbers_and_times(camera: FakeCamera) -> None:
    with bench(camera, skip_pictures=0) as made:
        made.driver.connect()
        made.driver.start_streaming()
        stream = made.streams["main"]
        images = [image_of(stream.read(5)) for _ in range(12)]
        assert [image.sequence for image in images] == list(range(12))
        assert [number_in(image) for image in images] == list(range(12))
        assert made.driver.capture_image().sequence > 11
        with pytest.raises(Refused, match="streams"):
            made.driver.set_resolution(640, 480)
        assert made.driver.set_exposure(0.01)
        assert made.driver.stop_streaming()["streaming"] is False
        assert made.driver.capture_image().sequence == 0


def test_a_stream_goes_on_when_the_camera_is_plugged_in_again(camera: FakeCamera) -> None:
    with bench(camera, width_px=640, height_px=480) as made:
        made.driver.connect()
        made.driver.set_exposure(0.02)
        made.driver.start_streaming()
        stream = made.streams["main"]
        image_of(stream.read(5))
        camera.unplug()
        soon(lambda: any(kind == "stream_lost" for kind, _ in made.events))
        camera.pix = Pix(320, 240, "YUYV", 640, 153600)
        camera.controls[abi.EXPOSURE_ABSOLUTE].value = 1
        camera.plug_in()
        soon(lambda: any(kind == "stream_resumed" for kind, _ in made.events))
        while stream.waiting:
            last = image_of(stream.read(0))
        last = image_of(stream.read(5))
        assert last.shape == (480, 640, 3)
        assert last.exposure_s == pytest.approx(0.02)


def test_without_a_stream_an_unplugged_camera_is_found_again_at_the_next_picture(camera: FakeCamera) -> None:
    with bench(camera) as made:
        made.driver.connect()
        camera.unplug()
        with pytest.raises(ConnectError):
            made.driver.capture_image()
        camera.plug_in()
        assert number_in(made.driver.capture_image()) == 2


# -- settings ---------------------------------------------------------------------------------------------------------


def test_the_camera_tells_what_it_offers(camera: FakeCamera) -> None:
    with bench(camera) as made:
        made.driver.connect()
        can = made.driver.get_capabilities()
        assert [one.pixel_format for one in can.formats] == ["YUYV", "MJPG", "GREY", "XYZW"]
        assert [(s.width_px, s.height_px, s.framerates_hz) for s in can.sizes("YUYV")] == [
            (320, 240, (30.0, 15.0)), (640, 480, (30.0, 15.0)),
        ]  # fmt: skip
        (ranged,) = can.sizes("GREY")
        assert ranged.offers(80, 64)
        assert not ranged.offers(81, 64)
        assert ranged.framerates_hz == (60.0, 5.0)
        assert (can.width_px, can.height_px, can.pixel_format, can.framerate_hz) == (320, 240, "YUYV", 30.0)
        assert can.exposure_range_s == pytest.approx((0.0001, 0.5))
        assert can.auto_exposure is True
        named = {control.name: control for control in can.controls}
        assert set(named) == {"brightness", "power_line_frequency", "auto_exposure", "exposure_time_absolute"}
        assert named["power_line_frequency"].menu == {"0": "50", "1": "60"}
        assert named["auto_exposure"].menu["3"] == "Aperture Priority Mode"
        info = made.driver.get_device_info()
        assert (info.name, info.bus, info.details["kernel_version"]) == ("Fake Camera", "platform:fake-0", "6.10.2")


def test_size_rate_and_exposure_are_set_or_refused(camera: FakeCamera) -> None:
    with bench(camera) as made:
        driver = made.driver
        driver.connect()
        assert driver.set_resolution(640, 480)
        assert driver.capture_image().shape == (480, 640, 3)
        with pytest.raises(Refused, match="800 × 600") as caught:
            driver.set_resolution(800, 600)
        assert "640x480" in caught.value.remedy
        assert driver.capture_image().shape == (480, 640, 3)
        assert driver.set_framerate(15)
        assert driver.get_capabilities().framerate_hz == 15
        assert driver.set_exposure(0.05)
        assert driver.capture_image().exposure_s == pytest.approx(0.05)
        assert driver.get_capabilities().auto_exposure is False
        assert driver.set_exposure(0)
        assert driver.get_capabilities().auto_exposure is True
        with pytest.raises(Refused, match=r"0\.5 s"):
            driver.set_exposure(2.0)


def test_controls_are_turned_by_name(camera: FakeCamera) -> None:
    with bench(camera) as made:
        made.driver.connect()
        assert made.driver.set_control("brightness", -20) == -20
        for name, value, says in (("contrast", 1, "no control"), ("brightness", 65, "-64 to 64"),
                                  ("auto-exposure", 2, "does not take")):  # fmt: skip
            with pytest.raises(Refused, match=says) as caught:
                made.driver.set_control(name, value)
            assert caught.value.remedy


def test_a_camera_without_controls_cannot_be_told_an_exposure(camera: FakeCamera) -> None:
    camera.controls.clear()
    with bench(camera) as made:
        made.driver.connect()
        assert not made.driver.set_exposure(0.01)
        assert not made.driver.set_exposure(0)
        assert made.driver.capture_image().exposure_s is None
        assert made.driver.get_capabilities().can_set == ("resolution", "framerate")


@pytest.mark.parametrize(
    ("settings", "says"), [({"pixel_format": "H264"}, "H264"), ({"width_px": 100, "height_px": 100}, "100 × 100")]
)
def test_settings_that_the_camera_does_not_have_are_refused_at_connect(
    camera: FakeCamera, settings: dict[str, Any], says: str
) -> None:
    with bench(camera, **settings) as made:
        with pytest.raises(Refused, match=says):
            made.driver.connect()
        assert all(link.closed for link in made.links)


def test_a_format_that_vfab_cannot_convert_is_left_for_one_that_it_can(camera: FakeCamera) -> None:
    camera.pix = Pix(320, 240, "XYZW", 640, 153600)
    with bench(camera) as made:
        made.driver.connect()
        assert made.driver.capture_image().pixel_format == "YUYV"


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_camera_that_another_program_uses_is_told_with_what_to_do(camera: FakeCamera) -> None:
    camera.busy = True
    with bench(camera) as made, pytest.raises(DeviceBusy) as caught:
        made.driver.connect()
    assert "fuser" in caught.value.remedy


def test_a_camera_that_sends_nothing_is_given_up_in_time(camera: FakeCamera) -> None:
    camera.silent = True
    with bench(camera, timeout_s=0.2) as made:
        with pytest.raises(TimeoutExceeded, match="no picture"):
            made.driver.connect()
        assert all(link.closed for link in made.links)
        assert camera._memory is None


@pytest.mark.parametrize("capabilities", [2 | abi.CAP_STREAMING, abi.CAPTURE, abi.CAP_MPLANE])
def test_a_node_that_takes_no_pictures_is_no_camera(camera: FakeCamera, capabilities: int) -> None:
    camera.capabilities = capabilities
    with bench(camera) as made, pytest.raises(ConnectError, match="takes no pictures"):
        made.driver.connect()


def test_what_is_no_video_device_is_told_so(camera: FakeCamera) -> None:
    with DriverBench(V4l2Camera, manifest_in(FOLDER), camera.address) as made, pytest.raises(ConnectError) as caught:
        made.driver.connect()
    assert "/dev/video0" in caught.value.remedy


def test_before_connecting_nothing_is_asked_and_disconnecting_twice_is_fine(camera: FakeCamera) -> None:
    with bench(camera) as made:
        with pytest.raises(DriverError):
            made.driver.get_capabilities()
        made.driver.connect()
        made.driver.disconnect()
        made.driver.disconnect()
        assert not made.driver.is_connected()
