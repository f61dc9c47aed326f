"""The child process that lists VISA resources: `python -m vfab.kernel.finders.visa_list @py here|network`."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Print `{"resources", "problems"}` as one line of JSON."""
    library, where = arguments
    import pyvisa

    warnings.simplefilter("ignore")
    manager = pyvisa.ResourceManager(library)
    resources: list[str] = []
    problems: list[str] = []
    if library == "@py" and where != "network":
        for (kind, name), session in _local_sessions():
            try:
                resources += session.list_resources()
            except Exception as error:  # one kind of interface that cannot be listed hides no other
                problems.append(f"{kind.name} {name}: {error}")
    else:
        resources += manager.list_resources("?*")
    print(json.dumps({"resources": sorted(set(resources)), "problems": problems}))
    return 0


def _local_sessions() -> list[tuple[tuple[Any, str], Any]]:
    """pyvisa-py's ways to instruments that are plugged in here; those over a network broadcast when they list."""
    from pyvisa_py.sessions import Session  # type: ignore[import-untyped]

    remote = {"tcpip", "vicp"}
    return [(key, kind) for key, kind in Session.iter_valid_session_classes() if key[0].name not in remote]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
