"""The policy of confinement: which plugin must be confined how far on this machine. Hosts confine themselves by it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

import vfab
from vfab.kernel.config_file import ConfigFile
from vfab.kernel.places import SYSTEM_PLUGINS, home_of
from vfab.model.confinement import Confinement, ConfinementPlan, Level, Programs, Trust
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError
from vfab.model.manifest import Manifest
from vfab.model.settings import faults
from vfab.protocols.zygotewire import HostSpec

__all__ = ["CONFINEMENT_SCHEMA", "ConfinementPolicy", "host_environment", "probe"]

PROBE_S = 20.0

_LEVELS = [level.value for level in Level]
_WHOSE: Mapping[str, tuple[Level, str]] = {
    "built-in": (Level.LIMITS, "the lowest level for drivers that come with vfab"),
    "installed": (Level.FILTERED, "the lowest level for plugins that were installed"),
    "local": (Level.LIMITS, "the lowest level for plugins in folders of one's own (VFAB_PLUGIN_PATH)"),
}
CONFINEMENT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "how far drivers are kept from everything that is not theirs",
    "additionalProperties": False,
    "properties": {
        "mode": {
            "type": "string",
            "enum": ["on", "off"],
            "default": "on",
            "description": "off: drivers may do whatever the user may who runs vfab; every status says so",
        },
        "namespaces": {
            "type": "boolean",
            "default": True,
            "description": "try to give each driver namespaces of its own",
        },
        "programs": {
            "type": "string",
            "enum": ["auto", "self", "bwrap"],
            "default": "auto",
            "description": "how Node is held that runs a driver in JavaScript: self: by what its host does to itself; "
            "bwrap: started within bwrap; auto: within bwrap where there is no Landlock",
        },
        "minimum": {
            "type": "object",
            "description": "a plugin that cannot be confined so far is not started",
            "additionalProperties": False,
            "properties": {
                whose: {"type": "string", "enum": _LEVELS, "default": level.value, "description": text}
                for whose, (level, text) in _WHOSE.items()
            },
        },
        "files": {
            "type": "array",
            "items": {"type": "string", "pattern": "^(read|write):/"},
            "default": [],
            "description": "files that every driver may use: read:/opt/calibration, write:/srv/pictures",
        },
        "environment": {
            "type": "array",
            "items": {"type": "string"},
            "default": [],
            "description": "variables that drivers may see besides PATH, HOME, the language and time zone",
        },
    },
}
"""What may be in the section `confinement` of config.yaml, as JSON Schema."""

_KEPT_NAMES = """
VFAB_HOME PATH LANG LANGUAGE TZ TZDIR HOME TMPDIR SSL_CERT_FILE SSL_CERT_DIR LD_LIBRARY_PATH
VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONUTF8 PYTHONIOENCODING PYTHONDONTWRITEBYTECODE
PYTHONPYCACHEPREFIX PYTHONFAULTHANDLER PYTHONHASHSEED PYTHONWARNINGS PYTHONNOUSERSITE
PYTHONTRACEMALLOC PYTHONDEVMODE DBUS_SYSTEM_BUS_ADDRESS GENICAM_GENTL64_PATH OMP_NUM_THREADS
OPENBLAS_NUM_THREADS COVERAGE_PROCESS_START COVERAGE_PROCESS_CONFIG
"""
_KEPT = frozenset(_KEPT_NAMES.split())
"""What hosts see of the environment: where programs and libraries lie, the language, the time zone; no secrets."""


def host_environment(environment: Mapping[str, str], more: tuple[str, ...] = ()) -> dict[str, str]:
    """What of `environment` hosts may see, with the variables named in `more`."""
    return {
        name: value
        for name, value in environment.items()
        if name in _KEPT or name.startswith("LC_") or (name in more and name not in {"LD_PRELOAD"})
    }


class ConfinementPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The section `confinement`, checked; its fields are those of `CONFINEMENT_SCHEMA`.

    Attributes:
        installed: folders below which plugins count as installed.
    """

    mode: str = "on"
    namespaces: bool = True
    programs: Programs = "auto"
    minimum: dict[str, str] = {}
    files: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    installed: tuple[str, ...] = ()

    @classmethod
    def of(cls, env: Mapping[str, str], file: ConfigFile | None = None) -> ConfinementPolicy:
        """What `file` says, and beside it `VFAB_CONFINEMENT` (on, off), `…_PROGRAMS`, `…_FILES`, `…_ENVIRONMENT`.

        Raises ConfigurationError: the file cannot be read, or a value is none; file and line are told.
        """
        # reading YAML takes 15 ms to import
        section = dict((file.section("confinement") if file is not None and file.path.exists() else None) or {})
        for fault in faults(CONFINEMENT_SCHEMA, section, "confinement"):
            assert file is not None
            raise file.error(fault.field, fault.found, fault.expected)
        section["mode"] = env.get("VFAB_CONFINEMENT") or section.get("mode", "on")
        section["programs"] = env.get("VFAB_CONFINEMENT_PROGRAMS") or section.get("programs", "auto")
        for name in ("files", "environment"):
            more = [text for text in env.get(f"VFAB_CONFINEMENT_{name.upper()}", "").split(";") if text]
            section[name] = [*section.get(name, ()), *more]
        for fault in faults(CONFINEMENT_SCHEMA, section, "confinement"):
            raise ConfigurationError(
                f"the environment's VFAB_CONFINEMENT…: found {fault.found}; {fault.expected}",
                context={"field": fault.field, "found": fault.found, "expected": fault.expected},
                remedy="VFAB_CONFINEMENT is on or off, VFAB_CONFINEMENT_PROGRAMS is auto, self or bwrap; "
                "VFAB_CONFINEMENT_FILES is like read:/opt/a;write:/srv/b.",
            )
        roots = (SYSTEM_PLUGINS, str(home_of(env) / "plugins"))
        return msgspec.structs.replace(msgspec.convert(section, cls), installed=roots)

    def trust(self, folder: Path | str) -> Trust:
        """Where the plugin in `folder` comes from."""
        path = os.path.realpath(folder)
        if _below(path, str(Path(vfab.__file__).parent)):
            return "built-in"
        places = (*self.installed, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
        return "installed" if any(_below(path, os.path.realpath(place)) for place in places) else "local"

    def lowest(self, trust: Trust) -> Level:
        """The level that plugins of `trust` must reach."""
        return Level(self.minimum.get(trust, _WHOSE[trust][0].value))

    def plan(self, folder: Path | str) -> ConfinementPlan:
        """What the host of the plugin in `folder` shall do.

        With `mode: off` nothing is asked for: whoever switches it off wants his drivers to run.
        """
        trust = self.trust(folder)
        if self.mode == "off":
            return ConfinementPlan(mode="off", trust=trust)
        return ConfinementPlan(
            minimum=self.lowest(trust),
            trust=trust,
            namespaces=self.namespaces,
            programs=self.programs,
            files=self.files,
        )


def probe(
    policy: ConfinementPolicy, manifest: Manifest, folder: Path | str, environment: Mapping[str, str]
) -> Confinement:
    """How far the plugin in `folder` would be confined now: a process is, says so, and ends; no code of it runs."""
    device = DeviceInfo(id="probe", bus="none", address="")
    spec = HostSpec(folder=str(folder), manifest=manifest, device=device, confinement=policy.plan(folder))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vfab.host.confine"],
        input=msgspec.msgpack.encode(spec),
        capture_output=True,
        env=host_environment(environment),
        timeout=PROBE_S,
        check=False,
    )
    try:
        return msgspec.json.decode(done.stdout, type=Confinement)
    except msgspec.DecodeError:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
        return Confinement(missing=(f"it could not be found out: {said[0]}",))


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
