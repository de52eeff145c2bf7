"""A series: one method's runs with the same settings, over folds and seeds, and its accuracies."""

from collections import defaultdict
from dataclasses import dataclass

from schemas import CheckpointName, Selection, Stage
from trainer.inference.confusion import Matrix
from trainer.report.load import Run
from trainer.report.scores import Score, scores_of
from trainer.stats import mean, sample_std

Settings = tuple[tuple[str, str], ...]
ByFold = dict[int, float]


@dataclass(frozen=True)
class Series:
    """All runs of one method with one schedule and the same settings, on one dataset.

    Args:
        dataset: Name of the dataset.
        method: Name of the method.
        settings: Whatever else could change the numbers, as (name, value).
        stages: The schedule.
        runs: At least one; no two of them have a seed and a fold in common.
        label: The method, and the settings that tell it from other series of the report.
    """

    dataset: str
    method: str
    settings: Settings
    stages: tuple[Stage, ...]
    runs: tuple[Run, ...]
    label: str = ""

    @property
    def selection(self) -> Selection:
        """Selection that picked the networks."""
        return self.runs[0].result.config.selection

    @property
    def scores(self) -> tuple[Score, ...]:
        """The accuracies that the selection gives, the one that counts first."""
        return scores_of(self.selection)

    @property
    def seeds(self) -> list[int]:
        """Seeds of any fold, ascending."""
        return sorted({run.result.config.seed for run in self.runs})

    @property
    def folds(self) -> list[int]:
        """Held-out folds of any seed, ascending."""
        return sorted({fold.fold for run in self.runs for fold in run.result.folds})

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole schedule."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def epochs_scale(self) -> float:
        """Scale of the schedule: 1 is the whole one."""
        return self.runs[0].result.config.epochs_scale

    @property
    def complete(self) -> bool:
        """Whether every seed has every fold."""
        return len(self.over_folds(self.scores[0])) == len(self.seeds)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by class_id."""
        return self.runs[0].class_names

    def by_fold(self, score: Score) -> ByFold:
        """Return a score in % by fold; the mean over seeds."""
        seeds = self._by_seed(score).values()
        return {fold: mean([s[fold] for s in seeds if fold in s]) for fold in self.folds}

    def over_folds(self, score: Score) -> dict[int, float]:
        """Return a score in % by seed, of the seeds that have every fold: the mean over folds."""
        seeds = self._by_seed(score).items()
        return {seed: mean(list(f.values())) for seed, f in seeds if len(f) == len(self.folds)}

    def std_over_seeds(self, score: Score) -> float | None:
        """Return the sample std, over the seeds that have every fold, of the mean over folds."""
        return sample_std(list(self.over_folds(score).values()))

    def confusion(self, checkpoint: CheckpointName) -> Matrix:
        """Return clips by true and predicted class, summed over folds and seeds."""
        first, *others = (run.confusions[checkpoint] for run in self.runs)
        return sum(others, first)

    def _by_seed(self, score: Score) -> dict[int, ByFold]:
        values: dict[int, ByFold] = defaultdict(dict)
        for run in self.runs:
            for fold in run.result.folds:
                values[run.result.config.seed][fold.fold] = score.percent(fold)
        return values
