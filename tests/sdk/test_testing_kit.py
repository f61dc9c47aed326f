"""The testing kit: a bench that behaves like a host, and drivers that misbehave as promised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from vfab.model.errors import Cancelled, HardwareError, TimeoutExceeded
from vfab.sdk.testing import TROUBLEMAKERS, TROUBLEMAKERS_FOLDER, DriverBench, defaults_of, manifest_in, troublemaker
from vfab.sdk.testing.troublemakers import driver as trouble


def bench(name: str, **settings: Any) -> DriverBench[Any]:
    _, manifest = troublemaker(name)
    return DriverBench(getattr(trouble, name), manifest, config=settings)


@pytest.mark.parametrize("name", TROUBLEMAKERS)
def test_every_troublemaker_is_a_plugin_that_can_also_behave(name: str) -> None:
    folder, manifest = troublemaker(name)
    assert (folder / "plugin.yaml").is_file()
    assert (manifest.name, manifest.driver_class) == (name, f"driver.{name}")
    with bench(name) as b:
        assert b.driver.initialize() is None
        assert b.driver.connect() is True
        assert b.driver.is_connected() is True
        assert b.driver.ping() == "pong"
        assert b.driver.pid() == os.getpid()


def test_who_is_no_troublemaker_is_told_who_is() -> None:
    with pytest.raises(ValueError, match="SlowDriver"):
        troublemaker("GoodDriver")


def test_the_defaults_are_those_of_the_schema() -> None:
    assert defaults_of(manifest_in(TROUBLEMAKERS_FOLDER))["delay_s"] == 0.2


def test_the_slow_driver_tells_progress_and_notices_a_cancel_and_a_deadline() -> None:
    with bench("SlowDriver", delay_s=0.05) as b:
        assert b.driver.work() == "done"
        assert b.progress[-1]["total"] == 10
        run = b.start(lambda: b.driver.work(60))
        run.token.cancel()
        with pytest.raises(Cancelled):
            run.result()
        with b.call(timeout_s=0.02), pytest.raises(TimeoutExceeded):
            b.driver.work(60)


def test_the_deaf_driver_ignores_a_cancel_until_its_time_is_over() -> None:
    with bench("DeafDriver") as b:
        run = b.start(lambda: b.driver.work(0.1))
        run.token.cancel()
        assert run.result() == "done"
        assert b.driver.spin(0.01) == "done"


@pytest.mark.parametrize(
    ("how", "kind"),
    [("raise", ValueError), ("hardware", HardwareError), ("sys_exit", SystemExit), ("interrupt", KeyboardInterrupt),
     ("nonsense", ValueError)],
)  # fmt: skip
def test_the_crashing_driver_raises_what_it_was_asked_for(how: str, kind: type[BaseException]) -> None:
    with bench("CrashingDriver") as b, pytest.raises(kind):
        b.driver.crash(how)


@pytest.mark.parametrize(
    ("how", "code"),
    [("exit", 7), ("segfault", -signal.SIGSEGV), ("kill", -signal.SIGKILL), ("abort", -signal.SIGABRT)],
)
def test_the_crashing_driver_ends_its_process(how: str, code: int) -> None:
    program = (
        "from vfab.sdk.testing import *; from vfab.sdk.testing.troublemakers.driver import CrashingDriver\n"
        f"DriverBench(CrashingDriver, troublemaker('CrashingDriver')[1]).driver.crash({how!r})"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=60)
    assert ended.returncode == code


@pytest.mark.parametrize("where", ["init", "initialize", "connect", "disconnect"])
def test_trouble_comes_where_the_settings_want_it(where: str) -> None:
    with pytest.raises(ValueError, match="on purpose"), bench("CrashingDriver", where=where) as b:
        b.driver.initialize()
        b.driver.connect()


def test_the_leaky_driver_keeps_what_it_takes() -> None:
    with bench("LeakyDriver", leak_bytes=1000) as b:
        kept = b.driver.leak(3)
        assert (kept["bytes"], kept["descriptors"]) == (3000, 6)
        assert kept["threads"] >= 4
        for fd in b.driver._files:
            os.close(fd)


def test_the_lying_driver_says_what_is_not_so() -> None:
    with bench("LyingDriver", where="initialize") as b:
        b.driver.initialize()
        assert b.driver.is_connected() is True
        assert b.driver.test_connection()["success"] == "yes"
        assert not isinstance(b.driver.answer(), str | int | dict)
        assert b.driver.flood(5) == "done"
        assert len(b.events) == len(b.progress) == 5
        assert b.events[0] == ("useless", {"number": 0})
        assert b.driver.print_rubbish() == "done"


def test_the_bench_opens_real_links_and_closes_them(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        _, manifest = troublemaker("SlowDriver")
        with DriverBench(trouble.SlowDriver, manifest, address, state_dir=tmp_path) as b:
            link = b.driver.open_link()
            peer, _ = server.accept()
            link.write(b"hello")
            assert peer.recv(5) == b"hello"
            b.driver.close_link(link)
            again = b.driver.open_link()
            server.accept()[0].close()
            peer.close()
        assert link.closed
        assert again.closed


def test_a_call_that_never_ends_fails_the_test_that_waits_for_it() -> None:
    with bench("SlowDriver") as b:
        gate = threading.Event()
        run = b.start(gate.wait)
        with pytest.raises(AssertionError, match="still runs"):
            run.result(0.01)
        assert not run.done
        gate.set()
        assert run.result() is True
