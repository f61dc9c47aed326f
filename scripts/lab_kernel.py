"""Debian's kernel for the lab: downloaded as a package, unpacked into a cache folder, never installed.

`VFAB_LAB_CACHE` names another cache folder than `~/.cache/vfab-lab`. A kernel takes 400 MB there. Nothing here needs
root. Standard library only.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from debian import may_install

__all__ = ["META_PACKAGE", "Kernel", "Unavailable", "cache_folder", "find_kernel"]

META_PACKAGE = "linux-image-amd64"
DOWNLOAD_LIMIT_S = 300
_PATIENCE = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]


class Unavailable(Exception):
    """The lab cannot be had on this machine; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package."""

    version: str
    """As `uname -r` says it."""
    image: Path
    """The file that QEMU boots."""
    modules: Path
    """The folder with `modules.dep`."""


def cache_folder() -> Path:
    """Where kernels are kept."""
    named = os.environ.get("VFAB_LAB_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vfab-lab"


def find_kernel(*, newest: bool = False) -> Kernel:
    """The newest kernel of the cache; without one, or for the archive's `newest`, the package is downloaded first.

    Raises Unavailable: another processor, or the package cannot be had.
    """
    if platform.machine() != "x86_64":
        raise Unavailable(
            f"The lab boots an amd64 kernel over this machine's programs; this machine is {platform.machine()}."
        )
    cache = cache_folder()
    held = _held(cache)
    if held and not newest:
        return held
    for program, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("depmod", "kmod")):
        if not _which(program):
            raise Unavailable(f"{program} is not here, and the lab gets its kernel from Debian (package {package}).")
    name = _package()
    if not (cache / name).is_dir():
        _unpack(name, cache)
    return _kernel(cache / name)


def _which(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def _held(cache: Path) -> Kernel | None:
    names = [path for path in cache.glob("linux-image-*") if path.is_dir()] if cache.is_dir() else []
    return _kernel(max(names, key=_order)) if names else None


def _order(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)]


def _kernel(folder: Path) -> Kernel:
    """Debian moved /lib to /usr/lib; both are looked at."""
    for base in (folder / "lib/modules", folder / "usr/lib/modules"):
        for modules in base.glob("*/modules.dep"):
            version = modules.parent.name
            return Kernel(version, folder / f"boot/vmlinuz-{version}", modules.parent)
    raise Unavailable(f"{folder} holds no kernel. Remove it; it will be downloaded again.")


def _apt(*command: str, cwd: Path | None = None) -> str:
    """What the command prints. Raises Unavailable: it failed, with its own last words."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"{' '.join(command[:2])} did not end within {DOWNLOAD_LIMIT_S} s.") from late
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(f"The kernel package {META_PACKAGE} cannot be had: {words[-1]}")
    return done.stdout


def _package() -> str:
    """The package that the archive's meta package stands for, such as linux-image-6.1.0-56-amd64."""
    with suppress(Unavailable):
        return _depends(_apt("apt-cache", "depends", META_PACKAGE))
    if may_install():
        _apt("apt-get", "update", "-qq", *_PATIENCE)
    return _depends(_apt("apt-cache", "depends", META_PACKAGE))


def _depends(text: str) -> str:
    found = re.search(r"Depends: (linux-image-\d\S*)", text)
    if not found:
        raise Unavailable(f"apt knows no package {META_PACKAGE} (it is Debian's; sudo apt-get update may help).")
    return found[1]


def _unpack(name: str, cache: Path) -> None:
    """Download and unpack beside, then rename: a kernel folder in the cache is whole."""
    print(
        f"vfab: downloading the Debian package {name} for the lab (70 MB, unpacked in {cache}, not installed)",
        flush=True,
    )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        try:
            _apt("apt-get", "download", "-qq", *_PATIENCE, name, cwd=folder)
        except Unavailable:
            if not may_install():
                raise
            _apt("apt-get", "update", "-qq", *_PATIENCE)  # the lists named a version that the archive no longer has
            _apt("apt-get", "download", "-qq", *_PATIENCE, name, cwd=folder)
        root = folder / "root"
        _apt("dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(root))
        for base in (root / "lib/modules", root / "usr/lib/modules"):
            for modules in base.glob("*/kernel"):
                _apt(_which("depmod") or "depmod", "-b", str(base.parent.parent), modules.parent.name)
        _kernel(root)
        with suppress(OSError):  # another run was faster
            root.rename(cache / name)
