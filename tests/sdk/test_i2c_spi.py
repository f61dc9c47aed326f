"""The lowest seams: what the user is told when an ioctl fails, and the layout of what the kernel is given."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfab.drivers.gpio import lines as gpio
from vfab.model.errors import ConfigurationError, ConnectError, DeviceBusy, DeviceNotFound, LinkLost, TimeoutExceeded
from vfab.sdk.i2c import I2cBus
from vfab.sdk.spi import SpiBus, mode_request, transfer_request

PROGRAM = r"""
#include <stdio.h>
#include <stddef.h>
#include <linux/gpio.h>
#include <linux/spi/spidev.h>
#define AT(type, field) printf("%s.%s %zu\n", #type, #field, offsetof(struct type, field))
int main(void) {
  printf("GET_CHIP_INFO %u\n", (unsigned)GPIO_GET_CHIPINFO_IOCTL);
  printf("GET_LINE_INFO %u\n", (unsigned)GPIO_V2_GET_LINEINFO_IOCTL);
  printf("GET_LINE %u\n", (unsigned)GPIO_V2_GET_LINE_IOCTL);
  printf("GET_VALUES %u\n", (unsigned)GPIO_V2_LINE_GET_VALUES_IOCTL);
  printf("SET_VALUES %u\n", (unsigned)GPIO_V2_LINE_SET_VALUES_IOCTL);
  printf("event %zu\n", sizeof(struct gpio_v2_line_event));
  printf("SPI_MESSAGE %u\n", (unsigned)SPI_IOC_MESSAGE(1));
  printf("SPI_MODE %u\n", (unsigned)SPI_IOC_WR_MODE);
  AT(gpio_v2_line_request, consumer); AT(gpio_v2_line_request, config);
  AT(gpio_v2_line_request, num_lines); AT(gpio_v2_line_request, event_buffer_size); AT(gpio_v2_line_request, fd);
  AT(gpio_v2_line_config, num_attrs); AT(gpio_v2_line_config, attrs);
  AT(gpio_v2_line_info, offset); AT(gpio_v2_line_info, flags);
  AT(gpio_v2_line_event, id); AT(gpio_v2_line_event, seqno);
  AT(spi_ioc_transfer, len); AT(spi_ioc_transfer, bits_per_word);
  printf("flags %llu %llu %llu %llu %llu\n", (unsigned long long)GPIO_V2_LINE_FLAG_ACTIVE_LOW,
    (unsigned long long)(GPIO_V2_LINE_FLAG_INPUT | GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING),
    (unsigned long long)(GPIO_V2_LINE_FLAG_OUTPUT | GPIO_V2_LINE_FLAG_OPEN_DRAIN),
    (unsigned long long)GPIO_V2_LINE_FLAG_BIAS_PULL_UP, (unsigned long long)GPIO_V2_LINE_FLAG_BIAS_DISABLED);
  return 0;
}
"""


def test_the_kernels_structures_are_laid_out_as_its_headers_say(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/linux/gpio.h").exists():
        pytest.skip("no C compiler with the kernel's headers (Debian: gcc linux-libc-dev)")
    source = tmp_path / "layout.c"
    source.write_text(PROGRAM)
    subprocess.run([compiler, "-o", tmp_path / "layout", source], check=True)
    text = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout
    said = dict(line.split(" ", 1) for line in text.splitlines())
    for name in ("GET_CHIP_INFO", "GET_LINE_INFO", "GET_LINE", "GET_VALUES", "SET_VALUES"):
        assert getattr(gpio, name) == int(said[name]), name
    assert struct.Struct("=QIIII24x").size == int(said["event"])
    assert (transfer_request(), mode_request()) == (int(said["SPI_MESSAGE"]), int(said["SPI_MODE"]))
    specs = [gpio.LineSpec(5, "a"), gpio.LineSpec(6, "b", direction="out", value=True)]
    asked = gpio._request_bytes(specs, "me")
    at = {name: int(where) for name, where in said.items() if name.startswith("gpio_v2_line_request.")}
    assert asked[at["gpio_v2_line_request.consumer"] :][:2] == b"me"
    assert struct.unpack_from("=I", asked, at["gpio_v2_line_request.num_lines"]) == (2,)
    config = at["gpio_v2_line_request.config"]
    assert struct.unpack_from("=Q", asked, config) == (gpio.flags_of(specs[0]),)
    assert struct.unpack_from("=I", asked, config + int(said["gpio_v2_line_config.num_attrs"])) == (2,)
    first = config + int(said["gpio_v2_line_config.attrs"])
    assert struct.unpack_from("=IIQQ", asked, first) == (1, 0, gpio.flags_of(specs[1]), 0b10)
    assert struct.unpack_from("=IIQQ", asked, first + 24) == (2, 0, 0b10, 0b10)
    low, edges, drain, up, off = map(int, said["flags"].split())
    assert gpio.flags_of(gpio.LineSpec(0, "", active_low=True)) & low
    assert gpio.flags_of(gpio.LineSpec(0, "")) == edges
    assert gpio.flags_of(gpio.LineSpec(0, "", direction="out", drive="open-drain")) == drain
    assert gpio.flags_of(gpio.LineSpec(0, "", bias="pull-up", edges="none")) & up
    assert gpio.flags_of(gpio.LineSpec(0, "", bias="disabled", edges="none")) & off


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor of a node that knows no ioctl."""
    fd = os.open("/dev/null", os.O_RDWR)
    yield fd
    os.close(fd)


def test_a_node_that_is_no_bus_is_told(null: int) -> None:
    bus = I2cBus(null, 0x48)
    for call in (lambda: bus.read(0, 1), lambda: bus.write(0, b"\0")):
        with pytest.raises(ConnectError, match="0x48"):
            call()
    with pytest.raises(ConnectError, match="SPI"):
        SpiBus(null)
    with pytest.raises(ConnectError, match="no GPIO chip"):
        gpio.GpioLines(null).chip()
    with pytest.raises(ConfigurationError, match="no mode 4"):
        SpiBus(null, mode=4)


def failing(fd: int, number: int) -> I2cBus:
    """A bus whose every transfer fails with `number`."""

    class Failing:
        def __init__(self) -> None:
            self.fd = fd

        def __getattr__(self, name: str) -> Any:
            def fail(*_: Any, **__: Any) -> None:
                raise OSError(number, os.strerror(number))

            return fail

    bus = I2cBus(fd, 0x48)
    bus._bus = Failing()
    return bus


def test_an_adapter_that_the_kernel_has_no_more_is_gone_whatever_the_transfer_says() -> None:
    with socket.socket() as nowhere, pytest.raises(LinkLost):  # a descriptor that no device stands behind
        failing(nowhere.fileno(), errno.ENXIO).read(0, 1)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENXIO, DeviceNotFound),
        (errno.EREMOTEIO, DeviceNotFound),
        (errno.EBUSY, DeviceBusy),
        (errno.ENODEV, DeviceNotFound),
        (errno.ESHUTDOWN, LinkLost),
        (errno.ETIMEDOUT, TimeoutExceeded),
        (errno.EIO, ConnectError),
    ],
)
def test_what_the_bus_says_is_translated(null: int, number: int, kind: type[Exception]) -> None:
    bus = failing(null, number)
    with pytest.raises(kind) as caught:
        bus.read(0, 2)
    assert type(caught.value) is kind
    with pytest.raises(kind):
        bus.write(0, b"\0\0\0")


def test_bytes_come_in_the_order_of_the_wire_whatever_the_size(null: int) -> None:
    bus = I2cBus(null, 0x48, force=True)
    wire = b"\x12\x34\x56\x78"
    written: list[Any] = []

    class Adapter:
        """SMBus by its specification 3.1, §6.5: the low byte of a word comes first."""

        def read_byte_data(self, address: int, register: int, *, force: bool) -> int:
            assert (address, force) == (0x48, True)
            return wire[register]

        def read_word_data(self, address: int, register: int, *, force: bool) -> int:
            return wire[register] | wire[register + 1] << 8

        def read_i2c_block_data(self, address: int, register: int, size: int, *, force: bool) -> list[int]:
            return list(wire[register : register + size])

        def write_byte_data(self, address: int, register: int, value: int, *, force: bool) -> None:
            written.append(bytes((value,)))

        def write_word_data(self, address: int, register: int, value: int, *, force: bool) -> None:
            written.append(bytes((value & 0xFF, value >> 8)))

        def write_i2c_block_data(self, address: int, register: int, data: list[int], *, force: bool) -> None:
            written.append(bytes(data))

    bus._bus = Adapter()
    for size in range(1, 5):
        assert bus.read(0, size) == wire[:size]
        bus.write(0, wire[:size])
    assert written == [wire[:size] for size in range(1, 5)]


def test_the_kernel_is_given_what_the_chip_is_to_be_sent(null: int) -> None:
    import ctypes

    def ioctl(fd: int, request: int, data: Any) -> int:
        if request == transfer_request():
            sent, came, length = struct.unpack_from("=QQI", data)
            ctypes.memmove(came, bytes(byte ^ 0xFF for byte in ctypes.string_at(sent, length)), length)
        return 0

    assert SpiBus(null, mode=3, ioctl=ioctl).transfer(b"\x01\x80\x00") == b"\xfe\x7f\xff"
