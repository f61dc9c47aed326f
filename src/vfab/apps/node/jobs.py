"""Jobs: work that takes long, watched and cancelled by whoever asks; it goes on when nobody watches."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from vfab.apps.interrupts import Interrupts
from vfab.model.errors import Cancelled, ConfigurationError, DriverError, DriverFailed

__all__ = ["Job", "JobBook", "JobInterrupts"]

KEPT_JOBS = 100


class JobInterrupts(Interrupts):
    """A cancel of a job, answered as a program answers a signal: first gently, then at once."""

    def take(self, number: int) -> None:
        """Somebody cancels the job; `number` is the signal that made them do so."""
        again, self.number = bool(self.number), number
        if self._gentle is not None and not again:
            self._gentle()
        else:
            self._task.cancel()


class Job:
    """One piece of work.

    Attributes:
        state: `running`, `done`, `failed` or `cancelled`.
        version: counts up at each change, so that a watcher can wait for the next one.
        told: what the work said once: the device that was chosen, the estimate.
        progress: what it said last of how far it is.
    """

    def __init__(self, number: int, kind: str, driver: str = "") -> None:
        self.id = str(number)
        self.kind = kind
        self.driver = driver
        self.device = ""
        self.state = "running"
        self.version = 1
        self.told: dict[str, Any] = {}
        self.progress: dict[str, Any] = {}
        self.result: Any = None
        self.error: DriverError | None = None
        self.interrupts: JobInterrupts | None = None
        self._changed = asyncio.Event()

    def tell(self, **told: Any) -> None:
        """Note what the work says."""
        self.told.update(told)
        self._change()

    def advance(self, progress: Mapping[str, Any]) -> None:
        """Note how far it is."""
        self.progress = dict(progress)
        self._change()

    def end(self, state: str, *, result: Any = None, error: DriverError | None = None) -> None:
        """Note how it ended."""
        self.state, self.result, self.error = state, result, error
        self._change()

    async def after(self, version: int, wait_s: float) -> None:
        """Wait until something is newer than `version`, at most `wait_s` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                while self.version <= version and self.state == "running":
                    await self._changed.wait()
        except TimeoutError:
            return

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the API."""
        error = None
        if self.error is not None:
            error = {**self.error.to_public(), "type": self.error.error_type.value}
        return {
            "id": self.id,
            "kind": self.kind,
            "driver": self.driver,
            "device": self.device,
            "state": self.state,
            "version": self.version,
            "told": self.told,
            "progress": self.progress,
            "result": self.result,
            "error": error,
        }

    def _change(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


Work = Callable[[Job, JobInterrupts], Awaitable[Any]]


class JobBook:
    """The jobs of a node: those that run, and the last ones that ended."""

    def __init__(self, kept: int = KEPT_JOBS) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._kept = kept
        self._closed = False

    def start(self, kind: str, work: Work, driver: str = "") -> Job:
        """Have `work` done; the job that tells of it. Raises ConfigurationError: the node is ending."""
        if self._closed:
            raise ConfigurationError("the node is ending: nothing new is begun", remedy="Start it again: `vfab up`.")
        job = Job(next(self._numbers), kind, driver)
        self._jobs[job.id] = job
        task = asyncio.get_running_loop().create_task(self._run(job, work), name=f"{kind} {job.id}")
        job.interrupts = JobInterrupts(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        ended = [known for known in self._jobs.values() if known.state != "running"]
        for old in ended[: max(0, len(ended) - self._kept)]:
            del self._jobs[old.id]
        return job

    def get(self, number: str) -> Job:
        """The job of that number. Raises ConfigurationError."""
        try:
            return self._jobs[number]
        except KeyError:
            error = ConfigurationError(f"there is no job {number!r}", context={"job": number})
            error.code = "job_not_found"  # type: ignore[misc]
            error.remedy = "GET /v1/jobs lists those that run and the last ones that ended."
            raise error from None

    def all(self) -> list[Job]:
        """Every one, oldest first."""
        return list(self._jobs.values())

    async def close(self, timeout_s: float = 20.0) -> None:
        """Cancel what runs, gently, and wait for its end; begin nothing any more."""
        self._closed = True
        for job in self._jobs.values():
            if job.state == "running" and job.interrupts is not None:
                job.interrupts.take(15)
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()

    async def _run(self, job: Job, work: Work) -> None:
        assert job.interrupts is not None
        try:
            job.end("done", result=await work(job, job.interrupts))
        except asyncio.CancelledError:
            job.end("cancelled", error=job.interrupts.interrupted())
        except Cancelled as error:
            job.end("cancelled", error=error)
        except DriverError as error:
            job.end("failed", error=error)
        except Exception as error:
            job.end("failed", error=DriverFailed(f"{type(error).__name__}: {error}", original_error=error))
