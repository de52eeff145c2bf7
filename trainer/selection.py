"""What each selection means: the networks it evaluates on the held-out fold, and its wording.

Whatever differs in selection is never averaged, compared or drawn together.
"""

from dataclasses import dataclass

from schemas import CheckpointName, Selection

OPTIMISTIC = (
    "the best epoch was picked on the held-out fold itself, so its accuracy there is optimistic; "
    "--checkpoint last was not picked by it"
)
"""Warning with every figure of the best network of selection `heldout`."""


@dataclass(frozen=True)
class Rule:
    """One way of picking the networks that count.

    Args:
        checkpoints: Networks evaluated on the held-out fold; the one that counts first.
        scores: The accuracies of these networks, as they are called in headings.
        picked_by: Phrase for headings and pictures.
        watched: The accuracy that is measured after each epoch.
        summary: Sentence under a run's result.
        note: How to read its figures, in a report.
    """

    checkpoints: tuple[CheckpointName, ...]
    scores: tuple[str, ...]
    picked_by: str
    watched: str
    summary: str
    note: str


RULES: dict[Selection, Rule] = {
    "heldout": Rule(
        checkpoints=("best", "last"),
        scores=("best epoch", "last epoch"),
        picked_by="best epoch picked on the held-out fold itself, as in the paper",
        watched="held-out accuracy",
        summary="The best epoch is chosen on the held-out fold itself: its figure is optimistic.",
        note="The best epoch is picked on the test fold itself, as in the paper, so its accuracy "
        "is optimistic. The last epoch is not picked; but each stage starts from the best epoch so "
        "far, which the test fold did pick, so it is not wholly free of it either.",
    ),
    "validation": Rule(
        checkpoints=("best",),
        scores=("picked on the validation part",),
        picked_by="epoch picked on a validation part of the training folds",
        watched="validation accuracy",
        summary="The epoch is picked on clips set apart from the training folds; the held-out fold "
        "was looked at once.",
        note="The epoch that counts, and the one each stage starts from, is picked on whole "
        "recordings set apart from the training folds. The held-out fold is looked at once, at the "
        "end: nothing of it leaks into these figures. The networks train on that many clips fewer.",
    ),
    "last": Rule(
        checkpoints=("last",),
        scores=("last epoch",),
        picked_by="no epoch picked: the last one counts",
        watched="held-out accuracy",
        summary="Nothing is picked: the last epoch counts.",
        note="Nothing is picked: each stage continues from the last epoch of the one before, and "
        "the last epoch of all counts. The held-out fold is watched and changes nothing, so there "
        "is no best epoch here.",
    ),
}
