"""GRBL's wire: lines and reports however they are cut, character counting, EEPROM barriers, resets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfab.model.errors import Refused
from vfab.protocols import grbl
from vfab.protocols.grbl import Client, Realtime, State, Status

LINES = [
    (b"ok", grbl.Ok(raw="ok")),
    (b"error:22", grbl.Failed(22, raw="error:22")),
    (b"error: Expected command letter", grbl.Failed(0, raw="error: Expected command letter")),
    (b"ALARM:3", grbl.Alarm(3, raw="ALARM:3")),
    (b"Grbl 1.1h ['$' for help]", grbl.Welcome("Grbl", "1.1h", raw="Grbl 1.1h ['$' for help]")),
    (b"GrblHAL 1.1f ['$' for help]", grbl.Welcome("GrblHAL", "1.1f", raw="GrblHAL 1.1f ['$' for help]")),
    (b"[MSG:Reset to continue]", grbl.Feedback("Reset to continue", raw="[MSG:Reset to continue]")),
    (b"[GC:G0 G54 F0]", grbl.Modes(("G0", "G54", "F0"), raw="[GC:G0 G54 F0]")),
    (b"[PRB:1.000,2.000,-3.500:1]", grbl.Probe((1, 2, -3.5), True, raw="[PRB:1.000,2.000,-3.500:1]")),
    (b"[VER:1.1h.20190825:mine:too]", grbl.BuildInfo("1.1h.20190825", "mine:too", raw="[VER:1.1h.20190825:mine:too]")),
    (b"[OPT:VL,15,128]", grbl.Options("VL", 15, 128, raw="[OPT:VL,15,128]")),
    (b"[OPT:V]", grbl.Options("V", raw="[OPT:V]")),
    (b"[HLP:$$ $#]", grbl.Help("$$ $#", raw="[HLP:$$ $#]")),
    (b"[TLO:0.000]", grbl.Offset("TLO", (0.0,), raw="[TLO:0.000]")),
    (b"[G54:1.000,2.000,3.000]", grbl.Offset("G54", (1.0, 2.0, 3.0), raw="[G54:1.000,2.000,3.000]")),
    (b"$110=500.000", grbl.SettingLine(110, 500.0, raw="$110=500.000")),
    (b"$13=0 (report inches)", grbl.SettingLine(13, 0.0, "report inches", raw="$13=0 (report inches)")),
    (b"$70=host", grbl.SettingLine(70, "host", raw="$70=host")),
    (b"$N0=G54", grbl.StartupLine(0, "G54", raw="$N0=G54")),
    (b">G54:ok", grbl.StartupRun("G54", 0, raw=">G54:ok")),
    (b">G1:error:22", grbl.StartupRun("G1", 22, raw=">G1:error:22")),
]  # fmt: skip
ODD = [
    b"<Idle|MPos:1,x>", b"<>", b"<Idle", b"<1|MPos:0,0>", b"<Idle|MPos:1>", b"[G54:1,a]", b"[NEW:1]", b"[MSG:open",
    b"[nothing]", b">G54", b"$x=1", b"$$", b"\xff\xfe", b"ok ok", b"[OPT:V,a]", b"<Idle:x|MPos:0,0>",
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), LINES)
def test_each_line_has_its_message(data: bytes, message: grbl.Message) -> None:
    assert grbl.parse_line(data.decode()) == message


@pytest.mark.parametrize("data", ODD)
def test_a_line_that_is_none_of_them_is_kept_as_it_was(data: bytes) -> None:
    assert isinstance(grbl.LineSplitter().feed(data + b"\r\n")[0], str)
    assert isinstance(grbl.parse_line(data.decode("utf-8", "replace")), grbl.Unknown)


@given(st.lists(st.sampled_from([data for data, _ in LINES] + ODD)), st.data())
def test_how_bytes_are_cut_does_not_matter(lines: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(line + b"\r\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)))))
    client, whole = Client(), Client()
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert [m for piece in pieces for m in client.receive(piece)] == whole.receive(sent)


@given(st.binary(max_size=4000))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    splitter = grbl.LineSplitter()
    for line in splitter.feed(data) + splitter.feed(b"\n"):
        grbl.parse_line(line)
        assert len(line) <= 1025
    assert splitter.feed(b"ok\n") == ["ok"]


# -- status reports ------------------------------------------------------------------------------------------------


def test_a_report_with_every_field_is_read() -> None:
    text = "<Hold:0|MPos:1.000,2.000,3.000|Bf:15,128|Ln:99|FS:500,8000|Pn:XYZPDHRS|WCO:0.500,0.000,1.000|SD:1>"
    assert grbl.parse_status(text) == Status(
        State.HOLD, 0, mpos=(1, 2, 3), planner_free=15, rx_free=128, line=99, feed=500, spindle=8000, pins="XYZPDHRS",
        wco=(0.5, 0, 1), extra={"SD": "1"},
    )  # fmt: skip
    other = grbl.parse_status("<Run|WPos:1.0,2.0|F:20|Ov:100,50,10|A:SFM>")
    assert other == Status(State.RUN, wpos=(1, 2), feed=20, overrides=(100, 50, 10), accessories="SFM")
    strange = grbl.parse_status("<Weird|MPos:0,0>")
    assert strange is not None
    assert (strange.state, strange.extra["state"]) == (State.UNKNOWN, "Weird")


numbers = st.floats(-999, 999).map(lambda value: round(value, 3) + 0.0)


@given(
    st.sampled_from([state for state in State if state is not State.UNKNOWN]),
    st.tuples(numbers, numbers, numbers),
    st.tuples(numbers, numbers, numbers),
    st.integers(0, 3),
    st.sampled_from(["wco", "ov", ""]),
)
def test_what_is_written_under_any_mask_is_read_again(
    state: State, mpos: tuple[float, ...], wco: tuple[float, ...], mask: int, turn: str
) -> None:
    sub = 1 if state in (State.HOLD, State.DOOR) else None
    said = Status(
        state, sub, mpos=mpos, planner_free=3, rx_free=4, line=7, feed=10, spindle=20, pins="X",
        overrides=(1, 2, 3), accessories="S", wco=wco,
    )  # fmt: skip
    text = grbl.format_status(said, mask, with_wco=turn == "wco", with_overrides=turn == "ov")
    read = grbl.parse_status(text)
    assert read is not None
    reader = grbl.StatusReader()
    if turn != "wco":
        assert reader.complete(read).wco is None
        reader.wco = wco
    whole = reader.complete(read)
    assert whole.mpos == pytest.approx(mpos, abs=2e-3)
    assert whole.wpos == pytest.approx([a - b for a, b in zip(mpos, wco, strict=True)], abs=2e-3)
    assert (whole.planner_free, whole.rx_free) == ((3, 4) if mask & 2 else (None, None))
    assert (whole.state, whole.substate, whole.line, whole.pins) == (state, sub, 7, "X")
    assert whole.overrides == ((1, 2, 3) if turn == "ov" else None)


def test_a_report_of_few_things_says_few() -> None:
    assert grbl.format_status(Status(State.IDLE, wco=(1.0, 2.0)), 0) == "<Idle|WPos:-1.000,-2.000>"
    assert grbl.format_status(Status(State.IDLE, mpos=(1.0, 2.0), feed=3.0), 3) == "<Idle|MPos:1.000,2.000|F:3>"
    assert grbl.format_status(Status(State.IDLE, overrides=(1, 1, 1)), with_overrides=True).endswith("|Ov:1,1,1>")


def test_an_offset_is_forgotten_after_a_welcome_and_learned_from_elsewhere() -> None:
    client = Client()
    client.receive(b"<Idle|WPos:1,1,1|WCO:5,5,5>\r\n<Idle|WPos:2,2,2>\r\n")
    assert client.status is not None
    assert client.status.mpos == (7, 7, 7)
    client.receive(b"Grbl 1.1h ['$' for help]\r\n<Idle|WPos:2,2,2>\r\n")
    assert client.status.mpos is None
    client.know_offset((1.0, 0.0, 0.0))
    client.receive(b"<Idle|WPos:2,2,2>\r\n<Idle|WPos:2,2>\r\n<Idle|MPos:1,1,1|WPos:0,0,0>\r\n")
    assert client.status.wpos == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "rests"),
    [("Idle", True), ("Run", False), ("Hold:0", True), ("Hold:1", False), ("Hold", True), ("Door:0", True),
     ("Door:1", True), ("Door:2", False), ("Door:3", False), ("Alarm", True), ("Jog", False), ("Home", False),
     ("Sleep", True), ("Check", True)],
)  # fmt: skip
def test_which_states_are_at_rest(text: str, rests: bool) -> None:
    status = grbl.parse_status(f"<{text}|MPos:0,0,0>")
    assert status is not None
    assert status.at_rest is rests


# -- character counting --------------------------------------------------------------------------------------------

G_LINES = st.from_regex(r"[GXYF][0-9]{1,6}(\.[0-9]{1,3})?([XY]-?[0-9]{1,6}){0,4}", fullmatch=True).filter(
    lambda text: len(text) < 79
)
SPECIAL = st.sampled_from(["$110=500", "G10L2P1X0", "$N0=G54", "$RST=*", "$I=x", "G28.1", "G54"])


@given(st.lists(st.one_of(G_LINES, SPECIAL), max_size=60), st.data())
def test_a_client_never_overfills_the_buffer_and_writes_eeprom_alone(lines: list[str], data: st.DataObject) -> None:
    client = Client()
    buffer = b""
    taken: list[str] = []
    oks: list[str] = []
    for text in lines:
        client.queue(text)
    while not client.idle:
        buffer += client.outgoing()
        assert len(buffer) <= 127
        assert client.under_way <= 127
        held = buffer.decode().splitlines()
        assert not any(grbl.writes_eeprom(text) for text in held) or len(held) == 1
        count = data.draw(st.integers(1, max(1, len(held))))
        for text in held[:count]:
            taken.append(text)
            result = data.draw(st.sampled_from([b"ok\r\n", b"error:20\r\n"]))
            for message in client.receive(result):
                assert isinstance(message, grbl.Ok | grbl.Failed)
                assert message.line is not None
                oks.append(message.line.text)
        buffer = buffer[sum(len(text) + 1 for text in held[:count]) :]
    assert taken == oks == lines


def test_the_window_is_what_the_firmware_reports() -> None:
    client = Client()
    client.receive(b"[OPT:V,100,1024]\r\n")
    assert client.window == 1023
    client.receive(b"[OPT:V]\r\n")
    assert client.window == 1023
    assert client.fits("G0X1")
    client.queue("G0X1")
    assert not client.fits("G0X1"), "lines go in order"


def test_a_welcome_forgets_all_lines_and_says_whether_it_was_expected() -> None:
    client = Client()
    for text in ("G1X1F1", "$10=1", "G1X2"):
        client.queue(text)
    client.outgoing()
    [welcome] = client.receive(b"Grbl 1.1h ['$' for help]\r\n")
    assert isinstance(welcome, grbl.Welcome)
    assert (welcome.expected, welcome.is_hal, client.idle, client.under_way) == (False, False, True, 0)
    client.queue("G1X1F1")
    client.outgoing()
    assert client.realtime(Realtime.RESET) == b"\x18"
    client.queue("$$")
    late, welcome = client.receive(b"ok\r\nGrbl 1.1h ['$' for help]\r\n")
    assert late == grbl.Ok(raw="ok"), "an answer to what was forgotten is nobody's"
    assert isinstance(welcome, grbl.Welcome)
    assert welcome.expected
    assert client.receive(b"ok\r\n") == [grbl.Ok(raw="ok")]


def test_the_status_is_asked_for_five_times_a_second_at_most() -> None:
    client = Client()
    asked = [now for now in range(0, 1000, 10) if client.ask_status(now / 1000) == b"?"]
    assert len(asked) == 5


@pytest.mark.parametrize("text", ["G1\n", "G1!", "?", "~", "x" * 80, "é", "\x18"])
def test_what_cannot_be_a_line_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        Client().queue(text)


@pytest.mark.parametrize(
    ("line", "writes"),
    [("$100=1", True), ("$N=", True), ("$N1=G0", True), ("$rst=$", True), ("$I=a", True), ("g10 l2", True),
     ("G28.1", True), ("G30.1", True), ("G54", True), ("G59", True), ("G28", False), ("G100", False), ("$$", False),
     ("$I", False), ("$J=X1F1", False), ("G1(G10)X1", False), ("$H", False)],
)  # fmt: skip
def test_lines_that_touch_the_eeprom_are_known(line: str, writes: bool) -> None:
    assert grbl.writes_eeprom(line) is writes


def test_the_tables_are_whole() -> None:
    assert set(range(1, 11)) <= set(grbl.ALARMS)
    assert set(range(1, 39)) <= set(grbl.ERRORS)
    for table in (grbl.ALARMS, grbl.ERRORS):
        assert all(meaning.text and meaning.remedy and meaning.code == code for code, meaning in table.items())
    assert grbl.alarm_meaning(99).remedy
    assert grbl.error_meaning(9).code == 9
    assert grbl.error_meaning(999).text
    assert {0, 1, 10, 11, 13, 20, 22, 27, 30, 32, 100, 112, 121, 132} <= set(grbl.SETTINGS)
    assert len(grbl.REALTIME_BYTES) == len(Realtime)


def test_settings_are_checked_before_they_are_sent() -> None:
    assert grbl.check_setting(110, 1234.5) == "$110=1234.500"
    assert grbl.check_setting(13, 1) == "$13=1"
    assert grbl.check_setting(376, 2) == "$376=2"
    for number, value in ((0, 1), (13, 2), (1, 1.5), (110, -1), (110, float("nan")), (376, -1)):
        with pytest.raises(Refused):
            grbl.check_setting(number, value)
