"""`vfab stream`: what a device sends continuously, as text, NDJSON, CSV or raw bytes, or served to browsers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vfab.apps.cli.common import DeviceArgument, DriverOption, NoNodeFlag, SetOption, node

app = typer.Typer(rich_markup_mode=None, add_completion=False)
_STATUS_S = 0.5


@app.command(
    "stream",
    epilog="Examples: vfab stream can://vcan0 -n 100 · vfab stream /dev/ttyUSB0 -f csv -o track.csv · "
    "vfab stream http://192.0.2.7:8080 --ws 8090",
)
def stream(
    device: DeviceArgument,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Options of the driver's stream, such as rate_hz=10."),
    ] = None,
    *,
    name: Annotated[str | None, typer.Option("--stream", metavar="NAME", help="Which stream; default: main.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", "-f", metavar="text|ndjson|csv|raw", help="How records are written.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to a file; .csv, .ndjson say the format."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=0, help="End after N records.")] = 0,
    seconds: Annotated[float, typer.Option(metavar="S", min=0, help="End after S seconds.")] = 0.0,
    oldest: Annotated[
        bool, typer.Option("--oldest", help="Begin with what is still there of a running stream.")
    ] = False,
    ws: Annotated[
        int | None,
        typer.Option("--ws", metavar="PORT", min=0, max=65535, help="Serve it to browsers; 0: any free port."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Record it; `vfab sim run replay` streams it again.")
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where --ws listens.")] = "127.0.0.1",
    driver: DriverOption = None,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As --format ndjson; the summary is JSON, too.")] = False,
    no_node: NoNodeFlag = False,
) -> None:
    """Show what a device sends continuously: samples, frames, messages. Ctrl-C ends it.

    The stream is started if it does not run, and stopped again. What a slow reader misses is counted.
    """
    from vfab.apps.cli.generated import overrides_of, read_pairs
    from vfab.apps.stream_cli import StreamCommand, format_of
    from vfab.apps.streaming import StreamRequest

    request = StreamRequest(name, read_pairs(options or (), "stream", "KEY=VALUE"), oldest, count, seconds)
    recorder = None
    if record is not None:
        from vfab.apps.recording import StreamRecorder

        recorder = StreamRecorder(record)
    command = StreamCommand(
        device=device,
        driver=driver,
        overrides=overrides_of({}, settings),
        request=request,
        form=format_of(form, output, as_json=as_json, served=ws is not None or record is not None),
        recorder=recorder,
        output=output,
        serve=None if ws is None else (host, ws),
    )
    show = _Status(as_json)
    client = node(no_node)
    done = command.by_node(client, show) if client is not None else command.here(os.environ, show)
    show.finished(done)


class _Status:
    """How it goes, on standard error: a line that is rewritten on a terminal, else nothing but the end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._live = sys.stderr.isatty() and not as_json
        self._over = threading.Event()

    def began(self, info: Any, counted: Any, where: Mapping[str, Any]) -> None:
        """The first record may come now."""
        if where.get("url"):
            sys.stderr.write(f"vfab: {info.name} is served at {where['url']} (Ctrl-C ends it)\n")
            sys.stderr.flush()
        if self._live and (where.get("url") or where.get("quiet")):
            threading.Thread(target=self._watch, args=(counted,), daemon=True).start()

    def _watch(self, counted: Any) -> None:
        before = 0
        while not self._over.wait(_STATUS_S):
            rate = (counted.records - before) / _STATUS_S
            before = counted.records
            sys.stderr.write(
                f"\r{counted.records} records, {rate:.0f}/s, {counted.lost} lost, {counted.seconds:.0f} s  "
            )
            sys.stderr.flush()

    def finished(self, done: Mapping[str, Any]) -> None:
        """Tell how it was."""
        import json

        self._over.set()
        if self._as_json:
            sys.stderr.write(json.dumps(done) + "\n")
            return
        start = "\n" if self._live else ""
        many = "record" if done["records"] == 1 else "records"
        parts = [f"{done['records']} {many} in {done['seconds']:.1f} s"]
        if done["lost"]:
            parts.append(f"{done['lost']} lost")
        if done.get("output"):
            parts.append(f"written to {done['output']}")
        sys.stderr.write(f"{start}vfab: {', '.join(parts)}\n")
