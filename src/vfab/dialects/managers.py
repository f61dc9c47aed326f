"""Drivers over seed 001's managers: `connect`, `disconnect`, `is_connected`, `test_connection`, and more commands."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from vfab.dialects.adapting import ADDRESS_KEYS, Adapted, as_json, call_reading_json, find_method, fitting, placed
from vfab.dialects.reading import Source, called, keys_used
from vfab.dialects.signatures import commands_of_class, schema_of_class, schema_of_keys, schema_of_signature
from vfab.model.errors import ConnectError, UnknownCommand
from vfab.sdk.driver import command

__all__ = ["CALL_METHOD", "LIFE", "ManagerDriver", "merged", "read_manager", "settings_of"]

LIFE = frozenset({"connect", "disconnect", "is_connected", "test_connection", "reset"})
"""The manager's methods that are part of a driver's life, and no commands."""

CALL_METHOD: dict[str, Any] = {
    "help": "Call a public method of the plugin's manager by its name",
    "parameters": {
        "method": {"type": "string", "help": "the method's name", "required": True},
        "arguments": {"type": "string", "help": "its parameters, as a JSON mapping"},
    },
    "timeout_s": 120.0,
}
"""The command for managers whose class cannot be read: it is made, or imported from elsewhere."""

_DICTIONARIES = ("config", "options", "settings", "kwargs")


class ManagerDriver(Adapted):
    """A driver whose work a manager of seed 001 does."""

    _manager: Any = None

    def _make_manager(self, config: dict[str, Any]) -> Any:
        """The author's manager, with `config`. Raises whatever the author's code raises, and DriverError."""
        raise NotImplementedError

    def initialize(self) -> None:
        """Make the manager."""
        self._let_go()
        config = placed(self.config, self.manifest.config_schema, self.device)
        self._manager = self._make_manager(config)

    def connect(self) -> Any:
        """Have the manager connect. Raises ConnectError: it says that it could not."""
        return self._finish(self._life("connect"), self._connected)

    def disconnect(self) -> Any:
        """Have the manager disconnect."""
        if self._manager is None:
            return None
        return self._finish(self._life("disconnect"), self._disconnected)

    def reset(self) -> Any:
        """The manager's own reset, where it has one; on a broken link, letting go of the manager."""
        if self._is_broken:
            self._let_go()
            return None
        if callable(getattr(self._manager, "reset", None)):
            return self._life("reset")
        return None

    def is_connected(self) -> Any:
        """What the manager says."""
        if self._manager is None:
            return False
        answer = getattr(self._manager, "is_connected", self._is_connected)
        return self._authors("is_connected", answer) if callable(answer) else bool(answer)

    def test_connection(self) -> Any:
        """What the manager's own test says; what it leaves out of success, message and details is filled in."""
        if not callable(getattr(self._manager, "test_connection", None)):
            return super().test_connection()
        return self._finish(self._life("test_connection"), _as_report)

    @command
    def call_method(self, method: str, arguments: Mapping[str, Any] | str | None = None) -> Any:
        """Call a public method of the manager by its name."""
        named = as_json(arguments, "arguments") if isinstance(arguments, str) else dict(arguments or {})
        return self._forward(method, (), named)

    def _forward(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the manager's method that is offered as `method`."""
        found = find_method(self._manager, method) or (
            getattr(self._manager, method, None) if method[:1] != "_" and method not in LIFE else None
        )
        if not callable(found):
            raise UnknownCommand(
                f"the manager of {self.manifest.name} has no method {method!r}",
                driver_name=self.manifest.name,
                context={"command": method, "dialect": self._dialect},
            )
        return self._authors(found.__name__, call_reading_json, found, arguments, named)

    def _life(self, name: str) -> Any:
        return self._authors(name, getattr(self._manager, name))

    def _finish(self, result: Any, last: Any) -> Any:
        """`last(result)`, after the author's coroutine where it is one."""
        if not inspect.isawaitable(result):
            return last(result)

        async def finish() -> Any:
            return last(await result)

        return finish()

    def _connected(self, result: Any) -> bool:
        if result is False:
            raise ConnectError(
                f"{self.manifest.name} could not connect: its connect() returned False",
                driver_name=self.manifest.name,
                context={"dialect": self._dialect, "method": "connect", "returned": False},
            )
        self._is_connected, self._is_broken = True, False
        return True

    def _disconnected(self, result: Any) -> None:
        self._is_connected = False

    def _let_go(self) -> None:
        """Leave an earlier manager: after a reset the driver is initialised again."""
        manager, self._manager, self._is_connected = self._manager, None, False
        if manager is not None:
            self._quietly(manager.disconnect)


def _as_report(report: Any) -> dict[str, Any]:
    given = dict(report) if isinstance(report, Mapping) else {"success": bool(report)}
    success = bool(given.get("success"))
    message = str(given.get("message") or ("the device works" if success else "the device does not work"))
    return {"details": {}, **given, "success": success, "message": message}


def make(function: Any, config: Mapping[str, Any]) -> Any:
    """What the author's class or factory makes of `config`."""
    args, kwargs = fitting(function, config)
    return function(*args, **kwargs)


# -- reading ----------------------------------------------------------------------------------------------------------


def read_manager(source: Source, name: str) -> dict[str, Any] | None:
    """The commands of the manager class `name`; None when this file has no such class."""
    node = source.classes.get(name)
    return commands_of_class(source, node, LIFE) if node is not None else None


def settings_of(source: Source, config_class: str, manager: str, *more: Any) -> dict[str, Any]:
    """JSON Schema of a plugin's settings: its class of settings, else what its constructors take and look up.

    `more` are functions, and classes, that are given settings too.
    """
    if config_class in source.classes:
        return without_address(schema_of_class(source, source.classes[config_class]))
    scopes = [node for node in (source.classes.get(manager), *more) if node is not None]
    names = called(scopes, _DICTIONARIES)
    schema = schema_of_keys(keys_used(scopes, names, source.constants))
    for node in scopes:
        function = source.method(node, "__init__") if hasattr(node, "bases") else node
        if function is not None and node is scopes[0]:
            own = schema_of_signature(source, function, 1 if function is not node else 0)
            schema = merged(schema, own)
    return without_address(schema)


def without_address(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, in which nobody must give what vfab fills in from the device's address."""
    required = [name for name in schema.pop("required", ()) if name not in ADDRESS_KEYS]
    return {**schema, "required": required} if required else schema


def merged(schema: dict[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """Two schemas of settings as one; a parameter that takes all settings is none itself."""
    properties = {**schema["properties"], **stronger["properties"]}
    for name in (*_DICTIONARIES, "self"):
        properties.pop(name, None)
    required = [name for name in stronger.get("required", ()) if name in properties]
    made: dict[str, Any] = {**schema, "properties": properties}
    return {**made, "required": required} if required else made
