"""Many threads, many devices, one manager: nothing is lost and nothing mixed up, whatever fails meanwhile."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apps.manager_home import Home, device, make_home
from vfab import DeviceDriverManager, DeviceState
from vfab.apps.loop_thread import LoopThread, Workers
from vfab.sdk.testing import patience, soon

THREADS, DEVICES, CALLS, KILLS = 16, 50, 100, 50


class Crowd:
    """Threads that command devices at random and check every answer."""

    def __init__(self, manager: DeviceDriverManager) -> None:
        self.manager = manager
        self.told: Counter[str] = Counter()
        self.numbers = itertools.count(1)

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(CALLS):
            name = f"test:{chance.randrange(DEVICES)}"
            dice = chance.random()
            if dice < 0.90:
                self.echo(name)
            elif dice < 0.95:
                self.expect(name, "fail", {"hardware_error", "illegal_transition"})
            elif dice < 0.98:
                self.expect(name, "die", {"host_died", "illegal_transition"})
            else:
                answer = self.manager.close_device("echo", name)
                assert (answer["status"], answer["device_id"]) == ("success", name)

    def echo(self, name: str) -> None:
        """Say a number that nobody else says, and have exactly that answered by exactly this device."""
        number = next(self.numbers)
        for _ in range(20):
            answer = self.manager.execute_command("echo", "echo", {"value": number}, device_id=name)
            if answer.ok:
                result = answer["result"]
                assert (answer["device_id"], result["device"], result["value"]) == (name, name, number)
                self.told["answered"] += 1
                return
            self.refused(answer, name, {"host_died", "illegal_transition", "cancelled", "hardware_error"})
            self.repair(name)
        raise AssertionError(f"{name} could not be repaired: {answer}")

    def expect(self, name: str, command: str, codes: set[str]) -> None:
        answer = self.manager.execute_command("echo", command, device_id=name)
        self.refused(answer, name, codes | {"cancelled", "host_died"})

    def refused(self, answer: dict[str, object], name: str, codes: set[str]) -> None:
        error = answer["error"]
        assert isinstance(error, dict)
        assert (answer["status"], answer["device_id"]) == ("error", name)
        assert error["code"] in codes, answer
        assert answer["message"] and answer["remedy"] and answer["cause"]
        self.told[str(error["code"])] += 1

    def repair(self, name: str) -> None:
        if self.manager.get_device_state("echo", name) is DeviceState.ERROR:
            self.manager.reset_device("echo", name)
        self.manager.connect_device("echo", name)


def kill_hosts(manager: DeviceDriverManager, crowd: Crowd, done: threading.Event) -> int:
    """Kill a host now and then, as a driver's defect, or the system short of memory, would.

    So many for each call, not for each second: a slow machine makes fewer calls, and is no worse.
    """
    chance, killed = random.Random(1), 0
    while not done.wait(0.005):
        if crowd.told.total() < killed * THREADS * CALLS // KILLS:
            continue
        hosts = [device.pid for device in manager._runtime.core._session.supervisor.devices() if device.pid is not None]
        try:
            os.kill(chance.choice(hosts), signal.SIGKILL)
            killed += 1
        except (IndexError, ProcessLookupError):
            continue
    return killed


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.mark.slow
def test_sixteen_threads_and_fifty_devices_lose_and_mix_nothing_while_hosts_die(home: Home) -> None:
    with DeviceDriverManager(home.env) as manager, ThreadPoolExecutor(THREADS + 1) as pool:
        connected = pool.map(lambda number: manager.connect_device("echo", device(number)), range(DEVICES))
        assert all(answer.ok for answer in connected)
        crowd, done = Crowd(manager), threading.Event()
        killer = pool.submit(kill_hosts, manager, crowd, done)
        workers = [pool.submit(crowd.work, seed) for seed in range(THREADS)]
        try:
            for worker in workers:
                worker.result(patience(60))
        finally:
            done.set()
        assert killer.result(10) > 0
        assert crowd.told["answered"] > 0.8 * THREADS * CALLS
        assert {"hardware_error", "host_died"} <= set(crowd.told)
        for number in range(DEVICES):
            crowd.echo(f"test:{number}")
        assert Counter(manager.device_states.values()) == {DeviceState.CONNECTED: DEVICES}
        assert not manager.cleanup_all_devices()["failed"]
        assert Counter(manager.device_states.values()) == {DeviceState.DISCONNECTED: DEVICES}
    assert not home.processes()


def test_threads_that_ask_for_one_device_at_once_all_get_it_connected_once(home: Home) -> None:
    with DeviceDriverManager(home.env) as manager, ThreadPoolExecutor(8) as pool, home.announced():
        answers = list(pool.map(lambda _: manager.connect_device("echo", "tcp://127.0.0.1:1"), range(8)))
        assert [answer.check()["state"] for answer in answers] == ["connected"] * 8
        hosts = list(pool.map(lambda _: manager.execute_command("echo", "echo")["result"]["host"], range(8)))
        assert len(set(hosts)) == 1
        scans = list(pool.map(lambda _: manager.scan_devices("echo")["count"], range(8)))
        assert scans == [1] * 8
    assert not home.processes()


# -- the loop's workers -----------------------------------------------------------------------------------------------


def test_workers_are_never_short_however_many_calls_block() -> None:
    workers, gate = Workers(), threading.Event()
    try:
        blocked = [workers.submit(gate.wait, 20) for _ in range(40)]
        assert workers.submit(lambda: "at once").result(5) == "at once"
        gate.set()
        assert all(future.result(5) for future in blocked)
        soon(lambda: sum(thread.name == "vfab-worker" for thread in threading.enumerate()) <= 5)
        failed = workers.submit(lambda: 1 // 0)
        assert isinstance(failed.exception(5), ZeroDivisionError)
    finally:
        workers.shutdown()


def test_a_worker_skips_what_was_cancelled_before_its_turn_and_copes_without_new_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers()
    assert workers.submit(lambda: 1).result(5) == 1
    soon(lambda: workers._idle == 1)
    workers._idle = 0  # as if it were busy

    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert workers.submit(lambda: 2).result(5) == 2
    with pytest.raises(RuntimeError, match="can't create"):
        Workers().submit(lambda: 3)
    workers.shutdown()


def test_a_loop_that_has_ended_takes_nothing_more() -> None:
    thread = LoopThread("test")

    async def last() -> None:
        return

    thread.finish(last)
    assert thread.join(10)
    thread.finish(last)
    began = time.monotonic()
    assert thread.join()
    assert time.monotonic() - began < patience(5)
