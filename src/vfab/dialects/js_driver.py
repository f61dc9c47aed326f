"""Seed 003: a JavaScript class, exported by a CommonJS file that requires `./base-driver`, run by Node.

There is no JavaScript parser here: comments are taken out, the rest is looked at as text. What runs is a process of
Node beside the host, see `js_process`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from vfab.dialects.adapting import Adapted, Load, placed, with_commands
from vfab.dialects.js_reading import JsCommand, blanked, declares_class, read_commands, read_sidecar, settings_of
from vfab.dialects.manifests import CONNECT_S, INITIALIZE_S, START_S, plugin_name, version_of
from vfab.model.errors import BadManifest, ConfigurationError, ConnectError, DriverError
from vfab.model.manifest import Manifest, manifest_from_dict
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import Environment
from vfab.sdk.link import Link, split_address

if TYPE_CHECKING:
    from vfab.dialects.js_start import StartedNode

__all__ = ["adapt", "recognise"]

_LET_GO_S = 1.0
"""How long the author's disconnect may take after a connect that failed."""

_COMMENT = re.compile(r"/\*.*?\*/|(?<![:'\"`])//[^\n]*", re.DOTALL)
_REQUIRES = re.compile(r"require\(\s*['\"](?:\./|\.\./)*base-driver(?:\.c?js)?['\"]\s*\)")
_IMPORTS = re.compile(r"^\s*import\s[^;\n]*['\"](?:\./|\.\./)*base-driver(?:\.[cm]?js)?['\"]", re.MULTILINE)
_EXPORTS = re.compile(r"module\.exports\s*=\s*(?:class\s+)?(?P<name>[A-Za-z_$][\w$]*)")
_VERSION = re.compile(r"(?:@version|static\s+version\s*=|\bVERSION\s*=)\s*['\"]?(?P<version>[\w.+-]+)")
_OWN_NETWORK = re.compile(r"require\(\s*['\"](?:node:)?(?:net|tls|dgram|https?|http2)['\"]\s*\)")
_OWN_PROGRAMS = re.compile(r"require\(\s*['\"](?:node:)?child_process['\"]\s*\)")


# -- reading ----------------------------------------------------------------------------------------------------------


def recognise(path: str, text: str) -> list[Manifest]:
    """The manifest of the driver in the file `path`; none where it is no driver.

    Raises BadManifest: it requires the base of drivers, and exports no class; the context has `file`.
    """
    code = _COMMENT.sub("", text)
    if _IMPORTS.search(code):
        raise _no_driver(path, "it is an ES module", "const BaseDriver = require('./base-driver'); module.exports = …")
    if not _REQUIRES.search(code):
        return []
    exported = _EXPORTS.search(code)
    name = exported["name"] if exported is not None else ""
    if not name or not declares_class(code, name):
        what = f"module.exports is {name}, which is no class of the file" if name else "it exports no class"
        raise _no_driver(path, what, "module.exports = NAME, with class NAME in the file")
    version = _VERSION.search(text)
    stem = PurePath(path).stem
    sidecar = read_sidecar(path)
    data = {
        "name": plugin_name(sidecar.get("driver_type") or stem),
        "version": version_of(sidecar.get("version"), version["version"] if version else None),
        "author": "unknown",
        "description": _first_comment(text) or f"{name}, a driver in JavaScript",
        "category": "communication",
        "driver_class": f"{plugin_name(stem)}.{name}",
        "config_schema": settings_of(blanked(text), sidecar),
        "commands": {key: made.to_manifest() for key, made in read_commands(text, name, sidecar).items()},
        "permissions": {
            "connect": _destinations(sidecar.get("connection_config")),
            "network": "host" if _OWN_NETWORK.search(code) else "none",
            "subprocess": _OWN_PROGRAMS.search(code) is not None,
        },
        "runtime": {
            "language": "node",
            "dialect": "js_driver",
            "start_timeout_s": START_S,
            "initialize_timeout_s": INITIALIZE_S,
            "connect_timeout_s": CONNECT_S,
        },
    }
    manifest = manifest_from_dict(data, file=path)
    return [msgspec.structs.replace(manifest, runtime=msgspec.structs.replace(manifest.runtime, source=path))]


def _no_driver(path: str, what: str, expected: str) -> BadManifest:
    return BadManifest(
        f"{path}: it requires ./base-driver and is no driver: {what}",
        context={"file": path, "field": "module.exports", "found": what, "expected": expected},
        remedy=f"Write {expected}.",
    )


def _first_comment(text: str) -> str:
    """The first line of the comment that the file begins with."""
    match = re.match(r"\s*(?:/\*+\s*(?:\*\s*)?|//+\s*)([^\n*]+)", text)
    return match[1].strip() if match else ""


def _destinations(config: Any) -> list[str]:
    """Where the message's `connection_config` leads: the broker may open that, too."""
    if not isinstance(config, Mapping):
        return []
    host, port = config.get("host"), config.get("port")
    if isinstance(host, str) and re.fullmatch(r"[\w.-]+", host) and type(port) is int and 0 < port < 65536:
        return [f"tcp://{host}:{port}"]
    return []


# -- running ----------------------------------------------------------------------------------------------------------


def adapt(manifest: Manifest, load: Load, node: StartedNode | None = None) -> type[Adapted]:
    """The driver class for the plugin of `manifest`; nothing of it is imported here.

    Args:
        node: the Node that runs it, where it was started already.
    """
    file = manifest.runtime.source
    text = Path(file).read_text("utf-8", "replace")
    commands = read_commands(text, manifest.driver_class.rpartition(".")[2], read_sidecar(file))
    by_method = {command.method: command for command in commands.values()}

    class JsDriver(_JsDriver):
        """A driver whose work a class in JavaScript does."""

        _commands = by_method
        _started = node

    return with_commands(JsDriver, manifest)


class _JsDriver(Adapted):
    """Hands everything to Node, which is started with this object and ends with its process."""

    _dialect = "js_driver"
    _commands: Mapping[str, JsCommand] = {}
    _started: StartedNode | None = None

    def __init__(self, environment: Environment) -> None:
        from vfab.dialects.js_process import NodeProcess

        super().__init__(environment)
        self._node = NodeProcess(
            self.manifest.runtime.source,
            self.manifest.name,
            open_link=self._open,
            close_link=self._close,
            on_event=lambda kind, data: self.emit(kind, **data),
            started=self._started,
        )

    def initialize(self) -> None:
        """Make the author's object, as the document's createDevice does."""
        if self._is_connected:
            self._quietly(lambda: self._node.call("$life", "disconnect"))
            self._is_connected = False
        options = placed(self.config, self.manifest.config_schema, self.device)
        self._node.call("$new", {**options, "name": self.device.id, "deviceId": self.device.id})

    def connect(self) -> bool:
        """Have the author's object connect. Raises ConnectError: it could not; nothing is left open then."""
        try:
            self._connect()
        except DriverError:
            self._let_go()  # what waits for an answer on this connection must not take the next one's
            raise
        self._is_connected = True
        return True

    def _connect(self) -> None:
        if self._node.call("$life", "connect") is False:
            raise ConnectError(
                f"{self.manifest.name} could not connect: its connect() returned false",
                driver_name=self.manifest.name,
                context={"dialect": self._dialect, "method": "connect", "returned": False},
            )

    def _let_go(self) -> None:
        """Have the author's object disconnect, in a time of its own: the caller's may be up."""
        token = CancelToken(_LET_GO_S)
        before = current_token.set(token)
        try:
            self._quietly(lambda: self._node.call("$life", "disconnect"))
        finally:
            current_token.reset(before)
            token.close()

    def disconnect(self) -> None:
        """Have the author's object disconnect."""
        self._is_connected = False
        self._node.call("$life", "disconnect")

    def reset(self) -> None:
        """The author's own reset, where there is one."""
        self._node.call("$life", "reset")

    def is_connected(self) -> bool:
        """What the author's object says, in `isConnected()` or `connected`; else whether it was connected."""
        said = self._node.call("$connected")
        return said if isinstance(said, bool) else self._is_connected

    def _forward(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        command = self._commands[method]
        left = list(command.defaults)[len(arguments) :]
        named = {**{key: command.defaults[key] for key in left}, **named}
        named = {key: value for key, value in named.items() if value is not None}
        return self._node.call("$call", command.target, command.command, list(arguments), named)

    # -- links ----------------------------------------------------------------------------------------------------

    def _address(self, host: str | None, port: int | None) -> str:
        """The address that the author means by `host` and `port`. Raises ConfigurationError: it is none."""
        own = self.device.address
        if host is None or port is None:
            if own:
                return own
            raise ConfigurationError(
                f"{self.manifest.name} has no host and port to connect to",
                driver_name=self.manifest.name,
                context={"field": "host" if host is None else "port"},
                remedy="Give the device an address (tcp://HOST:PORT), or set host and port.",
            )
        address = f"tcp://[{host}]:{port}" if ":" in str(host) else f"tcp://{host}:{port}"
        return own if own.startswith("tcp:") and split_address(own) == split_address(address) else address

    def _open(self, host: str | None, port: int | None) -> Link:
        return self.open_link(self._address(host, port))

    def _close(self, host: str | None, port: int | None) -> None:
        self.environment.ports.close_link(self._address(host, port))
