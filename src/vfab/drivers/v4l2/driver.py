"""The V4L2 driver: a camera of the kernel, through the descriptor that the broker opened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from vfab.model.errors import ConnectError, DriverError, LinkLost, Refused
from vfab.sdk.camera import CameraCapabilities, CameraDriver, CameraInfo, Control, FrameSource, ImageData, no_picture
from vfab.sdk.driver import Environment, command
from vfab.sdk.link import Link
from vfab.sdk.pixels import layout_of
from vfab.sdk.stream import StreamWriter

from . import abi
from .abi import BufferState, Pix
from .node import Identity, SystemCalls, VideoNode

__all__ = ["V4l2Camera"]


class V4l2Camera(CameraDriver):
    """A camera of the Linux kernel.

    Pictures come through memory that the kernel shares with this process: a stream's go from there into the ring, with
    one copy. Between pictures the camera is not streaming, so that other programs may use it.
    """

    system: ClassVar[SystemCalls | None] = None
    """The system's calls; a test has others."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._link: Link | None = None
        self._node: VideoNode | None = None
        self._identity: Identity | None = None
        self._wanted: dict[str, Any] = {
            name: self.config[name] for name in ("pixel_format", "width_px", "height_px", "framerate_hz")
        }
        self._exposure_s: float | None = None

    # -- the connection -----------------------------------------------------------------------------------------------

    def connect(self) -> bool:
        """Open the node, set format, size and rate as the settings say, and take a picture.

        Raises ConnectError: it is no camera. Refused: it has no such format or size. DeviceBusy, HardwareError,
        TimeoutExceeded. Nothing is left open then.
        """
        self.disconnect()
        try:
            self._opened_node()
            super().connect()
        except BaseException:
            self._hang_up()
            raise
        return True

    def disconnect(self) -> None:
        """End the stream and close the node. Twice, or without a connection, it does nothing."""
        super().disconnect()
        self._hang_up()

    def _hang_up(self) -> None:
        link, node, self._link, self._node = self._link, self._node, None, None
        if node is not None:
            node.stop()
        if link is not None:
            try:
                self.close_link(link)
            except DriverError as error:
                self.log.warning("closing %s failed: %s", link.address, error.message)

    def _opened_node(self) -> VideoNode:
        """The node, opened anew when the camera was gone, and set as before."""
        if self._node is not None:
            return self._node
        self._link = self.open_link()
        node = VideoNode(self._link.fileno(), self._link.address, self.system)
        self._identity = node.identify()
        self._node = node
        self._apply(node)
        return node

    def _apply(self, node: VideoNode) -> None:
        """Set what is wanted; what is not wanted stays as the camera has it."""
        now, wanted = node.format(), self._wanted
        name = wanted["pixel_format"] or self._convertible(node, now)
        made = Pix(wanted["width_px"] or now.width, wanted["height_px"] or now.height, name)
        if (made.width, made.height, made.pixel_format) != (now.width, now.height, now.pixel_format):
            self._set_format(node, made)
        if wanted["framerate_hz"]:
            node.set_framerate(float(wanted["framerate_hz"]))
        if self._exposure_s is not None:
            self._expose(node, self._exposure_s)

    def _convertible(self, node: VideoNode, now: Pix) -> str:
        """The format that it has if vfab can convert it, else the first one that vfab can."""
        offered = [now.pixel_format, *(one.pixel_format for one in node.formats())]
        return next((name for name in offered if _is_known(name)), now.pixel_format)

    def _set_format(self, node: VideoNode, wanted: Pix) -> None:
        got = node.set_format(wanted)
        if got.pixel_format != wanted.pixel_format:
            names = [one.pixel_format for one in node.formats()]
            raise Refused(
                f"{node.address} has no pictures of {wanted.pixel_format}",
                context={"field": "pixel_format", "value": wanted.pixel_format, "offered": names},
                remedy=f"It has {', '.join(names)}.",
            )
        if (got.width, got.height) != (wanted.width, wanted.height):
            raise self.refuse_size(wanted.width, wanted.height, CameraCapabilities(formats=node.formats()))

    def _ready(self) -> VideoNode:
        if self._node is None:
            if not self._connected:
                raise ConnectError(
                    f"{self.device.address} is not connected", remedy="Connect first: `vfab device connect`."
                )
            return self._opened_node()
        return self._node

    # -- pictures -----------------------------------------------------------------------------------------------------

    def open_source(self) -> FrameSource:
        """Have the kernel fill buffers; after a loss the node is opened again. Raises as `connect`."""
        try:
            node = self._opened_node()
            node.start(int(self.config["buffers"]))
        except (ConnectError, Refused):
            self._hang_up()
            raise
        assert self._link is not None
        return _Buffers(self, node, self._link)

    def lost(self) -> None:
        """The camera is gone: the next attempt opens the node anew."""
        self._hang_up()

    def about(self, node: VideoNode) -> float | None:
        """The exposure in seconds that the camera tells now; None: it tells none."""
        if not self.config["tell_exposure"]:
            return None
        units = node.control(abi.EXPOSURE_ABSOLUTE)
        return units * abi.EXPOSURE_UNIT_S if units is not None else None

    def forward(self, source: FrameSource, stream: StreamWriter) -> None:
        """The next picture from the kernel's buffer straight into the ring."""
        if isinstance(source, _Buffers):
            source.forward(stream)
        else:
            super().forward(source, stream)

    # -- what it is, and what can be set ------------------------------------------------------------------------------

    @command
    def get_device_info(self) -> CameraInfo:
        """As the kernel's driver tells."""
        who = self._identity
        if who is None:
            return super().get_device_info()
        return CameraInfo(
            name=who.card, manufacturer=self.device.manufacturer, model=self.device.product or who.card,
            serial_number=self.device.serial_number, firmware="", driver=self.manifest.name, bus=who.bus,
            address=self.device.address, details={"kernel_driver": who.driver, "kernel_version": who.version},
        )  # fmt: skip

    @command
    def get_capabilities(self) -> CameraCapabilities:
        """Formats, sizes, rates and controls, asked of the camera now."""
        node = self._ready()
        now, formats, controls = node.format(), node.formats(), node.controls()
        rates = [rate for one in formats for size in one.sizes for rate in size.framerates_hz]
        exposure = controls.get(abi.EXPOSURE_ABSOLUTE)
        automatic = node.control(abi.EXPOSURE_AUTO)
        return CameraCapabilities(
            formats=formats, width_px=now.width, height_px=now.height, pixel_format=now.pixel_format,
            framerate_hz=node.framerate_hz(), framerate_range_hz=(min(rates), max(rates)) if rates else None,
            exposure_range_s=((exposure.minimum or 0) * abi.EXPOSURE_UNIT_S, (exposure.maximum or 0)
                              * abi.EXPOSURE_UNIT_S) if exposure is not None else None,
            exposure_s=self.about(node) if automatic in {None, abi.MANUAL} else None,
            auto_exposure=None if automatic is None else automatic != abi.MANUAL,
            can_set=("resolution", "framerate", *(("exposure",) if exposure is not None else ())),
            controls=tuple(controls.values()),
        )  # fmt: skip

    @command
    def set_resolution(self, width: int, height: int) -> bool:
        """Have pictures of this size. Raises Refused: the camera does not offer it, or it streams."""
        self.check_positive(width=width, height=height)
        self.check_idle("resolution")
        node = self._ready()
        before = node.format()
        try:
            self._set_format(node, Pix(width, height, before.pixel_format))
        except Refused:
            node.set_format(before)
            raise
        self._wanted.update(width_px=width, height_px=height)
        return True

    @command
    def set_framerate(self, fps: float) -> bool:
        """Have `fps` pictures a second, or the nearest rate that it has. Returns False: it cannot be told one."""
        self.check_positive(fps=fps)
        self.check_idle("frame rate")
        done = self._ready().set_framerate(float(fps))
        if done:
            self._wanted["framerate_hz"] = float(fps)
        return done

    @command
    def set_exposure(self, exposure: float) -> bool:
        """Expose for `exposure` seconds, in steps of 0.1 ms; 0 lets the camera choose. Also while it streams.

        Returns False: this camera has no such control. Raises Refused: out of its range.
        """
        if exposure:
            self.check_positive(exposure=exposure)
        done = self._expose(self._ready(), float(exposure))
        if done:
            self._exposure_s = float(exposure)
        return done

    def _expose(self, node: VideoNode, exposure_s: float) -> bool:
        controls = node.controls()
        mode = controls.get(abi.EXPOSURE_AUTO)
        if not exposure_s:
            if mode is None:
                return False
            # webcams have aperture priority (3) for automatic, few have automatic (0) itself
            choice = next((int(key) for key in ("3", "0") if key in mode.menu), None)
            if choice is None:
                return False
            node.set_control(abi.EXPOSURE_AUTO, choice)
            return True
        time_control = controls.get(abi.EXPOSURE_ABSOLUTE)
        if time_control is None:
            return False
        units = round(exposure_s / abi.EXPOSURE_UNIT_S)
        least, most = time_control.minimum or 0, time_control.maximum or 0
        if not least <= units <= most:
            raise Refused(
                f"the camera exposes for {least * abi.EXPOSURE_UNIT_S:g} to {most * abi.EXPOSURE_UNIT_S:g} s, not for "
                f"{exposure_s:g} s",
                context={"field": "exposure", "value": exposure_s},
                remedy="Give a time in that range, or 0 for automatic exposure.",
            )
        if mode is not None and not mode.read_only:
            node.set_control(abi.EXPOSURE_AUTO, abi.MANUAL)
        node.set_control(abi.EXPOSURE_ABSOLUTE, units)
        return True

    @command
    def set_control(self, name: str, value: int) -> int:
        """Turn one of the camera's controls, by the name that `capabilities` lists; returns its value afterwards.

        Raises Refused: there is no such control, or it does not take the value.
        """
        node = self._ready()
        controls = node.controls()
        number, control = self._control(controls, name)
        least, most = control.minimum, control.maximum
        ranged = control.kind not in {"button", "bitmask"} and least is not None and most is not None
        if ranged and not least <= value <= most:  # type: ignore[operator]
            raise Refused(
                f"{control.name} goes from {least:g} to {most:g}, not to {value}",
                context={"field": "value", "value": value},
                remedy="Give a value in that range.",
            )
        node.set_control(number, int(value))
        now = node.control(number)
        return int(value) if now is None else now

    def _control(self, controls: dict[int, Control], name: str) -> tuple[int, Control]:
        wanted = name.replace("-", "_").lower()
        for number, control in controls.items():
            if control.name == wanted:
                return number, control
        names = [control.name for control in controls.values()]
        raise Refused(
            f"the camera has no control {name!r}", context={"field": "name", "known": names},
            remedy=f"It has {', '.join(names)}." if names else "It has none at all.",
        )  # fmt: skip


class _Buffers:
    """The kernel's buffers while they are filled: a `FrameSource`."""

    def __init__(self, camera: V4l2Camera, node: VideoNode, link: Link) -> None:
        self._camera, self._node, self._link = camera, node, link
        self._pix = node.format()
        self._exposure_s = camera.about(node)
        self._skip = int(camera.config["skip_pictures"])
        self.damaged = 0

    def next_frame(self, timeout_s: float) -> ImageData:
        """A copy of the next picture."""
        with self._telling_of_loss():
            state = self._next(timeout_s)
            with self._node.picture(state) as picture:
                image = self._image(state, bytes(picture))
            self._node.requeue(state.index)
        return image

    def forward(self, stream: StreamWriter) -> None:
        """The next picture into the ring; a copy of it only for who waits in `capture_image`."""
        with self._telling_of_loss():
            state = self._next(self._camera.timeout_s)
            empty = self._image(state, b"")
            with self._node.picture(state) as picture:
                with stream.reserve(len(picture)) as slot:
                    picture.copy_to(slot)
                stream.commit(meta=empty.meta(), time_s=empty.timestamp_s, device_time_s=empty.device_timestamp_s)
                self._camera.note_frame(self._image(state, bytes(picture)) if self._camera.is_awaited() else None)
            self._node.requeue(state.index)

    def close(self) -> None:
        """Let the camera rest."""
        self._node.stop()

    @contextmanager
    def _telling_of_loss(self) -> Iterator[None]:
        """Whichever call finds the node gone: the camera opens it anew, for this descriptor never comes back."""
        try:
            yield
        except LinkLost:
            self._camera.lost()
            raise

    def _next(self, timeout_s: float) -> BufferState:
        deadline = time.monotonic() + timeout_s
        while True:
            state = self._node.dequeue()
            if state is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._link.wait_readable(left):
                    raise no_picture(self._node.address, timeout_s)
                continue
            if state.flags & abi.FLAG_ERROR or not state.used_bytes or self._skip:
                if self._skip and not state.flags & abi.FLAG_ERROR:
                    self._skip -= 1
                else:
                    self.damaged += 1
                self._node.requeue(state.index)
                continue
            return state

    def _image(self, state: BufferState, data: bytes) -> ImageData:
        pix = self._pix
        own = state.timestamp_s if state.timestamp_s else None
        age_s = time.monotonic() - state.timestamp_s if state.is_monotonic and own is not None else 0.0
        name = pix.joined_format
        encoded = _is_known(name) and layout_of(name).is_encoded
        return ImageData(
            data=data, width_px=pix.width, height_px=pix.height, pixel_format=name,
            stride_bytes=0 if encoded else pix.bytes_per_line, timestamp_s=time.time() - max(0.0, age_s),
            device_timestamp_s=own, sequence=state.sequence, exposure_s=self._exposure_s, matrix=pix.matrix,
            full_range=pix.full_range,
        )  # fmt: skip


def _is_known(pixel_format: str) -> bool:
    try:
        layout_of(abi.JOINED.get(pixel_format, pixel_format))
    except DriverError:
        return False
    return True
