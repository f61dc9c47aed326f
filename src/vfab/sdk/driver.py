"""BaseDriver: one object that controls one device, in a process of its own.

A driver is a class in a plugin. Its methods may be plain (each call runs in a thread of the host) or `async` (they run
on the host's event loop). Calls run one at a time, in the order in which they came, except those marked
`@command(concurrent=True)`, which run beside them: pause, cancel, status.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError
from vfab.model.manifest import Manifest
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.link import Link
from vfab.sdk.requirements import missing_requirements

if TYPE_CHECKING:
    from vfab.sdk.stream_ends import StreamWriter
    from vfab.sdk.stream_words import StreamInfo, StreamType

__all__ = ["BaseDriver", "CancelToken", "CommandMark", "Environment", "Ports", "command", "commands_of"]

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class CommandMark:
    """What `@command` says of a method."""

    concurrent: bool = False


@overload
def command(function: _F) -> _F: ...
@overload
def command(*, concurrent: bool = ...) -> Callable[[_F], _F]: ...
def command(function: _F | None = None, *, concurrent: bool = False) -> _F | Callable[[_F], _F]:
    """Mark a method as one that callers may call.

    Args:
        function: the method, when used without brackets.
        concurrent: it may run while another call of the same driver runs; it must then be safe to run beside them.
    """

    def mark(target: _F) -> _F:
        target.__vfab_command__ = CommandMark(concurrent)  # type: ignore[attr-defined]
        return target

    return mark if function is None else mark(function)


def commands_of(cls: type) -> dict[str, CommandMark]:
    """The methods of `cls` that callers may call. An override keeps the mark of what it overrides."""
    found: dict[str, CommandMark] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            mark = getattr(value, "__vfab_command__", None)
            if mark is not None:
                found[name] = mark
    return found


class Ports(Protocol):
    """What the host does for a driver."""

    def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        """Send an event."""

    def progress(self, data: Mapping[str, Any]) -> None:
        """Report how far the call that runs now has come."""

    def open_link(self, address: str, settings: Mapping[str, Any]) -> Link:
        """Have the broker open a link."""

    def close_link(self, address: str) -> None:
        """Tell the broker that the link is not needed any more."""

    def open_stream(self, info: StreamInfo) -> StreamWriter:
        """Have the kernel make, or find again, the memory of a stream."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a driver is given at its birth.

    Attributes:
        manifest: its own manifest.
        device: the device that it is for.
        config: its settings, checked against the manifest's `config_schema`, defaults filled in.
        ports: what the host does for it.
        state_dir: a folder of its own that lasts, or None.
    """

    manifest: Manifest
    device: DeviceInfo
    config: dict[str, Any]
    ports: Ports
    state_dir: Path | None = None
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("vfab.driver"))


class BaseDriver:
    """Base of every driver. Override what the device needs; every method here has a harmless default.

    The life of a driver: constructed, `initialize`, `connect`, then calls, `disconnect`; `reset` in between. The host
    calls `disconnect` also when its parent died, so that the device is left safe.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.manifest = environment.manifest
        self.device = environment.device
        self.config = dict(environment.config)
        self.log = environment.log

    # -- the life -----------------------------------------------------------------------------------------------------

    @command
    def initialize(self) -> Awaitable[None] | None:
        """Prepare what needs no device: load tables, check settings."""
        return None

    @command
    def connect(self) -> Awaitable[bool | None] | bool | None:
        """Reach the device and find out that it is the right one.

        Returns:
            False when the device could not be reached; anything else means success.

        Raises:
            ConnectError, TimeoutExceeded, ProtocolError: with what to do. Nothing is left open.
        """
        return None

    @command
    def disconnect(self) -> Awaitable[None] | None:
        """Leave the device safe and let go of it. Called twice, or without a connection, it does nothing."""
        return None

    @command
    def reset(self) -> Awaitable[None] | None:
        """Bring the device back to its state after power-on, as far as it can be done."""
        return None

    @command(concurrent=True)
    def is_connected(self) -> Awaitable[bool] | bool:
        """Whether the device is connected."""
        return False

    @command
    def test_connection(self) -> Awaitable[dict[str, Any]] | dict[str, Any]:
        """Find out whether the device works.

        Returns:
            `{"success": bool, "message": str, "details": dict}` (seed 001 §2).
        """
        connected = bool(self.is_connected())
        return {"success": connected, "message": "connected" if connected else "not connected", "details": {}}

    # -- being replaced while it runs ---------------------------------------------------------------------------------

    def save_state(self, version: int) -> dict[str, Any]:
        """What the driver that replaces this one must know to go on: counters, position, what was set.

        Plain data, in schema `version`, one of the manifest's `state.version` and `state.writes`. Called while nothing
        else runs; the device must not be touched.
        """
        return {}

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Go on from what `save_state` of another process, maybe of another release, said.

        `version` is the manifest's own `state.version` or one of `state.reads`. Called before `take_over`'s connect.

        Raises ConfigurationError: it makes no sense; the other driver then keeps the device.
        """

    def take_over(self) -> Awaitable[None] | None:
        """Become the driver of a device that another process had connected, on the same open links.

        The default connects: nothing is opened anew, for the kernel kept the links. Override it where `connect` would
        disturb the device: by a reset, a homing, a raised pen.
        """
        done = self.connect()
        return None if not isinstance(done, Awaitable) else _until_done(done)

    def reach_safe_point(self) -> bool:
        """Have the operation under way stop where another process can go on, by raising `HandedOver`.

        Called beside the operation. False, the default: it has no such points, and is waited for.
        """
        return False

    # -- what is known without the device (seed 000) -----------------------------------------------------------------

    @command(concurrent=True)
    def get_info(self) -> dict[str, Any]:
        """Name, version, category and description of this driver."""
        m = self.manifest
        return {"name": m.name, "version": m.version, "category": m.category, "description": m.description}

    @command(concurrent=True)
    def is_available(self) -> bool:
        """Whether every dependency of the manifest can be imported; imports nothing."""
        return not self.missing_dependencies()

    def missing_dependencies(self) -> list[str]:
        """The manifest's dependencies that are not installed here."""
        return missing_requirements(self.manifest.dependencies)

    @command(concurrent=True)
    def get_config_schema(self) -> dict[str, Any]:
        """JSON Schema of this driver's settings."""
        return self.manifest.config_schema or {"type": "object", "properties": {}}

    def create_manager(self, **kwargs: Any) -> BaseDriver:
        """This driver with `kwargs` over its settings (seed 000): in vfab the driver is its own manager.

        Raises ConfigurationError: a name is not in the schema.
        """
        known = self.get_config_schema().get("properties", {})
        unknown = sorted(set(kwargs) - set(known))
        if unknown:
            raise ConfigurationError(
                f"{self.manifest.name} has no setting {unknown[0]!r}",
                context={"field": unknown[0], "known": sorted(known)},
                remedy="`vfab config schema` lists the settings.",
            )
        self.config.update(kwargs)
        return self

    # -- what the host does for a driver ----------------------------------------------------------------------------

    def open_link(self, address: str | None = None, **settings: Any) -> Link:
        """The link to this driver's device, or to `address` if the manifest's permissions allow it.

        The kernel opens it (the driver itself needs no access to `/dev` or the network) and keeps a descriptor of its
        own, so that `safe_stop` can still be sent when this process dies.

        Args:
            address: default is the device's own address.
            settings: `baudrate` in bits per second, `timeout_s` for a network connection.

        Raises ConnectError, DeviceNotFound, DeviceBusy, PermissionRefused: each says what to do.
        """
        return self.environment.ports.open_link(address or self.device.address, settings)

    def close_link(self, link: Link) -> None:
        """Close `link` here and in the kernel. Closing twice is fine."""
        if not link.closed:
            link.close()
            self.environment.ports.close_link(link.address)

    def open_stream(
        self,
        name: str = "main",
        stream_type: StreamType | str = "custom",
        *,
        capacity_bytes: int = 1 << 20,
        records: int = 4096,
        **about: Any,
    ) -> StreamWriter:
        """A stream of this device, for continuous data: samples, frames, messages. Any number of readers may come.

        The kernel makes its memory, so that its readers outlive this process. A stream of the same name and size is
        taken up again, sequence numbers going on.

        Args:
            name: unique among the device's streams.
            stream_type: what it carries, one of `sdk.stream.StreamType`.
            capacity_bytes: how much of the past is kept at most; four times the largest record or more.
            records: how many records are kept at most.
            about: what readers should know: `unit="Cel"`, `fields=[…]`, `width_px=640`, `pixel_format="YUYV"`.

        Raises ConfigurationError: a size or the name makes no sense.
        """
        from vfab.sdk.stream_words import StreamInfo

        info = StreamInfo(
            name=name, stream_type=str(stream_type), capacity_bytes=capacity_bytes, records=records, about=about
        )
        return self.environment.ports.open_stream(info)

    def emit(self, kind: str, **data: Any) -> None:
        """Send an event of `kind` to whoever listens; `data` must be numbers, text, bytes, lists and dicts."""
        self.environment.ports.emit(kind, data)

    def progress(self, **data: Any) -> None:
        """Tell the caller of the running call how far it has come; by custom `done`, `total`, `remaining_s`."""
        self.environment.ports.progress(data)

    def checkpoint(self) -> None:
        """Call this in every long loop: raises Cancelled, or TimeoutExceeded, when the caller no longer waits."""
        token = current_token.get()
        if token is not None:
            token.check()


async def _until_done(connected: Awaitable[Any]) -> None:
    await connected
