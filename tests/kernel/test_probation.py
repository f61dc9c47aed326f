"""What a new driver must do to be trusted, and what is held against it: the judgement alone, without any process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vfab.kernel.failures import LATELY_S, Failure, Failures
from vfab.kernel.probation import (
    BLAME,
    SILENT_S,
    UNANSWERED_S,
    Blame,
    Look,
    Probation,
    Pulse,
    StreamSeen,
    TakeBack,
    Trust,
    WatchOn,
    blame,
    judge,
)
from vfab.model.errors import (
    Cancelled,
    ConnectError,
    DependencyError,
    DriverError,
    DriverFailed,
    HandedOver,
    HardwareError,
    HostDied,
    LinkLost,
    ProtocolError,
    Refused,
    TimeoutExceeded,
    UnknownCommand,
)

OLD, NEW = 11, 22
PROBATION = Probation(began_s=100.0, lasts_s=1.0)
PULSE = Pulse("main", made=1, records=500, gap_s=0.01)


def failed(error: DriverError, driver: int = NEW, method: str = "read") -> Failure:
    return Failure(driver, method, error, 100.5)


def test_it_is_watched_for_its_time_and_then_trusted() -> None:
    assert judge(PROBATION, Look(100.0)) == WatchOn()
    assert judge(PROBATION, Look(100.9)) == WatchOn()
    assert judge(PROBATION, Look(101.0)) == Trust()
    assert judge(replace(PROBATION, lasts_s=0.0), Look(100.0)) == Trust()
    assert judge(PROBATION, Look(100.0, hurry=True)) == Trust()


def test_a_process_that_ended_is_told_by_its_obituary_whatever_else_there_is() -> None:
    died = HostDied("it was killed by SIGSEGV")
    look = Look(100.0, died=died, hurry=True, connected=False, failures=(failed(DriverFailed("no")),))
    for before in ((), (failed(died, OLD),)):
        assert judge(replace(PROBATION, before=before), look) == TakeBack("it was killed by SIGSEGV", died)


@pytest.mark.parametrize(
    "error",
    [Refused("off the page"), UnknownCommand("what?"), HardwareError("too hot"), Cancelled("x"), HandedOver("x")],
)
def test_what_callers_do_wrong_and_what_a_device_reports_is_not_its_fault(error: DriverError) -> None:
    assert judge(PROBATION, Look(101.0, failures=(failed(error),))) == Trust()


@pytest.mark.parametrize(
    "error",
    [
        DriverFailed("ValueError: x"),
        DependencyError("no numpy"),
        LinkLost("gone"),
        TimeoutExceeded("silent"),
        ProtocolError("rubbish"),
        ConnectError("not there"),
        DriverError("of a kind that nobody knows"),
    ],
)
def test_what_is_its_fault_is_told_in_one_line(error: DriverError) -> None:
    for hurry in (False, True):
        verdict = judge(PROBATION, Look(100.5, failures=(failed(error),), hurry=hurry))
        assert verdict == TakeBack(f"read failed: {error.message}", error)


def test_what_the_driver_before_met_as_well_is_the_devices_fault() -> None:
    before = replace(PROBATION, before=(failed(LinkLost("gone"), OLD, "move"),))
    assert judge(before, Look(101.0, failures=(failed(LinkLost("gone")),))) == Trust()
    late = TimeoutExceeded("silent")
    both = (failed(LinkLost("gone")), failed(late))
    assert judge(before, Look(101.0, failures=both)) == TakeBack("read failed: silent", late)


def test_a_defect_of_the_driver_before_excuses_the_same_method_only() -> None:
    before = replace(PROBATION, before=(failed(DriverFailed("old bug"), OLD, "read"),))
    assert judge(before, Look(101.0, failures=(failed(DriverFailed("bug")),))) == Trust()
    assert isinstance(judge(before, Look(101.0, failures=(failed(DriverFailed("bug"), method="write"),))), TakeBack)


def test_a_driver_that_says_that_it_is_not_connected_is_not_unless_the_device_was_lost_before() -> None:
    assert isinstance(judge(PROBATION, Look(100.1, connected=False)), TakeBack)
    before = replace(PROBATION, before=(failed(LinkLost("gone"), OLD),))
    assert judge(before, Look(100.1, connected=False)) == WatchOn()
    before = replace(PROBATION, before=(failed(HardwareError("hot"), OLD),))
    assert isinstance(judge(before, Look(100.1, connected=False)), TakeBack)


def seen(records: int, *, made: int = 1, ended: bool = False) -> dict[str, StreamSeen]:
    return {"main": StreamSeen(made, records, ended)}


def test_a_stream_that_ran_before_is_waited_for_until_it_is_taken_for_dead() -> None:
    watch = replace(PROBATION, pulses=(PULSE,))
    assert judge(watch, Look(100.1, streams=seen(501))) == WatchOn()
    assert judge(watch, Look(101.0, streams=seen(501))) == Trust()
    assert judge(watch, Look(101.0, streams=seen(500))) == WatchOn(), "the probation lasts longer"
    assert judge(watch, Look(100.0 + SILENT_S - 0.1, streams=seen(500))) == WatchOn()
    verdict = judge(watch, Look(100.0 + SILENT_S, streams=seen(500)))
    assert verdict == TakeBack(
        "nothing came on its stream main for 5.0 s; before, the longest wait for a record was 0.01 s"
    )


def test_how_long_a_stream_may_be_silent_comes_from_the_manifest_or_from_how_it_ran_before() -> None:
    slow = replace(PROBATION, pulses=(replace(PULSE, gap_s=3.0),))
    assert judge(slow, Look(111.9, streams=seen(500))) == WatchOn()
    assert isinstance(judge(slow, Look(112.0, streams=seen(500))), TakeBack)
    rare = replace(PROBATION, pulses=(replace(PULSE, gap_s=16.0),))
    assert judge(rare, Look(101.0, streams=seen(500))) == Trust(), "who would wait that long"
    declared = replace(rare, silence_s=90.0)
    assert judge(declared, Look(189.0, streams=seen(500))) == WatchOn()
    assert isinstance(judge(replace(slow, silence_s=0.5), Look(100.5, streams=seen(500))), TakeBack)


def test_a_stream_that_was_opened_anew_counts_from_its_beginning() -> None:
    watch = replace(PROBATION, pulses=(PULSE,))
    assert judge(watch, Look(101.0, streams=seen(1, made=2))) == Trust()
    assert judge(watch, Look(101.0, streams=seen(0, made=2))) == WatchOn()
    assert judge(watch, Look(101.0, streams={})) == Trust()


def test_a_stream_that_is_over_at_once_is_dead_unless_somebody_may_have_ended_it() -> None:
    watch = replace(PROBATION, pulses=(PULSE,))
    assert judge(watch, Look(100.1, streams=seen(500, ended=True))) == TakeBack(
        "its stream main ended without a record"
    )
    assert judge(watch, Look(101.0, streams=seen(500, ended=True), asked=True)) == Trust()


def test_a_stream_that_the_device_ended_is_not_waited_for() -> None:
    watch = replace(PROBATION, pulses=(PULSE,), before=(failed(LinkLost("gone"), OLD),))
    for failure in (failed(LinkLost("gone")), failed(HardwareError("hot"), method="stream main")):
        assert judge(watch, Look(101.0, streams=seen(500, ended=True), failures=(failure,))) == Trust()
    refused = failed(Refused("not so"))
    assert isinstance(judge(watch, Look(101.0, streams=seen(500, ended=True), failures=(refused,))), TakeBack)


def test_nobody_who_lets_go_waits_for_a_stream_and_none_is_waited_for_without_a_probation() -> None:
    watch = replace(PROBATION, pulses=(PULSE,))
    assert judge(watch, Look(100.0, streams=seen(500), hurry=True)) == Trust()
    assert judge(replace(watch, lasts_s=0.0), Look(100.0, streams=seen(500))) == Trust()


def test_calls_that_are_not_answered_prolong_it_for_a_while() -> None:
    assert judge(PROBATION, Look(101.0 + UNANSWERED_S - 0.1, unanswered=1)) == WatchOn()
    assert judge(PROBATION, Look(101.0 + UNANSWERED_S, unanswered=1)) == Trust()


def kinds(root: type[DriverError]) -> list[type[DriverError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


def test_every_error_is_somebodys_fault_and_every_code_in_the_table_is_an_errors() -> None:
    ours = [kind for kind in kinds(DriverError) if kind.__module__ == "vfab.model.errors"]
    assert all(blame(kind("x")) in Blame for kind in ours)
    assert set(BLAME) <= {kind.code for kind in ours}
    assert blame(UnknownCommand("x")) is Blame.NOBODY, "a kind of bad_configuration"


def test_failures_are_remembered_by_driver_and_for_a_minute() -> None:
    now = [1000.0]
    failures = Failures(lambda: now[0])
    failures.note(OLD, "read", LinkLost("gone"))
    failures.note(NEW, "read", TimeoutExceeded("x"))
    assert [f.error.code for f in failures.of(NEW)] == ["timeout"]
    assert [f.error.code for f in failures.of_others(NEW)] == ["link_lost"]
    now[0] += LATELY_S
    failures.note(OLD, "write", LinkLost("gone"))
    assert [f.method for f in failures.of(OLD)] == ["read", "write"]
    now[0] += 0.1
    assert [f.method for f in failures.of(OLD)] == ["write"] and not failures.of(NEW)
    failures.note(NEW, "read", TimeoutExceeded("x"))
    failures.forget(NEW)
    assert not failures.of(NEW) and not failures.of_others(OLD) and failures.of(OLD)
