import os
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore import usable_cores


@pytest.mark.parametrize(
    ("limit", "most"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1)]
)
def test_a_control_groups_limit_counts(limit: str, most: int | None, tmp_path: Path) -> None:
    allowed = len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path) == allowed
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path) == (most or allowed)


def test_affinity_counts(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)


_ON_ONE_CORE = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import psutil
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.storage import locate
with ProcessExecutor() as executor:
    list(executor.run(time.sleep, [0.1, 0.1, 0.1]))
    (server,) = psutil.Process().children()
    print(locate(".").threads, len(server.children()))
"""


@pytest.mark.slow
def test_a_build_held_to_one_core_starts_one_worker_and_reads_with_one_thread() -> None:
    command = [sys.executable, "-c", _ON_ONE_CORE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
