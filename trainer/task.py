"""Learning tasks: one class per clip, or several labels, or none.

All that differs between the two is here: the loss, what logits become, what is counted on the
device in each batch, and the score by which the best epoch is picked.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from schemas import Task as TaskName
from trainer.metrics import mean_average_precision


class Task(Protocol):
    """Interface of a task: its loss, its probabilities and its score."""

    @property
    def score_field(self) -> str:
        """The field of `EpochMetrics` that has it."""

    def losses(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the loss of each clip, (b,), in nats.

        Args:
            logits: (b, classes).
            labels: As a `Source` gives them.
            smoothing: Label smoothing factor, in [0, 1).
        """

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the mean (), over the clips of a batch; see `losses`."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class, (b, classes), in the logits' dtype."""

    def num_correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return how many clips of a batch are recognised, (); 0 where that says nothing."""

    def score(self, counted: float, probabilities: list[Tensor], labels: list[Tensor]) -> float:
        """Return the score of an epoch, in [0, 1].

        Args:
            counted: Fraction of its clips that are recognised.
            probabilities: Of its batches, if `keeps_probabilities`.
            labels: Of the same batches.
        """

    @property
    def keeps_probabilities(self) -> bool:
        """Whether `score` needs the probabilities of all clips."""


@dataclass(frozen=True)
class OneClass:
    """Each clip is of one class: cross-entropy, softmax, accuracy. Labels are (b,) int64."""

    score_field: str = "valid_accuracy"
    keeps_probabilities: bool = False

    def losses(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Task`."""
        return cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Task`."""
        return cross_entropy(logits, labels, label_smoothing=smoothing)

    def probabilities(self, logits: Tensor) -> Tensor:
        """See `Task`; rows sum to 1."""
        return torch.softmax(logits, dim=1)

    def num_correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `Task`: clips whose largest logit is their class's."""
        return (logits.argmax(dim=1) == labels).sum()

    def score(self, counted: float, probabilities: list[Tensor], labels: list[Tensor]) -> float:
        """See `Task`."""
        return counted


@dataclass(frozen=True)
class SeveralLabels:
    """Clips have several labels or none: binary cross-entropy per class, sigmoid, mean AP.

    Labels are (b, classes) uint8, multi-hot. Label smoothing draws both targets towards 1/2.
    """

    score_field: str = "valid_map"
    keeps_probabilities: bool = True

    def losses(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Task`; the mean over the classes."""
        # In float32, also under autocast: a class that is nearly always absent has a tiny loss.
        targets = labels.float() * (1 - smoothing) + smoothing / 2
        per_class = binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return per_class.mean(dim=1)

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Task`."""
        return self.losses(logits, labels, smoothing).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        """See `Task`; each class's on its own, so rows have any sum."""
        return torch.sigmoid(logits)

    def num_correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `Task`: nothing is counted, as a clip is rarely recognised with all its labels."""
        return torch.zeros((), dtype=torch.int64, device=logits.device)

    def score(self, counted: float, probabilities: list[Tensor], labels: list[Tensor]) -> float:
        """See `Task`: average precision, the mean over the classes that occur."""
        hot, values = (torch.cat(parts).cpu().numpy() for parts in (labels, probabilities))
        return mean_average_precision(hot, values)


TASKS: dict[TaskName, Task] = {"multiclass": OneClass(), "multilabel": SeveralLabels()}
"""Tasks by their name in a run's config."""
