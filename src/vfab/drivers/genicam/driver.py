"""The GenICam driver: an industrial camera through Aravis."""

from __future__ import annotations

import time
from ctypes import byref, c_double, c_int
from urllib.parse import urlsplit

from vfab.model.errors import ConnectError, DeviceNotFound, LinkLost, ProtocolError, Refused
from vfab.sdk.camera import (
    CameraCapabilities,
    CameraDriver,
    CameraInfo,
    FrameFormat,
    FrameSize,
    FrameSource,
    ImageData,
    no_picture,
)
from vfab.sdk.driver import Environment, command
from vfab.sdk.stream import StreamWriter

from .aravis import AUTO_CONTINUOUS, AUTO_OFF, MISSING_PACKETS, SUCCESS, Aravis, AravisError, aravis

__all__ = ["GenicamCamera"]

_SLICE_US = 100_000


class GenicamCamera(CameraDriver):
    """A camera of GigE Vision or USB3 Vision.

    Its address is `genicam://ID`: what Aravis calls it (`arv-tool-0.8` lists that) or, for GigE Vision, its network
    address. Aravis opens its own sockets: the manifest asks for the host's network.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._camera: int | None = None
        self._exposure_s: float | None = None
        self._wanted = {name: self.config[name] for name in ("pixel_format", "width_px", "height_px", "framerate_hz")}

    # -- the connection -----------------------------------------------------------------------------------------------

    def connect(self) -> bool:
        """Take control of the camera, set it as the settings say, and take a picture.

        Raises DeviceNotFound: no such camera. DependencyError: Aravis is missing. Refused: it has no such format or
        size. AravisError, TimeoutExceeded. Nothing is held then.
        """
        self.disconnect()
        try:
            self.camera()
            super().connect()
        except BaseException:
            self.let_go()
            raise
        return True

    def disconnect(self) -> None:
        """End the stream and give up control. Twice, or without a connection, it does nothing."""
        super().disconnect()
        self.let_go()

    def let_go(self) -> None:
        """Give up control; the next use takes it again."""
        camera, self._camera = self._camera, None
        if camera is not None:
            aravis().let_go(camera)

    def camera(self) -> int:
        """Aravis' camera, under our control and set as wanted; taken anew after it was lost."""
        if self._camera is not None:
            return self._camera
        arv = aravis()
        name = self._name()
        try:
            found = arv("camera_new", name.encode() or None)
        except AravisError as error:
            raise DeviceNotFound(
                f"there is no GenICam camera {name!r}: {error.message}",
                context={"address": self.device.address},
                original_error=error,
                remedy="`arv-tool-0.8` lists what Aravis sees; a GigE camera must be in this network, and nobody else "
                "may control it.",
                retryable=True,
            ) from error
        if not found:
            raise DeviceNotFound(f"there is no GenICam camera {name!r}", context={"address": self.device.address})
        self._camera = int(found)
        try:
            self._apply(arv, self._camera)
        except BaseException:
            self.let_go()
            raise
        return self._camera

    def _name(self) -> str:
        address = self.device.address
        if "://" not in address:
            return address
        parts = urlsplit(address)
        return (parts.netloc + parts.path).strip("/")

    def _apply(self, arv: Aravis, camera: int) -> None:
        wanted = self._wanted
        if arv("camera_is_gv_device", camera):
            if self.config["packet_size_bytes"]:
                arv("camera_gv_set_packet_size", camera, int(self.config["packet_size_bytes"]))
            else:
                arv("camera_gv_auto_packet_size", camera)
        if wanted["pixel_format"]:
            names = arv.texts("camera_dup_available_pixel_formats_as_strings", camera)
            if wanted["pixel_format"] not in names:
                raise Refused(
                    f"the camera has no pictures of {wanted['pixel_format']}",
                    context={"field": "pixel_format", "offered": names},
                    remedy=f"It has {', '.join(names)}.",
                )
            arv("camera_set_pixel_format_from_string", camera, str(wanted["pixel_format"]).encode())
        if wanted["width_px"] and wanted["height_px"]:
            self._resize(arv, camera, int(wanted["width_px"]), int(wanted["height_px"]))
        if wanted["framerate_hz"]:
            arv("camera_set_frame_rate", camera, float(wanted["framerate_hz"]))
        if self._exposure_s is not None:
            self._expose(arv, camera, self._exposure_s)

    # -- pictures -----------------------------------------------------------------------------------------------------

    def open_source(self) -> FrameSource:
        """Have the camera send pictures. Raises as `connect`."""
        camera = self.camera()
        try:
            return _Acquisition(self, aravis(), camera)
        except AravisError as error:
            self.let_go()
            raise ConnectError(
                f"{self.device.address} sends no pictures: {error.message}",
                context={"address": self.device.address},
                original_error=error,
                remedy="Check the network (firewall, UDP), and that no other program controls the camera.",
            ) from error

    def forward(self, source: FrameSource, stream: StreamWriter) -> None:
        """The next picture from Aravis' buffer into the ring, with one copy."""
        if isinstance(source, _Acquisition):
            source.forward(stream)
        else:
            super().forward(source, stream)

    # -- what it is, and what can be set ------------------------------------------------------------------------------

    @command
    def get_device_info(self) -> CameraInfo:
        """As the camera's registers tell."""
        if self._camera is None:
            return super().get_device_info()
        arv, camera = aravis(), self._camera
        vendor, model = arv.text("camera_get_vendor_name", camera), arv.text("camera_get_model_name", camera)
        return CameraInfo(
            name=f"{vendor} {model}".strip(), manufacturer=vendor, model=model,
            serial_number=arv.text("camera_get_device_serial_number", camera),
            firmware=arv.text("camera_get_string", camera, b"DeviceVersion"), driver=self.manifest.name,
            bus="GigE Vision" if arv("camera_is_gv_device", camera) else "USB3 Vision", address=self.device.address,
            details={"device_id": arv.text("camera_get_device_id", camera)},
        )  # fmt: skip

    @command
    def get_capabilities(self) -> CameraCapabilities:
        """Formats, the range of sizes, rates and exposures, asked of the camera now."""
        arv, camera = aravis(), self.camera()
        sizes = (self._sizes(arv, camera),)
        names = arv.texts("camera_dup_available_pixel_formats_as_strings", camera)
        _, _, width, height = self._region(arv, camera)
        rated = bool(arv("camera_is_frame_rate_available", camera))
        timed = bool(arv("camera_is_exposure_time_available", camera))
        automatic = None
        if arv("camera_is_exposure_auto_available", camera):
            automatic = arv("camera_get_exposure_time_auto", camera) != AUTO_OFF
        exposures = arv.pair("camera_get_exposure_time_bounds", camera, c_double) if timed else None
        return CameraCapabilities(
            formats=tuple(FrameFormat(pixel_format=name, sizes=sizes) for name in names), width_px=width,
            height_px=height, pixel_format=arv.text("camera_get_pixel_format_as_string", camera),
            framerate_hz=arv("camera_get_frame_rate", camera) if rated else 0.0,
            framerate_range_hz=arv.pair("camera_get_frame_rate_bounds", camera, c_double) if rated else None,
            exposure_range_s=(exposures[0] * 1e-6, exposures[1] * 1e-6) if exposures else None,
            exposure_s=self.exposure_s(arv, camera) if timed and not automatic else None, auto_exposure=automatic,
            can_set=("resolution", *(("framerate",) if rated else ()), *(("exposure",) if timed else ())),
        )  # fmt: skip

    def exposure_s(self, arv: Aravis, camera: int) -> float | None:
        """The exposure that the camera tells, in seconds; None: it tells none."""
        try:
            return float(arv("camera_get_exposure_time", camera)) * 1e-6
        except AravisError:
            return None

    def _region(self, arv: Aravis, camera: int) -> tuple[int, int, int, int]:
        numbers = [c_int() for _ in range(4)]
        arv("camera_get_region", camera, *map(byref, numbers))
        x, y, width, height = (number.value for number in numbers)
        return x, y, width, height

    def _sizes(self, arv: Aravis, camera: int) -> FrameSize:
        widths = arv.pair("camera_get_width_bounds", camera, c_int)
        heights = arv.pair("camera_get_height_bounds", camera, c_int)
        return FrameSize(
            width_px=int(widths[1]), height_px=int(heights[1]), min_width_px=max(1, int(widths[0])),
            min_height_px=max(1, int(heights[0])),
            step_width_px=max(1, int(arv("camera_get_width_increment", camera))),
            step_height_px=max(1, int(arv("camera_get_height_increment", camera))),
        )  # fmt: skip

    def _resize(self, arv: Aravis, camera: int, width: int, height: int) -> None:
        size = self._sizes(arv, camera)
        if not size.offers(width, height):
            raise Refused(
                f"the camera has sizes from {size.min_width_px} × {size.min_height_px} to {size.width_px} × "
                f"{size.height_px} in steps of {size.step_width_px} × {size.step_height_px}, not {width} × {height}",
                context={"width": width, "height": height},
                remedy="Give a size in that range.",
            )
        arv("camera_set_region", camera, 0, 0, width, height)

    @command
    def set_resolution(self, width: int, height: int) -> bool:
        """Have pictures of this size, from the sensor's upper left corner. Raises Refused: no such size; it streams."""
        self.check_positive(width=width, height=height)
        self.check_idle("resolution")
        self._resize(aravis(), self.camera(), int(width), int(height))
        self._wanted.update(width_px=width, height_px=height)
        return True

    @command
    def set_framerate(self, fps: float) -> bool:
        """Have `fps` pictures a second, or the nearest rate that it has. Returns False: it cannot be told one."""
        self.check_positive(fps=fps)
        arv, camera = aravis(), self.camera()
        if not arv("camera_is_frame_rate_available", camera):
            return False
        arv("camera_set_frame_rate", camera, float(fps))
        self._wanted["framerate_hz"] = float(fps)
        return True

    @command
    def set_exposure(self, exposure: float) -> bool:
        """Expose for `exposure` seconds; 0 lets the camera choose. Also while it streams.

        Returns False: this camera has no such feature. Raises Refused: out of its range.
        """
        if exposure:
            self.check_positive(exposure=exposure)
        done = self._expose(aravis(), self.camera(), float(exposure))
        if done:
            self._exposure_s = float(exposure)
        return done

    def _expose(self, arv: Aravis, camera: int, exposure_s: float) -> bool:
        has_auto = bool(arv("camera_is_exposure_auto_available", camera))
        if not exposure_s:
            if has_auto:
                arv("camera_set_exposure_time_auto", camera, AUTO_CONTINUOUS)
            return has_auto
        if not arv("camera_is_exposure_time_available", camera):
            return False
        least, most = arv.pair("camera_get_exposure_time_bounds", camera, c_double)
        if not least <= exposure_s * 1e6 <= most:
            raise Refused(
                f"the camera exposes for {least * 1e-6:g} to {most * 1e-6:g} s, not for {exposure_s:g} s",
                context={"field": "exposure", "value": exposure_s},
                remedy="Give a time in that range, or 0 for automatic exposure.",
            )
        if has_auto:
            arv("camera_set_exposure_time_auto", camera, AUTO_OFF)
        arv("camera_set_exposure_time", camera, exposure_s * 1e6)
        return True


class _Acquisition:
    """Aravis' buffers while the camera fills them: a `FrameSource`."""

    def __init__(self, driver: GenicamCamera, arv: Aravis, camera: int) -> None:
        self._driver, self._arv, self._camera = driver, arv, camera
        self._format = arv.text("camera_get_pixel_format_as_string", camera)
        self._exposure_s = driver.exposure_s(arv, camera)
        self._stream: int | None = arv("camera_create_stream", camera, None, None)
        if not self._stream:
            raise AravisError("Aravis made no stream")
        self.damaged = 0
        try:
            size = arv("camera_get_payload", camera)
            for _ in range(int(driver.config["buffers"])):
                arv("stream_push_buffer", self._stream, arv("buffer_new_allocate", size))
            arv("camera_start_acquisition", camera)
        except BaseException:
            self.close()
            raise

    def next_frame(self, timeout_s: float) -> ImageData:
        """A copy of the next picture."""
        buffer = self._next(timeout_s)
        try:
            return self._image(buffer, bytes(self._arv.bytes_of(buffer)))
        finally:
            self._arv("stream_push_buffer", self._stream, buffer)

    def forward(self, stream: StreamWriter) -> None:
        """The next picture into the ring; a copy of it only for who waits in `capture_image`."""
        buffer = self._next(self._driver.timeout_s)
        try:
            view = self._arv.bytes_of(buffer)
            image = self._image(buffer, b"")
            stream.send(view, meta=image.meta(), time_s=image.timestamp_s, device_time_s=image.device_timestamp_s)
            self._driver.note_frame(self._image(buffer, bytes(view)) if self._driver.is_awaited() else None)
        finally:
            self._arv("stream_push_buffer", self._stream, buffer)

    def close(self) -> None:
        """Let the camera rest; twice is fine, and when it is gone."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            self._arv("camera_stop_acquisition", self._camera)
        except AravisError:
            self._driver.let_go()  # it is gone: the next use takes control anew
        self._arv.let_go(stream)

    def _next(self, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while True:
            self._driver.checkpoint()
            buffer = self._arv("stream_timeout_pop_buffer", self._stream, _SLICE_US)
            if buffer:
                status = self._arv("buffer_get_status", buffer)
                if status == SUCCESS:
                    return int(buffer)
                self.damaged += status == MISSING_PACKETS
                self._arv("stream_push_buffer", self._stream, buffer)
            if time.monotonic() >= deadline:
                self._explain(timeout_s)

    def _explain(self, timeout_s: float) -> None:
        """Nothing came: is the camera gone, the network too slow, or does it only wait?"""
        address = self._driver.device.address
        try:
            self._arv("camera_get_payload", self._camera)
            self._arv("camera_get_region", self._camera, *[byref(c_int()) for _ in range(4)])
        except AravisError as error:
            raise LinkLost(
                f"{address} does not answer any more", context={"address": address}, original_error=error,
                remedy="Check the camera's power and cable.",
            ) from error  # fmt: skip
        if self.damaged:
            raise ProtocolError(
                f"{address}: {self.damaged} pictures came with packets missing, none whole",
                context={"address": address},
                remedy="Set packet_size_bytes to 1400, or raise the network card's MTU and receive buffers.",
            )
        raise no_picture(address, timeout_s)

    def _image(self, buffer: int, data: bytes) -> ImageData:
        own = self._arv("buffer_get_timestamp", buffer)
        here = self._arv("buffer_get_system_timestamp", buffer)
        return ImageData(
            data=data, width_px=self._arv("buffer_get_image_width", buffer),
            height_px=self._arv("buffer_get_image_height", buffer), pixel_format=self._format,
            timestamp_s=here * 1e-9 if here else time.time(), device_timestamp_s=own * 1e-9 if own else None,
            sequence=self._arv("buffer_get_frame_id", buffer), exposure_s=self._exposure_s,
        )  # fmt: skip
