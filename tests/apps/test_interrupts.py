"""Signals: the first ends an operation in good order, the second at once; parts of the progress display."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest

from apps.programs import Vfab, plugin, processes_of
from vfab.apps.cli.progress import ProgressView, duration
from vfab.apps.interrupts import Interrupted, Interrupts, run
from vfab.sdk.testing import soon

STUBBORN = """
import time
from pathlib import Path
from vfab.sdk import BaseDriver, command

class Driver(BaseDriver):
    @command
    def hello(self):
        Path(self.config["sign"]).touch()
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
"""
SETTINGS = "config_schema:\n  type: object\n  properties:\n    sign: {type: string, description: a file that is made}\n"


def test_the_second_signal_forces_the_end_and_no_process_stays(vfab: Vfab, tmp_path: Path) -> None:
    plugin(tmp_path / "plugins", "stubborn", STUBBORN, SETTINGS)
    vfab.env["VFAB_PLUGIN_PATH"] = str(tmp_path / "plugins")
    sign = tmp_path / "sign"
    vfab.env["VFAB_CONFINEMENT_FILES"] = f"write:{tmp_path}"
    process = vfab.start("driver", "run", "stubborn", "hello", "--sign", sign)
    soon(sign.exists)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode in {130, 143}, err
    soon(lambda: not processes_of(vfab.home / "home"), 15)


def test_one_signal_ends_a_driver_that_does_not_listen(vfab: Vfab, tmp_path: Path) -> None:
    plugin(tmp_path / "plugins", "stubborn", STUBBORN, SETTINGS)
    vfab.env["VFAB_PLUGIN_PATH"] = str(tmp_path / "plugins")
    sign = tmp_path / "sign"
    vfab.env["VFAB_CONFINEMENT_FILES"] = f"write:{tmp_path}"
    process = vfab.start("driver", "run", "stubborn", "hello", "--sign", sign, "--json")
    soon(sign.exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    soon(lambda: not processes_of(vfab.home / "home"))


def test_what_was_started_is_cleaned_up_before_the_signal_is_reported() -> None:
    done: list[str] = []

    async def work(interrupts: Interrupts) -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("cleaned")

    with pytest.raises(Interrupted) as caught:
        run(work)
    assert done == ["cleaned"]
    assert caught.value.exit_code == 143


def test_a_cancel_that_no_signal_caused_is_not_taken_for_one() -> None:
    async def work(interrupts: Interrupts) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(work)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3725, "1 h 02 min")],
)
def test_durations_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_a_line_is_printed_now_and_then() -> None:
    now = [0.0]
    stream = io.StringIO()
    with ProgressView("job", stream=stream, clock=lambda: now[0]) as view:
        for second in range(5):
            now[0] = float(second)
            view({"phase": "drawing", "done_s": second, "total_s": 10.0, "remaining_s": 10.0 - second})
        view({"done": 1})
        now[0] = 9.0
        view({"phase": "planning", "step": "sorting", "done": 30, "total": 40})
    assert stream.getvalue() == (
        "job: 0 %, 10 s left\njob: 20 %, 8.0 s left\njob: 40 %, 6.0 s left\njob: planning, sorting, 75 %\n"
    )
