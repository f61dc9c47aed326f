"""The MQTT driver against mosquitto."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from needs import program
from vfab.apps.contract import check_driver
from vfab.model.errors import ConnectError, LinkLost, PermissionRefused, Refused, TimeoutExceeded
from vfab.sdk.testing import DriverBench, manifest_in
from vfab.sdk.testing.proxy import FaultProxy

pytest.importorskip("aiomqtt")

import vfab.drivers.mqtt.driver as driver_module
from vfab.drivers.mqtt.driver import MqttDriver
from vfab.sdk.testing import soon

FOLDER = Path(driver_module.__file__).parent


class Mosquitto:
    """A broker on a port of its own, which can be stopped and started again."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self._path = program("mosquitto", package="mosquitto")
        with socket.socket() as held:  # it cannot say which port it was given
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        self.address = f"mqtt://127.0.0.1:{self.port}"
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *(lines or ("allow_anonymous true",))]))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mosquitto:
        self._process = subprocess.Popen([self._path, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        try:
            soon(self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def __exit__(self, *about: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as started:
        yield started


@pytest.mark.slow
def test_it_keeps_the_contract_of_every_driver_with_mosquitto(broker: Mosquitto, tmp_path: Path) -> None:
    env = {"VFAB_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    report = asyncio.run(check_driver(env, "mqtt", device=broker.address, simulated=True))
    assert report.passed, report.table()


def bench(address: str, **settings: Any) -> DriverBench[MqttDriver]:
    return DriverBench(MqttDriver, manifest_in(FOLDER), address, config={"reconnect_delay_s": 0.02, **settings})


def told(b: DriverBench[Any], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in b.events if name == kind]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_one_publishes_another_hears(broker: Mosquitto, protocol: str, qos: int) -> None:
    settings = {"protocol": protocol, "qos": qos}
    with bench(broker.address, topics=["lab/+/state"], **settings) as hears, bench(broker.address, **settings) as says:
        hears.driver.connect()
        says.driver.connect()
        says.driver.publish("lab/oven/state", "on \u00e9")
        says.driver.publish("lab/oven/other", "not subscribed")
        says.driver.publish("lab/door/state", b"\xff\x00")
        first, second = hears.driver.receive(2)
        assert (first["topic"], first["text"], first["qos"], first["retain"]) == (
            "lab/oven/state",
            "on \u00e9",
            qos,
            False,
        )
        assert second["hex"] == "ff00"
        assert says.driver.get_status().statistics.messages_out == 3


def test_topics_are_subscribed_and_left_while_connected(broker: Mosquitto) -> None:
    with bench(broker.address) as b:
        b.driver.connect()
        assert b.driver.subscribe("a/#") == ["a/#"]
        b.driver.publish("a/b/c", "1")
        assert b.driver.receive()[0]["topic"] == "a/b/c"
        assert b.driver.unsubscribe("a/#") == []
        b.driver.publish("a/b/c", "2")
        assert b.driver.receive(wait_s=0.1) == []


def test_a_retained_message_waits_for_those_who_come_later(broker: Mosquitto) -> None:
    with bench(broker.address) as b:
        b.driver.connect()
        b.driver.publish("status", "ready", qos=1, retain=True)
        b.driver.subscribe("status")
        (came,) = b.driver.receive()
        assert (came["text"], came["retain"]) == ("ready", True)
        b.driver.publish("status", "", qos=1, retain=True)


def test_messages_are_streamed_with_their_topics(broker: Mosquitto) -> None:
    with bench(broker.address, topics=["#"]) as b:
        b.driver.connect()
        b.driver.listen_for_events()
        soon(lambda: b.driver.get_status().streaming)
        for number in range(200):
            b.driver.publish(f"n/{number}", str(number))
        reader = b.streams["main"]
        records = [record for record in (reader.read(timeout_s=5) for _ in range(200)) if record is not None]
        assert [bytes(record.data) for record in records] == [str(number).encode() for number in range(200)]
        assert records[7].meta["topic"] == "n/7"


def test_a_question_is_answered_on_the_topic_of_answers(broker: Mosquitto) -> None:
    with bench(broker.address, topics=["ask/#"], tell_events=False) as device, bench(broker.address) as b:
        device.driver.connect()
        b.driver.connect()

        def answer() -> None:
            asked = device.driver.receive(wait_s=10)[0]
            device.driver.publish("answer/1", asked["text"][::-1])

        running = device.start(answer)
        assert b.driver.send_command("ask/1 hello", answer="answer/#").text == "olleh"
        running.result()
        with pytest.raises(TimeoutExceeded):
            b.driver.send_command("ask/1 hello", answer="answer/+", wait_s=0.05)


def test_the_last_will_is_published_when_the_driver_is_gone_without_a_word(broker: Mosquitto) -> None:
    with FaultProxy(broker.address.replace("mqtt", "tcp")) as proxy, bench(broker.address, topics=["will"]) as other:
        other.driver.connect()
        address = proxy.address.replace("tcp", "mqtt")
        with bench(address, will_topic="will", will_payload="gone", will_qos=1, reconnect=False) as b:
            b.driver.connect()
            proxy.leave()
            assert other.driver.receive(wait_s=10)[0]["text"] == "gone"
            soon(lambda: b.driver.get_status().state == "lost")


def test_whoever_leaves_properly_leaves_no_will(broker: Mosquitto) -> None:
    with bench(broker.address, topics=["will"]) as other, bench(broker.address, will_topic="will") as b:
        other.driver.connect()
        b.driver.connect()
        b.driver.disconnect()
        b.driver.disconnect()
        assert other.driver.receive(wait_s=0.2) == []


def test_a_broker_that_comes_back_is_connected_and_subscribed_again(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with broker:
        b = bench(broker.address, topics=["x"])
        b.driver.connect()
    soon(lambda: told(b, "link_lost"))
    with pytest.raises(LinkLost):
        b.driver.publish("x", "nobody is there")
    with broker:
        soon(lambda: told(b, "reconnected"))
        b.driver.publish("x", "again")
        assert b.driver.receive()[0]["text"] == "again"
        assert b.driver.get_status().statistics.reconnects == 1
        b.driver.disconnect()


def test_a_user_that_the_broker_does_not_know_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path, "allow_anonymous false") as broker,
        bench(broker.address, username="me", password="wrong") as b,
        pytest.raises(PermissionRefused) as why,
    ):
        b.driver.connect()
    assert "username" in why.value.remedy


def test_topics_that_cannot_be_are_refused(broker: Mosquitto) -> None:
    with bench(broker.address) as b:
        b.driver.connect()
        with pytest.raises(Refused):
            b.driver.publish("a/#", "wildcards cannot be published to")
        with pytest.raises(Refused):
            b.driver.subscribe("a/#/b")
        assert b.driver.is_connected()


def test_nobody_there_and_somebody_else_there_are_told() -> None:
    with bench("mqtt://127.0.0.1:9") as b, pytest.raises(ConnectError):
        b.driver.connect()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"mqtt://127.0.0.1:{mute.getsockname()[1]}"
        with bench(address, timeout_s=0.2) as b, pytest.raises(TimeoutExceeded):
            b.driver.connect()
