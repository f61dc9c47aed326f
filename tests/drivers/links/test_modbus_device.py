"""What the simulated device answers over TCP to other people's clients: requests byte by byte, as they send them."""

from __future__ import annotations

import pytest

pytest.importorskip("pymodbus")

from vfab.drivers.modbus.device import ModbusDevice, TcpServer


def asked(unit: int, pdu: str, device: ModbusDevice | None = None) -> str:
    body = bytes((unit,)) + bytes.fromhex(pdu)
    answers = list(TcpServer(device or ModbusDevice()).feed(b"\x00\x01\x00\x00" + len(body).to_bytes(2, "big") + body))
    return " ".join(answer[7:].hex() for answer in answers)


@pytest.mark.parametrize(("unit", "answer"), [(0, "04020005"), (1, "04020005"), (255, "04020005"), (7, "")])
def test_a_device_with_an_address_of_its_own_is_also_unit_0_and_255(unit: int, answer: str) -> None:
    assert asked(unit, "0400050001") == answer


def test_more_than_one_message_may_carry_is_refused() -> None:
    device = ModbusDevice()
    assert asked(1, "0f000003e87d" + "ff" * 125, device) == "0f000003e8"
    assert asked(1, "10" + "0000" + "007b" + "f6" + "ffff" * 123, device) == "100000007b"
    assert asked(1, "0f" + "0000" + "07b8" + "f7" + "ff" * 247, device) == "8f03"
    assert device.holding[:123] == [0xFFFF] * 123


def test_what_is_read_and_written_at_once_is_not_written_when_it_cannot_be_read() -> None:
    device = ModbusDevice()
    assert asked(1, "17ffff0001000000010200ff", device) == "9702"
    assert not any(device.holding)
