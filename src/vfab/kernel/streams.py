"""The streams of a device: the kernel makes their memory, hands it to the driver, and lets readers in.

The memory outlives the host: when a driver dies and is started again, or is replaced, it writes on in the same ring,
and readers see a gap in time instead of an end.
"""

from __future__ import annotations

import itertools
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from vfab.kernel.probation import SILENT_GAPS, SILENT_S, Pulse, StreamSeen
from vfab.model.errors import ConfigurationError, DeviceNotFound
from vfab.sdk.ring import RingMemory, RingReader
from vfab.sdk.stream_ends import StreamReader
from vfab.sdk.stream_words import StreamInfo

__all__ = ["CAPACITY_MAX", "STREAMS_MAX", "StreamKeeper"]

CAPACITY_MAX = 512 << 20
RECORDS_MAX = 1 << 20
STREAMS_MAX = 16
"""How many streams a device may have, and how large they may be: a broken driver must not take all memory."""

PULSE_RECORDS = 3
"""Of how many records a stream must have been before one knows how regularly they come."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


@dataclass(slots=True)
class _Kept:
    info: StreamInfo
    memory: RingMemory
    made: int

    def look(self) -> RingReader:
        return RingReader(self.memory.for_reader())


class StreamKeeper:
    """The streams of one device, kept over the life and death of its hosts.

    Args:
        driver_name: for errors.
    """

    def __init__(self, driver_name: str) -> None:
        self._driver_name = driver_name
        self._kept: dict[str, _Kept] = {}
        self._numbers = itertools.count(1)

    @property
    def infos(self) -> list[StreamInfo]:
        """What streams there are."""
        return [kept.info for kept in self._kept.values()]

    def hand_over(self, asked: Any, host: socket.socket, pass_on: Callable[[int, socket.socket], int]) -> list[int]:
        """Give the stream that a host asks for to it, made anew or as it was.

        Returns:
            The tokens that went with the descriptors of its ring and its bell.

        Raises ConfigurationError: what is asked for makes no sense, or is too much.
        """
        info = self._checked(asked)
        kept = self._kept.get(info.name)
        if kept is not None and (kept.info.capacity_bytes, kept.info.records) != (info.capacity_bytes, info.records):
            self._end(info.name)
            kept = None
        if kept is None:
            if len(self._kept) >= STREAMS_MAX:
                raise self._refused(f"it has {STREAMS_MAX} streams already", "name", info.name)
            kept = self._kept[info.name] = _Kept(
                info, RingMemory.create(info.capacity_bytes, info.records), next(self._numbers)
            )
        kept.info = info
        return [pass_on(kept.memory.ring, host), pass_on(kept.memory.bell, host)]

    def pass_ahead(self, host: socket.socket, pass_on: Callable[[int, socket.socket], int]) -> list[dict[str, Any]]:
        """Give every stream to a host that has not asked for it yet: of each `{"info", "ring", "bell"}`, the tokens."""
        return [
            {
                "info": msgspec.to_builtins(kept.info),
                "ring": pass_on(kept.memory.ring, host),
                "bell": pass_on(kept.memory.bell, host),
            }
            for kept in self._kept.values()
        ]

    def reader(self, name: str | None = None, *, oldest: bool = False) -> StreamReader:
        """A reader, in this process, of the stream `name`, or of the only one there is.

        Raises DeviceNotFound: there is none of that name. ConfigurationError: there are several.
        """
        kept = self._find(name)
        return StreamReader(kept.info, kept.memory.for_reader(), oldest=oldest)

    def memory(self, name: str | None = None) -> tuple[StreamInfo, RingMemory]:
        """What a reader in another process needs; the descriptors are the caller's to close. Raises as `reader`."""
        kept = self._find(name)
        return kept.info, kept.memory.for_reader()

    def seen(self) -> dict[str, StreamSeen]:
        """How far every stream has come."""
        looks = {name: (kept.made, kept.look()) for name, kept in self._kept.items()}
        return {name: StreamSeen(made, look.committed, look.ended) for name, (made, look) in looks.items()}

    def pulses(self) -> tuple[Pulse, ...]:
        """The streams that run, by what came on them just before now, and how regularly that was."""
        found = []
        for name, kept in self._kept.items():
            look = kept.look()
            times_s = look.times_s()
            if look.ended or len(times_s) < PULSE_RECORDS:
                continue
            gap_s = max(later - earlier for earlier, later in itertools.pairwise(times_s))
            if time.time() - times_s[-1] < max(SILENT_S, SILENT_GAPS * gap_s):
                found.append(Pulse(name, kept.made, look.committed, gap_s))
        return tuple(found)

    def rest(self) -> None:
        """The driver has ended: nothing comes for now. Its readers are told."""
        for kept in self._kept.values():
            kept.memory.end()

    def close(self) -> None:
        """End every stream for good."""
        for name in list(self._kept):
            self._end(name)

    def _end(self, name: str) -> None:
        kept = self._kept.pop(name)
        kept.memory.end()
        kept.memory.close()

    def _find(self, name: str | None) -> _Kept:
        if name is None and len(self._kept) == 1:
            return next(iter(self._kept.values()))
        kept = self._kept.get(name or "main")
        if kept is None and name is None and self._kept:
            raise ConfigurationError(
                f"{self._driver_name} has several streams: {', '.join(self._kept)}",
                context={"streams": list(self._kept)},
                remedy="Name one of them.",
            )
        if kept is None:
            raise DeviceNotFound(
                f"{self._driver_name} has no stream {name or ''}".rstrip(),
                driver_name=self._driver_name,
                context={"streams": list(self._kept)},
                remedy="Start it first, with the device's command start."
                if not self._kept
                else f"There are: {', '.join(self._kept)}.",
            )
        return kept

    def _checked(self, asked: Any) -> StreamInfo:
        try:
            info = msgspec.convert(asked, StreamInfo)
        except msgspec.ValidationError as error:
            raise self._refused(str(error), "info", asked) from error
        if not _NAME.fullmatch(info.name):
            raise self._refused("a name is letters, digits and _ . : -, 64 at most", "name", info.name)
        if not 1 <= info.capacity_bytes <= CAPACITY_MAX:
            raise self._refused(f"from 1 to {CAPACITY_MAX} bytes", "capacity_bytes", info.capacity_bytes)
        if not 2 <= info.records <= RECORDS_MAX:
            raise self._refused(f"from 2 to {RECORDS_MAX} records", "records", info.records)
        return info

    def _refused(self, expected: str, field: str, found: object) -> ConfigurationError:
        return ConfigurationError(
            f"{self._driver_name}: open_stream: {field} cannot be {found!r}: {expected}",
            driver_name=self._driver_name,
            context={"field": field, "found": repr(found), "expected": expected},
        )
