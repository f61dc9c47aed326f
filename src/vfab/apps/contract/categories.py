"""Checks of what each category promises, under the methods' names of the documents that asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from vfab.apps.contract.bench import ContractBench
from vfab.apps.contract.examples import TEXT
from vfab.apps.contract.model import Broken, Skip
from vfab.model.errors import ConfigurationError, DriverError, TimeoutExceeded
from vfab.sdk.camera_data import ImageData

__all__ = [
    "answers",
    "captures",
    "connection_info",
    "error_queue",
    "identity",
    "measures_what_it_says",
    "plots_square",
    "reads",
    "sensor_info",
]

SQUARE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="40mm" height="40mm" viewBox="0 0 40 40">'
    b'<rect x="10" y="10" width="20" height="20" fill="none" stroke="black"/></svg>'
)
_FAR_MM = 0.1


async def plots_square(bench: ContractBench) -> str:
    """Plots a square; the report says how far the line is from it."""
    _need(bench, "plot")
    async with bench.connected() as managed:
        report = await managed.operate("plot", SQUARE, {"source": "square"}, timeout_s=120.0)
    far = float(report["max_deviation_mm"])
    if not report["completed"] or far > _FAR_MM:
        raise Broken(f"the square is {far} mm off, completed: {report['completed']}")
    return f"{far:.4f} mm off at most"


async def captures(bench: ContractBench) -> str:
    """An image says its width, height and pixel format, and its data are such an image."""
    _need(bench, "capture_image")
    async with bench.connected() as managed:
        fields = _mapping(await managed.operate("capture_image", timeout_s=60.0), "capture_image")
    try:
        image = ImageData.from_wire(fields)
    except msgspec.ValidationError as error:
        raise Broken(f"capture_image gave no image: {error}") from error
    size = f"{image.width_px} × {image.height_px} {image.pixel_format}"
    try:
        shape, pixels = image.shape, await asyncio.to_thread(image.to_rgb)
    except DriverError as error:
        raise Broken(f"the data are no image of {size}: {error.message}") from error
    told = fields.get("shape", shape)
    if list(told) != list(shape) or len(pixels) != 3 * image.width_px * image.height_px:
        raise Broken(f"the image of {size} says the shape {told}, and has {len(pixels)} bytes as RGB")
    return size


async def reads(bench: ContractBench) -> str:
    """A reading has values, each with its unit."""
    method = next((name for name in ("read_sensor", "read") if name in bench.methods), "")
    if not method:
        raise Skip("it has no read_sensor")
    async with bench.connected() as managed:
        reading = _mapping(await managed.operate(method, timeout_s=60.0), method)
    values, units = reading.get("values"), reading.get("units", {})
    if not isinstance(values, Mapping):
        values, units = {"value": reading.get("value")}, {"value": reading.get("unit")}
    if not values:
        raise Broken(f"{method} gave no value: {str(reading)[:120]}")
    for name, value in values.items():
        if value is None:
            raise Broken(f"{method} gave no {name}: {str(reading)[:120]}")
        if not isinstance(units, Mapping) or not isinstance(units.get(name), str):
            raise Broken(f"{method} gave {name} without a unit: {str(reading)[:120]}")
    return ", ".join(f"{name} {str(value)[:20]} {units[name]}" for name, value in values.items())[:160]


async def sensor_info(bench: ContractBench) -> str:
    """`get_sensor_info` says something."""
    return await _told(bench, "get_sensor_info")


async def identity(bench: ContractBench) -> str:
    """Manufacturer, model, serial and firmware."""
    _need(bench, "get_identity")
    async with bench.connected() as managed:
        told = _mapping(await managed.operate("get_identity"), "get_identity")
    for key in ("manufacturer", "model", "serial", "firmware"):
        if key not in told:
            raise Broken(f"get_identity says nothing of {key}: {str(told)[:120]}")
    return " ".join(str(told[key]) for key in ("manufacturer", "model", "serial", "firmware"))


async def measures_what_it_says(bench: ContractBench) -> str:
    """The manifest's supported_methods are among the driver's own capabilities; what is none is refused."""
    _need(bench, "get_capabilities", "measure")
    async with bench.connected() as managed:
        able = await managed.operate("get_capabilities")
        if not isinstance(able, (list, tuple)) or not all(isinstance(name, str) for name in able):
            raise Broken(f"get_capabilities gave {str(able)[:120]}")
        lacking = [name for name in bench.manifest.supported_methods if name not in able]
        if lacking:
            raise Broken(f"the manifest promises {', '.join(lacking)}, and get_capabilities has {', '.join(able)}")
        try:
            result = await managed.operate("measure", "no_such_method", {})
        except ConfigurationError as error:
            return f"{', '.join(able)}; {error.code} for what is none"
        except DriverError as error:
            if error.code == "driver_failed" and not bench.native:
                return f"{', '.join(able)}; {error.message}"
            raise Broken(f"a method that is none was not refused: {error.code}: {error.message}") from error
    raise Broken(f"a method that is none was measured: {str(result)[:120]}")


async def error_queue(bench: ContractBench) -> str:
    """The queue can be read, and is empty after an identity was asked for."""
    method = next((n for n in ("get_errors", "read_errors", "error_queue", "errors") if n in bench.methods), "")
    if not method:
        raise Skip("it offers no error queue")
    async with bench.connected() as managed:
        await managed.operate(method)
        if "get_identity" in bench.methods:
            await managed.operate("get_identity")
        left = await managed.operate(method)
    if left not in ([], (), None, 0) and not (isinstance(left, Mapping) and not any(left.values())):
        raise Broken(f"there are errors in the queue after get_identity: {str(left)[:160]}")
    return "empty"


async def answers(bench: ContractBench) -> str:
    """What is sent is answered, or the driver says in time that it is not."""
    _need(bench, "send_command")
    async with bench.connected() as managed:
        try:
            answer = await managed.operate("send_command", TEXT, timeout_s=60.0)
        except (TimeoutExceeded, ConfigurationError) as error:
            return f"{error.code}: {error.message}"
    return "what was sent came back" if TEXT in str(answer) else f"the peer answered {str(answer)[:80]}"


async def connection_info(bench: ContractBench) -> str:
    """`get_connection_info` says something."""
    return await _told(bench, "get_connection_info")


async def _told(bench: ContractBench, method: str) -> str:
    _need(bench, method)
    async with bench.connected() as managed:
        told = _mapping(await managed.operate(method), method)
    if not told:
        raise Broken(f"{method} says nothing")
    return ", ".join(f"{key} {value}" for key, value in list(told.items())[:3])[:120]


def _need(bench: ContractBench, *methods: str) -> None:
    for method in methods:
        if method not in bench.methods:
            raise Skip(f"it has no {method}")


def _mapping(value: Any, method: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Broken(f"{method} gave {str(value)[:80]!r}, not fields")
    return value
