"""BaseDriver without a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from vfab.model.devices import DeviceInfo
from vfab.model.errors import Cancelled, ConfigurationError
from vfab.model.manifest import manifest_from_dict
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import BaseDriver, Environment, command, commands_of
from vfab.sdk.link import Link


class Ports:
    """What a host does, written down."""

    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []

    def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        self.did.append(("emit", kind, dict(data)))

    def progress(self, data: Mapping[str, Any]) -> None:
        self.did.append(("progress", dict(data)))

    def open_link(self, address: str, settings: Mapping[str, Any]) -> Link:
        import os

        self.did.append(("open", address, dict(settings)))
        return Link(os.open("/dev/null", os.O_RDWR), address)

    def close_link(self, address: str) -> None:
        self.did.append(("close", address))


def made(kind: type[BaseDriver] = BaseDriver, **fields: Any) -> tuple[BaseDriver, Ports]:
    data = {"name": "m", "version": "1", "author": "a", "description": "d", "driver_class": "d.D", **fields}
    ports = Ports()
    device = DeviceInfo(id="d", bus="b", address="/dev/x")
    return kind(Environment(manifest_from_dict(data), device, {"a": 1}, ports)), ports


def test_every_default_is_harmless() -> None:
    driver, _ = made()
    for step in (driver.initialize, driver.connect, driver.disconnect, driver.reset):
        assert step() is None
    assert driver.is_connected() is False
    assert driver.test_connection() == {"success": False, "message": "not connected", "details": {}}
    assert driver.get_info() == {"name": "m", "version": "1", "category": "instrument", "description": "d"}
    assert driver.get_config_schema() == {"type": "object", "properties": {}}


def test_dependencies_are_looked_for_without_importing_them() -> None:
    wanted = ["msgspec>=0.1", "msgspec>=999", "no-such-package", "json; python_version<'3'", "unittest"]
    driver, _ = made(dependencies=wanted)
    assert driver.missing_dependencies() == ["msgspec>=999", "no-such-package"]
    assert not driver.is_available()
    assert made()[0].is_available()


def test_a_manager_is_the_driver_with_other_settings() -> None:
    driver, _ = made(config_schema={"type": "object", "properties": {"a": {"type": "integer"}}})
    assert driver.create_manager(a=2) is driver
    assert driver.config == {"a": 2}
    with pytest.raises(ConfigurationError, match="no setting 'b'"):
        driver.create_manager(b=1)


def test_what_a_driver_asks_of_its_host() -> None:
    driver, ports = made()
    link = driver.open_link(baudrate=9600)
    driver.close_link(link)
    driver.close_link(link)
    driver.emit("kind", x=1)
    driver.progress(done=1)
    assert ports.did == [
        ("open", "/dev/x", {"baudrate": 9600}),
        ("close", "/dev/x"),
        ("emit", "kind", {"x": 1}),
        ("progress", {"done": 1}),
    ]


def test_a_checkpoint_looks_at_the_call_that_runs() -> None:
    driver, _ = made()
    driver.checkpoint()
    token = CancelToken()
    context = current_token.set(token)
    driver.checkpoint()
    token.cancel()
    with pytest.raises(Cancelled):
        driver.checkpoint()
    current_token.reset(context)


def test_an_override_keeps_its_mark_and_helpers_are_not_commands() -> None:
    class D(BaseDriver):
        def is_connected(self) -> bool:
            return True

        @command
        def go(self) -> None: ...

        @command(concurrent=True)
        def look(self) -> None: ...

        def helper(self) -> None: ...

    marks = commands_of(D)
    assert marks["is_connected"].concurrent
    assert not marks["go"].concurrent
    assert marks["look"].concurrent
    assert "helper" not in marks
    assert "create_manager" not in marks
