"""The AxiDraw driver: any plotter whose EiBotBoard moves an H-bot and lifts its pen with a servo."""

from __future__ import annotations

from vfab.sdk.ebb import EbbPlotter, EbbSettings

from .settings import settings_of

__all__ = ["AxiDrawDriver"]


class AxiDrawDriver(EbbPlotter):
    """Drives an AxiDraw. Home is where the carriage stood when the board was switched on: the page's top-left corner.

    After a loss of power the carriage must be pushed home by hand.
    """

    foreign_names = ("egg",)

    def make_settings(self) -> EbbSettings:
        """The machine by its model."""
        return settings_of(self.config)
