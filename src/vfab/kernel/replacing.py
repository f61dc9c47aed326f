"""What a device must be able to do so that its driver can be replaced while it runs: hold calls back, change hosts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakSet

from vfab.kernel.channel import BlockingChannel
from vfab.kernel.hosts import Host, PluginLike
from vfab.kernel.shell import DeviceShell
from vfab.kernel.spawner import HostProcess
from vfab.model.errors import DeviceBusy, DriverError, Refused
from vfab.model.lifecycle import DriverState, Event, Signal
from vfab.model.manifest import Manifest
from vfab.protocols.hostwire import OPEN_CHANNEL

__all__ = ["ReplaceableShell"]

_BACK_S = 1.0
"""How long a channel's call to a driver that was taken back may hold the others up."""


class ReplaceableShell(DeviceShell):
    """A device whose hosts can be exchanged under its calls.

    Attributes:
        calls_made: how many calls of people went to its drivers so far; those by channels are not counted.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = asyncio.Event()
        self._gate.set()
        self._under_way = 0
        self.calls_made = 0
        self._quiet = asyncio.Event()
        self._claimed = False
        self._replacing = asyncio.Lock()
        self._waited_for = 0
        self._between: tuple[Host, asyncio.Event] | None = None
        self._channels: WeakSet[BlockingChannel] = WeakSet()
        self._moves: list[tuple[BlockingChannel, socket.socket]] = []
        self._moved: list[BlockingChannel] = []

    # -- calls ------------------------------------------------------------------------------------------------------

    @property
    def being_replaced(self) -> bool:
        """The driver is being replaced now: calls wait."""
        return not self._gate.is_set()

    @property
    def calls_under_way(self) -> int:
        """Calls of people that the driver has not answered yet."""
        return self._under_way

    @property
    def has_channels(self) -> bool:
        """There are callers whose calls do not come by here: synchronous ones."""
        return any(not channel.closed for channel in self._channels)

    async def wait_for_calls(self, timeout_s: float) -> None:
        """Wait until no call is under way, at most `timeout_s` seconds."""
        self._quiet.clear()
        if self._under_way:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), timeout_s)

    def cancel_operations(self) -> None:
        """Cancel every call under way."""
        self._cancel_calls()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """One replacement at a time. Raises DeviceBusy: the driver is being replaced already."""
        if self._claimed:
            raise DeviceBusy(
                f"the driver of {self.id} is being replaced already",
                **self.where(),
                remedy="Wait until that is done: `vfab device state` tells.",
            )
        self._claimed = True
        try:
            yield
        finally:
            self._claimed = False

    @asynccontextmanager
    async def gate_closed(self) -> AsyncIterator[None]:
        """While this lasts, or until `open_gate`, new calls wait; they are made once, afterwards."""
        async with self._replacing:
            self._gate.clear()
            try:
                yield
            finally:
                self._gate.set()

    def open_gate(self) -> None:
        """Let calls through again."""
        self._gate.set()

    def close_gate(self) -> None:
        """Hold calls back again."""
        self._gate.clear()

    # -- hosts --------------------------------------------------------------------------------------------------------

    def host(self) -> Host:
        """The host that has the device. Raises IllegalTransition: there is none."""
        host = self.hosts.host
        if host is None or self._connection is None:
            raise self._no_driver()
        return host

    async def spawn_beside(self, plugin: PluginLike, config: Mapping[str, Any]) -> HostProcess:
        """A host for `plugin` that has nothing to do with the device so far. Raises DriverError."""
        return await self.hosts.spawn_beside(plugin, config)

    def permit(self, manifest: Manifest) -> None:
        """From now on links are opened, and the device is made safe, as `manifest` says."""
        self.links.manifest = manifest

    async def replaced(self, *, at_once: bool = False) -> None:
        """Wait until no replacement is under way.

        Args:
            at_once: whoever waits wants to let go of the device: what is not begun shall not begin, and what is
                watched over not be watched for longer.
        """
        if self._replacing.locked():
            self._waited_for += at_once
            try:
                async with self._replacing:
                    return
            finally:
                self._waited_for -= at_once

    @property
    def is_waited_for(self) -> bool:
        """Somebody waits for the end of the replacement to let go of the device."""
        return self._waited_for > 0

    @property
    def broken_links(self) -> list[str]:
        """Addresses of links that are open here and whose other end is gone."""
        return self.links.broken

    def trusted(self, host: Host) -> None:
        """`host` is not on probation any more: its end is told to the table like any other's, if it was meanwhile."""
        self.hosts.watch(host)

    async def make_safe(self) -> None:
        """Send the device what the manifest says for when a driver is gone."""
        await self._safe_stop(None)

    def between_hosts(self, old: Host) -> None:
        """`old` lets go of the device: until `whole_again` its end is nothing that happens to the device."""
        self._between = (old, asyncio.Event())

    def whole_again(self) -> None:
        """It is known who has the device: ends of hosts count as they usually do."""
        self._moved.clear()
        between, self._between = self._between, None
        if between is not None:
            between[1].set()

    async def known_who_has_it(self, host: Host) -> None:
        """Wait until it is: the end of a host that has let go may be nothing to the device."""
        if self._between is not None and self._between[0] is host:
            await self._between[1].wait()

    def ahead(self, host: Host) -> dict[str, Any]:
        """Give the device's links and streams to `host`; what it must be told of them."""
        links = host.process.links
        streams = self.streams.pass_ahead(links, self.links.pass_on)
        return {"links": self.links.pass_ahead(links), "streams": streams}

    def exchange(self, new: Host, *, on_probation: bool = False) -> None:
        """`new` has the device from now on; what the host before still says of the device's life is stale.

        The end of one on probation is the replacement's business, not the table's.
        """
        before = self.hosts.host
        self.hosts.host, self.plugin, self.config, self.handshake = new, new.plugin, new.config, new.handshake
        if before is not None:
            self.voice.ignore(before)
        self.voice.listen_to(new)
        self.permit(new.plugin.manifest)
        self._take(Signal(Event.SWAPPED))
        self.hosts.forgive_later(self.life.generation)
        if not on_probation:
            self.hosts.watch(new)

    def lost_in_swap(self, error: DriverError) -> None:
        """Neither driver has the device: its host ends, and what follows is what follows every death."""
        self.last_error = error
        process = self._process
        if process is not None:
            process.why = process.why or error
            process.kill()

    async def no_longer(self, generation: int) -> None:
        """Wait until the table knows that the host of `generation` has ended; for a moment at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BACK_S):
                while self.life.generation == generation and self.state is not DriverState.ERROR:
                    await self._next_change()

    # -- the channels of synchronous callers ------------------------------------------------------------------------

    async def hold_channels(self, new: Host, timeout_s: float) -> None:
        """Have every channel wait after its present call, at most `timeout_s` seconds each, to be moved to `new`.

        Raises Refused: a call takes longer. DriverError: `new` takes no channels. `stay_with_channels` undoes it.
        """
        for channel in list(self._channels):
            if channel.closed:
                continue
            sock = await self._new_socket(new)
            self._moves.append((channel, sock))
            if not channel.hold(0.0) and not await asyncio.to_thread(channel.hold, timeout_s):
                raise Refused(
                    f"{self.id} is still at work after {timeout_s:g} s",
                    context={"device": self.id, "waited_s": timeout_s},
                    remedy="Swap it later.",
                )

    def move_channels(self) -> None:
        """Lead every channel that was held to its new host, and let its callers go on."""
        moves, self._moves = self._moves, []
        for channel, sock in moves:
            channel.move(sock)
            self._moved.append(channel)

    async def stay_with_channels(self) -> None:
        """Nothing came of it: lead every channel to the host that has the device, and let their callers go on."""
        moves, self._moves = self._moves, []
        for channel, sock in moves:  # they have not left it
            sock.close()
            channel.let_go()
        moved, self._moved = self._moved, []
        for channel in moved:
            if await asyncio.to_thread(channel.hold, _BACK_S):
                try:
                    channel.move(await self._new_socket(self.host()))
                except DriverError:
                    channel.let_go()

    async def _new_socket(self, host: Host) -> socket.socket:
        """A connection of its own to `host`."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_opened:
            unless_opened.enter_context(ours)
            with theirs:
                token = self.links.pass_on(theirs.fileno(), host.process.links)
            await host.connection.call(OPEN_CHANNEL, token)
            unless_opened.pop_all()
        return ours
