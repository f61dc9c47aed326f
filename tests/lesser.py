"""A child process that has less: rights that it may lose, and system calls that are not to be had."""

from __future__ import annotations

import os
import shlex
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from vfab.host.confine import seccomp
from vfab.host.confine.syscalls import MACHINE

EPERM, EAGAIN, ENOSYS = 1, 11, 38
LD, JEQ, RET = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a forked child: it may lose every right there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            answer: Any = {"got": work()}
        except BaseException:
            answer = {"failed": traceback.format_exc()}
        os.write(writer, msgspec.msgpack.encode(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = msgspec.msgpack.decode(file.read() or b"\x80")
    os.waitpid(pid, 0)
    assert "got" in said, said.get("failed", "it said nothing")
    return said["got"]


def python_without(folder: Path, *names: str) -> str:
    """A program in `folder` that runs as this Python does, without those system calls, as does all that it starts."""
    made = folder / "python-without"
    assert MACHINE is not None
    program, number, python = refusing(*names), MACHINE.numbers["seccomp"], sys.executable
    code = f"""
import ctypes, os, struct, sys
program = bytes.fromhex({program.hex()!r})
held, kernel = ctypes.create_string_buffer(program, len(program)), ctypes.CDLL(None)
assert kernel.prctl(38, 1, 0, 0, 0) == 0  # no_new_privs
whole = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
assert kernel.syscall(ctypes.c_long({number}), 1, 0, ctypes.c_char_p(whole)) == 0
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""  # nothing of vfab is imported: whoever starts a zygote waits for this, too
    made.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} -I -S -c {shlex.quote(code)} "$@"\n')
    made.chmod(0o755)
    return str(made)


def take_away(*names: str, number: int = ENOSYS) -> None:
    """Have the kernel answer `number` to those system calls, as an older one or a container does."""
    seccomp.no_new_privileges()
    seccomp.install(refusing(*names, number=number))


def refusing(*names: str, number: int = ENOSYS) -> bytes:
    """The filter that does so."""
    assert MACHINE is not None
    code = [(LD, 0, 0, 0)]
    for name in names:  # fork and vfork are not to be had on aarch64 anyway
        if name not in MACHINE.numbers:
            continue
        code += [(JEQ, 0, 1, MACHINE.numbers[name]), (RET, 0, 0, ERRNO | number)]
    code.append((RET, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in code)
