"""Who is right where: clips that one of two methods recognises and the other does not.

Two methods of equal accuracy may know different things; a mean over folds does not show it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from featurestore.text import mask_url
from trainer.report.render import Column, Table
from trainer.report.series import Series, common_clips
from trainer.report.tables import p_value, pairs
from trainer.stats import mcnemar_p

COLUMNS = (
    *(Column("first - second", numeric=False), Column("clips"), Column("both")),
    *(Column("only first"), Column("only second"), Column("neither"), Column("p of McNemar")),
)
ONLY_ONE = "Who is right where, clips that only one of two methods recognises"
NOTE = (
    "A clip counts once for every seed that both have. p: of McNemar's exact test, two-sided; only "
    "for one common seed, as a clip with another seed is no independent observation. Neither are "
    "clips of one recording, so p is somewhat too small."
)


class ComparedClip(NamedTuple):
    """A clip's held-out fold and class_id, and whether each of two methods recognises it."""

    clip_id: str
    fold: int
    label: int
    first: bool
    second: bool


@dataclass(frozen=True)
class Agreement:
    """Clips that two methods get right, over all seeds that both have.

    Args:
        first: The one expected to be better.
        second: The other.
        clips: Each clip once per seed.
    """

    first: Series
    second: Series
    clips: Sequence[ComparedClip]

    @property
    def seeds(self) -> set[int]:
        """Seeds that both have."""
        return set(self.first.seeds) & set(self.second.seeds)

    def counts(self, fold: int | None = None, label: int | None = None) -> tuple[int, ...]:
        """Return how many clips both, only the first, only the second and neither recognise."""
        counted = Counter(
            (clip.first, clip.second)
            for clip in self.clips
            if fold in (None, clip.fold) and label in (None, clip.label)
        )
        return tuple(
            counted[key] for key in ((True, True), (True, False), (False, True), (False, False))
        )


def agreements(series: Sequence[Series]) -> list[Agreement]:
    """Return the comparison of each pair of methods, by the networks of the score that counts."""
    checkpoint = series[0].scores[0].checkpoint
    compared = []
    for a, b in pairs(series):
        clips = [
            ComparedClip(name, x.fold, x.label, x.predicted == x.label, y.predicted == y.label)
            for name, x, y in common_clips(a, b, checkpoint)
        ]
        if a.method != b.method and clips:
            compared.append(Agreement(a, b, clips))
    return compared


def agreement_tables(series: Sequence[Series]) -> Iterator[Table]:
    """Yield who is right where: of each pair of methods, and by fold and by class."""
    compared = agreements(series)
    if not compared:
        return
    rows = []
    for one in compared:
        counts = one.counts()
        p = mcnemar_p(*counts[1:3]) if len(one.seeds) == 1 else None
        name = f"{one.first.label} - {one.second.label}"
        rows.append((name, str(len(one.clips)), *map(str, counts), p_value(p)))
    title = f"Who is right where, clips: {series[0].scores[0].name}"
    yield Table(title, COLUMNS, tuple(rows), NOTE)
    folds = sorted({clip.fold for one in compared for clip in one.clips})
    by_fold = {str(fold): [one.counts(fold=fold) for one in compared] for fold in folds}
    yield _only_one(f"{ONLY_ONE}, by fold", "fold", compared, by_fold)
    names = series[0].class_names
    by_class = {name: [one.counts(label=i) for one in compared] for i, name in enumerate(names)}
    yield _only_one(f"{ONLY_ONE}, by class", "class", compared, by_class)


def _only_one(
    title: str,
    what: str,
    compared: Sequence[Agreement],
    counts: Mapping[str, Sequence[tuple[int, ...]]],
) -> Table:
    """Return the clips that only one of two methods recognises."""
    columns = [Column(what, numeric=what == "fold")]
    for one in compared:
        group = f"{one.first.label}, {one.second.label}"
        columns += [Column(method.label, group) for method in (one.first, one.second)]
    rows = tuple(
        (mask_url(name), *(str(number) for of_pair in pairs_of for number in of_pair[1:3]))
        for name, pairs_of in counts.items()
    )
    return Table(title, tuple(columns), rows, detail=True)
