"""What the drivers made of older plugins have in common: calling the author's code, translating what comes of it.

Everything here runs in hosts.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import linecache
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Set, ValuesView
from contextlib import suppress
from datetime import date, time, timedelta
from enum import Enum
from itertools import islice
from pathlib import PurePath
from types import GeneratorType, ModuleType, TracebackType
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

from vfab.dialects.signatures import method_name
from vfab.model.devices import DeviceInfo
from vfab.model.errors import ConfigurationError, ConnectError, DependencyError, DriverError, DriverFailed, LinkLost
from vfab.model.manifest import Manifest
from vfab.sdk.driver import BaseDriver, CommandMark
from vfab.sdk.failures import to_driver_error

__all__ = ["Adapted", "Load", "fitting", "placed", "plain", "with_commands"]

Load = Callable[[], ModuleType]
"""Imports the plugin's module; what that raises comes through."""

_CONNECTS = frozenset({"connect", "_connect_impl"})
_DEPTH_MAX = 16
_GENERATED_MAX = 100_000
_INT_MAX = 2**63
_A = TypeVar("_A", bound="Adapted")
_HOST_KEYS = ("host", "hostname", "ip", "ip_address", "address")
_PORT_KEYS = ("port", "tcp_port")
_PATH_KEYS = ("port", "serial_port", "device", "device_path", "tty", "path", "address")
_RESOURCE_KEYS = ("resource_name", "resource", "visa_resource", "visa_address", "address")
ADDRESS_KEYS = frozenset({*_HOST_KEYS, *_PORT_KEYS, *_PATH_KEYS, *_RESOURCE_KEYS})
"""Settings that the device's address fills, where nobody sets them otherwise."""


class Adapted(BaseDriver):
    """A driver that hands everything to a class of an older shape.

    Nothing that it adds to `BaseDriver` is public: public names are the author's commands.
    """

    _dialect: ClassVar[str] = ""
    _is_connected = False
    _is_broken = False
    """The link broke since the last connect: there is nobody to reset on it."""

    def is_connected(self) -> bool:
        """Whether the device is connected."""
        return self._is_connected

    def _forward(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Run the author's command that this driver offers as `method`."""
        raise NotImplementedError

    def _quietly(self, function: Callable[[], Any]) -> None:
        """Call what lets go of a broken link: its failing changes nothing."""
        try:
            function()
        except Exception as error:
            self.log.info("letting go of a broken link: %s", error)

    def _authors(self, what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the author's `function`, which errors call `what`; the result is fit to be sent.

        Raises DriverError: whatever the function raised, in its own words.
        """
        result = self._authors_object(what, function, *args, **kwargs)
        return self._awaited(result, what) if inspect.isawaitable(result) else plain(result)

    def _authors_object(self, what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As `_authors`, for results that stay here: the author's objects."""
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            raise self._told(error, what) from error

    async def _awaited(self, result: Awaitable[Any], what: str) -> Any:
        try:
            return plain(await result)
        except Exception as error:
            raise self._told(error, what) from error

    def _told(self, error: BaseException, what: str) -> DriverError:
        """`error`, raised by the author's `what`, as one of vfab's."""
        name = self.manifest.name
        context = {"dialect": self._dialect, "method": what}
        kind = type(error).__name__
        if kind == "ValidationError" or (isinstance(error, ValueError | KeyError | TypeError) and _is_meant(error)):
            # the author looked at a value and refused it: nobody's device is broken
            text = f"{what}: {_words(error)}"
            return ConfigurationError(text, driver_name=name, context=context, original_error=error)
        if kind == "SerialException":
            family = LinkLost if self._is_connected else ConnectError
            self._is_broken = True
            return family(f"{what}: {_words(error)}", driver_name=name, context=context, original_error=error)
        if isinstance(error, FileNotFoundError) and what in _CONNECTS:  # the device's node, or what leads to it
            self._is_broken = True
            return ConnectError(f"{what}: {_words(error)}", driver_name=name, context=context, original_error=error)
        told = to_driver_error(error, name, what)
        told.context = {**context, **told.context}
        self._is_broken = self._is_broken or isinstance(told, ConnectError)
        if isinstance(error, ImportError) and isinstance(told, DependencyError):
            told.remedy = self._instructions() or told.remedy
        return told

    def _instructions(self) -> str:
        """The author's words on how to install what is missing, "" when there are none."""
        return ""


def _words(error: BaseException) -> str:
    parts = getattr(error, "errors", None)
    if type(error).__name__ == "ValidationError" and callable(parts):  # pydantic's, which takes five lines to say it
        with suppress(Exception):
            return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}".lstrip(": ") for part in parts())
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return str(text) or type(error).__name__


def _is_meant(error: BaseException) -> bool:
    """Whether the author wrote `raise` for this error, rather than have it happen in a call or lookup."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return re.search(r"(^|[:;])\s*raise\b", line) is not None


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as what can be sent: numbers, text, bytes, lists and mappings. What is none of these is described."""
    if type(value) in {bool, bytes, float, type(None)}:
        return value
    if type(value) is str:
        return value.encode("utf-8", "backslashreplace").decode()
    if type(value) is int:
        return value if -_INT_MAX <= value < 2 * _INT_MAX else str(value)
    if depth > _DEPTH_MAX:
        return repr(value)[:200]
    if isinstance(value, Enum):
        return plain(value.value, depth + 1)
    if isinstance(value, Mapping):
        return {_key(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | Set | range | deque | ValuesView):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, GeneratorType):
        return [plain(item, depth + 1) for item in _ended(value)]
    return _of_object(value, depth)


def _ended(generator: GeneratorType[Any, None, None]) -> list[Any]:
    """All that a generator yields. Raises DriverFailed: there is no end of it."""
    found = list(islice(generator, _GENERATED_MAX + 1))
    if len(found) > _GENERATED_MAX:
        raise DriverFailed(
            f"{generator.gi_code.co_name} goes on after {_GENERATED_MAX} values",
            remedy="Return a list, or stream them.",
        )
    return found


def _key(key: Any) -> Any:
    key = key.value if isinstance(key, Enum) else key
    return key if isinstance(key, str | int) else str(key)


def _of_object(value: Any, depth: int) -> Any:
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | bytes | float | int):  # a subclass: of numpy, of the author
        base: Callable[[Any], Any] = next(kind for kind in (str, bytes, float, int) if isinstance(value, kind))
        return plain(base(value), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth + 1)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return str(value)
    for name in ("model_dump", "tolist", "_asdict"):  # pydantic, numpy, named tuples' like
        convert = getattr(value, name, None)
        if callable(convert) and not isinstance(value, type):
            return plain(convert(), depth + 1)
    return repr(value)[:1000]


def with_commands(cls: type[_A], manifest: Manifest) -> type[_A]:
    """`cls` with a method for each of the manifest's commands that it has not."""
    made: dict[str, Any] = {"__module__": cls.__module__}
    for name, command in manifest.commands.items():
        method = command.method or name.replace("-", "_")
        if not hasattr(cls, method):
            made[method] = _forwarding(method, command.help)
    return type(cls.__name__, (cls,), made)


def _forwarding(method: str, doc: str) -> Callable[..., Any]:
    def forward(self: Adapted, *args: Any, **kwargs: Any) -> Any:
        return self._forward(method, args, kwargs)

    forward.__name__, forward.__doc__ = method, doc
    forward.__vfab_command__ = CommandMark()  # type: ignore[attr-defined]
    return forward


def find_method(target: object, method: str) -> Callable[..., Any] | None:
    """The author's public method that is offered as `method`."""
    for name in dir(target):
        if name[0] != "_" and method_name(name) == method:
            found = getattr(target, name, None)
            return found if callable(found) else None
    return None


def call_reading_json(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `function`; text for a parameter that is annotated as a list or mapping is read as JSON.

    Raises ConfigurationError: the arguments are not those of `function`. Whatever it raises.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function(*args, **kwargs)
    before = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY][len(args) :]
    while before and before[0] in kwargs:  # callers name what the author lets nobody name
        args = (*args, kwargs[before[0]])
        kwargs = {name: value for name, value in kwargs.items() if name != before[0]}
        del before[0]
    try:
        parameters = signature.bind(*args, **kwargs).signature.parameters
    except TypeError as error:
        raise ConfigurationError(
            f"{function.__name__}{signature}: {error}",
            context={"method": function.__name__, "given": sorted(kwargs)},
            remedy="`vfab driver info NAME` shows the parameters of each command.",
        ) from error
    for name, value in kwargs.items():
        note = str(getattr(parameters.get(name), "annotation", "")).lower()
        if isinstance(value, str) and "str" not in note.partition("[")[0] and ("list" in note or "dict" in note):
            kwargs = {**kwargs, name: as_json(value, name)}
    return function(*args, **kwargs)


def as_json(text: str, name: str) -> Any:
    """What the JSON `text` says. Raises ConfigurationError: it is no JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f'{name}: found {text!r}; write JSON, like {{"count": 3}}', context={"field": name, "found": text}
        ) from error


def placed(config: Mapping[str, Any], schema: Mapping[str, Any] | None, device: DeviceInfo) -> dict[str, Any]:
    """`config` with the device's address in the settings that are meant for one, and without what nobody set.

    A setting that differs from its default was chosen by somebody, and stays.
    """
    properties: Mapping[str, Any] = (schema or {}).get("properties", {})
    found = {key: value for key, value in config.items() if value is not None}
    for key, value in _address_settings(device.address, properties).items():
        if found.get(key) == properties[key].get("default"):
            found[key] = value
    return found


def _address_settings(address: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Which of the settings in `properties` the address fills: `host` and `port`, or one for a node or a VISA resource.

    What is none of these (`COM3`, `bench-2`) is what the author calls the device.
    """

    def first(keys: tuple[str, ...], *types: str) -> list[str]:
        return [key for key in keys if properties.get(key, {"type": "none"}).get("type", types[0]) in types][:1]

    _, separator, rest = address.partition("://")
    if separator:
        host, _, port = rest.rstrip("/").rpartition(":")
        found: dict[str, Any] = {key: host.strip("[]") for key in first(_HOST_KEYS, "string")}
        if port.isdigit():
            found.update({key: int(port) for key in first(_PORT_KEYS, "integer")})
        return found
    if address.startswith("/"):
        return dict.fromkeys(first(_PATH_KEYS, "string"), address)
    if "::" in address:
        return dict.fromkeys(first(_RESOURCE_KEYS, "string"), address)
    return dict.fromkeys(first((*_PATH_KEYS, *_HOST_KEYS), "string"), address) if address else {}


def fitting(function: Callable[..., Any], config: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How to call the author's constructor or factory with `config`: as keywords, as one mapping, or as a model.

    A parameter called config, options or settings that nothing in `config` is called takes it whole; one annotated
    with a class of settings takes an instance of that.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return (), dict(config)
    named = [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY}]
    whole = next((p for p in named if p.name in {"config", "options", "settings"} and p.name not in config), None)
    if whole is not None:
        rest = {key: value for key, value in config.items() if key in {p.name for p in named}}
        return (), {**rest, whole.name: _modelled(function, whole.name, config)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return (), dict(config)
    return (), {p.name: config[p.name] for p in named if p.name in config}


def _modelled(function: Callable[..., Any], name: str, config: Mapping[str, Any]) -> Any:
    """`config` as an instance of the class of settings that the parameter `name` is annotated with, else a dict."""
    try:
        target = vars(function).get("__init__", function) if isinstance(function, type) else function
        kind = get_type_hints(target).get(name)
    except Exception:  # an annotation may name anything
        kind = None
    for option in (kind, *get_args(kind)):
        if isinstance(option, type) and (dataclasses.is_dataclass(option) or hasattr(option, "model_fields")):
            return option(**config)
    return dict(config)
