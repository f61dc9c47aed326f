"""What `DeviceDriverManager` takes and gives: devices as seed 002 has them, and its `{"status": …}` dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vfab.model.devices import SCANNED, DeviceInfo
from vfab.model.errors import ConfigurationError, DriverError, IllegalTransition, UnknownCommand
from vfab.model.lifecycle import DeviceState

__all__ = ["Device", "Result", "failure", "meant", "success"]


@dataclass(frozen=True)
class Device:
    """A device that a scan found (seed 002).

    Attributes:
        device_id: its stable id, `usb:04d8:fd92:SERIAL`.
        name, device_type: for people; the type is the kind of bus that it was found on.
        attributes: what detection knows of it: address, USB ids, whether this user may open it, …
        info: the same as vfab's own value.
    """

    device_id: str
    name: str = ""
    device_type: str = ""
    attributes: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    info: DeviceInfo | None = field(default=None, repr=False, hash=False, compare=False)

    @classmethod
    def of(cls, info: DeviceInfo, device_id: str = "") -> Device:
        """The device that detection describes as `info`; `device_id` is the driver's own id where that found it."""
        named = ("address", "vid", "pid", "serial_number", "manufacturer", "product", "problem", "remedy")
        known = {name: value for name in named if (value := getattr(info, name))}
        vfabs = {SCANNED, "identified"} if SCANNED in info.attributes else set()
        own = {key: value for key, value in info.attributes.items() if key not in vfabs}
        given = json.loads(info.attributes.get(SCANNED, "{}"))
        attributes = {**own, **given, **known, "accessible": info.accessible, "drivers": list(info.drivers)}
        kind = info.attributes.get("device_type") or info.bus
        return cls(device_id or info.id, info.name, kind, attributes, info)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        kept = {"device_id": self.device_id, "name": self.name, "device_type": self.device_type}
        return {**kept, "attributes": dict(self.attributes)}


class Result(dict[str, Any]):
    """One answer of the manager: a plain dictionary, which also knows the exception behind an error.

    Every one has `status` ("success" or "error"), `operation`, `driver` and `message`; those about a device have
    `device_id` and `state`. An error has `cause`, `remedy`, `error` (`DriverError.to_dict()`) and the device's `story`.
    """

    exception: DriverError | None = None

    @property
    def ok(self) -> bool:
        """Whether the operation succeeded."""
        return self.exception is None

    def check(self) -> Result:
        """This result, when it is a success. Raises DriverError: it is not."""
        if self.exception is not None:
            raise self.exception
        return self


def success(operation: str, driver: str, message: str, **more: Any) -> Result:
    """The answer to an operation that did what it should."""
    return Result(status="success", operation=operation, driver=driver, message=message, **more)


def failure(
    operation: str,
    driver: str,
    error: DriverError,
    *,
    device_id: str = "",
    state: DeviceState = DeviceState.UNKNOWN,
    story: tuple[str, ...] = (),
    **more: Any,
) -> Result:
    """The answer to an operation that failed with `error`: which device, its state, the cause, what to do."""
    remedy = "" if isinstance(error, IllegalTransition) else error.remedy
    if not remedy and isinstance(error, UnknownCommand) and error.context.get("known"):
        remedy = f"There are: {', '.join(map(str, error.context['known']))}."
    remedy = remedy or _WAYS_ON[state]
    made = Result(
        status="error",
        operation=operation,
        driver=driver or error.driver_name,
        device_id=device_id or str(error.context.get("device", "")),
        state=state.value,
        message=error.message,
        cause=_cause(error),
        remedy=remedy,
        error={**error.to_dict(), "remedy": remedy},
        story=list(story),
        **more,
    )
    made.exception = error
    return made


_WAYS_ON: Mapping[DeviceState, str] = {
    DeviceState.UNKNOWN: "Find it first with scan_devices, then connect_device.",
    DeviceState.DISCOVERED: "Prepare it first with connect_device (or initialize_device).",
    DeviceState.INITIALIZED: "Connect it first with connect_device.",
    DeviceState.CONNECTED: "It is connected: send commands, or start afresh with reset_device or close_device.",
    DeviceState.ACTIVE: "Wait until its command has ended, or end it with close_device.",
    DeviceState.ERROR: "Call reset_device, then connect_device; or close_device to give it up.",
    DeviceState.DISCONNECTED: "Take it up again with connect_device.",
}


def _cause(error: DriverError) -> str:
    """What lies behind `error`, in one line: the foreign exception, a dead driver's last words, or its own message."""
    if error.original_error is not None:
        return str(error.original_error) or type(error.original_error).__name__
    lines = error.context.get("last_lines")
    said = f"; it last said: {lines[-1]}" if isinstance(lines, list) and lines else ""
    return f"{error.code}: {error.message}{said}"


def meant(device: object) -> tuple[str, DeviceInfo | None]:
    """What a caller's `device` means: its id or address as text, and what is known of it, if it says so itself.

    Raises ConfigurationError: it is neither text, nor has it a device_id.
    """
    if isinstance(device, DeviceInfo):
        return device.id, device
    if isinstance(device, Device):
        return device.device_id, device.info
    text = device
    if isinstance(device, Mapping):
        text = device.get("device_id") or device.get("id")
    elif not isinstance(device, str):
        text = getattr(device, "device_id", None)
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(
            f"{device!r:.80} is no device",
            context={"found": type(device).__name__, "expected": "a device of scan_devices, its id, or an address"},
            remedy="Give a device of scan_devices()['devices'], its device_id, or an address like /dev/ttyACM0.",
        )
    return text.strip(), None
