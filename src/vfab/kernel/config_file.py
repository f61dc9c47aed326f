"""`config.yaml`: read with line numbers, changed in one step with its comments kept."""

from __future__ import annotations

import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vfab.kernel.places import home_of
from vfab.model.errors import ConfigurationError
from vfab.model.yamltext import MAX_BYTES, Place, YamlProblem, line_of, parse_yaml, places

__all__ = ["ConfigFile"]


class ConfigFile:
    """One YAML file of settings. A file that is not there is an empty one. It is read once; `reload()` reads anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data: dict[str, Any] | None = None
        self._places: dict[str, Place] | None = None
        self._text = b""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> ConfigFile:
        """`$VFAB_HOME/config.yaml`."""
        return cls(home_of(env) / "config.yaml")

    @property
    def data(self) -> dict[str, Any]:
        """What the file says.

        Raises ConfigurationError: it cannot be read, or is not a YAML mapping; file and line are told.
        """
        if self._data is None:
            self._text = self._read()
            self._data = self._parsed(self._text)
        return self._data

    def section(self, *keys: str) -> Any:
        """The value below `keys`, None when there is none.

        Raises ConfigurationError: something on the way is not a mapping.
        """
        value: Any = self.data
        for depth, key in enumerate(keys):
            if value is None:
                return None
            if not isinstance(value, Mapping):
                field = ".".join(keys[:depth])
                raise self.error(field, repr(value), "a mapping: names, each with a value")
            value = value.get(key)
        return value

    def line(self, field: str) -> int:
        """The line of the dotted `field`, or of the nearest thing around it; 0 for none."""
        if self._places is None:
            self.data  # noqa: B018 — reads the file
            self._places = places(self._text)
        return line_of(self._places, field)

    def where(self, field: str) -> str:
        """`config.yaml line 12`, for people."""
        line = self.line(field)
        return f"{self.path.name} line {line}" if line else self.path.name

    def error(self, field: str, found: str, expected: str, driver: str = "") -> ConfigurationError:
        """What is wrong at `field` of this file."""
        line = self.line(field)
        place = f"{self.path}:{line}" if line else str(self.path)
        return ConfigurationError(
            f"{place}: {field or 'the whole file'}: found {found}; {expected}",
            driver_name=driver,
            context={"file": str(self.path), "line": line, "field": field, "found": found, "expected": expected},
            remedy=f"Correct {field or 'it'} in {self.path}; `vfab config schema` prints what may be there.",
        )

    def reload(self) -> None:
        """Forget what was read."""
        self._data = self._places = None

    def is_readable_by_others(self) -> bool:
        """Whether other users of this machine may read the file."""
        try:
            return bool(self.path.stat().st_mode & 0o044)
        except OSError:
            return False

    def set(self, keys: Sequence[str], value: Any) -> None:
        """Write `value` below `keys`; comments, order and everything else stay.

        Raises ConfigurationError: the file is broken, or cannot be changed without touching something else; it was
        left as it was. Raises OSError: it cannot be written.
        """

        def change(document: Any) -> None:
            node = document
            for key in keys[:-1]:
                if node.get(key) is None:
                    node[key] = {}
                node = node[key]
            node[keys[-1]] = _quoted(value)

        def expect(data: dict[str, Any]) -> None:
            node = data
            for key in keys[:-1]:
                if node.get(key) is None:
                    node[key] = {}
                node = node[key]
            node[keys[-1]] = value

        self._change(keys, change, expect)

    def unset(self, keys: Sequence[str]) -> bool:
        """Remove what is below `keys`; whether anything was there. Raises as `set`."""
        if self.section(*keys) is None:
            return False

        def change(document: Any) -> None:
            node = document
            for key in keys[:-1]:
                node = node[key]
            del node[keys[-1]]

        self._change(keys, change, change)
        return True

    def _change(self, keys: Sequence[str], change: Callable[[Any], None], expect: Callable[[Any], None]) -> None:
        with self._locked():
            self.reload()
            self.section(*keys)  # everything on the way is a mapping, or is not there
            wanted = _copied(self.data)
            expect(wanted)
            text = _edited(self._text, change)
            try:
                same = parse_yaml(text) == wanted
            except YamlProblem:
                same = False
            if not same:
                raise self.error(".".join(keys), "a place that cannot be edited by program", "edit it by hand")
            self._replace(text)
            self.reload()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time: the lock is a file beside, because the file itself is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _replace(self, text: bytes) -> None:
        """Put `text` in the file's place in one step, with the old one's mode; a link stays, its target is replaced."""
        target = Path(os.path.realpath(self.path))
        try:
            mode = stat.S_IMODE(target.stat().st_mode)
        except FileNotFoundError:
            mode = 0o600
        temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
        try:
            with temporary.open("wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ConfigurationError(
                f"{self.path}: cannot be read: {error.strerror}",
                context={"file": str(self.path)},
                original_error=error,
                remedy=f"Let this user read {self.path}, or set VFAB_HOME to a folder of your own.",
            ) from error

    def _parsed(self, text: bytes) -> dict[str, Any]:
        try:
            data = parse_yaml(text)
        except YamlProblem as problem:
            place = f"{self.path}:{problem.line}" if problem.line else str(self.path)
            raise ConfigurationError(
                f"{place}: found {problem.found}; {problem.expected}",
                context={"file": str(self.path), "line": problem.line, "found": problem.found},
                remedy=f"Correct line {problem.line} of {self.path}; `vfab config check` looks again.",
            ) from problem
        if data is None:
            return {}
        if not isinstance(data, dict):
            raise ConfigurationError(
                f"{self.path}: found a {type(data).__name__}; a mapping of sections was expected",
                context={"file": str(self.path), "line": 1},
                remedy="Write sections, for example: device: {axidraw: {port: /dev/ttyACM0}}",
            )
        return data


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _edited(text: bytes, change: Callable[[Any], None]) -> bytes:
    """`text` after `change`, with its comments, by ruamel.yaml (imported here: only a change needs it)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100_000
    document = yaml.load(text.decode("utf-8"))
    if document is None:  # empty, or nothing but comments, which ruamel would drop
        out = io.BytesIO()
        document = CommentedMap()
        change(document)
        yaml.dump(document, out)
        return text + (b"" if not text or text.endswith(b"\n") else b"\n") + out.getvalue()
    change(document)
    out = io.BytesIO()
    yaml.dump(document, out)
    return out.getvalue()


def _quoted(value: Any) -> Any:
    """`value` for ruamel.yaml, which writes YAML 1.2: texts that 1.1 reads otherwise (`yes`, `0403`) are quoted."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    return [_quoted(item) for item in value] if isinstance(value, list) else value
