"""Detection of damage in a run's directory: bits flipped in every file that is read back.

python -m benchmarks.run_flips [--flips 40] [--seed 0] [--place DIR]

A damaged file may be refused by its name, or read the same as before (a flip in white space of a
JSON file); what counts is that no flip changes a result or a weight silently.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks.record import save, table
from benchmarks.train_faults import FOLDS, make_store, new_run, resumed, train_straight
from schemas import CheckpointName
from trainer.errors import TrainerError
from trainer.records.finished import open_finished
from trainer.records.rundir import RunDirectory

NETWORKS: tuple[CheckpointName, ...] = ("best", "last")


def tables(run: Path) -> str:
    """Return the content of a finished run's records and tables."""
    found = open_finished(run)
    found.verify(networks=False)
    return repr((found.record, found.result))


def network(run: Path, fold: int, name: CheckpointName) -> str:
    """Return a summary of the weights of one of a finished run's networks."""
    return _weights(open_finished(run).checkpoint(fold, name).model)


def state(run: Path) -> str:
    """Return a summary of the weights in the state of a run's first, unfinished fold."""
    directory = RunDirectory(run)
    found = directory.fold(FOLDS[0]).state(directory.record(), FOLDS[0])
    assert found is not None, "the training was killed after it was written"  # noqa: S101
    return _weights(found.last.model)


def _weights(model: Mapping[str, Tensor]) -> str:
    return repr([float(value.double().abs().sum()) for value in model.values()])


def files(run: Path, unfinished: Path) -> Iterator[tuple[Path, Callable[[], str]]]:
    """Yield every file that is read back, and the function that reads it."""
    for pattern in ("*.json", "*.csv"):
        yield from ((path, partial(tables, run)) for path in sorted(run.rglob(pattern)))
    for fold in FOLDS:
        for name in NETWORKS:
            yield run / f"fold{fold}/{name}.pt", partial(network, run, fold, name)
    yield unfinished / f"fold{FOLDS[0]}/state.pt", partial(state, unfinished)


def flips(path: Path, read: Callable[[], str], number: int, chance: random.Random) -> Counter[str]:
    """Flip bits of a file, one at a time, and count what reading it gives.

    Args:
        path: A file of a run.
        read: Function that returns all that the file says.
        number: Number of bits to flip.
        chance: Source of their positions.

    Returns:
        Counts: `refused` by the file's name, `not by its name`, `same` (nothing that is read
        changed), `silent` (something did).
    """
    whole, expected, counts = path.read_bytes(), read(), Counter[str]()
    for _ in range(number):
        bit = chance.randrange(8 * len(whole))
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            outcome = "same" if read() == expected else "silent"
        except TrainerError as error:
            line = str(error)
            outcome = "refused" if path.name in line and "\n" not in line else "not by its name"
        counts[outcome] += 1
    path.write_bytes(whole)
    return counts


def main(
    flips_each: Annotated[int, typer.Option("--flips", min=1, help="Bits in each file.")] = 40,
    seed: int = 0,
    place: Annotated[
        Path | None, typer.Option(help="Directory for the runs, such as /dev/shm.")
    ] = None,
) -> None:
    """Train a small run, then flip bits in it."""
    torch.set_num_threads(1)
    chance, rows = random.Random(seed), list[dict[str, Any]]()  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory(dir=place) as folder:
        place = Path(folder)
        store, run, unfinished = make_store(place), place / "run", place / "unfinished"
        train_straight(store, run)
        new_run(store, unfinished)
        training = resumed(unfinished)
        if not training.killed_at(unfinished / f"fold{FOLDS[0]}/state.pt"):
            raise RuntimeError(f"it left no state: {training.error}")
        for path, read in files(run, unfinished):
            counts = flips(path, read, flips_each, chance)
            name = "/".join(path.relative_to(place).parts[1:])
            kinds = ("refused", "same", "silent", "not by its name")
            rows.append({"file": name, "bits": flips_each} | {kind: counts[kind] for kind in kinds})
    table(rows, f"bits flipped in every file, seed {seed}")
    save("run_flips", {"flips": rows}, seed=seed)


if __name__ == "__main__":
    typer.run(main)
