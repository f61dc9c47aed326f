"""The one error tree.

Seed 001's seven `DriverErrorType`s are the families. Every error has a stable `code`, says whether trying again
can help (`retryable`), and carries what a person needs: what happened, where (`context`) and what to do (`remedy`).
Errors cross process borders as `to_wire()` and come back as the same class by `from_wire()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar

__all__ = [
    "BadManifest",
    "BadResource",
    "Cancelled",
    "ConfigurationError",
    "ConnectError",
    "DependencyError",
    "DeviceBusy",
    "DeviceNotFound",
    "DriverError",
    "DriverErrorType",
    "DriverFailed",
    "DriverNotFound",
    "HandedOver",
    "HardwareError",
    "HostDied",
    "IllegalTransition",
    "LimitExceeded",
    "LinkLost",
    "PermissionRefused",
    "ProtocolError",
    "Refused",
    "SwapFailed",
    "TimeoutExceeded",
    "UnknownCommand",
    "from_wire",
]


class DriverErrorType(Enum):
    """Families of driver errors (seed 001 §5). The exit code of a command is its family's."""

    CONNECTION_ERROR = "connection_error"
    TIMEOUT_ERROR = "timeout_error"
    PERMISSION_ERROR = "permission_error"
    CONFIGURATION_ERROR = "configuration_error"
    HARDWARE_ERROR = "hardware_error"
    PROTOCOL_ERROR = "protocol_error"
    DEPENDENCY_ERROR = "dependency_error"

    @property
    def exit_code(self) -> int:
        """The process exit code of this family: 10 to 16, in the order above (1 and 2 stay the shell's)."""
        return 10 + list(DriverErrorType).index(self)


class DriverError(Exception):
    """Root of every error that vfab raises on purpose.

    Args:
        message: what happened, one sentence, no trailing newline.
        error_type: the family; a subclass has its own as default.
        driver_name: the driver concerned, or "" when none is.
        context: where it happened: file, field, device, value, … JSON-serialisable values only.
        original_error: the foreign exception this one translates.
        remedy: what the reader should do about it; a subclass may have a default.
        retryable: whether the same call may succeed later without anybody changing anything.
    """

    code: ClassVar[str] = "driver_error"
    default_type: ClassVar[DriverErrorType] = DriverErrorType.HARDWARE_ERROR
    default_remedy: ClassVar[str] = ""
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        error_type: DriverErrorType | None = None,
        driver_name: str = "",
        context: Mapping[str, Any] | None = None,
        original_error: BaseException | None = None,
        *,
        remedy: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = error_type or self.default_type
        self.driver_name = driver_name
        self.context: dict[str, Any] = dict(context or {})
        self.original_error = original_error
        self.remedy = self.default_remedy if remedy is None else remedy
        self.retryable = self.default_retryable if retryable is None else retryable

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this error."""
        return self.error_type.exit_code

    def to_dict(self) -> dict[str, Any]:
        """This error for logs: seed 001's five keys, then code, remedy and retryable."""
        return {
            "error": self.message,
            "type": self.error_type.value,
            "driver": self.driver_name,
            "context": self.context,
            "original_error": str(self.original_error) if self.original_error is not None else None,
            "code": self.code,
            "remedy": self.remedy,
            "retryable": self.retryable,
        }

    def to_wire(self) -> dict[str, Any]:
        """This error for another process: `from_wire` makes an equal one of it."""
        return self.to_dict()

    def to_public(self) -> dict[str, Any]:
        """This error for `--json`: `{"code", "message", "remedy", "context"}`."""
        context = dict(self.context)
        if self.driver_name:
            context.setdefault("driver", self.driver_name)
        return {"code": self.code, "message": self.message, "remedy": self.remedy, "context": context}


class ConnectError(DriverError):
    """The device could not be reached; nothing was sent."""

    code = "connection_failed"
    default_type = DriverErrorType.CONNECTION_ERROR
    default_remedy = "Check that the device is plugged in and switched on, then run `vfab device scan`."
    default_retryable = True


class LinkLost(ConnectError):
    """The link broke while in use: unplugged, closed by the peer, or switched off."""

    code = "link_lost"
    default_remedy = "Connect the device again, or switch it on; a plot goes on with `vfab plot FILE --resume`."


class DeviceNotFound(ConnectError):
    """No device has that id or address."""

    code = "device_not_found"
    default_remedy = "`vfab device scan` lists what is there."
    default_retryable = False


class DeviceBusy(ConnectError):
    """Somebody else holds the device: a device has one holder."""

    code = "device_busy"
    default_remedy = "Wait until the holder is done, or end that program."


class HostDied(ConnectError):
    """The driver's process ended before it answered."""

    code = "host_died"
    default_remedy = "vfab starts the driver again by itself; its last log lines are in the context."


class LimitExceeded(HostDied):
    """The driver's process used more than it may and was ended; the context has `limit`, `value` and `allowed`."""

    code = "limit_exceeded"
    default_type = DriverErrorType.HARDWARE_ERROR
    default_remedy = "Raise the limit if the driver needs more: `vfab config show NAME` lists runtime.limits."
    default_retryable = False


class TimeoutExceeded(DriverError):
    """No answer before the deadline. The operation may or may not have taken place."""

    code = "timeout"
    default_type = DriverErrorType.TIMEOUT_ERROR
    default_remedy = "Check the cable and the power supply; raise the timeout if the device is only slow."
    default_retryable = True


class PermissionRefused(DriverError):
    """The operating system, or a rule of vfab, does not allow it."""

    code = "permission_refused"
    default_type = DriverErrorType.PERMISSION_ERROR


class ConfigurationError(DriverError):
    """A value that somebody wrote is wrong: the context names file, field and value."""

    code = "bad_configuration"
    default_type = DriverErrorType.CONFIGURATION_ERROR


class BadManifest(ConfigurationError):
    """A `plugin.yaml` breaks a rule; the driver was not loaded."""

    code = "bad_manifest"


class BadResource(ConfigurationError):
    """An input file is not what it should be (not an SVG, empty, damaged); nothing was drawn."""

    code = "bad_input"


class Refused(ConfigurationError):
    """A request that would do harm or cannot be done (off the page, out of range); nothing was done."""

    code = "refused"


class DriverNotFound(ConfigurationError):
    """No plugin of that name was found."""

    code = "driver_not_found"
    default_remedy = "`vfab driver list` shows what was found and where vfab looked."


class UnknownCommand(ConfigurationError):
    """The driver has no command of that name."""

    code = "unknown_command"


class IllegalTransition(ConfigurationError):
    """The operation does not fit the state that the device is in; nothing was done."""

    code = "illegal_transition"


class Cancelled(DriverError):
    """Somebody cancelled the operation; the device was left safe."""

    code = "cancelled"
    default_type = DriverErrorType.HARDWARE_ERROR


class HandedOver(Cancelled):
    """The operation stopped at a safe point for another driver process to go on with it; nobody outside sees this.

    The context has `args` and `kwargs`, with which the same method goes on.
    """

    code = "handed_over"


class SwapFailed(DriverError):
    """A driver could not be replaced; the old one has the device, as before, unless the context says otherwise."""

    code = "swap_failed"
    default_type = DriverErrorType.HARDWARE_ERROR


class HardwareError(DriverError):
    """The device says that something is wrong with it."""

    code = "hardware_error"


class DriverFailed(DriverError):
    """The driver's own code raised something that is not a DriverError: a defect of the plugin."""

    code = "driver_failed"
    default_remedy = "Report this to the plugin's author, with the traceback in the context (--json shows it)."


class ProtocolError(DriverError):
    """Bytes came that the protocol does not allow."""

    code = "protocol_error"
    default_type = DriverErrorType.PROTOCOL_ERROR


class DependencyError(DriverError):
    """Something that the driver needs is not installed, or fails to import."""

    code = "dependency_missing"
    default_type = DriverErrorType.DEPENDENCY_ERROR


def _tree(root: type[DriverError]) -> dict[str, type[DriverError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


def from_wire(fields: Mapping[str, Any]) -> DriverError:
    """The error that `to_wire` described. An unknown code becomes a plain DriverError of the same family."""
    code = str(fields.get("code", ""))
    kind = _tree(DriverError).get(code, DriverError)
    family = str(fields.get("type", ""))
    known = {member.value: member for member in DriverErrorType}
    context = fields.get("context")
    error = kind(
        str(fields.get("error", "")),
        known.get(family),
        str(fields.get("driver", "")),
        context if isinstance(context, Mapping) else None,
        remedy=str(fields.get("remedy", "")),
        retryable=bool(fields.get("retryable", False)),
    )
    original = fields.get("original_error")
    if original is not None:
        error.original_error = RuntimeError(str(original))
    return error
