"""Versions: PEP 440 everywhere, and which platform a plugin fits.

`PLATFORM_VERSION` is the version of the plugin contract (manifest, SDK, host wire), not of the vfab package: a plugin
states the platforms it fits by `min_platform_version` and `max_platform_version` (seed 004), both inclusive.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.version import Version

__all__ = ["PLATFORM_VERSION", "CompatibilityResult", "check_platform", "compare_versions", "parse_version"]

PLATFORM_VERSION = "1.0.0"


@lru_cache(maxsize=4096)
def parse_version(text: str) -> Version:
    """The PEP 440 version that `text` writes.

    Raises ValueError: `text` is not a version; the message shows what one looks like.
    """
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text)
    except InvalidVersion:
        raise ValueError(f"{text!r} is not a version; write it like 1.2.0 or 2.0rc1 (PEP 440)") from None


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1 as `left` is older than, equal to or newer than `right`."""
    if left == right:
        return 0
    a, b = parse_version(left), parse_version(right)
    return (a > b) - (a < b)


@dataclass(frozen=True, slots=True)
class CompatibilityResult:
    """Whether a plugin fits a platform, and if not, why and what to do."""

    compatible: bool
    reason: str = ""
    remedy: str = ""


def check_platform(minimum: str, maximum: str | None, platform: str = PLATFORM_VERSION) -> CompatibilityResult:
    """Whether `platform` lies between `minimum` and `maximum`, both inclusive."""
    if compare_versions(platform, minimum) < 0:
        return CompatibilityResult(
            False,
            f"it needs platform {minimum} or newer and this vfab has {platform}",
            "Upgrade vfab, or install an older version of the plugin.",
        )
    if maximum is not None and compare_versions(platform, maximum) > 0:
        return CompatibilityResult(
            False,
            f"it supports platforms up to {maximum} and this vfab has {platform}",
            "Install a newer version of the plugin.",
        )
    return CompatibilityResult(True)
