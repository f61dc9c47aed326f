"""`vfab plugin new`: a native plugin that works at once, with its simulator, tests and README."""

from __future__ import annotations

import getpass
import json
import re
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple

from vfab.model.errors import ConfigurationError

__all__ = ["CATEGORIES", "new_plugin"]

CATEGORIES = ("plotter", "camera", "sensor", "instrument", "communication")
"""What can be begun."""

_FILES = ("plugin.yaml", "driver.py", "simulator.py", "test_driver.py", "quality.yaml", "README.md")
_PARTS = ("imports", "life", "commands", "manifest", "settings", "device", "tests")


class _Begun(NamedTuple):
    """What a category's plugin is at first.

    Attributes:
        title: its device, for people.
        base: the contract that its driver derives from, a name of `vfab.sdk`.
        example: what is done with it, as arguments of `vfab`.
        notes: what the contract does, and what it wants of the driver.
    """

    title: str
    base: str
    example: str
    notes: str


_BEGUN = {
    "plotter": _Begun(
        "Pen plotter",
        "PlotterDriver",
        "plot drawing.svg --driver $name",
        "The driver is a `vfab.sdk.PlotterDriver`: `vfab plot`, pause, resume and reports work. It gives: "
        "`machine` (reach and limits), `stream` (executes a plan), `lift`, `lower`, `where`, `idle`, `keeps_position`.",
    ),
    "camera": _Begun(
        "Serial camera",
        "CameraDriver",
        "capture -o now.png --driver $name",
        "The driver is a `vfab.sdk.CameraDriver`: `vfab capture`, `vfab stream`, and finding a lost camera again work. "
        "It gives: `open_source` (where pictures come from), `get_device_info`, and what the camera can be told "
        "(`set_exposure`, `set_resolution`, `set_framerate`).",
    ),
    "sensor": _Begun(
        "Serial thermometer",
        "SensorDriver",
        "driver run $name read",
        "The driver is a `vfab.sdk.SensorDriver`: readings with units and uncertainties, calibration, thresholds, "
        "interrupts and streams work. It gives: `quantities` (what is measured), `open_sensor`, `close_sensor`, "
        "`sensor_open`, `take_sample`.",
    ),
    "instrument": _Begun(
        "Voltage source and meter",
        "Instrument",
        "measure sweep points=5 -o sweep.csv --driver $name",
        "The driver is a `vfab.sdk.Instrument`: `vfab measure`, its progress, abort and files work. It gives: "
        "`read_identity`, `perform` (measures, point by point), `make_safe`, `read_status`. A method of "
        "`supported_methods` is described by the command of its name in `plugin.yaml`. An instrument that speaks SCPI "
        "begins better from `vfab.sdk.ScpiInstrument`.",
    ),
    "communication": _Begun(
        "Serial modem",
        "LinkDriver",
        "driver run $name query --command 'say hello'",
        "The driver is a `vfab.sdk.CommunicationDriver` over a link: questions and answers, what comes unasked, "
        "streams, statistics and connecting anew work. It gives: `link_settings`, `prepare_link` (what is spoken "
        "first), `is_answer` (which message answers a command), and commands of its own. A device that is no byte "
        "stream begins better from `CommunicationDriver` itself: `open_channel`, `receive_messages`, `send_message`, "
        "`close_channel`.",
    ),
}
_NO_SAFE_STOP = "{status: todo, why: 'if it can do harm, plugin.yaml must say what stops it'}"


def new_plugin(name: str, category: str, out: Path) -> Path:
    """Write the plugin `name` into a new folder of that name in `out`; the folder.

    Raises ConfigurationError: the name or the category is none, or the folder is there; nothing was written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a plugin",
            context={"field": "name", "found": name},
            remedy="Begin with a letter, then lower-case letters, digits, - and _, at most 63: acme-scale.",
        )
    if category not in CATEGORIES:
        raise ConfigurationError(
            f"{category!r} is no category",
            context={"field": "category", "found": category, "known": list(CATEGORIES)},
            remedy="Choose one of " + ", ".join(CATEGORIES) + ".",
        )
    folder = out.absolute() / name
    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(
            f"{folder} is there already; nothing was written",
            context={"folder": str(folder)},
            remedy="Choose another name, or another folder with --out.",
        )
    texts = _texts(name, category)
    folder.mkdir(parents=True)
    try:
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _texts(name: str, category: str) -> dict[str, str]:
    """The content of each file."""
    begun = _BEGUN[category]
    words = {
        "name": name,
        "title": begun.title,
        "category": category,
        "author": json.dumps(_user()),
        "class_name": "".join(part.capitalize() for part in re.split("[-_]", name)) + "DeviceDriver",
        "base": begun.base,
        "notes": begun.notes,
        "example": Template(begun.example).substitute(name=name),
    }
    root = files("vfab.apps") / "scaffold"
    for part in _PARTS:
        file = root / category / f"{part}.txt"
        words[part] = Template(file.read_text(encoding="utf-8")).substitute(words) if file.is_file() else ""
    asking = (root / "asking.txt").read_text(encoding="utf-8")
    words["asking"] = Template(asking).substitute(words) if "self._ask(" in words["commands"] + words["life"] else ""
    words.update({part: words[part].rstrip("\n") for part in ("manifest", "tests")})
    words["imports"] = words["imports"].rstrip("\n") + "\n"
    words["safe_stop"] = "{status: done}" if "safe_stop:" in words["manifest"] else _NO_SAFE_STOP
    streams = "start_streaming" in words["manifest"]
    words["streams"] = "{status: done}" if streams else "{status: todo, why: it has no stream yet}"
    words["device"] = words["device"].rstrip("\n") + "\n"
    made = {file: Template((root / f"{file}.txt").read_text(encoding="utf-8")).substitute(words) for file in _FILES}
    made["plugin.yaml"] += words["settings"]
    made["driver.py"] = made["driver.py"].rstrip("\n") + "\n"
    return made


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        return "A. Author"
