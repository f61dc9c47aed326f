"""What can be told of the MQTT driver without a broker; tests/drivers/links has mosquitto."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfab.model.errors import ConfigurationError, ConnectError, DriverError, LinkLost, TimeoutExceeded
from vfab.sdk.testing import DriverBench, manifest_in

aiomqtt = pytest.importorskip("aiomqtt")

from vfab.drivers.mqtt.client import translated  # noqa: E402
from vfab.drivers.mqtt.driver import MqttDriver  # noqa: E402

FOLDER = Path(__file__).parent


def test_without_a_broker_nothing_is_left_open() -> None:
    with DriverBench(MqttDriver, manifest_in(FOLDER), "mqtt://127.0.0.1:9") as b:
        with pytest.raises(ConnectError):
            b.driver.connect()
        with pytest.raises(LinkLost, match="no connection") as why:
            b.driver.publish("a", "b")
        assert why.value.remedy == "Connect first."
        assert b.driver.get_status().state == "disconnected"


def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"mqtts://127.0.0.1:{server.getsockname()[1]}"
        config = {"ca_file": str(tmp_path / "none.pem")}
        with (
            DriverBench(MqttDriver, manifest_in(FOLDER), address, config=config) as b,
            pytest.raises(ConfigurationError, match=r"none\.pem"),
        ):
            b.driver.connect()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiomqtt.MqttError("Operation timed out"), TimeoutExceeded),
        (aiomqtt.MqttError("gone"), LinkLost),
        (aiomqtt.exceptions.MqttConnectError(2), ConnectError),
        (aiomqtt.MqttCodeError(7, "no"), LinkLost),
        (LinkLost("x"), LinkLost),
    ],
)
def test_the_librarys_errors_are_translated(error: Exception, kind: type[DriverError]) -> None:
    assert isinstance(translated(error, "mqtt://here"), kind)
