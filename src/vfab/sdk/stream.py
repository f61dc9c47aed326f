"""Streams, for the authors of drivers: what a device produces continuously, samples, frames or messages.

`BaseDriver.open_stream` gives a `StreamWriter`; `Streaming` gives a driver `start_streaming`, `stop_streaming` and
`streaming_status`, and runs the author's `acquire` on a thread of its own. Seed 002's words are here, too.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from vfab.model.errors import Cancelled, DriverError, DriverFailed, Refused
from vfab.sdk.cancel import CancelToken, current_token
from vfab.sdk.driver import command
from vfab.sdk.stream_ends import StreamReader, StreamRecord, StreamWriter
from vfab.sdk.stream_words import StreamAction, StreamData, StreamInfo, StreamSource, StreamType

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

__all__ = [
    "StreamAction",
    "StreamData",
    "StreamInfo",
    "StreamReader",
    "StreamRecord",
    "StreamSource",
    "StreamType",
    "StreamWriter",
    "Streaming",
]

GRACE_S = 0.5
"""How long `acquire` may take to see that it is over before what it waits for is cancelled."""

JOIN_S = 3.0
"""How long `stop_streaming` waits for `acquire` to end."""


class _Acquisition:
    """One run of `acquire`."""

    def __init__(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        self.stream = stream
        self.options = options
        self.first = stream.first  # what open_acquisition sent counts, too
        self.over = threading.Event()
        self.token = CancelToken()
        self.began_s = time.time()
        self.error: DriverError | None = None
        self.thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class Streaming:
    """A mixin for drivers that stream: the author writes `acquire`.

    Call `stop_streaming` in `disconnect`. What `acquire` shares with commands, such as the link, is the author's to
    guard: commands go on while it runs.

    Attributes:
        stream_type: what the stream carries.
        stream_name: the stream's name; a device may have several.
    """

    stream_type: ClassVar[StreamType] = StreamType.CUSTOM
    stream_name: ClassVar[str] = "main"

    if TYPE_CHECKING:  # what BaseDriver gives
        log: logging.Logger
        emit: Callable[..., None]
        open_stream: Callable[..., StreamWriter]

    _acquisition: _Acquisition | None = None
    _keep_streams = False
    _streaming_lock = threading.RLock()
    """One for all drivers of a process, which is one."""

    # -- what the author writes ---------------------------------------------------------------------------------------

    def open_acquisition(self, options: dict[str, Any]) -> StreamWriter:
        """The stream to write to, before `acquire` begins: check `options` and open the stream to fit them."""
        return self.open_stream(self.stream_name, self.stream_type)

    def acquire(self, stream: StreamWriter, options: dict[str, Any]) -> None:
        """Send data while `self.acquiring()`. To return ends the stream; an error ends it and is told."""
        raise NotImplementedError(f"{type(self).__name__} has no acquire()")

    # -- for the author -----------------------------------------------------------------------------------------------

    def acquiring(self) -> bool:
        """Whether `acquire` shall go on."""
        acquisition = self._acquisition
        return acquisition is not None and not acquisition.over.is_set()

    def pause_s(self, seconds: float) -> bool:
        """Sleep for so many seconds, or until the stream is stopped; whether `acquire` shall go on."""
        acquisition = self._acquisition
        return acquisition is not None and not acquisition.over.wait(max(seconds, 0.0))

    # -- commands -----------------------------------------------------------------------------------------------------

    @command
    def start_streaming(self, **options: Any) -> dict[str, Any]:
        """Begin to stream. Where it streams already with the same options, or none are given, nothing happens.

        Returns:
            As `streaming_status`.

        Raises Refused: it streams already, with other options. DriverError: it cannot begin.
        """
        with self._streaming_lock:
            now = self._acquisition
            if now is not None and now.running and not now.over.is_set():
                if options and options != now.options:
                    raise Refused(
                        "it streams already, with other options",
                        context={"options": now.options},
                        remedy="Stop it first: send it the command stop.",
                    )
                return self.streaming_status()
            self._end_acquisition(now)
            made = _Acquisition(self.open_acquisition(dict(options)), dict(options))
            self._acquisition = made
            made.thread = threading.Thread(
                target=self._run_acquisition, args=(made,), name="vfab-acquisition", daemon=True
            )
            made.thread.start()
            return self.streaming_status()

    @command(concurrent=True)
    def stop_streaming(self) -> dict[str, Any]:
        """End the stream; ending it twice is fine.

        Returns:
            As `streaming_status`.

        Raises DriverFailed: the acquisition does not end.
        """
        with self._streaming_lock:
            self._end_acquisition(self._acquisition)
            return self.streaming_status()

    @command(concurrent=True)
    def streaming_status(self) -> dict[str, Any]:
        """Whether it streams, and how it went.

        Returns:
            `{"streaming": bool, "stream": name, "records": since the start, "first_sequence", "options",
            "began_s": Unix time, "error": None or DriverError.to_dict()}`.
        """
        now = self._acquisition
        if now is None:
            return {"streaming": False, "stream": self.stream_name, "records": 0, "options": {}, "error": None}
        return {
            "streaming": now.running and not now.over.is_set(),
            "stream": now.stream.name,
            "records": now.stream.count - now.first,
            "first_sequence": now.first,
            "options": now.options,
            "began_s": now.began_s,
            "error": now.error.to_dict() if now.error is not None else None,
        }

    # -- inside -------------------------------------------------------------------------------------------------------

    def _run_acquisition(self, acquisition: _Acquisition) -> None:
        current_token.set(acquisition.token)
        try:
            self.acquire(acquisition.stream, acquisition.options)
        except Cancelled:
            pass  # stop_streaming woke it
        except Exception as error:
            if not acquisition.over.is_set():
                self._acquisition_failed(acquisition, error)
        finally:
            acquisition.over.set()
            if self._keep_streams:
                acquisition.stream.leave()  # another process goes on with it
            else:
                acquisition.stream.close()

    def _acquisition_failed(self, acquisition: _Acquisition, error: Exception) -> None:
        if isinstance(error, DriverError):
            acquisition.error = error
        else:
            self.log.exception("streaming failed")
            acquisition.error = DriverFailed(f"streaming failed: {type(error).__name__}: {error}", original_error=error)
        acquisition.over.set()  # before it is told: who hears of it may start the stream again at once
        self.emit("stream_failed", stream=acquisition.stream.name, error=acquisition.error.to_dict())

    def _end_acquisition(self, acquisition: _Acquisition | None) -> None:
        if acquisition is None or acquisition.thread is None:
            return
        acquisition.over.set()
        if acquisition.thread is threading.current_thread():
            return  # acquire itself ends the stream: it is about to return
        acquisition.thread.join(GRACE_S)
        if acquisition.running:
            acquisition.token.cancel()
            acquisition.thread.join(JOIN_S)
        if acquisition.running:
            raise DriverFailed("the acquisition does not end", remedy="Restart the driver: vfab driver restart NAME")
        acquisition.token.close()
