"""A driver's process hands its device to another one, or takes it over: the host's part of a swap.

What is handed over: the state that the driver saves, and whether it streams. The links stay open in the kernel; the
one that lets go closes its copies first, so that whatever its `disconnect` does cannot reach the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

from vfab.host.ahead import Ahead
from vfab.model.errors import ConfigurationError, ConnectError
from vfab.sdk.driver import BaseDriver
from vfab.sdk.link import Link

__all__ = ["Handed", "Handover", "LinkBook"]

Awaited = Callable[[Any], Any]
PlainOrAsync = Callable[..., Any]


class LinkBook(Protocol):
    """What is needed of the host's ports."""

    @property
    def links(self) -> list[Link]:
        """The links that the driver has."""

    ahead: Ahead
    """What came along with the device."""

    handing_over: bool
    """While it is set, the broker is not told of links that the driver closes."""


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """What goes from one host to the next.

    Attributes:
        state: what the driver saved.
        version: the schema that it is in.
        connected: the device was connected.
        streaming: options of the stream that ran, or None.
        cold: the device was left by `disconnect`, because a library had a part of its link.
        unread: what had come on each link that was read by nobody.
        ahead: links and streams that go along, by the kernel: see `host.ahead`.
    """

    state: dict[str, Any] = {}
    version: int = 0
    connected: bool = False
    streaming: dict[str, Any] | None = None
    cold: bool = False
    unread: dict[str, bytes] = {}
    ahead: dict[str, Any] = {}


msgspec.convert({}, Handed)  # the first one takes its time: here, in the zygote, and not while a device waits


class Handover:
    """Both directions, for one driver.

    Args:
        driver: the driver.
        ports: its links.
        settled: the result of what a driver's method returned, awaited where it must be.
    """

    def __init__(self, driver: BaseDriver, ports: LinkBook, settled: Awaited) -> None:
        self._driver = driver
        self._ports = ports
        self._settled = settled
        self.gone = False

    def let_go(self, version: int) -> dict[str, Any]:
        """Stop touching the device, leaving it as it is; returns a `Handed`."""
        driver = self._driver
        connected = bool(self._settled(driver.is_connected()))
        streaming = self._pause_stream()
        try:
            state = self._settled(driver.save_state(version))
            msgspec.msgpack.encode(state)  # told here, where the device is still ours
        except BaseException:
            self._resume_stream(streaming)
            raise
        cold = any(link.was_given_on for link in self._ports.links)
        self._ports.handing_over = not cold
        unread: dict[str, bytes] = {}
        try:
            for link in [] if cold else self._ports.links:
                unread[link.address] = link.take_unread()
                link.close()
            with contextlib.suppress(Exception):  # its links are closed: it can but tidy up
                self._settled(driver.disconnect())
        finally:
            self._ports.handing_over = False
        self.gone = True
        handed = Handed(
            state=state, version=version, connected=connected, streaming=streaming, cold=cold, unread=unread
        )
        return msgspec.structs.asdict(handed)  # not made plain: bytes in a state stay bytes

    def take_over(self, handed: dict[str, Any]) -> None:
        """Go on where another process let go. Raises what the driver raises: the other one may have it back."""
        given = msgspec.convert(handed, Handed)
        ahead, load_state = self._ports.ahead, cast(PlainOrAsync, self._driver.load_state)
        ahead.take_in(given.ahead, {} if given.cold else given.unread)
        try:
            if given.version or given.state:
                self._settled(load_state(given.state, given.version))
            self._go_on(given)
        finally:
            ahead.drop()

    def _go_on(self, given: Handed) -> None:
        driver = self._driver
        self.gone = False
        self._keep(False)
        try:
            if given.connected:
                self._settled(driver.connect() if given.cold else driver.take_over())
                if not self._settled(driver.is_connected()):
                    raise ConnectError(f"{driver.manifest.name} took the device over and is not connected to it")
            self._resume_stream(given.streaming)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """It did not succeed: whoever had the device before must find it untouched."""
        with contextlib.suppress(Exception):
            self._pause_stream()
        self._ports.handing_over = True
        for link in self._ports.links:
            link.close()
        with contextlib.suppress(Exception):
            self._settled(self._driver.disconnect())
        self._ports.handing_over = False
        self.gone = True

    def _pause_stream(self) -> dict[str, Any] | None:
        """Stop the stream without its readers being told; its options if it ran."""
        status = getattr(self._driver, "streaming_status", None)
        said = self._settled(status()) if status is not None else {}
        if not said.get("streaming"):
            return None
        self._keep(True)
        try:
            self._settled(self._driver.stop_streaming())  # type: ignore[attr-defined]
        except BaseException:
            self._keep(False)
            raise
        options: dict[str, Any] = dict(said.get("options", {}))
        return options

    def _resume_stream(self, options: dict[str, Any] | None) -> None:
        self._keep(False)
        if options is None:
            return
        start = getattr(self._driver, "start_streaming", None)
        if start is None:
            raise ConfigurationError(
                f"{self._driver.manifest.name} cannot stream, and the driver before it does",
                remedy="Stop the stream first.",
            )
        self._settled(start(**options))

    def _keep(self, keep: bool) -> None:
        if hasattr(self._driver, "_keep_streams"):
            self._driver._keep_streams = keep
