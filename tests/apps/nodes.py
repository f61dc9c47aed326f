"""A node in a test's own home, as a process, and requests to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from apps.programs import Vfab
from vfab.apps.node.places import socket_address
from vfab.sdk.testing import soon


def raw_request(path: Path, method: str, url: str, body: Any = None) -> tuple[int, Any]:
    """Status and document of one request to the socket `path`; a `body` of bytes is sent as it is."""
    connection = HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_address(path) as address:
            connection.sock.connect(address)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, url, data, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@dataclass
class Node:
    """The node of a test's home."""

    vfab: Vfab
    home: Path
    process: subprocess.Popen[str] | None = None
    starts: int = field(default=0)

    @property
    def socket(self) -> Path:
        return self.home / "run" / "node.sock"

    @property
    def log(self) -> Path:
        return self.vfab.home / "node.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def begin(self, env: Mapping[str, str] | None = None) -> None:
        """Start it, and wait for nothing."""
        self.starts += 1
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [self.vfab.program, "up"],
                env={**self.vfab.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                cwd=self.vfab.home,
            )
        self.vfab.started.append(self.process)

    def up(self, env: Mapping[str, str] | None = None) -> None:
        """Start it, and wait until it serves and has brought back what is wanted."""
        self.begin(env)
        soon(self.answers, 90)

    def answers(self) -> bool:
        process = self.process
        assert process is not None
        assert process.poll() is None, self.log.read_text()[-3000:]
        try:
            status = self.get("/v1/status")
        except (OSError, ValueError):
            return False
        return bool(status["pid"] == process.pid and status["restored"])

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def down(self) -> None:
        """SIGTERM, and wait."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()[-3000:]

    def get(self, url: str) -> Any:
        status, document = raw_request(self.socket, "GET", url)
        assert status == 200, document
        return document

    def device(self) -> dict[str, Any]:
        """The only device that it keeps."""
        (device,) = self.get("/v1/status")["devices"]
        return device


def node_of(vfab: Vfab) -> Node:
    """The node of the test's home; not started."""
    return Node(vfab, Path(vfab.env["VFAB_HOME"]))
