"""Instrument: the base of native instrument drivers. `vfab.sdk.instrument` offers it beside seed 004's own base.

A native driver has seed 004's operations, and gets cancelling, progress and streaming of its points from here.
"""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vfab.model.errors import Cancelled, ConfigurationError, DriverError, IllegalTransition, LinkLost, Refused
from vfab.model.settings import nearest
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import BaseDriver, Environment, command
from vfab.sdk.measurement import MeasurementRun, checked_parameters
from vfab.sdk.stream import Streaming, StreamType, StreamWriter

__all__ = ["Instrument"]

ABORT_S = 10.0
"""How long `abort` waits for the measurement to leave the instrument safe, in seconds."""


class Instrument(Streaming, BaseDriver):
    """Base of native instrument drivers: seed 004's operations, around what an author writes.

    An author overrides `connect`, `disconnect`, `reset`, `read_identity`, `prepare`, `perform`, `make_safe` and
    `read_status`. The methods that can be measured are the manifest's `supported_methods`; the parameters of each are
    those of the manifest's command of its name (`iv-sweep` for `iv_sweep`).

    The setting `stream_points`, if the manifest has it, streams every measured point as `points`.
    """

    stream_type = StreamType.SENSOR

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._run: MeasurementRun | None = None
        self._token: CancelToken | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._aborting = False
        self._points: StreamWriter | None = None
        self._configured: tuple[str, dict[str, Any]] | None = None

    # -- what an author overrides ---------------------------------------------------------------------------------

    def read_identity(self) -> dict[str, str]:
        """`manufacturer`, `model`, `serial`, `firmware` of the connected instrument."""
        raise NotImplementedError

    def prepare(self, method: str, params: Mapping[str, Any]) -> None:
        """Set the instrument up for `method`; `params` are checked against the manifest."""

    def perform(self, run: MeasurementRun) -> None:
        """Measure `run.method` with `run.params`: `run.begin(columns, total)`, then `run.add(…)` for each point.

        Waiting on a link ends by itself when the measurement is aborted; other loops call `run.check()`.
        """
        raise NotImplementedError

    def make_safe(self) -> None:
        """Stop whatever the instrument does, outputs off. Called after an abort and after every error.

        Nothing cancels it. What it raises is logged.
        """

    def read_status(self) -> dict[str, Any]:
        """What the instrument says of itself while no measurement runs."""
        return {}

    def why_not(self, method: str) -> str:
        """Why this instrument cannot do `method`, where there is more to say than that it cannot."""
        return ""

    def check_parameters(self, method: str, params: Mapping[str, Any]) -> None:
        """Refuse what the manifest cannot tell is wrong: limits of the model, parameters that exclude each other.

        Raises Refused. Nothing was sent yet.
        """

    # -- seed 004's operations --------------------------------------------------------------------------------------

    @command
    def get_identity(self) -> dict[str, str]:
        """`manufacturer`, `model`, `serial`, `firmware`. Raises IllegalTransition: not connected."""
        self.require_connected()
        return self.read_identity()

    @command(concurrent=True)
    def get_capabilities(self) -> list[str]:
        """The measurement methods that `measure` knows."""
        return list(self.manifest.supported_methods)

    @command
    def configure(self, method: str, params: Mapping[str, Any] | str | None = None, **more: Any) -> dict[str, Any]:
        """Set the instrument up for `method`; the next `measure(method)` without parameters uses these.

        Args:
            method: one of `get_capabilities()`.
            params: its parameters, as a mapping or as JSON text; `more` are parameters, too.

        Returns:
            `{"method", "parameters"}`, defaults filled in.

        Raises Refused: the method, or a parameter; nothing was sent. HardwareError: what the instrument says.
        """
        checked = self.checked(method, params, more)
        self._require_idle()
        with self._safely():
            self.prepare(method, checked)
        self._configured = (method, checked)
        return {"method": method, "parameters": checked}

    @command
    def measure(self, method: str, params: Mapping[str, Any] | str | None = None, **more: Any) -> dict[str, Any]:
        """Measure by `method`.

        Args:
            method: one of `get_capabilities()`.
            params: its parameters, as a mapping or as JSON text; `more` are parameters, too. Without any, those of
                the last `configure(method)`.

        Returns:
            `{"method", "parameters", "columns", "units", "rows", "points", "completed", "started_s", "elapsed_s",
            "instrument"}`: a row has a value for each column, None where the instrument had none; units by column,
            in UCUM names.

        Raises Refused: the method or a parameter; nothing was sent. Cancelled: aborted. HardwareError: what the
        instrument says. LinkLost. After each of these the outputs are off, as far as the link allows it, and the
        error's context has what was measured as `partial`.
        """
        if not params and not more and self._configured is not None and self._configured[0] == method:
            checked = self._configured[1]
        else:
            checked = self.checked(method, params, more)
        self._require_idle()
        with self._running(method, checked) as run:
            self.prepare(method, checked)
            self._configured = (method, checked)
            run.extras["instrument"] = self.read_identity()
            self.perform(run)
            return run.result(completed=True)

    @command(concurrent=True)
    def abort(self) -> dict[str, Any]:
        """End the measurement under way, outputs off; returns when that is done: `{"aborted", "method", "points"}`.

        Without a measurement the instrument is made safe nevertheless, if it is connected; a stream is ended.
        """
        run, token = self._run, self._token
        if run is None or token is None:
            self.stop_streaming()
            if self.is_connected() and self._idle.is_set():
                self._make_safe_quietly()
            return {"aborted": False, "method": None, "points": 0}
        self._aborting = True
        token.cancel()
        self._idle.wait(ABORT_S)
        return {"aborted": True, "method": run.method, "points": len(run.rows)}

    @command(concurrent=True)
    def cancel(self) -> dict[str, Any]:
        """The same as `abort`: what Ctrl-C calls."""
        return self.abort()

    @command(concurrent=True)
    def get_status(self) -> dict[str, Any]:
        """`{"state", "method", "points", "total", "elapsed_s"}` and, while nothing runs, what the instrument says.

        `state` is `disconnected`, `idle`, `measuring` or `streaming`.
        """
        run = self._run
        status: dict[str, Any] = {"state": "idle", "method": None, "points": 0, "total": 0, "elapsed_s": 0.0}
        if run is not None:
            status.update(
                state="measuring", method=run.method, points=len(run.rows), total=run.total, elapsed_s=run.elapsed_s
            )
        elif not self.is_connected():
            status["state"] = "disconnected"
        else:
            status["state"] = "streaming" if self.streaming_status()["streaming"] else "idle"
            status.update(self.read_status())
        return status

    @command
    def test_connection(self) -> dict[str, Any]:
        """Ask the instrument who it is: `{"success", "message", "details"}`."""
        if not self.is_connected():
            return {"success": False, "message": "not connected", "details": {}}
        try:
            identity = self.read_identity()
        except DriverError as error:
            return {"success": False, "message": error.message, "details": error.to_public()}
        return {"success": True, "message": " ".join(filter(None, identity.values())), "details": identity}

    # -- for authors --------------------------------------------------------------------------------------------------

    def checked(self, method: str, params: Mapping[str, Any] | str | None, more: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of `method`, defaults filled in. Raises Refused."""
        known = self.get_capabilities()
        if method not in known:
            why = self.why_not(method)
            raise Refused(
                f"{self.manifest.name} cannot measure {method!r}: {why or nearest(method, known)}",
                driver_name=self.manifest.name,
                context={"method": method, "methods": known},
                remedy=f"Its methods are {', '.join(known)}; `vfab driver list` shows other drivers.",
            )
        given = {**_mapping(params), **more}
        checked = checked_parameters(self.manifest, method, given)
        self.check_parameters(method, checked)
        return checked

    def require_connected(self) -> None:
        """Raises IllegalTransition: the instrument is not connected."""
        if not self.is_connected():
            raise IllegalTransition(
                "the instrument is not connected",
                driver_name=self.manifest.name,
                context={"device": self.device.id},
                remedy="Connect it first: `vfab device connect`.",
            )

    def _require_idle(self) -> None:
        """Raises IllegalTransition: not connected. Refused: the instrument streams."""
        self.require_connected()
        if self.streaming_status()["streaming"]:
            raise Refused(
                "the instrument streams",
                driver_name=self.manifest.name,
                context={"device": self.device.id},
                remedy="End the stream first: send it the command stop.",
            )

    def wait_s(self, seconds: float) -> None:
        """Wait in a measurement; ends at once, with Cancelled, when it is aborted."""
        token = current_token.get()
        if token is None:
            time.sleep(max(0.0, seconds))
            return
        token.check()
        limit = token.remaining_s(max(0.0, seconds)) or 0.0
        if seconds > 0 and token.fileno() >= 0:
            select.select([token.fileno()], [], [], limit)
        token.check()

    def stream_points(self, run: MeasurementRun, row: list[Any], device_time_s: float | None) -> None:
        """Stream a measured point, if the setting says so."""
        if not self.config.get("stream_points"):
            return
        if self._points is None:
            columns = run.columns
            self._points = self.open_stream(
                "points",
                StreamType.SENSOR,
                fields=[column.name for column in columns],
                units=[column.unit for column in columns],
                method=run.method,
            )
        self._points.send(row, device_time_s=device_time_s)

    def close_points(self) -> None:
        """End the stream of points: the next measurement may have others."""
        points, self._points = self._points, None
        if points is not None:
            points.close()

    # -- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _running(self, method: str, params: Mapping[str, Any]) -> Iterator[MeasurementRun]:
        token = current_token.get()
        own = token is None
        token = token or CancelToken()
        before = current_token.set(token)
        run = MeasurementRun(
            method, params, tell=lambda data: self.progress(**data), point=self.stream_points, check=token.check
        )
        self._aborting = False
        self._idle.clear()
        self._run, self._token = run, token
        try:
            with self._safely():
                yield run
        except DriverError as error:
            if run.columns and not isinstance(error, ConfigurationError):
                error.context["partial"] = run.result(completed=False)
            if isinstance(error, Cancelled):
                error.message = f"{method} was aborted after {len(run.rows)} points; the outputs are off"
                error.args = (error.message,)
            raise
        finally:
            self._run = self._token = None
            self.close_points()
            self._idle.set()
            current_token.reset(before)
            if own:
                token.close()

    @contextmanager
    def _safely(self) -> Iterator[None]:
        """Whatever goes wrong in here, the instrument is made safe before anybody hears of it."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, LinkLost):
                self._make_safe_quietly()
            raise

    def _make_safe_quietly(self) -> None:
        before = current_token.set(None)
        try:
            self.make_safe()
        except DriverError as error:
            self.log.warning("the instrument could not be made safe: %s", error.message)
        finally:
            current_token.reset(before)


def _mapping(params: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if not isinstance(params, str):
        return dict(params or {})
    try:
        read = json.loads(params) if params.strip() else {}
    except ValueError as error:
        raise ConfigurationError(
            f"params: {error}", context={"field": "params", "found": params}, remedy='Write JSON: {"points": 11}'
        ) from error
    if not isinstance(read, dict):
        raise ConfigurationError(
            "params must be a mapping", context={"field": "params", "found": params}, remedy='Like {"points": 11}.'
        )
    return read
