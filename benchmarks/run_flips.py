"""Whether a run's directory vouches for itself: bits flipped in every file that is read back.

python -m benchmarks.run_flips [--flips 40] [--seed 0] [--place DIR]

A flip may be refused by the file's name, or change nothing that is said (white space of a JSON
file); what counts is that none changes an answer, or a weight, in silence.
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
    """Return all that a finished run's records and tables say."""
    found = open_finished(run)
    found.verify(networks=False)
    return repr((found.record, found.result))


def network(run: Path, fold: int, name: CheckpointName) -> str:
    """Return the weights of one of its networks."""
    return _weights(open_finished(run).checkpoint(fold, name).model)


def state(run: Path) -> str:
    """Return the weights in the state of its first fold, which is unfinished."""
    directory = RunDirectory(run)
    found = directory.fold(FOLDS[0]).state(directory.record(), FOLDS[0])
    assert found is not None, "it was waited for"  # noqa: S101
    return _weights(found.last.model)


def _weights(model: Mapping[str, Tensor]) -> str:
    return repr([float(value.double().abs().sum()) for value in model.values()])


def files(run: Path, unfinished: Path) -> Iterator[tuple[Path, Callable[[], str]]]:
    """Yield every file that is read back, and what tells all that it says."""
    for pattern in ("*.json", "*.csv"):
        yield from ((path, partial(tables, run)) for path in sorted(run.rglob(pattern)))
    for fold in FOLDS:
        for name in NETWORKS:
            yield run / f"fold{fold}/{name}.pt", partial(network, run, fold, name)
    yield unfinished / f"fold{FOLDS[0]}/state.pt", partial(state, unfinished)


def flips(path: Path, ask: Callable[[], str], number: int, chance: random.Random) -> Counter[str]:
    """Flip bits of a file, one at a time: how often that was refused, said the same, or silent."""
    whole, said, counts = path.read_bytes(), ask(), Counter[str]()
    for _ in range(number):
        bit = chance.randrange(8 * len(whole))
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            outcome = "same" if ask() == said else "silent"
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
        for path, ask in files(run, unfinished):
            counts = flips(path, ask, flips_each, chance)
            name = "/".join(path.relative_to(place).parts[1:])
            kinds = ("refused", "same", "silent", "not by its name")
            rows.append({"file": name, "bits": flips_each} | {kind: counts[kind] for kind in kinds})
    table(rows, f"bits flipped in every file, seed {seed}")
    save("run_flips", {"flips": rows}, seed=seed)


if __name__ == "__main__":
    typer.run(main)
