"""VISA's names where an address is given by hand: sockets and serial ports are the broker's own addresses."""

from __future__ import annotations

import os

import pytest

from vfab.kernel.addresses import device_at, find_device


@pytest.mark.parametrize("text", ["TCPIP0::192.0.2.7::5025::SOCKET", "visa://TCPIP::192.0.2.7::5025::SOCKET"])
def test_a_visa_socket_is_the_address_that_the_broker_opens(text: str) -> None:
    assert find_device(text, []) == device_at("tcp://192.0.2.7:5025")


def test_a_visa_serial_port_is_the_node() -> None:
    master, slave = os.openpty()
    try:
        node = os.ttyname(slave)
        assert device_at(f"ASRL{node}::INSTR") == device_at(node)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("text", ["TCPIP0::192.0.2.7::inst0::INSTR", "visa://TCPIP0::192.0.2.7::inst0::INSTR"])
def test_what_needs_visa_keeps_its_name(text: str) -> None:
    device = find_device(text, [])
    assert (device.bus, device.address) == ("visa", "TCPIP0::192.0.2.7::inst0::INSTR")
