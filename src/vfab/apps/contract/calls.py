"""Checks of calls: the manifest's commands, what is no command, and cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from vfab.apps.contract.bench import LIFE, ContractBench, Operation, Pace, bring_up, wait_for_words
from vfab.apps.contract.examples import is_free_text
from vfab.apps.contract.expect import must_be_usable
from vfab.apps.contract.model import Broken, Skip
from vfab.kernel.host_keeper import DEAF_S
from vfab.kernel.managed import ManagedDevice
from vfab.model.errors import Cancelled, ConfigurationError, DriverError
from vfab.model.lifecycle import DriverState
from vfab.sdk.testing import FaultProxy

__all__ = ["cancel", "commands", "unknown_command"]

_CANCEL_S = 15.0
_ANSWERED_S = 0.3
_OTHERS = 3
_OTHER_S = 5.0
_BY_THE_DEVICE = frozenset({"hardware_error", "protocol_error", "timeout"})
"""How a device answers a text that means nothing to it."""


@dataclass(slots=True)
class _Called:
    """What came of calling the commands."""

    count: int = 0
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def told(self) -> str:
        """In words. Raises Broken: one failed."""
        if self.failed:
            raise Broken("; ".join(self.failed))
        told = [f"{self.count} called"]
        told += [f"refused, as they may: {', '.join(self.refused)}"] if self.refused else []
        told += [f"not called: {', '.join(self.left_out)}"] if self.left_out else []
        return "; ".join(told)


async def commands(bench: ContractBench) -> str:
    """Each one can be called, or is refused by a ConfigurationError that says why."""
    if not bench.manifest.commands:
        raise Skip("its manifest has no commands")
    called = _Called()
    async with bench.connected() as managed:
        for name, command in bench.manifest.commands.items():
            operation = bench.operation(name, command)
            if isinstance(operation, str):
                called.left_out.append(f"{name} ({operation})")
            elif operation.method not in LIFE:
                called.count += 1
                await _call(bench, managed, name, operation, called)
    return called.told()


async def _call(bench: ContractBench, managed: ManagedDevice, name: str, operation: Operation, called: _Called) -> None:
    """Call one, and note what came of it."""
    try:
        if managed.state is not DriverState.CONNECTED:
            await bring_up(managed)
        if bench.manifest.commands[name].needs == "connected":
            await operation.on(managed)
        else:
            await managed.call_with(operation.method, (), operation.arguments, timeout_s=operation.timeout_s)
    except ConfigurationError as error:
        if error.message:
            called.refused.append(name)
        else:
            called.failed.append(f"command {name}: refused without a word")
    except DriverError as error:
        if error.code == "driver_failed" and not bench.native:
            called.refused.append(f"{name} ({error.message})")
        elif is_free_text(bench.manifest.commands[name]) and error.code in _BY_THE_DEVICE:
            called.refused.append(f"{name} (by the device: {error.code})")
        else:
            called.failed.append(f"command {name}: {error.code}: {error.message}")


async def unknown_command(bench: ContractBench) -> str:
    """Refused by a ConfigurationError, and the device stays connected."""
    async with bench.connected() as managed:
        try:
            await managed.operate("no_such_thing")
        except ConfigurationError as error:
            if managed.state is not DriverState.CONNECTED:
                raise Broken(f"a command that is none left the state {managed.state.value}") from error
            return f"{error.code}: {error.message}"
    raise Broken("a command that is none was taken")


async def cancel(bench: ContractBench) -> str:
    """A call that waits for its device ends when it is cancelled, and the answer that comes late confuses nobody."""
    operation = await bench.asking() if not bench.no_stream else None
    if operation is None:
        raise Skip(bench.no_stream or "no operation was found that needs an answer of the device")
    async with bench.proxied(Pace.PATIENT) as (managed, proxy):
        await managed.connect()
        pid = managed.pid
        proxy.hold()
        call = asyncio.create_task(operation.on(managed))
        await wait_for_words(call, proxy, proxy.heard)
        if call.done():
            raise Broken(
                f"{operation.method} ended before it could be cancelled: {call.exception() or call.result()!r}"
            )
        began = time.monotonic()
        call.cancel()
        await _ended(call, operation.method)
        took_s = time.monotonic() - began
        await _next_one(managed, proxy, operation)
        if bench.native and managed.pid != pid:
            raise Broken(f"{operation.method} went on when it was cancelled: its process was ended for that")
        await asyncio.sleep(_ANSWERED_S)  # the device says all that it has to say, and it is held back
        proxy.pass_on()
        await asyncio.to_thread(proxy.wait_drained)
        await _not_confused(bench, managed, operation)
        await must_be_usable(bench, managed, f"{operation.method} was cancelled")
        return f"{operation.method} ended after {took_s:.2f} s"


async def _not_confused(bench: ContractBench, managed: ManagedDevice, cancelled: Operation) -> None:
    """Other operations get answers of their own, not the late ones.

    Of an older shape it is enough that it works after a reset.
    """
    texts = {c.method or name.replace("-", "_") for name, c in bench.manifest.commands.items() if is_free_text(c)}
    others = [each for each in bench.candidates() if each.method not in texts and each.method != cancelled.method]
    for operation in others[:_OTHERS] if bench.native else ():
        call = asyncio.create_task(operation.on(managed))
        waits = not (await asyncio.wait({call}, timeout=_OTHER_S))[0]
        if waits:  # for something that nobody sends, with the patience that the settings give it here
            call.cancel()
        try:
            await call
        except (ConfigurationError, asyncio.CancelledError):
            continue
        except DriverError as error:
            if waits and isinstance(error, Cancelled):
                continue
            raise Broken(f"after the late answer {operation.method}: {error.code}: {error.message}") from error


async def _ended(call: asyncio.Task[object], method: str) -> None:
    done, _ = await asyncio.wait({call}, timeout=_CANCEL_S)
    if not done:
        raise Broken(f"{method} goes on {_CANCEL_S:g} s after it was cancelled")
    with contextlib.suppress(Cancelled, asyncio.CancelledError):
        result = await call
        raise Broken(f"{method} was cancelled and claims success: {str(result)[:80]!r}")


async def _next_one(managed: ManagedDevice, proxy: FaultProxy, operation: Operation) -> None:
    """Call again: the driver takes it once it has ended the first one, or the kernel has ended the driver."""
    heard = proxy.heard
    again = asyncio.create_task(operation.on(managed))
    await asyncio.to_thread(proxy.wait_heard, more_than=heard, timeout_s=DEAF_S + 1.0)
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
