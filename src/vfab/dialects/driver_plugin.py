"""Seed 001 §7: a `DriverPlugin` subclass in any Python file of a plugin place."""

from __future__ import annotations

import ast
from typing import Any

from vfab.dialects.adapting import Adapted, Load, with_commands
from vfab.dialects.managers import CALL_METHOD, ManagerDriver, make, read_manager, settings_of
from vfab.dialects.manifests import make_manifest, plugin_name, version_of
from vfab.dialects.reading import UNKNOWN, Source, first_line, literal, wrapped_names
from vfab.model.errors import ConfigurationError, DriverFailed
from vfab.model.manifest import Manifest

__all__ = ["DriverPlugin", "adapt", "recognise"]

ROOT = "DriverPlugin"


class DriverPlugin:
    """Base class of driver plugins (seed 001 §7)."""

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version

    def get_driver_info(self) -> dict[str, Any]:
        """`name`, `version` and `type`; a plugin may add description, author and category."""
        return {"name": self.name, "version": self.version, "type": "driver_plugin"}

    def initialize(self, config: dict[str, Any]) -> bool:
        """Take the configuration; False when the plugin cannot work with it."""
        raise NotImplementedError

    def get_manager_class(self) -> type:
        """The class of the managers that this plugin provides."""
        raise NotImplementedError


# -- reading ----------------------------------------------------------------------------------------------------------


def recognise(source: Source) -> list[Manifest]:
    """The manifest of each plugin in a file: every class that derives from `DriverPlugin` and from which none does."""
    nodes = source.leaves_of(ROOT)
    return [_manifest(source, node, source.stem if len(nodes) == 1 else node.name) for node in nodes]


def _manifest(source: Source, node: ast.ClassDef, otherwise: str) -> Manifest:
    """The manifest of one plugin; it is called `otherwise` where its name cannot be read."""
    names = source.constants_of(node)
    name, version = _given_to_base(source, node, names)
    info = source.returned(source.method(node, "get_driver_info"), names)
    info = info if isinstance(info, dict) else {}
    managers = [name for name in wrapped_names(source.method(node, "get_manager_class")) if name in source.classes]
    manager = managers[0] if managers else ""
    commands = read_manager(source, manager)
    fields = {
        "name": plugin_name(name or names.get("name") or info.get("name") or otherwise),
        "version": version_of(version, names.get("version"), info.get("version"), names.get("__version__")),
        "author": _text(info, "author"),
        "category": next((info[key] for key in ("category", "type", "driver_type") if key in info), ""),
        "min_platform_version": version_of(
            info.get("min_platform_version"), names.get("min_platform_version"), "1.0.0"
        ),
        "commands": commands if commands is not None else {"call-method": CALL_METHOD},
        "config_schema": settings_of(source, _config_class(source), manager, node),
    }
    return make_manifest(source, "driver_plugin", node.name, fields, doc=_text(info, "description") or first_line(node))


def _text(info: dict[Any, Any], key: str) -> str:
    return str(info.get(key) or "")


def _config_class(source: Source) -> str:
    """The only class whose name ends with Config, "" when there is none or more than one."""
    found = [name for name in source.classes if name.endswith("Config")]
    return found[0] if len(found) == 1 else ""


def _given_to_base(source: Source, node: ast.ClassDef, names: dict[str, Any]) -> tuple[Any, Any]:
    """The name and the version that `__init__` gives to the base class; None where that is no literal."""
    for call in ast.walk(source.method(node, "__init__") or ast.Module([], [])):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"):
            continue
        arguments = list(call.args)
        if not isinstance(call.func.value, ast.Call):  # DriverPlugin.__init__(self, …)
            arguments = arguments[1:]
        given = dict(zip(("name", "version"), arguments, strict=False))
        given.update({word.arg: word.value for word in call.keywords if word.arg in {"name", "version"}})
        read = [literal(given.get(key), names) for key in ("name", "version")]
        return tuple(None if value is UNKNOWN else value for value in read)  # type: ignore[return-value]
    return None, None


# -- running ----------------------------------------------------------------------------------------------------------


def adapt(manifest: Manifest, load: Load) -> type[Adapted]:
    """The driver class for the plugin of `manifest`, whose module `load` imports.

    Raises DriverFailed: the class is not there any more, or is no plugin. Whatever importing raises.
    """
    module = load()
    class_name = manifest.driver_class.rpartition(".")[2]
    plugin_class: Any = getattr(module, class_name, None)
    if not (isinstance(plugin_class, type) and hasattr(plugin_class, "get_manager_class")):
        raise DriverFailed(
            f"{manifest.name}: {manifest.runtime.source or module.__name__} has no class {class_name} with "
            "get_manager_class()",
            driver_name=manifest.name,
            context={"driver_class": manifest.driver_class, "dialect": "driver_plugin"},
            remedy="Derive it from vfab.dialects.DriverPlugin.",
        )

    class PluginDriver(ManagerDriver):
        """A driver whose work the manager of a `DriverPlugin` does."""

        _dialect = "driver_plugin"
        _plugin: Any = None

        def get_info(self) -> dict[str, Any]:
            """What the plugin says of itself, over what its manifest says."""
            told = self._authors("get_driver_info", self._plugin.get_driver_info) if self._plugin is not None else {}
            return {**super().get_info(), **told}

        def _make_manager(self, config: dict[str, Any]) -> Any:
            self._plugin = self._authors_object(class_name, plugin_class)
            if self._authors("initialize", self._plugin.initialize, config) is False:
                raise ConfigurationError(
                    f"{manifest.name}: its initialize() refused the configuration (it returned False)",
                    driver_name=manifest.name,
                    context={"dialect": "driver_plugin", "method": "initialize", "settings": sorted(config)},
                    remedy=f"`vfab config show` lists the settings of {manifest.name}.",
                )
            manager_class = self._authors_object("get_manager_class", self._plugin.get_manager_class)
            return self._authors_object(getattr(manager_class, "__name__", "manager"), make, manager_class, config)

    return with_commands(PluginDriver, manifest)
