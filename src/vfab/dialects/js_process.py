"""The Node process of one driver in JavaScript, as its host sees it: calls go there by the host wire, requests come.

Runs in hosts. `js/bridge.js` is the other end.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from vfab.dialects.js_start import StartedNode, find_node, start_node
from vfab.model.errors import DependencyError, DriverError, DriverFailed, ProtocolError, from_wire
from vfab.protocols.hostwire import Call, Cancel, Event, Failure, Log, Message, Reply, parse_handshake
from vfab.sdk.cancel import current_token
from vfab.sdk.failures import error_fields, to_driver_error
from vfab.sdk.link import Link
from vfab.sdk.transport import FrameReader, FrameWriter, LinkClosed

__all__ = ["REMEDY", "NodeProcess", "find_node"]

REMEDY = "Install Node.js 18 or later for it: pip install 'vfab[js]', or have a `node` on PATH."
REMEDY_MODULE = "Install what the driver requires beside its file: npm install, in the folder of the file."
STATUS_NODE_ENDED = 5

_LINGERS_S = 2.0
"""How long Node may take to end once its control socket is closed."""

_log = logging.getLogger("vfab.dialects.js")


class _Waiting:
    def __init__(self) -> None:
        self.woken = threading.Event()
        self.answer: Reply | Failure | None = None


class NodeProcess:
    """Node with one driver's file loaded. It lives as long as this process, and this process as long as it.

    Made in the main thread: the system ends Node when the thread that started it ends.

    Args:
        file: the CommonJS file.
        name: the driver's, for errors.
        open_link, close_link: what the driver may ask for, with host and port, None for the device's own.
        on_event: takes what the driver publishes.
        started: the Node that waits to be told to load the file; None: one is started.

    Raises DependencyError: there is no Node. DriverError: the file cannot be loaded.
    """

    def __init__(
        self,
        file: str,
        name: str,
        *,
        open_link: Callable[[str | None, int | None], Link],
        close_link: Callable[[str | None, int | None], None],
        on_event: Callable[[str, Mapping[str, Any]], None],
        started: StartedNode | None = None,
    ) -> None:
        self._name = name
        self._open_link, self._close_link, self._on_event = open_link, close_link, on_event
        self._ids = itertools.count(1)
        self._tokens = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._requests: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._process, self._sock, self._handles = self._go_on(started) if started is not None else self._start(file)
        self._reader, self._writer = FrameReader(self._sock), FrameWriter(self._sock)
        self._meet()
        threading.Thread(target=self._read, name="vfab-node", daemon=True).start()
        threading.Thread(target=self._serve, name="vfab-node-asks", daemon=True).start()

    def _start(self, file: str) -> StartedNode:
        node = find_node()
        if node is None:
            raise DependencyError(
                f"{self._name} is written in JavaScript, and there is no Node.js here",
                driver_name=self._name,
                context={"dialect": "js_driver", "missing": "node"},
                remedy=REMEDY,
            )
        return start_node(node, "bridge.js", file)

    def _go_on(self, started: StartedNode) -> StartedNode:
        """Have it load the file; by now it is known where temporary files go. One that has ended will not answer."""
        kept = {name: os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if name in os.environ}
        with contextlib.suppress(OSError):
            started.control.sendall(json.dumps(kept).encode() + b"\n")
        return started

    def _meet(self) -> None:
        """Read the handshake. Raises DriverError: the file could not be loaded."""
        try:
            handshake = parse_handshake(self._reader.read_line())
        except (LinkClosed, ProtocolError) as error:
            status = self._process.wait()
            raise DriverFailed(
                f"Node ended with status {status} while it loaded {self._name}; the log has what it said",
                driver_name=self._name,
                context={"dialect": "js_driver", "status": status},
                original_error=error,
            ) from error
        if handshake.error is not None:
            self._sock.close()
            self._process.wait()
            raise self._raised(handshake.error)

    # -- calls --------------------------------------------------------------------------------------------------------

    def call(self, method: str, *args: Any) -> Any:
        """Call `method` of the bridge and wait for what it returns.

        When the call that this one belongs to is cancelled, or its time is up, Node is told and answers at once, unless
        the driver's code keeps it busy: then this waits on, and the kernel ends this process as deaf.

        Raises DriverError: what the driver threw; Cancelled, TimeoutExceeded.
        """
        number, waiting = next(self._ids), _Waiting()
        self._waiting[number] = waiting
        token = current_token.get()
        try:
            if token is not None:
                token.when_cancelled(waiting.woken.set)
            self._write(Call(number, method, list(args)))
            waiting.woken.wait(token.remaining_s() if token is not None else None)
            if waiting.answer is None:
                waiting.woken.clear()
                self._write(Cancel(number))
                while waiting.answer is None:
                    waiting.woken.wait()
                    waiting.woken.clear()
        finally:
            del self._waiting[number]
        if isinstance(waiting.answer, Reply):
            return waiting.answer.result
        if token is not None:
            token.check()
        raise self._raised(waiting.answer.error)

    def _raised(self, fields: Mapping[str, Any]) -> DriverError:
        error = from_wire({"driver": self._name, **fields})
        error.driver_name = error.driver_name or self._name
        error.remedy = error.remedy or (REMEDY_MODULE if isinstance(error, DependencyError) else error.default_remedy)
        error.retryable = error.retryable or error.default_retryable
        return error

    def _write(self, message: Message) -> None:
        try:
            self._writer.write(message)
        except LinkClosed:
            self._end()

    # -- what comes from Node -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while True:
                self._take(self._reader.read())
        except LinkClosed:
            self._end()
        except ProtocolError as error:
            _log.critical("what Node sends makes no sense: %s", error)
            self._die(f"what Node, which ran {self._name}, sends makes no sense: {error}")

    def _take(self, message: Message) -> None:
        if isinstance(message, Reply | Failure):
            waiting = self._waiting.get(message.id)
            if waiting is not None:
                waiting.answer = message
                waiting.woken.set()
        elif isinstance(message, Call):
            self._requests.put(message)
        elif isinstance(message, Event):
            self._on_event(message.kind, message.data)
        elif isinstance(message, Log):
            logging.getLogger(f"vfab.drivers.{self._name}").log(message.level, "%s", message.message)

    def _end(self) -> None:
        """Node has ended, and the driver with it: so does this process, and the kernel starts another."""
        try:
            self._die(f"Node, which ran {self._name}, ended with status {self._process.wait(_LINGERS_S)}")
        except subprocess.TimeoutExpired:  # its driver closed the socket
            self._die(f"Node, which runs {self._name}, does not speak any more")

    def _die(self, why: str) -> NoReturn:
        """End this process, and Node with it, if it is still there."""
        print(why, file=sys.stderr, flush=True)
        os._exit(STATUS_NODE_ENDED)

    def _serve(self) -> None:
        """Answer Node's requests, one after the other."""
        while True:
            request = self._requests.get()
            try:
                answer: Message = Reply(request.id, self._asked(request))
            except BaseException as error:  # whatever it is, Node waits for an answer
                answer = Failure(request.id, error_fields(to_driver_error(error, self._name, request.method)))
            self._write(answer)

    def _asked(self, request: Call) -> int | None:
        host, port = request.args
        if request.method == "close_link":
            return self._close_link(host, port)
        with self._open_link(host, port) as link:
            return self._hand_over(link)

    def _hand_over(self, link: Link) -> int:
        """Send Node the descriptor of `link` in the words of its IPC channel; returns the token that goes with it."""
        try:
            while self._handles.recv(65536):  # what Node acknowledged, and whatever the driver sent to "its parent"
                pass
        except BlockingIOError:
            pass
        token = next(self._tokens)
        message = b'{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"token":%d}}\n' % token
        socket.send_fds(self._handles, [message], [link.fileno()])
        return token
