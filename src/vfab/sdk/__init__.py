"""All that a driver author imports: standard library and msgspec only.

For example: `from vfab.sdk import PlotterDriver, command`.
"""

from typing import TYPE_CHECKING, Any

from vfab.model.errors import (
    Cancelled,
    ConfigurationError,
    ConnectError,
    DependencyError,
    DriverError,
    DriverErrorType,
    HandedOver,
    HardwareError,
    LinkLost,
    PermissionRefused,
    ProtocolError,
    Refused,
    TimeoutExceeded,
)
from vfab.sdk.driver import BaseDriver, CancelToken, Environment, command
from vfab.sdk.instrument import InstrumentDriver, driver_plugin
from vfab.sdk.link import Link

if TYPE_CHECKING:
    from vfab.sdk.cache import DriverCache
    from vfab.sdk.camera import CameraCapabilities, CameraDriver, CameraInfo, ImageData
    from vfab.sdk.communication import (
        CommunicationDriver,
        ConnectionInfo,
        DeviceStatus,
        EventStream,
        LinkStatistics,
        Response,
    )
    from vfab.sdk.event_bus import EventManager
    from vfab.sdk.lifecycle import DriverLifecycle
    from vfab.sdk.measuring import Instrument
    from vfab.sdk.operations import ErrorHandler
    from vfab.sdk.plotter import PlotterDriver
    from vfab.sdk.pool import ConnectionPool
    from vfab.sdk.recovery import ConnectionRecovery
    from vfab.sdk.resources import DriverContext, ResourceManager
    from vfab.sdk.scpi_instrument import ScpiInstrument
    from vfab.sdk.sensor import CalibrationResult, Quantity, Sample, SensorDriver, SensorInfo, SensorReading
    from vfab.sdk.stream import StreamAction, StreamData, Streaming, StreamSource, StreamType

__all__ = [
    "BaseDriver",
    "CalibrationResult",
    "CameraCapabilities",
    "CameraDriver",
    "CameraInfo",
    "CancelToken",
    "Cancelled",
    "CommunicationDriver",
    "ConfigurationError",
    "ConnectError",
    "ConnectionInfo",
    "ConnectionPool",
    "ConnectionRecovery",
    "DependencyError",
    "DeviceStatus",
    "DriverCache",
    "DriverContext",
    "DriverError",
    "DriverErrorType",
    "DriverLifecycle",
    "Environment",
    "ErrorHandler",
    "EventManager",
    "EventStream",
    "HandedOver",
    "HardwareError",
    "ImageData",
    "Instrument",
    "InstrumentDriver",
    "Link",
    "LinkLost",
    "LinkStatistics",
    "PermissionRefused",
    "PlotterDriver",
    "ProtocolError",
    "Quantity",
    "Refused",
    "ResourceManager",
    "Response",
    "Sample",
    "ScpiInstrument",
    "SensorDriver",
    "SensorInfo",
    "SensorReading",
    "StreamAction",
    "StreamData",
    "StreamSource",
    "StreamType",
    "Streaming",
    "TimeoutExceeded",
    "command",
    "driver_plugin",
]

_LATER = {
    "CalibrationResult": "sensor",
    "CameraCapabilities": "camera",
    "CameraDriver": "camera",
    "CameraInfo": "camera",
    "CommunicationDriver": "communication",
    "ConnectionInfo": "communication",
    "ConnectionPool": "pool",
    "ConnectionRecovery": "recovery",
    "DeviceStatus": "communication",
    "DriverCache": "cache",
    "DriverContext": "resources",
    "DriverLifecycle": "lifecycle",
    "ErrorHandler": "operations",
    "EventManager": "event_bus",
    "EventStream": "communication",
    "ImageData": "camera",
    "Instrument": "measuring",
    "LinkStatistics": "communication",
    "PlotterDriver": "plotter",
    "Quantity": "sensor",
    "ResourceManager": "resources",
    "Response": "communication",
    "Sample": "sensor",
    "ScpiInstrument": "scpi_instrument",
    "SensorDriver": "sensor",
    "SensorInfo": "sensor",
    "SensorReading": "sensor",
    "StreamAction": "stream",
    "StreamData": "stream",
    "StreamSource": "stream",
    "StreamType": "stream",
    "Streaming": "stream",
}


def __getattr__(name: str) -> Any:
    """What takes long to import is imported when it is asked for: most drivers are no plotters."""
    room = _LATER.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"vfab.sdk.{room}"), name)
