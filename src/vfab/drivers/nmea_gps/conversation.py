"""What a simulated gpsd says to one client, sans-IO."""

from __future__ import annotations

from typing import Any

from vfab.model.errors import ProtocolError
from vfab.protocols.gpsd import LINE_MAX, encode_report, parse_command, split_commands

__all__ = ["GpsdConversation"]

_DEVICE = {"path": "/dev/sim", "driver": "NMEA0183", "native": 0}


class GpsdConversation:
    """Greets, answers commands, and knows what the client wants to be told.

    Attributes:
        json: it watches reports.
        nmea: it watches the receiver's sentences.
    """

    def __init__(self) -> None:
        self.json = self.nmea = False
        self._held = b""
        self._last: dict[str, dict[str, Any]] = {}

    def greet(self) -> bytes:
        """What is said first, and to `?VERSION;`."""
        return encode_report("VERSION", release="simulated", rev="simulated", proto_major=3, proto_minor=14)

    def hear(self, data: bytes) -> bytes:
        """What is answered to what came, however it was cut."""
        commands, self._held = split_commands(self._held + data)
        if len(self._held) > LINE_MAX:
            self._held = b""
            return encode_report("ERROR", message=f"a command of over {LINE_MAX} bytes has no end")
        return b"".join(map(self._answer, commands))

    def tell(self, reports: dict[str, dict[str, Any]], sentences: bytes) -> bytes:
        """What it is told of this moment: `reports` by class, `sentences` as the receiver said them."""
        self._last = reports
        said = b"".join(encode_report(kind, **report) for kind, report in reports.items()) if self.json else b""
        return said + sentences if self.nmea else said

    def _answer(self, command: bytes) -> bytes:
        try:
            name, arguments = parse_command(command)
        except ProtocolError as error:
            return encode_report("ERROR", message=error.message)
        match name:
            case "VERSION":
                return self.greet()
            case "DEVICES":
                return encode_report("DEVICES", devices=[{"class": "DEVICE", **_DEVICE}])
            case "DEVICE":
                return encode_report("DEVICE", **_DEVICE)
            case "WATCH":
                self._watch(arguments)
                on = self.json or self.nmea
                watch = encode_report("WATCH", enable=on, json=self.json, nmea=self.nmea, raw=0, scaled=False)
                return encode_report("DEVICES", devices=[{"class": "DEVICE", **_DEVICE}]) + watch
            case "POLL":
                seen = {kind.lower(): [{"class": kind, **report}] for kind, report in self._last.items()}
                time = self._last.get("TPV", {}).get("time", "")
                return encode_report("POLL", time=time, active=int(bool(seen)), **{"tpv": [], "sky": [], **seen})
            case _:
                return encode_report("ERROR", message=f"Unrecognized request '{name}'")

    def _watch(self, arguments: dict[str, Any]) -> None:
        if not arguments:
            return  # it only asks
        if arguments.get("enable", True) is False:
            self.json = self.nmea = False
            return
        self.nmea = bool(arguments.get("nmea", self.nmea))
        self.json = bool(arguments.get("json", self.json or not self.nmea))
