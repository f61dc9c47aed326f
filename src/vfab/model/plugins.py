"""What discovery knows of plugins: seed 000's `DriverInfo`, seed 004's `PluginStatus` and `PluginInfo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from vfab.model.errors import DriverError
from vfab.model.manifest import Manifest
from vfab.model.metadata import PluginMetadata

__all__ = [
    "DriverInfo",
    "DriverManager",
    "HasInfo",
    "PluginInfo",
    "PluginProblem",
    "PluginStatus",
    "Shadowed",
]


class PluginStatus(StrEnum):
    """How far along a plugin is (seed 004)."""

    DISCOVERED = "discovered"
    LOADED = "loaded"
    ACTIVE = "active"
    ERROR = "error"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A plugin of the same name that another one hides, because its version is not higher or its place comes later."""

    version: str
    folder: str
    place: str


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """Something that discovery could not read: a manifest, or a folder."""

    path: str
    place: str
    error: DriverError

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {"path": self.path, "place": self.place, **self.error.to_public()}


class DriverInfo:
    """A driver that was found: its manifest, and where it is. Treat it as a value; `changed()` makes another.

    Attributes:
        name, version: the manifest's.
        folder: the plugin's folder, absolute.
        place: where discovery found it: `built-in`, `entry point NAME of DISTRIBUTION`, or the folder searched.
        status: seed 004's status.
        problem, remedy: why it cannot be used, and what to do; "" when it can.
        shadows: plugins of the same name that this one hides.
    """

    __slots__ = ("_manifest", "_packed", "folder", "name", "place", "problem", "remedy", "shadows", "status", "version")

    def __init__(
        self,
        manifest: Manifest | None,
        folder: str,
        place: str = "",
        *,
        status: PluginStatus = PluginStatus.DISCOVERED,
        problem: str = "",
        remedy: str = "",
        shadows: tuple[Shadowed, ...] = (),
        packed: tuple[str, str, bytes] | None = None,
    ) -> None:
        assert manifest is not None or packed is not None, "a driver has a manifest"
        self._manifest = manifest
        self._packed = packed
        self.name, self.version = (manifest.name, manifest.version) if manifest else (packed or ("", ""))[:2]
        self.folder = folder
        self.place = place
        self.status = status
        self.problem = problem
        self.remedy = remedy
        self.shadows = shadows

    @classmethod
    def from_packed(cls, name: str, version: str, packed: bytes, folder: str, place: str) -> DriverInfo:
        """A driver whose manifest stays msgpack until somebody asks for it: discovery of 1,000 needs two fields."""
        return cls(None, folder, place, packed=(name, version, packed))

    @property
    def manifest(self) -> Manifest:
        """Everything that `plugin.yaml` says."""
        if self._manifest is None:
            assert self._packed is not None
            self._manifest = _decoder().decode(self._packed[2])
        return self._manifest

    @property
    def category(self) -> str:
        """plotter, camera, sensor, instrument or communication."""
        return self.manifest.category

    @property
    def description(self) -> str:
        """One sentence."""
        return self.manifest.description

    @property
    def usable(self) -> bool:
        """Neither broken, nor incompatible, nor disabled."""
        return self.status not in {PluginStatus.ERROR, PluginStatus.DISABLED}

    def changed(self, **changes: Any) -> DriverInfo:
        """A copy with `status`, `problem`, `remedy`, `place` or `shadows` changed."""
        fields = ("place", "status", "problem", "remedy", "shadows")
        values: dict[str, Any] = {key: getattr(self, key) for key in fields}
        values.update(changes)
        return DriverInfo(self._manifest, self.folder, packed=self._packed, **values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`: the manifest's fields, then where and how it was found."""
        plain = self.manifest.to_dict()
        plain.update(
            folder=self.folder,
            place=self.place,
            status=self.status.value,
            problem=self.problem,
            remedy=self.remedy,
            shadows=[{"version": s.version, "folder": s.folder, "place": s.place} for s in self.shadows],
        )
        return plain

    def __repr__(self) -> str:
        return f"DriverInfo({self.name} {self.version}, {self.folder}, {self.status.value})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DriverInfo):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.name, self.version, self.folder))


@lru_cache(maxsize=1)
def _decoder() -> msgspec.msgpack.Decoder[Manifest]:
    return msgspec.msgpack.Decoder(Manifest)


@dataclass
class PluginInfo:
    """A plugin as seed 004's manager lists it. `driver_class` is a name: vfab's kernel never holds plugin code."""

    metadata: PluginMetadata
    status: PluginStatus
    driver_class: str | None = None
    error_message: str | None = None
    load_time: float | None = None
    folder: Path = field(default_factory=Path)


@runtime_checkable
class HasInfo(Protocol):
    """Whatever can say which driver it is: seed 000's `BaseDriver` shape."""

    def get_info(self) -> DriverInfo:
        """The driver."""
        ...


class DriverManager(Protocol):
    """Seed 001's manager interface: what `create_manager` gives."""

    def connect(self) -> bool:
        """Connect to the device; True when connected."""
        ...

    def disconnect(self) -> None:
        """Disconnect from the device."""
        ...

    def is_connected(self) -> bool:
        """Whether the device is connected."""
        ...

    def test_connection(self) -> Mapping[str, Any]:
        """Try the device: `{"success", "message", "details"}`."""
        ...
