"""Seed 004: an `InstrumentDriver`, named by a `plugin.yaml` or decorated with `@driver_plugin(...)`."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from vfab.dialects.adapting import Adapted, Load, as_json, call_reading_json, find_method, with_commands
from vfab.dialects.manifests import make_manifest, version_of
from vfab.dialects.reading import UNKNOWN, Source, called, keys_used, literal
from vfab.dialects.schemas import as_json_schema
from vfab.dialects.signatures import commands_of_class, schema_of_keys
from vfab.model.errors import BadManifest, Cancelled, ConnectError, DriverFailed, UnknownCommand
from vfab.model.manifest import Command, Manifest, Parameter
from vfab.sdk.cancel import current_token
from vfab.sdk.driver import BaseDriver, command
from vfab.sdk.instrument import InstrumentDriver

__all__ = ["COMMANDS", "adapt", "adapt_class", "completed", "is_instrument", "recognise"]

ROOT = "InstrumentDriver"
DECORATOR = "driver_plugin"
METHODS = (
    *("connect", "disconnect", "reset", "get_identity", "get_capabilities"),
    *("configure", "measure", "abort", "get_status"),
)
_METHOD = Parameter(help="measurement method, one of get-capabilities", required=True)
_PARAMS = Parameter(help="the method's parameters, as a JSON mapping")
COMMANDS: dict[str, Command] = {
    "measure": Command(
        help="Measure by a method", parameters={"method": _METHOD, "params": _PARAMS}, timeout_s=600.0, progress=True
    ),
    "configure": Command(
        help="Prepare for a method", parameters={"method": _METHOD, "params": _PARAMS}, timeout_s=60.0
    ),
    "abort": Command(help="End the measurement under way", concurrent=True),
    "get-status": Command(help="What the instrument is doing"),
    "get-identity": Command(help="Manufacturer, model, serial number, firmware"),
    "get-capabilities": Command(help="The measurement methods that it knows", needs="initialized"),
}
"""What every driver of this shape offers."""


# -- reading ----------------------------------------------------------------------------------------------------------


def recognise(source: Source) -> list[Manifest]:
    """The manifest of each class that is decorated with `@driver_plugin(...)`.

    Raises BadManifest: an argument of the decorator is missing or is no literal; the context has the line.
    """
    return [
        _manifest(source, node, decorator)
        for node in source.classes.values()
        if id(node) not in source.foreign
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and source.last_name(decorator) == DECORATOR
    ]


def _manifest(source: Source, node: ast.ClassDef, decorator: ast.Call) -> Manifest:
    names = ("name", "version", "author", "description", "supported_methods", "supported_models")
    given: dict[str, ast.expr] = dict(zip(names, decorator.args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in decorator.keywords if keyword.arg})
    read = {key: literal(value, source.constants) for key, value in given.items()}
    for key in dict.fromkeys((*names, *read)):
        if read.get(key, UNKNOWN) is UNKNOWN:
            line = decorator.lineno if key not in given else given[key].lineno
            found = "nothing" if key not in given else ast.unparse(given[key])
            raise BadManifest(
                f"{source.path}:{line}: @{DECORATOR} {key}: found {found}; write a literal, which can be read without "
                "running the file",
                context={"file": source.path, "line": line, "field": key, "found": found, "expected": "a literal"},
                remedy=f"Correct {key} in line {line} of {source.path}.",
            )
    read.pop("driver_class", None)
    read["version"] = version_of(read["version"])
    models = read["supported_models"]
    if isinstance(models, list | tuple):  # 2400 is what it is called, too
        read["supported_models"] = [str(model) if type(model) is int else model for model in models]
    if isinstance(written := read.pop("config_schema", None), dict):
        read["config_schema"] = _with_resource(as_json_schema(written))
    fields = {"config_schema": _settings(source, node), **read, "commands": _commands(source, node)}
    manifest = make_manifest(source, "instrument_plugin", node.name, fields, doc=str(read["description"]))
    return msgspec.structs.replace(manifest, commands={**COMMANDS, **manifest.commands})


def _settings(source: Source, node: ast.ClassDef) -> dict[str, Any]:
    """What the class looks up in its `config`, and the resource, for when the device's address is not the one."""
    schema = schema_of_keys(keys_used([node], called([node], ("config",)), source.constants))
    return _with_resource(schema)


def _with_resource(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the setting for the resource, which every instrument has."""
    resource = {"type": "string", "description": "VISA resource, in place of the address"}
    properties = dict(schema.get("properties", {}))
    properties.setdefault("resource_name", resource)
    return {**schema, "properties": properties}


def _commands(source: Source, node: ast.ClassDef) -> dict[str, Any]:
    return commands_of_class(source, node, METHODS)


def completed(manifest: Manifest, source: Source) -> Manifest | None:
    """`manifest`, read from a `plugin.yaml`, with what its class in `source` offers; None if that is no instrument."""
    node = source.classes.get(manifest.driver_class.rpartition(".")[2])
    if node is None or not source.is_a(node, ROOT):
        return None
    runtime = msgspec.structs.replace(manifest.runtime, dialect="instrument_plugin")
    own = msgspec.convert(_commands(source, node), dict[str, Command])
    commands = manifest.commands or {**COMMANDS, **own}
    permissions = manifest.permissions
    if permissions == type(permissions)():  # written before there were permissions: it opens its link itself
        permissions = msgspec.structs.replace(permissions, network="host")
    written = manifest.config_schema
    schema = _with_resource(as_json_schema(written)) if written is not None else _settings(source, node)
    return msgspec.structs.replace(
        manifest, runtime=runtime, commands=commands, permissions=permissions, config_schema=schema
    )


# -- running ----------------------------------------------------------------------------------------------------------


def is_instrument(cls: object) -> bool:
    """Whether a class is an instrument driver: of vfab's base, or of the document's own in another file."""
    if not isinstance(cls, type) or issubclass(cls, BaseDriver):
        return False
    return issubclass(cls, InstrumentDriver) or (
        any(base.__name__ == ROOT for base in cls.__mro__[1:]) and all(hasattr(cls, name) for name in METHODS)
    )


def adapt(manifest: Manifest, load: Load) -> type[BaseDriver]:
    """The driver class for the plugin of `manifest`, whose module `load` imports.

    Raises DriverFailed: the class is not there any more, or is no `InstrumentDriver`. Whatever importing raises.
    """
    module = load()
    class_name = manifest.driver_class.rpartition(".")[2]
    cls = getattr(module, class_name, None)
    if isinstance(cls, type) and issubclass(cls, BaseDriver):
        return cls  # it was made native since the manifest was read
    if not is_instrument(cls):
        raise DriverFailed(
            f"{manifest.name}: {class_name} does not implement the InstrumentDriver interface",
            driver_name=manifest.name,
            context={"driver_class": manifest.driver_class, "dialect": "instrument_plugin"},
            remedy="Derive it from vfab.sdk.InstrumentDriver.",
        )
    return adapt_class(manifest, cls)


def adapt_class(manifest: Manifest, cls: Any) -> type[Adapted]:
    """The driver class whose work the `InstrumentDriver` `cls` does."""
    uses_visa = "pyvisa" in sys.modules

    class OneInstrument(InstrumentAdapter):
        """A driver whose work an `InstrumentDriver` does."""

        _author_class = cls
        _visa = uses_visa

    return with_commands(OneInstrument, manifest)


class InstrumentAdapter(Adapted):
    """A driver whose work an `InstrumentDriver` of seed 004 does."""

    _dialect = "instrument_plugin"
    _author_class: Any = None
    _visa = False
    _instrument: Any = None

    # -- the life -----------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Construct the author's object for the device's resource."""
        if self._instrument is not None and self._is_connected:
            self.disconnect()
        config = {key: value for key, value in self.config.items() if value is not None}
        self._instrument = self._authors_object(
            self._author_class.__name__, self._author_class, self._resource(), config
        )

    def connect(self) -> bool:
        """Have the instrument connect. Raises ConnectError: it says that it could not."""
        if self._call("connect") is False:
            raise ConnectError(
                f"{self.manifest.name} could not connect to {self._resource()}: its connect() returned False",
                driver_name=self.manifest.name,
                context={"dialect": self._dialect, "method": "connect", "returned": False},
            )
        self._is_connected, self._is_broken = True, False
        return True

    def disconnect(self) -> None:
        """Have the instrument disconnect."""
        if self._instrument is None or not self._is_connected:
            return
        self._is_connected = False
        if self._is_broken:
            self._quietly(lambda: self._call("disconnect"))
        elif self._call("disconnect") is False:
            self.log.warning("disconnect() of %s returned False", self._author_class.__name__)

    def reset(self) -> None:
        """Have the instrument reset itself, if it is connected; on a broken link, disconnect."""
        if self._instrument is not None and self._is_connected and not self._is_broken:
            try:
                self._call("reset")
            except ConnectError as error:  # the link broke unnoticed: connect makes another
                self.log.info("the link broke: %s", error.message)
        if self._is_broken:
            self._quietly(self.disconnect)

    def test_connection(self) -> dict[str, Any]:
        """Ask the instrument who it is."""
        if not self._is_connected:
            return super().test_connection()  # type: ignore[return-value]
        identity = self._call("get_identity")
        who = " ".join(str(value) for value in identity.values()) if isinstance(identity, Mapping) else str(identity)
        return {"success": True, "message": who, "details": {"identity": identity}}

    # -- the instrument -----------------------------------------------------------------------------------------------

    @command
    def get_identity(self) -> Any:
        """`manufacturer`, `model`, `serial`, `firmware`."""
        return self._call("get_identity")

    @command
    def get_capabilities(self) -> Any:
        """The measurement methods that `measure` knows."""
        return self._call("get_capabilities")

    @command
    def get_status(self) -> Any:
        """What the instrument is doing."""
        return self._call("get_status")

    @command
    def configure(self, method: str, params: Mapping[str, Any] | str | None = None, **more: Any) -> Any:
        """Prepare the instrument for `method`. Parameters as a mapping, as JSON, or by name."""
        return self._call("configure", method, _parameters(params, more))

    @command
    def measure(self, method: str, params: Mapping[str, Any] | str | None = None, **more: Any) -> Any:
        """Measure by `method`. Parameters as a mapping, as JSON, or by name; a cancel of the call aborts."""
        token = current_token.get()
        if token is None:
            return self._call("measure", method, _parameters(params, more))
        # in a thread of its own: whoever cancels is the thread that reads the kernel's next words
        token.when_cancelled(threading.Thread(target=self._abort_quietly, name="abort", daemon=True).start)
        try:
            result = self._call("measure", method, _parameters(params, more))
        except Exception:
            if token.cancelled:
                raise Cancelled("the measurement was aborted", driver_name=self.manifest.name) from None
            raise
        if token.cancelled:
            raise Cancelled("the measurement was aborted", driver_name=self.manifest.name)
        return result

    @command(concurrent=True)
    def abort(self) -> Any:
        """End the measurement under way; runs beside it."""
        return self._call("abort")

    def _abort_quietly(self) -> None:
        try:
            self._call("abort")
        except Exception as error:
            self.log.warning("aborting failed: %s", error)

    def _forward(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        found = find_method(self._instrument, method) or getattr(self._instrument, method, None)
        if not callable(found):
            raise UnknownCommand(
                f"{self._author_class.__name__} has no method {method!r}",
                driver_name=self.manifest.name,
                context={"command": method, "dialect": self._dialect},
            )
        return self._authors(getattr(found, "__name__", method), call_reading_json, found, arguments, named)

    def _call(self, name: str, *args: Any) -> Any:
        if self._instrument is None:
            self.initialize()
        return self._authors(name, getattr(self._instrument, name), *args)

    def _resource(self) -> str:
        """What the author's constructor is given: a resource that somebody named, else the device's address.

        For drivers that use PyVISA an address becomes the VISA resource that means the same.
        """
        given = self.device.attributes.get("resource_name") or self.config.get("resource_name")
        return str(given) if given else _visa_resource(self.device.address) if self._visa else self.device.address


def _parameters(params: Mapping[str, Any] | str | None, more: Mapping[str, Any]) -> dict[str, Any]:
    given = as_json(params, "params") if isinstance(params, str) else params
    return {**(given or {}), **more}


def _visa_resource(address: str) -> str:
    if address.startswith("tcp://"):
        host, _, port = address.removeprefix("tcp://").rstrip("/").rpartition(":")
        return f"TCPIP0::{host.strip('[]')}::{port}::SOCKET"
    return f"ASRL{address}::INSTR" if address.startswith("/dev/") else address
