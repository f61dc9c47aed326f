"""Seed 002's base classes: what a `drv_NAME.py` imports from `sat_toolkit`, in its host.

Threads, because the document's plugins are written for threads: one acquisition thread for each driver.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from vfab.dialects.loops import settled
from vfab.model.errors import Refused
from vfab.model.life import DeviceState
from vfab.sdk.stream_words import StreamAction, StreamData, StreamSource, StreamType

__all__ = [
    "BaseDeviceDriver",
    "BasePlugin",
    "Device",
    "DeviceDriverManager",
    "DeviceState",
    "StreamAction",
    "StreamData",
    "StreamManager",
    "StreamSource",
    "StreamType",
    "StreamWrapper",
]

JOIN_S = 2.0
"""How long `stop_streaming` waits for the acquisition loop to see that it is over."""

_log = logging.getLogger("sat_toolkit")


@dataclass(init=False)
class Device:
    """A device that a plugin's scan found.

    Attributes:
        device_id: the plugin's own name for it, unique among what it finds.
        name, device_type: for people.
        attributes: whatever the plugin needs to reach it. What else a plugin gives by name is there, and an attribute.
    """

    device_id: str
    name: str = ""
    device_type: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        device_id: str,
        name: str = "",
        device_type: str = "",
        attributes: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.device_id, self.name, self.device_type = device_id, name, device_type
        self.attributes = {**(attributes or {}), **more}
        self.__dict__.update(more)

    def __hash__(self) -> int:
        return hash(self.device_id)


class StreamWrapper:
    """Takes what a driver broadcasts. Safe from any thread.

    Attributes:
        sink: told of every message; the host sets it. Without one, messages go nowhere.
        count: how many messages were taken.
    """

    def __init__(self, sink: Callable[[StreamData], None] | None = None) -> None:
        self.sink = sink
        self.count = 0

    def broadcast_data(self, stream_data: StreamData) -> None:
        """Send one message to whoever listens."""
        self.count += 1
        if self.sink is not None:
            self.sink(stream_data)


class StreamManager(StreamWrapper):
    """What the document calls the part that streams; a plugin's `stream_wrapper` is all of it that a driver needs."""


class BasePlugin:
    """Root of seed 002's classes."""

    def __init__(self) -> None:
        self.name = type(self).__module__.rpartition(".")[2]
        self.logger = logging.getLogger(type(self).__module__)


class BaseDeviceDriver(BasePlugin):
    """Base of seed 002's drivers: the author writes the `_…_impl` methods.

    Attributes:
        supported_commands: command -> what it does.
        device: the device that was last initialised or connected.
        is_acquiring: set while the acquisition loop shall run.
        stream_wrapper: where the loop sends its data.
    """

    supported_commands: Any
    device: Device | None
    is_acquiring: threading.Event
    stream_wrapper: StreamWrapper
    acquisition_thread: threading.Thread | None
    _streaming_lock: threading.RLock
    _set_up: bool

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """What the class needs is there before the author's `__init__`, which may forget ours or come before it."""
        self = super().__new__(cls)
        if not hasattr(cls, "supported_commands"):
            self.supported_commands = {}
        self.device = None
        self.is_acquiring = threading.Event()
        self.stream_wrapper = StreamWrapper()
        self.acquisition_thread = None
        self._streaming_lock = threading.RLock()
        self._set_up = False
        return self

    # -- what the author writes ---------------------------------------------------------------------------------------

    def _scan_impl(self) -> list[Device]:
        raise NotImplementedError(f"{type(self).__name__} has no _scan_impl")

    def _initialize_impl(self, device: Device) -> bool:
        return True

    def _connect_impl(self, device: Device) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no _connect_impl")

    def _command_impl(self, device: Device, command: str, args: dict[str, Any] | None = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _command_impl")

    def _reset_impl(self, device: Device) -> bool:
        return True

    def _close_impl(self, device: Device) -> bool:
        return True

    def _setup_acquisition(self, device: Device) -> None:
        """Prepare the acquisition."""

    def _cleanup_acquisition(self, device: Device) -> None:
        """Give back what `_setup_acquisition` took."""

    def _acquisition_loop(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _acquisition_loop")

    # -- what the author uses -----------------------------------------------------------------------------------------

    def start_streaming(self, device: Device | None = None) -> bool:
        """Set the acquisition up and run its loop in a thread. False: it runs already."""
        with self._streaming_lock:
            if self.is_acquiring.is_set():
                return False
            if device is not None and self.device is None:
                self.device = device
            device = device or self.device
            settled(self._setup_acquisition(device))  # type: ignore[func-returns-value, arg-type]
            self._set_up = True
            self.is_acquiring.set()
            self.acquisition_thread = threading.Thread(
                target=self._acquire, args=(device,), name="acquisition", daemon=True
            )
            self.acquisition_thread.start()
            return True

    def stop_streaming(self, device: Device | None = None) -> bool:
        """End the loop, wait for it, and clean up. False: nothing runs."""
        with self._streaming_lock:
            thread, self.acquisition_thread = self.acquisition_thread, None
            self.is_acquiring.clear()
        if thread is None:
            return False
        if thread is threading.current_thread():
            return True  # the loop ends itself: it cleans up when it returns
        thread.join(JOIN_S)
        self._clean_up(device or self.device)  # a loop that hangs in a read is freed by closing what it reads
        thread.join(JOIN_S)
        if thread.is_alive():
            _log.warning("the acquisition loop goes on although it was stopped; it holds what it holds")
        return True

    def _acquire(self, device: Device | None) -> None:
        try:
            settled(self._acquisition_loop())
        except Exception:
            _log.exception("the acquisition loop failed; no more data comes until streaming is started again")
        finally:
            self.is_acquiring.clear()
            self._clean_up(device)

    def _clean_up(self, device: Device | None) -> None:
        """Call `_cleanup_acquisition` once for each time that the acquisition was set up."""
        with self._streaming_lock:
            due, self._set_up = self._set_up, False
        if due:
            try:
                settled(self._cleanup_acquisition(device))  # type: ignore[func-returns-value, arg-type]
            except Exception:
                _log.exception("cleaning up after the acquisition failed")


class DeviceDriverManager:
    """Not for plugins: one driver cannot manage others from inside its process."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise Refused(
            "a plugin made a DeviceDriverManager: a driver's process has one device and no say over others",
            remedy="Use DeviceDriverManager in the program that uses devices, not in the plugin.",
        )
