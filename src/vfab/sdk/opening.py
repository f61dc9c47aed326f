"""Addresses, and how they are opened: device nodes, network connections, CAN interfaces.

An address is a path (`/dev/ttyACM0`, `/dev/video0`) or `scheme://where`. The schemes of protocols over TCP all open a
TCP connection, with the protocol's own port where none is written: what is spoken over it is the driver's business.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import termios
import tty
from typing import Any
from urllib.parse import urlsplit

from vfab.model.errors import (
    ConfigurationError,
    ConnectError,
    DeviceBusy,
    DeviceNotFound,
    PermissionRefused,
    TimeoutExceeded,
)

__all__ = ["TCP_SCHEMES", "make_raw", "open_address", "open_error", "split_address"]

TCP_SCHEMES = {
    "tcp": 0,
    "ws": 80,
    "wss": 443,
    "http": 80,
    "https": 443,
    "rtsp": 554,
    "rtsps": 322,
    "mqtt": 1883,
    "mqtts": 8883,
    "rfc2217": 0,
    "telnet": 23,
    "modbus": 502,
    "hislip": 4880,
    "gpsd": 2947,
}
"""Schemes that mean a TCP connection, each with the port that is meant when none is written; 0: one must be."""

_SHARED_NODES = ("/dev/i2c-", "/dev/gpiochip")
"""Nodes of a bus that several drivers use at once; every other node has one user."""


def split_address(address: str) -> tuple[str, str, int]:
    """(kind, host or path, port) of `address`; the kind is `path`, `tcp`, `udp`, `unix` or `can`.

    `tcp://127.0.0.1:4000` is `("tcp", "127.0.0.1", 4000)`, `ws://cam.local/live` `("tcp", "cam.local", 80)`,
    `/dev/ttyACM0` `("path", "/dev/ttyACM0", 0)`, `can://vcan0` `("can", "vcan0", 0)`.

    Raises ConfigurationError: it is none of these.
    """
    if address.startswith("/"):
        return "path", address, 0
    scheme, sep, rest = address.partition("://")
    if sep and scheme == "can" and 0 < len(rest) < 16 and "/" not in rest:
        return "can", rest, 0
    if sep and scheme == "unix" and rest.startswith("/"):
        return "unix", rest, 0
    if sep and (scheme in TCP_SCHEMES or scheme == "udp"):
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError:  # a port that is none, an open bracket
            host, port = None, None
        port = port if port is not None else TCP_SCHEMES.get(scheme, 0)
        if host and 0 < port < 65536:
            return "udp" if scheme == "udp" else "tcp", host, port
    raise ConfigurationError(
        f"{address!r} is not an address",
        context={"address": address},
        remedy="Write a path like /dev/ttyACM0, a network address like tcp://127.0.0.1:4000, or can://can0.",
    )


def open_address(address: str, *, baudrate: int = 9600, timeout_s: float = 5.0, exclusive: bool = True) -> int:
    """Open `address` and return its descriptor, ready for `Link`.

    Args:
        address: `/dev/…` (serial port, pseudo-terminal or other node) or `scheme://…`, see `split_address`.
        baudrate: bits per second of a serial port; USB and pseudo-terminals ignore it.
        timeout_s: patience for a network connection.
        exclusive: no other program may open the same port meanwhile.

    Raises DeviceNotFound, PermissionRefused, DeviceBusy, ConnectError; each says what to do.
    """
    kind, where, port = split_address(address)
    if kind == "path":
        return _open_node(address, baudrate, exclusive and not where.startswith(_SHARED_NODES))
    if kind == "can":
        return _open_can(address, where)
    return _open_socket(address, kind, where, port, timeout_s)


def _open_node(address: str, baudrate: int, exclusive: bool) -> int:
    try:
        fd = os.open(address, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise open_error(address, error) from error
    try:
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            raise ConnectError(f"{address} is not a device", context={"address": address})
        if exclusive:
            _claim(fd, address)
        if os.isatty(fd):
            make_raw(fd, baudrate, address)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_can(address: str, interface: str) -> int:
    """A raw CAN socket bound to `interface` (Linux: Documentation/networking/can.rst)."""
    if not hasattr(socket, "AF_CAN"):
        raise ConnectError(
            f"cannot open {address}: this system has no SocketCAN",
            context={"address": address},
            remedy="SocketCAN is Linux's; elsewhere use the driver's own interface setting.",
        )
    try:
        bus = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    except OSError as error:
        raise ConnectError(
            f"cannot open {address}: this kernel has no CAN: {error.strerror}",
            context={"address": address, "errno": error.errno},
            original_error=error,
            remedy="Load the module: sudo modprobe can_raw",
        ) from error
    try:
        bus.bind((interface,))
    except OSError as error:
        bus.close()
        raise open_error(address, error) from error
    return bus.detach()


def _open_socket(address: str, kind: str, where: str, port: int, timeout_s: float) -> int:
    try:
        if kind == "tcp":
            connection = socket.create_connection((where, port), timeout_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            family, type_, target = (
                _datagram(where, port) if kind == "udp" else (socket.AF_UNIX, socket.SOCK_STREAM, where)
            )
            connection = socket.socket(family, type_)
            try:
                connection.settimeout(timeout_s)
                connection.connect(target)
            except BaseException:
                connection.close()
                raise
    except TimeoutError as error:
        raise TimeoutExceeded(
            f"{address} did not answer within {timeout_s:g} s", context={"address": address}, original_error=error
        ) from error
    except OSError as error:
        raise open_error(address, error) from error
    return connection.detach()


def _datagram(host: str, port: int) -> tuple[int, int, Any]:
    family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    return family, socket.SOCK_DGRAM, target


def open_error(address: str, error: OSError) -> ConnectError | PermissionRefused:
    """What the operating system's refusal to open `address` means, and what to do about it."""
    context: dict[str, Any] = {"address": address, "errno": error.errno}
    if error.errno in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return DeviceNotFound(f"{address} is not there", context=context, original_error=error)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionRefused(
            f"this user may not open {address}",
            context=context,
            original_error=error,
            remedy="Add the user to the group that owns the port, then log in again: "
            "sudo usermod -aG dialout $USER (`vfab device scan` names the group and a udev rule).",
        )
    if error.errno == errno.EBUSY:
        return _busy(address)
    return ConnectError(f"cannot open {address}: {error.strerror or error}", context=context, original_error=error)


def _busy(address: str) -> DeviceBusy:
    return DeviceBusy(f"another program uses {address}", context={"address": address})


_PTY_MAJORS = range(136, 144)


def _claim(fd: int, address: str) -> None:
    """Keep other programs off the port: a lock that well-behaved programs look at, and TIOCEXCL for the others.

    Not TIOCEXCL on a pseudo-terminal: whoever made it holds it open, so the mark would outlive a killed program.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _busy(address) from error
    if os.isatty(fd) and os.major(os.fstat(fd).st_rdev) not in _PTY_MAJORS:
        fcntl.ioctl(fd, termios.TIOCEXCL)


def make_raw(fd: int, baudrate: int, address: str) -> None:
    """Eight bits, no parity, no echo, no translation, no hang-up on close (a hang-up resets many boards)."""
    speed = getattr(termios, f"B{baudrate}", None)
    if speed is None:
        raise ConfigurationError(
            f"{baudrate} baud is not a rate that this system knows",
            context={"address": address, "field": "baudrate", "value": baudrate},
            remedy="Use a standard rate: 9600, 19200, 38400, 57600, 115200, 230400 …",
        )
    try:
        tty.setraw(fd, termios.TCSANOW)
        mode = termios.tcgetattr(fd)
        mode[2] = (mode[2] | termios.CLOCAL | termios.CREAD) & ~(termios.HUPCL | termios.CSTOPB | termios.PARENB)
        mode[4] = mode[5] = speed
        termios.tcsetattr(fd, termios.TCSANOW, mode)
    except termios.error as error:
        raise ConnectError(f"cannot set up {address}: {error.args[-1]}", context={"address": address}) from error
