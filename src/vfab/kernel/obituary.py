"""Why a host ended, as an error."""

from __future__ import annotations

from vfab.kernel.spawner import HostProcess, how_it_ended
from vfab.model.errors import DriverError, HostDied, LimitExceeded
from vfab.model.manifest import Manifest

__all__ = ["obituary"]


def obituary(process: HostProcess, status: int, manifest: Manifest, device_id: str) -> DriverError:
    """Why the host `process` of that device ended with `status`: for the kernel's own reason, or as far as is seen."""
    if process.why is not None:
        return process.why
    name = manifest.name
    context = {"device": device_id, "status": status, "last_lines": list(process.last_lines)}
    if not process.starved:
        return HostDied(
            f"the driver {name} of {device_id} ended: {how_it_ended(status)}", driver_name=name, context=context
        )
    allowed = manifest.runtime.limits.memory_mb
    return LimitExceeded(
        f"{name} of {device_id} was ended by the system: it took a quarter more memory than the {allowed:g} MiB that "
        "it may use",
        driver_name=name,
        context={**context, "limit": "memory_mb", "allowed": allowed},
        remedy=f"If it needs that much: `vfab config set {name} runtime.limits.memory_mb {allowed * 1.5:.0f}` (0 is no "
        "limit); else tell its author.",
    )
