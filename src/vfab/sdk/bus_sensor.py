"""Sensors that are a chip on a bus, I2C or SPI: one link while they are open, one object that speaks the bus on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from vfab.sdk.driver import Environment
from vfab.sdk.link import Link
from vfab.sdk.sensor import SensorDriver

__all__ = ["BusSensorDriver"]

B = TypeVar("B")


class BusSensorDriver(SensorDriver, Generic[B]):
    """A chip on a bus. Its driver writes `open_sensor`, which calls `open_bus` and keeps what it gives in `bus`.

    Attributes:
        bus: what speaks the bus; None while the chip is not open.
    """

    bus_factory: ClassVar[Callable[..., Any]]
    """Makes the bus of a descriptor and keyword arguments of its own; tests put a pretended bus here."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._link: Link | None = None
        self.bus: B | None = None

    def open_bus(self, *arguments: Any, **named: Any) -> B:
        """Open the link and make the bus on it. Raises what the broker and `bus_factory` raise."""
        self._link = self.open_link()
        made: B = type(self).bus_factory(self._link.fileno(), *arguments, **named)
        return made

    def close_sensor(self) -> None:
        """Let go of the bus; the chip goes on."""
        self.bus = None
        link, self._link = self._link, None
        if link is not None:
            self.close_link(link)

    def sensor_open(self) -> bool:
        """The bus is open and the chip answered."""
        return self.bus is not None
