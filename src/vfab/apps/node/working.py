"""The store for an event loop: its work is done in one thread, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from vfab.model.errors import DriverError

if TYPE_CHECKING:
    from vfab.store.store import Store

__all__ = ["StoreWork"]

_T = TypeVar("_T")


class StoreWork:
    """Does what is asked of the store, so that a slow disk holds up nobody but who waits for it.

    Args:
        store: the store.
        run: the node's run, for the journal.
    """

    def __init__(self, store: Store, run: int = 0) -> None:
        self.store = store
        self.run = run
        self._thread = ThreadPoolExecutor(1, "vfab-store")

    async def do(self, work: Callable[[Store], _T]) -> _T:
        """The result of `work`; what began is done, even when the caller is cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work, self.store)
        return await asyncio.shield(future)

    @contextlib.asynccontextmanager
    async def journaled(
        self, operation: str, device_id: str = "", driver: str = "", detail: Mapping[str, Any] = {}
    ) -> AsyncIterator[None]:
        """Write down what is about to be done, and afterwards what became of it."""
        begun = await self.do(
            lambda store: store.journal.begin(
                operation, run=self.run, device_id=device_id, driver=driver, detail=detail
            )
        )
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except DriverError as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            await self.do(lambda store: store.journal.end(begun, outcome))

    def close(self) -> None:
        """Wait for what was asked, and close the store."""
        self._thread.submit(self.store.close).result()
        self._thread.shutdown()
