"""Loading the plugin's code: the only place where vfab imports it, and only in the host."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from vfab.dialects.names import install as install_names
from vfab.dialects.names import provide_for
from vfab.host.rpc import Method
from vfab.model.errors import DependencyError, DriverError, DriverFailed
from vfab.model.manifest import Manifest
from vfab.sdk.driver import BaseDriver, commands_of

if TYPE_CHECKING:
    from vfab.dialects.js_start import StartedNode

__all__ = ["load_driver_class", "methods_of"]

_exists = os.path.exists
_COMPILED = tuple(importlib.machinery.EXTENSION_SUFFIXES)
"""Ends of compiled modules, which Python takes rather than a `.py` beside them."""


def load_driver_class(folder: str, manifest: Manifest, program: StartedNode | None = None) -> type[BaseDriver]:
    """Import the manifest's `driver_class` from `folder`; a class of an older shape comes as the driver made of it.

    `program`, where it was started already, is to run the driver.

    The folder is a package of its own (`from .steps import …` works) and also on `sys.path` (`import steps` works).

    Raises DriverError: the module or class is missing, or is no driver. What the plugin raises comes through.
    """
    install_names()
    if manifest.runtime.dialect != "native":
        return _adapted(folder, manifest, program)
    module_name, _, class_name = manifest.driver_class.rpartition(".")
    context = {"plugin": manifest.name, "folder": folder, "driver_class": manifest.driver_class}
    module = _import(folder, manifest)
    cls = getattr(module, class_name, None)
    if cls is None:
        classes = sorted(name for name, value in vars(module).items() if isinstance(value, type))
        raise DriverFailed(
            f"{manifest.name}: {module_name} has no class {class_name}",
            driver_name=manifest.name,
            context={**context, "classes": classes},
            remedy="Correct driver_class in plugin.yaml.",
        )
    if isinstance(cls, type) and issubclass(cls, BaseDriver):
        return cls
    from vfab.dialects.instrument_plugin import adapt_class, is_instrument

    if is_instrument(cls):
        return adapt_class(manifest, cls)
    from vfab.dialects import detection_handler

    if detection_handler.is_detection_handler(cls):
        return detection_handler.adapt_class(manifest, cls)
    raise DriverFailed(
        f"{manifest.name}: {manifest.driver_class} is not a driver",
        driver_name=manifest.name,
        context=context,
        remedy="Derive it from vfab.sdk.BaseDriver or one of the category bases (PlotterDriver, …).",
    )


def _adapted(folder: str, manifest: Manifest, program: StartedNode | None) -> type[BaseDriver]:
    dialect = manifest.runtime.dialect
    shape = importlib.import_module(f"vfab.dialects.{dialect}")
    if program is None:
        provide_for(manifest.runtime.source or _module_file(folder, manifest))
    begun = {} if program is None else {"node": program}
    cls: type[BaseDriver] = shape.adapt(manifest, lambda: _import(folder, manifest), **begun)
    return cls


def _import(folder: str, manifest: Manifest) -> ModuleType:
    """The module of the manifest's `driver_class`.

    Written without pathlib and re, and for a plain file without looking for it: all of that touches memory which the
    hosts share otherwise.
    """
    package = "vfab_plugin_" + "".join([c if c.isalnum() else "_" for c in manifest.name])
    module_name = manifest.driver_class.rpartition(".")[0]
    if manifest.runtime.source:
        return _import_source(Path(manifest.runtime.source), package, module_name)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    _make_package(package, folder)
    file = _module_file(folder, manifest)
    if not _exists(file):
        raise DependencyError(
            f"{manifest.name}: driver_class names the module {module_name}, and {file} is not there",
            driver_name=manifest.name,
            context={"plugin": manifest.name, "folder": folder, "driver_class": manifest.driver_class},
            remedy="Correct driver_class in plugin.yaml, or add the file.",
        )
    if "." in module_name or file.endswith("/__init__.py") or any(_exists(file[:-3] + end) for end in _COMPILED):
        return importlib.import_module(f"{package}.{module_name}")
    return _execute(package, module_name, file)


def _module_file(folder: str, manifest: Manifest) -> str:
    """The file of the module that `driver_class` names, whether it is there or not."""
    base = "/".join((folder, *manifest.driver_class.split(".")[:-1]))
    package = f"{base}/__init__.py"
    return package if _exists(package) else f"{base}.py"


def _import_source(file: Path, package: str, module_name: str) -> ModuleType:
    """The module in `file`, which shares its folder with files that are not its plugin's: those come last."""
    root = file.parents[module_name.count(".") + (file.name == "__init__.py")]
    sys.path += [str(path) for path in dict.fromkeys((file.parent, root)) if str(path) not in sys.path]
    _make_package(package, str(root))
    *parents, last = module_name.split(".")
    for depth in range(len(parents)):
        _make_package(".".join((package, *parents[: depth + 1])), str(root.joinpath(*parents[: depth + 1])))
    name = ".".join((package, *parents, last))
    search = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=search)
    assert spec is not None, "discovery finds files in Python only here"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _execute(package: str, module_name: str, file: str) -> ModuleType:
    """What `importlib.import_module` does once it has found `file`."""
    name = f"{package}.{module_name}"
    if name in sys.modules:  # the package's `__init__.py` imported it
        return sys.modules[name]
    loader = importlib.machinery.SourceFileLoader(name, file)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None, "a loader was given"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    setattr(sys.modules[package], module_name, module)
    return module


def _make_package(name: str, folder: str) -> None:
    if name in sys.modules:
        return
    init = f"{folder}/__init__.py"
    loader = importlib.machinery.SourceFileLoader(name, init) if _exists(init) else None
    spec = importlib.machinery.ModuleSpec(name, loader, origin=init if loader else None, is_package=True)
    spec.submodule_search_locations = [folder]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if loader is not None:
        loader.exec_module(module)


def methods_of(driver: BaseDriver, manifest: Manifest) -> dict[str, Method]:
    """What may be called: the contract's methods, those marked `@command`, and the manifest's commands.

    Raises DriverError: the manifest names a command whose method the driver does not have.
    """
    found = {name: Method(getattr(driver, name), mark.concurrent) for name, mark in commands_of(type(driver)).items()}
    for name, command in manifest.commands.items():
        method = command.method or name.replace("-", "_")
        function = getattr(driver, method, None)
        if not callable(function):
            raise DriverError(
                f"{manifest.name}: plugin.yaml has the command {name}, but {manifest.driver_class} no method {method}",
                driver_name=manifest.name,
                context={"field": f"commands.{name}", "method": method},
                remedy=f"Add the method, or correct commands.{name} in plugin.yaml.",
            )
        already = found.get(method)
        found[method] = Method(function, command.concurrent or (already is not None and already.concurrent))
    return found
