"""Training runs next to the clips: predictions of the networks, and where they are right.

Runs are read by the program that trains them: the entry point `featurestore.runs` names a function
from run directories to the data described in `trainer.report.browsed.browsed_runs`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.browsing.contents import Contents
from featurestore.errors import MissingLibraryError, RunError
from featurestore.text import mask_url

GROUP = "featurestore.runs"
"""Entry point group in which a trainer registers its reader of runs."""
_DECIMALS = 5
_TAKEN = 0.5
"""Minimum probability at which a class counts as predicted for clips with several labels."""


class Runs:
    """Training runs on any datasets.

    Args:
        paths: Run directories.

    Raises:
        RunError: A run cannot be read.
        MissingLibraryError: The trainer is not installed.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        records: Mapping[str, Any] = _reader()(paths) if paths else {"runs": [], "comparisons": []}
        self._runs: Sequence[Mapping[str, Any]] = records["runs"]
        self._comparisons: Sequence[Mapping[str, Any]] = records["comparisons"]

    def __bool__(self) -> bool:
        return bool(self._runs)

    def of(self, contents: Contents) -> "RunsOfDataset":
        """Return the runs that were trained on a dataset."""
        fingerprint = contents.dataset.fingerprint

        def fit(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
            return [one for one in records if one["fingerprint"] == fingerprint]

        return RunsOfDataset(contents, fit(self._runs), fit(self._comparisons))

    def check_fit(self, fingerprints: Sequence[str]) -> None:
        """Refuse a run that was not trained on any of these datasets.

        Raises:
            RunError: A run was trained on another dataset.
        """
        for run in self._runs:
            if run["fingerprint"] not in fingerprints:
                raise RunError(
                    f"{mask_url(run['path'])}: was trained on other features of {run['dataset']}: "
                    f"its store's fingerprint is {run['fingerprint'][:12]}…, here are "
                    f"{', '.join(f'{one[:12]}…' for one in fingerprints) or 'none'}"
                )


def _reader() -> Any:  # noqa: ANN401  (whatever the trainer provides)
    for point in entry_points(group=GROUP):
        try:
            return point.load()
        except ImportError as error:
            raise MissingLibraryError(
                f"runs cannot be read: {error}: pip install 'featurestore[trainer]'"
            ) from error
    raise MissingLibraryError("nothing here reads runs: pip install 'featurestore[trainer]'")


class RunsOfDataset:
    """The runs on one dataset, with their clips matched to its rows by clip_id."""

    def __init__(
        self,
        contents: Contents,
        runs: Sequence[Mapping[str, Any]],
        comparisons: Sequence[Mapping[str, Any]],
    ) -> None:
        self._contents, self._runs, self._comparisons = contents, runs, comparisons

    def facts(self) -> dict[str, Any]:
        """Return the predictions of every run, with None for clips it did not hold out."""
        return {
            "runs": [self._run(at, run) for at, run in enumerate(self._runs)],
            "comparisons": [self._comparison(one) for one in self._comparisons],
        }

    def probabilities(self, number: int) -> dict[str, list[float] | None]:
        """Return the class probabilities of one clip by run."""
        self._contents.place(number)
        answer: dict[str, list[float] | None] = {}
        for at, run in enumerate(self._runs):
            place = self._places[at][number]
            values = run["clips"]["probabilities"][place]
            answer[str(at)] = None if place < 0 else np.round(values, _DECIMALS).tolist()
        return answer

    @cached_property
    def _numbers(self) -> dict[str, int]:
        ids = self._contents.table.clip_id.tolist()
        return {clip_id: number for number, clip_id in enumerate(ids)}

    @cached_property
    def _places(self) -> list[NDArray[np.int64]]:
        """The row of each clip in each run; -1 if it has none."""
        places = []
        for run in self._runs:
            of = np.full(len(self._contents.table), -1)
            for place, clip_id in enumerate(run["clips"]["clip_id"]):
                if (number := self._numbers.get(clip_id)) is not None:
                    of[number] = place
            places.append(of)
        return places

    def _run(self, at: int, run: Mapping[str, Any]) -> dict[str, Any]:
        names = list(self._contents.dataset.class_names)
        if run["class_names"] != names:
            raise RunError(f"{mask_url(run['path'])}: its classes are not those of the store")
        known, columns = self._places[at] >= 0, self._outcomes(at, run)
        kept = ("path", "label", "method", "seed", "score", "notes", "folds", "epochs")
        return {name: run[name] for name in (*kept, "multilabel", "precisions")} | {
            "key": str(at),
            **{name: _where(known, column) for name, column in columns.items()},
        }

    def _outcomes(self, at: int, run: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return columns by clip: predicted (class_id), p_predicted, p_true, right.

        p_true is the probability of the clip's own class. With several labels `predicted` is the
        class about which the network is most wrong, p_true what it gives to what is true of it, and
        the clip is right if each label has at least 0.5 and every other class less.
        """
        shares = run["clips"]["probabilities"][self._places[at]]
        rows = np.arange(len(shares))
        if run["multilabel"]:
            labels = self._contents.multi_hot()
            truths, wrong = np.where(labels, shares, 1 - shares), (shares >= _TAKEN) != labels
            chosen = (truths - wrong).argmin(axis=1)  # of 1/2 each, the wrong one
            p_true, right = truths[rows, chosen], ~wrong.any(axis=1)
        else:
            chosen, own = shares.argmax(axis=1), self._contents.table.class_id
            p_true, right = shares[rows, np.maximum(own, 0)], chosen == own
        columns = {"predicted": chosen, "p_predicted": shares[rows, chosen]}
        return columns | {"p_true": p_true, "right": right}

    def _comparison(self, one: Mapping[str, Any]) -> dict[str, Any]:
        codes = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}
        compared = {name: one[name] for name in ("first", "second", "seeds", "note")}
        if "classes" in one:
            return compared | {"classes": one["classes"]}
        outcomes = [
            (self._numbers[clip_id], codes[bool(first), bool(second)])
            for clip_id, first, second in one["clips"]
            if clip_id in self._numbers
        ]
        return compared | {"p": one["p"], "clips": outcomes}


def _where(known: NDArray[np.bool_], values: NDArray[Any]) -> list[float | None]:
    """Return values as JSON has them: float32 in as few digits as it needs, None if unknown."""
    if values.dtype == np.float32:
        values = np.round(values.astype(np.float64), _DECIMALS)
    listed: list[float | None] = values.tolist()
    return [
        value if is_known else None for value, is_known in zip(listed, known.tolist(), strict=True)
    ]
