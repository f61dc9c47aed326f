"""The node's API: HTTP with JSON, events on a WebSocket. Nothing is decided here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field

import vfab
from vfab.apps.node.answers import ERRORS, add_errors, as_json, bad_request
from vfab.apps.node.captures import add_captures
from vfab.apps.node.events import Follower
from vfab.apps.node.measurements import add_measurements
from vfab.apps.node.service import Node
from vfab.apps.node.streams import add_streams
from vfab.apps.node.swapping import add_swaps
from vfab.apps.settings import all_settings, settings_of

__all__ = ["make_app"]

LONGEST_WAIT_S = 30.0


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScanBody(_Body):
    """How to look for devices; all of it may be left out."""

    kinds: list[str] = []
    refresh: bool = False
    probe: bool = False
    addresses: list[str] = []


Settings = Annotated[
    dict[str, Any], Field(description="settings of the driver by dotted field, stronger than all others")
]


class DeviceBody(_Body):
    """Which device, and with what."""

    device: str = Field(description="id, beginning of an id, or address")
    driver: str | None = Field(None, description="its driver; default: the one that fits best")
    overrides: Settings = {}


class SendBody(DeviceBody):
    """A command for a device."""

    command: str = Field(description="a command of the device's driver")
    parameters: dict[str, Any] = Field({}, description="by name; texts are read by the parameter's type")


class RunBody(_Body):
    """A command of a driver, run as a job."""

    device: str | None = Field(None, description="id or address; default: the only one that fits")
    parameters: dict[str, Any] = Field({}, description="by name; texts are read by the parameter's type")
    overrides: Settings = {}


class PlotBody(_Body):
    """A plot, run as a job."""

    file: str = Field(description="absolute path of an SVG file on the node's machine", pattern="^/")
    device: str | None = Field(None, description="id or address; default: the only plotter")
    driver: str | None = Field(None, description="its driver; default: the one that fits best")
    overrides: Settings = {}
    options: dict[str, Any] = Field({}, description="PlotOptions by name")
    dry_run: bool = Field(False, description="plan and estimate only")
    report: str | None = Field(None, description="absolute path to write the report to", pattern="^/")
    picture: str | None = Field(None, description="absolute path to draw the plan to, as PNG", pattern="^/")


class CancelBody(_Body):
    """Why a job is cancelled."""

    signal: int = Field(2, ge=1, le=64, description="the signal that made the caller do it; decides its exit code")


def make_app(node: Node) -> FastAPI:
    """The application that serves `node`."""
    app = FastAPI(
        title="vfab node",
        version=vfab.__version__,
        description="Devices of this machine, their drivers, plots and events. Errors are "
        '{"error": {"code", "message", "remedy", "context"}}.',
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
    )
    add_errors(app)
    _node(app, node)
    _devices(app, node)
    _drivers(app, node)
    _jobs(app, node)
    add_captures(app, node)
    add_measurements(app, node)
    add_streams(app, node)
    add_swaps(app, node.swaps, node.jobs, as_json)
    _events(app, node)
    return app


def _node(app: FastAPI, node: Node) -> None:
    @app.get("/v1/status", tags=["node"])
    async def status() -> Response:
        """How the node stands: devices, drivers that are left out, jobs."""
        return as_json(node.status())

    @app.post("/v1/shutdown", tags=["node"], status_code=202)
    async def shutdown() -> Response:
        """End the node: devices are left safe first."""
        node.stopping.set()
        return as_json({"stopping": True}, 202)

    @app.get("/v1/journal", tags=["node"])
    async def journal(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """What was done, newest last."""
        entries = await node.work.do(lambda store: store.journal.last(limit))
        fields = ("id", "at", "run", "phase", "operation", "device_id", "driver", "of", "outcome", "detail")
        return as_json({"entries": [{field: getattr(entry, field) for field in fields} for entry in entries]})

    @app.get("/v1/config", tags=["node"])
    async def config(driver: str | None = None) -> Response:
        """Every setting, its value and where that came from; secrets are masked."""
        known, env = node.session.drivers, node.session.env
        wanted = [settings_of(known, driver, env)] if driver is not None else all_settings(known, env)
        return as_json({"drivers": {one.name: one.configuration({}).resolve().show() for one in wanted}})


def _devices(app: FastAPI, node: Node) -> None:
    @app.get("/v1/devices", tags=["devices"])
    async def devices() -> Response:
        """The devices that a driver fits, who uses each, and which the node keeps."""
        return as_json(await node.devices())

    @app.get("/v1/devices/scan", tags=["devices"])
    async def scan() -> Response:
        """Everything that is there."""
        return as_json(await node.scan())

    @app.post("/v1/devices/scan", tags=["devices"])
    async def look(body: ScanBody) -> Response:
        """What is there, of some kinds, or with the addresses given; `probe` writes to ports to learn who is there."""
        return as_json(await node.scan(**body.model_dump()))

    @app.get("/v1/devices/state", tags=["devices"])
    async def state(device: str) -> Response:
        """What is known of a device; its story where the node keeps it."""
        return as_json(await node.state(device))

    @app.get("/v1/devices/story", tags=["devices"])
    async def story(device: str) -> Response:
        """The last changes of state of a device that the node keeps."""
        known = await node.state(device)
        return as_json({"device": known["device"]["id"], "story": known.get("story", [])})

    @app.post("/v1/devices/send", tags=["devices"])
    async def send(body: SendBody) -> Response:
        """Run one command; connects first where that is still to do."""
        done = await node.use.send(body.device, body.command, body.parameters, body.driver, body.overrides)
        return as_json(done)

    def add(verb: str, about: str) -> None:
        async def act(body: DeviceBody) -> Response:
            return as_json(await node.use.act(verb, body.device, body.driver, body.overrides))

        app.post(f"/v1/devices/{verb}", tags=["devices"], name=verb, description=about)(act)

    add("init", "Start the device's driver, and keep it so.")
    add("connect", "Connect, test the connection, and keep it so.")
    add("disconnect", "Leave the device safe; it stays known.")
    add("reset", "Bring the device back to its state after power-on, or its driver out of an error.")
    add("close", "Leave the device safe, end its driver, and keep it no more.")


def _drivers(app: FastAPI, node: Node) -> None:
    @app.get("/v1/drivers", tags=["drivers"])
    async def drivers() -> Response:
        """All drivers, and what could not be read."""
        await node.drivers.look_and_note()
        known = node.session.drivers
        return as_json(
            {"drivers": [info.to_dict() for info in known.drivers], "problems": [p.to_dict() for p in known.problems]}
        )

    @app.get("/v1/drivers/{name}", tags=["drivers"])
    async def driver(name: str) -> Response:
        """Everything that is known of a driver without running it."""
        return as_json(node.session.drivers.get(name).to_dict())

    @app.post("/v1/drivers/{name}/enable", tags=["drivers"])
    async def enable(name: str) -> Response:
        """Let a disabled or left-out driver be used, and bring its devices back."""
        return as_json(await node.drivers.enable(name))

    @app.post("/v1/drivers/{name}/disable", tags=["drivers"])
    async def disable(name: str) -> Response:
        """Let go of its devices, and let nobody use it."""
        return as_json(await node.drivers.disable(name))

    @app.post("/v1/drivers/{name}/restart", tags=["drivers"])
    async def restart(name: str) -> Response:
        """End its processes and start them anew, with the code that is on disk now."""
        return as_json(await node.drivers.restart(name))

    @app.post("/v1/drivers/{name}/commands/{command}", tags=["drivers"], status_code=202)
    async def run(name: str, command: str, body: RunBody) -> Response:
        """Run a command of the driver as a job."""
        return as_json(node.use.run(name, command, body.model_dump()).to_dict(), 202)


def _jobs(app: FastAPI, node: Node) -> None:
    @app.post("/v1/plots", tags=["jobs"], status_code=202)
    async def plot(body: PlotBody) -> Response:
        """Plot a file as a job."""
        return as_json(node.use.plot(body.model_dump()).to_dict(), 202)

    @app.get("/v1/jobs", tags=["jobs"])
    async def jobs() -> Response:
        """Jobs that run, and the last ones that ended."""
        return as_json({"jobs": [job.to_dict() for job in node.jobs.all()]})

    @app.get("/v1/jobs/{number}", tags=["jobs"])
    async def job(
        number: str,
        after: Annotated[int, Query(description="wait for something newer than this version")] = 0,
        wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="seconds to wait for it")] = 0.0,
    ) -> Response:
        """How a job stands; with `after` and `wait_s`, as soon as it stands otherwise."""
        found = node.jobs.get(number)
        if after and wait_s:
            await found.after(after, wait_s)
        return as_json(found.to_dict())

    @app.post("/v1/jobs/{number}/cancel", tags=["jobs"])
    async def cancel(number: str, body: CancelBody) -> Response:
        """End a job: the driver leaves the device safe; a second time, at once."""
        found = node.jobs.get(number)
        if found.state == "running" and found.interrupts is not None:
            found.interrupts.take(body.signal)
        return as_json(found.to_dict())


def _events(app: FastAPI, node: Node) -> None:
    @app.get("/v1/events", tags=["events"])
    async def events(  # noqa: PLR0917 — a query's parameters come by name
        after: Annotated[int, Query(description="only events with a higher number")] = 0,
        since: Annotated[datetime | None, Query(description="only events from this time on, with time zone")] = None,
        kind: Annotated[list[str], Query(alias="type", description="only these types")] = [],  # noqa: B006 — FastAPI's way
        device: str = "",
        driver: str = "",
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
    ) -> Response:
        """What happened since the node was started, the newest of it, oldest first."""
        if since is not None and since.tzinfo is None:
            raise bad_request("since", "a time without time zone", "Write for example 2030-01-01T12:00:00Z.")
        found = node.events.select(
            after=after,
            since=since,
            types=frozenset(kind),
            device=node.device_meant(device),
            driver=driver,
            limit=limit,
        )
        return as_json({"events": found, "last": node.events.last})

    @app.websocket("/v1/events/stream")
    async def stream(
        socket: WebSocket,
        after: int | None = None,
        kind: Annotated[list[str], Query(alias="type")] = [],  # noqa: B006 — FastAPI's way
        device: str = "",
        driver: str = "",
    ) -> None:
        """Events as they happen, one JSON text each; with `after`, first those of the history that are newer."""
        await socket.accept()

        async def send(event: dict[str, Any]) -> None:
            await socket.send_text(_text(event))

        follower = Follower(send, types=frozenset(kind), device=node.device_meant(device), driver=driver)
        ended = asyncio.ensure_future(_until_closed(socket, node.stopping, follower.gone))
        try:
            with follower.following(node.events):
                if after is not None:
                    caught_up = asyncio.ensure_future(follower.catch_up(node.events, after))
                    await asyncio.wait({caught_up, ended}, return_when=asyncio.FIRST_COMPLETED)
                    caught_up.cancel()
                await ended
        finally:
            ended.cancel()
            with contextlib.suppress(Exception):
                await socket.close()


async def _until_closed(socket: WebSocket, stopping: asyncio.Event, gone: asyncio.Event) -> None:
    """Until the other side goes, or the node ends. What the other side says means nothing."""

    async def heard() -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
            while True:
                await socket.receive_text()

    waits = {asyncio.ensure_future(wait) for wait in (heard(), stopping.wait(), gone.wait())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()


def _text(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, default=str)
