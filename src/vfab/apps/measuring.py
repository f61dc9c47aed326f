"""Measuring: find the instrument by model, method or address, run the method, keep what was measured."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfab.apps.commands import ensure_connected, operate_gently
from vfab.apps.finding import with_drivers
from vfab.apps.interrupts import Interrupts
from vfab.apps.own_devices import has_own_device, opens_by_itself, own_device
from vfab.apps.session import Session
from vfab.kernel.managed import ManagedDevice
from vfab.kernel.registry import DriverRegistry
from vfab.model.devices import DeviceInfo
from vfab.model.errors import Cancelled, ConfigurationError, ConnectError, DeviceNotFound, DriverError, Refused
from vfab.model.manifest import Manifest
from vfab.model.settings import allowed, nearest, parse_text
from vfab.sdk.measurement import checked_parameters, command_of, parameters_schema
from vfab.sdk.whole_file import write_whole

__all__ = [
    "MeasureRequest",
    "MeasureWatcher",
    "check_output",
    "driver_for_model",
    "measure_by",
    "methods_of",
    "parameters_from",
    "partial_of",
    "write_measurement",
]

_MAKERS = re.compile(r"^(keithley|keysight|agilent|hewlett-packard|hp|tektronix|rohde|model)[\s:_-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """What is to be measured, and with what.

    Attributes:
        method: the measurement method, `iv_sweep`.
        model: the instrument's model, `2400`; its driver is taken, and `*IDN?` must say it.
        device: id or address; None takes the only instrument that fits.
        driver: its driver; None takes the one of the model, or that fits best.
        parameters: by name; texts are read by the parameter's type.
        overrides: settings of the driver for this run.
    """

    method: str
    model: str | None = None
    device: str | None = None
    driver: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class MeasureWatcher:
    """What is told meanwhile: the instrument, once it is connected, and the progress."""

    chosen: Callable[[ManagedDevice, Mapping[str, Any]], None] = lambda device, identity: None
    progress: Callable[[Mapping[str, Any]], None] = lambda data: None


def methods_of(drivers: DriverRegistry) -> list[dict[str, Any]]:
    """Every method that an available driver offers: `{"method", "driver", "help", "parameters"}`, by name."""
    found = []
    for info in drivers.get_available_drivers():
        for method in info.manifest.supported_methods if info.category == "instrument" else ():
            command = command_of(info.manifest, method)
            names = list(command.parameters) if command is not None else []
            entry = {"method": method, "driver": info.name, "parameters": names}
            found.append({**entry, "help": command.help if command is not None else ""})
    return sorted(found, key=lambda entry: (entry["method"], entry["driver"]))


def driver_for_model(drivers: DriverRegistry, model: str) -> str:
    """The driver that supports `model`, as `*IDN?`, a person or a manifest writes it: `MODEL 2400`, `Keithley 2400`.

    Raises ConfigurationError: none does; near models are told.
    """
    text = model.strip()
    while text:
        name = drivers.find_driver_for_model(text)
        if name is not None:
            return name
        shorter = _MAKERS.sub("", text)
        if shorter == text:
            break
        text = shorter
    known = [item for info in drivers.get_available_drivers() for item in info.manifest.supported_models]
    raise ConfigurationError(
        f"no driver is known for the model {model!r}; {nearest(text, known)}",
        context={"model": model, "known": known},
        remedy="Name a driver with --driver: scpi-generic talks to any SCPI instrument.",
    )


def parameters_from(manifest: Manifest, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of `method`, texts read by their type, everything held against the manifest.

    Raises Refused: the field, what was found and what it may be are told.
    """
    schema = parameters_schema(manifest, method)
    read: dict[str, Any] = {}
    for name, value in given.items():
        child = schema["properties"].get(name) if schema is not None else None
        if not isinstance(value, str) or (schema is not None and child is None):
            read[name] = value
        elif child is not None:
            try:
                read[name] = parse_text(value, child)
            except ValueError:
                raise Refused(
                    f"{method}: {name}: found {value!r}; {allowed(child)}",
                    driver_name=manifest.name,
                    context={"method": method, "field": name, "found": value, "expected": allowed(child)},
                    remedy=f"`vfab driver run {manifest.name} {method.replace('_', '-')} --help` lists the parameters.",
                ) from None
        else:
            try:
                read[name] = json.loads(value)
            except ValueError:
                read[name] = value
    if schema is not None:
        checked_parameters(manifest, method, read)
    return read


async def measure_by(
    session: Session, request: MeasureRequest, interrupts: Interrupts, watcher: MeasureWatcher
) -> dict[str, Any]:
    """Measure: the driver's result, with `device` and `driver`.

    Raises DeviceNotFound, ConfigurationError, Refused: nothing was measured. Interrupted, HardwareError, …: the
    outputs are off; `partial_of(error)` is what was measured.
    """
    async with _instrument(session, request) as (device, identity):
        watcher.chosen(device, identity)
        params = parameters_from(device.manifest, request.method, request.parameters)
        about = {"device": device.id, "driver": device.manifest.name}
        try:
            result = await operate_gently(
                device,
                "measure",
                (request.method, params),
                {},
                interrupts=interrupts,
                timeout_s=0,
                on_progress=watcher.progress,
            )
        except DriverError as error:
            raise _explained(error, about, interrupts) from error
    if not isinstance(result, Mapping) or "rows" not in result:  # a driver of seed 004's shape: whatever it returns
        result = {"method": request.method, "parameters": params, "result": result}
    return {**result, **about}


def _explained(error: DriverError, about: Mapping[str, Any], interrupts: Interrupts) -> DriverError:
    partial = error.context.get("partial")
    told = error
    if isinstance(error, Cancelled) and interrupts.number:
        told = interrupts.interrupted(error.message or "the measurement was interrupted")
    if isinstance(partial, Mapping):
        told.context["partial"] = {**partial, **about}
    told.context.update(about)
    return told


def partial_of(error: DriverError) -> dict[str, Any] | None:
    """What had been measured when `error` ended the measurement; None when nothing was."""
    partial = error.context.get("partial")
    return dict(partial) if isinstance(partial, Mapping) and partial.get("rows") else None


# -- which instrument -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _instrument(
    session: Session, request: MeasureRequest
) -> AsyncIterator[tuple[ManagedDevice, Mapping[str, Any]]]:
    """The connected instrument that was meant, and who it says that it is."""
    names = _drivers(session.drivers, request)
    if request.device is not None:
        info = await session.resolve(request.device, "instrument", names[0] if len(names) == 1 else None)
        fitting = [name for name in names if name in info.drivers] or (names if len(names) == 1 else [])
        async with session.device(
            request.device, fitting[0] if fitting else None, request.overrides, "instrument"
        ) as device:
            parameters_from(device.manifest, request.method, request.parameters)
            identity = await _connected(device)
            if request.model is not None and not _is_model(identity, request.model):
                raise _another(request, device, identity)
            yield device, identity
        return
    found = (await session.scan()).devices
    candidates = _candidates(session.drivers, found, names, request.model) or _not_found(session, names, request)
    if len(candidates) > 1 and request.model is None:
        listed = ", ".join(info.id for info, _ in candidates)
        raise ConfigurationError(
            f"{len(candidates)} instruments can measure {request.method}: {listed}",
            context={"method": request.method, "devices": [info.id for info, _ in candidates]},
            remedy="Choose one with --device, or name its model with --model.",
        )
    others: list[str] = []
    for info, driver in candidates:
        async with session.device(info.id, driver, request.overrides, "instrument") as device:
            parameters_from(device.manifest, request.method, request.parameters)
            try:
                identity = await _connected(device)
            except ConnectError as error:
                others.append(f"{info.id}: {error.message}")
                continue
            if request.model is None or _is_model(identity, request.model):
                yield device, identity
                return
            others.append(f"{info.id} is a {identity.get('model') or 'nameless instrument'}")
    raise _nothing(request, session.drivers, names, others, [info.id for info in found])


def _drivers(drivers: DriverRegistry, request: MeasureRequest) -> list[str]:
    """The drivers that may be meant, best first. Raises ConfigurationError: none offers the method, or the model."""
    if request.driver is not None:
        drivers.get(request.driver)
        return [request.driver]
    if request.model is not None:
        return [driver_for_model(drivers, request.model)]
    names = drivers.find_drivers_for_method(request.method)
    if names or request.device is not None:
        return names
    known = sorted({entry["method"] for entry in methods_of(drivers)})
    raise ConfigurationError(
        f"no driver offers the method {request.method!r}; {nearest(request.method, known)}",
        context={"method": request.method, "known": known},
        remedy="`vfab measure` without a method lists what there is; --device names an instrument.",
    )


def _candidates(
    drivers: DriverRegistry, found: tuple[DeviceInfo, ...], names: list[str], model: str | None
) -> list[tuple[DeviceInfo, str]]:
    """Accessible devices with the driver to use; one that does not say its model only where it may be asked."""
    likely: list[tuple[DeviceInfo, str]] = []
    unknown: list[tuple[DeviceInfo, str]] = []
    for device in found:
        fitting = [name for name in with_drivers(drivers, device).drivers if name in names]
        if not fitting or not device.accessible:
            continue
        pair = (device, fitting[0])
        says = " ".join((device.product, device.attributes.get("model", "")))
        own = device.attributes.get("simulates") == fitting[0]
        if model is None or (says.strip() and _same_model(says, model)):
            likely.append(pair)
        elif own or (not says.strip() and drivers.get(fitting[0]).manifest.permissions.probe):
            unknown.append(pair)
    return likely + unknown


def _not_found(session: Session, names: list[str], request: MeasureRequest) -> list[tuple[DeviceInfo, str]]:
    """Instruments that no scan finds: those in use here, and those whose resource is in their driver's settings."""
    used = [(d.info, d.manifest.name) for d in session.supervisor.devices() if d.manifest.name in names]
    drivers = [session.drivers.get(name) for name in names]
    return used or [
        (own_device(driver), driver.name)
        for driver in drivers
        if has_own_device(driver) and opens_by_itself(driver, session.checked(driver, request.overrides))
    ]


def _same_model(says: str, model: str) -> bool:
    return _MAKERS.sub("", model.strip()).casefold() in says.casefold()


def _is_model(identity: Mapping[str, Any], model: str) -> bool:
    wanted = model.strip()
    while (shorter := _MAKERS.sub("", wanted)) != wanted:
        wanted = shorter
    return wanted.casefold() in str(identity.get("model", "")).casefold()


async def _connected(device: ManagedDevice) -> Mapping[str, Any]:
    await ensure_connected(device)
    identity = await device.call("get_identity")
    return identity if isinstance(identity, Mapping) else {"model": str(identity)}


def _another(request: MeasureRequest, device: ManagedDevice, identity: Mapping[str, Any]) -> ConfigurationError:
    said = str(identity.get("model") or "an instrument without a name")
    return ConfigurationError(
        f"{device.id} is a {said}, not a {request.model}",
        context={"device": device.id, "model": request.model, "identity": dict(identity)},
        remedy="Leave --model out to measure with this one, or name another --device.",
    )


def _nothing(
    request: MeasureRequest, drivers: DriverRegistry, names: list[str], others: list[str], found: list[str]
) -> DeviceNotFound:
    what = f"{request.model}" if request.model is not None else f"instrument that can measure {request.method}"
    tried = f" ({'; '.join(others)})" if others else ""
    remedy = "`vfab device scan` lists what is there."
    if names:
        remedy = "Switch it on and run `vfab device scan`; one on the network is named: --device tcp://host:5025"
        own = all(has_own_device(drivers.get(name)) for name in names)
        remedy += ", one of another kind as its driver calls it: --device GPIB0::24::INSTR." if own else "."
        simulated = next((name for name in names if drivers.get(name).manifest.simulator), "")
        remedy += f" To try without one: `vfab sim run {simulated}`." if simulated else ""
    return DeviceNotFound(
        f"no {what} was found{tried}",
        context={"method": request.method, "model": request.model, "drivers": names, "found": found},
        remedy=remedy,
    )


# -- files ------------------------------------------------------------------------------------------------------------


def check_output(file: Path | None, suffixes: tuple[str, ...]) -> None:
    """Told before anything is measured. Raises ConfigurationError: `file` cannot be written, or is no `suffixes`."""
    if file is None:
        return
    if file.suffix.lower() not in suffixes:
        raise ConfigurationError(
            f"{file}: {file.suffix or 'a file without an ending'} is no format for this",
            context={"file": str(file)},
            remedy=f"Let it end in {' or '.join(suffixes)}.",
        )
    folder = file.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or file.is_dir():
        raise ConfigurationError(
            f"{file}: cannot be written",
            context={"file": str(file)},
            remedy=f"Make the folder {folder}, or name another file." if not folder.is_dir() else "Name another file.",
        )


def write_measurement(file: Path, result: Mapping[str, Any]) -> None:
    """Write a result as `.json` (all of it) or `.csv` (a line of names with units, then the points), whole or not."""
    text = _csv(result) if file.suffix.lower() == ".csv" else json.dumps(result, indent=2, default=str) + "\n"
    write_whole(file, text)


def titles_of(result: Mapping[str, Any]) -> list[str]:
    """The names of the columns, with their units: `voltage [V]`."""
    units = result.get("units") or {}
    return [f"{name} [{units[name]}]" if units.get(name) else str(name) for name in result.get("columns") or []]


def _csv(result: Mapping[str, Any]) -> str:
    if "rows" not in result:
        raise ConfigurationError(
            f"{result.get('method')} returned no rows, which CSV needs", remedy="Write it as .json instead."
        )
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(titles_of(result))
    writer.writerows(["" if value is None else value for value in row] for row in result["rows"])
    return stream.getvalue()
