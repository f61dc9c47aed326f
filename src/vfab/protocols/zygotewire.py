"""The wire between the kernel and its zygote, sans-IO.

A stream socket carries frames `u32 n | n bytes of msgpack` (little endian). The kernel sends `SpawnRequest`s, each with
three descriptors (SCM_RIGHTS) attached to the frame's first byte: the host's control socket, the socket on which links
are passed to it, and its standard error. The zygote answers `Spawned` at once and `Exited` when the host has ended.

On the socket of the links the host says one thing itself, in one such frame, before any code of the plugin runs: how
far it is confined. What comes after it on that socket is nobody's business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from vfab.model.confinement import Confinement, ConfinementPlan
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ProtocolError
from vfab.model.manifest import Manifest

__all__ = [
    "DESCRIPTORS",
    "HEADER",
    "Exited",
    "FrameCutter",
    "HostSpec",
    "SpawnFailed",
    "SpawnRequest",
    "Spawned",
    "ZygoteMessage",
    "confinement_in",
    "confinement_report",
    "decode",
    "encode",
]

HEADER = struct.Struct("<I")
DESCRIPTORS = 3
FRAME_MAX = 16 << 20


class HostSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a host must know to become the driver of one device.

    Attributes:
        folder: the plugin's folder.
        manifest: the plugin's manifest, as the kernel read it.
        device: the device that the driver is for.
        config: the settings, checked and complete.
        state_dir: a folder of the driver's own, or "".
        log_level: number of the lowest level that is sent to the kernel.
        paths: folders for `sys.path` before the plugin's own: its environment's site-packages.
        confinement: how the host confines itself.
    """

    folder: str
    manifest: Manifest
    device: DeviceInfo
    config: dict[str, Any] = {}
    state_dir: str = ""
    log_level: int = 20
    paths: tuple[str, ...] = ()
    confinement: ConfinementPlan = ConfinementPlan(mode="off")


class SpawnRequest(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Fork a host for `spec`; `id` comes back in the answers."""

    id: int
    spec: HostSpec


class Spawned(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The host of request `id` is process `pid`."""

    id: int
    pid: int


class SpawnFailed(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """The fork of request `id` failed."""

    id: int
    reason: str


class Exited(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Process `pid` ended: exit code, or minus the number of the signal that ended it.

    `starved`: the kernel ended it, or a program of its, since its cgroup had no more memory.
    """

    pid: int
    status: int
    starved: bool = False


ZygoteMessage = SpawnRequest | Spawned | SpawnFailed | Exited

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ZygoteMessage] = msgspec.msgpack.Decoder(ZygoteMessage)


def encode(message: ZygoteMessage) -> bytes:
    """The frame of `message`."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)) + body


def decode(body: bytes | bytearray | memoryview) -> ZygoteMessage:
    """The message of a frame's body.

    Raises ProtocolError: it is none.
    """
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"not a zygote message: {error}", original_error=error) from error


_report_decoder = msgspec.msgpack.Decoder(Confinement)


def confinement_report(reached: Confinement) -> bytes:
    """The frame in which a host says how far it is confined."""
    body = _encoder.encode(reached)
    return HEADER.pack(len(body)) + body


def confinement_in(data: bytes) -> Confinement | None:
    """What the frame says with which `data` begins; None: it is not all there, or is none."""
    if len(data) < HEADER.size:
        return None
    end = HEADER.size + HEADER.unpack_from(data)[0]
    try:
        return _report_decoder.decode(data[HEADER.size : end]) if len(data) >= end else None
    except msgspec.DecodeError:
        return None


class FrameCutter:
    """Cuts a byte stream into frames' bodies; how it was cut on the way does not matter."""

    def __init__(self) -> None:
        self._held = bytearray()

    def receive(self, data: bytes) -> Iterator[ZygoteMessage]:
        """The messages that `data` completes.

        Raises ProtocolError: a frame is larger than `FRAME_MAX` or makes no sense.
        """
        self._held += data
        while len(self._held) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._held)
            if length > FRAME_MAX:
                raise ProtocolError(f"a zygote frame of {length} bytes is too large")
            end = HEADER.size + length
            if len(self._held) < end:
                return
            message = decode(bytes(self._held[HEADER.size : end]))
            del self._held[:end]
            yield message
