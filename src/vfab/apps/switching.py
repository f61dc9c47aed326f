"""Switching drivers on and off, and forgetting devices, where no node runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfab.kernel.addresses import begins
from vfab.kernel.places import home_of

__all__ = ["forget_device", "switch_driver"]


def switch_driver(env: Mapping[str, str], name: str, *, enabled: bool) -> dict[str, Any]:
    """Let `name` be used, or not: `{"driver", "enabled", "changed", "devices"}`.

    Enabling also lets in what a node left out. Raises StoreTooNew, StoreUnusable.
    """
    from vfab.store.opening import open_store
    from vfab.store.quick import database_of

    with open_store(database_of(home_of(env))) as store:
        begun = store.journal.begin("enable" if enabled else "disable", driver=name)
        changed = store.switches.set(name, enabled=enabled)
        if enabled and store.crashes.acquit(name):
            changed = True
        store.journal.end(begun)
    return {"driver": name, "enabled": enabled, "changed": changed, "devices": []}


def forget_device(env: Mapping[str, str], text: str) -> dict[str, Any] | None:
    """Want a device no longer that a node kept: `{"device", "driver"}`; None when `text` means none of those.

    Args:
        env: `VFAB_HOME` says whose node.
        text: its id, or a beginning of exactly one.

    Raises StoreTooNew, StoreUnusable.
    """
    from vfab.store.quick import database_of, wanted_rows

    home = home_of(env)
    rows = {row["device"]: row["driver"] for row in wanted_rows(home)}
    begun = [text] if text in rows else [device for device in rows if begins(text, device)]
    if len(begun) != 1:
        return None
    from vfab.store.opening import open_store

    (device,) = begun
    with open_store(database_of(home)) as store:
        entry = store.journal.begin("close", device_id=device, driver=rows[device])
        store.wanted.remove(device)
        store.journal.end(entry)
    return {"device": device, "driver": rows[device]}
