"""What plotters at a line share: one conversation with a controller, and since when it has counted its position."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from vfab.model.errors import DriverError, IllegalTransition, LinkLost
from vfab.sdk.drawing import Point
from vfab.sdk.driver import Environment, command
from vfab.sdk.link import Link
from vfab.sdk.plotter import PlotterDriver

__all__ = ["WiredPlotter"]

_COUNTED_SINCE = "home-set-at"
_RETRY_S = 0.1


class _Talk(Protocol):
    link: Link
    lost: bool


class _Streamer(Protocol):
    @property
    def position(self) -> Point: ...

    @property
    def pen_up(self) -> bool: ...


TalkT = TypeVar("TalkT", bound=_Talk)
StreamerT = TypeVar("StreamerT", bound=_Streamer)


class WiredPlotter(PlotterDriver, Generic[TalkT, StreamerT]):
    """A plotter whose controller is talked to over one link, by one who streams plans to it.

    A subclass opens and sets up the conversation (`_open`), and says goodbye (`disconnect`).
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._talk: TalkT | None = None
        self._streamer: StreamerT | None = None
        self._counted_since_s = 0.0
        self._closing = threading.Lock()

    @abstractmethod
    def _open(self) -> None:
        """Open the link and set the controller up: `_talk` and `_streamer` are there afterwards."""

    def _begin(self) -> bool:
        """Open it, as often as the setting `retry_count` allows. Nothing is left open when it raises."""
        self._hang_up()
        attempts = int(self.config["retry_count"]) + 1
        for attempt in range(1, attempts + 1):
            try:
                self._open()
                return True
            except DriverError as error:
                self._hang_up()
                if attempt == attempts or not error.retryable:
                    error.context["attempts"] = attempt
                    raise
                self.log.warning("attempt %d of %d to connect failed: %s", attempt, attempts, error.message)
            self.checkpoint()
            threading.Event().wait(_RETRY_S * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _hang_up(self) -> None:
        with self._closing:
            talk, self._talk, self._streamer = self._talk, None, None
            if talk is not None:
                self._close(talk.link)

    def _close(self, link: Link) -> None:
        try:
            self.close_link(link)
        except DriverError as error:
            self.log.warning("closing %s failed: %s", link.address, error.message)

    def _in_use(self) -> tuple[TalkT, StreamerT]:
        """The conversation. Raises IllegalTransition: not connected. LinkLost: the link broke."""
        if self._talk is None or self._streamer is None:
            raise IllegalTransition(
                "the plotter is not connected",
                context={"device": self.device.id},
                remedy="Connect it first: `vfab device connect`.",
            )
        if self._talk.lost:
            raise LinkLost(
                f"the link to {self._talk.link.address} broke",
                context={"address": self._talk.link.address},
                remedy="Plug the plotter in again and connect it again: `vfab device connect`.",
            )
        return self._talk, self._streamer

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """Whether a controller was reached and the link has not broken since."""
        talk = self._talk
        return self._streamer is not None and talk is not None and not talk.lost

    def where(self) -> tuple[Point, bool]:
        """Where the pen was commanded to be, as far as is known, and whether it is up."""
        streamer = self._streamer
        return ((0.0, 0.0), True) if streamer is None else (streamer.position, streamer.pen_up)

    # -- since when the position is counted ---------------------------------------------------------------------------

    def _count_from_now(self) -> None:
        """From now on the position is counted without a break; kept for the next process."""
        self._counted_since_s = time.time()
        file = self._counted_since_file()
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{self._counted_since_s!r}\n", encoding="ascii")
            except OSError as error:
                self.log.warning("when home was set cannot be kept in %s: %s", file.parent, error)

    def _read_counted_since(self) -> float:
        file = self._counted_since_file()
        try:
            return float(file.read_text(encoding="ascii")) if file is not None else 0.0
        except (OSError, ValueError):
            return 0.0

    def _counted_since_file(self) -> Path | None:
        folder = self.environment.state_dir
        return folder / _COUNTED_SINCE if folder is not None else None
