"""`vfab up`: everything wired together for a process that stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfab.apps.node.events import NodeEvents
from vfab.apps.node.keeping import KeepingSession
from vfab.apps.node.logs import configure_logs, log_event
from vfab.apps.node.places import NodeLock, NodePlaces, socket_address
from vfab.apps.node.safe_start import judge, trial_after_s
from vfab.apps.node.systemd import OWN_VARIABLES, inherited_socket, notify
from vfab.apps.node.trial import try_out
from vfab.kernel.places import home_of
from vfab.model.events import DriverEvent
from vfab.store.records import NodeRun, Suspect, Verdict

if TYPE_CHECKING:
    from vfab.apps.node.service import Node

__all__ = ["run_node"]

LOOK_EVERY_S = 2.0
"""How often the node looks whether what is wanted and missing was plugged in."""
OLD_HOSTS_S = 5.0
"""How long the hosts of a dead node may take to leave their devices."""


def run_node(env: Mapping[str, str], *, dev: bool = False) -> int:
    """Be the node of `$VFAB_HOME` until SIGTERM, Ctrl-C or `vfab down`; the exit code.

    With `dev`, a driver whose plugin is edited is reloaded while it runs.

    Raises NodeRunning: another process is. StoreTooNew, StoreUnusable, PermissionRefused: it cannot be.
    """
    places = NodePlaces.of(env)
    lock = NodeLock.acquire(places)
    try:
        log = configure_logs()
        with _listening(places, env) as listener:
            return asyncio.run(_serve(env, places, listener, log, dev))
    finally:
        lock.release()


@contextlib.contextmanager
def _listening(places: NodePlaces, env: Mapping[str, str]) -> Iterator[socket.socket]:
    """The socket of the API, for its owner alone. One that systemd opened stays when the node ends."""
    given = inherited_socket(env)
    if given is not None:
        with given:
            yield given
        return
    places.socket.unlink(missing_ok=True)  # a dead node's: we hold the lock
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        before = os.umask(0o177)
        try:
            with socket_address(places.socket) as address:
                made.bind(address)
        finally:
            os.umask(before)
        made.listen(128)
        try:
            yield made
        finally:
            places.socket.unlink(missing_ok=True)


async def _serve(
    env: Mapping[str, str], places: NodePlaces, listener: socket.socket, log: Any, dev: bool = False
) -> int:
    events = NodeEvents()

    def heard(event: DriverEvent) -> None:
        events.emit(event)
        log_event(log, event)

    plain = {key: value for key, value in env.items() if key not in OWN_VARIABLES}
    session = KeepingSession(plain, heard)
    session.begin()  # the zygote imports while we do
    try:
        from vfab.apps.node.service import Node
        from vfab.apps.node.working import StoreWork
        from vfab.store.opening import open_store
        from vfab.store.quick import database_of

        store = open_store(database_of(places.home))
    except BaseException:
        await session.end()
        raise
    work = StoreWork(store)
    node = Node(session, work, events, log)
    try:
        await _begin(node, log)
        if dev:
            _reload_on_save(node, log)
        await _until_stopped(node, env, listener, log)
        return 0
    finally:
        notify("STOPPING=1", env)
        await node.close()
        await work.do(lambda opened: opened.crashes.end_run(work.run))
        work.close()
        log.info("stopped")


def _reload_on_save(node: Node, log: Any) -> None:
    """Watch the plugins' files from now on; what ends the watch is told, and ends nothing else."""
    from vfab.apps.node.swapping import reload_on_save

    watching = asyncio.ensure_future(reload_on_save(node.swaps, log))
    node.notices.append("development: drivers are reloaded when their files are saved")

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            remedy = getattr(error, "remedy", "")
            log.error("drivers are not reloaded when saved", error=str(error), remedy=remedy)

    watching.add_done_callback(ended)


async def _begin(node: Node, log: Any) -> None:
    """Judge the last run, wait for what is left of it, and begin this one."""
    work, store = node.work, node.work.store
    node.notices += list(store.notices)
    for notice in store.notices:
        log.warning("database", notice=notice)
    last = store.crashes.last_run()
    if last is not None and last.ended_at is None:
        _blame(node, last, log)
        await _old_hosts_gone(last, log)
    store.journal.prune()
    work.run = store.crashes.begin_run(os.getpid(), _started(os.getpid()) or "")
    _note_zygote(node)
    node.left_out.suspects = {suspect.driver: suspect for suspect in store.crashes.suspects()}
    node.left_out.disabled = store.switches.disabled()
    await node.drivers.remember()
    await node.drivers.look_and_note()
    for change in node.drivers.changes():
        log.info("plugin", **change)
    for suspect in node.left_out.suspects.values():
        log.warning("left_out", driver=suspect.driver, reason=suspect.reason, verdict=suspect.verdict.value)


def _blame(node: Node, last: NodeRun, log: Any) -> None:
    """The node died: whoever was at work is suspected."""
    store = node.work.store
    entries = store.journal.last(10_000)
    in_use = Counter(entry.driver for entry in entries if entry.operation == "died_in_use")
    accusations = judge(store.journal.open_in(last.id), store.crashes.suspects(), in_use)
    log.warning("last_node_died", run=last.id, pid=last.pid, under=[a.driver for a in accusations])
    for accusation in accusations:
        if accusation.verdict is None:
            store.journal.note("died_in_use", run=last.id, driver=accusation.driver)
        else:
            store.crashes.accuse(accusation.driver, accusation.verdict, accusation.reason)
    store.crashes.end_run(last.id)  # it has been judged: were we to die now, it is not judged again


async def _old_hosts_gone(last: NodeRun, log: Any) -> None:
    """Hosts of the dead node leave their devices by themselves; nobody else may speak to those before."""
    ends = time.monotonic() + OLD_HOSTS_S
    while last.zygote_pid and _started(last.zygote_pid) == last.zygote:
        if time.monotonic() > ends:
            log.warning("old_hosts_killed", zygote=last.zygote_pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(last.zygote_pid, signal.SIGKILL)  # its hosts die with it
            return
        await asyncio.sleep(0.02)


def _note_zygote(node: Node) -> None:
    pid = node.session.spawner.zygote_pid
    if pid is not None:
        node.work.store.crashes.set_zygote(node.work.run, pid, _started(pid) or "")


async def _until_stopped(node: Node, env: Mapping[str, str], listener: socket.socket, log: Any) -> None:
    import uvicorn

    from vfab.apps.node.http import make_app

    config = uvicorn.Config(
        make_app(node),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
        ws="websockets-sansio",
    )
    ready = asyncio.Event()
    server = _server(config, ready)
    _answer_signals(node)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    serving.add_done_callback(lambda task: ready.set())
    await ready.wait()
    log.info("ready", pid=os.getpid(), home=str(home_of(node.session.env)))
    notify("READY=1", env)
    duties = [asyncio.create_task(_keep(node, log)), asyncio.create_task(node.stopping.wait())]
    await asyncio.wait({serving, duties[1]}, return_when=asyncio.FIRST_COMPLETED)
    duties[0].cancel()
    node.stopping.set()
    await node.jobs.close()  # while we serve: whoever waits for a job is told how it ended
    server.should_exit = True
    await asyncio.wait({*duties, serving})
    if not serving.cancelled() and serving.exception() is not None:
        raise serving.exception() or RuntimeError


def _server(config: Any, ready: asyncio.Event) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn without its signal handlers: devices are left safe before the process ends."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals alone."""
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Say when it serves."""
            await super().startup(sockets)
            ready.set()

    return Server(config)


def _answer_signals(node: Node) -> None:
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if node.stopping.is_set():
            os._exit(128 + number)  # hosts see their socket close, leave their devices safe and end
        node.stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, int(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def _keep(node: Node, log: Any) -> None:
    """Restore, try suspects out, and look after what is missing."""
    await node.upkeep.restore()
    log.info("restored", devices=len(node.session.kept))
    trials = asyncio.create_task(_trials(node, log))
    zygote = node.session.spawner.zygote_pid
    try:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if node.session.spawner.zygote_pid != zygote:
                zygote = node.session.spawner.zygote_pid
                await node.work.do(lambda store: _note_zygote(node))
            try:
                await node.upkeep.look_after()
            except Exception:
                log.exception("look_after_failed")
    finally:
        trials.cancel()


async def _trials(node: Node, log: Any) -> None:
    """Try out whoever is suspected, the least suspect first."""
    began = time.monotonic()
    for suspect in sorted(node.left_out.suspects.values(), key=lambda one: one.deaths):
        if suspect.verdict is Verdict.GUILTY or suspect.driver in node.left_out.disabled:
            continue
        await asyncio.sleep(max(0.0, began + trial_after_s(suspect.deaths) - time.monotonic()))
        try:
            await _try(node, suspect, log)
        except Exception:
            log.exception("trial_failed", driver=suspect.driver)


async def _try(node: Node, suspect: Suspect, log: Any) -> None:
    name = suspect.driver
    devices = [kept for kept in node.session.kept.values() if kept.driver == name]
    if name not in node.left_out.suspects or not devices:
        return
    address = devices[0].address or devices[0].device_id
    async with node.work.journaled("trial", devices[0].device_id, name):
        how = await try_out(node.session.env, home_of(node.session.env), address, name)
    log.info("tried_out", driver=name, device=devices[0].device_id, died=how)
    if how:
        reason = f"the node died while {name} was being started, and so did a process that tried it out ({how})"
        await node.drivers.accused(name, Verdict.GUILTY, reason)
    elif name in node.left_out.suspects:
        await node.drivers.accused(name, None, "")


def _started(pid: int) -> str | None:
    """When a process started, in the system's own count, so that a later one of the same number is told apart."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X"} else fields[19]
    except OSError:
        if Path("/proc/self").exists():
            return None
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
