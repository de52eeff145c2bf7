"""A few hundred of the spoilt files that `benchmarks.fuzz` tries by the ten thousand."""

import ctypes
import time
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.mutate import spoilt
from schemas import ClipStatus

STATUSES = {status.name.lower() for status in ClipStatus}


def test_a_number_makes_the_same_spoilt_file_each_time() -> None:
    assert spoilt(3, 14) == spoilt(3, 14)
    assert spoilt(3, 14) != spoilt(3, 15)


def test_spoilt_files_end_with_a_status_and_never_with_anything_else() -> None:
    outcomes = list(fuzz.fuzz(seed=20_000, numbers=range(300)))
    assert len(outcomes) == 300
    assert {outcome.result for outcome in outcomes} <= STATUSES - {"pending", "crash"}
    found = fuzz.summary(outcomes)
    assert found["bad"] == []
    assert max(outcome.seconds for outcome in outcomes) < 10
    assert max(outcome.peak_mb for outcome in outcomes) < 600


def _poison(file: Path) -> str:
    number = int(file.read_bytes())
    if number == 1:
        ctypes.string_at(0)
    if number == 2:
        time.sleep(60)
    return "ok"


def _spoilt_by_number(seed: int, number: int) -> tuple[str, bytes]:
    return "poison", str(number).encode()


def _poisoned_work(*args: object) -> None:
    fuzz.attempt = _poison
    fuzz.spoilt = _spoilt_by_number
    fuzz.work(*args)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_native_crash_is_counted_and_the_next_file_tried_and_a_hang_is_ended(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz, "work", _poisoned_work)
    results = [o.result for o in fuzz.fuzz(seed=0, numbers=range(3), hang_s=2)]
    assert results == ["ok", "crash", "hang"]
    assert "Segmentation fault" in capfd.readouterr().err
