"""Seed 001 §2: the functions `is_X_available`, `get_X_install_instructions`, `create_X_manager`, and `XConfig`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vfab.dialects.adapting import Adapted, Load, with_commands
from vfab.dialects.managers import CALL_METHOD, ManagerDriver, make, read_manager, settings_of
from vfab.dialects.manifests import make_manifest, plugin_name, version_of
from vfab.dialects.reading import Source, first_line, wrapped_names
from vfab.model.errors import DependencyError, DriverFailed
from vfab.model.manifest import Manifest

__all__ = ["adapt", "recognise"]

_FACTORY = re.compile(r"create_(\w+)_manager")


# -- reading ----------------------------------------------------------------------------------------------------------


def recognise(source: Source) -> list[Manifest]:
    """A manifest for each X of which the file has `create_X_manager` and one of the two other functions."""
    found = []
    for name in source.functions:
        match = _FACTORY.fullmatch(name)
        if match and source.functions.keys() & {f"is_{match[1]}_available", f"get_{match[1]}_install_instructions"}:
            found.append(_manifest(source, match[1]))
    return found


def _manifest(source: Source, what: str) -> Manifest:
    factory = source.functions[f"create_{what}_manager"]
    names = [*wrapped_names(factory), _class_called(source, what, "Manager")]
    manager = next((name for name in names if name in source.classes), "")
    config = _class_called(source, what, "Config")
    commands = read_manager(source, manager)
    node = source.classes.get(manager)
    constants = source.constants
    fields = {
        "name": plugin_name(what),
        "version": version_of(constants.get("__version__"), constants.get("VERSION"), constants.get("DRIVER_VERSION")),
        "category": constants.get("CATEGORY") or constants.get("DRIVER_CATEGORY"),
        "commands": commands if commands is not None else {"call-method": CALL_METHOD},
        "config_schema": settings_of(source, config, manager, factory),
    }
    doc = first_line(source.tree) or first_line(node)
    return make_manifest(source, "function_contract", factory.name, fields, doc=doc)


def _class_called(source: Source, what: str, suffix: str) -> str:
    """The class for `my_scale` that is called MyScaleConfig, or the only one that ends so."""
    wanted = (what.replace("_", "") + suffix).lower()
    ending = [name for name in source.classes if name.endswith(suffix)]
    exact = [name for name in ending if name.lower().replace("_", "") == wanted]
    return (exact or (ending if len(ending) == 1 else [""]))[0]


# -- running ----------------------------------------------------------------------------------------------------------


def adapt(manifest: Manifest, load: Load) -> type[Adapted]:
    """The driver class for the plugin of `manifest`, whose module `load` imports.

    Raises DependencyError: an import of the module failed; the remedy is the author's own. DriverFailed: the factory
    is not there any more. Whatever else importing raises.
    """
    factory_name = manifest.driver_class.rpartition(".")[2]
    match = _FACTORY.fullmatch(factory_name)
    what = match[1] if match else manifest.name
    try:
        module = load()
    except ImportError as error:
        raise DependencyError(
            f"{manifest.name}: {error}",
            driver_name=manifest.name,
            context={"dialect": "function_contract", "missing": error.name or ""},
            original_error=error,
            remedy=_instructions_in(manifest.runtime.source, what) or None,
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise DriverFailed(
            f"{manifest.name}: {module.__name__} has no function {factory_name}",
            driver_name=manifest.name,
            context={"driver_class": manifest.driver_class, "dialect": "function_contract"},
        )
    available = getattr(module, f"is_{what}_available", None)
    instructions = getattr(module, f"get_{what}_install_instructions", None)

    class ContractDriver(ManagerDriver):
        """A driver whose work the manager made by `create_X_manager` does."""

        _dialect = "function_contract"

        def is_available(self) -> bool:
            """What `is_X_available` says."""
            return bool(self._authors(f"is_{what}_available", available)) if callable(available) else True

        def _instructions(self) -> str:
            if not callable(instructions):
                return ""
            return str(self._authors(f"get_{what}_install_instructions", instructions))

        def _make_manager(self, config: dict[str, Any]) -> Any:
            if not self.is_available():
                raise DependencyError(
                    f"{manifest.name} is not available here: something that it needs is not installed",
                    driver_name=manifest.name,
                    context={"dialect": "function_contract", "method": f"is_{what}_available"},
                    remedy=self._instructions() or None,
                )
            return self._authors_object(factory_name, make, factory, config)

    return with_commands(ContractDriver, manifest)


def _instructions_in(file: str, what: str) -> str:
    """What `get_X_install_instructions` returns, read from the file: its module cannot be imported."""
    try:
        source = Source.parse(file, Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    text = source.returned(source.functions.get(f"get_{what}_install_instructions"), source.constants)
    return text if isinstance(text, str) else ""
