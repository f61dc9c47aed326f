"""Makes and keeps `.venv`: `python3 scripts/setup.py runtime [dev] [devices] [bench]`.

Standard library only, because it runs before anything is installed. Does nothing, quickly, when nothing changed: what
is installed is remembered in `.venv/.vfab-installed.json` as digests of the requirement files. A run that is
interrupted leaves a mark there, and the next one installs afresh. One run at a time: the others wait.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMP = VENV / ".vfab-installed.json"
SETS = ("runtime", "dev", "devices", "bench")


def say(text: str) -> None:
    print(f"vfab: {text}", flush=True)


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run a command to its end; one that fails ends this program with a sentence, not a traceback."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=False)
    if done.returncode:
        shown = " ".join(str(part) for part in command)
        sys.exit(f"vfab: this command failed with exit code {done.returncode}; its output is above: {shown}")


# ---- the virtual environment


def read_cfg() -> dict[str, str]:
    """`pyvenv.cfg` as a dict; empty when there is none."""
    try:
        lines = (VENV / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def base_python() -> str:
    """The interpreter behind this one, when this one belongs to a virtual environment."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def venv_fault(asked: bool) -> str:
    """Why `.venv` cannot be used as it is; "" when it can. `asked`: the user named this interpreter."""
    cfg = read_cfg()
    if not cfg:
        return "is not a finished virtual environment"
    if not cfg.get("command", "").endswith(str(VENV)):
        return "was moved here from elsewhere, or was made by another tool"
    made_by, here = cfg.get("executable", ""), os.path.realpath(sys.executable)
    if asked and made_by != here:
        return f"was made by {made_by}, not by {here}"
    if not runs(PYTHON):
        return f"has a Python that no longer runs ({made_by})"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if made_by == here and not cfg.get("version", "").startswith(f"{version}."):
        return f"was made for Python {cfg.get('version')}, which is now {version}"
    if not (VENV / "lib" / f"python{version}" / "site-packages").is_dir() and made_by == here:
        return "is not finished"
    if not UV.exists() and not (VENV / "bin" / "pip").exists() and importlib.util.find_spec("ensurepip"):
        return "was not finished"
    return ""


def runs(python: Path) -> bool:
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def ensure_venv_module() -> None:
    """Debian ships Python without `ensurepip`: install what is missing if that is allowed, or say what does."""
    if importlib.util.find_spec("ensurepip") or has_pip():
        return
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if not shutil.which("apt-get"):
        sys.exit(f"vfab: {sys.executable} has neither ensurepip nor pip; install your system's package for venv.")
    if os.geteuid() != 0:
        sys.exit(f"vfab: {sys.executable} cannot make virtual environments yet. Run: sudo apt-get install {package}")
    from debian import apt_install

    say(f"installing the Debian package {package}, which {sys.executable} needs to make a virtual environment")
    if problem := apt_install(package):
        sys.exit(f"vfab: {package} could not be installed: {problem}")
    importlib.invalidate_caches()


def make_venv(asked: bool) -> None:
    """`.venv` with uv in it, made afresh when the present one is unusable."""
    fault = venv_fault(asked)
    if fault:
        if VENV.exists():
            say(f".venv {fault}: making it again")
            shutil.rmtree(VENV)
        ensure_venv_module()
        say(f"making .venv with Python {sys.version.split()[0]} ({base_python()})")
        own_pip = [] if importlib.util.find_spec("ensurepip") else ["--without-pip"]
        run(base_python(), "-m", "venv", *own_pip, VENV)


def install_uv() -> None:
    """uv and the build tools, by pip, hashes checked."""
    pip: list[str | Path] = [PYTHON, "-m", "pip"]
    if not (VENV / "bin" / "pip").exists():
        pip = [base_python(), "-m", "pip", "--python", PYTHON]
    say("installing uv")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    run(*pip, *quiet, "install", "--require-hashes", "-r", "requirements/uv.txt")


# ---- what is in it


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def wanted(sets: list[str]) -> dict[str, str]:
    """Name -> digest of all that the sets stand for, in the order of installation."""
    files = {name: digest((ROOT / "requirements" / f"{name}.txt").read_bytes()) for name in ["uv", *sets]}
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    described = json.dumps([project["project"], project["build-system"], project["tool"]["hatch"]], sort_keys=True)
    version = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_bytes()
    return {**files, "project": digest(described.encode(), version)}


def read_stamp() -> dict[str, Any]:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_stamp(stamp: Mapping[str, Any]) -> None:
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    fresh.replace(STAMP)


def uv_environment() -> dict[str, str]:
    """The environment for uv: the package index and the certificates that pip is set to, which uv does not read."""
    env = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    if not sys.stderr.isatty():
        env["UV_NO_PROGRESS"] = "1"
    if not (VENV / "bin" / "pip").exists():
        return env
    command: list[str | Path] = [PYTHON, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        value = quoted.strip("'\"")
        if key.endswith(".index-url") and "UV_DEFAULT_INDEX" not in os.environ and "UV_INDEX_URL" not in os.environ:
            env["UV_DEFAULT_INDEX"] = value
        elif key.endswith(".cert") and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(os.environ):
            env["SSL_CERT_FILE"] = value
    return env


def compile_bytecode(*folders: Path) -> None:
    """Compile what is not compiled yet, other people's tests left out.

    uv does not, and neither does Python where PYTHONDONTWRITEBYTECODE is set, nor a confined host: each of their starts
    would compile all that it imports, which takes longer than everything else that it does.
    """
    command: list[str | Path] = [
        PYTHON,
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "-x",
        r"site-packages[/\\].*[/\\]tests?[/\\]",
        *folders,
    ]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # some ship files for other versions of Python


def install(sets: list[str]) -> None:
    """Bring `.venv` to what the requirement files say; what is already there costs nothing."""
    target, stamp = wanted(sets), read_stamp()
    missing = [name for name, value in target.items() if stamp.get(name) != value]
    if not UV.exists() and "uv" not in missing:
        missing.insert(0, "uv")
    if not (VENV / "bin" / "vfab").exists() and "project" not in missing:
        missing.append("project")
    if not missing:
        return
    again = ["--reinstall"] if stamp.get("interrupted") else []
    write_stamp({**stamp, "interrupted": True})
    if "uv" in missing:
        install_uv()
    env = uv_environment()
    pip: list[str | Path] = [UV, "pip", "install", "--python", PYTHON]
    files = [name for name in missing if name in SETS]
    if files:
        say(f"installing what {' and '.join(files)} needs" if len(files) == 1 else f"installing {', '.join(files)}")
        chosen = [part for name in files for part in ("-r", f"requirements/{name}.txt")]
        run(*pip, "--quiet", "--require-hashes", *again, *chosen, env=env)
    if "project" in missing:
        run(*pip, "--quiet", "--no-deps", "--no-build-isolation", "--reinstall-package", "vfab", "-e", ".", env=env)
    compile_bytecode(*VENV.glob("lib/python*/site-packages"))
    stamp.pop("interrupted", None)
    write_stamp({**stamp, **target})
    say("installed: .venv/bin/vfab")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--asked", action="store_true", help="the user named this interpreter")
    options = parser.parse_args()
    lock = os.open(ROOT / "requirements", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    make_venv(options.asked)
    install(options.sets)
    compile_bytecode(ROOT / "src" / "vfab")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nvfab: interrupted; run the same command again to go on.")
