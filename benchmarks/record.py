"""Parts shared by all benchmarks: timing in turns, ratios within rounds, the table, the record.

The machines are noisy, so a figure is a ratio inside one run: all cases take turns in every round,
and the median of the rounds' ratios counts.
"""

import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = (
    "numpy",
    "scipy",
    "soxr",
    "soundfile",
    "librosa",
    "zarr",
    "numcodecs",
    "dask",
    "distributed",
    "torch",
    "torchvision",
    "torchaudio",
    "lhotse",
    "webdataset",
    "datasets",
    "pyarrow",
    "litdata",
)


def interleave(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Time each case in each round; every round starts with another case.

    Args:
        cases: Functions to time, by name.
        rounds: Number of rounds, in each of which every case runs once.
        before: Preparations of some cases, by name, which run before each round and are not timed.

    Returns:
        Seconds of each round, by the case's name.
    """
    prepare = before or {}
    names = list(cases)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            prepare.get(name, int)()
            started = time.perf_counter()
            cases[name]()
            times[name].append(time.perf_counter() - started)
    return times


def ratios(times: Mapping[str, Sequence[float]], name: str, reference: str) -> dict[str, float]:
    """Compare the time of a case with that of a reference, round by round.

    Args:
        times: Seconds of each round, by the case's name.
        name: The case.
        reference: The case to divide by.

    Returns:
        `median`, `low` and `high` of the rounds' ratios.
    """
    found = [a / b for a, b in zip(times[name], times[reference], strict=True)]
    return {"median": median(found), "low": min(found), "high": max(found)}


def table(rows: Sequence[Mapping[str, object]], title: str = "") -> None:
    """Print rows; the columns are the keys of the first."""
    if not rows:
        return
    shown = Table(title=title or None, title_justify="left")
    for column in rows[0]:
        shown.add_column(column, justify="right" if _is_number(rows[0][column]) else "left")
    for row in rows:
        shown.add_row(*(_cell(row.get(column, "")) for column in rows[0]))
    Console().print(shown)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def save(name: str, results: Mapping[str, Any], **context: object) -> Path:
    """Write `results/NAME.json`: the results, with date, command, hardware and library versions.

    Args:
        name: Name of the file, without suffix.
        results: Results that JSON can hold.
        **context: Settings that a reader should know, such as sizes and rounds.

    Returns:
        The file's path.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).date().isoformat(),
        "command": command(),
        "hardware": hardware(),
        "libraries": libraries(),
        "context": context,
        "results": results,
    }
    path.write_text(json.dumps(_rounded(record), indent=2, default=str) + "\n")
    return path


def command() -> str:
    """Return the command line, with absolute paths cut to their last part."""
    script = Path(sys.argv[0])
    name = script.parent.name if script.stem == "__main__" else script.stem
    arguments = [re.sub(r"/\S*/", "", argument) for argument in sys.argv[1:]]
    return " ".join(["python -m", f"benchmarks.{name}", *arguments])


def hardware() -> dict[str, object]:
    """Return processor, usable cores, memory in GB, and the GPU if torch is loaded and has one."""
    found: dict[str, object] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if "OMP_NUM_THREADS" in os.environ:
        found["omp_num_threads"] = os.environ["OMP_NUM_THREADS"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
    return found


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor()


def libraries() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that matter here."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _rounded(value: Any) -> Any:  # noqa: ANN401  (JSON of any shape)
    """Round floats to five figures: the noise is larger."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
