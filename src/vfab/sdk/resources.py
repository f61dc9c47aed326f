"""ResourceManager and DriverContext: what was opened is closed, in reverse order, whatever fails (seed 001 §6)."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from vfab.model.errors import ConfigurationError

__all__ = ["DriverContext", "ResourceManager"]

_log = logging.getLogger("vfab.drivers.resources")
_R = TypeVar("_R")


class ResourceManager:
    """Keeps resources and cleans them up, the newest first. May be used from several threads."""

    def __init__(self) -> None:
        self._held: list[tuple[Any, Callable[[Any], object] | None]] = []
        self._lock = threading.Lock()

    @property
    def resources(self) -> list[Any]:
        """What is held now, the oldest first."""
        with self._lock:
            return [resource for resource, _ in self._held]

    def register_resource(self, resource: _R, cleanup_handler: Callable[[_R], object] | None = None) -> _R:
        """Hold `resource` until it is cleaned up by `cleanup_handler(resource)`; returns `resource`.

        Without a handler it is only kept alive until then. A handler may be `async`: then use `cleanup_all_async`.
        """
        with self._lock:
            self._held.append((resource, cleanup_handler))
        return resource

    def unregister_resource(self, resource: object) -> bool:
        """Forget `resource` without cleaning it up; whether it was held. The newest registration goes first."""
        with self._lock:
            for index in reversed(range(len(self._held))):
                if self._held[index][0] is resource:
                    del self._held[index]
                    return True
        return False

    def cleanup_all(self) -> None:
        """Clean up everything, the newest first, once: a second call, or one from another thread, finds nothing.

        Raises ExceptionGroup: some handlers failed; all the others ran. What ends a program (KeyboardInterrupt) is
        raised in it, too, after the others ran.
        """
        errors: list[BaseException] = []
        while (held := self._take()) is not None:
            resource, handler = held
            try:
                result = handler(resource) if handler is not None else None
                if inspect.iscoroutine(result):
                    result.close()
                    raise ConfigurationError(
                        f"the clean-up of {_name(resource)} is asynchronous and was not done",
                        remedy="Await cleanup_all_async(), or use `async with DriverContext(…)`.",
                    )
            except BaseException as error:
                _note(error, resource, errors)
        _raise(errors)

    async def cleanup_all_async(self) -> None:
        """The same, for handlers of which some are `async`. A cancellation is raised once everything was cleaned up."""
        errors: list[BaseException] = []
        while (held := self._take()) is not None:
            resource, handler = held
            try:
                result = handler(resource) if handler is not None else None
                if isinstance(result, Awaitable):
                    await result
            except BaseException as error:
                _note(error, resource, errors)
        _raise(errors)

    def _take(self) -> tuple[Any, Callable[[Any], object] | None] | None:
        with self._lock:
            return self._held.pop() if self._held else None


def _name(resource: object) -> str:
    try:
        return repr(resource)[:200]
    except Exception:
        return f"a {type(resource).__name__}"


def _note(error: BaseException, resource: object, errors: list[BaseException]) -> None:
    error.add_note(f"while cleaning up {_name(resource)}")
    _log.warning("cleaning up %s failed: %s: %s", _name(resource), type(error).__name__, error)
    errors.append(error)


def _raise(errors: list[BaseException]) -> None:
    """Raise what was collected: the ends of a program or task as they are, so that they keep their meaning."""
    for error in errors:
        if not isinstance(error, Exception):
            raise error
    if errors:
        found = [error for error in errors if isinstance(error, Exception)]
        raise ExceptionGroup(f"{len(found)} resources could not be cleaned up", found)


class DriverContext(Generic[_R]):
    """Lets go of a manager at the end of a block: `with DriverContext(manager) as m:` or `async with`.

    The manager's `disconnect` is called last of all clean-ups: it was registered first. More resources may be
    registered with `context.resource_manager`. An exception of the block is never replaced by one of the clean-up: that
    one is logged and added to it as a note.
    """

    def __init__(self, manager: _R) -> None:
        self.manager = manager
        self.resource_manager = ResourceManager()

    def __enter__(self) -> _R:
        self.resource_manager.register_resource(self.manager, _disconnect)
        return self.manager

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.resource_manager.cleanup_all()
        except Exception as failed:
            _keep(error, failed)

    async def __aenter__(self) -> _R:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.resource_manager.cleanup_all_async()
        except Exception as failed:
            _keep(error, failed)


def _disconnect(manager: Any) -> Any:
    return manager.disconnect()


def _keep(error: BaseException | None, failed: Exception) -> None:
    """Called while `failed` is handled: raise it when the block had no error of its own."""
    if error is None:
        raise failed
    parts = failed.exceptions if isinstance(failed, ExceptionGroup) else (failed,)
    for part in parts:
        error.add_note(f"and the clean-up failed: {type(part).__name__}: {part}")
