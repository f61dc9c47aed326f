"""Which plugins a file holds: a look at its bytes first, then its syntax tree, one shape after the other."""

from __future__ import annotations

import re
from pathlib import PurePath

from vfab.model.errors import BadManifest
from vfab.model.manifest import Manifest

__all__ = ["Found", "looks_like_plugin", "read_plugins"]

_WORDS = re.compile(rb"\bDriverPlugin\b|@[\w.]*\bdriver_plugin\b|\bBaseDeviceDriver\b|^def create_\w+_manager\b", re.M)
_JS_WORDS = re.compile(rb"\bbase-driver\b")


def looks_like_plugin(path: str, data: bytes) -> bool:
    """Whether the file may hold a plugin, by its name and a look at its text. Cheap, and never wrong with no."""
    name = PurePath(path).name
    if name.endswith(".py"):
        return name.startswith("drv_") or _WORDS.search(data) is not None
    return _JS_WORDS.search(data) is not None


class Found(list[Manifest]):
    """The plugins of a file.

    Attributes:
        read_too: files beside it that were read for them: who keeps the result must know when these change.
    """

    read_too: tuple[str, ...] = ()


def read_plugins(path: str, data: bytes) -> list[Manifest]:
    """The manifests of the plugins in the file `path` with the bytes `data`; nothing of it is run.

    Raises BadManifest: it looks like a plugin, and is no proper file of its language, or breaks a rule of its shape.
    """
    if not looks_like_plugin(path, data):
        return []
    if not path.endswith(".py"):
        from vfab.dialects import js_driver

        return js_driver.recognise(path, data.decode("utf-8", "replace"))
    from vfab.dialects import driver_plugin, drv_module, function_contract, instrument_plugin
    from vfab.dialects.neighbours import take_in_neighbours
    from vfab.dialects.reading import Source

    try:
        source = Source.parse(path, data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _not_python(path, error) from error
    found = Found()
    found.read_too = take_in_neighbours(source)
    for shape in (drv_module, instrument_plugin, driver_plugin, function_contract):
        found += shape.recognise(source)
    return found


def _not_python(path: str, error: BaseException) -> BadManifest:
    line = getattr(error, "lineno", None) or 0
    why = getattr(error, "msg", None) or str(error) or type(error).__name__
    where = f"{path}:{line}" if line else path
    return BadManifest(
        f"{where}: it looks like a plugin and is not Python: {why}",
        context={"file": path, "line": line, "field": "", "found": why, "expected": "Python source"},
        remedy=f"Correct line {line} of {path}." if line else f"Correct {path}.",
    )
