"""Aravis by ctypes: the functions of libaravis-0.8 that a camera needs, each with its errors as vfab's.

Source: Aravis 0.8's API reference (ArvCamera, ArvStream, ArvBuffer) and GLib's GError.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from typing import Any

from vfab.model.errors import DependencyError, HardwareError

__all__ = ["AUTO_CONTINUOUS", "AUTO_OFF", "Aravis", "AravisError", "aravis"]

AUTO_OFF, AUTO_CONTINUOUS = 0, 2
SUCCESS, CLEARED, TIMEOUT, MISSING_PACKETS = 0, 1, 2, 3
_SONAMES = ("libaravis-0.8.so.0", "libaravis-0.8.0.dylib")

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "arv_camera_new": (c_void_p, [c_char_p]),
    "arv_camera_get_vendor_name": (c_char_p, [c_void_p]),
    "arv_camera_get_model_name": (c_char_p, [c_void_p]),
    "arv_camera_get_device_serial_number": (c_char_p, [c_void_p]),
    "arv_camera_get_device_id": (c_char_p, [c_void_p]),
    "arv_camera_get_string": (c_char_p, [c_void_p, c_char_p]),
    "arv_camera_get_region": (None, [c_void_p, *[POINTER(c_int)] * 4]),
    "arv_camera_set_region": (None, [c_void_p, *[c_int] * 4]),
    "arv_camera_get_width_bounds": (None, [c_void_p, *[POINTER(c_int)] * 2]),
    "arv_camera_get_height_bounds": (None, [c_void_p, *[POINTER(c_int)] * 2]),
    "arv_camera_get_width_increment": (c_int, [c_void_p]),
    "arv_camera_get_height_increment": (c_int, [c_void_p]),
    "arv_camera_is_frame_rate_available": (c_int, [c_void_p]),
    "arv_camera_get_frame_rate": (c_double, [c_void_p]),
    "arv_camera_set_frame_rate": (None, [c_void_p, c_double]),
    "arv_camera_get_frame_rate_bounds": (None, [c_void_p, *[POINTER(c_double)] * 2]),
    "arv_camera_is_exposure_time_available": (c_int, [c_void_p]),
    "arv_camera_is_exposure_auto_available": (c_int, [c_void_p]),
    "arv_camera_get_exposure_time": (c_double, [c_void_p]),
    "arv_camera_set_exposure_time": (None, [c_void_p, c_double]),
    "arv_camera_get_exposure_time_bounds": (None, [c_void_p, *[POINTER(c_double)] * 2]),
    "arv_camera_get_exposure_time_auto": (c_int, [c_void_p]),
    "arv_camera_set_exposure_time_auto": (None, [c_void_p, c_int]),
    "arv_camera_get_pixel_format_as_string": (c_char_p, [c_void_p]),
    "arv_camera_set_pixel_format_from_string": (None, [c_void_p, c_char_p]),
    "arv_camera_dup_available_pixel_formats_as_strings": (c_void_p, [c_void_p, POINTER(c_uint)]),
    "arv_camera_get_payload": (c_uint, [c_void_p]),
    "arv_camera_create_stream": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "arv_camera_start_acquisition": (None, [c_void_p]),
    "arv_camera_stop_acquisition": (None, [c_void_p]),
    "arv_camera_gv_set_packet_size": (None, [c_void_p, c_int]),
    "arv_camera_gv_auto_packet_size": (c_uint, [c_void_p]),
}
"""Functions whose last argument is a GError **, with their result and the arguments before it."""
_PLAIN: dict[str, tuple[Any, list[Any]]] = {
    "arv_camera_is_gv_device": (c_int, [c_void_p]),
    "arv_buffer_new_allocate": (c_void_p, [c_size_t]),
    "arv_buffer_get_status": (c_int, [c_void_p]),
    "arv_buffer_get_data": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "arv_buffer_get_image_width": (c_int, [c_void_p]),
    "arv_buffer_get_image_height": (c_int, [c_void_p]),
    "arv_buffer_get_timestamp": (c_uint64, [c_void_p]),
    "arv_buffer_get_system_timestamp": (c_uint64, [c_void_p]),
    "arv_buffer_get_frame_id": (c_uint64, [c_void_p]),
    "arv_stream_push_buffer": (None, [c_void_p, c_void_p]),
    "arv_stream_timeout_pop_buffer": (c_void_p, [c_void_p, c_uint64]),
}


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


class AravisError(HardwareError):
    """Aravis refused or failed."""

    code = "aravis_error"
    default_remedy = "Check that the camera has power and its network address; `arv-tool-0.8` lists what Aravis sees."
    default_retryable = True


class Aravis:
    """The library. Raises DependencyError: it is not installed."""

    def __init__(self) -> None:
        self._library = _load()
        self._glib = ctypes.CDLL(ctypes.util.find_library("glib-2.0") or "libglib-2.0.so.0")
        self._gobject = ctypes.CDLL(ctypes.util.find_library("gobject-2.0") or "libgobject-2.0.so.0")
        self._glib.g_error_free.argtypes = self._glib.g_free.argtypes = [c_void_p]
        self._glib.g_error_free.restype = self._glib.g_free.restype = None
        self._gobject.g_object_unref.argtypes, self._gobject.g_object_unref.restype = [c_void_p], None
        self._functions: dict[str, Any] = {}
        for name, (result, arguments) in {**_FUNCTIONS, **_PLAIN}.items():
            function = getattr(self._library, name)
            function.restype = result
            function.argtypes = [*arguments, POINTER(POINTER(_GError))] if name in _FUNCTIONS else arguments
            self._functions[name] = function

    def __call__(self, name: str, *arguments: Any) -> Any:
        """The result of `arv_NAME(arguments)`. Raises AravisError: it says so."""
        name = f"arv_{name}"
        function = self._functions[name]
        if name in _PLAIN:
            return function(*arguments)
        error = POINTER(_GError)()
        result = function(*arguments, byref(error))
        if error:
            said = (error.contents.message or b"").decode("utf-8", "replace")
            self._glib.g_error_free(error)
            raise AravisError(f"Aravis: {said}", context={"function": name})
        return result

    def text(self, name: str, *arguments: Any) -> str:
        """A text that `arv_NAME` gives; "" for none, or when the camera has no such thing."""
        try:
            found = self(name, *arguments)
        except AravisError:
            return ""
        return found.decode("utf-8", "replace") if found else ""

    def pair(self, name: str, camera: int, kind: Any) -> tuple[float, float]:
        """The two numbers that `arv_NAME` writes."""
        least, most = kind(), kind()
        self(name, camera, byref(least), byref(most))
        return least.value, most.value

    def texts(self, name: str, camera: int) -> list[str]:
        """The texts that `arv_NAME` gives."""
        count = c_uint()
        array = self(name, camera, byref(count))
        if not array:
            return []
        found = ctypes.cast(array, POINTER(c_char_p))
        texts = [(found[index] or b"").decode("utf-8", "replace") for index in range(count.value)]
        self._glib.g_free(array)
        return texts

    def bytes_of(self, buffer: int) -> memoryview:
        """The picture in a buffer, in place: it changes once the buffer is given back."""
        size = c_size_t()
        data = self("buffer_get_data", buffer, byref(size))
        if not data or not size.value:
            return memoryview(b"")
        return memoryview((ctypes.c_char * size.value).from_address(data)).cast("B")

    def let_go(self, *things: int | None) -> None:
        """Give up references to objects."""
        for thing in things:
            if thing:
                self._gobject.g_object_unref(thing)


def _load() -> ctypes.CDLL:
    names = [name for name in (ctypes.util.find_library("aravis-0.8"), *_SONAMES) if name]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise DependencyError(
        "Aravis is not installed: libaravis-0.8 was not found",
        context={"looked_for": names},
        remedy="Install it: sudo apt-get install libaravis-0.8-0 (Debian, Ubuntu), or brew install aravis (macOS).",
    )


@lru_cache(maxsize=1)
def aravis() -> Aravis:
    """The library, loaded once a process. Raises DependencyError."""
    return Aravis()
