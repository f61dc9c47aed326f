"""What is expected of every driver when things go wrong: an answer in time, an error that helps, and use afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from vfab.apps.contract.bench import ContractBench, bring_up
from vfab.apps.contract.model import Broken
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import Cancelled, ConfigurationError, ConnectError, DriverError
from vfab.model.lifecycle import DriverState

__all__ = ["Answer", "answer_of", "must_be_error", "must_be_usable", "must_work", "state_after"]

HANG_S = 40.0
"""Nothing that a check asks of a driver takes longer, however bad the peer; a driver's own time-outs end it before."""

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended."""

    result: Any = None
    error: DriverError | None = None

    @property
    def refuses(self) -> bool:
        """The driver says that it did not do it: by an error, or as `test_connection` does."""
        if self.error is not None or self.result is False:
            return True
        return isinstance(self.result, Mapping) and self.result.get("success") is False


async def answer_of(bench: ContractBench, call: Awaitable[Any], doing: str) -> Answer:
    """How `call` ends. Raises Broken: it hangs."""
    limit_s = max(HANG_S, bench.manifest.runtime.connect_timeout_s + 10.0)
    try:
        async with asyncio.timeout(limit_s):
            return Answer(result=await call)
    except DriverError as error:
        return Answer(error=error)
    except TimeoutError:
        raise Broken(f"{doing}: no answer within {limit_s:g} s") from None


def must_be_error(bench: ContractBench, answer: Answer, doing: str) -> str:
    """What it answered, in words. Raises Broken: it claims success, or its error does not help."""
    if not answer.refuses:
        raise Broken(f"{doing}: it claims success: {str(answer.result)[:120]!r}")
    error = answer.error
    if error is None:
        return "it says no"
    told = f"{error.code}: {error.message}"
    if error.code == "host_died":
        raise Broken(f"{doing}: its process ended: {error.message}")
    if error.code == "driver_failed" and bench.native:
        raise Broken(f"{doing}: it raised what is no DriverError: {error.message}")
    if error.code == "driver_error" and bench.native:
        raise Broken(f"{doing}: the error is of no class of its own: {error.message}")
    if not error.message.strip():
        raise Broken(f"{doing}: {error.code} without a message")
    if not error.remedy.strip():
        raise Broken(f"{doing}: the error says nothing of what to do: {told}")
    return told


def state_after(managed: ManagedDevice, answer: Answer, doing: str) -> None:
    """Raises Broken: the state is not the one that the table has for this."""
    error = answer.error
    failed = error is not None and not isinstance(error, (ConfigurationError, Cancelled))
    if failed and managed.state not in {DriverState.ERROR, DriverState.INITIALIZING}:
        raise Broken(f"{doing}: after {error.code if error else ''} the state is {managed.state.value}, not error")


async def must_work(managed: ManagedDevice) -> str:
    """What test_connection says. Raises Broken: the device does not work."""
    try:
        result = await managed.operate("test_connection", timeout_s=30.0)
    except DriverError as error:
        raise Broken(f"test_connection: {error.code}: {error.message}") from error
    if not isinstance(result, Mapping) or not result.get("success"):
        raise Broken(f"test_connection says no: {str(result)[:200]}")
    return str(result.get("message", ""))


async def must_be_usable(bench: ContractBench, managed: ManagedDevice, after: str) -> None:
    """The device is used again after `after`: at once, or after it was reset or connected anew, as a person would do.

    A process that was ended, because it was deaf, is another one then.

    Raises Broken: it cannot be.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        last = attempt == _ATTEMPTS
        work = _used(managed, anew=attempt > 1, resets=bench.native or not last)
        error = (await answer_of(bench, work, f"use after {after}")).error
        if error is None:
            return
        if last or (bench.native and error.code in {"host_died", "driver_failed"}):
            raise Broken(f"not usable after {after}: {error.code}: {error.message}") from error


async def _used(managed: ManagedDevice, *, anew: bool, resets: bool) -> None:
    """Raises DriverError: it does not work.

    Args:
        anew: an operation told that the connection is broken: make another.
        resets: a reset ends an error; of an older shape it may be enough that a disconnect does.
    """
    if (anew and managed.state is DriverState.CONNECTED) or (managed.state is DriverState.ERROR and not resets):
        await managed.disconnect()
    await bring_up(managed)
    result = await managed.operate("test_connection", timeout_s=30.0)
    if not isinstance(result, Mapping) or not result.get("success"):
        raise ConnectError(f"test_connection says no: {str(result)[:200]}")
