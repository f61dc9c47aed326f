"""Debian packages with programs that tests use: simulators, servers, QEMU for the lab. Standard library only."""

from __future__ import annotations

import shutil
import subprocess

from debian import apt_install

PACKAGES = (
    *("ustreamer", "ffmpeg", "curl", "aravis-tools", "libaravis-0.8-0", "python3-gi", "gir1.2-gst-rtsp-server-1.0"),
    *("gstreamer1.0-tools", "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good", "gstreamer1.0-plugins-ugly"),
    *("gpsd", "gpsd-clients", "mosquitto", "ser2net", "socat", "iproute2", "bubblewrap"),
    *("qemu-system-x86", "busybox-static", "kmod", "cpio", "zstd", "dbus", "bluez"),
)


def install_test_packages(may_install: bool) -> list[str]:
    """Install what is missing; returns one sentence if something could not be installed."""
    missing = missing_packages()
    why = ""
    if missing and may_install:
        print(f"vfab: installing the Debian packages that tests use: {' '.join(missing)}", flush=True)
        why = apt_install(*missing)
        known = _known_to_apt(missing) if why else []
        if known and known != missing:  # a package that this Debian does not have spares the others
            why = apt_install(*known) or why
        missing = missing_packages()
    if not missing:
        return []
    names = " ".join(missing)
    reason = f" ({why})" if why else ""
    return [f"Not installed{reason}: {names} (sudo apt-get install …). Skipped for that: the tests that use them."]


def _known_to_apt(names: list[str]) -> list[str]:
    show = ["apt-cache", "show", "--no-all-versions", *names]
    done = subprocess.run(show, capture_output=True, text=True, check=False)
    known = {line.removeprefix("Package: ") for line in done.stdout.splitlines() if line.startswith("Package: ")}
    return [name for name in names if name in known]


def missing_packages() -> list[str]:
    """Which of them are not installed; all, where there is no dpkg."""
    if not shutil.which("dpkg-query"):
        return list(PACKAGES)
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *PACKAGES]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    words = (line.split() for line in done.stdout.splitlines())
    there = {name for status, name in words if status == "installed"}
    return [name for name in PACKAGES if name not in there]
