"""Starting hosts: what the zygote does, and what happens when it does not."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from hosting import alive, descriptors, write_plugin
from vfab.kernel import spawner as module
from vfab.kernel.spawner import HostProcess, ZygoteSpawner
from vfab.model.devices import DeviceInfo
from vfab.model.errors import DriverError
from vfab.protocols.zygotewire import Exited, HostSpec, Spawned, SpawnFailed, SpawnRequest, encode
from vfab.sdk.testing import patience

SOURCE = "class D(BaseDriver): pass\n"


def spec(folder: Path, source: str = SOURCE) -> HostSpec:
    manifest = write_plugin(folder, source)
    return HostSpec(
        folder=str(folder), manifest=manifest, device=DeviceInfo(id="d", bus="t", address="/dev/null"), paths=("/x",)
    )


def test_a_cancelled_start_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    async def main() -> None:
        spawner = ZygoteSpawner()
        what = spec(tmp_path, "threading.Event().wait(3600)\n")  # it would not see its socket close
        first = await spawner.spawn(what)
        first.kill()
        first.control.close()
        await first.exited
        before = descriptors()
        for turns in range(30):
            task = asyncio.create_task(spawner.spawn(what))
            for _ in range(turns % 6):
                await asyncio.sleep(0.0005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                host = await task
                host.kill()
                host.control.close()
                raise asyncio.CancelledError
        async with asyncio.timeout(10):
            while spawner._births or spawner._hosts or descriptors() > before or children(spawner.zygote_pid):
                await asyncio.sleep(0.01)
        await spawner.close()

    asyncio.run(main())


def children(pid: int | None) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split() if alive(int(child))]


def test_an_interpreter_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        before = descriptors()
        for interpreter in (str(tmp_path / "nothing"), "/bin/true"):
            spawner = ZygoteSpawner(interpreter)
            with pytest.raises(DriverError, match="no process could be started"):
                await spawner.spawn(spec(tmp_path))
            await spawner.close()
        assert descriptors() <= before + 2  # the event loop's own

    asyncio.run(main())


def test_a_zygote_that_does_not_answer_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPAWN_S", 0.3)

    async def main() -> None:
        spawner = ZygoteSpawner()
        deaths = []
        spawner.on_zygote_died = lambda: deaths.append(1)
        spawner.start()
        spawner.start()
        zygote = spawner.zygote_pid
        assert zygote is not None
        os.kill(zygote, signal.SIGSTOP)
        with pytest.raises(DriverError, match="did not answer within"):
            await spawner.spawn(spec(tmp_path))
        assert deaths == [1]
        assert not alive(zygote)
        monkeypatch.setattr(module, "SPAWN_S", 20.0)
        host = await spawner.spawn(spec(tmp_path))
        assert host.pid
        host.control.close()
        assert await host.exited == 0
        await spawner.close()

    asyncio.run(main())


def test_closing_refuses_what_is_being_started_and_ends_a_zygote_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        spawner = ZygoteSpawner()
        await spawner.close()
        spawner.start()
        zygote = spawner.zygote_pid
        assert zygote is not None
        os.kill(zygote, signal.SIGSTOP)
        starting = asyncio.create_task(spawner.spawn(spec(tmp_path)))
        await asyncio.sleep(0.01)
        monkeypatch.setattr(module, "CLOSE_S", 0.1)
        await spawner.close()
        with pytest.raises(DriverError, match="closing"):
            await starting
        assert not alive(zygote)

    asyncio.run(main())


def test_a_zygote_that_talks_rubbish_or_of_strangers_is_survived(tmp_path: Path) -> None:
    async def main() -> None:
        spawner = ZygoteSpawner()
        host = await spawner.spawn(spec(tmp_path))
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        assert spawner._sock is not None
        loop.remove_reader(spawner._sock)
        real, spawner._sock = spawner._sock, ours
        loop.add_reader(ours, spawner._read)
        theirs.sendall(encode(Exited(999_999_999, 0)) + encode(SpawnFailed(99, "x")) + encode(Spawned(99, 999_999_999)))
        theirs.sendall(encode(SpawnRequest(98, spec(tmp_path))))  # which is ours to say
        asking = asyncio.create_task(spawner.spawn(spec(tmp_path)))
        await asyncio.sleep(0.01)
        number = next(iter(spawner._births))
        theirs.sendall(encode(SpawnFailed(number, "no memory")) + encode(Spawned(number, 999_999_999)))
        with pytest.raises(DriverError, match="no memory"):
            await asking
        spawner._read()
        theirs.sendall(b"\xff" * 8)
        assert await host.exited == -signal.SIGKILL
        theirs.close()
        real.close()
        host.control.close()
        await spawner.close()

    asyncio.run(main())


def test_a_killed_host_is_told_and_killing_it_again_does_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        spawner = ZygoteSpawner()
        host = await spawner.spawn(spec(tmp_path))
        host.kill()
        host.kill()
        assert await host.exited == -signal.SIGKILL
        host.kill()
        host.release()
        host.control.close()
        await spawner.close()

    asyncio.run(main())


def test_a_process_that_was_gone_before_it_was_seen_is_never_signalled() -> None:
    """Its number may belong to another program by now."""

    async def main() -> None:
        control, _child = socket.socketpair()
        links, _other = socket.socketpair()
        read, write = os.pipe()
        os.write(write, b"first\nlast without end")
        host = HostProcess(999_999_999, control, links, read)
        host.kill()
        host.ended(3)
        assert list(host.last_lines) == ["first", "last without end"]
        assert await host.exited == 3
        host.ended(4)
        for sock in (control, _child, _other):
            sock.close()
        os.close(write)

    asyncio.run(main())


def test_the_zygote_ends_when_what_it_gets_is_no_request(tmp_path: Path) -> None:
    import subprocess

    for frame in (b"\x01", b"\x05\0\0\0\xc1\xc1\xc1\xc1\xc1", b"\x09\0\0\0short", encode(Exited(1, 2)), b""):
        ours, theirs = socket.socketpair()
        with theirs:
            zygote = subprocess.Popen(
                [sys.executable, "-m", "vfab.host.zygote", str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        ours.sendall(frame)
        ours.shutdown(socket.SHUT_WR)
        assert zygote.wait(20) == 0
        ours.close()


@pytest.mark.slow
def test_no_more_processes_are_allowed_and_that_is_told(tmp_path: Path) -> None:
    started = time.monotonic()

    async def main() -> None:
        spawner = ZygoteSpawner()
        host = await spawner.spawn(spec(tmp_path))
        import resource

        if os.geteuid() == 0:
            pytest.skip("the superuser's number of processes has no limit")
        resource.prlimit(spawner.zygote_pid or 0, resource.RLIMIT_NPROC, (1, 1))
        with pytest.raises(DriverError, match="no process could be started"):
            await spawner.spawn(spec(tmp_path))
        host.control.close()
        await spawner.close()

    asyncio.run(main())
    assert time.monotonic() - started < patience(20)


def test_a_host_that_hangs_when_the_kernel_goes_is_ended_by_the_zygote(tmp_path: Path) -> None:
    async def main() -> None:
        spawner = ZygoteSpawner()
        hanging = await spawner.spawn(spec(tmp_path, "threading.Event().wait(3600)\n"))
        late = await spawner.spawn(spec(tmp_path / "late", "time.sleep(0.3)\nclass D(BaseDriver): pass\n"))
        hanging.control.close()
        late.control.close()
        assert await asyncio.wait_for(late.exited, 10) == 0
        await spawner.close()
        assert not alive(hanging.pid)
        assert await hanging.exited == -signal.SIGKILL

    asyncio.run(main())
