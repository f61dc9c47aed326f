"""docs/node.md: every listing runs as it is written, and every request that it names is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from apps.nodes import node_of
from apps.programs import SMALL, Vfab

PAGE = (Path(__file__).parents[2] / "docs" / "node.md").read_text(encoding="utf-8")
LISTINGS = re.findall(r"^```sh run\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(LISTINGS)))
def test_a_listing_of_the_page_runs(vfab: Vfab, number: int) -> None:
    if "curl" in LISTINGS[number] and subprocess.run(["which", "curl"], capture_output=True, check=False).returncode:
        pytest.skip("curl is not installed")
    vfab.file(SMALL)
    plotter = vfab.simulator("--speed", "instant").address if "$PLOTTER" in LISTINGS[number] else ""
    env = {**vfab.env, "PLOTTER": plotter, "PATH": f"{Path(vfab.program).parent}:{vfab.env['PATH']}"}
    command = ["sh", "-eux", "-c", LISTINGS[number]]
    done = subprocess.run(
        command,
        cwd=vfab.home,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    try:
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        vfab("down")


def test_every_request_that_the_page_names_is_there(vfab: Vfab) -> None:
    node = node_of(vfab)
    node.up()
    there = " ".join(node.get("/openapi.json")["paths"])
    for path in re.findall(r"/v1/[a-z/]+", PAGE):
        if path not in {"/v1/events/stream", "/v1/streams"}:  # WebSockets
            assert path.rstrip("/") in there, path
