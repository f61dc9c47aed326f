"""Drivers in JavaScript within bwrap: what they cannot do, what they can, and how they end."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bubbles import DRIVER, beside_a_cgroup, confined, descendants, put, reached_by, runs_node, script
from bubbles import holds as _holds
from dialect_peers import TcpPeer
from hosting import alive
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import DriverError

holds = _holds
needs_bwrap = pytest.mark.usefixtures("holds")

# ---- what it cannot do

ATTACKS = {
    "read /etc/shadow": "return fs.readFileSync('/etc/shadow', 'utf8')",
    "read /etc/passwd": "return fs.readFileSync('/etc/passwd', 'utf8')",
    "list the folders of users": "return fs.readdirSync('/home')",
    "read another plugin's state": "return fs.readFileSync(victim_state + '/secret', 'utf8')",
    "learn whether a file of others exists": "return fs.statSync(victim_state + '/secret').size",
    "read another plugin's state through a link": (
        "fs.symlinkSync(victim_state, own + '/link'); return fs.readFileSync(own + '/link/secret', 'utf8')"
    ),
    "read by the root folder of another process": "return fs.readFileSync('/proc/1/root' + '/etc/shadow', 'utf8')",
    "write another plugin's state": "fs.writeFileSync(victim_state + '/mine', 'x')",
    "write outside": "fs.writeFileSync(outside, 'x')",
    "write its own code": "fs.appendFileSync(file, '//')",
    "empty its own code": "fs.truncateSync(file)",
    "write beside its own code": "fs.mkdirSync(require('path').dirname(file) + '/more')",
    "write into the root folder": "fs.mkdirSync('/more')",
    "change the mode of its own code": "fs.chmodSync(file, 0o777)",
    "change the mode of a device for everybody": "fs.chmodSync('/dev/null', 0o600)",
    "give its own file to others": "fs.writeFileSync(own + '/f', ''); fs.chownSync(own + '/f', 65534, 65534)",
    "open a disk": "fs.openSync('/dev/vda')",
    "open a terminal": "fs.openSync('/dev/ptmx', 'r+')",
    "share memory with others": "fs.writeFileSync('/dev/shm/x', 'x')",
    "connect to a port": "await reach({ host: '127.0.0.1', port: tcp_port })",
    "connect by IPv6": "await reach({ host: '::1', port: tcp_port })",
    "connect to a Unix socket": "await reach({ path: unix_path })",
    "connect to an abstract socket": "await reach({ path: abstract })",
    "listen on a port": "await serve({ host: '127.0.0.1', port: 0 })",
    "listen on a Unix socket": "await serve({ path: own + '/socket' })",
    "send a datagram": "await send(udp_port)",
    "start a program": "start('/bin/true')",
    "start Node once more": "start(process.execPath, '--version')",
    "run what it wrote": "fs.writeFileSync(own + '/p', '#!/bin/sh', { mode: 0o700 }); start(own + '/p')",
    "signal another process": "process.kill(victim, 9)",
    "signal its kernel": "process.kill(kernel, 15)",
    "signal its host": "process.kill(process.ppid, 9)",
    "signal everything": "process.kill(-1, 9)",
    "see the processes of others": "return fs.readFileSync(`/proc/${kernel}/environ`)",
    "slow another process": "require('os').setPriority(victim, 19)",
    "become somebody else": "process.setuid(4711)",
}
"""What it is -> what it does. The system must refuse all of it, whoever runs the tests."""

TOOLS = """
const fs = require('fs');
const of = (name) => require(name.replace('-', '_'));
const own = process.env.HOME;
const told = (emitter, done) => new Promise((resolve, reject) => {
  emitter.on(done, () => { emitter.close?.(); emitter.destroy?.(); resolve(); }).on('error', reject);
});
const reach = (where) => told(of('net').connect(where), 'connect');
const serve = (where) => told(of('net').createServer().listen(where), 'listening');
const send = (port) => new Promise((resolve, reject) => {
  const sender = of('dgram').createSocket('udp4').on('error', reject);
  sender.send('x', port, '127.0.0.1', (error) => (error ? reject(error) : resolve()));
});
const start = (...words) => {
  const { error } = of('child-process').spawnSync(words[0], words.slice(1));
  if (error) throw error;
};
"""
"""For attacks; its names of modules are not those that a manifest's permissions are read from."""

REFUSED_BY = {"ENOENT", "EROFS", "EPERM", "EACCES", "ESRCH", "EINVAL", "EXDEV"}


@pytest.fixture
def aims(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What attacks aim at: a neighbour's state, servers of all kinds, and a process of the same user."""
    state = tmp_path / "state" / "other" / "dev9"
    state.mkdir(parents=True)
    (state / "secret").write_text("loot")
    abstract = f"\0vfab-bubble-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as hidden,
        subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as victim,
    ):
        udp.bind(("127.0.0.1", 0))
        named.bind(str(tmp_path / "s"))
        named.listen()
        hidden.bind(abstract)
        hidden.listen()
        was = (state / "secret").stat(), Path(os.devnull).stat()
        yield {
            "victim_state": str(state),
            "outside": str(tmp_path / "outside"),
            "file": str(tmp_path / "plugin" / "mine.js"),
            "tcp_port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "unix_path": str(tmp_path / "s"),
            "abstract": abstract,
            "victim": victim.pid,
            "kernel": os.getpid(),
        }
        assert victim.poll() is None, "an attack ended a process that was not its own"
        now = (state / "secret").stat(), Path(os.devnull).stat()
        assert [one[:2] for one in was] == [one[:2] for one in now], "an attack changed a mode"
        assert list(state.iterdir()) == [state / "secret"] and not (tmp_path / "outside").exists()


async def done_by(device: ManagedDevice, aims: dict[str, Any]) -> dict[str, Any]:
    """What each of the attacks did that the system should have refused."""
    done: dict[str, Any] = {}
    for name, code in ATTACKS.items():
        told = await device.call("attack", f"{TOOLS}\n{code}", aims, timeout_s=60)
        if told.get("code") not in REFUSED_BY:
            done[name] = told
    return done


@needs_bwrap
def test_every_attack_is_refused_within_bwrap_and_the_driver_goes_on(tmp_path: Path, aims: dict[str, Any]) -> None:
    file = script(tmp_path)

    async def main() -> None:
        async with confined(tmp_path) as kernel:
            device = put(kernel, file)
            await device.connect()
            assert reached_by(device).program == "bwrap"
            pid = device.pid
            assert await done_by(device, aims) == {}
            assert (await device.call("attack", "return 1 + 1", {})) == {"got": 2}
            assert device.pid == pid

    asyncio.run(main())
    assert file.read_text() == DRIVER


@needs_bwrap
def test_an_attack_is_refused_by_bwrap_where_the_host_itself_has_no_namespaces(
    tmp_path: Path, aims: dict[str, Any]
) -> None:
    """As where a system lets bwrap make them, and nobody else."""
    file = script(tmp_path)

    async def main() -> None:
        async with confined(tmp_path, without=("clone3", "unshare")) as kernel:
            device = put(kernel, file)
            await device.connect()
            reached = reached_by(device)
            assert reached.program == "bwrap" and beside_a_cgroup(reached.missing) == []
            assert await done_by(device, aims) == {}

    asyncio.run(main())


@needs_bwrap
def test_what_every_driver_may_do_it_can_do_within_bwrap(tmp_path: Path) -> None:
    code = """
const os = require('os');
fs.writeFileSync('/dev/null', 'x');
if (fs.readFileSync(file, 'utf8').length === 0) throw new Error('empty');
fs.writeFileSync(own + '/mine', 'x'); fs.chmodSync(own + '/mine', 0o640); fs.utimesSync(own + '/mine', 1, 1);
fs.renameSync(own + '/mine', own + '/moved');
if (!os.tmpdir().startsWith(own + '/tmp/')) throw new Error(os.tmpdir());
fs.writeFileSync(os.tmpdir() + '/x', 'x');
await new Promise((resolve, reject) => {
  const { Worker } = require('worker_threads');
  new Worker('1', { eval: true }).on('exit', resolve).on('error', reject);
});
process.memoryUsage(); require('crypto').randomBytes(4); new Intl.DateTimeFormat('de', { timeZone: 'Asia/Tokyo' });
return [os.cpus().length > 0, process.cwd() === own, fs.readdirSync('/proc').filter((name) => /^[0-9]/.test(name))];
"""

    async def main() -> None:
        async with confined(tmp_path) as kernel:
            device = put(kernel, script(tmp_path))
            await device.connect()
            told = await device.call("attack", TOOLS + code, {"file": str(tmp_path / "plugin" / "mine.js")})
            assert told == {"got": [True, True, ["1", "2"]]}

    asyncio.run(main())


# ---- what it is for

SPEAKER = """
const BaseDriver = require('./base-driver');
class Speaker extends BaseDriver {
  async connect() {
    await super.connect();
    this.on('data', (data) => this.publish('heard', { text: data.toString() }));
    await this.send('HELLO\\n');
    return true;
  }
  async say(text) { await this.send(`${text}\\n`); return text.length; }
}
module.exports = Speaker;
"""


@needs_bwrap
def test_a_driver_speaks_over_a_link_of_the_broker_and_is_ended_and_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        with TcpPeer(lambda line: f"<{line}>") as peer:
            async with confined(tmp_path) as kernel:
                device = put(kernel, script(tmp_path, SPEAKER), peer.address)
                await device.connect()
                assert reached_by(device).program == "bwrap"
                assert await device.operate("say", text="one") == 3
                await kernel.until(lambda: "<one>" in str([event.data for event in kernel.of("heard")]))
                await device.disconnect()
                await device.connect()
                assert await device.operate("say", text="two") == 3
                await kernel.until(lambda: peer.lines == ["HELLO", "one", "HELLO", "two"])
                pid = device.pid
                assert pid is not None
                started = descendants(pid)
                assert [runs_node(one) for one in started].count(True) == 1
                told = len(kernel.of("host_died"))
                os.kill(pid, signal.SIGKILL)
                await kernel.until(lambda: len(kernel.of("host_died")) > told)
                await kernel.until(lambda: not any(alive(one) for one in started))
                await device.ready_again()
                assert reached_by(device).program == "bwrap" and device.pid != pid
                kept = descendants(device.pid or 0)
            assert kept and not any(alive(one) for one in kept)

    asyncio.run(main())


@needs_bwrap
def test_a_driver_that_ignores_its_end_is_ended_within_bwrap_too(tmp_path: Path) -> None:
    code = "for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => {});"
    code += "setInterval(() => {}, 5); process.on('exit', () => { for (;;); })"

    async def main() -> None:
        async with confined(tmp_path) as kernel:
            device = put(kernel, script(tmp_path))
            await device.connect()
            assert device.pid is not None
            started = descendants(device.pid)
            await device.call("attack", code, {})
            await device.close()
            await kernel.until(lambda: not any(alive(one) for one in started))

    asyncio.run(main())


@needs_bwrap
def test_nothing_of_bwrap_is_left_when_the_zygote_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        async with confined(tmp_path) as kernel:
            device = put(kernel, script(tmp_path))
            await device.connect()
            assert device.pid is not None and kernel.spawner.zygote_pid is not None
            started = descendants(device.pid)
            spinning = asyncio.create_task(device.call("spin", timeout_s=60))
            os.kill(kernel.spawner.zygote_pid, signal.SIGKILL)
            await kernel.until(lambda: not any(alive(one) for one in started))
            with pytest.raises(DriverError):
                await spinning

    asyncio.run(main())


@needs_bwrap
def test_what_a_driver_asks_for_it_gets_within_bwrap_and_no_more(tmp_path: Path) -> None:
    text = DRIVER.replace("class D", "const net = require('net'); const run = require('child_process');\nclass D")
    code = (
        "start('/bin/sh', '-c', 'exit 0'); await reach({ host: '127.0.0.1', port: tcp_port }); fs.mkdirSync('/more');"
    )

    async def main() -> None:
        with TcpPeer(lambda line: line) as peer:
            async with confined(tmp_path) as kernel:
                device = put(kernel, script(tmp_path, text))
                await device.connect()
                reached = reached_by(device)
                assert (reached.program, reached.network, reached.subprocess) == ("bwrap", "host", True)
                assert set(reached.namespaces) == {"user", "pid", "mnt", "ipc", "uts"}
                told = await device.call("attack", TOOLS + code, {"tcp_port": int(peer.address.rpartition(":")[2])})
                assert told["code"] == "EROFS", "the program and the connection are its own to have"

    asyncio.run(main())


@needs_bwrap
def test_its_own_serial_port_is_there_within_bwrap(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    code = "const port = fs.openSync(where, 'r+'); fs.writeSync(port, 'M105\\n'); fs.closeSync(port); return true"

    async def main() -> None:
        async with confined(tmp_path) as kernel:
            device = put(kernel, script(tmp_path), os.ttyname(theirs))
            await device.connect()
            assert reached_by(device).program == "bwrap"
            assert await device.call("attack", TOOLS + code, {"where": os.ttyname(theirs)}) == {"got": True}

    try:
        asyncio.run(main())
        assert os.read(ours, 9).startswith(b"M105")
    finally:
        os.close(ours)
        os.close(theirs)
