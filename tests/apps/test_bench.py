"""The bench's document: its shape, its names, its arithmetic. Never how fast anything is."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from rich.console import Console

from vfab.apps.bench import SUBJECTS, all_keys, run_bench
from vfab.apps.bench.findings import Findings
from vfab.apps.bench.measure import median, spread, take_turns
from vfab.apps.bench.plan import sample_svg
from vfab.apps.bench.table import print_document
from vfab.apps.bench.targets import TARGETS, headline, judge
from vfab.model.errors import ConfigurationError

PLAIN = {"fifty_devices_mib", "calls_per_s_64", "host_private_mib", "kernel_private_mib", "idle_cpu_percent"} | {
    "plan_segments_per_s",
    "plot_time_ratio",
    *SUBJECTS["streams"],
    *(key for key in SUBJECTS["categories"] if key.endswith("_per_s")),
    "events_per_s_1",
    "events_per_s_100",
}


def document(**figures: object) -> dict[str, object]:
    findings = Findings()
    for key, value in figures.items():
        findings.put(key, value)
    made = findings.document()
    made["about"] |= {"quick": True, "elapsed_s": 0.1}
    return made


def test_every_figure_has_an_aim_and_every_aim_a_figure() -> None:
    assert set(all_keys()) == set(TARGETS)


def test_each_subject_says_the_keys_that_its_module_measures() -> None:
    from importlib import import_module

    for subject, keys in SUBJECTS.items():
        assert set(import_module(f"vfab.apps.bench.{subject}").KEYS) == set(keys)


def test_spread_tells_quantiles_that_really_occurred() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == {"p50": 3.0, "p99": 10.0, "min": 1.0, "iqr": 8.0, "n": 4}
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_a_median_is_told_with_four_digits() -> None:
    assert median([1.23456, 1.23456]) == 1.235


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    taken = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warm=1)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(samples) for name, samples in taken.items()} == {"a": 2, "b": 2}


def test_a_figure_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="call_ms") as refused:
        run_bench(only=["call_ms"])
    assert "call_us" in refused.value.remedy


@pytest.mark.parametrize(
    ("key", "ours", "theirs", "met"),
    [
        ("call_us", {"p50": 3.0}, {"p50": 2.0}, True),
        ("call_us", {"p50": 3.1}, {"p50": 2.0}, False),
        ("call_us", {"p50": 3.1}, None, None),
        ("host_start_ms", {"p50": 10.0}, None, True),
        ("crash_to_ready_ms", {"p50": 1.0, "p99": 301.0}, None, False),
        ("plan_segments_per_s", 60_000, 70_000, True),
    ],
)
def test_a_figure_is_judged_against_its_aim(key: str, ours: object, theirs: object, met: bool | None) -> None:
    made = document(**{key: ours})
    if theirs is not None:
        made["peers"] = {str(TARGETS[key].peer): {key: theirs}}
    assert judge(made, key).met is met


def test_ahead_of_every_peer_means_the_best_of_them() -> None:
    made = document(calls_per_s_64=100.0)
    assert judge(made, "calls_per_s_64").met is None
    made["peers"] = {"slow": {"calls_per_s_64": 50.0}, "fast": {"calls_per_s_64": 101.0}}
    assert judge(made, "calls_per_s_64").peer == "fast"
    assert judge(made, "calls_per_s_64").met is False


def test_the_table_tells_verdicts_notes_and_what_is_missing() -> None:
    findings = Findings()
    findings.distribution("call_us", [12.0, 13.0, 1400.0])
    findings.distribution("call_us", [10.0], "bare socket")
    findings.number("plan_segments_per_s", [60_000.0])
    findings.lacks("gRPC", "it is not installed", "pip install 'vfab[bench]'")
    findings.notes["call_us"] = "a note"
    made = findings.document()
    made["about"] |= {"quick": True, "elapsed_s": 0.1}
    out = io.StringIO()
    print_document(made, Console(file=out, width=140))
    text = out.getvalue()
    for word in ("call_us", "1.3", "met", "60,000", "a note", "gRPC", "pip install 'vfab[bench]'", "1,400"):
        assert word in text, word


def test_the_sample_drawing_is_an_svg_and_always_the_same() -> None:
    assert sample_svg(3) == sample_svg(3)
    assert ElementTree.fromstring(sample_svg(3)).tag.endswith("svg")


def _positive(key: str, figure: object) -> None:
    if key in PLAIN:
        assert isinstance(figure, (int, float)), key
        assert figure >= 0, key
        assert math.isfinite(figure), key
    else:
        assert isinstance(figure, dict), key
        assert {"p50", "p99", "min", "iqr", "n"} <= set(figure), key
        assert 0 < figure["min"] <= figure["p50"] <= figure["p99"], key
    assert headline(figure) >= 0


def test_the_command_prints_one_document_and_leaves_nothing_behind(tmp_path: Path) -> None:
    keys = ["call_us", "calls_per_s_64", "reply_1mib_us", "call_async_us", "host_start_ms", "crash_to_ready_ms"]
    keys += ["host_private_mib", "kernel_private_mib", "plan_segments_per_s"]
    only = [word for key in keys for word in ("--only", key)]
    command = [sys.executable, "-c", "from vfab.apps.cli.bench import app; app()", "--json", "--quick", *only]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert {"about", "peers", "missing", "notes"} | set(keys) == set(made)
    for key in keys:
        _positive(key, made[key])
        assert f"{key}" in done.stderr or "plan" in key
    for peer, figures in made["peers"].items():
        assert set(figures) <= set(keys), peer
        for key, figure in figures.items():
            _positive(key, figure)
    for lack in made["missing"].values():
        assert lack["why"]
        assert lack["remedy"]
    assert made["about"]["python"] == sys.version.split()[0]
    assert not list(tmp_path.iterdir())
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]


def test_discovery_is_measured_beside_importing_everything() -> None:
    said: list[str] = []
    made = run_bench(quick=True, only=["discovery_warm_ms"], say=said.append)
    _positive("discovery_warm_ms", made["discovery_warm_ms"])
    assert {"import them all", "scandir and stat"} == set(made["peers"])
    assert said


def test_events_are_measured_to_one_listener_and_to_a_hundred() -> None:
    made = run_bench(quick=True, only=["events_per_s_1", "events_per_s_100"])
    for key in ("events_per_s_1", "events_per_s_100"):
        _positive(key, made[key])
        _positive(key, made["peers"]["a queue and a thread a listener"][key])
