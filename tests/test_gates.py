"""What the repository promises of itself: locks, imports, and a coverage gate that cannot be passed by accident."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from room_gates import Tally, tally_room

import vfab

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "vfab"
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
# What the sdk may import, besides the standard library: at once, and only inside the function that uses it.
AT_ONCE_IN_SDK = {"vfab", "msgspec"}
LAZY_IN_SDK = {
    "PIL",
    "cachetools",
    "cssselect2",
    "numpy",
    "packaging",
    "pyvisa",
    "scipy",
    "shapely",
    "smbus2",
    "svgelements",
    "tenacity",
    "tinycss2",
    "vpype",
    "vpype_cli",
}


def _requirements(lock: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock file with its hashes."""
    joined = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in joined.splitlines():
        if line and not line.startswith(("#", " ")):
            requirement, *hashes = re.split(r"\s+--hash=", line.strip())
            yield Requirement(requirement), hashes


def _project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert isinstance(project, dict)
    return project


# ---- locks


def test_every_lock_file_is_there() -> None:
    assert {lock.stem for lock in LOCKS} == {"runtime", "dev", "devices", "bench", "uv"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_requirement_has_one_version_and_hashes(lock: Path) -> None:
    entries = list(_requirements(lock))
    assert entries
    for requirement, hashes in entries:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_lock_file_carries_an_address_or_a_path_of_the_machine_that_made_it(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|index-url|find-links|trusted-host|(^|\s)/\w", text)


def test_no_node_lock_file_carries_an_address_of_a_package() -> None:
    for lock in (ROOT / "tests").rglob("package-lock.json"):
        if "node_modules" not in lock.parts:
            assert '"resolved"' not in lock.read_text(encoding="utf-8"), lock


def test_all_lock_files_agree_on_the_version_of_a_package() -> None:
    seen: dict[tuple[str, str], str] = {}
    for lock in LOCKS:
        for requirement, _ in _requirements(lock):
            key = (requirement.name, str(requirement.marker))
            assert seen.setdefault(key, str(requirement.specifier)) == str(requirement.specifier), (lock.name, key)


def _of_extra(name: str) -> Iterator[str]:
    """What an extra asks for; an extra of extras, `vfab[can,mqtt]`, asks for what those do."""
    for text in _project()["optional-dependencies"].get(name, []):  # type: ignore[attr-defined]
        wanted = Requirement(text)
        if wanted.name == "vfab":
            for inner in sorted(wanted.extras):
                yield from _of_extra(inner)
        else:
            yield text


EXTRAS = {"runtime": (), "dev": ("dev",), "devices": ("devices", "peers"), "bench": ("bench",)}
"""Lock files, each with the extras that it holds beside what vfab itself needs."""


@pytest.mark.parametrize("name", EXTRAS)
def test_the_lock_files_fulfil_what_pyproject_asks_for(name: str) -> None:
    asked = list(_project()["dependencies"])  # type: ignore[call-overload]
    asked += [text for extra in EXTRAS[name] for text in _of_extra(extra)]
    locked: dict[str, list[Version]] = {}
    for requirement, _ in _requirements(ROOT / "requirements" / f"{name}.txt"):
        version = Version(str(requirement.specifier).removeprefix("=="))
        locked.setdefault(_normal(requirement.name), []).append(version)
    for text in asked:
        wanted = Requirement(text)
        versions = locked.get(_normal(wanted.name), [])
        assert versions, f"{text} is not locked: run `make lock`"
        assert all(version in wanted.specifier for version in versions), f"{text}: locked {versions}: run `make lock`"


def test_what_drivers_and_tests_need_is_not_installed_with_vfab() -> None:
    """`make install` stays small, and free of the peers' licences."""
    own = {_normal(Requirement(text).name) for text in _project()["dependencies"]}  # type: ignore[attr-defined]
    others = {
        _normal(Requirement(text).name) for extra in ("devices", "peers", "bench", "dev") for text in _of_extra(extra)
    }
    locked = {_normal(requirement.name) for requirement, _ in _requirements(ROOT / "requirements" / "runtime.txt")}
    assert others - own, "the extras were not read"
    assert not (others - own) & locked


def test_what_the_built_in_drivers_need_is_in_the_extra_devices() -> None:
    own = [Requirement(text) for text in _project()["dependencies"]]  # type: ignore[attr-defined]
    offered = {_normal(r.name): r for r in [*own, *map(Requirement, _of_extra("devices"))]}
    for manifest in sorted((ROOT / "src/vfab/drivers").glob("*/plugin.yaml")):
        for text in yaml.safe_load(manifest.read_text(encoding="utf-8")).get("dependencies", []):
            wanted = Requirement(text)
            assert _normal(wanted.name) in offered, f"{manifest}: {text}"
            assert offered[_normal(wanted.name)].specifier == wanted.specifier, f"{manifest}: {text}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_version_is_a_proper_one() -> None:
    assert Version(vfab.__version__).public == vfab.__version__


# ---- what a room may import, beyond what import-linter sees


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(top-level module, whether it is imported only when a function runs) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) or _is_for_types(scope)
        for node in ast.walk(scope)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], id(node) in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], id(node) in lazy


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def test_the_sdk_imports_nothing_but_the_standard_library_and_msgspec_until_a_function_needs_it() -> None:
    for path in (SRC / "sdk").rglob("*.py"):
        for module, lazy in _imports(path):
            allowed = AT_ONCE_IN_SDK | (LAZY_IN_SDK if lazy else set())
            assert module in allowed or module in sys.stdlib_module_names, f"{path.name} imports {module}"


@pytest.mark.parametrize("room", ["model", "protocols"])
def test_the_pure_rooms_import_nothing_that_does_input_or_output_or_tells_the_time(room: str) -> None:
    impure = {
        "asyncio",
        "socket",
        "select",
        "selectors",
        "subprocess",
        "threading",
        "time",
        "serial",
        "multiprocessing",
    }
    for path in (SRC / room).rglob("*.py"):
        for module, _ in _imports(path):
            assert module not in impure, f"{room}/{path.name} imports {module}"


# ---- the coverage gate


def _entry(covered: int, total: int, covered_branches: int, branches: int) -> dict[str, object]:
    return {
        "summary": {
            "covered_lines": covered,
            "num_statements": total,
            "covered_branches": covered_branches,
            "num_branches": branches,
            "missing_branches": branches - covered_branches,
        }
    }


def _room(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_room_passes_at_its_gate(tmp_path: Path) -> None:
    folder = _room(tmp_path, a="x = 1\n")
    tally = tally_room("model", folder, {folder / "a.py": _entry(95, 100, 19, 20)})
    assert tally.passes and tally.percents == (95.0, 95.0)
    assert tally.told().endswith("ok")


def test_many_covered_lines_do_not_hide_branches_that_no_test_takes(tmp_path: Path) -> None:
    folder = _room(tmp_path, a="x = 1\n")
    tally = tally_room("model", folder, {folder / "a.py": _entry(1000, 1000, 18, 20)})
    assert not tally.passes
    assert "BELOW 95 %" in tally.told() and "a.py" in tally.told()


def test_a_file_that_no_test_imports_fails_its_room(tmp_path: Path) -> None:
    folder = _room(tmp_path, a="x = 1\n", b="y = 1\n", empty="")
    tally = tally_room("model", folder, {folder / "a.py": _entry(10, 10, 2, 2)})
    assert tally.unmeasured == ("b.py",)
    assert not tally.passes and "b.py" in tally.told()


def test_a_room_without_branches_is_judged_by_its_lines() -> None:
    assert Tally("model", (10, 10), (0, 0)).passes


CHILD = """\
    import os

    def answer(flag):
        if flag:
            return "yes"
        return "no"

    def fork():
        pid = os.fork()
        if pid == 0:  # pragma: no cover - a frame that was live at the fork is not traced, what it calls is
            answer(True)
            os._exit(0)
        os.waitpid(pid, 0)
        answer(False)

    if __name__ == "__main__":
        fork()
    """
PROBE = """\
    import subprocess, sys, vfab.host.child
    def test_child(tmp_path):
        subprocess.run([sys.executable, "-m", "vfab.host.child"], cwd=tmp_path, check=True)
    """


def _run_gates(root: Path, probe: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the gates on a small project that has this repository's settings."""
    host = root / "src" / "vfab" / "host"
    host.mkdir(parents=True)
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (host.parent / "__init__.py").write_text("", encoding="utf-8")
    (host / "__init__.py").write_text("", encoding="utf-8")
    (host / "child.py").write_text(textwrap.dedent(CHILD), encoding="utf-8")
    (root / "test_probe.py").write_text(textwrap.dedent(probe), encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    env["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(ROOT / "scripts")])
    options = ["-q", "-p", "room_gates", "--cov", "--cov-report=", "--room-gates", "test_probe.py"]
    command = [sys.executable, "-m", "pytest", *options]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def test_the_gate_counts_what_a_started_process_and_its_fork_ran(tmp_path: Path) -> None:
    done = _run_gates(tmp_path, PROBE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"host +lines 100\.00 % +branches 100\.00 % +ok", done.stdout), done.stdout


def test_the_run_fails_when_a_room_is_below_its_gate_though_all_tests_pass(tmp_path: Path) -> None:
    done = _run_gates(tmp_path, "import vfab.host\ndef test_nothing(): pass\n")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"host .*BELOW \d+ %", done.stdout), done.stdout
    assert re.search(r"1 passed, 1 error in [\d.]+s\s*$", done.stdout), done.stdout


def test_tests_of_one_group_are_run_by_one_worker(tmp_path: Path) -> None:
    """Releases of pytest and pytest-xdist have been apart in this: every worker booted the lab, without a word."""
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import pytest

            @pytest.mark.xdist_group("lab")
            @pytest.mark.parametrize("number", range(6))
            def test_one(number, worker_id):
                with open("workers", "a") as file:
                    file.write(worker_id + "\\n")
            """
        )
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COVERAGE"))}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=env)
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 6 and len(set(workers)) == 1
