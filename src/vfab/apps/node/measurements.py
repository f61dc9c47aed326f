"""Measurements that a node makes for a command: `POST /v1/measurements`, a job like a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from vfab.apps.node.jobs import Job, JobInterrupts
from vfab.apps.node.service import Node
from vfab.kernel.managed import ManagedDevice

__all__ = ["MeasureBody", "add_measurements"]


class MeasureBody(BaseModel):
    """A measurement, made as a job; its result has `columns`, `units` and `rows`."""

    model_config = ConfigDict(extra="forbid")

    method: str = Field(description="the measurement method, iv_sweep")
    model: str | None = Field(None, description="the instrument's model, by what *IDN? says")
    device: str | None = Field(None, description="id or address; default: the only instrument that fits")
    driver: str | None = Field(None, description="its driver; default: the model's, or the one that fits best")
    parameters: dict[str, Any] = Field({}, description="by name; texts are read by the parameter's type")
    overrides: dict[str, Any] = Field({}, description="settings of the driver for this job")


def add_measurements(app: FastAPI, node: Node) -> None:
    """Serve measurements of `node`."""

    @app.post("/v1/measurements", tags=["jobs"], status_code=202)
    async def measurement(body: MeasureBody) -> Response:
        """Measure with an instrument, as a job."""
        job = node.jobs.start("measure", lambda job, interrupts: _measure(node, body.model_dump(), job, interrupts))
        return Response(json.dumps(job.to_dict(), default=str), 202, None, "application/json")


async def _measure(node: Node, body: Mapping[str, Any], job: Job, interrupts: JobInterrupts) -> dict[str, Any]:
    from vfab.apps.measuring import MeasureRequest, MeasureWatcher, measure_by

    def chosen(managed: ManagedDevice, identity: Mapping[str, Any]) -> None:
        job.device, job.driver = managed.id, managed.manifest.name
        name = " ".join(filter(None, (str(identity.get(key, "")) for key in ("manufacturer", "model", "serial"))))
        job.tell(chosen={"device": managed.id, "driver": managed.manifest.name, "name": name or managed.info.name})

    async with node.work.journaled("measure", body["device"] or "", body["driver"] or "", dict(body)):
        return await measure_by(node.session, MeasureRequest(**body), interrupts, MeasureWatcher(chosen, job.advance))
