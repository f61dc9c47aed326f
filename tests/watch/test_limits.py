"""Whether a process uses more than it may, decided from samples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vfab.model.limits import Limits
from vfab.watch.disk import DiskUsage
from vfab.watch.limits import Breach, LimitGuard, warning_levels
from vfab.watch.usage import ResourceLimits, ResourceUsage


def used(*, memory: float = 1, cpu: float = 0, threads: float = 1, pss: float | None = None) -> ResourceUsage:
    return ResourceUsage(cpu, memory, 3, threads, 0.0, pss)


def test_memory_must_stay_over_its_limit_for_a_while() -> None:
    guard, limits = LimitGuard(), Limits(memory_mb=100, over_s=2)
    seen = [guard.judge(7, used(memory=m), limits, at) for at, m in ((0, 150), (1, 90), (2, 150), (3.5, 150))]
    assert seen == [None] * 4
    assert guard.uneasy
    breach = guard.judge(7, used(memory=160), limits, 4)
    assert breach == Breach("memory_mb", 160, 100, 2)
    assert breach.told == "used 160 MiB of memory for 2.0 s; it may use 100 MiB"


def test_memory_that_is_shared_counts_in_part_where_the_system_says_how_much() -> None:
    guard, limits = LimitGuard(), Limits(memory_mb=100, over_s=0)
    assert guard.judge(7, used(memory=900, pss=99), limits, 0) is None
    assert guard.judge(7, used(memory=900, pss=101), limits, 0) is not None


def test_threads_have_a_limit_of_their_own() -> None:
    breach = LimitGuard().judge(7, used(threads=51), Limits(threads=50, over_s=0), 0)
    assert breach is not None
    assert (breach.limit, breach.told) == ("threads", "ran 51 threads for 0.0 s; it may run 50")


def test_cpu_time_is_the_mean_over_the_window_and_a_short_burst_is_nothing() -> None:
    guard, limits = LimitGuard(), Limits(cpu_percent=50, cpu_window_s=10)
    assert guard.judge(7, used(), limits, 0) is None
    assert guard.judge(7, used(cpu=100), limits, 4) is None, "the window is not over yet"
    assert guard.judge(7, used(cpu=0), limits, 10) is None, "4 of 10 seconds"
    assert guard.judge(7, used(cpu=100), limits, 12) is None, "4 s of the last 8, and 6 of all 12"
    breach = guard.judge(7, used(cpu=100), limits, 20)
    assert breach is not None
    assert breach.told == "used 100 % of a core over 10 s; it may use 50 %"


def test_memory_of_twice_its_limit_is_given_no_time() -> None:
    guard, limits = LimitGuard(), Limits(memory_mb=100, over_s=2)
    assert guard.judge(7, used(memory=199), limits, 0) is None
    assert guard.judge(7, used(memory=200), limits, 0.1) is not None


def test_who_writes_on_beyond_the_limit_of_its_folder_is_ended_and_who_found_it_full_is_not() -> None:
    guard, limits = LimitGuard(), Limits(state_mb=100, state_files=0, free_mb=0)
    seen = [guard.judge_disk(7, DiskUsage(mb, 1, 0), limits) for mb in (150, 155, 120, 99)]
    assert seen == [None] * 4
    assert guard.judge_disk(7, DiskUsage(101, 1, 0), limits) is None, "a note"
    breach = guard.judge_disk(7, DiskUsage(106, 1, 0), limits)
    assert breach is not None
    assert breach.told == "wrote on with 106 MiB in its state folder; it may keep 100 MiB there"
    assert guard.judge_disk(8, DiskUsage(102, 1, 0), limits) is None, "another process begins anew"
    assert guard.judge_disk(8, DiskUsage(109, 1, 0), limits) is not None


def test_files_are_counted_and_what_an_earlier_life_left_is_not_held_against_the_next() -> None:
    guard, limits = LimitGuard(), Limits(state_mb=0, state_files=10, free_mb=0)
    assert guard.most_files(7, Limits(state_files=0)) == 0
    assert guard.most_files(7, limits) > 10_000, "the first look counts all that is there already"
    assert guard.judge_disk(7, DiskUsage(0, 50, 0), limits) is None
    assert guard.most_files(7, limits) == 50, "twice as many, and it has made more"
    assert guard.judge_disk(7, DiskUsage(0, 50, 0), limits) is None
    breach = guard.judge_disk(7, DiskUsage(0, 51, 0), limits)
    assert breach is not None
    assert breach.told == "made more than the 10 files that it may keep in its state folder"
    assert guard.judge_disk(8, DiskUsage(0, 51, 0), limits) is None


def test_who_takes_a_part_of_the_space_that_stays_free_is_ended_and_a_note_is_not() -> None:
    guard, limits = LimitGuard(), Limits(state_mb=0, state_files=0, free_mb=160)
    used_free = ((5, 1000), (500, 200), (500, 100), (505, 100), (509, 90))
    assert [guard.judge_disk(7, DiskUsage(mb, 1, free), limits) for mb, free in used_free] == [None] * 5
    breach = guard.judge_disk(7, DiskUsage(511, 1, 80), limits)
    assert breach is not None
    assert breach.told == "wrote on with 80 MiB free on the disk of its state folder; 160 MiB stay free"
    assert guard.judge_disk(9, DiskUsage(511, 1, 10), limits) is None, "somebody else took it"


def test_a_new_process_begins_anew() -> None:
    guard, limits = LimitGuard(), Limits(memory_mb=100, over_s=2, cpu_percent=50, cpu_window_s=2)
    guard.judge(7, used(memory=150, cpu=100), limits, 0)
    assert guard.judge(8, used(memory=150, cpu=100), limits, 2) is None
    assert guard.judge(8, used(memory=50, cpu=100), limits, 4) is not None


@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 1e3), st.floats(0.01, 100)), max_size=50),
    st.floats(1, 1000),
    st.floats(1, 300),
)
def test_a_process_within_its_limits_is_never_touched(
    samples: list[tuple[float, float, float]], memory: float, cpu: float
) -> None:
    guard, now = LimitGuard(), 0.0
    limits = Limits(memory_mb=memory, cpu_percent=cpu, cpu_window_s=5, over_s=0, threads=0)
    for sample_cpu, sample_memory, later in samples:
        now += later
        sample = used(memory=min(sample_memory, memory), cpu=min(sample_cpu, cpu * 0.999), threads=10_000)
        assert guard.judge(7, sample, limits, now) is None


def test_no_limit_is_no_limit() -> None:
    limits = Limits(memory_mb=0, cpu_percent=0, threads=0, over_s=0)
    assert LimitGuard().judge(7, used(memory=1e9, cpu=1e9, threads=1e9), limits, 1e9) is None


def test_events_warn_at_a_share_of_a_limit_that_was_changed_and_else_where_seed_001_says() -> None:
    assert warning_levels(Limits()) == ResourceLimits()
    changed = Limits(memory_mb=100, cpu_percent=200, open_files=0, threads=10, warn_share=0.5)
    assert warning_levels(changed) == ResourceLimits(100, 50, 0, 5)
