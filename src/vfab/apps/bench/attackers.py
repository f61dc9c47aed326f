"""A plugin that attacks: each way keeps the machine, the node or itself busy for as long as anybody lets it.

Tests of confinement run the same ones.
"""

from __future__ import annotations

from pathlib import Path

from vfab.apps.bench.kernel import write_plugin

__all__ = ["ATTACKS", "LIMITS", "make_attacker"]

ATTACKS = (
    "computes",
    "takes memory",
    "starts threads",
    "fills its folder",
    "prints",
    "logs",
    "emits",
    "streams",
    "tells progress",
    "forges events",
    "answers megabytes",
    "dies",
    "hangs",
)
"""What the attacker does without end."""

LIMITS = {"memory_mb": 256, "state_mb": 64, "threads": 64}
"""What its manifest grants it."""

_NAME = "attacker"
_MANIFEST = f"""\
name: {_NAME}
version: 1.0.0
author: vfab
description: Does one thing without end, to find out whom it disturbs
category: sensor
driver_class: driver.Attacker
license: Apache-2.0
runtime:
  limits: {{memory_mb: {LIMITS["memory_mb"]}, state_mb: {LIMITS["state_mb"]}, threads: {LIMITS["threads"]}}}
"""
_DRIVER = '''\
"""Does one thing without end, to find out whom it disturbs."""

import os
import socket
import stat
import threading

from vfab.sdk import BaseDriver, command


def _is_socket(name):
    try:
        return stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    except OSError:
        return False


class Attacker(BaseDriver):
    """All ways of it."""

    @command
    def attack(self, how):
        """Begin; it does not end by itself, but for an answer that is large."""
        return getattr(self, "_" + how.replace(" ", "_"))()

    def _computes(self):
        while True:
            pass

    def _takes_memory(self):
        held = []
        while True:
            held.append(bytearray(b"\\1" * (4 << 20)))

    def _starts_threads(self):
        while True:
            threading.Thread(target=threading.Event().wait, daemon=True).start()

    def _fills_its_folder(self):
        number = 0
        while True:
            number += 1
            (self.environment.state_dir / str(number)).write_bytes(bytes(1 << 20))

    def _prints(self):
        while True:
            print("what nobody wants to read " * 4)

    def _logs(self):
        while True:
            self.log.warning("what nobody wants to read")

    def _emits(self):
        while True:
            self.emit("useless", text="what nobody wants to know")

    def _streams(self):
        stream = self.open_stream("flood", "custom", capacity_bytes=1 << 20)
        while True:
            stream.write(bytes(64))

    def _tells_progress(self):
        while True:
            self.progress(done=1, total=2)

    def _forges_events(self):
        from vfab.protocols.hostwire import Event, encode

        frame = b"".join(encode(Event("useless", {}, 0.0)))
        sockets = [int(name) for name in os.listdir("/proc/self/fd") if _is_socket(name)]
        control = socket.socket(fileno=os.dup(min(sockets)))
        while True:  # past the host, which would count them
            control.sendall(frame * 500)

    def _answers_megabytes(self):
        return bytes(16 << 20)

    def _dies(self):
        os._exit(9)

    def _hangs(self):
        threading.Event().wait()
'''


def make_attacker(folder: Path) -> Path:
    """Write the plugin below `folder`; its folder."""
    return write_plugin(folder / _NAME, _MANIFEST, _DRIVER)
