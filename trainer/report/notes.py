"""Sentences of a report: findings, warnings, and explanations of the numbers."""

from collections import Counter
from collections.abc import Iterator, Sequence

from featurestore.text import mask_url, quantity
from trainer.report.paper import PaperTable
from trainer.report.series import Series, differing
from trainer.report.tables import DIFFERENCE_NOTES, numbers, p_value, pairs, schedule, signed
from trainer.selection import carrying
from trainer.stats import paired_test

SMALL_IMAGES = (
    "Epochs of all stages count here, for what is reported or for what stages start from: it may "
    "be a network of smaller images than the last stage's. These are not the rules of the paper's "
    "code."
)
NO_CONTROL = (
    "No `control` run is among these (the highest resolution only, with the progressive "
    "schedule's epochs and learning rates), so a gain over the baseline cannot be credited to "
    "resolution rather than to the learning rates: compare Σ epochs·λ."
)
ONE_SEED = "One seed per method: repeats move a fold by 1 to 2 points."
PAPER_NOTE = (
    "The paper's summaries stand as printed: it truncated them, ours are rounded. Its accuracies "
    "are those of the best epoch, from one seed."
)
KNOWN_SPLITS = "The paper's split i is fold 10 - i, which its accuracies and the fold sizes show."
UNKNOWN_SPLITS = "Which fold each of the paper's splits is, is not known for this dataset."


SIGNIFICANT_P = 0.05


def findings(series: Sequence[Series]) -> tuple[str, ...]:
    """Return what the reported score shows for each pair of methods; printed first.

    A difference is called significant only if the paired t-test has p below 0.05.
    """
    score = series[0].scores[0]
    sentences, unshown, num_tests = [], [], 0
    for a, b in pairs(series):
        test = paired_test(a.by_fold(score), b.by_fold(score))
        if test is None:
            continue
        num_tests += test.p is not None
        if test.p is None:
            apart = f"differ by {signed(test.mean)} points on" if test.mean else "are equal on"
            sentences.append(f"{a.label} and {b.label} {apart} every fold.")
        elif test.p < SIGNIFICANT_P:
            better = "better" if test.mean > 0 else "worse"
            sentences.append(
                f"{a.label} is {better} than {b.label} by {abs(test.mean):.2f} points (95 % CI "
                f"{signed(test.low)} to {signed(test.high)}, p {p_value(test.p)})."
            )
        else:
            unshown.append(f"{a.label} and {b.label} (p {p_value(test.p)})")
    if unshown:
        sentences.append(f"No difference shown between {', '.join(unshown)}.")
    if num_tests > 1:
        sentences.append("These p are not corrected for the number of comparisons.")
    return tuple(sentences)


def scope(series: Sequence[Series]) -> str:
    """Return the scope of all tables of a section: clips, classes, folds, seeds."""
    first = series[0]
    clips = " / ".join(dict.fromkeys(f"{one.num_clips:,}" for one in series))
    folds = numbers(fold for one in series for fold in one.folds)
    seeds = sorted({seed for one in series for seed in one.seeds})
    chance = "several labels per clip" if first.multilabel else f"chance {first.chance:.3g} %"
    return (
        f"{clips} clips of {len(first.class_names)} classes ({chance}), "
        f"held-out folds {folds}; {quantity(len(seeds), 'seed')} "
        f"({numbers(seeds)})."
    )


def basis(series: Sequence[Series]) -> str:
    """Return the number of clips, folds and seeds behind the tables of a section."""
    clips = _by_method(series, [f"{one.num_clips:,}" for one in series])
    folds = _by_method(series, [numbers(one.folds) for one in series])
    seeds = _by_method(series, [str(len(one.seeds)) for one in series])
    return f"{clips} clips, held-out folds {folds}, {seeds} seed{'' if seeds == '1' else 's'}"


def _by_method(series: Sequence[Series], values: Sequence[str]) -> str:
    """Return a value that all methods share, or each with its method."""
    if len(set(values)) == 1:
        return values[0]
    named = zip(series, values, strict=True)
    return f"({'; '.join(f'{one.label}: {value}' for one, value in named)})"


def warnings(series: Sequence[Series]) -> tuple[str, ...]:
    """Return the lines above the tables: anything that limits comparisons between numbers."""
    config = series[0].config
    all_stages = config.selection != "last" and "run" in (config.carry, config.best_of)
    small = [SMALL_IMAGES, *_unlike(series)] if all_stages else []
    lines = [*_mixed(series), *_shortened(series), *_uneven(series), *small, *_own(series)]
    return tuple(map(mask_url, lines))


def _unlike(series: Sequence[Series]) -> Iterator[str]:
    """Yield the arrays that reported networks were trained on, if one is not the last stage's."""
    for one in series:
        counts = Counter(fold.best_array for run in one.runs for fold in run.result.folds)
        if counts.keys() - {None, one.stages[-1].array, one.stages[-1].alternate}:
            listed = (f"{array or 'unknown'} {count}" for array, count in counts.most_common())
            yield f"{one.label}: reported networks by array: {', '.join(listed)}."


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
    for scale in sorted({one.config.epochs_scale for one in series} - {1}):
        who = _who([one.label for one in series if one.config.epochs_scale == scale], series)
        yield f"{who}{schedule(scale)} was trained: this does not reproduce the paper's results."


def _uneven(series: Sequence[Series]) -> Iterator[str]:
    for what in ("folds", "seeds"):
        values = [numbers(getattr(one, what)) for one in series]
        if len(set(values)) > 1:
            yield f"The means are over different {what} {_by_method(series, values)}."
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
    """Return the lines below the tables that explain how to read them."""
    rules = carrying(series[0].config)
    lines = [series[0].rule.note, *([f"In these runs {rules}."] if rules else []), *_epochs(series)]
    methods = {one.method for one in series}
    if "baseline" in methods and methods & {"mel", "resize"} and "control" not in methods:
        lines.append(NO_CONTROL)
    if all(len(one.seeds) == 1 for one in series):
        lines.append(ONE_SEED)
    if any(pairs(series)):
        lines += DIFFERENCE_NOTES
    elif len(series) > 1:
        lines.append("No two of these runs differ only in method or only in settings.")
    if paper:
        lines += [PAPER_NOTE, KNOWN_SPLITS if paper.folds else UNKNOWN_SPLITS]
    return tuple(lines)


def _epochs(series: Sequence[Series]) -> Iterator[str]:
    if len({one.num_epochs for one in series}) > 1:
        listed = ", ".join(f"{one.label} {one.num_epochs}" for one in series)
        yield (
            f"The methods are trained for different numbers of epochs ({listed}). The paper's text "
            "says they are all the same; its own list gives 190 to the baseline and 170 to the "
            "others."
        )
