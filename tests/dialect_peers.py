"""The sample plugins, and their other ends: a device on TCP and one on a pseudo-terminal, each a thread."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["SAMPLES", "PtyPeer", "TcpPeer", "samples_in"]

SAMPLES = Path(__file__).parent / "dialects" / "samples"


def samples_in(folder: Path) -> Path:
    """A copy of the sample plugins in `folder`, without what somebody compiled of them meanwhile, as the lab does."""
    copied = shutil.copytree(SAMPLES, folder / "place", ignore=shutil.ignore_patterns("__pycache__"))
    return Path(copied)


class TcpPeer:
    """Answers each line that comes with what `answer` says, on one connection at a time. Port 0 of loopback.

    Attributes:
        address: `tcp://127.0.0.1:PORT`.
        lines: every line that came.
        connected: set while somebody is.
    """

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self._peer: socket.socket | None = None
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.lines: list[str] = []
        self.connected = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        if self._peer is not None:
            self._peer.close()

    def send(self, line: str) -> None:
        """Say something unasked."""
        assert self._peer is not None
        self._peer.sendall(line.encode() + b"\n")

    def hang_up(self) -> None:
        """Break the connection."""
        assert self._peer is not None
        self._peer.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                self._peer, _ = self._server.accept()
            except OSError:
                return
            self.connected.set()
            try:
                with self._peer.makefile("rb") as file:
                    for raw in file:
                        self._take(raw.decode().strip())
            except (OSError, ValueError):
                pass
            self.connected.clear()

    def _take(self, line: str) -> None:
        self.lines.append(line)
        answer = self._answer(line)
        if answer is not None:
            self.send(answer)


class PtyPeer:
    """A serial device on a pseudo-terminal that answers each line with what `answer` says, None for nothing.

    Attributes:
        address: the terminal's path.
    """

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self._master, self._slave = os.openpty()
        self._answer = answer
        self.address = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._slave)
        self._thread.join(2)
        os.close(self._master)

    def _serve(self) -> None:
        held = b""
        while True:
            try:
                held += os.read(self._master, 256)
            except OSError:  # the last slave was closed
                return
            *lines, held = held.split(b"\n")
            for line in lines:
                answer = self._answer(line.decode().strip())
                if answer is not None:
                    os.write(self._master, answer.encode() + b"\r\n")
