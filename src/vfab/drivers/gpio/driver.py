"""GPIO lines as a sensor: levels are read together, edges come as events and in the stream with the kernel's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from vfab.model.errors import ConfigurationError, DriverError, IllegalTransition, Refused
from vfab.sdk.driver import Environment, command
from vfab.sdk.link import Link
from vfab.sdk.sensor import Pump, Quantity, Sample, SampleFeed, SensorDriver

from .lines import ChipLine, Edge, GpioLines, Lines, LineSpec

__all__ = ["GpioDriver", "spec_of"]

_LOOK_S = 1.0


def spec_of(given: str | int | Mapping[str, Any], lines: Sequence[ChipLine]) -> LineSpec:
    """How a line is to be used, as the settings say it.

    Raises ConfigurationError: the chip has no such line, or several of that name.
    """
    said: Mapping[str, Any] = given if isinstance(given, Mapping) else {"line": given}
    wanted = str(said["line"])
    found = [line for line in lines if line.name == wanted]
    if not found and wanted.isdigit():
        found = [line for line in lines if line.offset == int(wanted)]
    if len(found) != 1:
        names = [line.name for line in lines if line.name]
        raise ConfigurationError(
            f"the chip has {'several lines' if found else 'no line'} {wanted!r}",
            context={"field": "lines", "found": wanted, "lines": len(lines), "names": names},
            remedy=f"Give an offset, 0 to {len(lines) - 1}" + (f", or a name: {', '.join(names)}." if names else "."),
        )
    value = bool(said.get("value", False))
    return LineSpec(
        offset=found[0].offset,
        name=said.get("name") or found[0].name or f"line{found[0].offset}",
        direction=said.get("direction", "in"),
        active_low=said.get("active_low", False),
        bias=said.get("bias", "as-is"),
        edges=said.get("edges", "both"),
        debounce_us=round(float(said.get("debounce_ms", 0)) * 1000),
        drive=said.get("drive", "push-pull"),
        value=value,
        safe_value=bool(said.get("safe_value", value)),
    )


class GpioDriver(SensorDriver):
    """Reads and switches lines of a GPIO chip.

    A reading has 1 for each line that is active and 0 for each other. The stream has a record for each edge. Event
    `edge`: line, offset, edge (`rising`: became active, `falling`), active, time_s, device_time_s, time_ns (by the
    kernel's monotonic clock), sequence, lost (edges that the kernel had to drop before this one).
    """

    interface: ClassVar[str] = "gpio"
    lines_factory: ClassVar[Callable[[int], Lines]] = GpioLines
    """Makes the chip of a descriptor."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._link: Link | None = None
        self._lines: Lines | None = None
        self._specs: list[LineSpec] = []
        self._chip: tuple[str, str, int] = ("", "", 0)
        self._feed: SampleFeed | None = None
        self._pump: Pump | None = None
        self._edges = 0

    def quantities(self) -> Sequence[Quantity]:
        """Each line, 0 or 1; known once connected."""
        return [Quantity(name=spec.name, unit="1", resolution=1.0, minimum=0.0, maximum=1.0) for spec in self._specs]

    def open_sensor(self) -> None:
        """Open the chip and take the lines of the settings; without any, only `lines` can be asked.

        Raises DeviceBusy: somebody has a line. ConfigurationError: there is no such line.
        """
        self._link = self.open_link()
        lines = type(self).lines_factory(self._link.fileno())
        self._chip = lines.chip()
        if self.config["lines"]:
            there = lines.lines()
            specs = [spec_of(given, there) for given in self.config["lines"]]
            names, offsets = [spec.name for spec in specs], [spec.offset for spec in specs]
            twice = [n for n in names if names.count(n) > 1] + [o for o in offsets if offsets.count(o) > 1]
            if twice:
                raise ConfigurationError(
                    f"the line {twice[0]!r} is given twice",
                    context={"field": "lines", "found": str(twice[0])},
                    remedy="Use each line once, each with a name of its own.",
                )
            lines.request(specs)
            self._specs = specs
        self._lines = lines
        self._edges = 0
        if any(spec.direction == "in" and spec.edges != "none" for spec in self._specs):
            self._feed = SampleFeed()
            self._pump = Pump("vfab-gpio", self._feed, self._take_edges)

    def close_sensor(self) -> None:
        """Leave outputs at their safe value, and give the lines back."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.stop()
        lines, self._lines = self._lines, None
        if lines is not None:
            for spec in self._specs:
                if spec.direction == "out":
                    self._leave_safe(lines, spec)
            lines.close()
        self._specs, self._feed = [], None
        link, self._link = self._link, None
        if link is not None:
            self.close_link(link)

    def _leave_safe(self, lines: Lines, spec: LineSpec) -> None:
        try:
            lines.set(spec.offset, spec.safe_value)
        except DriverError as error:
            self.log.warning("output %s could not be left at its safe value: %s", spec.name, error.message)

    def sensor_open(self) -> bool:
        """The chip is open, and was still there when its edges were last waited for."""
        return self._lines is not None and (self._pump is None or self._pump.running)

    def feed(self) -> SampleFeed | None:
        """The edges, if any line has them."""
        return self._feed

    def take_sample(self) -> Sample:
        """The levels of all lines at one moment."""
        if self._lines is None or not self._specs:
            raise ConfigurationError(
                "no line was chosen",
                context={"field": "lines", "lines": self._chip[2]},
                remedy="Set `lines`; the command `lines` shows what the chip has.",
            )
        active = self._lines.values()
        names = [spec.name for spec in self._specs]
        return Sample(dict(zip(names, map(float, active), strict=True)), raw=dict(zip(names, active, strict=True)))

    def _take_edges(self) -> None:
        lines, feed = self._lines, self._feed
        assert lines is not None
        assert feed is not None
        by_offset = {spec.offset: spec for spec in self._specs}
        for edge in lines.wait_edges(_LOOK_S):
            spec = by_offset[edge.offset]
            ahead_ns = time.time_ns() - time.monotonic_ns()
            lost, self._edges = max(0, edge.sequence - self._edges - 1), edge.sequence
            told = _told(spec, edge, lost, (edge.time_ns + ahead_ns) / 1e9)
            flags = ("lost-edges",) if lost else ()
            feed.publish(Sample({spec.name: float(edge.rising)}, told, told["device_time_s"], flags=flags))
            if self.interrupts_enabled:
                self.emit("edge", **told)

    @command
    def list_lines(self) -> list[dict[str, Any]]:
        """The chip's lines: offset, name, consumer, used, direction, active_low."""
        if self._lines is None:
            raise IllegalTransition(f"{self.manifest.name} is not connected", remedy="Connect it first.")
        return [asdict(line) for line in self._lines.lines()]

    @command
    def set_line(self, line: str, active: bool) -> bool:
        """Switch an output, named as in the settings or by its offset.

        Raises Refused: it is no output of the settings.
        """
        chosen = [spec for spec in self._specs if line in {spec.name, str(spec.offset)} and spec.direction == "out"]
        if not chosen or self._lines is None:
            outputs = [spec.name for spec in self._specs if spec.direction == "out"]
            raise Refused(
                f"{line!r} is no output",
                context={"line": line, "outputs": outputs},
                remedy=f"Outputs are {', '.join(outputs)}." if outputs else "Give a line `direction: out` in `lines`.",
            )
        self._lines.set(chosen[0].offset, bool(active))
        return True

    def describe(self) -> dict[str, Any]:
        """The chip's name and label, and how the lines are used."""
        name, label, count = self._chip
        return {"model": label or name, "details": {"lines": count, "used": [asdict(spec) for spec in self._specs]}}


def _told(spec: LineSpec, edge: Edge, lost: int, device_time_s: float) -> dict[str, Any]:
    return {
        "line": spec.name,
        "offset": spec.offset,
        "edge": "rising" if edge.rising else "falling",
        "active": edge.rising,
        "time_s": time.time(),
        "device_time_s": device_time_s,
        "time_ns": edge.time_ns,
        "sequence": edge.sequence,
        "lost": lost,
    }
