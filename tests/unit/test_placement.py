from pathlib import Path

import pytest
import torch

from trainer.data.arrays import (
    PlacementChoice,
    available_host_memory,
    choose_placement,
    free_device_memory,
)

MEMINFO = "MemTotal:       64000 kB\nMemFree:        100 kB\nMemAvailable:   32000 kB\n"


@pytest.mark.parametrize(
    ("asked", "num_bytes", "on_gpu", "chosen"),
    [
        ("auto", 50, True, "device"),
        ("auto", 51, True, "host"),
        ("auto", 100, True, "host"),
        ("auto", 101, True, "stream"),
        ("auto", 100, False, "host"),
        ("auto", 101, False, "stream"),
        ("device", 10_000, True, "device"),
        ("device", 1, False, "host"),
        ("host", 10_000, True, "host"),
        ("stream", 1, True, "stream"),
        ("stream", 1, False, "stream"),
    ],
)
def test_data_lie_in_the_fastest_place_that_has_twice_the_room(
    asked: PlacementChoice, num_bytes: int, on_gpu: bool, chosen: str
) -> None:
    assert choose_placement(asked, num_bytes, 100 if on_gpu else None, 200) == chosen


def test_a_cpu_has_no_device_memory_of_its_own() -> None:
    assert free_device_memory(torch.device("cpu")) is None


def test_memory_that_pytorch_keeps_for_reuse_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run of the process would else be given less than the first."""
    for name, value in (("mem_get_info", (50, 100)), ("memory_reserved", 40)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10)
    assert free_device_memory(torch.device("cuda")) == 80


def test_memory_that_the_page_cache_holds_is_available(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    assert available_host_memory(tmp_path) == 32_000 * 1024


@pytest.mark.parametrize(
    ("limit", "available"),
    [("max", 32_768_000), ("9000000", 8_000_000), ("500000", 0), ("90000000000", 32_768_000)],
)
def test_a_containers_limit_counts(tmp_path: Path, limit: str, available: int) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.stat").write_text("anon 1000000\nfile 7000000\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    assert available_host_memory(tmp_path) == available


def test_memory_is_known_where_there_is_no_proc(tmp_path: Path) -> None:
    assert available_host_memory(tmp_path) > 0
