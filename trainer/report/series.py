"""A series: one method's runs with the same settings, over folds and seeds, and its accuracies."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from schemas import FoldResult, Stage
from trainer.report.load import Run
from trainer.stats import mean, sample_std

Settings = tuple[tuple[str, str], ...]
ByFold = dict[int, float]


def best_percent(fold: FoldResult) -> float:
    """Accuracy of the best epoch in %."""
    return 100 * fold.best_accuracy


def last_percent(fold: FoldResult) -> float:
    """Accuracy of the last epoch in %."""
    return 100 * fold.last_accuracy


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
        """Of the schedule: 1 is the whole one."""
        return self.runs[0].result.config.epochs_scale

    @property
    def complete(self) -> bool:
        """Whether every seed has every fold."""
        return all(len(folds) == len(self.folds) for folds in self._by_seed(best_percent).values())

    def best(self) -> ByFold:
        """Accuracy in % of the best epoch by fold; the mean over seeds."""
        return self._over_seeds(best_percent)

    def last(self) -> ByFold:
        """Accuracy in % of the last epoch by fold; the mean over seeds."""
        return self._over_seeds(last_percent)

    def std_over_seeds(self, value: Callable[[FoldResult], float]) -> float | None:
        """Sample std, over the seeds that have every fold, of the mean over folds."""
        seeds = self._by_seed(value).values()
        full = [folds for folds in seeds if len(folds) == len(self.folds)]
        return sample_std([mean(list(folds.values())) for folds in full])

    def _by_seed(self, value: Callable[[FoldResult], float]) -> dict[int, ByFold]:
        values: dict[int, ByFold] = defaultdict(dict)
        for run in self.runs:
            for fold in run.result.folds:
                values[run.result.config.seed][fold.fold] = value(fold)
        return values

    def _over_seeds(self, value: Callable[[FoldResult], float]) -> ByFold:
        seeds = self._by_seed(value).values()
        return {fold: mean([s[fold] for s in seeds if fold in s]) for fold in self.folds}
