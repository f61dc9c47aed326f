"""An init for hosts whose drivers may start programs.

Number 1 of a PID namespace gets every orphan in it, and has to wait for them; but a host that did would take from its
driver, and from the libraries of that, what they want to wait for themselves. So such a host is number 2, and number 1
does nothing but this. To vfab it is the host: when it is killed the kernel ends all that is in the namespace, and when
the host ends it ends likewise. All other hosts do without: it costs 1 MiB.
"""

from __future__ import annotations

import os

from vfab.host.confine.birth import DIED_BY
from vfab.host.confine.environment import close_all_but
from vfab.host.confine.privileges import drop_capabilities
from vfab.host.system import name_process

__all__ = ["beside_an_init"]


def beside_an_init() -> None:
    """Fork, and return in the child, which is to be the host; this process is its init until it has ended.

    Raises OSError: there can be no more processes.
    """
    host = os.fork()
    if host == 0:
        return
    try:
        close_all_but({0, 1, 2})
        name_process("vfab:init")
        drop_capabilities()
        ended, status = 0, 0
        while ended != host:
            ended, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else DIED_BY - code)
    finally:
        os._exit(1)  # and the host with it
