"""Gathering runs into series: what may be averaged, and what must be told apart.

Runs that differ in anything but fold, seed and the means of computing are never averaged; what
differs in selection is not even compared.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from schemas import RunResult, Selection, Stage
from trainer.errors import ReportError
from trainer.report.load import Run
from trainer.report.series import Series, Settings

# The paper's order, then ours; other methods follow by name.
ORDER = ("baseline", "mel", "resize", "control")
# Fields of RunConfig that are a run's place in its series, or that `settings_of` words differently.
# Every other field, also one that RunConfig gets later, is a setting.
NOT_SETTINGS = {
    *("dataset", "method", "stages", "folds", "seed", "init"),
    *("device", "acceleration", "threads"),
}
OFF = dict.fromkeys(("mixup", "freq mask", "time mask", "label smoothing"), "0")
"""Values of options that are off, which a label does not mention."""


def settings_of(result: RunResult) -> Settings:
    """Return everything but the method that could change a run's numbers, as (name, value).

    The initial weights are those the run really had: `auto` may have found none.
    """
    unused = set() if result.config.selection == "validation" else {"validation_share"}
    config = result.config.model_dump(mode="json", exclude=NOT_SETTINGS | unused)
    init = result.config.init if result.init_used == "file" else result.init_used
    values = {"store": result.fingerprint, "init": init} | config
    return tuple((name.replace("_", " "), _plain(value)) for name, value in values.items())


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def group(runs: Sequence[Run]) -> dict[tuple[str, Selection], list[Series]]:
    """Return series by dataset and selection, in the order of the tables and with labels.

    Raises:
        ReportError: Two runs of a series have a seed and a fold in common.
    """
    gathered: dict[tuple[str, str, Settings, tuple[Stage, ...]], list[Run]] = defaultdict(list)
    for run in runs:
        config = run.result.config
        key = (config.dataset, config.method, settings_of(run.result), config.stages)
        gathered[key].append(run)
    found: dict[tuple[str, Selection], list[Series]] = defaultdict(list)
    for (dataset, method, settings, stages), members in gathered.items():
        _refuse_duplicates(members)
        one = Series(dataset, method, settings, stages, tuple(members))
        found[dataset, one.selection].append(one)
    return {key: _labelled(found[key]) for key in sorted(found)}


def _refuse_duplicates(runs: Sequence[Run]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for run in runs:
        config = run.result.config
        for fold in run.result.folds:
            key = (config.seed, fold.fold)
            if key in seen:
                raise ReportError(
                    f"{seen[key]} and {run.path} are both {config.method}, seed {config.seed}, "
                    f"fold {fold.fold} of {config.dataset}: leave one of them out"
                )
            seen[key] = run.path


def differing(series: Sequence[Series]) -> dict[str, list[str]]:
    """Return values of each setting that is not the same in all series, in order of appearance."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for one in series:
        for name, value in one.settings:
            values[name][shown(name, value)] = None
    return {name: list(found) for name, found in values.items() if len(found) > 1}


def shown(name: str, value: str) -> str:
    """Return a setting's value, short enough for a table."""
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
