"""Cost of starting: builds of ESC-10 from WAV as whole processes, and commands that answer at once.

The reference is a script that only starts two bare Dask workers, imports the same libraries in them
and maps the same extraction over the same files: what any build on Dask must pay.

python -m benchmarks.startup [--rounds 7]
"""

import csv
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import soundfile
import typer

from benchmarks.extract import AUDIO
from benchmarks.record import interleave, ratios, save, table

BARE = """
import sys
from pathlib import Path
from dask.distributed import Client, LocalCluster, as_completed

def extract(files):
    from featurestore import Extractor, FeatureSpec, extract_file, one_thread
    extractor = Extractor(FeatureSpec())
    with one_thread():
        return sum(len(extract_file(Path(file), extractor)[0]) for file in files)

if __name__ == "__main__":
    files = sorted(map(str, Path(sys.argv[1]).glob("audio/*.wav")))
    batches = [files[start : start + 40] for start in range(0, len(files), 40)]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            assert sum(f.result() for f in as_completed(client.map(extract, batches))) > 0
"""


def write_esc10_wav(root: Path) -> None:
    """Write ESC-10 in its own layout, as 16-bit WAV."""
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    with (AUDIO / "meta" / "esc50.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        samples, rate = soundfile.read(AUDIO / "audio" / row["filename"])
        row["filename"] = Path(row["filename"]).with_suffix(".wav").name
        soundfile.write(root / "audio" / row["filename"], samples, rate, subtype="PCM_16")
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def program(name: str) -> str:
    """Return the path of one of our two programs."""
    return str(Path(sys.executable).parent / name)


def build(root: Path, store: Path, *options: str) -> Callable[[], object]:
    """Return a case that builds the store from the start, as a user does."""
    command = [program("featurestore"), "build", "--dataset", "esc10", "--root", str(root)]

    def case() -> None:
        shutil.rmtree(store, ignore_errors=True)
        run([*command, "--store", str(store), *options])

    return case


def run(command: list[str], expected: int = 0) -> None:
    """Run a command without showing its output.

    Raises:
        RuntimeError: Its exit code was another one; the message has the end of its errors.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        raise RuntimeError(f"{command}: exit code {done.returncode}: {done.stderr[-2000:]}")


def parts(root: Path, store: Path, rounds: int) -> list[dict[str, object]]:
    """Measure when a build prints its first line, commits its first and last block, and ends."""
    cases = {"build, default": [], "build, no workers": ["--workers", "0"]}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, options in cases.items():
            times[name].append(_moments(root, store, options))
    return [
        {"case": name, **{key: median(one[key] for one in each) for key in each[0]}}
        for name, each in times.items()
    ]


def _moments(root: Path, store: Path, options: list[str]) -> dict[str, float]:
    shutil.rmtree(store, ignore_errors=True)
    command = [program("featurestore"), "build", "esc10", "--root", str(root)]
    started, started_wall = time.perf_counter(), time.time()
    with subprocess.Popen(
        [*command, "--store", str(store), *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stderr.readline()  # type: ignore[union-attr]
        first_word = time.perf_counter() - started
        process.communicate()
    ended = time.perf_counter() - started
    files = (file for file in store.glob("*/fold*/status/c/*") if "." not in file.name)
    committed = sorted(file.stat().st_mtime - started_wall for file in files)
    return {
        "first word s": first_word,
        "first block s": committed[0],
        "last block s": committed[-1],
        "end s": ended,
    }


def answers(rounds: int) -> list[dict[str, object]]:
    """Measure elapsed and processor seconds of commands that should answer at once."""
    commands = {
        "featurestore --help": ([program("featurestore"), "--help"], 0),
        "featurestore build --help": ([program("featurestore"), "build", "--help"], 0),
        "featurestore datasets": ([program("featurestore"), "datasets"], 0),
        "featurestore bild": ([program("featurestore"), "bild"], 2),
        "trainer --help": ([program("trainer"), "--help"], 0),
        "trainer run --help": ([program("trainer"), "run", "--help"], 0),
        "trainer run --folds": ([program("trainer"), "run", "--folds"], 2),
    }
    return [{"command": name, **_cost(*command, rounds)} for name, command in commands.items()]


def _cost(command: list[str], expected: int, rounds: int) -> dict[str, float]:
    wall, processor = [], []
    for _ in range(rounds):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        run(command, expected)
        wall.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall s": median(wall), "processor s": median(processor)}


def main(rounds: Annotated[int, typer.Option(min=1)] = 7) -> None:
    """Time whole processes in turns."""
    if not AUDIO.is_dir():
        typer.echo("the real audio of ../shared/data is not on this machine: nothing measured")
        raise typer.Exit(0)
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "esc10", Path(folder) / "esc10.zarr"
        write_esc10_wav(root)
        script = Path(folder) / "bare.py"
        script.write_text(BARE)
        cases = {
            "bare cluster": lambda: run([sys.executable, str(script), str(root)]),
            "build, 2 workers": build(root, store, "--workers", "2"),
            "build, default": build(root, store),
            "build, no workers": build(root, store, "--workers", "0"),
        }
        times = interleave(cases, rounds)
        moments = parts(root, store, rounds)
    rows: list[dict[str, object]] = [
        {
            "case": name,
            "seconds": median(times[name]),
            "over the bare cluster": ratios(times, name, "bare cluster")["median"],
            "over no workers": ratios(times, name, "build, no workers")["median"],
        }
        for name in cases
    ]
    table(rows, "ESC-10 from WAV, whole processes")
    table(moments, "the parts of a build")
    commands = answers(rounds)
    table(commands, "the first word")
    save("startup", {"builds": rows, "parts": moments, "commands": commands}, rounds=rounds)


if __name__ == "__main__":
    typer.run(main)
