"""The lab: Debian's kernel in QEMU over this machine's programs, with real device nodes; `tests/lab` is run inside.

    make lab                                  # all of tests/lab
    make lab ARGS='-k axidraw'                # pytest's arguments
    .venv/bin/python scripts/lab_run.py --command 'modprobe vivid; ls -l /dev/video*'

`--keep DIR` keeps results and logs there (default: lab-out), `--time-limit-s` ends the guest, `--newest` looks for a
newer kernel than the cached one, `--accel kvm` is faster where the processor lends itself (default: tcg, everywhere
the same). Nothing is needed of the machine but Debian's packages qemu-system-x86, busybox-static and kmod.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab_boot import GUEST_RESULTS, make_initrd, qemu_command, write_end
from lab_kernel import Unavailable, find_kernel

__all__ = ["TIME_LIMIT_S", "Outcome", "Unavailable", "compile_here", "missing", "run", "test_command"]

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT_S = 1500.0
LOGGED_LINES = 40
_OWN = ("tests/lab", "--confcutdir=tests/lab", "-p", "pytest_timeout", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Outcome:
    """How a boot of the lab ended."""

    code: int | None
    """The job's exit code; None: the guest did not come to its end."""
    problem: str
    """Why it did not, with the console's last lines; "" when it did."""
    results: Path
    """The folder with `junit.xml`, `output.log`, `console.log` and `dmesg.log`."""


def missing(*, newest: bool = False) -> str:
    """Why there can be no lab on this machine; "" when there can. Downloads the kernel if there is none yet."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            kernel = find_kernel(newest=newest)
            make_initrd(kernel, Path(folder) / "initrd")
            qemu_command(kernel, Path(folder), Path(folder))
    except Unavailable as reason:
        return str(reason)
    return ""


def compile_here() -> None:
    """Have Python and pytest compile what the guest will run: here it takes a tenth of the time that it takes there."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "VFAB_LAB": "1"}
    for command in (["compileall", "-q", "src/vfab", "tests"], ["pytest", *_OWN, "--collect-only", "-q"]):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=env, check=False, stdout=subprocess.DEVNULL)


def test_command(arguments: Sequence[str]) -> str:
    """The shell command that runs `tests/lab` in the guest, with no more of pytest and the suite than that needs."""
    python = shlex.quote(str(Path(sys.executable)))
    own = [*_OWN, "-v", "--durations=8", "-o", "timeout=300", f"--junitxml={GUEST_RESULTS}/junit.xml"]
    return f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {python} -m pytest {shlex.join([*own, *arguments])}"


def run(
    command: str,
    results: Path,
    *,
    time_limit_s: float = TIME_LIMIT_S,
    accel: str = "tcg",
    tell: Callable[[str], object] = lambda line: None,
) -> Outcome:
    """Boot, run the shell command in the checkout, power off.

    Args:
        command: for `/bin/sh`, as root, with the checkout as folder.
        results: a folder that the guest writes to, at `/vfab-lab`; what lies there of an earlier run is removed.
        time_limit_s: the guest is ended after so many seconds.
        accel: QEMU's accelerator, tcg or kvm.
        tell: gets each line that the command prints.

    Raises Unavailable: QEMU, busybox or the kernel is missing.
    """
    kernel = find_kernel()
    results = results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    for name in ("exit", "junit.xml", "output.log", "console.log", "dmesg.log"):
        (results / name).unlink(missing_ok=True)
    (results / "job.sh").write_text(_job(command), encoding="utf-8")
    write_end(results)
    with tempfile.TemporaryDirectory(prefix="vfab-lab-") as folder:
        initrd = Path(folder) / "initrd"
        make_initrd(kernel, initrd)
        late, said = _boot(qemu_command(kernel, initrd, results, accel=accel), results, time_limit_s, tell)
    ended = results / "exit"
    if ended.is_file() and ended.read_text(encoding="ascii").strip():
        return Outcome(int(ended.read_text(encoding="ascii")), "", results)
    why = f"did not end within {time_limit_s:g} s and was ended" if late else "ended before its job did"
    return Outcome(None, f"The lab {why}.\n{_last_lines(results, said)}", results)


def _job(command: str) -> str:
    """The script that the guest runs: an environment of its own, then the command."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/run/home",
        "TMPDIR": "/run/tmp",
        "LANG": "C.UTF-8",
        "VFAB_LAB": "1",
        "NO_COLOR": "1",
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(
        [
            "unset VFAB_HOME XDG_CACHE_HOME",
            *lines,
            'mkdir -p "$HOME" "$TMPDIR"',
            f"cd {shlex.quote(str(ROOT))}",
            command,
            "",
        ]
    )


def _boot(
    command: list[str], results: Path, time_limit_s: float, tell: Callable[[str], object]
) -> tuple[bool, list[str]]:
    """Run QEMU to its end; whether it was ended by the time limit, and what it said itself."""
    late = threading.Event()
    with (
        (results / "output.log").open("w", encoding="utf-8") as log,
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, text=True, errors="replace"
        ) as process,
    ):

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(time_limit_s, end)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                tell(line.rstrip())
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
            process.wait()
        complaints.seek(0)
        return late.is_set(), complaints.read().splitlines()


def _last_lines(results: Path, said: list[str]) -> str:
    parts = [("QEMU", said[-LOGGED_LINES:])]
    for name in ("console.log", "output.log"):
        path = results / name
        if path.is_file():
            parts.append((name, path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOGGED_LINES:]))
    return "\n".join(f"--- {name}, last lines ---\n" + "\n".join(lines) for name, lines in parts if lines)


def main(arguments: Sequence[str]) -> int:
    """Run the lab as the command line asks; pytest's exit code, 3 when there can be no lab here."""
    parser = argparse.ArgumentParser(prog="lab", description="Run tests/lab, or a command, in the lab.")
    parser.add_argument("--keep", type=Path, default=ROOT / "lab-out", help="folder for results and logs")
    parser.add_argument("--time-limit-s", type=float, default=TIME_LIMIT_S)
    parser.add_argument("--accel", choices=["tcg", "kvm"], default=os.environ.get("VFAB_LAB_ACCEL", "tcg"))
    parser.add_argument("--newest", action="store_true", help="look for a newer kernel")
    parser.add_argument("--command", help="run this instead of the tests")
    options, rest = parser.parse_known_args(list(arguments))
    if why := missing(newest=options.newest):
        print(f"vfab: no lab on this machine: {why}", file=sys.stderr)
        return 3
    if not options.command:
        compile_here()
    outcome = run(
        options.command or test_command(rest),
        options.keep,
        time_limit_s=options.time_limit_s,
        accel=options.accel,
        tell=lambda line: print(line, flush=True),
    )
    if outcome.problem:
        print(f"vfab: {outcome.problem}", file=sys.stderr)
    return 1 if outcome.code is None else outcome.code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
