"""A python-can bus on the raw CAN socket that the broker opened (Linux: Documentation/networking/can.rst)."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any

import can

from vfab.model.errors import ProtocolError
from vfab.protocols.candump import CanFrame, unpack

__all__ = ["BrokerBus", "frame_of", "message_of"]

_SOL_CAN_RAW = 101
_FILTER, _ERR_FILTER, _LOOPBACK, _RECV_OWN_MSGS, _FD_FRAMES, _JOIN_FILTERS = 1, 2, 3, 4, 5, 6
_EFF, _RTR, _INVERTED, _ALL_ERRORS = 1 << 31, 1 << 30, 1 << 29, 0x1FFFFFFF
_SO_TIMESTAMPNS = 35
_MSG_CONFIRM = 0x800
"""Set on a frame that this very socket sent; MSG_DONTROUTE only says that somebody on this machine did."""
_TIMESPEC = struct.Struct("@ll")


def frame_of(message: can.Message) -> CanFrame:
    """python-can's message as a frame."""
    return CanFrame(
        message.arbitration_id,
        bytes(message.data),
        extended=message.is_extended_id and not message.is_error_frame,
        remote=message.is_remote_frame,
        error=message.is_error_frame,
        fd=message.is_fd,
        bitrate_switch=message.bitrate_switch,
        error_state=message.error_state_indicator,
        length=message.dlc if message.is_remote_frame else -1,
    )


def message_of(frame: CanFrame, timestamp: float = 0.0) -> can.Message:
    """A frame as python-can's message."""
    return can.Message(
        timestamp=timestamp,
        arbitration_id=frame.id,
        data=frame.data,
        dlc=frame.length,
        is_extended_id=frame.extended,
        is_remote_frame=frame.remote,
        is_error_frame=frame.error,
        is_fd=frame.fd,
        bitrate_switch=frame.bitrate_switch,
        error_state_indicator=frame.error_state,
    )


class BrokerBus(can.BusABC):
    """A bus on a raw CAN socket that is open already.

    Args:
        descriptor: the socket, bound to its interface; the bus owns it from now on.
        channel: the interface's name, for messages.
        fd: CAN FD frames, too.
        receive_own_messages: what this bus sends comes back to it.
        error_frames: error frames are received.
        can_filters: as python-can writes them.
    """

    def __init__(
        self,
        descriptor: int,
        channel: str,
        *,
        fd: bool = False,
        receive_own_messages: bool = False,
        error_frames: bool = True,
        can_filters: Sequence[Any] | None = None,
    ) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.channel = channel
        self.channel_info = f"SocketCAN {channel}"
        self._can_protocol = can.CanProtocol.CAN_FD if fd else can.CanProtocol.CAN_20
        self._wake = os.pipe()
        if self.socket.family == getattr(socket, "AF_CAN", -1):
            for option, value in ((_RECV_OWN_MSGS, receive_own_messages), (_FD_FRAMES, fd)):
                self.socket.setsockopt(_SOL_CAN_RAW, option, int(value))
            self.socket.setsockopt(_SOL_CAN_RAW, _ERR_FILTER, _ALL_ERRORS if error_frames else 0)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        super().__init__(channel, can_filters)

    def interrupt(self) -> None:
        """Make a `recv` that waits raise CanOperationError: python-can's own waits know no other end."""
        os.write(self._wake[1], b"x")

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        ends: list[Any] = [self.socket, self._wake[0]]
        ready = select.select(ends, [], [], timeout)[0]
        if self._wake[0] in ready:
            raise can.CanOperationError("the bus is being closed")
        if not ready:
            return None, True
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(128, 128)
            frame = unpack(data)
        except OSError as error:
            raise can.CanOperationError(f"Error receiving: {error.strerror}", error.errno) from error
        except ProtocolError as error:
            raise can.CanOperationError(error.message) from error
        message = message_of(frame, _timestamp(ancillary))
        message.is_rx = not flags & _MSG_CONFIRM
        message.channel = self.channel
        return message, self._in_kernel

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Send one frame; waits while the interface's queue is full, `timeout` seconds (None: not at all)."""
        if not select.select([], [self.socket], [], timeout or 0)[1]:
            raise can.CanTimeoutError(f"the queue of {self.channel} stays full")
        try:
            self.socket.send(frame_of(msg).pack())
        except OSError as error:
            raise can.CanOperationError(f"Failed to transmit: {error.strerror}", error.errno) from error

    _in_kernel = False

    def _apply_filters(self, filters: Any) -> None:
        self._in_kernel = False
        if self.socket.family != getattr(socket, "AF_CAN", -1):
            return
        packed = b"".join(map(_packed, filters)) if filters else struct.pack("=II", 0, 0)
        self.socket.setsockopt(_SOL_CAN_RAW, _FILTER, packed)
        self._in_kernel = True

    def shutdown(self) -> None:
        """Close the socket; shutting down twice is fine."""
        if self._is_shutdown:
            return
        super().shutdown()
        self.socket.close()
        for fd in self._wake:
            os.close(fd)


def _packed(rule: Any) -> bytes:
    """A filter as the kernel takes it: where `extended` is told, frames of the other width do not pass."""
    ident, mask = int(rule["can_id"]), int(rule["can_mask"])
    if "extended" in rule:
        ident |= _EFF * bool(rule["extended"])
        mask |= _EFF
    return struct.pack("=II", ident, mask)


def _timestamp(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return float(seconds) + float(nanoseconds) * 1e-9
    return 0.0
