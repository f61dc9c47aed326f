"""Which files a driver may reach: what every Python program reads, its own folder, and what its manifest asks for."""

from __future__ import annotations

import os
import site
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import vfab
from vfab.protocols.zygotewire import HostSpec

__all__ = ["Reach", "interpreter", "reach_of", "reach_of_node", "starts_programs", "uses_network"]

_SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/python3",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/nix/store",
    "/dev/random",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/version",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/random",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
_LIBRARIES = (
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/ca-certificates",
    "/usr/share/icu",
    "/usr/share/nodejs",
    "/usr/share/node_modules",
    "/usr/share/zoneinfo",
)
"""Of `/usr` and beside it, what a program needs that starts no others."""

_NETWORK = ("/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/ssl", "/proc/net", "/proc/sys/net")
_WRITABLE = ("/dev/null", "/dev/zero", "/dev/full")
_LINKS = ("/sys/bus/", "/sys/class/")


class Reach(NamedTuple):
    """Paths below which a host may read, write, and write with the devices among them."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    devices: tuple[str, ...]


def uses_network(spec: HostSpec) -> bool:
    """Whether the driver may make sockets of its own."""
    return spec.manifest.permissions.network == "host" or not spec.manifest.runtime.asks_the_broker


def starts_programs(spec: HostSpec) -> bool:
    """Whether the driver may start programs; one in JavaScript is one."""
    return spec.manifest.permissions.subprocess or spec.manifest.runtime.dialect == "js_driver"


def reach_of(spec: HostSpec) -> Reach:
    """What the driver of `spec` may reach."""
    permissions = spec.manifest.permissions
    read = [*interpreter(), spec.folder, *spec.paths, *(_NETWORK if uses_network(spec) else ())]
    write: list[str] = [*_WRITABLE, *([spec.state_dir] if spec.state_dir else ())]
    devices: list[str] = []
    if spec.manifest.runtime.source:
        read.append(os.path.dirname(spec.manifest.runtime.source))  # noqa: PTH120 — pathlib costs at every start
        read += _package_of(spec)
    read.append("/proc" if permissions.subprocess else f"/proc/{_own_number()}")
    if spec.manifest.runtime.dialect == "js_driver":
        read += _node()
    if spec.device.address.startswith("/"):  # its own: that is what the lease is for
        devices += _behind_links([spec.device.address])
    write += _measured_in(os.environ.get("COVERAGE_PROCESS_CONFIG", ""), read)
    for kind, path in _asked_for(spec):
        (read if kind == "read" else devices).extend(_behind_links([path]))
    return Reach(tuple(read), tuple(write), tuple(devices))


def reach_of_node(spec: HostSpec, node: str, bridge: str) -> Reach:
    """What Node may reach that runs the driver of `spec` and nothing of Python: the program `node`, vfab's `bridge`.

    A `/proc` and a few nodes in `/dev` are its own anyway.
    """
    permissions = spec.manifest.permissions
    system = [path for path in _SYSTEM if not path.startswith(("/proc/", "/dev/"))]
    if not permissions.subprocess:
        system = [*_LIBRARIES, *(path for path in system if path.startswith(("/etc/", "/sys/", "/nix/")))]
    read = [*system, *(_NETWORK if uses_network(spec) else ()), _folder_of(node), bridge]
    read += [spec.folder, os.path.dirname(spec.manifest.runtime.source)]  # noqa: PTH120
    devices = list(_behind_links([spec.device.address] if spec.device.address.startswith("/") else []))
    for kind, path in _asked_for(spec):
        (read if kind == "read" else devices).extend(_behind_links([path]))
    return Reach(tuple(read), (spec.state_dir,) if spec.state_dir else (), tuple(devices))


def _folder_of(program: str) -> str:
    """The folder of its own that `program` came with; the file itself where it lies among others of all kinds."""
    folder = os.path.dirname(program)  # noqa: PTH120
    whole = os.path.dirname(folder) if folder.endswith("/bin") else folder  # noqa: PTH120
    wide = {"/", "/usr", "/usr/local", "/usr/sbin", "/sbin", "/opt", os.path.expanduser("~")}  # noqa: PTH111
    return program if whole in wide else whole


def _package_of(spec: HostSpec) -> list[str]:
    """Seed 002's `plugins` folder around a `drv_NAME.py`, whose files import each other as `plugins.devices.x`."""
    before, folder, _ = spec.manifest.runtime.source.rpartition("/plugins/")
    return [f"{before}/plugins"] if folder and spec.manifest.runtime.dialect == "drv_module" else []


def _asked_for(spec: HostSpec) -> Iterator[tuple[str, str]]:
    """("read" or "write", path) of what manifest and configuration allow.

    Without what lies within a folder that the driver may write anyway: what is there now may be a link of its own, and
    the right would go to wherever that leads.
    """
    texts = (*spec.manifest.permissions.files, *spec.confinement.files)
    asked = [(kind, _expand(path, spec)) for kind, _, path in (text.partition(":") for text in texts)]
    writable = [path for path in (spec.state_dir, *(path for kind, path in asked if kind == "write")) if path]
    for kind, path in asked:
        if path and not any(path.startswith(f"{folder}/") for folder in writable):
            yield kind, path


def _own_number() -> str:
    """The number of this process in the `/proc` that is mounted: one outside of its PID namespace if that one is."""
    try:
        return os.readlink("/proc/self")  # noqa: PTH115
    except OSError:
        return str(os.getpid())


@cache
def interpreter() -> tuple[str, ...]:
    """What this Python is made of, and of the system what every program reads: the same for all hosts."""
    folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path, *vfab.__path__]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    wide = {"/", "", os.path.expanduser("~"), tempfile.gettempdir(), "/home", "/root", "/etc", "/var"}  # noqa: PTH111
    real = (os.path.realpath(folder) for folder in folders if folder)
    kept = dict.fromkeys(path for path in real if path not in wide and os.path.exists(path))  # noqa: PTH110
    return (*_outermost(kept), *(path for path in _SYSTEM if os.path.exists(path)))  # noqa: PTH110


@cache
def _coverage_folder(config: str) -> str:
    """Where coverage.py keeps what it measures, by the settings that it gives to child processes; "" if unknown."""
    import base64
    import json

    try:
        file = str(json.loads(base64.b64decode(config))["data_file"])
        return os.path.dirname(os.path.realpath(file))  # noqa: PTH120
    except (ValueError, KeyError, TypeError):
        return ""


def _measured_in(config: str, read: Iterable[str]) -> list[str]:
    """The folder for coverage's data, when whoever runs vfab measures what is executed, in hosts as well.

    Only one that holds nothing which a driver reads: a project's own folder, with its `.venv`, is none to write into.
    """
    folder = _coverage_folder(config) if config else ""
    above = f"{folder.rstrip('/')}/"
    if not folder or any(f"{os.path.realpath(path)}/".startswith(above) for path in read):
        return []
    return [folder]


def _outermost(paths: Iterable[str]) -> Iterator[str]:
    """`paths` without those that lie within another: each costs a rule at every start."""
    every = sorted(set(paths))
    for path in every:
        if not path.startswith("/usr/") and not any(path.startswith(f"{other}/") for other in every):
            yield path


def _node() -> list[str]:
    """Where Node lies, which may be a folder of the user's own."""
    from vfab.dialects.js_start import find_node

    found = find_node()
    return [os.path.dirname(os.path.dirname(os.path.realpath(found)))] if found else []  # noqa: PTH120


def _expand(path: str, spec: HostSpec) -> str:
    """`path` with `$PLUGIN` and `$STATE` filled in; "" where there is no such folder, or it is not an absolute path."""
    for name, value in (("$PLUGIN", spec.folder), ("$STATE", spec.state_dir)):
        if path == name or path.startswith(f"{name}/"):
            whole = os.path.normpath(value + path[len(name) :]) if value else ""
            return whole if whole == value or whole.startswith(f"{value}/") else ""
    return os.path.normpath(path) if path.startswith("/") else ""


def _behind_links(paths: Iterable[str]) -> Iterator[str]:
    """`paths`, and of folders of sysfs what their links point to: rights go by what is reached, not by the name."""
    for path in paths:
        yield path
        if not path.startswith(_LINKS):
            continue
        for folder in (path, f"{path}/devices"):
            try:
                yield from (os.path.realpath(entry.path) for entry in os.scandir(folder) if entry.is_symlink())
            except OSError:
                continue
