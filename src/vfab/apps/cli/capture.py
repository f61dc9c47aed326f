"""`vfab capture`: a picture from a camera becomes a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.common import DeviceOption, DriverOption, NoNodeFlag, SetOption, node, option_value, registry
from vfab.apps.cli.output import JsonFlag, print_json, say


def capture(
    *,
    device: DeviceOption = None,
    driver: DriverOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.png|.jpg|.raw", help="The file; default: named by the time, PNG."),
    ] = None,
    width: Annotated[int | None, typer.Option(metavar="PIXELS", min=1, help="Width; with --height.")] = None,
    height: Annotated[int | None, typer.Option(metavar="PIXELS", min=1, help="Height; with --width.")] = None,
    exposure: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Exposure; 0 lets the camera choose.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="So many pictures; files get numbers.")] = 1,
    settings: SetOption = None,
    as_json: JsonFlag = False,
    no_node: NoNodeFlag = False,
    **values: Any,
) -> None:
    """Take a picture with a camera and write it to a file; with .raw the camera's own bytes."""
    from vfab.apps.capturing import CaptureRequest, names_for
    from vfab.apps.cli.generated import overrides_of

    request = CaptureRequest(
        device, driver, output, Path.cwd(), count, width, height, exposure, overrides_of(values, settings)
    )
    names_for(request)  # what is wrong with the file is told before a node or a device is asked
    client = node(no_node)
    done = _by_node(client, request) if client is not None else _here(request)
    if as_json:
        print_json(done)
        return
    for picture in done["pictures"]:
        say(_line(picture))


def _here(request: Any) -> Any:
    from vfab.apps.capturing import CaptureWatcher, capture_files
    from vfab.apps.interrupts import Interrupts, run
    from vfab.apps.session import Session

    async def work(interrupts: Interrupts) -> dict[str, Any]:
        async with Session.open(os.environ) as session:
            return await capture_files(session, request, interrupts, CaptureWatcher())

    return run(work)


def _by_node(client: Any, request: Any) -> Any:
    body = {
        "device": request.device,
        "driver": request.driver,
        "output": str(request.output.absolute()) if request.output is not None else None,
        "folder": str(request.folder),
        "count": request.count,
        "width_px": request.width_px,
        "height_px": request.height_px,
        "exposure_s": request.exposure_s,
        "overrides": request.overrides,
    }
    return client.run_job("/v1/captures", body, lambda job: None)


def _line(picture: Mapping[str, Any]) -> str:
    """What was written, in one line: file, size, format, exposure, times."""
    parts = [
        f"{picture['width_px']} × {picture['height_px']} pixels of {picture['pixel_format']}",
        f"{picture['bytes']} bytes",
        f"taken {picture['time'].replace('+00:00', 'Z')}",
    ]
    if picture["exposure_s"] is not None:
        parts.insert(2, f"exposed {picture['exposure_s'] * 1000:.4g} ms")
    if picture["device_timestamp_s"] is not None:
        parts.append(f"camera's clock {picture['device_timestamp_s']:.6f} s")
    parts.append(f"picture {picture['sequence']}")
    return f"{picture['file']}: {', '.join(parts)}"


def _settings() -> list[Any]:
    """The settings of the cameras' drivers as options: of the named driver's, or of all that there are."""
    from vfab.apps.cli.generated import config_options

    named = option_value(sys.argv, "--driver")
    known = [d for d in registry().get_available_drivers() if d.category == "camera" and named in {None, d.name}]
    own = [
        "--device", "--driver", "--output", "-o", "--width", "--height", "--exposure", "--count", "--set", "--json",
        "--no-node",
    ]  # fmt: skip
    return config_options({d.name: d.manifest.config_schema for d in known}, own)


def _app() -> typer.Typer:
    from vfab.apps.cli.generated import function_with

    made = typer.Typer(rich_markup_mode=None, add_completion=False)
    epilog = "Examples: vfab capture -o now.png · vfab capture --device http://192.0.2.7:8080 -o now.jpg --count 3"
    made.command("capture", epilog=epilog)(function_with(capture, _settings()))
    return made


app = _app()
