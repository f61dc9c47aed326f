"""LinkDriver: a CommunicationDriver over a byte link of the broker, cut into messages by a framing."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from typing import Any

from vfab.model.errors import LinkLost, ProtocolError
from vfab.protocols.framing import Framer, Raw, make_framer
from vfab.sdk.communication import CommunicationDriver, Message
from vfab.sdk.driver import Environment, command
from vfab.sdk.link import Link

__all__ = ["LinkDriver"]


class LinkDriver(CommunicationDriver):
    """Base of drivers that speak over one link. The settings of `make_framer` say where messages end.

    Override `link_settings`, `prepare_link`, and `decode`/`encode` where the bytes of the link are not yet those of the
    device.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._link: Link | None = None
        self._framer: Framer = Raw()
        self._wake: tuple[int, int] | None = None
        self._faults = 0

    @property
    def link(self) -> Link:
        """The open link. Raises LinkLost: there is none."""
        if self._link is None:
            raise LinkLost(f"there is no connection to {self.address}", context={"address": self.address})
        return self._link

    # -- what an author overrides ---------------------------------------------------------------------------------

    def link_settings(self) -> dict[str, Any]:
        """What `open_link` is told."""
        return {}

    def prepare_link(self, link: Link) -> None:
        """Set the open link up, and speak what is spoken first."""

    def decode(self, data: bytes) -> bytes:
        """The device's bytes in what came over the link."""
        return data

    def encode(self, data: bytes) -> bytes:
        """What goes over the link for the device's bytes."""
        return data

    # -- the channel ------------------------------------------------------------------------------------------------

    def open_channel(self) -> None:
        """Open the link and set it up."""
        self._framer = make_framer(self.config)
        self._faults = 0
        link = self.open_link(self.address, **self.link_settings())
        try:
            self._wake = os.pipe()
            self._link = link
            self.prepare_link(link)
        except BaseException:
            self.close_channel()
            raise

    def close_channel(self) -> None:
        """Close the link."""
        link, self._link = self._link, None
        wake, self._wake = self._wake, None
        if link is not None:
            self.close_link(link)
        for fd in wake or ():
            os.close(fd)

    def interrupt_channel(self) -> None:
        """Wake the thread that reads."""
        if self._wake is not None:
            os.write(self._wake[1], b"x")

    def receive_messages(self) -> Iterable[Message]:
        """Wait for bytes, or for the silence that ends a message; what is whole by now."""
        link, wake = self._link, self._wake
        if link is None or wake is None:
            raise LinkLost(f"there is no connection to {self.address}", context={"address": self.address})
        poller = select.poll()
        poller.register(link.fileno(), select.POLLIN)
        poller.register(wake[0], select.POLLIN)
        due_s = self._framer.due_s(time.monotonic())
        ready = {fd for fd, _ in poller.poll(None if due_s is None else int(due_s * 1000 + 0.999))}
        if wake[0] in ready:
            return []
        if link.fileno() not in ready:
            return self._messages(self._framer.expire(time.monotonic()))
        try:
            data = link.read_available()
        except LinkLost:
            for message in self._messages(self._framer.end()):
                self.deliver(message)
            raise
        self.statistics.bytes_in += len(data)
        return self._messages(self._framer.feed(self.decode(data), time.monotonic()))

    def _messages(self, pieces: list[bytes]) -> list[Message]:
        faults = self._framer.faults
        if faults != self._faults:
            self.fault(
                ProtocolError(
                    f"{self.address} sent {faults - self._faults} piece(s) that are no message",
                    context={"address": self.address, "framing": self.config.get("framing", "raw")},
                )
            )
            self._faults = faults
        return [Message(piece) for piece in pieces]

    def send_message(self, data: bytes) -> None:
        """Frame `data` and write it."""
        wire = self.encode(self._framer.encode(data))
        self.link.write(wire, timeout_s=self.timeout_s)
        self.statistics.bytes_out += len(wire)

    # -- bytes as they are --------------------------------------------------------------------------------------------

    @command
    def drain(self) -> int:
        """Forget what came and was not fetched: stale answers of an earlier conversation. Returns how many messages."""
        count = len(self._mailbox)
        self._mailbox.clear()
        return count
