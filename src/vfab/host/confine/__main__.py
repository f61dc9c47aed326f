"""`python -m vfab.host.confine`: confine this process as a host would be, say how far that got, and end.

The HostSpec is read from standard input (msgpack), the answer is one line of JSON. That is how a level is shown before
the driver runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec

from vfab.host.confine.birth import Birth, die_by_signals, fork
from vfab.host.confine.cgroup import Cell, clean, own_group, prepare
from vfab.host.confine.itself import confine
from vfab.protocols.zygotewire import HostSpec


def main() -> int:
    """Try it."""
    spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=HostSpec)
    group: Path | None = None
    with contextlib.suppress(OSError):
        group = own_group()
    name = f"{os.getpid()}-probe"
    die_by_signals()
    cell = prepare(spec.manifest.runtime.limits, group, name)
    birth = fork(namespaces=spec.confinement.mode == "on" and spec.confinement.namespaces)
    if birth.pid == 0:
        _answer(spec, birth, cell)
    cell.close()
    os.waitpid(birth.pid, 0)
    if group is not None:
        clean(name, group)
    return 0


def _answer(spec: HostSpec, birth: Birth, cell: Cell) -> NoReturn:
    """In the forked child."""
    status = 1
    try:
        sys.stdout.buffer.write(msgspec.json.encode(confine(spec, birth, cell.entered()).reached) + b"\n")
        sys.stdout.buffer.flush()
        status = 0
    except BaseException:  # whoever asked shows the last line
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
