"""Accuracies published in the paper, for comparison in `trainer.report`. Data only.

Source: F. Colangelo, F. Battisti, A. Neri, "Progressive training of convolutional neural networks
for acoustic events classification"; PROTOCOL section 3. Accuracies are percentages.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Args:
        dataset: Name of the dataset in `featurestore`.
        splits: Accuracy in % on split 0, 1, … by method, of the best epoch on the split itself.
        printed: Mean and sample standard deviation by method as printed (truncated, not rounded).
        folds: Official fold that each split tests on; None if unknown.
        num_clips: Number of clips of all splits.
    """

    dataset: str
    splits: Mapping[str, tuple[float, ...]]
    printed: Mapping[str, tuple[float, float]]
    folds: tuple[int, ...] | None
    num_clips: int

    @property
    def basis(self) -> str:
        """Phrase with the numbers of clips, splits and seeds behind the table."""
        splits = len(next(iter(self.splits.values())))
        return f"the paper's: {self.num_clips:,} clips, {splits} splits, 1 seed"

    def by_split(self, method: str) -> dict[int, float]:
        """Return the accuracy in % by split number; empty for a method not in the paper."""
        return dict(enumerate(self.splits.get(method, ())))

    def by_fold(self, method: str) -> dict[int, float]:
        """Return the accuracy in % by official fold; empty if folds or method are unknown."""
        return dict(zip(self.folds or (), self.splits.get(method, ()), strict=False))


URBANSOUND8K = PaperTable(
    dataset="urbansound8k",
    splits={
        "baseline": (79.68, 79.41, 71.09, 76.98, 73.26, 84.61, 72.52, 66.16, 70.6, 71.59),
        "mel": (81, 83.57, 71.46, 81.98, 79.7, 85.57, 78.48, 63.45, 73.19, 74.79),
        "resize": (84.22, 79.41, 79.15, 75.29, 78.73, 86.43, 75.65, 68.97, 74.88, 71.59),
    },
    printed={"baseline": (74.59, 5.47), "mel": (77.31, 6.66), "resize": (77.43, 5.32)},
    # Computed: in this order 29 of the 30 values are whole clips of the fold's size, truncated.
    folds=(10, 9, 8, 7, 6, 5, 4, 3, 2, 1),
    num_clips=8732,
)

ESC50 = PaperTable(
    dataset="esc50",
    splits={
        "baseline": (68.5, 81.25, 74, 68.25, 70),
        "mel": (74.5, 83.5, 80.25, 73.5, 72.25),
        "resize": (71.74, 83.24, 73.25, 77.49, 74.25),
    },
    printed={"baseline": (72.4, 5.45), "mel": (76.8, 4.83), "resize": (75.99, 4.56)},
    # All five folds have 400 clips, so their sizes say nothing.
    folds=None,
    num_clips=2000,
)

PAPER = {table.dataset: table for table in (URBANSOUND8K, ESC50)}
