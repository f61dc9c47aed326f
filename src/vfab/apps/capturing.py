"""Taking pictures with a camera and writing them to files, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vfab.apps.commands import ensure_connected, operate_gently
from vfab.apps.interrupts import Interrupts
from vfab.apps.plotting import check_folder
from vfab.apps.session import Session
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import ConfigurationError, DriverError, Refused
from vfab.sdk.camera_data import ImageData
from vfab.sdk.whole_file import write_whole

__all__ = ["SUFFIXES", "CaptureRequest", "CaptureWatcher", "capture_files", "names_for"]

SUFFIXES: Mapping[str, Callable[[ImageData], bytes]] = {
    ".png": ImageData.to_png,
    ".jpg": ImageData.to_jpeg,
    ".jpeg": ImageData.to_jpeg,
    ".raw": lambda image: image.data,
}
"""What a file's suffix makes of a picture; `.raw` keeps the camera's own bytes."""
COUNT_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """Which pictures are to be taken.

    Attributes:
        device: id or address; None takes the only accessible camera.
        driver: its driver; None takes the one that fits best.
        output: the file; of several pictures a number goes before the suffix. None: a name with the time, in `folder`.
        folder: where files without a folder of their own go.
        count: how many.
        width_px, height_px: their size; None leaves it as it is. Both or none.
        exposure_s: seconds, 0 lets the camera choose; None leaves it as it is.
        overrides: settings of the driver for this run.
    """

    device: str | None = None
    driver: str | None = None
    output: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    count: int = 1
    width_px: int | None = None
    height_px: int | None = None
    exposure_s: float | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class CaptureWatcher:
    """What is told meanwhile: the camera, and each picture as soon as it is written."""

    chosen: Callable[[ManagedDevice], None] = lambda device: None
    written: Callable[[Mapping[str, Any]], None] = lambda picture: None


def names_for(request: CaptureRequest, now: datetime | None = None) -> list[Path]:
    """The files that will be written, in order.

    Raises ConfigurationError: a suffix that means no format, a folder that is not there, or half a size.
    """
    if (request.width_px is None) != (request.height_px is None):
        raise ConfigurationError(
            "a size has a width and a height",
            context={"option": "--width" if request.width_px is None else "--height"},
            remedy="Give both: --width 640 --height 480.",
        )
    if not 1 <= request.count <= COUNT_MAX:
        raise ConfigurationError(
            f"{request.count} pictures cannot be taken", context={"option": "--count"},
            remedy=f"Give a number from 1 to {COUNT_MAX}.",
        )  # fmt: skip
    file = request.output or Path(f"capture-{now or datetime.now():%Y%m%d-%H%M%S}.png")
    file = request.folder / file
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigurationError(
            f"{file.name}: no picture format has the suffix {file.suffix!r}",
            context={"file": str(file), "known": list(SUFFIXES)},
            remedy="Name it .png, .jpg, or .raw for the camera's own bytes.",
        )
    check_folder(file)
    if request.count == 1:
        return [file]
    digits = max(3, len(str(request.count)))
    return [file.with_name(f"{file.stem}-{n:0{digits}d}{file.suffix}") for n in range(1, request.count + 1)]


async def capture_files(
    session: Session, request: CaptureRequest, interrupts: Interrupts, watcher: CaptureWatcher
) -> dict[str, Any]:
    """Take the pictures: `{"device", "driver", "camera", "pictures": [{"file", …}]}`.

    Raises ConfigurationError, Refused, DeviceNotFound, …: nothing was written. TimeoutExceeded, LinkLost, Cancelled:
    the pictures before are written, the error's context lists them.
    """
    files = names_for(request)
    if request.driver is not None:
        session.drivers.get(request.driver)  # a name that no driver has is told before devices are looked for
    pictures: list[dict[str, Any]] = []
    async with session.device(request.device, request.driver, request.overrides, "camera") as device:
        watcher.chosen(device)
        if device.manifest.category != "camera":
            raise ConfigurationError(
                f"{device.manifest.name} is no camera: its category is {device.manifest.category}",
                context={"device": device.id},
                remedy="Choose a camera with --device; `vfab device scan` lists what is there.",
            )
        await ensure_connected(device)
        camera: dict[str, Any] = await device.call("get_device_info", timeout_s=30)
        await _set(device, request)
        for file in files:
            try:
                said = await operate_gently(device, "capture_image", (), {}, interrupts=interrupts, timeout_s=0)
                image = ImageData.from_wire(said)
                picture = _write(file, image)
            except DriverError as error:
                error.context.update(device=device.id, written=[one["file"] for one in pictures])
                raise
            pictures.append(picture)
            watcher.written(picture)
        return {"device": device.id, "driver": device.manifest.name, "camera": camera, "pictures": pictures}


async def _set(device: ManagedDevice, request: CaptureRequest) -> None:
    """Size and exposure as wanted. Raises Refused: this camera cannot be told them."""
    wanted: list[tuple[str, str, tuple[float, ...]]] = []
    if request.width_px is not None and request.height_px is not None:
        wanted.append(("size", "set_resolution", (request.width_px, request.height_px)))
    if request.exposure_s is not None:
        wanted.append(("exposure", "set_exposure", (request.exposure_s,)))
    for what, method, values in wanted:
        if not await device.operate(method, *values, timeout_s=60):
            hint = "; its path has no {width} and {height}" if (what, device.manifest.name) == ("size", "mjpeg") else ""
            raise Refused(
                f"{device.manifest.name} cannot tell this camera a {what}{hint}",
                context={"device": device.id, "method": method},
                remedy=f"Leave the {what} out; `vfab driver info {device.manifest.name}` lists its settings.",
            )


def _write(file: Path, image: ImageData) -> dict[str, Any]:
    data = SUFFIXES[file.suffix.lower()](image)
    write_whole(file, data)
    said = image.to_wire()
    said.pop("data")
    taken = datetime.fromtimestamp(image.timestamp_s, UTC)
    return {"file": str(file), "bytes": len(data), "camera_bytes": len(image.data), "time": taken.isoformat(), **said}
