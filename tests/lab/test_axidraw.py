"""A plotter on USB: found by its ids, plotted on, unplugged and plugged in again."""

from __future__ import annotations

from typing import Any

from apps.programs import SMALL, Vfab
from lab.usb_axidraw import HOST_END, UsbAxiDraw
from vfab import DeviceDriverManager
from vfab.sdk.deviation import max_deviation_mm
from vfab.sdk.svg import SvgOptions, read_drawing

STEP_MM = 1 / 80
TOLERANCE_MM = 0.02


def wanted(svg: str) -> list[Any]:
    return [path.points for path in read_drawing(svg.encode(), options=SvgOptions(tolerance_mm=TOLERANCE_MM)).paths]


def test_the_only_plotter_on_usb_is_found_by_its_ids_and_draws_the_file(vfab: Vfab, axidraw: UsbAxiDraw) -> None:
    done = vfab("plot", vfab.file(SMALL), "--json", timeout=280)
    assert done.code == 0, done.err
    assert done.json["completed"] and done.json["device"] == axidraw.id, done.out
    assert max_deviation_mm(axidraw.strokes, wanted(SMALL)) <= STEP_MM + TOLERANCE_MM
    assert axidraw.board.pen_up and axidraw.board.place == (0, 0)


def test_a_plot_whose_cable_is_pulled_is_told_and_goes_on_when_it_is_plugged_in(
    vfab: Vfab, axidraw: UsbAxiDraw
) -> None:
    file = vfab.file(SMALL)
    axidraw.break_by("unplug@90")
    pulled = vfab("plot", file, "--device", axidraw.id, "--json", timeout=280)
    axidraw.wait_until_gone()
    assert pulled.code not in (0, 1), pulled
    assert HOST_END in pulled.error["message"] and "--resume" in pulled.error["remedy"], pulled.err
    assert axidraw.strokes, "it had begun to draw"
    axidraw.put_home()
    axidraw.plug_in()
    axidraw.wait_for_node()
    again = vfab("plot", file, "--device", axidraw.id, "--resume", "--json", timeout=280)
    assert again.code == 0, again.err
    assert 0 < again.json["resumed_from"] < 1, again.out
    assert max_deviation_mm(axidraw.strokes, wanted(SMALL)) <= STEP_MM + TOLERANCE_MM


def test_a_session_goes_on_with_a_board_that_was_plugged_in_again(
    manager: DeviceDriverManager, axidraw: UsbAxiDraw
) -> None:
    manager.connect_device("axidraw", axidraw.id).check()
    manager.execute_command("axidraw", "pen-down", device_id=axidraw.id).check()
    assert not axidraw.board.pen_up
    axidraw.unplug()
    axidraw.wait_until_gone()
    refused = manager.execute_command("axidraw", "pen-up", device_id=axidraw.id)
    assert refused["error"]["code"] == "link_lost" and refused["remedy"], refused
    manager.close_device("axidraw", axidraw.id).check()
    axidraw.plug_in()
    axidraw.wait_for_node()
    assert [device.device_id for device in manager.scan_devices("axidraw").check()["devices"]] == [axidraw.id]
    manager.connect_device("axidraw", axidraw.id).check()
    board = manager.execute_command("axidraw", "board", device_id=axidraw.id).check()["result"]
    assert board["firmware"].startswith("3"), board
    manager.close_device("axidraw", axidraw.id).check()
