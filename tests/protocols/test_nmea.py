"""NMEA 0183: whatever a receiver sends, what it says comes out, and noise does not."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.errors import ProtocolError
from vfab.protocols.nmea import (
    GGA,
    GLL,
    GNS,
    GSA,
    GST,
    GSV,
    LINE_MAX,
    RMC,
    VTG,
    ZDA,
    Fix,
    FixAssembler,
    InView,
    NmeaReceiver,
    Record,
    Sentence,
    checksum,
    crc24q,
    encode,
    parse,
    sentence_of,
    ubx_frame,
)

# The examples of NMEA 0183 that receivers' manuals print.
GGA_LINE = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"
RMC_LINE = b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n"
GSA_LINE = b"$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39\r\n"
VTG_LINE = b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48\r\n"
GSV_LINE = b"$GPGSV,2,1,08,01,40,083,46,02,17,308,41,12,07,344,39,14,22,228,45*75\r\n"


def sentences(data: bytes) -> list[Sentence]:
    return NmeaReceiver().receive(data)


def only(line: bytes) -> Record:
    (sentence,) = sentences(line)
    record = parse(sentence)
    assert record is not None
    return record


def rtcm_frame(payload: bytes) -> bytes:
    head = b"\xd3" + len(payload).to_bytes(2, "big") + payload
    return head + crc24q(head).to_bytes(3, "big")


# -- sentences --------------------------------------------------------------------------------------------------------


def test_the_manuals_example_of_each_kind_says_what_the_manual_says() -> None:
    assert only(GGA_LINE) == GGA(45319.0, pytest.approx(48.1173), pytest.approx(11.516667), 1, 8, 0.9, 545.4, 46.9)
    rmc = only(RMC_LINE)
    assert isinstance(rmc, RMC)
    assert rmc.date == dt.date(1994, 3, 23)
    assert rmc.speed_m_s == pytest.approx(22.4 * 1852 / 3600)
    assert rmc.variation_deg == -3.1
    assert only(GSA_LINE) == GSA("A", 3, (4, 5, 9, 12, 24), 2.5, 1.3, 2.1)
    assert only(VTG_LINE) == VTG(54.7, 34.4, pytest.approx(5.5 * 1852 / 3600))
    gsv = only(GSV_LINE)
    assert isinstance(gsv, GSV)
    assert gsv.satellites[0] == InView(1, 40, 83, 46)
    assert gsv.in_view == 8
    assert only(encode("GP", "ZDA", ["201530.00", "04", "07", "2002", "00", "00"])) == ZDA(
        72930.0, dt.date(2002, 7, 4), 0, 0
    )
    assert only(encode("GP", "GLL", ["4916.45", "N", "12311.12", "W", "225444", "A"])) == GLL(
        pytest.approx(49.274167), pytest.approx(-123.185333), 82484.0, True
    )
    assert only(encode("GP", "GST", ["024603.00", "3.2", "6.6", "4.7", "47.3", "5.8", "5.6", "22.0"])) == GST(
        9963.0, 3.2, 5.8, 5.6, 22.0
    )


@pytest.mark.parametrize("talker", ["GP", "GN", "GL", "GA", "BD", "GB", "GQ"])
def test_every_system_of_satellites_has_a_talker_of_its_own(talker: str) -> None:
    (sentence,) = sentences(sentence_of(GGA(time_s=1.0, quality=1), talker).to_bytes())
    assert (sentence.talker, sentence.kind) == (talker, "GGA")


def test_a_makers_own_sentence_and_an_unknown_one_are_passed_on_unread() -> None:
    own, ais, unknown = sentences(
        encode("P", "UBX", ["00", "x"])
        + encode("AI", "VDM", ["1", "1", "", "A", "55P5TL"], start="!")
        + encode("GN", "XYZ", [])
    )
    assert (own.talker, own.kind) == ("P", "UBX")
    assert (ais.start, ais.kind) == ("!", "VDM")
    assert [parse(s) for s in (own, ais, unknown)] == [None, None, None]
    assert ais.to_bytes().startswith(b"!AIVDM")


def test_a_receiver_without_a_fix_leaves_its_fields_empty() -> None:
    assert only(b"$GPGGA,,,,,,0,00,99.99,,,,,,*48\r\n") == GGA(quality=0, satellites=0, hdop=99.99)
    assert only(b"$GPRMC,,V,,,,,,,,,,N*53\r\n") == RMC(valid=False, mode="N")
    assert only(encode("GP", "RMC", ["120000", "V"])) == RMC(43200.0, False)
    assert only(encode("GP", "RMC", ["", "V", "", "", "", "", "", "", "000000"])) == RMC(valid=False)


def test_years_of_two_digits_are_of_the_century_of_satellites() -> None:
    years = [
        only(encode("GP", "RMC", ["", "A", "", "", "", "", "", "", f"0101{yy}"])) for yy in ("79", "80", "00", "26")
    ]
    assert [year.date.year for year in years if isinstance(year, RMC) and year.date] == [2079, 1980, 2000, 2026]
    zda = only(encode("GP", "ZDA", ["", "01", "01", "26", "", ""]))
    assert isinstance(zda, ZDA)
    assert zda.date == dt.date(2026, 1, 1)


def test_the_leap_second_is_a_time_of_the_day() -> None:
    assert only(encode("GP", "GLL", ["", "", "", "", "235960.50", "A"])) == GLL(time_s=86400.5, valid=True)
    assert GLL(time_s=86400.5).fields()[4] == "235960.500"


def test_the_form_of_vtg_before_letters_came_is_read() -> None:
    assert only(encode("GP", "VTG", ["54.7", "34.4", "5.5", "10.2"])) == VTG(
        54.7, 34.4, pytest.approx(2.82944, abs=1e-4)
    )
    assert only(encode("GP", "VTG", ["", "T", "", "M", "", "N", "36.0", "K", "A"])) == VTG(speed_m_s=10.0, mode="A")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("GGA", "246060,,,,,1"),
        ("GGA", "12x,,,,,1"),
        ("GGA", "120000,4860.0,N,01131.0,E,1"),
        ("GGA", "120000,9100.0,N,01131.0,E,1"),
        ("GGA", "120000,4807.0,E,01131.0,E,1"),
        ("GGA", "120000,4807.0,N,01131.0,E,1.5"),
        ("GGA", "120000,nan,N,01131.0,E,1"),
        ("GGA", "120000,,,,,1,08,1e400"),
        ("GGA", "120000,,,,,1,08,inf"),
        ("RMC", "120000,X"),
        ("RMC", "120000,A,,,,,,,310226"),
        ("RMC", "120000,A,,,,,,,3102"),
        ("ZDA", "120000,31,02,2026"),
        ("ZDA", "120000,01,13,2026"),
    ],
)
def test_a_field_that_cannot_be_is_told_with_its_sentence(kind: str, fields: str) -> None:
    (sentence,) = sentences(encode("GP", kind, fields.split(",")))
    with pytest.raises(ProtocolError, match=kind) as caught:
        parse(sentence)
    assert caught.value.context["kind"] == kind


def test_what_would_break_a_sentence_is_not_sent() -> None:
    for bad in ("a*b", "a$b", "a\r\nb", "ä"):
        with pytest.raises(ProtocolError):
            encode("GP", "TXT", [bad])


# -- noise ------------------------------------------------------------------------------------------------------------


def test_a_wrong_checksum_is_counted_and_the_sentence_left_out() -> None:
    receiver = NmeaReceiver()
    assert receiver.receive(GGA_LINE.replace(b"545.4", b"555.4") + RMC_LINE) == sentences(RMC_LINE)
    assert receiver.bad == 1


def test_old_receivers_without_checksums_are_read_until_one_came_with_it() -> None:
    bare = GGA_LINE.partition(b"*")[0] + b"\r\n"
    receiver = NmeaReceiver()
    (first,) = receiver.receive(bare)
    assert not first.checked
    assert len(receiver.receive(RMC_LINE)) == 1
    assert receiver.receive(bare) == [], "the end of it was lost: this receiver sends checksums"


def test_a_sentence_whose_end_was_lost_does_not_take_the_next_one_with_it() -> None:
    receiver = NmeaReceiver()
    assert receiver.receive(GGA_LINE[:40] + RMC_LINE) == sentences(RMC_LINE)
    assert receiver.bad == 1
    assert receiver.skipped_bytes == 40


def test_binary_frames_are_stepped_over_also_when_a_dollar_sign_is_in_them() -> None:
    receiver = NmeaReceiver()
    inside = GGA_LINE
    mixed = ubx_frame(1, 7, inside) + RMC_LINE + rtcm_frame(inside) + VTG_LINE
    assert [s.kind for s in receiver.receive(mixed)] == ["RMC", "VTG"]
    assert receiver.binary_frames == 2
    assert receiver.skipped_bytes == 0


@pytest.mark.parametrize(
    "noise",
    [
        b"\xb5",
        b"\xb5\x62",
        b"\xb5\x62\x01\x07\xff\xff",
        b"\xb5\x62\x7f\x00",
        b"\xb5\x62\x01\x07\x02\x00xxxx",
        b"\xd3",
        b"\xd3\xff",
        b"\xd3\x00\x02xxxxx",
        b"$\x00",
        b"\xff\xfe\x00$$$",
        b"$GP",
        b"$" + b"A" * (LINE_MAX + 5),
        b"$,,,*00\r\n",
    ],
)
def test_after_noise_the_next_sentence_is_read(noise: bytes) -> None:
    receiver = NmeaReceiver()
    got = receiver.receive(noise + b"\r\n" + GGA_LINE)
    got += receiver.receive(RMC_LINE * 20)  # what a false length of 8 KiB at most keeps back comes, too
    assert [s.kind for s in got][-5:] == ["RMC"] * 5
    assert "GGA" in [s.kind for s in got]
    assert receiver.skipped_bytes or receiver.bad


def test_what_is_held_has_a_limit() -> None:
    receiver = NmeaReceiver()
    for _ in range(100):
        receiver.receive(b"$GPTXT,no end" * 40)
        receiver.receive(b"A" * 500)
    assert len(receiver._held) <= LINE_MAX


mixed = st.lists(
    st.one_of(
        st.sampled_from(
            [GGA_LINE, RMC_LINE, GSA_LINE, VTG_LINE, GSV_LINE, b"$", b"!", b"\r\n", b"*", b"\xb5\x62", b"\xd3"]
        ),
        st.builds(ubx_frame, st.sampled_from([1, 2, 5]), st.integers(0, 255), st.binary(max_size=60)),
        st.builds(rtcm_frame, st.binary(max_size=60)),
        st.binary(max_size=40),
    ),
    max_size=12,
).map(b"".join)


@given(mixed, st.lists(st.integers(1, 60), max_size=40))
def test_how_the_bytes_were_cut_does_not_matter(data: bytes, cuts: list[int]) -> None:
    whole, pieces = NmeaReceiver(), NmeaReceiver()
    expected = whole.receive(data)
    got, rest = [], data
    for cut in cuts:
        got += pieces.receive(rest[:cut])
        rest = rest[cut:]
    got += pieces.receive(rest)
    assert got == expected
    assert (pieces.bad, pieces.skipped_bytes, pieces.binary_frames) == (
        whole.bad,
        whole.skipped_bytes,
        whole.binary_frames,
    )


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_no_bytes_whatever_are_an_error(data: bytes) -> None:
    receiver, assembler = NmeaReceiver(), FixAssembler()
    for sentence in receiver.receive(data) + receiver.receive(b"\r\n"):
        assembler.add(sentence)


field = st.one_of(
    st.sampled_from(["", "A", "V", "N", "1", "123519", "4807.038", "99999999", "-1", "1e5", " 7 ", "230394", "310299"]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="$*\\,"), max_size=12),
)


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GGA", "RMC", "GSA", "GSV", "VTG", "GLL", "ZDA", "GST"]), st.lists(field, max_size=25)
        ),
        max_size=6,
    )
)
def test_well_formed_sentences_with_any_fields_are_read_or_counted(lines: list[tuple[str, list[str]]]) -> None:
    assembler = FixAssembler()
    for sentence in sentences(b"".join(encode("GN", kind, fields) for kind, fields in lines)):
        for fix in assembler.add(sentence):
            assert fix.latitude_deg is None or abs(fix.latitude_deg) <= 90
            assert not fix.valid or fix.longitude_deg is not None


# -- both sides -------------------------------------------------------------------------------------------------------

times = st.one_of(st.none(), st.integers(0, 86_399_999).map(lambda ms: ms / 1000))
dates = st.one_of(st.none(), st.dates(dt.date(1980, 1, 6), dt.date(2079, 12, 31)))


def optional(low: float, high: float, digits: int) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), st.floats(low, high).map(lambda x: round(x, digits) + 0.0))


places = st.one_of(st.just((None, None)), st.tuples(st.floats(-90, 90), st.floats(-180, 180)))
counts = st.one_of(st.none(), st.integers(0, 99))
records = st.one_of(
    st.builds(lambda p, **k: GGA(latitude_deg=p[0], longitude_deg=p[1], **k), places, time_s=times,
              quality=st.one_of(st.none(), st.integers(0, 8)), satellites=counts, hdop=optional(0, 99, 2),
              altitude_m=optional(-500, 9000, 3), geoid_m=optional(-100, 100, 3), age_s=optional(0, 99, 1)),
    st.builds(lambda p, **k: RMC(latitude_deg=p[0], longitude_deg=p[1], **k), places, time_s=times,
              valid=st.one_of(st.none(), st.booleans()), speed_m_s=optional(0, 500, 3), course_deg=optional(0, 360, 3),
              date=dates, variation_deg=optional(0.01, 30, 2), mode=st.sampled_from([None, "A", "D", "N"])),
    st.builds(lambda p, **k: GLL(latitude_deg=p[0], longitude_deg=p[1], **k), places, time_s=times,
              valid=st.one_of(st.none(), st.booleans()), mode=st.sampled_from([None, "A"])),
    st.builds(GSA, st.sampled_from([None, "A", "M"]), st.one_of(st.none(), st.integers(1, 3)),
              st.lists(st.integers(1, 99), max_size=12).map(tuple), optional(0, 99, 2), optional(0, 99, 2),
              optional(0, 99, 2), st.sampled_from([None, "1", "2"])),
    st.builds(GSV, counts, counts, counts,
              st.lists(st.builds(InView, st.integers(1, 99), counts, st.integers(0, 359), counts), max_size=4)
              .map(tuple), st.sampled_from([None, "1"])),
    st.builds(VTG, optional(0, 360, 3), optional(0, 360, 3), optional(0, 500, 3), st.sampled_from([None, "A"])),
    st.builds(ZDA, times, dates, st.one_of(st.none(), st.integers(0, 13)), st.one_of(st.none(), st.integers(0, 59))),
    st.builds(GST, times, optional(0, 99, 3), optional(0, 99, 3), optional(0, 99, 3), optional(0, 99, 3)),
)  # fmt: skip


@given(records)
def test_what_one_side_writes_the_other_reads(record: Record) -> None:
    again = only(sentence_of(record, "GN").to_bytes())
    for name in type(record).__slots__:  # type: ignore[attr-defined]
        said, read = getattr(record, name), getattr(again, name)
        if isinstance(said, float):
            assert read == pytest.approx(said, abs=2e-4 if name == "speed_m_s" else 1e-7), name
        else:
            assert read == said, name


# -- fixes ------------------------------------------------------------------------------------------------------------


def group(
    time_s: float, *, lat: float = 48.0, date: dt.date | None = dt.date(2026, 5, 1), quality: int = 1
) -> list[Record]:
    """The sentences of one moment, in u-blox's order."""
    return [
        RMC(time_s, quality > 0, lat, 11.0, 5.0, 90.0, date),
        VTG(90.0, None, 5.0),
        GGA(time_s, lat, 11.0, quality, 9, 0.8, 500.0, 47.0),
        GSA("A", 3, (1, 2, 3), 1.5, 0.8, 1.2),
        GSV(2, 1, 5, (InView(1), InView(2))),
        GSV(2, 2, 5, (InView(3),)),
        GLL(lat, 11.0, time_s, quality > 0),
    ]


def fixes(groups: list[list[Record]]) -> list[tuple[int, Fix]]:
    """(number of the sentence that completed it, fix)."""
    assembler, number, found = FixAssembler(), 0, []
    for records_of in groups:
        for record in records_of:
            found += [(number, fix) for fix in assembler.add(sentence_of(record))]
            number += 1
    return found


def test_the_sentences_of_a_moment_make_one_fix() -> None:
    ((_, fix),) = fixes([group(10.0), group(11.0)[:1]])
    assert fix == Fix(
        valid=True, dimensions=3, quality=1, time_s=dt.datetime(2026, 5, 1, 0, 0, 10, tzinfo=dt.UTC).timestamp(),
        latitude_deg=48.0, longitude_deg=11.0, altitude_m=500.0, geoid_m=47.0,
        speed_m_s=pytest.approx(5.0, abs=1e-4), course_deg=90.0,
        hdop=0.8, vdop=1.2, pdop=1.5, satellites=9, in_view=5,
    )  # fmt: skip


def test_from_the_second_moment_on_a_fix_comes_with_the_last_sentence_of_its_moment() -> None:
    numbers = [number for number, _ in fixes([group(10.0), group(11.0), group(12.0)])]
    assert numbers == [7, 13, 20], "the first when the second moment begins, the others at their own last sentence"


def test_a_lost_last_sentence_loses_no_fix() -> None:
    found = fixes([group(10.0), group(11.0)[:-1], group(12.0), group(13.0)[:1]])
    assert len(found) == 3
    assert [fix.time_s and fix.time_s % 60 for _, fix in found] == [10.0, 11.0, 12.0]


def test_a_sentence_after_what_was_taken_for_the_last_makes_it_learn_again() -> None:
    short = group(10.0)[:3]
    found = fixes([short, group(11.0)[:3], group(12.0), group(13.0), group(14.0), group(15.0)[:1]])
    assert [fix.time_s and fix.time_s % 60 for _, fix in found] == [10.0, 11.0, 12.0, 13.0, 14.0], "each moment once"
    assert [fix.in_view for _, fix in found] == [None, None, None, 5, 5]


def test_without_a_date_there_is_no_time_and_after_midnight_the_old_date_counts_on() -> None:
    bare = [GGA(10.0, 48.0, 11.0, 1)]
    assert fixes([bare, [GGA(11.0)]])[0][1].time_s is None
    before = [RMC(86399.0, True, 48.0, 11.0, date=dt.date(2026, 5, 1))]
    after = [GGA(0.0, 48.0, 11.0, 1)]
    found = fixes([before, after, [GGA(1.0, 48.0, 11.0, 1)], [GGA(2.0)]])
    assert found[1][1].time_s == dt.datetime(2026, 5, 2, tzinfo=dt.UTC).timestamp()


def test_a_fix_is_valid_only_if_every_sentence_of_the_moment_says_so() -> None:
    assert not fixes([group(10.0, quality=0), group(11.0)[:1]])[0][1].valid
    contradicting = [RMC(10.0, False, 48.0, 11.0), GGA(10.0, 48.0, 11.0, 1)]
    assert not fixes([contradicting, [GGA(11.0)]])[0][1].valid


def test_several_systems_satellites_are_added_up() -> None:
    assembler = FixAssembler()
    said = [
        ("GN", RMC(10.0, True, 48.0, 11.0)),
        ("GN", GSA("A", 3, (1, 2), 1.0, 0.8, 0.9, "1")),
        ("GN", GSA("A", 3, (1, 70), 1.0, 0.8, 0.9, "2")),
        ("GP", GSV(1, 1, 4)),
        ("GL", GSV(1, 1, 3)),
        ("GN", GST(10.0, None, 1.5, 2.5, 4.0)),
        ("GN", RMC(11.0)),
    ]
    (fix,) = [fix for talker, record in said for fix in assembler.add(sentence_of(record, talker))]
    assert (fix.satellites, fix.in_view) == (4, 7)
    assert (fix.latitude_u_m, fix.longitude_u_m, fix.altitude_u_m) == (1.5, 2.5, 4.0)


def test_sentences_that_cannot_be_read_are_counted_in_the_fix() -> None:
    assembler = FixAssembler()
    found = [
        fix
        for sentence in [
            Sentence("GP", "RMC", ("120000", "X")),
            Sentence("P", "UBX", ("00",)),
            sentence_of(GGA(10.0, 48.0, 11.0, 1)),
            sentence_of(GGA(11.0)),
        ]
        for fix in assembler.add(sentence)
    ]
    assert [fix.bad for fix in found] == [1, 0]


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        (b"GPRMC,000416.984,V,36000.0000,N,72000.0000,E,0.000000,,260120,,,", False),  # a TN-200's
        (b"GPGGA,235946.005,8960.000000,N,00000.000000,E,0,0,,137.000,M,13.000,M,,", None),  # an MTK's
    ],
)
def test_a_place_off_the_globe_costs_a_receiver_without_a_fix_only_the_place(body: bytes, valid: bool | None) -> None:
    (sentence,) = NmeaReceiver().receive(b"$%s*%02X\r\n" % (body, checksum(body)))
    record = parse(sentence)
    assert isinstance(record, RMC | GGA)
    assert (record.latitude_deg, record.longitude_deg) == (None, None)
    assert record.time_s is not None
    assert getattr(record, "valid", None) is valid


def test_a_receiver_that_tells_its_place_by_gns_alone_has_a_fix() -> None:
    line = b"$GNGNS,103600.01,5114.51176,N,00012.29380,W,ANNN,07,1.18,111.5,45.6,,,V*00\r\n"
    body = line[1:-5]
    found: list[Fix] = []
    assembler = FixAssembler()
    for data in (
        body,
        body.replace(b"103600", b"103601").replace(b"ANNN", b"NRFN"),
        b"GNGNS,103602.01,,,,,NNNN,00,,,,,,V",
    ):
        (sentence,) = NmeaReceiver().receive(b"$%s*%02X\r\n" % (data, checksum(data)))
        found += assembler.add(sentence)
    assert [(fix.valid, fix.quality) for fix in found] == [(True, 1), (True, 4), (False, 0)]
    assert found[0].latitude_deg == pytest.approx(51 + 14.51176 / 60)
    assert (found[0].altitude_m, found[0].geoid_m, found[0].satellites, found[0].hdop) == (111.5, 45.6, 7, 1.18)


def test_a_doubled_dollar_sign_is_no_lost_sentence() -> None:
    receiver = NmeaReceiver()
    body = b"GNGLL,4900.0,N,01100.0,E,120000,A,A"
    (sentence,) = receiver.receive(b"$$%s*%02X\r\n" % (body, checksum(body)))
    assert (sentence.kind, receiver.bad) == ("GLL", 0)


@given(st.data())
def test_pynmea2_reads_in_our_sentences_what_we_read(data: st.DataObject) -> None:
    pynmea2 = pytest.importorskip("pynmea2")
    place = (data.draw(st.floats(-90, 90)), data.draw(st.floats(-180, 180)))
    time_s = data.draw(st.integers(0, 86_399_000)) / 1000
    height, date = data.draw(st.floats(-400, 9000)), data.draw(st.dates(dt.date(2000, 1, 1), dt.date(2068, 12, 31)))
    records: list[Record] = [
        GGA(time_s, *place, 1, 7, 0.9, height, 40.0),
        GLL(*place, time_s, True, "A"),
        GNS(time_s, *place, "AD", 7, 0.9, height, 40.0),
        RMC(time_s, True, *place, 12.5, 270.0, date, None, "A"),
    ]
    for record in records:
        theirs = pynmea2.parse(sentence_of(record, "GN").to_bytes().decode().strip(), check=True)
        ours = parse(sentence_of(record, "GN"))
        assert theirs.latitude == pytest.approx(ours.latitude_deg, abs=1e-9)  # type: ignore[union-attr]
        assert theirs.longitude == pytest.approx(ours.longitude_deg, abs=1e-9)  # type: ignore[union-attr]
        midnight = dt.datetime.combine(dt.date(2000, 1, 1), theirs.timestamp.replace(tzinfo=None))
        assert (midnight - dt.datetime(2000, 1, 1)).total_seconds() == pytest.approx(time_s, abs=2e-6)
        if isinstance(record, RMC):
            assert theirs.datestamp == date
