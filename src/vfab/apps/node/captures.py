"""Pictures that a node takes for a command: `POST /v1/captures`, a job like a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from vfab.apps.node.jobs import Job, JobInterrupts
from vfab.apps.node.service import Node
from vfab.kernel.managed import ManagedDevice

__all__ = ["CaptureBody", "add_captures"]


class CaptureBody(BaseModel):
    """Pictures of a camera, taken as a job."""

    model_config = ConfigDict(extra="forbid")

    device: str | None = Field(None, description="id or address; default: the only camera")
    driver: str | None = Field(None, description="its driver; default: the one that fits best")
    output: str | None = Field(None, description="absolute path of the file, .png, .jpg or .raw", pattern="^/")
    folder: str = Field("/", description="absolute path of the folder for a file without a name", pattern="^/")
    count: int = Field(1, description="how many", ge=1)
    width_px: int | None = Field(None, description="size in pixels; default: as it is set", ge=1)
    height_px: int | None = Field(None, description="size in pixels; default: as it is set", ge=1)
    exposure_s: float | None = Field(None, description="seconds, 0 is automatic; default: as it is set", ge=0)
    overrides: dict[str, Any] = Field({}, description="settings of the driver for this job")


def add_captures(app: FastAPI, node: Node) -> None:
    """Serve captures of `node`."""

    @app.post("/v1/captures", tags=["jobs"], status_code=202)
    async def capture(body: CaptureBody) -> Response:
        """Take pictures and write them to files, as a job."""
        job = node.jobs.start("capture", lambda job, interrupts: _capture(node, body.model_dump(), job, interrupts))
        return Response(json.dumps(job.to_dict(), default=str), 202, None, "application/json")


async def _capture(node: Node, body: Mapping[str, Any], job: Job, interrupts: JobInterrupts) -> dict[str, Any]:
    from vfab.apps.capturing import CaptureRequest, CaptureWatcher, capture_files

    fields = {**body, "output": Path(body["output"]) if body["output"] else None, "folder": Path(body["folder"])}
    pictures: list[Mapping[str, Any]] = []

    def chosen(managed: ManagedDevice) -> None:
        job.device, job.driver = managed.id, managed.manifest.name
        job.tell(chosen={"device": managed.id, "name": managed.info.name, "driver": managed.manifest.name})

    def written(picture: Mapping[str, Any]) -> None:
        pictures.append(picture)
        job.advance({"pictures": len(pictures), "of": body["count"], "file": picture["file"]})

    async with node.work.journaled("capture", body["device"] or "", body["driver"] or "", dict(body)):
        return await capture_files(node.session, CaptureRequest(**fields), interrupts, CaptureWatcher(chosen, written))
