"""The broker: opens links for drivers and hands the open descriptors over.

A driver needs no access to `/dev` or the network. The kernel keeps a descriptor of its own: with it a new host takes
over without a reopen (no reset of the board, no lost byte), and the manifest's `safe_stop` bytes can be sent when a
driver dies.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, DriverError, DriverFailed, HostDied, PermissionRefused
from vfab.model.manifest import Manifest
from vfab.sdk.link import Link, make_raw, open_address

__all__ = ["Broker", "LinkKeeper"]

_SETTINGS: Mapping[str, tuple[type, ...]] = {"baudrate": (int,), "timeout_s": (int, float)}
_TIMEOUT_MAX_S = 60.0
_SAFE_STOP_S = 0.5
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS})


@dataclass(slots=True)
class _Held:
    fd: int
    address: str
    settings: Mapping[str, Any]


class Broker:
    """Opens addresses. `opener` is `vfab.sdk.link.open_address` unless a test says otherwise."""

    def __init__(self, opener: Callable[..., int] = open_address) -> None:
        self._opener = opener
        self._tokens = itertools.count(1)

    def keeper(self, device: DeviceInfo, manifest: Manifest) -> LinkKeeper:
        """What holds the links of one device."""
        return LinkKeeper(device, manifest, self._opener, self._tokens)


class LinkKeeper:
    """The links of one device, kept over the life and death of its hosts.

    Attributes:
        manifest: what may be opened, and how the device is made safe; changes when the driver is replaced.
    """

    def __init__(
        self, device: DeviceInfo, manifest: Manifest, opener: Callable[..., int], tokens: itertools.count[int]
    ) -> None:
        self._device = device
        self.manifest = manifest
        self._opener = opener
        self._tokens = tokens
        self._held: dict[str, _Held] = {}
        self._opening: dict[str, asyncio.Task[_Held]] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses whose links are held open."""
        return tuple(self._held)

    async def hand_over(self, address: str, settings: Mapping[str, Any], host: socket.socket) -> int:
        """Open `address`, or take the link that is still open, and pass it to `host`.

        Returns:
            The token that went with the descriptor.

        Raises PermissionRefused: the manifest does not list the address. DriverError: it cannot be opened.
        """
        self._check(address, settings)
        held = self._held.get(address)
        if held is not None and not _alive(held.fd):
            self.close(address)
            held = None
        if held is None:
            held = await self._open(address, settings)
        elif "baudrate" in settings and os.isatty(held.fd):
            make_raw(held.fd, settings["baudrate"], address)
        held.settings = dict(settings)
        return self.pass_on(held.fd, host)

    async def _open(self, address: str, settings: Mapping[str, Any]) -> _Held:
        """Open `address` once, however many ask; to the end, even if whoever asked dies meanwhile.

        The thread that opens cannot be stopped: what it opens is kept for the next host, or closed when the links
        were closed meanwhile; it never lies about, locked and forgotten.
        """
        task = self._opening.get(address)
        if task is None:
            task = self._opening[address] = asyncio.create_task(self._open_and_keep(address, settings))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody may have gone
        return await asyncio.shield(task)

    async def _open_and_keep(self, address: str, settings: Mapping[str, Any]) -> _Held:
        mine = asyncio.current_task()
        try:
            fd = await asyncio.to_thread(self._opener, address, **settings)
        finally:
            wanted = self._opening.get(address) is mine
            if wanted:
                del self._opening[address]
        if not wanted:
            os.close(fd)
            raise HostDied(f"{address} was let go while it was opened", context={"address": address})
        held = self._held[address] = _Held(fd, address, dict(settings))
        return held

    def pass_ahead(self, host: socket.socket) -> list[dict[str, Any]]:
        """Pass every open link that the manifest permits to `host`, which has not asked for it yet.

        Returns:
            Of each `{"address", "settings", "token"}`: whoever asks for another setting must ask here.

        Raises as `pass_on`.
        """
        return [
            {"address": held.address, "settings": held.settings, "token": self.pass_on(held.fd, host)}
            for held in self._held.values()
            if self._is_permitted(held.address) and _alive(held.fd)
        ]

    def move(self, device: DeviceInfo) -> None:
        """The device is elsewhere now: what is open leads nowhere."""
        self.close()
        self._device = device

    @property
    def broken(self) -> list[str]:
        """Addresses of open links whose other end is gone: unplugged, or hung up."""
        return [held.address for held in self._held.values() if not _alive(held.fd)]

    def pass_on(self, fd: int, host: socket.socket) -> int:
        """Pass a copy of `fd` to `host`; returns the token that went with it.

        Raises HostDied: the host is gone. DriverFailed: it takes none of the links that it asked for.
        """
        token = next(self._tokens)
        try:
            socket.send_fds(host, [token.to_bytes(8, "little")], [fd])
        except OSError as error:
            if error.errno in _FULL:
                raise DriverFailed(
                    f"{self.manifest.name} asks for links and does not take them", driver_name=self.manifest.name
                ) from error
            raise HostDied(
                f"the host of {self.manifest.name} has ended", driver_name=self.manifest.name, original_error=error
            ) from error
        return token

    def _is_permitted(self, address: str) -> bool:
        return address in _own(self._device) or self.manifest.permissions.may_connect(address)

    def _check(self, address: str, settings: Mapping[str, Any]) -> None:
        if not self._is_permitted(address):
            raise PermissionRefused(
                f"{self.manifest.name} may not open {address}",
                driver_name=self.manifest.name,
                context={
                    "address": address,
                    "device": self._device.id,
                    "connect": list(self.manifest.permissions.connect),
                },
                remedy=f"If it needs it, its author adds it to permissions.connect in plugin.yaml: {address}",
            )
        unknown = sorted(set(settings) - set(_SETTINGS))
        if unknown:
            raise ConfigurationError(
                f"open_link has no setting {unknown[0]!r}",
                driver_name=self.manifest.name,
                context={"field": unknown[0], "known": sorted(_SETTINGS)},
            )
        for name, value in settings.items():
            most = _TIMEOUT_MAX_S if name == "timeout_s" else float("inf")
            fits = isinstance(value, _SETTINGS[name]) and not isinstance(value, bool)
            if not (fits and 0 < value <= most):
                raise ConfigurationError(
                    f"open_link: {name} cannot be {value!r}",
                    driver_name=self.manifest.name,
                    context={"field": name, "found": repr(value), "expected": f"a number over 0, at most {most:g}"},
                )

    async def safe_stop(self) -> list[str]:
        """Send the manifest's safe_stop bytes on every link that is still open; returns the addresses reached.

        A device that takes no bytes for half a second is not reached, and its link is closed.
        """
        data = self.manifest.safe_stop_bytes()
        reached = []
        for held in list(self._held.values()) if data else []:
            with Link(os.dup(held.fd), held.address) as link:
                try:
                    await asyncio.to_thread(link.write, data, timeout_s=_SAFE_STOP_S)
                    reached.append(held.address)
                except DriverError:
                    if self._held.get(held.address) is held:
                        self.close(held.address)
        return reached

    async def hang_up(self) -> None:
        """Close the connections that a driver left in the middle of a conversation; who asks for them gets new ones.

        The next driver would read the rest of what the one before had asked for. Ports and nodes stay open: the device
        feels it when they are opened, and lines that are half said end there.
        """
        for held in [held for held in self._held.values() if _converses(held.fd)]:
            if self.manifest.safe_stop_bytes():
                await asyncio.to_thread(_see_out, os.dup(held.fd))
            if self._held.get(held.address) is held:
                self.close(held.address)

    def close(self, address: str | None = None) -> None:
        """Close one link, or all; one that is being opened is closed as soon as it is open."""
        for name in [address] if address is not None else list(self._opening):
            self._opening.pop(name, None)
        for name in [address] if address is not None else list(self._held):
            held = self._held.pop(name, None)
            if held is not None:
                os.close(held.fd)


def _own(device: DeviceInfo) -> tuple[str, ...]:
    """What the device is opened by: its address, and the node of one that is addressed by its folder in sysfs."""
    folder, _, name = device.address.rpartition("/")
    return (device.address, f"/dev/{name}") if folder.startswith("/sys/bus/") and name else (device.address,)


def _converses(fd: int) -> bool:
    """Whether it is a connection over a network, which can be made anew."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.type == socket.SOCK_STREAM


def _see_out(fd: int) -> None:
    """Say that nothing follows, and take what still comes until the other end has heard that, for a moment at most.

    To close with bytes unread would reset the connection, and what was said last, the safe stop, might be lost by that.
    """
    ends = time.monotonic() + _SAFE_STOP_S
    with socket.socket(fileno=fd) as sock, suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while (left_s := ends - time.monotonic()) > 0:
            sock.settimeout(left_s)
            if not sock.recv(65536):
                return


def _alive(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, 0)
    return not any(mask & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, mask in poller.poll(0))
