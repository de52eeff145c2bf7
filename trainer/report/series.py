"""Runs of a report, grouped into series of runs that may be averaged.

Runs that differ in anything but fold, seed and execution are never averaged; runs that differ in
classes, in selection, or in what stages start from and what is reported, are not even compared.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.text import setting_text
from schemas import (
    CheckpointName,
    EpochMetrics,
    MultilabelScores,
    RunConfig,
    RunResult,
    Stage,
)
from trainer.errors import ReportError
from trainer.metrics import average_precisions
from trainer.records.finished import FinishedRun, open_finished, score_of
from trainer.records.tables import ClipPredictions
from trainer.selection import RULES, Rule, carrying, inapplicable
from trainer.stats import Matrix, confusion_matrix, mean

Settings = tuple[tuple[str, str], ...]
ByFold = dict[int, float]

# The paper's order, then ours; other methods follow by name.
ORDER = ("baseline", "mel", "resize", "control")
# Fields of RunConfig that are a run's place in its series, or that `settings_of` words differently.
# Every other field, also one that RunConfig gets later, is a setting.
NOT_SETTINGS = {
    *("dataset", "method", "stages", "folds", "seed", "init"),
    *("device", "acceleration", "threads"),
}
OFF = dict.fromkeys(("mixup", "freq mask", "time mask", "label smoothing"), "0") | {
    "layer groups": "2",
    "moments": "fresh",
    "first conv": "sum",
    "task": "multiclass",
}
"""Values of disabled options, which labels do not mention."""


@dataclass(frozen=True)
class Score:
    """An accuracy on the held-out fold, available for every fold with a selection.

    Args:
        name: Name in headings.
        checkpoint: Network with this accuracy.
    """

    name: str
    checkpoint: CheckpointName


class JudgedClip(NamedTuple):
    """A clip's held-out fold, its class_id, and the class_id that a network predicted."""

    fold: int
    label: int
    predicted: int


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run with all its tables.

    Args:
        finished: Records of the run.
        result: Content of result.json, with a warning if its files have no digests.
        epochs: Metrics of all epochs by fold.
        clips: Predictions of the reported network by clip_id; empty if clips may have several
            labels.
        precisions: Average precision of each class by fold, (classes,), NaN for classes that do not
            occur; empty if clips have one label.
        probabilities: Predictions of the reported network by fold, with all probabilities; empty
            unless they are to be kept.
    """

    finished: FinishedRun
    result: RunResult
    epochs: Mapping[int, tuple[EpochMetrics, ...]]
    clips: Mapping[str, JudgedClip]
    precisions: Mapping[int, NDArray[np.float64]]
    probabilities: Mapping[int, ClipPredictions]

    @property
    def config(self) -> RunConfig:
        """The config of the run."""
        return self.result.config


def read_run(path: Path, *, keep_probabilities: bool = False) -> Run:
    """Read a finished run's directory.

    Args:
        path: The directory.
        keep_probabilities: Whether the large tables stay in memory.

    Raises:
        TrainedRunError: The directory is not a run, or the run is unfinished or damaged.
    """
    run = open_finished(path)
    warnings = *run.result.warnings, *filter(None, [run.warning])
    epochs = {fold: run.epochs(fold) for fold in run.folds}
    clips: dict[str, JudgedClip] = {}
    precisions, kept = dict[int, NDArray[np.float64]](), dict[int, ClipPredictions]()
    # Those of a network that does not count are read, too: damage is refused wherever it is.
    for fold, name in product(run.folds, reversed(run.checkpoints)):
        table = run.predictions(fold, name)
        if name != run.checkpoints[0]:
            continue
        if table.multilabel:
            precisions[fold] = average_precisions(table.labels, table.probabilities)
        else:
            answers = zip(table.labels.tolist(), table.predicted.tolist(), strict=True)
            judged = (JudgedClip(fold, *answer) for answer in answers)
            clips |= zip(table.clip_ids, judged, strict=True)
        if keep_probabilities:
            kept[fold] = table
    result = run.result.model_copy(update={"warnings": warnings})
    return Run(run, result, epochs, clips, precisions, kept)


@dataclass(frozen=True)
class Series:
    """All runs of a method with the same schedule and settings on a dataset.

    Args:
        dataset: Name of the dataset.
        method: Name of the method.
        settings: Everything else that could affect results, as (name, value).
        stages: Schedule.
        runs: At least one run; no two have both a seed and a fold in common.
        label: Method, with the settings that distinguish it from other series of the report.
    """

    dataset: str
    method: str
    settings: Settings
    stages: tuple[Stage, ...]
    runs: tuple[Run, ...]
    label: str = ""

    @property
    def config(self) -> RunConfig:
        """The config of one of the runs."""
        return self.runs[0].config

    @property
    def multilabel(self) -> bool:
        """Whether clips may have several labels: scores are then mean average precisions."""
        return self.config.task == "multilabel"

    @property
    def rule(self) -> Rule:
        """Rule of the selection."""
        return RULES[self.config.selection]

    def precisions(self) -> dict[int, NDArray[np.float64]]:
        """Return the average precision of each class, (classes,), by fold: the mean over seeds."""
        known: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        for run in self.runs:
            for fold, of in run.precisions.items():
                known[fold].append(of)
        return {fold: np.mean(known[fold], axis=0) for fold in sorted(known)}

    def label_scores(self) -> dict[int, list[MultilabelScores]]:
        """Return all multi-label scores by fold, one per seed."""
        known: dict[int, list[MultilabelScores]] = defaultdict(list)
        for run in self.runs:
            for fold in run.result.folds:
                best = self.scores[0].checkpoint == "best"
                scores = fold.best_scores if best else fold.last_scores
                assert scores is not None, "a finished run was checked for it"  # noqa: S101
                known[fold.fold].append(scores)
        return dict(sorted(known.items()))

    @property
    def scores(self) -> tuple[Score, ...]:
        """Accuracies of the selection, the reported one first."""
        return tuple(map(Score, self.rule.scores, self.rule.checkpoints))

    @property
    def seeds(self) -> list[int]:
        """All seeds, ascending."""
        return sorted({run.config.seed for run in self.runs})

    @property
    def folds(self) -> list[int]:
        """All held-out folds, ascending."""
        return sorted({fold.fold for run in self.runs for fold in run.result.folds})

    @property
    def num_epochs(self) -> int:
        """Number of epochs of the whole schedule."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def complete(self) -> bool:
        """Whether every seed has every fold."""
        return len(self.over_folds(self.scores[0])) == len(self.seeds)

    @property
    def num_clips(self) -> int:
        """Number of clips of the held-out folds."""
        folds = {fold.fold: fold.num_test for run in self.runs for fold in run.result.folds}
        return sum(folds.values())

    @property
    def chance(self) -> float:
        """Accuracy in % of guessing uniformly among the classes."""
        return 100 / len(self.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by class_id."""
        return self.runs[0].finished.record.class_names

    def by_fold(self, score: Score) -> ByFold:
        """Return a score in % by fold, averaged over seeds."""
        seeds = self._by_seed(score).values()
        return {fold: mean([s[fold] for s in seeds if fold in s]) for fold in self.folds}

    def over_folds(self, score: Score) -> dict[int, float]:
        """Return a score in % by seed, averaged over folds, for seeds with all folds."""
        seeds = self._by_seed(score).items()
        return {seed: mean(list(f.values())) for seed, f in seeds if len(f) == len(self.folds)}

    def epochs(self) -> list[tuple[EpochMetrics, ...]]:
        """Return the metrics of all epochs for each fold of each run."""
        return [rows for run in self.runs for rows in run.epochs.values()]

    def clips(self) -> dict[tuple[int, str], JudgedClip]:
        """Return all predictions by seed and clip_id; empty with several labels."""
        return {
            (run.config.seed, name): clip for run in self.runs for name, clip in run.clips.items()
        }

    def confusion(self) -> Matrix:
        """Return clips by true and predicted class, summed over folds and seeds."""
        _, labels, predicted = np.array(list(self.clips().values()), np.int64).T
        return confusion_matrix(labels, predicted, len(self.class_names))

    def _by_seed(self, score: Score) -> dict[int, ByFold]:
        values: dict[int, ByFold] = defaultdict(dict)
        for run in self.runs:
            for fold in run.result.folds:
                value = score_of(fold, score.checkpoint)
                assert value is not None, "a finished run was checked for it"  # noqa: S101
                values[run.config.seed][fold.fold] = 100 * value
        return values


def settings_of(result: RunResult, init_sha256: str | None = None) -> Settings:
    """Return all settings except the method that could affect results, as (name, value).

    The initial weights are those actually used: for `auto`, ImageNet's may have been unavailable.

    Args:
        result: Content of result.json.
        init_sha256: Digest of the initial weights, if known: a path may have held other ones.
    """
    # The same names for every method of a table, as only methods of equal settings are compared.
    without = NOT_SETTINGS | inapplicable(result.config.selection)
    config = result.config.model_dump(mode="json", exclude=without)
    init = result.config.init if result.init_used == "file" else result.init_used
    if init_sha256 and result.init_used in ("file", "timm"):
        init = f"{Path(init).name} ({init_sha256[:12]})"
    values = {"store": result.fingerprint, "init": init} | config
    return tuple((name.replace("_", " "), setting_text(value)) for name, value in values.items())


def group(runs: Sequence[Run]) -> dict[tuple[str, str, str], list[Series]]:
    """Group runs into labelled series in the order of the tables.

    The keys are the dataset (with the task if clips have several labels, and a number if stores
    have other classes), the selection, and `trainer.selection.carrying`.

    Raises:
        ReportError: Two runs of a series have both a seed and a fold in common.
    """
    gathered: dict[tuple[str, str, Settings, tuple[Stage, ...]], list[Run]] = defaultdict(list)
    for run in runs:
        config = run.config
        settings = settings_of(run.result, run.finished.record.init_sha256)
        key = (config.dataset, config.method, settings, config.stages)
        gathered[key].append(run)
    classes: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for run in runs:
        classes[run.config.dataset].add(run.finished.record.class_names)
    sections: dict[tuple[str, str, str], list[Series]] = defaultdict(list)
    for (dataset, method, settings, stages), members in gathered.items():
        _refuse_duplicates(members)
        one = Series(dataset, method, settings, stages, tuple(members))
        # Accuracy and mean average precision are never in one table, nor accuracies among others
        # than the same classes, which tables by class would take for each other.
        what = f"{dataset}, several labels" if one.multilabel else dataset
        if len(classes[dataset]) > 1:
            what += f", classes {sorted(classes[dataset]).index(one.class_names) + 1}"
        sections[what, one.config.selection, carrying(one.config)].append(one)
    return {key: _labelled(sections[key]) for key in sorted(sections)}


def _refuse_duplicates(runs: Sequence[Run]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for run in runs:
        config, path = run.config, run.finished.path
        for fold in run.result.folds:
            key = (config.seed, fold.fold)
            if key in seen:
                raise ReportError(
                    f"{seen[key]} and {path} are both {config.method}, seed {config.seed}, "
                    f"fold {fold.fold} of {config.dataset}: leave one of them out"
                )
            seen[key] = path


def differing(series: Sequence[Series]) -> dict[str, list[str]]:
    """Return the values of each setting that differs between series, in order of appearance."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for one in series:
        for name, value in one.settings:
            values[name][shown(name, value)] = None
    return {name: list(several) for name, several in values.items() if len(several) > 1}


def shown(name: str, value: str) -> str:
    """Return a setting's value, shortened for a table."""
    return value[:12] if name == "store" else value


def _labelled(series: Sequence[Series]) -> list[Series]:
    """Return the series in the order of the tables, each under a name of its own."""
    ranked = sorted(series, key=lambda one: (_rank(one.method), one.method, one.settings))
    names = differing(series)
    plain = [_label(one, names) for one in ranked]
    labels = []
    for at, label in enumerate(plain):
        number = plain[: at + 1].count(label)
        labels.append(f"{label} schedule {number}" if Counter(plain)[label] > 1 else label)
    return [replace(one, label=label) for one, label in zip(ranked, labels, strict=True)]


def _label(series: Series, names: dict[str, list[str]]) -> str:
    parts = [
        f"{name} {shown(name, value)}"
        for name, value in series.settings
        if name in names and OFF.get(name) != value
    ]
    return f"{series.method} ({', '.join(parts)})" if parts else series.method


def _rank(method: str) -> int:
    return ORDER.index(method) if method in ORDER else len(ORDER)
