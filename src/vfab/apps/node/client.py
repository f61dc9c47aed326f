"""Asking a node from a command: small, synchronous, over its Unix socket; imports little."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode

from vfab.apps.node.places import NodeMissing, NodePlaces, socket_address
from vfab.model.errors import ConnectError, DriverError, PermissionRefused, from_wire

__all__ = ["NodeClient", "error_of", "find_node"]

WAIT_S = 20.0
"""How long one question about a job waits for news, in seconds."""

ANSWER_S = 60.0
"""A node that does not answer a question for so long hangs; what changes a device takes as long as that takes."""

_ERROR_TYPE = "vfab-error-type"


def find_node(env: Mapping[str, str]) -> NodeClient | None:
    """The node of `$VFAB_HOME`; None when none is up, or `VFAB_NO_NODE=1` says to do without.

    Raises PermissionRefused: there is one, and it is somebody else's.
    """
    places = NodePlaces.of(env)
    if env.get("VFAB_NO_NODE") == "1" or not os.path.exists(places.socket):  # noqa: PTH110 — at every start
        return None
    client = NodeClient(places)
    try:
        client.connected().close()
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except PermissionError as error:
        raise PermissionRefused(
            f"{places.socket}: this user may not use the node",
            context={"file": str(places.socket)},
            remedy="Ask as the user who runs the node, or set VFAB_HOME to a folder of your own.",
            original_error=error,
        ) from error
    return client


class NodeClient:
    """Requests to one node. Every method raises DriverError: what the node says, or NodeMissing when it is gone."""

    def __init__(self, places: NodePlaces) -> None:
        self._places = places

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given, doseq=True)}" if given else path)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a POST."""
        return self._ask("POST", path, body)

    def run_job(self, path: str, body: Mapping[str, Any], on_change: Callable[[dict[str, Any]], None]) -> Any:
        """Start a job, tell `on_change` of each change, and give its result; signals cancel it.

        Raises what the job raised; Interrupted after a signal.
        """
        job = self.post(path, body)
        taken: list[int] = []

        def take(number: int, frame: Any) -> None:
            taken.append(number)
            if len(taken) > 2:
                os._exit(128 + number)
            self.post(f"/v1/jobs/{job['id']}/cancel", {"signal": number})

        before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            while job["state"] == "running":
                on_change(job)
                job = self.get(f"/v1/jobs/{job['id']}", after=job["version"], wait_s=WAIT_S)
            on_change(job)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if job["error"] is not None:
            raise error_of(job["error"], job["error"]["type"], taken[0] if taken else 0)
        return job["result"]

    def events(self, **query: Any) -> Iterator[dict[str, Any]]:
        """Events as they happen, until the node ends."""
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import unix_connect

        given = {key: value for key, value in query.items() if value is not None}
        uri = f"ws://localhost/v1/events/stream?{urlencode(given, doseq=True)}"
        with unix_connect(uri=uri, sock=self.connected(), compression=None, max_size=None) as stream:
            try:
                for text in stream:
                    yield json.loads(text)
            except ConnectionClosed:
                return

    def connected(self) -> socket.socket:
        """A connection to the node's socket. Raises OSError."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket_address(self._places.socket) as address:
                made.connect(address)
        except BaseException:
            made.close()
            raise
        return made

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection("localhost")
        with closing(connection):
            try:
                connection.sock = self.connected()
                if method == "GET":
                    connection.sock.settimeout(ANSWER_S)
                data = None if body is None else json.dumps(body, default=str).encode()
                connection.request(method, quote(path, safe="/?&=%+"), data, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, HTTPException) as error:
                raise _gone(self._places, error) from error
            try:
                document = json.loads(text)
            except ValueError as error:
                raise ConnectError(f"{method} {path}: the node answered {text[:80]!r}", original_error=error) from error
            if answer.status >= 400:
                raise error_of(document.get("error", {}), answer.headers.get(_ERROR_TYPE, ""))
            return document


def error_of(public: Mapping[str, Any], family: str = "", signal_number: int = 0) -> DriverError:
    """The error that a node told as `{"code", "message", "remedy", "context"}`."""
    from vfab.apps.interrupts import Interrupted

    code = str(public.get("code", "driver_error"))
    fields = {"code": code, "error": public.get("message", ""), "type": family}
    if code == Interrupted.code:
        error: DriverError = Interrupted(str(public.get("message", "")))
        error.context.update(public.get("context") or {})
        error.signal_number = signal_number or int(signal.SIGINT)  # type: ignore[attr-defined]
    else:
        error = from_wire({**fields, "context": public.get("context")})
        error.code = code  # type: ignore[misc]
    error.remedy = str(public.get("remedy", ""))
    return error


def _gone(places: NodePlaces, error: Exception) -> NodeMissing:
    return NodeMissing(
        f"the node did not answer: {error or type(error).__name__}",
        context={"file": str(places.socket)},
        remedy="`vfab status` says whether it lives; its log says why it ended. It comes back with `vfab up`.",
        original_error=error,
    )
