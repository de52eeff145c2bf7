"""What an epoch adds up, on the device, and what comes of it. Pure functions of tensors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Totals:
    """Outcome of a pass over `num_samples` samples.

    Args:
        loss: Mean cross-entropy in nats.
        accuracy: Share of samples whose largest logit is their class's, in [0, 1].
        num_samples: At least 1.
    """

    loss: float
    accuracy: float
    num_samples: int

    @property
    def finite(self) -> bool:
        """Whether the loss is a number."""
        return math.isfinite(self.loss)


def batch_sums(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """What one batch adds to an epoch; stays on the device, without waiting for it.

    Args:
        loss: () mean cross-entropy of the batch.
        logits: (b, classes).
        labels: (b,) int64.

    Returns:
        (3,) float64: sum of the losses, number of correct samples, number of samples.
    """
    correct = (logits.argmax(dim=1) == labels).sum()
    size = torch.full_like(loss, len(labels), dtype=torch.float64)
    return torch.stack([loss.detach() * size, correct.double(), size])


def totals(sums: Tensor) -> Totals:
    """Read the sum (3,) of `batch_sums` off the device: the one wait of an epoch."""
    loss, correct, size = sums.tolist()
    return Totals(loss / size, correct / size, int(size))
