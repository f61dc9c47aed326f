"""Seed 004's view of a manifest: `PluginMetadata`, with exactly that document's fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from vfab.model.manifest import Manifest, manifest_from_dict

__all__ = ["PluginMetadata"]


@dataclass
class PluginMetadata:
    """Metadata of a driver plugin (seed 004). `Manifest` has these fields and more; this is the older, smaller view."""

    name: str
    version: str
    author: str
    description: str
    min_platform_version: str = "1.0.0"
    max_platform_version: str | None = None
    supported_methods: list[str] = field(default_factory=list)
    supported_models: list[str] = field(default_factory=list)
    driver_class: str = ""
    dependencies: list[str] = field(default_factory=list)
    config_schema: dict[str, Any] | None = None

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> PluginMetadata:
        """This view of `manifest`."""
        values: dict[str, Any] = {f.name: getattr(manifest, f.name) for f in fields(cls)}
        plain: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }
        return cls(**plain)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, file: str = "plugin.yaml") -> PluginMetadata:
        """This view of the plain data of a manifest.

        Raises BadManifest: as `manifest_from_dict`, naming `file`.
        """
        return cls.from_manifest(manifest_from_dict(data, file=file))

    @classmethod
    def from_yaml(cls, yaml_path: Path) -> PluginMetadata:
        """This view of the file `yaml_path`, which is read here because seed 004 gives this method a path.

        Raises BadManifest: the file breaks a rule. Raises OSError: it cannot be read.
        """
        from vfab.model.manifest_text import manifest_from_yaml

        return cls.from_manifest(manifest_from_yaml(yaml_path.read_bytes(), file=str(yaml_path)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in seed 004's order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
