"""What came ahead: links and streams that the kernel gives a host with the device, so that its driver need not ask.

To ask costs a question to the kernel and back for each of them, in the moment in which nobody has the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from vfab.sdk.link import Link
from vfab.sdk.stream_words import StreamInfo

__all__ = ["Ahead"]

_encode = msgspec.msgpack.Encoder().encode


class _Link(msgspec.Struct, frozen=True):
    """An open link: with the settings that it was opened with, and the token of its descriptor."""

    address: str
    settings: dict[str, Any]
    token: int


class _Stream(msgspec.Struct, frozen=True):
    """A stream: what it is, and the tokens of its ring and its bell."""

    info: StreamInfo
    ring: int
    bell: int


class _Given(msgspec.Struct, frozen=True):
    links: list[_Link] = []
    streams: list[_Stream] = []


msgspec.convert({}, _Given)  # the first one takes its time: here, in the zygote, and not while a device waits


class Ahead:
    """Descriptors that wait to be asked for.

    Args:
        receive: the descriptor that came with a token.
    """

    def __init__(self, receive: Callable[[int], int]) -> None:
        self._receive = receive
        self._links: dict[str, tuple[dict[str, Any], int]] = {}
        self._streams: dict[str, tuple[StreamInfo, int, int]] = {}
        self._unread: dict[str, bytes] = {}

    def take_in(self, given: Mapping[str, Any], unread: Mapping[str, bytes]) -> None:
        """Receive what is there, and what had come on each link that nobody has read so far."""
        told = msgspec.convert(given, _Given)
        self._unread = dict(unread)
        for link in told.links:
            self._links[link.address] = (link.settings, self._receive(link.token))
        for stream in told.streams:
            self._streams[stream.info.name] = (stream.info, self._receive(stream.ring), self._receive(stream.bell))

    def link(self, address: str, settings: Mapping[str, Any]) -> Link | None:
        """The link to `address`, if it is there just as it is asked for."""
        known, fd = self._links.get(address, ({}, -1))
        if fd < 0 or known != settings:
            return None
        del self._links[address]
        return self.refilled(Link(fd, address))

    def refilled(self, link: Link) -> Link:
        """`link`, with what had come on it and was not read."""
        link.put_back(self._unread.pop(link.address, b""))
        return link

    def stream(self, info: StreamInfo) -> tuple[int, int] | None:
        """The descriptors of the stream's ring and bell, if it is there just as it is asked for."""
        known, ring, bell = self._streams.get(info.name, (None, -1, -1))
        if known is None or _encode(known) != _encode(info):  # a tuple has become a list on its way here
            return None
        del self._streams[info.name]
        return ring, bell

    def drop(self) -> None:
        """Close what nobody asked for."""
        for _, fd in self._links.values():
            os.close(fd)
        for _, ring, bell in self._streams.values():
            os.close(ring)
            os.close(bell)
        self._links.clear()
        self._streams.clear()
        self._unread.clear()
