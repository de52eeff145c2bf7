"""The tables of a report, and formatting of numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import median

from schemas import EpochMetrics, PairedDifference, RunResult, Stage
from trainer.methods import LEAST_SCALE
from trainer.report.paper import PaperTable
from trainer.report.render import Column, Table, headings
from trainer.report.series import OFF, ByFold, Score, Series, shown
from trainer.stats import least_rank_p, mean, paired_test, sample_std

NOTHING = "-"
TINY_P = 0.001
OVER_FOLDS = "± after a mean: sample standard deviation over folds, each the mean over its seeds."
OVER_SEEDS = "Over seeds: sample standard deviation of the mean over folds."

# Of two methods, the one further on in this list is expected to be better: it comes first in the
# difference, as in the paper.
STRENGTH = ("baseline", "control", "resize", "mel")
TESTS = ("p of t", "p of ranks", "d_z", "t", "std")
DIFFERENCE_COLUMNS = headings("difference", "folds", "mean", "95 % CI", *TESTS)
STD_OVER_SEEDS = Column("std over seeds")
DIFFERENCE_NOTES = (
    "Differences are paired over folds, seeds averaged first. 95 % CI: of the mean difference, by "
    "Student's t. p of t: of the paired t-test; p of ranks: of Wilcoxon's signed-rank test; both "
    "two-sided, without correction for several tests. d_z: mean over std, the gain in units of its "
    "own spread over folds; Cohen calls 0.2 small, 0.5 medium and 0.8 large.",
    "Folds share most of their training clips, so the intervals are somewhat too narrow and p is "
    "somewhat too small.",
)
SEEDS_NOTE = (
    "std over seeds: of the mean difference, over the seeds that both have with every fold."
)
TOO_FEW = "Fewer than two common folds allow no test."
UNDEFINED = "t and d_z are not defined where every fold differs by the same amount."

SPEED_COLUMNS = (
    *headings("method", "stage"),
    *headings("images", "epochs", "λ", "time per fold", "samples/s", "waiting, %"),
)
SPEED_NOTE = (
    "Time per fold: wall time of the epochs with their evaluation, mean over folds and seeds. "
    "samples/s: of training alone, median over epochs. Waiting: share of the time in which "
    "training waited for data. Folds that were trained side by side slowed each other."
)


def percent(value: float | None) -> str:
    """Format an accuracy or a difference of accuracies with two decimals, without a unit."""
    return NOTHING if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Format a difference in points, t or d_z, with its sign."""
    return NOTHING if value is None else f"{value:+.2f}"


def mean_std(values: Sequence[float]) -> str:
    """Format mean ± sample standard deviation, or the mean alone for a single value."""
    known = [mean(values), sample_std(values)] if values else [None]
    return " ± ".join(percent(value) for value in known if value is not None) or NOTHING


def p_value(p: float | None) -> str:
    """Format a p-value to three decimals."""
    if p is None:
        return NOTHING
    return f"< {TINY_P}" if p < TINY_P else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def numbers(values: Iterable[int]) -> str:
    """Format integers with ranges for consecutive ones: 1-3, 5."""
    spans: list[tuple[int, int]] = []
    for value in sorted(set(values)):
        if spans and spans[-1][1] == value - 1:
            spans[-1] = (spans[-1][0], value)
        else:
            spans.append((value, value))
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def schedule(epochs_scale: float) -> str:
    """Return a phrase on which fraction of the methods' whole schedule was trained."""
    share = max(epochs_scale, LEAST_SCALE)
    return "full" if epochs_scale == 1 else f"{100 * share:.3g} % of the whole schedule"


def images_of(stage: Stage) -> str:
    """Return the array of a stage, or the two it alternates between: R1/mel, R1/mel+resize."""
    if stage.alternate is None:
        return stage.array
    place, other = stage.array.rpartition("/")[0], stage.alternate.rpartition("/")
    return f"{stage.array}+{other[2] if other[0] == place else stage.alternate}"


def summary_table(series: Sequence[Series], paper: PaperTable | None) -> Table:
    """Return a table with a row per method: mean ± sample std over folds of every score."""
    several = any(len(one.seeds) > 1 for one in series)
    columns = [*headings("method", "folds", "seeds")]
    rows = [[one.label, numbers(one.folds), str(len(one.seeds))] for one in series]
    for score in series[0].scores:
        columns.append(Column("mean ± std", score.name) if several else Column(score.name))
        columns += [Column("over seeds", score.name)] if several else []
        for row, one in zip(rows, series, strict=True):
            row.append(mean_std(list(one.by_fold(score).values())))
            row += [percent(sample_std(list(one.over_folds(score).values())))] if several else []
    if paper:
        # The summary as printed and, if only some of its folds were run, that over the same ones.
        partial = any(set(one.folds) != set(paper.folds or one.folds) for one in series)
        columns += [Column("paper, best epoch"), Column("paper, same folds")][: 1 + partial]
        for row, one in zip(rows, series, strict=True):
            row += _paper_cells(one, paper)[: 1 + partial]
    note = f"{OVER_FOLDS} {OVER_SEEDS}" if several else ""
    title = "Accuracy, %: mean ± sample standard deviation over folds"
    return Table(title, tuple(columns), tuple(map(tuple, rows)), note)


def _paper_cells(series: Series, paper: PaperTable) -> tuple[str, str]:
    printed = paper.printed.get(series.method)
    known = paper.by_fold(series.method)
    same = [known[fold] for fold in series.folds if fold in known]
    return (f"{printed[0]:.2f} ± {printed[1]:.2f}" if printed else NOTHING, mean_std(same))


def fold_tables(series: Sequence[Series], paper: PaperTable | None) -> Iterator[Table]:
    """Yield a table per score, with a row per fold and a column per method."""
    for score in series[0].scores:
        yield _fold_table(series, score, paper)
        paper = None  # its accuracies are of the score that counts


def _fold_table(series: Sequence[Series], score: Score, paper: PaperTable | None) -> Table:
    published = [paper.by_fold(one.method) if paper else {} for one in series]
    columns, values = [Column("fold")], list[ByFold]()
    for one, known in zip(series, published, strict=True):
        own = {"ours": one.by_fold(score)} | ({"paper": known} if known else {})
        columns += [Column(n, one.label) if any(published) else Column(one.label) for n in own]
        values += own.values()
    folds = sorted({fold for one in series for fold in one.folds})
    rows = tuple((str(fold), *(percent(by.get(fold)) for by in values)) for fold in folds)
    several = any(len(one.seeds) > 1 for one in series)
    note = "Each value is the mean over the method's seeds." if several else ""
    return Table(f"Accuracy by held-out fold, %: {score.name}", tuple(columns), rows, note)


def split_table(paper: PaperTable) -> Table:
    """Return the table of the paper's splits, for a dataset whose folds do not match them."""
    columns = (Column("split"), *(Column(method) for method in paper.splits))
    rows = tuple(
        (str(split), *map(percent, values))
        for split, values in enumerate(zip(*paper.splits.values(), strict=True))
    )
    note = "Which fold each split tested on is not known, so the rows match no row above."
    title = "The paper's accuracy by its own splits, %: best epoch"
    return Table(title, columns, rows, note, basis=paper.basis)


def pairs(series: Sequence[Series]) -> Iterator[tuple[Series, Series]]:
    """Yield pairs (expected better, worse) that differ in either the method or in settings."""
    for a, b in combinations(series, 2):
        if a.method == b.method or a.settings == b.settings:
            yield (b, a) if _strength(a.method) <= _strength(b.method) else (a, b)


def _strength(method: str) -> int:
    return STRENGTH.index(method) if method in STRENGTH else len(STRENGTH)


def difference_tables(series: Sequence[Series], paper: PaperTable | None) -> Iterator[Table]:
    """Yield a table per score with a row per pair of methods, and one for the paper's."""
    compared = list(pairs(series))
    if not compared:
        return
    for score in series[0].scores:
        yield _difference_table(score, compared)
    methods = {(a.method, b.method): None for a, b in compared if a.method != b.method}
    known = [pair for pair in methods if paper and set(pair) <= set(paper.splits)]
    if paper and known:
        rows = tuple(
            (f"{a} - {b}", *_difference_cells(paper.by_split(a), paper.by_split(b)))
            for a, b in known
        )
        title = "Paired differences in the paper, points: best epoch"
        yield Table(title, DIFFERENCE_COLUMNS, rows, basis=paper.basis)


def _difference_table(score: Score, compared: Sequence[tuple[Series, Series]]) -> Table:
    """Return differences of one score; with the spread over seeds if there are several."""
    spreads = [_std_over_seeds(score, a, b) for a, b in compared]
    with_seeds = any(spread is not None for spread in spreads)
    columns = (*DIFFERENCE_COLUMNS, STD_OVER_SEEDS) if with_seeds else DIFFERENCE_COLUMNS
    rows, counts, tests = [], [], []
    for (a, b), spread in zip(compared, spreads, strict=True):
        first, second = a.by_fold(score), b.by_fold(score)
        cells = f"{a.label} - {b.label}", *_difference_cells(first, second), percent(spread)
        rows.append(cells[: len(columns)])
        counts.append(len(first.keys() & second.keys()))
        tests.append(paired_test(first, second))
    notes = (
        least_note(max(counts)),
        SEEDS_NOTE if with_seeds else "",
        TOO_FEW if min(counts) < 2 else "",
        # Without t, every fold that both have differs by the same amount.
        UNDEFINED if any(test and test.t is None for test in tests) else "",
    )
    title = f"Paired differences, points: {score.name}"
    return Table(title, columns, tuple(rows), " ".join(filter(None, notes)))


def _std_over_seeds(score: Score, a: Series, b: Series) -> float | None:
    """Return the std of the difference of means over seeds that both have with the same folds."""
    if a.folds != b.folds:
        return None
    of_a, of_b = a.over_folds(score), b.over_folds(score)
    return sample_std([of_a[seed] - of_b[seed] for seed in of_a.keys() & of_b.keys()])


def _difference_cells(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[str, ...]:
    """Return everything of a row except its name."""
    return (str(len(first.keys() & second.keys())), *comparison_cells(paired_test(first, second)))


def comparison_cells(test: PairedDifference | None, scale: float = 1.0) -> tuple[str, ...]:
    """Return a comparison as cells: mean, interval, p of the t-test and rank test, d_z, t and std.

    Args:
        test: None if there were too few folds.
        scale: Factor from its differences to percentage points.
    """
    if test is None:
        return (NOTHING,) * (2 + len(TESTS))
    return (
        signed(scale * test.mean),
        f"{signed(scale * test.low)} to {signed(scale * test.high)}",
        *(p_value(test.p), p_value(test.rank_p), signed(test.d_z), signed(test.t)),
        percent(scale * test.std),
    )


def least_note(num_folds: int) -> str:
    """Return a note on the smallest p that Wilcoxon's test can give; empty if unnecessary."""
    least = least_rank_p(num_folds) if num_folds > 1 else 0.0
    if least < TINY_P:
        return ""
    return f"With {num_folds} folds the rank test cannot give a p below {p_value(least)}."


def speed_table(series: Sequence[Series]) -> Table:
    """Return a table of speed, with a row per stage of every method and one for the whole."""
    rows = tuple(row for one in series for row in _speed_rows(one))
    return Table("Time and speed by stage", SPEED_COLUMNS, rows, SPEED_NOTE)


def _speed_rows(series: Series) -> Iterator[tuple[str, ...]]:
    epochs = [row for rows in series.epochs() for row in rows]
    num_folds = sum(len(run.result.folds) for run in series.runs)
    for number, stage in enumerate(series.stages, start=1):
        seen = [row for row in epochs if row.stage == number]
        what = (str(number), images_of(stage), str(stage.epochs), f"{stage.max_lr:.3g}")
        yield (series.label, *what, *_pace(seen, num_folds))
    if len(series.stages) > 1:
        time, _, waiting = _pace(epochs, num_folds)
        yield (series.label, "all", "", str(series.num_epochs), "", time, "", waiting)


def _pace(epochs: Sequence[EpochMetrics], num_folds: int) -> tuple[str, str, str]:
    """Return time per fold, samples/s, and the fraction of waiting, of some epochs of all folds."""
    seconds = sum(row.seconds for row in epochs)
    waited = sum(row.seconds * row.wait_share for row in epochs)
    rate = median(row.samples_per_s for row in epochs)
    share = 100 * waited / seconds if seconds else 0.0
    return duration(seconds / num_folds), f"{rate:,.0f}", f"{share:.1f}"


def context_table(series: Sequence[Series]) -> Table:
    """Return a table of settings, with a column per method and a row per setting."""
    sheets = [_facts(one) for one in series]
    on = [name for name in sheets[0] if any(sheet[name] != OFF.get(name) for sheet in sheets)]
    rows = tuple((name, *(sheet[name] for sheet in sheets)) for name in on)
    columns = (Column("", numeric=False), *(Column(one.label, numeric=False) for one in series))
    return Table("How the runs were made", columns, rows)


def _facts(series: Series) -> dict[str, str]:
    settings = {name: shown(name, value) for name, value in series.settings}
    settings.pop("epochs scale")
    load = sum(stage.epochs * stage.max_lr for stage in series.stages)
    return {
        "epochs": str(series.num_epochs),
        "schedule": schedule(series.config.epochs_scale),
        "Σ epochs·λ": f"{load:.3g}",
        "seeds": numbers(series.seeds),
        **settings,
        "started": ", ".join(sorted({run.finished.record.started[:10] for run in series.runs})),
        "versions": "; ".join(dict.fromkeys(_versions(run.result) for run in series.runs)),
        "device": ", ".join(dict.fromkeys(run.result.device_name for run in series.runs)),
    }


def _versions(result: RunResult) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.versions.items())
