"""Industrial I/O: whatever the kernel has a driver for, read from its files, or sample by sample from its buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vfab.model.errors import ConfigurationError, DeviceNotFound, DriverError, LinkLost, TimeoutExceeded
from vfab.sdk.driver import Environment, command
from vfab.sdk.link import Link
from vfab.sdk.sensor import Quantity, Sample, SensorDriver
from vfab.sdk.stream import StreamWriter

from .channels import Channel, find_channels, number_in, read_text, write_text
from .scan import ScanLayout, parse_type

__all__ = ["IioDriver"]

_SYSFS = Path("/sys/bus/iio/devices")
_TIMESTAMP = "timestamp"
_LOOK_S = 0.25


class IioDriver(SensorDriver):
    """Reads an IIO device. Its address is its folder in sysfs, or its node `/dev/iio:deviceN`."""

    interface: ClassVar[str] = "iio"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._channels: list[Channel] = []
        self._open = False

    @property
    def folder(self) -> Path:
        """Where the device's files are."""
        address = Path(self.device.address)
        return _SYSFS / address.name if address.parent == Path("/dev") else address

    @property
    def node(self) -> str:
        """The node of its buffer."""
        return str(self.config["node"] or f"/dev/{self.folder.name}")

    def quantities(self) -> Sequence[Quantity]:
        """What the kernel's driver offers, or those that `channels` names; known once connected."""
        return [channel.quantity() for channel in self._channels]

    def open_sensor(self) -> None:
        """Find the channels and their scales.

        Raises DeviceNotFound: there is no such device. ConfigurationError: it lacks a channel of the settings.
        """
        folder = self.folder
        if not folder.is_dir():
            raise DeviceNotFound(f"{folder} is not there", context={"address": str(folder)})
        found = {channel.name: channel for channel in find_channels(folder)}
        wanted = self.config["channels"] or [name for name in found if _has_one_number(found[name])]
        missing = [name for name in wanted if name not in found]
        if missing or not found:
            raise ConfigurationError(
                f"the device has no channel {missing[0]!r}" if missing else f"{folder} has no inputs",
                context={"field": "channels", "known": sorted(found)},
                remedy=f"Its channels are {', '.join(sorted(found))}." if found else "Is it an output (a DAC)?",
            )
        self._channels = [found[name] for name in wanted]
        if self.config["sampling_hz"] is not None:
            self._set_sampling(folder, float(self.config["sampling_hz"]))
        self._open = True

    def _set_sampling(self, folder: Path, rate_hz: float) -> None:
        shared = [path for path in (folder / "sampling_frequency", folder / "in_sampling_frequency") if path.exists()]
        there = shared[:1] or sorted(folder.glob("in_*_sampling_frequency"))
        if not there:
            raise ConfigurationError(
                "the rate of this device cannot be set",
                context={"field": "sampling_hz"},
                remedy="Leave sampling_hz null; a trigger gives the rate of a buffered stream.",
            )
        for path in there:
            write_text(path, f"{rate_hz:g}")

    def close_sensor(self) -> None:
        """Nothing is held open between readings."""
        self._open = False

    def sensor_open(self) -> bool:
        """The device was found."""
        return self._open

    @command(concurrent=True)
    def is_connected(self) -> bool:
        """The device was found, and its folder is still there."""
        return super().is_connected() and self.folder.is_dir()

    def take_sample(self) -> Sample:
        """Every channel, one file after another. One that says no single number is left out, and flagged."""
        values: dict[str, float] = {}
        raw: dict[str, str] = {}
        for channel in self._channels:
            text = read_text(channel.path)
            raw[channel.name] = text
            number = number_in(text)
            if number is not None:
                values[channel.name] = channel.value(number)
        missing = len(values) < len(raw)
        return Sample(values, raw=raw, flags=("unreadable-channel",) if missing else ())

    def describe(self) -> dict[str, Any]:
        """The chip's name, as the kernel's driver tells."""
        name, label = self._said("name"), self._said("label")
        return {"model": name, "details": {"label": label, "folder": str(self.folder), "node": self.node}}

    def _said(self, file: str) -> str:
        try:
            return read_text(self.folder / file)
        except DriverError:
            return ""

    # -- the buffer ---------------------------------------------------------------------------------------------------

    def acquire(self, stream: StreamWriter, options: Mapping[str, Any]) -> None:
        """Stream from the kernel's buffer, if the settings say so; otherwise read the files at a beat."""
        if not self.config["buffered"]:
            super().acquire(stream, options)
            return
        layout = self._set_up_scan()
        folder = self.folder / "buffer"
        link = self.open_link(self.node)
        try:
            write_text(folder / "enable", "1")
            self._stream_buffer(stream, layout, link)
        finally:
            self._switch_off(folder / "enable")
            self.close_link(link)

    def _switch_off(self, path: Path) -> None:
        try:
            write_text(path, "0")
        except DriverError as error:
            self.log.warning("the buffer could not be switched off: %s", error.message)

    def _set_up_scan(self) -> ScanLayout:
        folder = self.folder
        scan = folder / "scan_elements"
        if not scan.is_dir():
            raise ConfigurationError(
                f"{self._said('name') or folder} has no buffer",
                context={"field": "buffered"},
                remedy="Read its files instead: buffered: false.",
            )
        write_text(folder / "buffer" / "enable", "0")
        wanted = {channel.name for channel in self._channels} | {_TIMESTAMP}
        elements = []
        for path in sorted(scan.glob("in_*_en")):
            name = path.name.removeprefix("in_").removesuffix("_en")
            write_text(path, "1" if name in wanted else "0")
            if name in wanted:
                index = int(read_text(scan / f"in_{name}_index"))
                elements.append(parse_type(name, index, read_text(scan / f"in_{name}_type")))
        if self.config["trigger"]:
            write_text(folder / "trigger" / "current_trigger", self.config["trigger"])
        write_text(folder / "buffer" / "length", str(self.config["buffer_length"]))
        return ScanLayout(elements)

    def _stream_buffer(self, stream: StreamWriter, layout: ScanLayout, link: Link) -> None:
        channels = {channel.name: channel for channel in self._channels}
        while self.acquiring():
            try:
                data = link.read(timeout_s=_LOOK_S)
            except TimeoutExceeded:
                if not self.folder.is_dir():
                    raise LinkLost(f"{self.folder} is not there: the device is gone") from None
                continue
            for numbers in layout.receive(data):
                time_ns = numbers.pop(_TIMESTAMP, None)
                values = {name: channels[name].value(n) for name, n in numbers.items() if name in channels}
                device_time_s = None if time_ns is None else time_ns / 1e9
                self._send(stream, self._reading(Sample(values, raw=numbers, device_time_s=device_time_s)), 0)


def _has_one_number(channel: Channel) -> bool:
    """Whether the channel is one: not several numbers, as a quaternion has. A busy device does not say; then it is."""
    try:
        return number_in(read_text(channel.path)) is not None
    except DriverError:
        return True
