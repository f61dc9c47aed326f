from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfab.model.devices import DeviceInfo, Fit, MatchRule

EBB = DeviceInfo(
    id="usb:04d8:fd92:1",
    bus="usb",
    address="/dev/ttyACM0",
    name="EiBotBoard",
    vid="04d8",
    pid="fd92",
    serial_number="1",
    manufacturer="SchmalzHaus",
    product="EiBotBoard",
)


@pytest.mark.parametrize(
    ("rule", "score"),
    [
        (MatchRule(vid="04D8", pid="0xFD92"), 20),
        (MatchRule(vid="04d8"), 10),
        (MatchRule(vid="04d8", pid="0000"), 0),
        (MatchRule(product="eibot*"), 8),
        (MatchRule(product="other*"), 0),
        (MatchRule(manufacturer="SCHMALZHAUS", bus="usb"), 7),
        (MatchRule(serial_number="1"), 40),
        (MatchRule(address="/dev/ttyACM*"), 5),
        (MatchRule(name="Ei?otBoard"), 4),
        (MatchRule(bus="tcp"), 0),
    ],
)
def test_a_rule_scores_what_had_to_match(rule: MatchRule, score: int) -> None:
    assert rule.score(EBB) == score


def test_more_exact_rules_score_more() -> None:
    assert MatchRule(vid="04d8", pid="fd92", serial_number="1").score(EBB) > MatchRule(vid="04d8", pid="fd92").score(
        EBB
    )


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["manufacturer", "product", "name", "bus"]), st.text(max_size=5), min_size=1))
def test_every_field_of_a_rule_must_match(fields: dict[str, str]) -> None:
    rule = MatchRule(**fields)
    alone = [MatchRule(**{key: value}).score(EBB) for key, value in fields.items()]
    assert rule.score(EBB) == (sum(alone) if all(alone) else 0)


@pytest.mark.parametrize(
    ("attributes", "score"),
    [
        ({"driver": "UVC*"}, 3),
        ({"driver": "uvcvideo", "service": "_rtsp._tcp"}, 6),
        ({"driver": "vivid"}, 0),
        ({"driver": "uvcvideo", "chip": "*"}, 0),
    ],
)
def test_a_rule_may_ask_for_what_detection_learned(attributes: dict[str, str], score: int) -> None:
    camera = DeviceInfo(
        id="v4l2:x", bus="v4l2", address="/dev/video0", attributes={"driver": "uvcvideo", "service": "_rtsp._tcp"}
    )
    assert MatchRule(attributes=attributes).score(camera) == score
    assert MatchRule(bus="v4l2", attributes=attributes).score(camera) == (score + 1 if score else 0)


def test_the_problems_of_a_rule_say_what_would_be_right() -> None:
    assert MatchRule(vid="04d8").problems("match[0]") == []
    assert [p[0] for p in MatchRule(vid="4d8", pid="xyz0").problems("match[0]")] == ["match[0].vid", "match[0].pid"]
    ((field, found, expected),) = MatchRule().problems("match[1]")
    assert (field, found) == ("match[1]", "an empty rule")
    assert "serial_number" in expected
    assert MatchRule(attributes={}).problems("match[0]")


def test_a_fit_is_a_value() -> None:
    assert Fit(driver="a", score=3) == Fit(driver="a", score=3, installed=True)
