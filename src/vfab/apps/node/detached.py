"""A node that outlives the command that starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from vfab.apps.node.client import find_node
from vfab.apps.node.places import NodeLock, NodePlaces, NodeRunning
from vfab.model.errors import DriverError, HardwareError

__all__ = ["start_detached", "stop_node"]

START_S = 30.0
STOP_S = 40.0
LOG_BYTES = 10 * 1024 * 1024
_LOOK_S = 0.02


def start_detached(env: Mapping[str, str], *, dev: bool = False) -> dict[str, Any]:
    """Start a node in a session of its own, and wait until it serves: `{"pid", "socket", "log"}`; `dev` as `--dev`.

    Raises NodeRunning: there is one. DriverError: it ended at once; the error has its last words.
    """
    places = NodePlaces.of(env)
    holder = NodeLock.holder(places)
    if holder is not None:
        NodeLock.acquire(places).release()  # raises NodeRunning with all that is known
    places.make()
    places.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if places.log.exists() and places.log.stat().st_size > LOG_BYTES:
        places.log.replace(places.log.with_name("node.log.1"))
    fd = os.open(places.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    begins = os.fstat(fd).st_size
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vfab.apps.cli.main", "up", *(["--dev"] if dev else [])],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(fd)
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        client = find_node({**env, "VFAB_NO_NODE": ""})
        if client is not None and client.get("/v1/status")["pid"] == process.pid:
            return {"pid": process.pid, "socket": str(places.socket), "log": str(places.log)}
        if process.poll() is not None:
            break
        time.sleep(_LOOK_S)
    process.kill()
    raise _no_start(places, begins)


def _no_start(places: NodePlaces, begins: int) -> DriverError:
    with places.log.open("rb") as log:
        log.seek(begins)
        lines = log.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    if NodeLock.holder(places) is not None:
        return NodeRunning("another node was started at the same time", context={"home": str(places.home)})
    return HardwareError(
        "the node ended before it served", context={"last_lines": lines}, remedy=f"Its log says why: {places.log}"
    )


def stop_node(env: Mapping[str, str]) -> dict[str, Any]:
    """End the node and wait until it has: `{"stopped", "pid"}`. Raises DriverError: it does not end."""
    places = NodePlaces.of(env)
    client = find_node({**env, "VFAB_NO_NODE": ""}) if NodeLock.holder(places) is not None else None
    if client is None:
        return {"stopped": False, "pid": None}
    pid = client.get("/v1/status")["pid"]
    client.post("/v1/shutdown")
    ends = time.monotonic() + STOP_S
    while NodeLock.holder(places) is not None:
        if time.monotonic() > ends:
            raise HardwareError(
                f"the node, process {pid}, did not end within {STOP_S:g} s",
                context={"pid": pid},
                remedy=f"Its log says what it waits for; `kill -9 {pid}` ends it, hosts leave their devices safe.",
            )
        time.sleep(_LOOK_S)
    return {"stopped": True, "pid": pid}
