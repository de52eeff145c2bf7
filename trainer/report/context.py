"""Context of the numbers: how the runs were made, what to beware of, how to read them."""

from collections.abc import Iterator, Sequence

from featurestore.text import mask_url
from schemas import Selection
from trainer.paper import PaperTable
from trainer.report.cells import numbers, schedule
from trainer.report.compare import NOTES as DIFFERENCES
from trainer.report.compare import pairs
from trainer.report.content import Column, Table
from trainer.report.grouping import OFF, differing, shown
from trainer.report.series import Series

SELECTION: dict[Selection, str] = {
    "heldout": (
        "The best epoch is picked on the test fold itself, as in the paper, so its accuracy is "
        "optimistic. The last epoch is not picked; but each stage starts from the best epoch so "
        "far, which the test fold did pick, so it is not wholly free of it either."
    ),
    "validation": (
        "The epoch that counts, and the one each stage starts from, is picked on whole recordings "
        "set apart from the training folds. The held-out fold is looked at once, at the end: "
        "nothing of it leaks into these figures. The networks train on that many clips fewer."
    ),
    "last": (
        "Nothing is picked: each stage continues from the last epoch of the one before, and the "
        "last epoch of all counts. The held-out fold is watched and changes nothing, so there is "
        "no best epoch here."
    ),
}
NO_CONTROL = (
    "No `control` run is among these (the highest resolution only, with the progressive "
    "schedule's epochs and learning rates), so a gain over the baseline cannot be credited to "
    "resolution rather than to the learning rates: compare Σ epochs·λ."
)
ONE_SEED = "One seed a method: repeats move a fold by 1 to 2 points."
PAPER_NOTE = (
    "The paper's summaries stand as printed: it truncated them, ours are rounded. Its accuracies "
    "are those of the best epoch, from one seed."
)
KNOWN_SPLITS = "The paper's split i is fold 10 - i, which its accuracies and the fold sizes show."
UNKNOWN_SPLITS = "Which fold each of the paper's splits is, is not known for this dataset."


def context_table(series: Sequence[Series]) -> Table:
    """Return a table of one column per method, one row for each thing that shaped its numbers."""
    sheets = [_facts(one) for one in series]
    on = [name for name in sheets[0] if any(sheet[name] != OFF.get(name) for sheet in sheets)]
    rows = tuple((name, *(sheet[name] for sheet in sheets)) for name in on)
    columns = (Column("", numeric=False), *(Column(one.label, numeric=False) for one in series))
    return Table("How the runs were made", columns, rows)


def _facts(series: Series) -> dict[str, str]:
    settings = {name: shown(name, value) for name, value in series.settings}
    settings.pop("epochs scale")
    devices = {run.result.device_name: None for run in series.runs}
    load = sum(stage.epochs * stage.max_lr for stage in series.stages)
    return {
        "epochs": str(series.num_epochs),
        "schedule": schedule(series.epochs_scale),
        "Σ epochs·λ": f"{load:.3g}",
        "seeds": numbers(series.seeds),
        **settings,
        "device": ", ".join(devices),
    }


def warnings(series: Sequence[Series]) -> tuple[str, ...]:
    """Return the lines above the tables: whatever keeps numbers from being compared at sight."""
    found = [*_mixed(series), *_shortened(series), *_uneven(series), *_own(series)]
    return tuple(map(mask_url, found))


def _mixed(series: Sequence[Series]) -> Iterator[str]:
    names = differing(series)
    if names:
        facts = "; ".join(f"{name} ({', '.join(values)})" for name, values in names.items())
        yield (
            f"These runs differ in {facts}. They are kept apart, and no paired difference is taken "
            "between runs that differ in both method and settings."
        )
    keys = [(one.method, one.settings) for one in series]
    if len(set(keys)) < len(keys):
        yield "Runs of one method have different stages; they are kept apart as its schedules."


def _shortened(series: Sequence[Series]) -> Iterator[str]:
    scaled = [one for one in series if one.epochs_scale != 1]
    for scale in sorted({one.epochs_scale for one in scaled}):
        who = _who([one.label for one in scaled if one.epochs_scale == scale], series)
        yield f"{who}{schedule(scale)} schedule was trained: this does not reproduce its results."


def _uneven(series: Sequence[Series]) -> Iterator[str]:
    if len({tuple(one.folds) for one in series}) > 1:
        listed = "; ".join(f"{one.label}: {numbers(one.folds)}" for one in series)
        yield f"The means are over different folds ({listed})."
    if len({tuple(one.seeds) for one in series}) > 1:
        listed = "; ".join(f"{one.label}: {numbers(one.seeds)}" for one in series)
        yield f"The means are over different seeds ({listed})."
    for one in series:
        if not one.complete:
            yield f"{one.label}: not every seed has every fold; a fold's value is over its own."


def _own(series: Sequence[Series]) -> Iterator[str]:
    """Yield the runs' own warnings, each once, with the methods it concerns if not all."""
    holders: dict[str, dict[str, None]] = {}
    for one in series:
        for text in (text for run in one.runs for text in run.result.warnings):
            holders.setdefault(text, {})[one.label] = None
    for text, labels in holders.items():
        yield _who(list(labels), series) + text


def _who(labels: Sequence[str], series: Sequence[Series]) -> str:
    """Return the methods a warning concerns, as its beginning; all of them need no mention."""
    return f"{', '.join(labels)}: " if len(labels) < len(series) else ""


def notes(series: Sequence[Series], paper: PaperTable | None) -> tuple[str, ...]:
    """Return the lines below the tables, which explain how to read them."""
    found = [SELECTION[series[0].selection], *_epochs(series)]
    methods = {one.method for one in series}
    if "baseline" in methods and methods & {"mel", "resize"} and "control" not in methods:
        found.append(NO_CONTROL)
    if all(len(one.seeds) == 1 for one in series):
        found.append(ONE_SEED)
    if any(pairs(series)):
        found += DIFFERENCES
    elif len(series) > 1:
        found.append("No two of these runs differ only in method or only in settings.")
    if paper:
        found += [PAPER_NOTE, KNOWN_SPLITS if paper.folds else UNKNOWN_SPLITS]
    return tuple(found)


def _epochs(series: Sequence[Series]) -> Iterator[str]:
    if len({one.num_epochs for one in series}) > 1:
        listed = ", ".join(f"{one.label} {one.num_epochs}" for one in series)
        yield (
            f"The methods are trained for different numbers of epochs ({listed}). The paper's text "
            "says they are all the same; its own list gives 190 to the baseline and 170 to the "
            "others."
        )
