"""Learning tasks: one class per clip, or several labels or none.

Everything that differs between the two is here: the loss, the activation, what is counted on the
device per batch, and the score by which the best epoch is picked.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from schemas import Task as TaskName
from trainer.metrics import mean_average_precision


class Task:
    """One class per clip: cross-entropy, softmax, accuracy. Labels are (b,) int64.

    Attributes:
        score_field: Field of `EpochMetrics` with the score.
        keeps_probabilities: Whether `score` needs the probabilities of all clips.
    """

    score_field = "valid_accuracy"
    keeps_probabilities = False

    def losses(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the loss of each clip, (b,), in nats.

        Args:
            logits: (b, classes).
            labels: Labels from a `Source`.
            smoothing: Label smoothing factor, in [0, 1).
        """
        return cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the mean loss () over the clips of a batch; see `losses`."""
        return cross_entropy(logits, labels, label_smoothing=smoothing)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class, (b, classes), in the logits' dtype."""
        return torch.softmax(logits, dim=1)

    def num_correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the number of correct clips in a batch, ()."""
        return (logits.argmax(dim=1) == labels).sum()

    def score(self, counted: float, probabilities: list[Tensor], labels: list[Tensor]) -> float:
        """Return the score of an epoch, in [0, 1].

        Args:
            counted: Fraction of correct clips, in [0, 1].
            probabilities: Probabilities of all batches, if `keeps_probabilities`.
            labels: Labels of the same batches.
        """
        return counted


class SeveralLabels(Task):
    """Several labels per clip or none: binary cross-entropy per class, sigmoid, mean AP.

    Labels are (b, classes) uint8, multi-hot. Label smoothing moves both targets towards 1/2.
    """

    score_field = "valid_map"
    keeps_probabilities = True

    def losses(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Task`; losses are means over the classes."""
        # In float32, also under autocast: a class that is nearly always absent has a tiny loss.
        targets = labels.float() * (1 - smoothing) + smoothing / 2
        per_class = binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return per_class.mean(dim=1)

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """See `Task`."""
        return self.losses(logits, labels, smoothing).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        """See `Task`; classes are independent, so rows need not sum to 1."""
        return torch.sigmoid(logits)

    def num_correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `Task`: always 0, as clips rarely have all labels correct."""
        return torch.zeros((), dtype=torch.int64, device=logits.device)

    def score(self, counted: float, probabilities: list[Tensor], labels: list[Tensor]) -> float:
        """See `Task`: average precision, averaged over the classes that occur."""
        hot, values = (torch.cat(parts).cpu().numpy() for parts in (labels, probabilities))
        return mean_average_precision(hot, values)


TASKS: dict[TaskName, Task] = {"multiclass": Task(), "multilabel": SeveralLabels()}
"""Tasks by name in a run's config."""
