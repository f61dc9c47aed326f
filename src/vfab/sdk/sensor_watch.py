"""Watching a sensor: thresholds with hysteresis, and interrupts as events. A part of `SensorDriver`."""

from __future__ import annotations

import math
import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from vfab.model.errors import ConfigurationError, DriverError, IllegalTransition, LinkLost
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import BaseDriver, Environment, command
from vfab.sdk.sensor_data import Quantity, ReadingStatus, Sample, SensorReading
from vfab.sdk.sensor_feed import SampleFeed
from vfab.sdk.sensor_limits import Beat, Threshold

__all__ = ["FAILURES_MAX", "LOOK_S", "SensorWatching"]

FAILURES_MAX = 5
"""A stream, or the watch, ends when so many readings in a row have failed."""
LOOK_S = 0.1
"""How long a feed is waited on in one go, seconds."""
_WATCH_PERIOD_S = 0.1


class SensorWatching(BaseDriver):
    """Thresholds, and the thread that looks at them while interrupts are enabled."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._thresholds: list[Threshold] = []
        self._watching: tuple[CancelToken, threading.Thread] | None = None
        self._watch_lock = threading.Lock()

    @abstractmethod
    def quantities(self) -> Sequence[Quantity]:
        """What is measured. It may depend on settings, and on the device once it is open."""

    @abstractmethod
    def sensor_open(self) -> bool:
        """The device is open."""

    @abstractmethod
    def feed(self) -> SampleFeed | None:
        """Where the samples of a sensor that speaks by itself come; None for one that must be asked."""

    @abstractmethod
    def _sample(self) -> Sample: ...

    @abstractmethod
    def _reading(self, sample: Sample, *, look: bool = False) -> SensorReading: ...

    @abstractmethod
    def _read_now(self) -> SensorReading: ...

    def _quantity(self, name: str | None) -> Quantity:
        known = {quantity.name: quantity for quantity in self.quantities()}
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        if name in known:
            return known[name]
        raise ConfigurationError(
            f"{self.manifest.name} measures no {name!r}" if name else f"{self.manifest.name} has several quantities",
            context={"field": "quantity", "found": name, "known": sorted(known)},
            remedy=f"Name one of: {', '.join(sorted(known))}.",
        )

    def _take_thresholds(self) -> None:
        self._thresholds = []
        for given in self.config.get("thresholds") or ():
            self._thresholds.append(self._threshold(**given))

    @command(concurrent=True)
    def set_threshold(
        self, threshold: float, quantity: str | None = None, direction: str = "high", hysteresis: float = 0.0
    ) -> bool:
        """Watch a limit (seed 000); it replaces one of the same quantity and direction.

        Args:
            threshold: the level, in the quantity's unit, after calibration.
            quantity: which one; needed when the sensor has several.
            direction: `high` is crossed upwards, `low` downwards.
            hysteresis: how far back a value must go to count as back, in the unit.

        It is looked at with every reading, in their order; its event comes while interrupts are enabled.
        """
        made = self._threshold(threshold, quantity, direction, hysteresis)
        with self._watch_lock:
            kept = [t for t in self._thresholds if (t.quantity, t.direction) != (made.quantity, made.direction)]
            self._thresholds = [*kept, made]
        return True

    @command(concurrent=True)
    def clear_thresholds(self) -> bool:
        """Take every threshold away."""
        with self._watch_lock:
            self._thresholds = []
        return True

    def _threshold(
        self, threshold: float, quantity: str | None = None, direction: str = "high", hysteresis: float = 0.0
    ) -> Threshold:
        chosen = self._quantity(quantity)
        if direction not in {"high", "low"} or hysteresis < 0 or math.isnan(threshold):
            raise ConfigurationError(
                f"{threshold:g} {direction} with a hysteresis of {hysteresis:g} is no threshold",
                context={"direction": direction, "hysteresis": hysteresis, "threshold": threshold},
                remedy="The direction is high or low, the hysteresis 0 or more.",
            )
        return Threshold(chosen.name, float(threshold), direction, float(hysteresis))

    @property
    def interrupts_enabled(self) -> bool:
        """Events are sent."""
        watching = self._watching
        return watching is not None and watching[1].is_alive()

    @command(concurrent=True)
    def enable_interrupts(self) -> None:
        """Send events from now on (seed 000): `threshold_crossed`, and what the sensor has of its own, such as `edge`.

        A threshold that is crossed already is told with the first reading. Enabled already, nothing happens.

        Raises IllegalTransition: not connected.
        """
        if not self.sensor_open():
            raise IllegalTransition(f"{self.manifest.name} is not connected", remedy="Connect it first.")
        with self._watch_lock:
            if self._watching is not None and self._watching[1].is_alive():
                return
            for threshold in self._thresholds:
                threshold.active = None
            token, feed = CancelToken(), self.feed()
            begin = feed.count if feed is not None else 0
            thread = threading.Thread(target=self._watch, args=(token, begin), name="vfab-interrupts", daemon=True)
            self._watching = (token, thread)
            thread.start()

    @command(concurrent=True)
    def disable_interrupts(self) -> None:
        """Send no more events. Disabled already, nothing happens."""
        with self._watch_lock:
            watching, self._watching = self._watching, None
        if watching is None:
            return
        token, thread = watching
        token.cancel()
        feed = self.feed()
        if feed is not None:
            feed.wake()
        if thread is not threading.current_thread():
            thread.join()
            token.close()

    def _watch(self, token: CancelToken, begin: int) -> None:
        current_token.set(token)
        try:
            feed = self.feed()
            if feed is not None:
                self._watch_feed(feed, begin, token)
            else:
                self._watch_at_beat(token)
        except DriverError as error:
            if not token.cancelled:
                self.log.warning("the sensor cannot be watched any more: %s", error.message)
                self.emit("interrupts_failed", error=error.to_public())

    def _watch_feed(self, feed: SampleFeed, number: int, token: CancelToken) -> None:
        while not token.cancelled:
            number, sample, _ = feed.after(number, LOOK_S, wanted=lambda: not token.cancelled)
            if sample is not None:
                self._reading(sample, look=True)

    def _watch_at_beat(self, token: CancelToken) -> None:
        idle = threading.Event()
        token.when_cancelled(idle.set)
        beat = Beat(float(self.config.get("watch_period_s") or _WATCH_PERIOD_S), time.monotonic())
        failed = 0
        while not idle.is_set():
            try:
                self._read_now()
                failed = 0
            except DriverError as error:
                failed += 1
                if isinstance(error, LinkLost) or not error.retryable or failed >= FAILURES_MAX:
                    raise
            idle.wait(beat.wait_s(time.monotonic()))

    def _look_at_thresholds(self, reading: SensorReading) -> None:
        told: list[dict[str, Any]] = []
        with self._watch_lock:
            for threshold in self._thresholds:
                value = reading.values.get(threshold.quantity)
                if value is None or reading.status == ReadingStatus.BAD:
                    continue
                changed = threshold.update(value)
                if changed is not None:
                    told.append({**threshold.to_dict(), "value": value, "unit": reading.units[threshold.quantity]})
            enabled = self._watching is not None
        if enabled:
            for data in told:
                self.emit("threshold_crossed", **data, time_s=reading.time_s, sequence=reading.sequence)
