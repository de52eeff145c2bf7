"""Time to build short parts of long recordings, over the time for the same clips as files.

    python -m benchmarks.parts [--clips 10000] [--rounds 3] [--suffix wav]

Both are built in turns by local worker processes, as by default; each ratio is of one round.
"""

import csv
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer

from benchmarks.record import interleave, ratios, save, table
from featurestore.building.build import build
from featurestore.building.executors.processes import ProcessExecutor
from featurestore.datasets.collection import load_collection

RATE = 22_050
PARTS = 3600
"""Parts of one second per recording: an hour."""
Row = tuple[str, ...]


def write_both(root: Path, clips: int, suffix: str) -> None:
    """Write recordings and the table of their parts to `tapes`, and the parts to `files`."""
    tapes, files = root / "tapes", root / "files"
    for place in (tapes, files):
        place.mkdir()
    of_tapes: list[Row] = [("path", "start", "end", "label")]
    of_files: list[Row] = [("path", "label")]
    rng = np.random.default_rng(0)
    for first in range(0, clips, PARTS):
        parts = range(first, min(first + PARTS, clips))
        samples = (rng.standard_normal(len(parts) * RATE) * 3000).astype(np.int16)
        tape = f"tape{first // PARTS}.{suffix}"
        soundfile.write(tapes / tape, samples, RATE)
        for part in parts:
            start = part - first
            label = "ab"[part % 2]
            of_tapes.append((tape, str(start), str(start + 1), label))
            piece = samples[start * RATE : (start + 1) * RATE]
            soundfile.write(files / f"{part}.{suffix}", piece, RATE)
            of_files.append((f"{part}.{suffix}", label))
    for place, rows in ((tapes, of_tapes), (files, of_files)):
        with (place / "clips.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def compare(root: Path, rounds: int) -> list[dict[str, object]]:
    """Return a row per kind of clips: seconds of a build, and its time over that of files."""
    stores = {name: root / f"{name}.zarr" for name in ("files", "tapes")}
    datasets = {name: load_collection(root / name) for name in stores}
    with ProcessExecutor() as executor:

        def case(name: str) -> Callable[[], object]:
            return lambda: build(datasets[name], stores[name], executor=executor)

        def cleared(name: str) -> Callable[[], object]:
            return lambda: shutil.rmtree(stores[name], ignore_errors=True)

        cases = {name: case(name) for name in stores}
        times = interleave(cases, rounds + 1, {name: cleared(name) for name in stores})
    times = {name: seconds[1:] for name, seconds in times.items()}
    return [
        {
            "clips of": name,
            "clips": len(datasets[name].clips),
            "seconds": min(times[name]),
            **ratios(times, name, "files"),
        }
        for name in stores
    ]


def main(
    clips: Annotated[int, typer.Option(min=2)] = 10_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    suffix: Annotated[str, typer.Option(help="wav, flac, ogg or mp3.")] = "wav",
) -> None:
    """Build parts of recordings and the same clips as files."""
    with tempfile.TemporaryDirectory() as place:
        write_both(Path(place), clips, suffix)
        rows = compare(Path(place), rounds)
    table(rows, f"{clips} clips of one second, {suffix}; bar: 1.2")
    save("parts", {"rows": rows}, clips=clips, rounds=rounds, suffix=suffix)


if __name__ == "__main__":
    typer.run(main)
