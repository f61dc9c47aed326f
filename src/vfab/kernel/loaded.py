"""A driver as seed 000's `BaseDriver`: what the kernel can do with a plugin without running its code."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from typing import Any, Protocol

from vfab.model.errors import ConfigurationError, DependencyError
from vfab.model.plugins import DriverInfo, DriverManager
from vfab.sdk.requirements import missing_requirements

__all__ = ["DependencyInstaller", "LoadedDriver", "ManagerFactory"]


class ManagerFactory(Protocol):
    """Starts a driver in a process of its own. The supervisor is one; `apps` wires it into the registry."""

    def create_manager(self, driver: DriverInfo, options: Mapping[str, Any]) -> DriverManager:
        """A manager of `driver`, configured by `options` (seed 001: driver-specific configuration)."""
        ...


class DependencyInstaller(Protocol):
    """Installs what a plugin depends on into that plugin's own environment."""

    def install(self, driver: DriverInfo, requirements: tuple[str, ...]) -> bool:
        """Install `requirements` (PEP 508) for `driver`; True when all are there now."""
        ...


class LoadedDriver:
    """Handle of a plugin that was read and checked; its code runs only in the host that `create_manager` starts."""

    def __init__(
        self,
        info: DriverInfo,
        managers: ManagerFactory | None = None,
        installer: DependencyInstaller | None = None,
    ) -> None:
        self._info = info
        self._managers = managers
        self._installer = installer

    def get_info(self) -> DriverInfo:
        """The driver."""
        return self._info

    def is_available(self) -> bool:
        """Whether it can be started here: platform, interpreter and dependencies are there. Raises nothing."""
        return self._info.usable and not self.missing()

    def missing(self) -> tuple[str, ...]:
        """What it needs and this installation has not: requirements as the manifest writes them."""
        runtime = self._info.manifest.runtime
        lacking: list[str] = []
        if runtime.language == "node":
            from vfab.dialects.js_process import find_node

            if find_node() is None:
                lacking.append("node")
            return tuple(lacking)
        if runtime.version and not _satisfies(platform.python_version(), runtime.version):
            lacking.append(f"python {runtime.version}")
        return (*lacking, *missing_requirements(self._info.manifest.dependencies))

    def install_instructions(self) -> str:
        """What to do about `missing()`, for people; "" when nothing is missing (seed 001)."""
        lacking = self.missing()
        if not lacking:
            return ""
        by_pip = [text for text in lacking if text in self._info.manifest.dependencies]
        how = "pip install " + " ".join(map(shlex.quote, by_pip)) if by_pip else f"install {', '.join(lacking)}"
        return f"{self._info.name} needs {', '.join(lacking)}: {how}"

    def get_config_schema(self) -> dict[str, Any]:
        """JSON Schema of its configuration; an object without properties when the manifest has none."""
        return dict(self._info.manifest.config_schema or {"type": "object", "properties": {}})

    def install_dependencies(self) -> bool:
        """Install what is missing; True when nothing is missing then.

        Raises DependencyError: something is missing and nothing that installs was wired in.
        """
        lacking = self.missing()
        if not lacking:
            return True
        if self._installer is None:
            raise DependencyError(
                f"{self._info.name} needs {', '.join(lacking)}, and this vfab cannot install it",
                driver_name=self._info.name,
                context={"missing": list(lacking)},
                remedy=self.install_instructions(),
            )
        return self._installer.install(self._info, lacking)

    def create_manager(self, **kwargs: Any) -> DriverManager:
        """A manager of the driver, which runs in a process of its own; `kwargs` are its options (seed 001).

        Raises DependencyError: something that it needs is missing. Raises ConfigurationError: it is disabled or
        broken, or nothing that starts drivers was wired in.
        """
        info = self._info
        if not info.usable:
            raise ConfigurationError(
                f"{info.name} cannot be used: {info.problem or info.status.value}",
                driver_name=info.name,
                context={"folder": info.folder, "status": info.status.value},
                remedy=info.remedy or f"`vfab driver info {info.name}` says more.",
            )
        lacking = self.missing()
        if lacking:
            raise DependencyError(
                f"{info.name} needs {', '.join(lacking)}",
                driver_name=info.name,
                context={"missing": list(lacking)},
                remedy=self.install_instructions(),
            )
        if self._managers is None:
            raise ConfigurationError(
                f"nothing here starts drivers: the registry that loaded {info.name} was made without a manager factory",
                driver_name=info.name,
                remedy="Make it with DriverRegistry(places, managers=supervisor), as vfab's own programs do.",
            )
        return self._managers.create_manager(info, kwargs)


def _satisfies(version: str, specifier: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return False
