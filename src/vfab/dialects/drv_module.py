"""Seed 002: `drv_NAME.py` with a `BaseDeviceDriver`."""

from __future__ import annotations

import ast
import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from vfab.dialects.adapting import Adapted, Load, as_json, plain, with_commands
from vfab.dialects.drv_devices import as_list, described, is_at, is_meant, parts
from vfab.dialects.loops import settled
from vfab.dialects.manifests import make_manifest, plugin_name, version_of
from vfab.dialects.reading import FunctionNode, Source, first_line, keys_used, literal
from vfab.dialects.signatures import command as manifest_command
from vfab.dialects.signatures import command_name, method_name, parameters_of_keys, schema_of_keys
from vfab.model.devices import SCANNED, UNSEEN
from vfab.model.errors import BadManifest, ConnectError, DeviceNotFound, DriverFailed, UnknownCommand
from vfab.model.manifest import Manifest
from vfab.sdk.driver import command

if TYPE_CHECKING:
    from vfab.dialects.toolkit import BaseDeviceDriver, Device, StreamData
    from vfab.sdk.stream_ends import StreamWriter

__all__ = ["adapt", "recognise"]

ROOT = "BaseDeviceDriver"
PREFIX = "drv_"
_EXECUTE: dict[str, Any] = {
    "help": "Run any command of the driver",
    "parameters": {
        "command": {"type": "string", "help": "the command, as the driver calls it", "required": True},
        "args": {"type": "string", "help": "its arguments, as a JSON mapping"},
    },
    "timeout_s": 120.0,
}
_SCAN: dict[str, Any] = {"help": "Ask the driver which devices it finds", "needs": "nothing", "timeout_s": 60.0}


# -- reading ----------------------------------------------------------------------------------------------------------


def recognise(source: Source) -> list[Manifest]:
    """The manifest of a file `drv_NAME.py`; none for a file of another name.

    Raises BadManifest: the name says that it is such a driver, and no class in it is.
    """
    stem = PurePath(source.path).stem
    if not stem.startswith(PREFIX):
        return []
    nodes = source.leaves_of(ROOT)
    if not nodes:
        raise BadManifest(
            f"{source.path}: found no class that derives from {ROOT}; a file called {stem}.py has one",
            context={"file": source.path, "field": "class", "found": sorted(source.classes), "expected": ROOT},
            remedy=f"Derive the driver from {ROOT}, or call the file something else than {PREFIX}….",
        )
    return [_manifest(source, nodes[0])]


def _manifest(source: Source, node: ast.ClassDef) -> Manifest:
    names = source.constants_of(node)
    settings = schema_of_keys(keys_used([node], ("config", "settings", "options"), source.constants))
    settings["properties"]["device_id"] = {"type": "string", "description": "which of the devices that its scan finds"}
    fields = {
        "name": plugin_name(PurePath(source.path).stem),
        "version": version_of(names.get("version"), names.get("VERSION"), names.get("__version__")),
        "author": names.get("author") if isinstance(names.get("author"), str) else "",
        "category": names.get("category"),
        "min_platform_version": version_of(names.get("min_platform_version"), "1.0.0"),
        "commands": {**_commands(source, node), "execute-command": _EXECUTE, "scan": _SCAN},
        "config_schema": settings,
    }
    return make_manifest(source, "drv_module", node.name, fields, doc=first_line(node))


def _commands(source: Source, node: ast.ClassDef) -> dict[str, Any]:
    """The literal part of `supported_commands`; the arguments that each looks up, from `_command_impl`."""
    branches, function = _branches(source, node), source.method(node, "_command_impl")
    whole = [function] if function is not None and not branches else []  # it does the same for every command
    found: dict[str, Any] = {}
    for author_name, about in _supported(source, node):
        name = command_name(author_name)
        if not name:
            continue
        text = about.get("description") or about.get("help") or "" if isinstance(about, Mapping) else about
        keys = keys_used(branches.get(author_name, whole), _argument_names(function))
        found[name] = manifest_command(author_name, text if isinstance(text, str) else "", parameters_of_keys(keys))
    return found


def _supported(source: Source, node: ast.ClassDef) -> Iterable[tuple[str, Any]]:
    """(command, what is said of it) of every literal key."""
    for scope in source.lineage(node):
        for item in ast.walk(scope):
            targets = (
                item.targets
                if isinstance(item, ast.Assign)
                else [item.target]
                if isinstance(item, ast.AnnAssign)
                else []
            )
            called = {getattr(target, "attr", getattr(target, "id", "")) for target in targets}
            if "supported_commands" not in called or not isinstance(item, ast.Assign | ast.AnnAssign):
                continue
            yield from _told_commands(item.value, source.constants)
            return


def _told_commands(value: ast.expr | None, constants: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """(command, what is said of it) of `{…}`, `{**MORE, …}`, `dict(…)`, a list, a set, or a name for one of these."""
    if isinstance(value, ast.Dict):
        for key, said in zip(value.keys, value.values, strict=True):
            if key is None:
                yield from _told_commands(said, constants)
            elif isinstance(name := literal(key, constants), str):
                yield name, literal(said, constants) or ""
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in {"dict", "list", "set"}:
        for given in value.args:
            yield from _told_commands(given, constants)
        for word in value.keywords:
            if word.arg:
                yield word.arg, literal(word.value, constants) or ""
            else:
                yield from _told_commands(word.value, constants)
    elif value is not None:
        known = literal(value, constants)
        if isinstance(known, Mapping):
            yield from ((name, said) for name, said in known.items() if isinstance(name, str))
        elif isinstance(known, list | tuple | set | frozenset):
            yield from ((name, "") for name in known if isinstance(name, str))


def _argument_names(function: FunctionNode | None) -> list[str]:
    """What `_command_impl` calls its dictionary of arguments; the same name is common in what it calls."""
    own = [argument.arg for argument in function.args.args[3:4]] if function is not None else []
    return [*own, "args", "params", "kwargs"]


def _branches(source: Source, node: ast.ClassDef) -> dict[str, list[ast.AST]]:
    """Command -> what `_command_impl` does for it: the branch of `if command == "…"`, and the methods it calls."""
    function = source.method(node, "_command_impl")
    methods = source.methods(node)
    found: dict[str, list[ast.AST]] = {}
    for item in ast.walk(function) if function is not None else ():
        body: list[ast.stmt] = []
        names: list[str] = []
        if isinstance(item, ast.If) and isinstance(item.test, ast.Compare):
            names, body = _texts(item.test), item.body
        elif isinstance(item, ast.match_case):
            names, body = _texts(item.pattern), item.body
        calls = (node.func for node in ast.walk(ast.Module(body, [])) if isinstance(node, ast.Call))
        called = [call.attr for call in calls if isinstance(call, ast.Attribute)]
        scopes: list[ast.AST] = [*body, *(methods[name] for name in called if name in methods)]
        for name in names:
            found.setdefault(name, []).extend(scopes)
    return found


def _texts(node: ast.AST) -> list[str]:
    """The texts in `command == "start"`, `command in ("start", "go")` and `case "start":`."""
    values = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    return [value for value in values if isinstance(value, str)]


# -- running ----------------------------------------------------------------------------------------------------------


def adapt(manifest: Manifest, load: Load) -> type[Adapted]:
    """The driver class for the plugin of `manifest`, whose module `load` imports.

    Raises DriverFailed: the class is not there any more, or is no `BaseDeviceDriver`. Whatever importing raises.
    """
    from vfab.dialects import toolkit
    from vfab.dialects.names import install

    install(first=True)
    _make_plugins_importable(Path(manifest.runtime.source))
    module = load()
    class_name = manifest.driver_class.rpartition(".")[2]
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, toolkit.BaseDeviceDriver)):
        raise DriverFailed(
            f"{manifest.name}: {class_name} of {module.__name__} is not a {ROOT}",
            driver_name=manifest.name,
            context={"driver_class": manifest.driver_class, "dialect": "drv_module"},
            remedy=f"Derive it from sat_toolkit.core.base_plugin.{ROOT}.",
        )

    class ModuleDriver(DrvDriver):
        """A driver whose work a `BaseDeviceDriver` does."""

        _author_class = cls

    return with_commands(ModuleDriver, manifest)


def _make_plugins_importable(file: Path) -> None:
    """Let `from plugins.devices.x import y` find the folder `plugins` around `file`, and nothing beside it."""
    folder = next((folder for folder in file.parents if folder.name == "plugins"), None)
    if folder is None or "plugins" in sys.modules:
        return
    spec = ModuleSpec("plugins", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules["plugins"] = module_from_spec(spec)


class DrvDriver(Adapted):
    """A driver whose work a `BaseDeviceDriver` of seed 002 does."""

    _dialect = "drv_module"
    _author_class: Any = None
    _driver: BaseDeviceDriver | None = None
    _found: Device | None = None
    _stream: StreamWriter | None = None
    _stream_lock = threading.Lock()

    # -- the life -----------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Make the author's driver, find the device by its scan, and initialise that; without a device, do no more."""
        if not (self.device.address or self._wanted()):
            self._author()  # nobody said which device: `connect` takes the only one that there is
            return
        self._take_up()

    def _take_up(self) -> None:
        self._found = self._choose()
        driver = self._author()
        driver.device = driver.device or self._found
        self._told_false("_initialize_impl", self._ask("_initialize_impl", driver._initialize_impl, self._found))

    def connect(self) -> bool:
        """Have the driver connect. Raises ConnectError: it says that it could not."""
        if self._found is None:
            self._take_up()
        answer = self._ask("_connect_impl", self._author()._connect_impl, self._found)
        self._told_false("_connect_impl", answer)
        self._is_connected, self._is_broken = True, False
        return True

    def disconnect(self) -> None:
        """Stop the stream and close the device."""
        driver = self._driver
        if driver is None or self._found is None:
            return
        driver.stop_streaming(self._found)
        self._end_stream()
        if self._is_connected:
            self._is_connected = False
            self._ask("_close_impl", driver._close_impl, self._found)

    def reset(self) -> None:
        """Have the driver reset the device; on a broken link, close it."""
        driver = self._author()
        driver.stop_streaming(self._found)
        self._end_stream()
        if self._is_broken:
            self._quietly(self.disconnect)
            return
        self._told_false("_reset_impl", self._ask("_reset_impl", driver._reset_impl, self._found))

    def test_connection(self) -> dict[str, Any]:
        """Run the driver's `status` command, where it has one."""
        if not self._is_connected or "status" not in self._author().supported_commands:
            return super().test_connection()  # type: ignore[return-value]
        answer = self.execute_command("status")
        return {"success": True, "message": str(answer), "details": {"status": answer}}

    # -- commands -----------------------------------------------------------------------------------------------------

    @command
    def scan(self) -> list[dict[str, Any]]:
        """The devices that the driver's own scan finds: device_id, name, device_type, attributes."""
        return [plain(described(device)) for device in self._scan()]

    @command
    def execute_command(self, command: str, args: Mapping[str, Any] | str | None = None) -> Any:
        """Run `command` of the driver; `args` as a mapping, or its JSON.

        Raises UnknownCommand: the driver does not list it.
        """
        driver = self._author()
        if command not in driver.supported_commands:  # `set-power`, as the command line has it
            command = next((name for name in driver.supported_commands if command_name(str(name)) == command), command)
        if driver.supported_commands and command not in driver.supported_commands:
            raise UnknownCommand(
                f"{self.manifest.name} has no command {command!r}",
                driver_name=self.manifest.name,
                context={"command": command, "known": sorted(map(str, driver.supported_commands))},
            )
        given = as_json(args, "args") if isinstance(args, str) else args
        return self._ask("_command_impl", driver._command_impl, self._found, command, given)

    @command
    def start_streaming(self) -> bool:
        """Start the acquisition loop; its data comes in the stream `main`. False: it runs already."""
        return bool(self._authors("start_streaming", self._author().start_streaming, self._found))

    @command
    def stop_streaming(self) -> bool:
        """Stop the acquisition loop. False: it does not run."""
        stopped = bool(self._authors("stop_streaming", self._author().stop_streaming, self._found))
        self._end_stream()
        return stopped

    def _forward(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        known = [name for name in self._author().supported_commands if method_name(str(name)) == method]
        args = named or (arguments[0] if arguments and isinstance(arguments[0], Mapping) else None)
        return self.execute_command(known[0] if known else method, args)

    # -- the author's object ------------------------------------------------------------------------------------------

    def _author(self) -> BaseDeviceDriver:
        if self._driver is None:
            driver: BaseDeviceDriver = self._authors_object(self._author_class.__name__, self._author_class)
            driver.stream_wrapper.sink = self._broadcast
            if not hasattr(driver, "config"):
                driver.config = {k: v for k, v in self.config.items() if v is not None}  # type: ignore[attr-defined]
            self._driver = driver
        return self._driver

    def _broadcast(self, message: StreamData) -> None:
        """Write a message of the author's to the stream: its data as the record, the rest as what is said of it."""
        sample = plain(message)
        words = sample if isinstance(sample, dict) else {"data": sample}
        data, taken_s = words.pop("data", None), words.pop("timestamp", None)
        with self._stream_lock:
            if self._stream is None or self._stream.closed:
                self._stream = self.open_stream("main", str(words.get("stream_type", "custom")))
        self._stream.send(data, meta=words, time_s=taken_s if isinstance(taken_s, float) else None)

    def _end_stream(self) -> None:
        with self._stream_lock:
            if self._stream is not None:
                self._stream.close()

    def _scan(self) -> list[Any]:
        return self._authors_object("_scan_impl", lambda: as_list(settled(self._author()._scan_impl())))  # type: ignore[no-any-return]

    def _ask(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call the author's `function`, plain or a coroutine; the result is fit to be sent."""
        return self._authors(what, lambda: settled(function(*args)))

    def _wanted(self) -> str | None:
        """The plugin's own id of the device, where somebody named it."""
        return self.config.get("device_id") or self.device.attributes.get("device_id")

    def _choose(self) -> Device:
        """The device to be used: that of the driver's scan which is the one that vfab means, or one made of it."""
        from vfab.dialects.toolkit import Device

        info = self.device
        wanted = self._wanted()
        if not wanted and not info.address:
            return self._only(self._scan(), None)
        try:
            found = self._scan()
        except Exception:
            self.log.warning("the driver's scan failed; the device is used as it is named", exc_info=True)
            found = []
        told = [(device, described(device)) for device in found]
        exactly = [device for device, said in told if said["device_id"] in {wanted, info.id, info.address}]
        meant = {wanted} if wanted else {info.id, info.address, info.name} - {""}
        alike = [d for d, said in told if is_meant(said, meant) or (not wanted and is_at(said, info.address))]
        if exactly or alike:
            return (exactly or alike)[0]  # type: ignore[no-any-return]
        if info.address:
            attributes = {**info.attributes, "address": info.address, **parts(info.address)}
            return Device(wanted or info.address, info.name, info.bus, attributes)
        if info.attributes.get("device_id") == wanted and not info.attributes.get(UNSEEN):  # an earlier scan found it
            given = json.loads(info.attributes.get(SCANNED, "{}"))
            return Device(str(wanted), info.name, info.attributes.get("device_type", ""), given)
        return self._only(found, wanted)

    def _only(self, found: list[Any], wanted: str | None) -> Device:
        ids = [described(device)["device_id"] for device in found]
        if len(found) == 1 and wanted is None:
            return found[0]  # type: ignore[no-any-return]
        raise DeviceNotFound(
            f"the scan of {self.manifest.name} found {', '.join(ids) or 'no device'}"
            + (f", and not {wanted}" if wanted else ""),
            driver_name=self.manifest.name,
            context={"found": ids, "device_id": wanted, "dialect": "drv_module"},
            remedy="Name one with the setting device_id, or give an address." if ids else None,
        )

    def _told_false(self, what: str, answer: Any) -> None:
        if answer is False:
            kind = ConnectError if what == "_connect_impl" else DriverFailed
            raise kind(
                f"{self.manifest.name}: {what} returned False for {described(self._found)['device_id']}",
                driver_name=self.manifest.name,
                context={"dialect": "drv_module", "method": what, "returned": False},
            )
