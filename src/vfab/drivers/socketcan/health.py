"""How a CAN bus fares, told by its error frames (linux/can/error.h)."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from vfab.protocols.candump import CanFrame, ErrorClass

__all__ = ["BusHealth"]

_WARNING: Final = 0x04 | 0x08
_PASSIVE: Final = 0x10 | 0x20
_OVERFLOW: Final = 0x01 | 0x02
_ACTIVE: Final = 0x40


class BusHealth:
    """What error frames told so far.

    Attributes:
        state: active, warning, passive or bus-off: the controller's states of ISO 11898-1; "unknown" before any frame.
        errors: how often each error came.
        counters: (transmit, receive) error counters, when they were told.
    """

    def __init__(self) -> None:
        self.state = "unknown"
        self.errors: Counter[str] = Counter()
        self.counters: tuple[int, int] | None = None

    def heard(self, frame: CanFrame) -> bool:
        """Take note of `frame`; whether the state changed by it, to or from trouble."""
        before = self.state
        if not frame.error:
            if before == "unknown":
                self.state = "active"
            return False
        about = ErrorClass(frame.id & 0x3FF)
        data = frame.data.ljust(8, b"\0")
        self.errors.update(flag.name.lower().replace("_", "-") for flag in ErrorClass if flag in about and flag.name)
        if about & ErrorClass.CONTROLLER:
            self.errors.update(["overflow"] if data[1] & _OVERFLOW else [])
            self.state = (
                "passive"
                if data[1] & _PASSIVE
                else "warning"
                if data[1] & _WARNING
                else "active"
                if data[1] & _ACTIVE
                else self.state
            )
        if about & ErrorClass.COUNTERS or about & ErrorClass.CONTROLLER:
            self.counters = (data[6], data[7])
        if about & ErrorClass.RESTARTED:
            self.state = "active"
        if about & ErrorClass.BUS_OFF:
            self.state = "bus-off"
        return self.state != before

    def to_dict(self) -> dict[str, Any]:
        """For `get_status`."""
        transmit, receive = self.counters or (None, None)
        return {
            "bus_state": self.state,
            "bus_errors": dict(self.errors),
            "transmit_error_counter": transmit,
            "receive_error_counter": receive,
        }
