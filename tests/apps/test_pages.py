"""README.md, docs/streams.md and docs/hot-swap.md: every listing runs as it is written, in a home of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apps.programs import SMALL, Vfab
from vfab.sdk.testing import soon

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/streams.md", "docs/hot-swap.md")
}
LISTINGS = {
    f"{page}-{number}": text
    for page, content in PAGES.items()
    for number, text in enumerate(re.findall(r"^```sh run\n(.*?)^```$", content, re.MULTILINE | re.DOTALL))
}
SIMULATOR = re.compile(r"^vfab sim run (.*?)&", re.MULTILINE)
PRELUDE = """
SIMULATED=
began() { vfab sim run "$@" > ".$1.json" & SIMULATED="$SIMULATED $!"; until [ -s ".$1.json" ]; do sleep 0.05; done; }
trap 'vfab down > down.txt 2>&1; for pid in $SIMULATED; do kill $pid; wait $pid; done' EXIT
"""
"""A simulator is waited for as people wait, until it has said its address; and everything is ended."""


def lay_out(page: str, home: Path) -> None:
    """Write the files of a page."""
    found = re.findall(r"^```(\w+) file=(\S+)\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)
    for _, name, text in found:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


def processes_at(home: Path) -> list[str]:
    """Processes that were started with this HOME and still live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.fixture
def env(vfab: Vfab) -> dict[str, str]:
    """As a newcomer's: ~/.vfab, and the programs of this environment."""
    assert str(vfab.home) == vfab.env["HOME"]
    mine = {key: value for key, value in vfab.env.items() if key != "VFAB_HOME"}
    return mine | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_runs_as_it_stands(vfab: Vfab, env: dict[str, str], name: str) -> None:
    lay_out(name.rpartition("-")[0], vfab.home)
    vfab.file(SMALL)
    script = PRELUDE + SIMULATOR.sub(r"began \1", LISTINGS[name])
    with (vfab.home / "said.txt").open("w+") as said:  # a pipe would be held open by whatever is left behind
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=vfab.home,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            timeout=180,
            check=False,
        )
        said.seek(0)
        text = said.read()
    assert done.returncode == 0, text
    assert "Traceback" not in text
    soon(lambda: not processes_at(vfab.home))


@pytest.mark.parametrize(("page", "file"), [("docs/streams.md", "noise/test_driver.py")])
def test_a_test_of_the_page_passes(vfab: Vfab, env: dict[str, str], page: str, file: str) -> None:
    lay_out(page, vfab.home)
    (vfab.home / Path(file).parent / "__init__.py").touch()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(command, cwd=vfab.home, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout


def test_every_page_that_is_linked_is_there() -> None:
    for page, content in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", content):
            if "://" not in target:
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_every_driver_has_its_page_and_the_index_names_it() -> None:
    index = (ROOT / "docs/drivers/README.md").read_text(encoding="utf-8")
    folders = {path.parent.name.replace("_", "-") for path in (ROOT / "src/vfab/drivers").glob("*/plugin.yaml")}
    assert set(re.findall(r"\]\(([a-z0-9-]+)\.md\)", index)) == folders
    assert {path.stem for path in (ROOT / "docs/drivers").glob("*.md")} - {"README"} == folders
