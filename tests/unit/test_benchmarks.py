"""The benchmarks' own arithmetic, and that each of their commands can be started."""

import dataclasses
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.rules import changes
from benchmarks.train.checks import checks, resumed
from benchmarks.train.setting import Bench, random_store, setting
from trainer.threads import computing_threads
from trainer.training.stage import StageTrainer

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    file.stem: file
    for file in (ROOT / "benchmarks").glob("*.py")
    if file.stem not in {"__init__", "made_up", "mutate", "record"}
} | {file.parent.name: file for file in (ROOT / "benchmarks").glob("*/__main__.py")}


def test_ratios_are_taken_round_by_round() -> None:
    times = {"fast": [1.0, 2.0, 4.0], "slow": [2.0, 8.0, 12.0]}
    assert record.ratios(times, "slow", "fast") == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_every_round_starts_with_another_case() -> None:
    ran: list[str] = []
    cases = {name: lambda name=name: ran.append(name) for name in "abc"}
    times = record.interleave(cases, rounds=3)
    assert "".join(ran) == "abcbcacab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_record_names_the_command_of_a_package_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/train/__main__.py", "--quick"])
    assert record.command() == "python -m benchmarks.train --quick"


def test_a_record_names_the_hardware_and_no_path_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["/somewhere/load.py", "--store", "/home/me/esc10.zarr"])
    path = record.save("load", {"rate": 12345.678}, clips=400)
    saved = json.loads(path.read_text())
    assert saved["command"] == "python -m benchmarks.load --store esc10.zarr"
    assert saved["results"] == {"rate": 12346}
    assert saved["context"] == {"clips": 400}
    assert saved["hardware"]["cores"] >= 1
    assert "numpy" in saved["libraries"]
    assert "/home" not in path.read_text()


@pytest.mark.slow
def test_what_the_training_benchmark_trains_on_is_what_the_trainer_takes(tmp_path: Path) -> None:
    how = setting("cpu", quick=True)
    bench = Bench(random_store(tmp_path / "s.zarr", how.num_clips), how).fitted()
    assert list(bench.arrays) == ["R1", "R2", "R3"]
    data = bench.data(bench.arrays["R1"])
    assert (len(data.train), len(data.valid)) == (32, 8)
    steps: list[int] = []
    trainer = bench.trainer(data, "eager")
    trainer.run_epoch(bench.order().windows(1), 0, lambda: steps.append(1))
    assert len(steps) == how.steps


def small_bench(path: Path) -> Bench:
    """Return a bench of a network that trains in a moment."""
    how = dataclasses.replace(setting("cpu", quick=True), arch="timm:test_resnet", rounds=1)
    return Bench(random_store(path, how.num_clips), how).fitted()


@pytest.mark.slow
def test_every_check_of_a_gpu_runs_on_a_cpu_as_far_as_that_goes(tmp_path: Path) -> None:
    found: dict[str, Any] = {}

    def part(name: str, check: Callable[[], Any]) -> Any:
        found[name] = check()

    with computing_threads(1):
        checks(small_bench(tmp_path / "s.zarr"), part)
    assert found["same bits"] == {"eager again": True}
    assert found["resumed"] == {"resumed as straight": True}
    assert found["command line"]["resumed as straight"]
    assert found["float32 error"]["relative error"] < 1e-5
    assert found["recordings while data are loaded"]["failed_recordings"] == 0
    assert found["rates R3"]["a step, eager"]["launches"] > 100


def test_a_check_that_does_not_hold_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = small_bench(tmp_path / "s.zarr")
    monkeypatch.setattr(StageTrainer, "restore", lambda self, state: None)
    with computing_threads(1), pytest.raises(RuntimeError, match="stage has other weights"):
        resumed(bench, bench.arrays["R1"])


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_each_script_says_how_it_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPTS[name]), run_name="__main__")
    assert stopped.value.code in {0, None}
    assert "--help" in capsys.readouterr().out


def test_every_rule_of_the_protocol_can_be_changed_where_it_is_implemented() -> None:
    found = changes()
    assert len({change.rule for change in found}) == len(found)
    for change in found:
        assert (ROOT / change.file).read_text().count(change.old) == 1, change
        assert change.old != change.new
    cells = [change for change in found if change.rule.startswith("cycle ")]
    assert len(cells) == 5 * (3 + 6)
