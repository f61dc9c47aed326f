"""Reading a stream through the node that keeps the device."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from vfab.apps.interrupts import Interrupted
from vfab.apps.node.client import NodeClient, error_of
from vfab.apps.node.streams import unpacked
from vfab.apps.streaming import Counted
from vfab.model.errors import ConfigurationError, LinkLost
from vfab.sdk.stream_ends import StreamRecord
from vfab.sdk.stream_words import StreamInfo

if TYPE_CHECKING:
    from vfab.apps.stream_cli import StreamCommand

__all__ = ["read_stream"]


def read_stream(
    client: NodeClient,
    command: StreamCommand,
    counted: Counted,
    began: Callable[[StreamInfo], None],
    take: Callable[[Sequence[StreamRecord]], None],
) -> dict[str, Any]:
    """Have the node read what `command` asks for; the summary of `vfab stream`. Signals end it.

    Raises what the node says. LinkLost: the node ended meanwhile. Interrupted: as `vfab stream` does.
    """
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import unix_connect

    if command.serve is not None:
        raise ConfigurationError(
            "a node serves streams on its own socket only",
            context={"option": "--ws"},
            remedy="Let go of the device (`vfab device close`), and add --no-node to serve it from this command.",
        )
    taken: list[int] = []
    with unix_connect(uri="ws://localhost/v1/streams", sock=client.connected(), compression=None, max_size=None) as ws:

        def stop(number: int, frame: Any) -> None:
            taken.append(number)
            ws.send("stop")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        ws.send(json.dumps(_asked(command)))
        said: dict[str, Any] = {}
        try:
            for message in ws:
                if isinstance(message, bytes):
                    records = unpacked(message)
                    counted.taken(records)
                    counted.lost += sum(record.lost for record in records)
                    take(records)
                    continue
                said = json.loads(message)
                if "stream" in said:
                    began(msgspec.convert(said["stream"], StreamInfo))
                else:
                    break
        except ConnectionClosed:
            said = {}
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return _ended(command, counted, said, taken)


def _asked(command: StreamCommand) -> dict[str, Any]:
    request = command.request
    return {
        "device": command.device,
        "driver": command.driver,
        "overrides": dict(command.overrides),
        "name": request.name,
        "options": dict(request.options),
        "oldest": request.oldest,
        "count": request.count,
        "duration_s": request.duration_s,
    }


def _ended(command: StreamCommand, counted: Counted, said: dict[str, Any], taken: list[int]) -> dict[str, Any]:
    if "error" in said:
        raise error_of(said["error"], said.get("type", ""))
    if "ended" not in said:
        raise LinkLost("the node ended while the stream ran", remedy="`vfab status` says whether it lives.")
    if taken and (command.request.count or command.request.duration_s):
        raised = Interrupted("ended on request")
        raised.signal_number = taken[0]
        raise raised
    ended = said["ended"]
    counted.lost, counted.end = ended["lost"], ended["end"]
    return command.summary(ended["device"], ended["driver"], counted)
