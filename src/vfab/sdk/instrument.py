"""Instruments: seed 004's `InstrumentDriver` with `@driver_plugin`, and `Instrument`, the base of native drivers.

A class of seed 004's shape runs in vfab as it is: with a `plugin.yaml`, or decorated in a single file. `Instrument` has
the same operations, and gives cancelling, progress and streaming of the points; it lives in `vfab.sdk.measuring`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vfab.sdk.measuring import Instrument

__all__ = ["Instrument", "InstrumentDriver", "driver_plugin"]

_C = TypeVar("_C", bound=type)


class InstrumentDriver(ABC):
    """What every instrument driver of seed 004 implements.

    Its methods are called one at a time, except `abort`, which comes from another thread while `measure` runs.

    Args:
        resource_name: VISA resource, or whatever else names the connection (`tcp://192.0.2.7:5025`, `/dev/ttyUSB0`).
        config: settings.
    """

    @abstractmethod
    def __init__(self, resource_name: str, config: dict[str, Any] | None = None) -> None: ...

    @abstractmethod
    def connect(self) -> bool:
        """Connect to the instrument; True when that succeeded."""

    @abstractmethod
    def disconnect(self) -> bool:
        """Let go of the instrument; True when that succeeded."""

    @abstractmethod
    def reset(self) -> None:
        """Bring the instrument back to its default state."""

    @abstractmethod
    def get_identity(self) -> dict[str, str]:
        """`manufacturer`, `model`, `serial`, `firmware`."""

    @abstractmethod
    def get_capabilities(self) -> list[str]:
        """The measurement methods that `measure` knows."""

    @abstractmethod
    def configure(self, method: str, params: dict[str, Any]) -> None:
        """Prepare the instrument for `method`."""

    @abstractmethod
    def measure(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Measure, and return the results."""

    @abstractmethod
    def abort(self) -> None:
        """End the measurement under way. Called while `measure` runs."""

    @abstractmethod
    def get_status(self) -> dict[str, Any]:
        """What the instrument is doing."""

    def __enter__(self) -> InstrumentDriver:
        self.connect()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()


def driver_plugin(  # noqa: PLR0917 — the document's own signature
    name: str,
    version: str,
    author: str,
    description: str,
    supported_methods: list[str],
    supported_models: list[str],
    **kwargs: Any,
) -> Callable[[_C], _C]:
    """Mark a class as a plugin, in place of a `plugin.yaml`.

    vfab reads the arguments without running the file, so they must be literals. `kwargs` are the other fields of
    `PluginMetadata`. The class gets them as `_plugin_metadata`.
    """

    def mark(cls: _C) -> _C:
        from vfab.model.metadata import PluginMetadata

        cls._plugin_metadata = PluginMetadata(  # type: ignore[attr-defined]
            name=name,
            version=version,
            author=author,
            description=description,
            supported_methods=list(supported_methods),
            supported_models=list(supported_models),
            **{"driver_class": f"{cls.__module__}.{cls.__name__}", **kwargs},
        )
        return cls

    return mark


def __getattr__(name: str) -> Any:
    """`Instrument` is imported when it is asked for: most drivers are no instruments."""
    if name == "Instrument":
        from vfab.sdk.measuring import Instrument

        return Instrument
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
