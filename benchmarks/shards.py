"""Cost of clips in shards: builds from Parquet, Arrow and tars compared with builds from files.

python -m benchmarks.shards [--clips 640] [--rounds 5]
"""

import io
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import typer

from benchmarks.record import interleave, save, table
from featurestore.building.build import build
from featurestore.datasets.collection import load_collection

_ROWS_PER_GROUP = 100
"""Rows per row group and per record batch, as Hugging Face's datasets writes Audio."""
_CLIPS_PER_FILE = 400
_FOLDS, _CLASSES = 5, 10
_RATE, _SECONDS = 44_100, 5


def sounds(clips: int, suffix: str) -> Iterator[tuple[str, bytes, int, int]]:
    """Yield name, bytes, class and fold of each clip.

    Folds alternate, so that the blocks of each fold need every row group: the worst case.
    """
    for index in range(clips):
        rng = np.random.default_rng(index)
        time_s = np.arange(_RATE * _SECONDS) / _RATE
        tone = 0.4 * np.sin(2 * np.pi * rng.uniform(100, 8000) * time_s)
        file = io.BytesIO()
        samples = tone + 0.05 * rng.standard_normal(len(time_s))
        soundfile.write(file, samples, _RATE, format=suffix.upper(), subtype="PCM_16")
        yield f"{index:05d}.{suffix}", file.getvalue(), index % _CLASSES, 1 + index % _FOLDS


def write_files(root: Path, clips: int, suffix: str) -> None:
    """Write each clip to a file, and a table of the files."""
    root.mkdir()
    rows = ["path,label,fold"]
    for name, data, label, fold in sounds(clips, suffix):
        (root / name).write_bytes(data)
        rows.append(f"{name},{label},{fold}")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")


def write_parquet(root: Path, clips: int, suffix: str) -> None:
    """Write the clips as `Dataset.to_parquet` does: without compression and dictionaries."""
    root.mkdir()
    for number, rows in enumerate(_tables(clips, suffix)):
        pq.write_table(
            rows,
            root / f"train-{number:05d}.parquet",
            row_group_size=_ROWS_PER_GROUP,
            compression="none",
            use_dictionary=False,
        )


def write_arrow(root: Path, clips: int, suffix: str) -> None:
    """Write the clips as `Dataset.save_to_disk` does."""
    root.mkdir()
    names = []
    for number, rows in enumerate(_tables(clips, suffix)):
        names.append(f"data-{number:05d}.arrow")
        with (
            pa.OSFile(str(root / names[-1]), "w") as file,
            pa.ipc.new_stream(file, rows.schema) as w,
        ):
            w.write_table(rows, max_chunksize=_ROWS_PER_GROUP)
    state = {"_data_files": [{"filename": name} for name in names]}
    (root / "state.json").write_text(json.dumps(state))
    (root / "dataset_info.json").write_text("{}")


def _tables(clips: int, suffix: str) -> Iterator[Any]:
    rows = list(sounds(clips, suffix))
    for start in range(0, clips, _CLIPS_PER_FILE):
        part = rows[start : start + _CLIPS_PER_FILE]
        yield pa.table(
            {
                "audio": [{"bytes": data, "path": name} for name, data, _, _ in part],
                "label": [label for _, _, label, _ in part],
                "fold": [fold for _, _, _, fold in part],
            }
        )


def write_tars(root: Path, clips: int, suffix: str) -> None:
    """Write the clips as WebDataset does."""
    root.mkdir()
    rows = list(sounds(clips, suffix))
    for start in range(0, clips, _CLIPS_PER_FILE):
        with tarfile.open(root / f"shard-{start // _CLIPS_PER_FILE:05d}.tar", "w") as tar:
            for name, data, label, fold in rows[start : start + _CLIPS_PER_FILE]:
                labels = json.dumps({"label": str(label), "fold": fold}).encode()
                for member, content in ((name, data), (f"{name[:5]}.json", labels)):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


WRITERS: dict[str, Callable[[Path, int, str], None]] = {
    "files": write_files,
    "Parquet": write_parquet,
    "Arrow": write_arrow,
    "tars": write_tars,
}


def compare(place: Path, clips: int, suffix: str, rounds: int) -> list[dict[str, object]]:
    """Return a row for each kind: whole builds with planning, in turns in this process."""
    for kind, write in WRITERS.items():
        write(place / kind, clips, suffix)
    planned: dict[str, list[float]] = {kind: [] for kind in WRITERS}
    built: dict[str, list[float]] = {kind: [] for kind in WRITERS}
    worked: dict[str, list[float]] = {kind: [] for kind in WRITERS}

    def case(kind: str) -> Callable[[], object]:
        def run() -> None:
            shutil.rmtree(place / "s.zarr", ignore_errors=True)
            started, cpu = time.perf_counter(), time.process_time()
            dataset = load_collection(place / kind)
            planned[kind].append(time.perf_counter() - started)
            report = build(dataset, place / "s.zarr")
            if report.manifest.counts != {"ok": clips}:
                raise RuntimeError(f"{kind}: {report.manifest.counts}")
            built[kind].append(time.perf_counter() - started)
            worked[kind].append(time.process_time() - cpu)

        return run

    interleave({kind: case(kind) for kind in WRITERS}, rounds + 1)
    return [
        {
            "clips lie in": kind,
            "s to plan": median(planned[kind][1:]),
            "clips/s": clips / median(built[kind][1:]),
            "time over files": _over_files(built, kind),
            "processor time over files": _over_files(worked, kind),
        }
        for kind in WRITERS
    ]


def _over_files(seconds: dict[str, list[float]], kind: str) -> float:
    """Return the median ratio over the rounds, without the first, which warms up."""
    pairs = zip(seconds[kind][1:], seconds["files"][1:], strict=True)
    return median(one / files for one, files in pairs)


def main(
    clips: Annotated[int, typer.Option(min=64)] = 640,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Build the same clips from files and from each kind of shard."""
    found = {}
    for suffix in ("wav", "flac"):
        with tempfile.TemporaryDirectory() as place:
            found[suffix] = compare(Path(place), clips, suffix, rounds)
        table(found[suffix], f"{clips} clips of {_SECONDS} s as {suffix.upper()}")
    save("shards", found, clips=clips, rounds=rounds)


if __name__ == "__main__":
    typer.run(main)
