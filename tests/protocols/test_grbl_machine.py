"""The simulated GRBL machine: as unkind as a real one, and never faster than its acceleration allows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import hypot
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.protocols.grbl import Firmware, Motion, Planner, Position, Realtime
from vfab.protocols.grbl.server import InputBuffer

FAST = {110: 6000, 111: 6000, 112: 6000, 120: 500, 121: 500, 122: 500}


class Watcher:
    def __init__(self) -> None:
        self.way: list[Position] = []
        self.tools: list[tuple[bool, float]] = []

    def go(self, at: Position) -> None:
        self.way.append(at)

    def tool(self, on: bool, speed: float) -> None:
        self.tools.append((on, speed))


def machine(settings: Mapping[int, float] | None = None, **options: Any) -> Firmware:
    made = Firmware({**FAST, **(settings or {})}, observer=options.pop("observer", Watcher()), **options)
    made.power_on()
    made.outgoing()
    return made


def said(made: Firmware, text: str, for_s: float = 0.0) -> list[str]:
    made.receive(text.encode("latin-1"))
    if for_s:
        made.advance(made.now + for_s)
    return made.outgoing().decode().split("\r\n")[:-1]


def test_real_time_bytes_act_inside_a_line() -> None:
    made = machine()
    assert said(made, "G2?1G90\n", 0.1)[0].startswith("<Idle|MPos:0.000,0.000,0.000|FS:0,0|WCO:0.000,0.000,0.000>")
    assert said(made, "$G\n", 0.1) == ["[GC:G0 G54 G17 G21 G90 G94 M5 M9 T0 F0 S0]", "ok"]


def test_what_does_not_fit_the_receive_buffer_is_dropped_without_a_word() -> None:
    made = machine()
    said(made, "G4P10\n", 0.1)
    made.receive(b"G1X1F100\n" * 30)
    assert made.input.dropped == 30 * 9 - 128
    assert made.input.free == 0
    ring = InputBuffer(lambda command: None, 4)
    ring.feed(b"abcdef\x85\xb0")
    assert (ring.dropped, ring.free) == (2, 0)


def test_nothing_is_heard_while_the_eeprom_is_written() -> None:
    made = machine()
    made.receive(b"$110=5000\n")
    made.advance(made.now + 0.005)
    made.receive(b"$G\n?")
    made.advance(made.now + 0.1)
    assert made.outgoing() == b"ok\r\n"
    assert made.input.dropped == 4
    hal = machine(hal=True)
    assert said(hal, "$110=5000\n$G\n", 0.1)[0] == "ok"
    assert hal.input.dropped == 0


ERRORS = [
    ("1", 1), ("GX", 2), ("G", 2), ("$ABC", 3), ("$9999=1", 3), ("$110=-1", 4), ("$H", 5), ("$0=1", 6), ("$20=1", 10),
    ("$RST=x", 3), ("$110=a", 2), ("$13=7", 3), ("G1" + "X1" * 90, 11), ("G5", 20), ("E1", 20), ("G38.2Z1F1", 20),
    ("G0G1", 21), ("G1X1", 22), ("M3.5", 23), ("G0G92X1", 24), ("X1X2", 25), ("G92", 26), ("G2F10", 26),
    ("N99999999", 27), ("G4", 28), ("G10X1", 28), ("G10L2P9X1", 29), ("G10L3P1X1", 20), ("G10L2P1", 26),
    ("G53G2X1F1I1", 30), ("G80X1", 31), ("G2Z1F1I1", 32), ("G2X10F100I1", 33), ("G2X0Y0R1F1", 33), ("G2X10R1F1", 34),
    ("G2X10F100", 35), ("G0I1", 36), ("F-1", 4), ("G93G1X1", 22), ("G18G2X1F1I1", 20), ("$J=X1", 22), ("$J=F1", 26),
    ("$J=M3X1F1", 16), ("$J=G28X1F1", 16), ("$N0=Q1", 20),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code"), ERRORS)
def test_each_wrong_line_has_its_error(line: str, code: int) -> None:
    assert said(machine(instant=True), line + "\n") == [f"error:{code}"]


def test_comments_and_spaces_are_not_read() -> None:
    assert said(machine(instant=True), "(a) g 4 p 0 ; end\n/\n", 0.1) == ["ok", "ok"]


def test_system_commands_answer() -> None:
    made = machine(instant=True)
    assert said(made, "$\n")[0].startswith("[HLP:")
    assert "$110=6000.000" in said(made, "$$\n")
    assert said(made, "$I=mine\n$I\n") == ["ok", "[VER:1.1h.20190825:MINE]", "[OPT:V,15,128]", "ok"]
    assert said(made, "$N0=G20\n$N\n") == ["ok", "$N0=G20", "$N1=", "ok"]
    assert ">G20:ok" in said(made, "\x18")
    assert said(made, "$C\n$C\n") == ["[MSG:Enabled]", "ok", "[MSG:Disabled]", "ok"]
    assert said(made, "$RST=$\n$RST=#\n$RST=*\n").count("ok") == 3
    assert said(made, "$N\n")[0] == "$N0="
    made.startup[0] = "G1"
    made.startup[1] = "X1F0"
    assert said(made, "\x18")[-1] == ">X1F0:error:22"
    assert said(made, "$SLP\nG0X1\n") == ["[MSG:Sleeping]", "ok"]
    assert said(made, "?")[0].startswith("<Sleep")
    assert said(made, "\x18")[-1] == "[MSG:'$H'|'$X' to unlock]"
    assert said(made, "G0X1\n$X\n$X\n") == ["error:9", "[MSG:Caution: Unlocked]", "ok", "ok"]


def test_coordinates_are_set_shifted_and_forgotten() -> None:
    made = machine(instant=True)
    said(made, "G0X10Y20\nG10L20P1X0Y0\nG92X5\nG43.1Z2\nG28.1\n")
    shown = said(made, "$#\n")
    assert "[G54:10.000,20.000,0.000]" in shown
    assert "[G92:-5.000,0.000,0.000]" in shown
    assert "[G28:10.000,20.000,0.000]" in shown
    assert "[TLO:2.000]" in shown
    said(made, "G0X6\n")
    assert made.position == (11, 20, 0)
    said(made, "G92.1\nG49\nG0X6\nG53G0Y3\nG91G0X1\nG90G20G0X1\nG21\n")
    assert made.position == (10 + 25.4, 3, 0)
    said(made, "G28Z4\n")
    assert made.position == (10, 20, 0)
    said(made, "G55\nG10L2P0X-1\nG30\n")
    assert made.wco == (-1, 0, 0)


def test_an_arc_stays_on_its_circle() -> None:
    watcher = Watcher()
    made = machine({100: 1000, 101: 1000}, instant=True, observer=watcher)
    said(made, "G0X10\nG3X10Y0I-10F1000\nG2X0Y10R-10\nG3X-10Y0R10\nM30\n")
    assert len(watcher.way) > 200
    assert all(hypot(x, y) == pytest.approx(10, abs=0.004) for x, y, _ in watcher.way[1:-300])


def test_inverse_time_and_programs_that_stop() -> None:
    made = machine()
    assert said(made, "G93G1X10F60\nG94\n", 3.0) == ["ok", "ok"]
    assert made.position[0] == 10
    assert said(made, "M0\nG4P0\n", 1.0) == []
    assert said(made, "?")[0].startswith("<Hold:0")
    assert said(made, "~", 1.0) == ["ok", "ok"]
    assert said(made, "M3S100\nM1\nM2\n", 1.0)[-2:] == ["[MSG:Pgm End]", "ok"]
    assert not made.tool_on


def test_the_tool_changes_only_when_all_motion_before_it_is_over() -> None:
    watcher = Watcher()
    made = machine(observer=watcher)
    said(made, "G1X10F600\nM3S100\n", 0.5)
    assert watcher.tools == []
    said(made, "", 1.0)
    assert watcher.tools == [(True, 100)]
    said(made, "S2000\nM5\n", 1.0)
    assert watcher.tools[1:] == [(True, 1000), (False, 0)]


def test_a_hold_slows_down_along_the_path_and_keeps_everything() -> None:
    watcher = Watcher()
    made = machine(observer=watcher)
    said(made, "G1X20F6000\nX20Y20\n", 0.15)
    assert said(made, "!?")[0].startswith("<Hold:1")
    assert said(made, "$X\n", 0.5) == []
    assert said(made, "?")[0].startswith("<Hold:0")
    assert not made.planner.moving
    said(made, "!~", 5.0)
    assert made.position == (20, 20, 0)
    assert all(x == pytest.approx(20) or y == pytest.approx(0) for x, y, _ in watcher.way)


def test_a_reset_at_rest_keeps_the_position_and_one_in_motion_is_an_alarm() -> None:
    made = machine()
    said(made, "G1X20F6000\n", 0.15)
    said(made, "!", 1.0)
    at = made.here()
    assert said(made, "\x18") == ["", "Grbl 1.1h ['$' for help]"]
    assert made.here() == pytest.approx(at, abs=0.01)
    said(made, "G1X90F6000\n", 0.15)
    assert said(made, "\x18")[0] == "ALARM:3"
    assert said(made, "?!\x84")[0].startswith("<Alarm")
    assert said(made, "$J=X1F1\n", 0.1) == ["error:8"]


def test_a_door_holds_switches_the_tool_off_and_waits_to_be_closed() -> None:
    watcher = Watcher()
    made = machine(observer=watcher)
    said(made, "M3S100\nG1X20F6000\n", 0.15)
    made.door_open = True
    assert "Door:2" in said(made, "\x84?")[0]
    said(made, "", 1.0)
    assert "Door:1" in said(made, "?~")[0]
    made.door_open = False
    assert "Door:0" in said(made, "?")[0]
    said(made, "~", 2.0)
    assert made.position[0] == 20
    assert watcher.tools == [(True, 100), (False, 0), (True, 100)]


def test_soft_and_hard_limits_end_in_alarms_that_only_a_reset_leaves() -> None:
    made = machine({22: 1, 20: 1, 25: 60_000})
    assert said(made, "\x18")[-1] == "[MSG:'$H'|'$X' to unlock]"
    assert said(made, "$H\n?", 0.0)[-1:] == ["<Alarm|MPos:0.000,0.000,0.000|FS:0,0|WCO:0.000,0.000,0.000>"]
    assert said(made, "", 0.01) == []
    assert said(made, "?")[0].startswith("<Home")
    assert said(made, "", 2.0) == ["ok"]
    assert made.position == (-1, -1, -1)
    assert said(made, "$J=G91X5F100\n", 0.1) == ["error:15"]
    assert said(made, "G0X-50\nG0X5\nG0X-9\n", 3.0) == ["ok", "ALARM:2", "[MSG:Reset to continue]"]
    assert said(made, "$X\n", 0.1) == []
    said(made, "\x18$X\n", 0.1)
    made.trip_limit()
    assert said(made, "", 0.1) == ["ALARM:1", "[MSG:Reset to continue]"]


def test_homing_has_its_own_alarms_and_origins() -> None:
    made = machine({22: 1, 23: 3})
    said(made, "$H\n", 0.5)
    assert said(made, "\x18")[0] == "ALARM:6"
    said(made, "$H\n", 100.0)
    assert made.position == (-199, -199, -1)
    made.door_open = True
    assert said(made, "$H\n", 1.0) == ["error:13"]
    forced = machine({22: 1, 23: 3, 20: 1}, forced_origin=True)
    said(forced, "$H\n", 100.0)
    assert said(forced, "$J=X5F100\n", 1.0) == ["ok"]
    assert said(forced, "$J=Z5F100\n", 1.0) == ["error:15"]


def test_jogs_are_cancelled_as_a_whole() -> None:
    made = machine()
    said(made, "$J=X50F6000\n$J=G91G20X1F100\n", 0.2)
    assert said(made, "?G0X1\n$$\n", 0.05)[0].startswith("<Jog")
    assert said(made, "\x85", 1.0) == []
    assert said(made, "?")[0].startswith("<Idle")
    assert 0 < made.position[0] < 50
    said(made, "$J=X90F6000\n", 0.2)
    said(made, "!", 1.0)
    assert said(made, "?\x85")[0].startswith("<Idle"), "a hold ends a jog, too"


def test_check_mode_moves_nothing() -> None:
    made = machine()
    assert said(made, "$C\nG1X5F100\nM0\nM3S5\n", 1.0) == ["[MSG:Enabled]", "ok", "ok", "ok", "ok"]
    assert said(made, "!?")[0].startswith("<Check")
    assert made.position[0] == 0


def test_overrides_are_reported_and_change_the_speed() -> None:
    made = machine()
    said(made, "G1X100F1200\n", 0.5)
    assert made.planner.speed == pytest.approx(20)
    for _ in range(5):
        said(made, "\x92")
    said(made, "", 0.3)
    assert made.planner.speed == pytest.approx(10)
    said(made, "\x91\x93\x94\x96\x9a\x9b\x9c\x9d\x99\x9e\xa0?")
    assert "Ov:60,50,100" in said(made, "?")[0]
    said(made, "\x90", 0.3)
    assert made.planner.speed == pytest.approx(20)


def test_a_power_cut_forgets_the_position_and_the_carriage_stays() -> None:
    watcher = Watcher()
    made = machine(observer=watcher)
    said(made, "G0X10\n", 2.0)
    made.reboot()
    assert made.outgoing().startswith(b"\r\nGrbl")
    assert made.position == (0, 0, 0)
    said(made, "G0X5\n", 2.0)
    assert watcher.way[-1] == (15, 0, 0)
    silent = Firmware(instant=True)
    silent.power_on()
    silent.receive(b"G0X1\nM3S1\n")
    silent.power_off()


def test_a_machine_that_hangs_answers_no_line_and_all_questions() -> None:
    made = machine()
    made.line_limit = 1
    assert said(made, "G90\nG91\n?", 1.0)[-1] == "ok"
    assert made.modal.distance == "G90"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=25),
    st.sampled_from([300, 1500, 6000]),
    st.data(),
)
def test_motion_is_continuous_keeps_to_its_limits_and_ends_where_it_should(
    points: list[tuple[int, int]], feed: int, data: st.DataObject
) -> None:
    made = machine()
    tail = "".join(f"X{x}Y{y}\n" for x, y in points)
    pending = f"G1F{feed}\n{tail}".encode()
    tick = 0.01
    speeds = [0.0]
    for _ in range(20_000):
        room = min(made.input.free, 40)
        made.receive(pending[:room])
        pending = pending[room:]
        made.advance(made.now + tick)
        speeds.append(made.planner.speed)
        if len(speeds) < 400:
            turn = data.draw(st.integers(0, 199))
            made.receive(b"!" if turn == 0 else b"~" if turn < 5 else b"")
        else:
            made.receive(b"~")  # one that comes before it stands still is not heard, so it comes again
            if not pending and made.planner.empty and made.input.free == 128:
                break
    made.advance(made.now + 1)
    assert made.position[:2] == points[-1]
    assert max(speeds) <= feed / 60 + 1e-6
    fastest = 500 * 2**0.5 * tick
    assert all(abs(b - a) <= fastest + feed / 60 * 0.3 for a, b in pairwise(speeds))


def test_a_planner_that_is_held_with_nothing_to_do_is_at_rest() -> None:
    way: list[Position] = []
    planner = Planner(way.append, 3)
    planner.hold()
    assert not planner.moving
    planner.advance(1.0)
    planner.add(Motion((0.0, 0.0), (1.0, 0.0), 10.0, 100.0))
    planner.advance(1.0)
    assert planner.position == (0.0, 0.0)
    planner.go()
    while not planner.empty:
        planner.advance(planner.next_event_s())
    assert way == [(1.0, 0.0)]
    assert planner.clear() is None
    assert planner.end is None
    assert Realtime.HOLD.data == b"!"
