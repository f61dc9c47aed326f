"""The host's call loop: reads calls, runs the driver's methods, answers.

Who reads and who runs. The *leader* thread reads the socket and runs each call itself: no hand-over, so a quick call
costs one wake-up of one thread. When a call takes longer than `HAND_OVER_S`, the *sentry* starts another leader, and
the old one finishes its call as a worker; so a cancel, a status query or a second call is read while a long call runs.
A method once seen to be slow goes to the worker thread straight away until it is quick again.

One at a time. Calls that are not marked concurrent run in the order in which they came, never two at once, whichever
connection they came by: see `turns`. A call that is cancelled before its turn is answered at once, so that
nobody takes a driver for deaf that is only busy.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from vfab.host.background import Background
from vfab.host.failures import error_fields, to_driver_error
from vfab.host.flood import FloodGate
from vfab.host.turns import Turns
from vfab.model.alike import alike
from vfab.model.errors import Cancelled, DriverError, HostDied, Refused, UnknownCommand, from_wire
from vfab.protocols.hostwire import Call, Cancel, Event, Failure, Log, Message, Progress, Reply
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.transport import FrameReader, FrameWriter, LinkClosed

__all__ = ["HAND_OVER_S", "CallLoop", "Method"]

HAND_OVER_S = 0.005
SAYINGS_PER_S = 2000
"""Events, and reports of progress, that a driver may send in a second; more are counted, not sent."""

_IDLE_S = 0.5
_EARLY_MAX = 1000
_ASK_S = 0.05
_log = logging.getLogger("vfab.host")


@dataclass(slots=True)
class Method:
    """One method that may be called.

    Attributes:
        function: the bound method.
        concurrent: it may run beside others.
        slow: its last run took longer than `HAND_OVER_S`.
    """

    function: Callable[..., Any]
    concurrent: bool = False
    slow: bool = False


class _Job(CancelToken):
    """One call under way; the token that its driver's code looks at is the job itself."""

    __slots__ = ("call", "loop", "method")

    def __init__(self, call: Call, method: Method, loop: CallLoop) -> None:
        super().__init__(call.timeout_s)
        self.call = call
        self.method = method
        self.loop = loop

    def run(self) -> None:
        """It is its turn, on the worker thread."""
        self.loop.run(self)


class _Waiting:
    """A call of ours that the kernel has not answered yet."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: Reply | Failure | None = None


_leading: threading.local = threading.local()
_ATOMS = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})
"""What is no awaitable, told more quickly than `inspect` can."""


class CallLoop:
    """Serves one connection for one driver.

    Args:
        reader, writer: the connection.
        methods: what may be called, by name; the host fills it before `serve`.
        driver_name: for errors.
        turns: whose turn it is, shared by all connections to the driver.
        background: where `async` methods run, shared likewise.
    """

    def __init__(
        self,
        reader: FrameReader,
        writer: FrameWriter,
        methods: Mapping[str, Method],
        driver_name: str,
        turns: Turns | None = None,
        *,
        background: Background | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._methods = methods
        self._driver_name = driver_name
        self._jobs: dict[int, _Job] = {}
        self._waiting_jobs: dict[int, _Job] = {}
        self._turns = turns or Turns()
        self._background = background or Background()
        self._sent: dict[int, _Waiting] = {}
        self._ids = itertools.count(1)
        self._leader = 0
        self._started_s = 0.0
        self._active = threading.Event()
        self._closed = threading.Event()
        self._lead_lock = threading.Lock()
        self._early: list[Message] | None = []
        self._early_lock = threading.Lock()
        self._event_gate = FloodGate(SAYINGS_PER_S)
        self._progress_gate = FloodGate(SAYINGS_PER_S)

    # -- serving ------------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve until the peer closes the connection or `stop` is called."""
        self.say_early()
        threading.Thread(target=self._watch, name="vfab-sentry", daemon=True).start()
        threading.Thread(target=self._lead, args=(self._leader,), name="vfab-leader", daemon=True).start()
        self._closed.wait()
        self._active.set()  # the sentry looks up, and goes
        for job in list(self._jobs.values()):
            job.cancel()
        for waiting in list(self._sent.values()):
            waiting.done.set()

    def stop(self) -> None:
        """Make `serve` return."""
        self._closed.set()

    def _lead(self, number: int) -> None:
        _leading.post = (self, number)
        try:
            while self._leader == number:
                self._handle(self._reader.read(), number)
        except LinkClosed:
            self._closed.set()
        except Exception as error:  # without a reader the host would be deaf for ever: better that it ends
            _log.critical("the kernel's frames make no sense: %s", error)
            self._closed.set()

    def _hand_over(self, number: int, started_s: float) -> None:
        """Let another thread read from now on, if leader `number` is still in the call that it began at `started_s`."""
        with self._lead_lock:
            if self._leader != number or self._started_s != started_s:
                return
            self._started_s = 0.0
            self._leader = number + 1
        threading.Thread(target=self._lead, args=(number + 1,), name="vfab-leader", daemon=True).start()

    def _watch(self) -> None:
        """The sentry: deposes a leader that has been in one call for too long. Sleeps while nothing happens."""
        while not self._closed.is_set():
            self._active.wait()
            quiet_since = monotonic()
            while monotonic() - quiet_since < _IDLE_S:
                time.sleep(HAND_OVER_S)
                number, started = self._leader, self._started_s
                if started:
                    quiet_since = monotonic()
                    if quiet_since - started >= HAND_OVER_S:
                        self._hand_over(number, started)
            self._active.clear()
            if self._started_s:  # a call began between our last look and the clear: its leader saw us awake
                self._active.set()

    def _handle(self, message: Message, leader: int) -> None:
        if type(message) is Call:
            self._take(message, leader)
        elif isinstance(message, Cancel):
            job = self._jobs.get(message.id)
            if job is not None:
                job.cancel()
                if self._waiting_jobs.pop(message.id, None) is not None:  # whoever pops it answers
                    self._fail(message.id, Cancelled("the operation was cancelled", driver_name=self._driver_name))
                    job.close()
                    self._jobs.pop(message.id, None)
        elif isinstance(message, Reply | Failure):
            waiting = self._sent.get(message.id)
            if waiting is not None:
                waiting.answer = message
                waiting.done.set()

    def _take(self, call: Call, leader: int) -> None:
        method = self._methods.get(call.method)
        if method is None:
            self._fail(call.id, self._unknown(call.method))
            return
        job = _Job(call, method, self)
        self._jobs[call.id] = job
        if method.concurrent:
            self._run_leading(job, leader)
            return
        self._waiting_jobs[call.id] = job
        if self._turns.take(job, at_once=not method.slow):
            del self._waiting_jobs[call.id]  # only this thread reads cancels, and it did not in between
            self._run_leading(job, leader)
            self._turns.done()

    def _run_leading(self, job: _Job, leader: int) -> None:
        """Run `job` on the reading thread, watched by the sentry."""
        began = self._started_s = monotonic()
        if not self._active.is_set():
            self._active.set()
        self._perform(job, began)
        with self._lead_lock:
            if self._leader == leader:
                self._started_s = 0.0

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, job: _Job) -> None:
        """Run the call of `job`, which waited for its turn. Never raises."""
        if self._waiting_jobs.pop(job.call.id, None) is not None:  # else it was cancelled meanwhile, and answered
            self._perform(job, monotonic())

    def _perform(self, job: _Job, began: float) -> None:
        """Run the call of `job` and answer it; whatever the driver raises becomes the answer. Never raises."""
        call, method = job.call, job.method
        context = current_token.set(job)
        try:
            job.check()
            result = method.function(*call.args, **call.kwargs)
            if type(result) not in _ATOMS and inspect.isawaitable(result):
                result = self._background.run(result, job)
            try:
                self._writer.write(Reply(call.id, result))
            except LinkClosed:
                self._closed.set()
        except BaseException as error:  # a driver may raise anything, SystemExit included; the host goes on
            self._fail(call.id, to_driver_error(error, self._driver_name, call.method))
        finally:
            current_token.reset(context)
            job.close()
            self._jobs.pop(call.id, None)
            method.slow = monotonic() - began >= HAND_OVER_S

    def _fail(self, call_id: int, error: DriverError) -> None:
        try:
            self._writer.write(Failure(call_id, error_fields(error)))
        except LinkClosed:
            self._closed.set()

    def _unknown(self, name: str) -> UnknownCommand:
        near = alike(name, self._methods, 1)
        return UnknownCommand(
            f"{self._driver_name} has no command {name!r}",
            driver_name=self._driver_name,
            context={"command": name, "known": sorted(self._methods)},
            remedy=f"Did you mean {near[0]}?" if near else "`vfab driver info NAME` lists the commands.",
        )

    # -- asking the kernel --------------------------------------------------------------------------------------------

    def request(self, method: str, *args: Any, timeout_s: float = 30.0) -> Any:
        """Call the kernel and wait for its answer; from a driver's method.

        Raises DriverError: what the kernel answered. HostDied: the kernel is gone. Cancelled, TimeoutExceeded: the
        call that asks was cancelled, or its time is up. Refused: the driver is still being constructed.
        """
        if self._early is not None:
            raise Refused(
                f"{method} is not possible while the driver is constructed",
                driver_name=self._driver_name,
                remedy="The plugin's author must move it to connect().",
            )
        loop, number = getattr(_leading, "post", (None, 0))
        if loop is self:
            self._hand_over(number, self._started_s)  # the answer must be read while we wait
        number = next(self._ids)
        waiting = self._sent[number] = _Waiting()
        try:
            self._writer.write(Call(number, method, list(args), {}, timeout_s))
            self._wait(waiting, timeout_s)
        except LinkClosed:
            waiting.answer = None
        finally:
            del self._sent[number]
        if isinstance(waiting.answer, Failure):
            raise from_wire(waiting.answer.error)
        if waiting.answer is None:
            raise HostDied("the kernel did not answer", driver_name=self._driver_name, context={"request": method})
        return waiting.answer.result

    def _wait(self, waiting: _Waiting, timeout_s: float) -> None:
        token = current_token.get()
        end = monotonic() + timeout_s
        while not waiting.done.wait(_ASK_S) and not self._closed.is_set() and monotonic() < end:
            if token is not None:
                token.check()

    def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        """Send an event; beyond `SAYINGS_PER_S` in a second it is only counted, and the count is sent."""
        dropped = self._event_gate.take_dropped()
        if dropped:
            self._send(Event("events_dropped", {"count": dropped}, time.time()))
        if self._event_gate.passes():
            self._send(Event(kind, dict(data), time.time()))

    def progress(self, data: Mapping[str, Any]) -> None:
        """Report progress of the call that runs here, to whoever made it; outside of one it does nothing."""
        job = current_token.get()
        if isinstance(job, _Job) and self._progress_gate.passes():
            job.loop._send(Progress(job.call.id, dict(data)))

    def log(self, record: Log) -> None:
        """Send a log record."""
        self._send(record)

    def say_early(self) -> None:
        """Send what was said before the handshake, which must come first on the wire."""
        with self._early_lock:
            early, self._early = self._early, None
        for message in early or []:
            self._send(message)

    def _send(self, message: Message) -> None:
        with self._early_lock:
            if self._early is not None:
                if len(self._early) < _EARLY_MAX:
                    self._early.append(message)
                return
        try:
            self._writer.write(message)
        except LinkClosed:
            self._closed.set()
