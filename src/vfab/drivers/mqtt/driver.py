"""The MQTT driver: publish, subscribe, and hear what others publish."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from vfab.model.errors import ConfigurationError, DriverError
from vfab.sdk.async_channel import AsyncSocketDriver
from vfab.sdk.communication import Message, Response
from vfab.sdk.driver import Environment, command

if TYPE_CHECKING:
    from .client import LinkedClient

__all__ = ["MqttDriver"]


class MqttDriver(AsyncSocketDriver):
    """Speaks with an MQTT broker.

    Each message of the stream is its payload, with `topic`, `qos` and `retain` as meta. What was subscribed is
    subscribed again after a reconnect.
    """

    kind: ClassVar[str] = "mqtt"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._client: LinkedClient | None = None
        self._reading: asyncio.Task[None] | None = None
        self._topics: dict[str, int] = dict.fromkeys(self.config["topics"], int(self.config["qos"]))
        self._wanted = ""

    # -- the channel ---------------------------------------------------------------------------------------------------

    async def open_async(self) -> None:
        """Connect, then subscribe to what is wanted."""
        from .client import LinkedClient, translated

        assert self.connection is not None
        parts = urlsplit(self.address)
        try:
            client = LinkedClient(self.connection, parts.hostname or "localhost", **self._settings(parts.scheme))
            await client.__aenter__()
            self._client = client
            for topic, qos in self._topics.items():
                await client.subscribe(topic, qos)
        except Exception as error:
            raise translated(error, self.address) from error
        self._reading = asyncio.create_task(self._read(client))

    def _settings(self, scheme: str) -> dict[str, Any]:
        import aiomqtt

        config = self.config
        protocols = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}
        settings: dict[str, Any] = {
            "identifier": config["client_id"],
            "username": config["username"],
            "password": config["password"],
            "keepalive": int(config["keep_alive_s"]),
            "protocol": protocols[config["protocol"]],
            "timeout": self.timeout_s,
        }
        if config["protocol"] == "3.1.1":
            settings["clean_session"] = bool(config["clean_session"])
        if config["will_topic"]:
            settings["will"] = aiomqtt.Will(
                config["will_topic"], config["will_payload"], int(config["will_qos"]), bool(config["will_retain"])
            )
        if scheme == "mqtts":
            try:
                settings["tls_context"] = ssl.create_default_context(cafile=config["ca_file"])
            except OSError as error:
                raise ConfigurationError(
                    f"the certificates in {config['ca_file']} cannot be read: {error}",
                    context={"field": "ca_file", "value": config["ca_file"]},
                    remedy="Name a file of PEM certificates.",
                ) from error
        return settings

    async def close_async(self) -> None:
        """Leave the broker properly: the last will is not published."""
        reading, self._reading = self._reading, None
        client, self._client = self._client, None
        if reading is not None:
            reading.cancel()
        if client is not None:
            await client.__aexit__(None, None, None)

    async def _read(self, client: LinkedClient) -> None:
        try:
            async for message in client.messages:
                payload = message.payload if isinstance(message.payload, bytes) else str(message.payload).encode()
                self.statistics.bytes_in += len(payload)
                about = {"topic": message.topic.value, "qos": int(message.qos), "retain": bool(message.retain)}
                self.came(Message(payload, meta=about))
        except Exception as error:
            self.broke(error)

    def translated(self, error: Exception) -> DriverError:
        """A library's error as one of vfab's."""
        from .client import translated

        return translated(error, self.address)

    # -- commands ------------------------------------------------------------------------------------------------------

    @command
    def publish(self, topic: str, payload: str | bytes = "", qos: int | None = None, retain: bool = False) -> None:
        """Publish a message; with quality of service 1 or 2 the broker has confirmed it when this returns.

        Args:
            topic: where, without wildcards.
            payload: what; text travels as UTF-8.
            qos: 0, 1 or 2; default is the setting.
            retain: the broker keeps it for whoever subscribes later; an empty payload removes what it kept.

        Raises Refused: the topic cannot be. LinkLost: there is no connection. TimeoutExceeded: it was not confirmed.
        """
        data = payload.encode("utf-8", "surrogateescape") if isinstance(payload, str) else payload
        service = int(self.config["qos"]) if qos is None else qos
        self._with_client("publish", lambda client: client.publish(topic, data, service, retain))
        self.statistics.bytes_out += len(data)
        self.statistics.messages_out += 1

    @command
    def subscribe(self, topic: str, qos: int | None = None) -> list[str]:
        """Hear what is published on `topic` from now on; `+` stands for one level, `#` at the end for any.

        Returns:
            Every topic that is subscribed now.
        """
        service = int(self.config["qos"]) if qos is None else qos
        self._with_client("subscribe", lambda client: client.subscribe(topic, service))
        self._topics[topic] = service
        return list(self._topics)

    @command
    def unsubscribe(self, topic: str) -> list[str]:
        """Hear of `topic` no more; returns what is still subscribed."""
        self._with_client("unsubscribe", lambda client: client.unsubscribe(topic))
        self._topics.pop(topic, None)
        return list(self._topics)

    def _with_client(self, what: str, use: Any) -> None:
        from .client import translated

        async def call() -> None:
            assert self._client is not None
            await use(self._client)

        try:
            self.run(call(), what=f"{what} at {self.address}")
        except Exception as error:
            self.statistics.errors += 1
            self._last_error = str(error)
            raise translated(error, self.address) from error

    def send_message(self, data: bytes) -> None:
        """Publish `TOPIC PAYLOAD`."""
        topic, _, payload = data.partition(b" ")
        self.publish(topic.decode("utf-8", "replace"), payload)
        self.statistics.messages_out -= 1  # `write` counts it, too

    @command
    def send_command(
        self, command: str, wait_s: float | None = None, form: str = "text", answer: str = "#"
    ) -> Response:
        """Publish `TOPIC PAYLOAD` and wait for a message that answers.

        Args:
            command: topic, a space, payload.
            wait_s: how long the answer may take, seconds; default is the setting timeout_s.
            form: text.
            answer: the topic on which the answer comes, wildcards allowed; it is subscribed for as long as need be.
        """
        before = answer in self._topics
        if answer != "#" and not before:
            self.subscribe(answer)
        self._wanted = answer
        try:
            return super().send_command(command, wait_s, form)
        finally:
            self._wanted = ""
            if answer != "#" and not before:
                self.unsubscribe(answer)

    def is_answer(self, asked: str, message: Message) -> bool:
        """It came on the topic of answers."""
        import aiomqtt

        return aiomqtt.Topic(str(message.meta["topic"])).matches(self._wanted or "#")

    def channel_details(self) -> dict[str, Any]:
        """What is subscribed, and how."""
        return {
            "topics": dict(self._topics),
            "client_id": self.config["client_id"],
            "protocol": self.config["protocol"],
        }
