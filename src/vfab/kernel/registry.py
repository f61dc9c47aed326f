"""The drivers of this machine: `DriverRegistry` (seed 000), with seed 004's model and method indexes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from vfab.kernel.entry_points import announced, folder_of
from vfab.kernel.index import Index
from vfab.kernel.loaded import DependencyInstaller, LoadedDriver, ManagerFactory
from vfab.kernel.loader import PluginLoader, info_of
from vfab.kernel.places import Place, Places
from vfab.model.alike import alike
from vfab.model.devices import DeviceInfo, Fit
from vfab.model.errors import BadManifest, ConfigurationError, DriverError, DriverNotFound
from vfab.model.plugins import DriverInfo, HasInfo, PluginInfo, PluginProblem, PluginStatus, Shadowed
from vfab.model.versions import PLATFORM_VERSION, compare_versions

__all__ = ["DriverRegistry"]

_SURE = 1000
"""Added to the score of a driver that is known to be the device's."""


class DriverRegistry:
    """Finds drivers in `places`, and answers which there are and what they fit.

    Args:
        places: where to look; by default what the environment says, as for vfab's programs.
        managers: starts drivers; without one `create_manager` is refused.
        installer: installs dependencies; without one `install_dependencies` is refused when something is missing.
        disabled: names of drivers that somebody switched off.
        platform_version: the platform that plugins must fit.

    Nothing is searched before the first question. Not for use from several threads at once.
    """

    def __init__(
        self,
        places: Places | None = None,
        *,
        managers: ManagerFactory | None = None,
        installer: DependencyInstaller | None = None,
        disabled: Collection[str] = (),
        platform_version: str = PLATFORM_VERSION,
    ) -> None:
        places = places if places is not None else Places.from_environment(os.environ)
        self.places = places
        self._managers = managers
        self._installer = installer
        self._disabled = frozenset(disabled)
        self._index = Index(places.cache)
        search = [place.folder for place in places.folders]
        self._loader = PluginLoader(self._index, platform_version=platform_version, search=search)
        self._registered: list[DriverInfo] = []
        self._drivers: dict[str, DriverInfo] | None = None
        self._states: dict[tuple[str, str, str], tuple[PluginStatus, str]] = {}
        self._models: dict[str, list[str]] | None = None
        self._methods: dict[str, list[str]] | None = None

    @property
    def problems(self) -> list[PluginProblem]:
        """What the last discovery could not read, each with its remedy."""
        self._known()
        return list(self._loader.problems)

    @property
    def drivers(self) -> list[DriverInfo]:
        """All drivers as the last discovery found them (the first question discovers), sorted by name."""
        return list(self._known().values())

    def discover_drivers(self) -> list[DriverInfo]:
        """Look in every place again: all drivers, broken, incompatible and disabled ones too, sorted by name.

        A manifest that cannot be read is in `problems`.
        """
        self._loader.problems.clear()
        self._models = self._methods = None
        self._index.load()
        self._drivers = self._ranked(self._candidates())
        self._index.save()
        return list(self._drivers.values())

    def get_available_drivers(self) -> list[DriverInfo]:
        """The drivers that can be used: not broken, not incompatible, not disabled; sorted by name."""
        return [info for info in self._known().values() if info.usable]

    def register_driver(self, driver: DriverInfo | HasInfo | Path | str) -> None:
        """Add a driver that no place holds: a plugin's folder, or whatever has `get_info()`.

        It counts as the last place: it hides a found one of the same name if its version is higher.

        Raises BadManifest: the folder holds no good plugin.
        """
        if isinstance(driver, (str, Path)):
            before = len(self._loader.problems)
            found = self._loader.load_from_path(driver, "registered by code")
            news = self._loader.problems[before:]
            del self._loader.problems[before:]
            if news:
                raise news[0].error
            if not found:
                raise BadManifest(
                    f"{driver}: found no plugin.yaml; a plugin is a folder with that file",
                    context={"file": str(driver)},
                    remedy="Give the plugin's folder; `vfab plugin new` makes one.",
                )
            self._registered += found
        else:
            self._registered.append(info_of(driver).changed(place="registered by code"))
        if self._drivers is not None:
            self.discover_drivers()

    def get(self, name: str) -> DriverInfo:
        """The driver `name`.

        Raises DriverNotFound: there is none; near names and the place of a broken manifest are told.
        """
        known = self._known()
        info = known.get(name)
        if info is None:
            raise self._unknown(name, known)
        return info

    def load_driver(self, driver_name: str) -> LoadedDriver:
        """Check every file of the driver's plugin, and give a handle of it. None of its code is run.

        Raises DriverNotFound: there is none of that name. Raises BadManifest: it breaks a rule; its status is ERROR.
        """
        info = self.get(driver_name)
        if info.usable:
            problems = self._loader.problems_of(info)
            if problems:
                self.set_status(driver_name, PluginStatus.ERROR, problems[0].message)
                raise problems[0]
            if info.status is PluginStatus.DISCOVERED:
                self.set_status(driver_name, PluginStatus.LOADED)
        return LoadedDriver(self.get(driver_name), self._managers, self._installer)

    def set_status(self, driver_name: str, status: PluginStatus, problem: str = "") -> None:
        """Note how far along a driver is; it is remembered as long as the same folder holds the same version."""
        known = self._known()
        info = self.get(driver_name)
        self._states[info.name, info.folder, info.version] = (status, problem)
        known[driver_name] = info.changed(status=status, problem=problem)

    def find_driver_for_model(self, model: str) -> str | None:
        """The driver that supports the instrument model `model` (seed 004), regardless of case; None if none does."""
        if self._models is None:
            self._models = self._indexed("supported_models")
        names = self._models.get(model.casefold())
        return names[0] if names else None

    def find_drivers_for_method(self, method: str) -> list[str]:
        """Names of the drivers that offer the measurement method `method` (seed 004), regardless of case."""
        if self._methods is None:
            self._methods = self._indexed("supported_methods")
        return list(self._methods.get(method.casefold(), ()))

    def drivers_for(self, device: DeviceInfo, looked_up: dict[str, str] | None = None) -> list[Fit]:
        """The available drivers that fit `device`, best first; equal scores by name.

        Before all others come the driver whose question the device answered, and the one that a simulator simulates,
        whatever their `match` rules say. A fit names what has to be installed before the driver can be used;
        `looked_up` holds what has been found of that, by driver, where many devices are asked for.
        """
        own = {device.attributes.get("identified", ""), device.attributes.get("simulates", "")}
        scores = {
            info.name: score
            for info in self.get_available_drivers()
            if (score := info.manifest.score(device) + (_SURE if info.name in own else 0)) > 0
        }
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return [self._fit(name, score, {} if looked_up is None else looked_up) for name, score in ranked]

    def _fit(self, name: str, score: int, looked_up: dict[str, str]) -> Fit:
        remedy = looked_up.get(name)
        if remedy is None:
            remedy = looked_up[name] = LoadedDriver(self.get(name)).install_instructions()
        return Fit(driver=name, score=score, installed=not remedy, remedy=remedy)

    def with_drivers(self, devices: Iterable[DeviceInfo]) -> list[DeviceInfo]:
        """`devices`, each with the drivers that fit it, best first."""
        found: list[DeviceInfo] = []
        looked_up: dict[str, str] = {}
        for device in devices:
            fits = tuple(self.drivers_for(device, looked_up))
            found.append(msgspec.structs.replace(device, drivers=tuple(fit.driver for fit in fits), fits=fits))
        return found

    def get_plugin_info(self, plugin_name: str) -> PluginInfo | None:
        """Seed 004's view of a plugin; None when there is none."""
        info = self._known().get(plugin_name)
        return _plugin_info(info, self._loader) if info is not None else None

    def list_plugins(self) -> dict[str, PluginInfo]:
        """Seed 004's view of every plugin, by name."""
        return {name: _plugin_info(info, self._loader) for name, info in self._known().items()}

    def _known(self) -> dict[str, DriverInfo]:
        if self._drivers is None:
            self.discover_drivers()
        assert self._drivers is not None
        return self._drivers

    def _candidates(self) -> Iterable[DriverInfo]:
        """Everything found, in the order of the places."""
        for number, place in enumerate(self.places.folders):
            if number == self.places.entry_points_after:
                yield from self._announced()
            yield from self._placed(place)
        if self.places.entry_points_after >= len(self.places.folders):
            yield from self._announced()
        yield from self._registered

    def _placed(self, place: Place) -> list[DriverInfo]:
        if place.required and not os.path.isdir(place.folder):  # noqa: PTH112 — a string, at every start
            error = ConfigurationError(
                f"{place.name}: there is no such folder",
                context={"folder": place.folder},
                remedy="Make the folder, or take it out of VFAB_PLUGIN_PATH.",
            )
            self._loader.problems.append(PluginProblem(place.folder, place.name, error))
            return []
        return self._loader.load_from_path(place.folder, place.name)

    def _announced(self) -> Iterable[DriverInfo]:
        for name, value, distribution, installed_in in announced(self.places.entry_points, self._index):
            place = f"entry point {name} of {distribution}"
            folder = folder_of(value, installed_in)
            if folder is not None:
                yield from self._loader.load_from_path(folder, place)
                continue
            error = ConfigurationError(
                f"{place}: {value} leads to no folder with plugin.yaml",
                context={"entry_point": name, "value": value, "distribution": distribution},
                remedy=f"Name the package that holds plugin.yaml, or uninstall {distribution}.",
            )
            self._loader.problems.append(PluginProblem(installed_in, place, error))

    def _ranked(self, candidates: Iterable[DriverInfo]) -> dict[str, DriverInfo]:
        """One driver a name; those it hides are in its `shadows`."""
        best: dict[str, DriverInfo] = {}
        hidden: dict[str, list[DriverInfo]] = {}
        for info in candidates:
            current = best.get(info.name)
            if current is None:
                best[info.name] = info
            elif not _is_same(current, info):
                winner, loser = (info, current) if _beats(info, current) else (current, info)
                best[info.name] = winner
                hidden.setdefault(info.name, []).append(loser)
        for name, losers in hidden.items():
            shadows = tuple(Shadowed(info.version, info.folder, info.place) for info in losers)
            best[name] = best[name].changed(shadows=shadows)
        if self._states or self._disabled:
            best = {name: self._remembered(info) for name, info in best.items()}
        return dict(sorted(best.items()))

    def _remembered(self, info: DriverInfo) -> DriverInfo:
        if info.name in self._disabled:
            remedy = f"`vfab driver enable {info.name}` switches it on."
            return info.changed(status=PluginStatus.DISABLED, problem="it is disabled", remedy=remedy)
        known = self._states.get((info.name, info.folder, info.version))
        if known is None or not info.usable or known[0] is PluginStatus.ERROR:
            return info
        return info.changed(status=known[0], problem=known[1])

    def _indexed(self, field: str) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for info in self.get_available_drivers():
            for text in getattr(info.manifest, field):
                names = index.setdefault(text.casefold(), [])
                if info.name not in names:
                    names.append(info.name)
        return index

    def _unknown(self, name: str, known: dict[str, DriverInfo]) -> DriverError:
        near = alike(name, known, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        broken = [p for p in self._loader.problems if name in {Path(p.path).name, Path(p.path).stem}]
        if broken:
            hint = f": {broken[0].error.message}"
        return DriverNotFound(
            f"there is no driver {name!r}{hint}",
            driver_name=name,
            context={"near": near, "searched": [place.folder for place in self.places.folders]},
            remedy=broken[0].error.remedy if broken else None,
        )


def _is_same(one: DriverInfo, other: DriverInfo) -> bool:
    """Whether two that were found are one plugin: by way of two places, or by plugin.yaml and by its class's file."""
    a, b = one.manifest.runtime.source, other.manifest.runtime.source
    return a == b and (bool(a) or one.folder == other.folder)


def _beats(later: DriverInfo, earlier: DriverInfo) -> bool:
    """Whether a plugin of a later place hides one of an earlier: one that works beats one that fails, then version."""
    if later.usable != earlier.usable:
        return later.usable
    return compare_versions(later.version, earlier.version) > 0


def _plugin_info(info: DriverInfo, loader: PluginLoader) -> PluginInfo:
    metadata = loader.get_plugin_metadata(info)
    return PluginInfo(
        metadata=metadata,
        status=info.status,
        driver_class=metadata.driver_class,
        error_message=info.problem or None,
        folder=Path(info.folder),
    )
