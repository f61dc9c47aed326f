"""Kinds of devices that are nodes of this machine: trees as Linux makes them, and nodes that answer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from device_trees import ANYBODY, NOBODY, Nodes, chipinfo, link, querycap, touch, usb_device, write
from vfab.kernel.finders.can import CanHandler, ip_links
from vfab.kernel.finders.gpio import GpioHandler
from vfab.kernel.finders.iio import IioHandler
from vfab.kernel.finders.looking import ask_node, children, node_device, read_text, usb_behind
from vfab.kernel.finders.spi import SpiHandler
from vfab.kernel.finders.usbtmc import UsbtmcHandler
from vfab.kernel.finders.v4l2 import V4l2Handler

GONE = OSError(errno.ENODEV, "No such device")


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    return write(tmp_path / "sys")


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    return write(tmp_path / "dev")


# --- what all share ----------------------------------------------------------------------------------------------


def test_what_is_not_there_reads_as_nothing(tmp_path: Path) -> None:
    assert read_text(tmp_path / "none") == ""
    assert children(tmp_path / "none") == []
    assert usb_behind(tmp_path / "none").vid == ""


def test_nodes_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("video10", "video2", "video1"):
        touch(tmp_path / name)
    assert [path.name for path in children(tmp_path, "video*")] == ["video1", "video2", "video10"]


def test_a_node_is_asked_by_an_ioctl() -> None:
    ours, theirs = os.openpty()
    try:
        assert ask_node(os.ttyname(theirs), 0x5413, bytes(8)) == bytes(8)  # TIOCGWINSZ: a window without a size
    finally:
        os.close(ours)
        os.close(theirs)
    with pytest.raises(OSError, match="ioctl"):
        ask_node("/dev/null", 0x80685600, bytes(104))


def test_a_node_carries_the_usb_device_behind_it(sys: Path, dev: Path) -> None:
    usb = usb_behind(usb_device(sys))
    device = node_device("x", "a b", str(touch(dev / "n")), "N", user=ANYBODY, usb=usb, empty="", full="1")
    assert (device.id, device.vid, device.pid, device.serial_number) == ("x:a_b", "046d", "0825", "S1")
    assert device.attributes == {"location": "1-2", "full": "1"}


# --- cameras -----------------------------------------------------------------------------------------------------


def camera(sys: Path, dev: Path, name: str, index: str = "0", behind: Path | None = None) -> None:
    node = write(sys / "video4linux" / name, name="Webcam C270", index=index)
    if behind is not None:
        link(node / "device", behind)
    touch(dev / name)


def test_a_webcam_is_one_camera_named_by_its_link_and_its_metadata_node_is_none(sys: Path, dev: Path) -> None:
    interface = usb_device(sys)
    camera(sys, dev, "video0", "0", interface)
    camera(sys, dev, "video1", "1", interface)
    link(dev / "v4l" / "by-path" / "pci-0-usb-video-index0", dev / "video0")
    link(dev / "v4l" / "by-id" / "usb-Logi_Webcam_S1-video-index0", dev / "video0")
    nodes = Nodes(
        {
            "video0": querycap("uvcvideo", "Webcam C270", "usb-0000:00:14.0-2", 0x04A00001, 0x04200001),
            "video1": querycap("uvcvideo", "Webcam C270", "usb-0000:00:14.0-2", 0x04A00001, 0x04A00000),
        }
    )
    (found,) = V4l2Handler(sys / "video4linux", dev, ask=nodes, user=ANYBODY).find()
    assert found.id == "v4l2:by-id/usb-Logi_Webcam_S1-video-index0"
    assert (found.name, found.bus, found.address) == ("Webcam C270", "v4l2", str(dev / "video0"))
    assert (found.vid, found.pid, found.product) == ("046d", "0825", "Webcam")
    assert found.attributes["driver"] == "uvcvideo"
    assert found.attributes["location"] == "1-2"
    assert nodes.asked[0] == ("video0", 0x80685600, 104)


def test_cameras_without_a_link_are_named_by_their_place(sys: Path, dev: Path) -> None:
    for name, index in (("video0", "0"), ("video1", "1"), ("video2", "0")):
        camera(sys, dev, name, index)
    nodes = Nodes(
        {
            "video0": querycap("vivid", "vivid", "platform:vivid-000", 0x00000001),
            "video1": querycap("vivid", "", "platform:vivid-000", 0, 0x00001000),
            "video2": querycap("out", "", "", 0x00000002),
        }
    )
    found = V4l2Handler(sys / "video4linux", dev, ask=nodes, user=ANYBODY).find()
    assert [d.id for d in found] == ["v4l2:platform:vivid-000", "v4l2:platform:vivid-000:1"]
    assert [d.name for d in found] == ["vivid", "Webcam C270"]


def test_a_camera_that_may_not_be_opened_is_told_with_the_remedy(sys: Path, dev: Path) -> None:
    camera(sys, dev, "video0", "0", usb_device(sys))
    camera(sys, dev, "video1", "1")
    (found,) = V4l2Handler(sys / "video4linux", dev, ask=Nodes({}), user=NOBODY).find()
    assert (found.id, found.accessible) == ("v4l2:video0", False)
    assert "ada may not open" in found.problem
    assert "udev" in found.remedy or "usermod" in found.remedy


def test_a_camera_that_does_not_answer_is_told(sys: Path, dev: Path) -> None:
    camera(sys, dev, "video0")
    (found,) = V4l2Handler(sys / "video4linux", dev, ask=Nodes({"video0": GONE}), user=ANYBODY).find()
    assert not found.accessible
    assert "No such device" in found.problem


def test_where_there_are_no_nodes_nothing_is_found(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert V4l2Handler(none, none).find() == []
    assert GpioHandler(none, none).find() == []
    assert SpiHandler(none, none).find() == []
    assert UsbtmcHandler(none, none).find() == []
    assert IioHandler(none).find() == []
    assert CanHandler(none).find() == []


# --- CAN ---------------------------------------------------------------------------------------------------------


def interface(sys: Path, name: str, flags: str, mtu: str = "16", type_: str = "280") -> Path:
    return write(sys / "net" / name, type=type_, flags=flags, mtu=mtu)


def test_can_interfaces_are_found_with_what_ip_knows_of_them(sys: Path) -> None:
    interface(sys, "lo", "0x9", type_="772")
    interface(sys, "vcan0", "0xc1", mtu="72")
    real = interface(sys, "can0", "0xc1")
    behind = usb_device(sys, product="candleLight", idVendor="1d50")
    link(real / "device", behind)
    link(behind / "driver", write(sys / "drivers" / "gs_usb"))
    links = [
        {"ifname": "vcan0", "linkinfo": {"info_kind": "vcan"}},
        {
            "ifname": "can0",
            "linkinfo": {"info_kind": "can", "info_data": {"state": "ERROR-ACTIVE", "bittiming": {"bitrate": 250000}}},
        },
    ]
    can0, vcan0 = CanHandler(sys / "net", links=lambda: links).find()
    assert (can0.id, can0.address, can0.name, can0.vid) == ("can:can0", "can://can0", "candleLight", "1d50")
    assert can0.attributes == {
        "kind": "can",
        "driver": "gs_usb",
        "state": "up",
        "bus_state": "error-active",
        "bitrate": "250000",
        "location": "1-2",
    }
    assert (vcan0.accessible, vcan0.attributes) == (True, {"kind": "vcan", "state": "up", "fd": "yes"})


@pytest.mark.parametrize(
    ("link_", "command"),
    [
        ({}, "sudo ip link set can0 up type can bitrate 500000 (the rate of your bus)"),
        ({"linkinfo": {"info_kind": "vcan"}}, "sudo ip link set can0 up"),
    ],
)
def test_an_interface_that_is_down_is_told_with_the_command_that_brings_it_up(
    sys: Path, link_: dict[str, object], command: str
) -> None:
    interface(sys, "can0", "0x80")
    (found,) = CanHandler(sys / "net", links=lambda: [{"ifname": "can0", **link_}]).find()
    assert (found.accessible, found.problem) == (False, "can0 is down")
    assert found.remedy == f"Run: {command}"


def test_this_machines_links_can_be_listed_and_without_ip_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all("ifname" in each for each in ip_links())
    monkeypatch.setenv("PATH", "/nowhere")
    assert ip_links() == []


# --- GPIO, SPI, IIO, USBTMC ----------------------------------------------------------------------------------------


def test_a_gpio_chip_is_known_by_its_label(dev: Path, tmp_path: Path) -> None:
    link(dev / "gpiochip4", touch(dev / "gpiochip0"))
    touch(dev / "gpiochip1")
    touch(dev / "gpiochip2")
    nodes = Nodes(
        {"gpiochip0": chipinfo("gpiochip0", "pinctrl-bcm2711", 58), "gpiochip1": chipinfo("", "", 8), "gpiochip2": GONE}
    )
    chip, bare, gone = GpioHandler(dev, tmp_path, ask=nodes, user=ANYBODY).find()
    assert (chip.id, chip.name) == ("gpio:pinctrl-bcm2711", "pinctrl-bcm2711, 58 lines")
    assert chip.attributes == {"chip": "gpiochip0", "label": "pinctrl-bcm2711", "lines": "58"}
    assert (bare.id, bare.name) == ("gpio:gpiochip1", "gpiochip1, 8 lines")
    assert not gone.accessible
    assert "No such device" in gone.problem
    assert nodes.asked[0] == ("gpiochip0", 0x8044B401, 68)
    (dev / "gpiochip0").chmod(0o600)
    closed = GpioHandler(dev, tmp_path, ask=nodes, user=NOBODY).find()[0]
    assert 'SUBSYSTEM=="gpio", MODE="0660", TAG+="uaccess"' in closed.remedy
    assert next(d.id for d in GpioHandler(dev, tmp_path, ask=nodes, user=NOBODY).find()) == "gpio:gpiochip0"


def test_an_spi_device_says_what_the_machines_description_names(sys: Path, dev: Path) -> None:
    touch(dev / "spidev0.1")
    write(sys / "spi" / "spi0.1", modalias="spi:mcp3008")
    (found,) = SpiHandler(dev, sys / "spi", user=ANYBODY).find()
    assert (found.id, found.address, found.attributes) == (
        "spi:0.1",
        str(dev / "spidev0.1"),
        {"modalias": "mcp3008"},
    )


def test_an_iio_device_is_named_by_its_chip_and_its_place(sys: Path) -> None:
    node = write(
        sys / "devices" / "1-0048" / "iio:device0", name="ads1015", in_voltage0_raw="12", in_voltage1_input="3", x="1"
    )
    link(sys / "iio" / "iio:device0", node)
    write(sys / "iio" / "iio:device1", label="bench")
    chip, bare = IioHandler(sys / "iio").find()
    assert (chip.id, chip.address, chip.name) == ("iio:ads1015:1-0048", str(sys / "iio" / "iio:device0"), "ads1015")
    assert chip.attributes == {"chip": "ads1015", "channels": "in_voltage0 in_voltage1"}
    assert (bare.name, bare.accessible) == ("bench", True)


def test_an_instrument_on_usb_carries_its_visa_name(sys: Path, dev: Path) -> None:
    touch(dev / "usbtmc0")
    touch(dev / "usbtmc1")
    usb = usb_device(sys, idVendor="0957", idProduct="1a07", serial="MY1", product="34461A")
    link(sys / "usbmisc" / "usbtmc0" / "device", usb)
    found, bare = UsbtmcHandler(dev, sys / "usbmisc", user=ANYBODY).find()
    assert (found.id, found.name, found.attributes["visa"]) == (
        "usbtmc:0957:1a07:MY1",
        "34461A",
        "USB0::0x0957::0x1A07::MY1::INSTR",
    )
    assert (bare.id, bare.name, bare.attributes) == ("usbtmc:usbtmc1", "USB instrument", {})
