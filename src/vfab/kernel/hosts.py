"""One host of a device, as the kernel holds it: its process, its connection, and what it says, with its name on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vfab.kernel.connection import HostConnection, HostListener
from vfab.kernel.spawner import HostProcess
from vfab.model.errors import DriverError, from_wire
from vfab.model.manifest import Manifest
from vfab.protocols.hostwire import Event, Handshake, Log

__all__ = ["Host", "PluginLike"]

STREAM_FAILED = "stream_failed"
"""The event by which `sdk.stream.Streaming` tells that a stream ended with an error."""


class PluginLike(Protocol):
    """What is needed of a plugin to run it."""

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        ...

    @property
    def folder(self) -> Path:
        """Where its code lies."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Folders for `sys.path` before its own."""
        ...


class HostOwner(Protocol):
    """The device that the host is of: while a driver is replaced, it has two."""

    async def answer(self, method: str, args: list[Any], host: Host) -> Any:
        """The host asks for a link or a stream."""

    def host_event(self, event: Event) -> None:
        """The driver emitted an event."""

    def host_log(self, record: Log) -> None:
        """The driver logged something."""

    def host_failed(self, host: Host, method: str, error: DriverError) -> None:
        """A call of the driver's `method` failed, or its stream did: `stream NAME`."""

    def host_closed(self, host: Host, error: DriverError | None) -> None:
        """The host's connection ended."""


@dataclass(eq=False, slots=True)
class Host(HostListener):
    """One host.

    Attributes:
        owner: its device.
        plugin, config: what it runs, with which settings.
        process: its process.
        connection: set once it is open.
        handshake: what it said first, once it said it.
    """

    owner: HostOwner
    plugin: PluginLike
    config: dict[str, Any]
    process: HostProcess
    connection: HostConnection = field(init=False)
    handshake: Handshake | None = None

    async def open(self) -> HostConnection:
        """Open the connection."""
        self.connection = await HostConnection.open(self.process.control, self, self.plugin.manifest.name)
        return self.connection

    async def on_request(self, method: str, args: list[Any]) -> Any:
        """Links and streams are the device's; each host gets copies of its own."""
        answer = await self.owner.answer(method, args, self)
        return answer if answer is not NotImplemented else await HostListener.on_request(self, method, args)

    def on_event(self, event: Event) -> None:
        """The driver emitted an event."""
        error = event.data.get("error")
        if event.kind == STREAM_FAILED and isinstance(error, Mapping):
            self.owner.host_failed(self, f"stream {event.data.get('stream')}", from_wire(error))
        self.owner.host_event(event)

    def on_log(self, record: Log) -> None:
        """The driver logged something."""
        self.owner.host_log(record)

    def on_failure(self, method: str, error: DriverError) -> None:
        """A call failed."""
        self.owner.host_failed(self, method, error)

    def on_closed(self, error: DriverError | None) -> None:
        """The connection ended."""
        self.owner.host_closed(self, error)
