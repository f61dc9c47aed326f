"""What a device's hosts say unasked: requests for links and streams, events, log records, failures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from vfab.kernel.broker import LinkKeeper
from vfab.kernel.failures import Failures
from vfab.kernel.hosts import Host
from vfab.kernel.printed import Printed
from vfab.kernel.streams import StreamKeeper
from vfab.model.errors import DriverError
from vfab.protocols.hostwire import Event, Log

__all__ = ["HostVoice"]


class HostVoice:
    """Hears all hosts of one device: while its driver is replaced there are two.

    Args:
        links, streams: the device's, which hosts ask for.
        failures: where calls that failed are noted.
        publish: tells an event of the device: its kind, data, and who is the source.
        on_closed: told when a host's connection ended, with the error if it broke the protocol.
    """

    def __init__(
        self,
        links: LinkKeeper,
        streams: StreamKeeper,
        failures: Failures,
        publish: Callable[[str, Mapping[str, Any], str], None],
        on_closed: Callable[[Host, DriverError | None], None],
    ) -> None:
        self._links = links
        self._streams = streams
        self._failures = failures
        self._publish = publish
        self._on_closed = on_closed
        self._lines = Printed(self._print)

    def listen_to(self, host: Host) -> None:
        """Tell what `host` prints."""
        host.process.on_line, host.process.on_skipped = self._lines.take, self._lines.skip

    @staticmethod
    def ignore(host: Host) -> None:
        """Do not tell what `host` prints any more."""
        host.process.on_line = lambda line: False

    async def answer(self, method: str, args: list[Any], host: Host) -> Any:
        """A driver asks for a link or a stream."""
        if method == "open_link" and len(args) == 2:
            return await self._links.hand_over(str(args[0]), dict(args[1]), host.process.links)
        if method == "close_link" and len(args) == 1:
            self._links.close(str(args[0]))
            return None
        if method == "open_stream" and len(args) == 1:
            tokens = self._streams.hand_over(args[0], host.process.links, self._links.pass_on)
            self._publish("stream_opened", dict(args[0]), "kernel")
            return tokens
        return NotImplemented

    def host_event(self, event: Event) -> None:
        """The driver emitted an event."""
        self._publish(event.kind, event.data, "driver")

    def host_log(self, record: Log) -> None:
        """The driver logged something."""
        data = {"level": record.level, "logger": record.logger, "message": record.message, "time_s": record.time_s}
        self._publish("log", data, "driver")

    def host_failed(self, host: Host, method: str, error: DriverError) -> None:
        """A call of the driver failed, or a stream of it."""
        self._failures.note(host.process.pid, method, error)

    def host_closed(self, host: Host, error: DriverError | None) -> None:
        """A connection ended."""
        self._on_closed(host, error)

    def _print(self, text: str) -> None:
        """The driver printed something."""
        data = {"level": logging.INFO, "logger": "stdout", "message": text, "time_s": time.time()}
        self._publish("log", data, "driver")
