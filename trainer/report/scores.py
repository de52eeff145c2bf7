"""The accuracies of a run, by what picked its networks, and their names.

What differs in selection is never averaged, compared or drawn together.
"""

from dataclasses import dataclass

from schemas import CheckpointName, FoldResult, Selection
from trainer.records.facts import CHECKPOINTS, accuracy_of


@dataclass(frozen=True)
class Score:
    """An accuracy on the held-out fold that every fold of a selection has.

    Args:
        name: In headings.
        checkpoint: The network that has it.
    """

    name: str
    checkpoint: CheckpointName

    def percent(self, fold: FoldResult) -> float:
        """Return its value in %.

        Raises:
            ValueError: The fold was trained with a selection that does not give it.
        """
        accuracy = accuracy_of(fold, self.checkpoint)
        if accuracy is None:
            raise ValueError(f"fold {fold.fold} has no accuracy of its {self.checkpoint} network")
        return 100 * accuracy


PICKED_BY: dict[Selection, str] = {
    "heldout": "best epoch picked on the held-out fold itself, as in the paper",
    "validation": "epoch picked on a validation part of the training folds",
    "last": "no epoch picked: the last one counts",
}
"""Description of a selection, for its tables and its pictures."""

_NAMES: dict[Selection, tuple[str, ...]] = {
    "heldout": ("best epoch", "last epoch"),
    "validation": ("picked on the validation part",),
    "last": ("last epoch",),
}


def scores_of(selection: Selection) -> tuple[Score, ...]:
    """Return the accuracies of a selection, the one that counts first."""
    return tuple(map(Score, _NAMES[selection], CHECKPOINTS[selection]))
