"""Processing of one batch: training step, evaluation step, prediction, and sums over an epoch.

A step is a function of tensors only, so that it can be compiled and recorded
(`trainer.training.acceleration`). It never waits for the device.
"""

import math
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas import LayerGroups, RunConfig
from trainer.data.source import Source, as_float32
from trainer.model import Network
from trainer.task import TASKS, Task
from trainer.training.acceleration import Forward, Step
from trainer.training.augment import Augmentation, training_loss
from trainer.training.device import autocast
from trainer.training.schedule import layer_ratios

BETA2, EPS = 0.99, 1e-8


@dataclass(frozen=True)
class Totals:
    """Mean loss and accuracy of a pass over `num_samples` clips.

    Args:
        loss: Mean loss in nats.
        accuracy: Fraction of clips that the task counts as correct, in [0, 1].
        num_samples: Number of clips, at least 1.
    """

    loss: float
    accuracy: float
    num_samples: int

    @property
    def finite(self) -> bool:
        """Whether the loss is finite."""
        return math.isfinite(self.loss)


def batch_sums(
    loss: Tensor, logits: Tensor, labels: Tensor, task: Task = TASKS["multiclass"]
) -> Tensor:
    """Return the sums of one batch for an epoch, on the device.

    Args:
        loss: () mean loss of the batch.
        logits: (b, classes).
        labels: Labels from a `Source`.
        task: Task that decides which clips are correct.

    Returns:
        (3,) float64: sum of the losses, number of correct clips, number of clips.
    """
    correct = task.num_correct(logits, labels)
    # On the device, and in float64: a sum of many losses in float32 would depend on their order.
    size = torch.full_like(loss, len(labels), dtype=torch.float64)
    return torch.stack([loss.detach() * size, correct.double(), size])


def totals(sums: Tensor) -> Totals:
    """Read the sums (3,) of `batch_sums` from the device: the only wait of an epoch."""
    loss, correct, size = sums.tolist()
    return Totals(loss / size, correct / size, int(size))


def make_train_step(
    optimizer: torch.optim.Optimizer,
    sums: Tensor,
    config: RunConfig,
    augment: Augmentation,
    network: Forward,
) -> Step:
    """Return a step that computes a batch's gradients, without the update.

    Args:
        optimizer: Optimiser, whose gradients are cleared first.
        sums: (3,) float64, to which the batch's sums are added.
        config: Config with precision and label smoothing.
        augment: Augmentation.
        network: The network, or its compiled form.
    """
    task = TASKS[config.task]

    def train_step(images: Tensor, labels: Tensor, noise: Tensor) -> None:
        # Freed rather than zeroed: a recorded step then owns its gradients' memory.
        optimizer.zero_grad(set_to_none=True)
        augmented, targets = augment(images, labels, noise)
        with autocast(config.precision, images.device):
            logits = network(augmented, noise)
            loss = training_loss(logits, targets, config.label_smoothing, task)
        loss.backward()  # type: ignore[no-untyped-call]
        # Accuracy counts the clips' own labels, also if they were mixed with others.
        sums.add_(batch_sums(loss, logits, labels, task))

    return train_step


def make_eval_step(
    sums: Tensor,
    config: RunConfig,
    kept: list[tuple[Tensor, Tensor]],
    network: Forward,
) -> Step:
    """Return a step that adds a batch's loss and number of correct clips to the sums.

    Args:
        sums: (3,) float64.
        config: Config with precision and task.
        kept: List to which the batch's probabilities and labels are appended, if the task needs
            them; such a step cannot be recorded.
        network: The network, in eval mode.
    """
    task = TASKS[config.task]

    def eval_step(images: Tensor, labels: Tensor) -> None:
        with autocast(config.precision, images.device):
            logits = network(images)
            loss = task.loss(logits, labels)
        sums.add_(batch_sums(loss, logits, labels, task))
        if task.keeps_probabilities:
            kept.append((task.probabilities(logits.float()), labels))

    return eval_step


@torch.inference_mode()
def predict(model: Network, source: Source, config: RunConfig) -> NDArray[np.float32]:
    """Return class probabilities (n, classes), see `Task.probabilities`, in the source's order.

    Args:
        model: Network on the source's device; it is left in eval mode.
        source: Source of the clips.
        config: Config with task, precision and batch size, so that results are bit-identical to
            those of evaluation.
    """
    model.eval()
    probabilities = []
    with closing(source.in_order(config.batch_size)) as batches:
        for images, _ in batches:
            with autocast(config.precision, images.device):
                logits = model(as_float32(images, source.scale))
            probabilities.append(TASKS[config.task].probabilities(logits.float()))
    return torch.cat(probabilities).cpu().numpy()


def make_optimizer(
    model: Network, body_lr_ratio: float, weight_decay: float, layer_groups: LayerGroups = 2
) -> torch.optim.AdamW:
    """Return AdamW on all trainable parameters, in layer groups.

    Each group's `lr_ratio` is the ratio of its learning rate to the cycle's, which is set at each
    step, see `layer_ratios`.

    Args:
        model: The network.
        body_lr_ratio: Ratio of the body's learning rate to the head's.
        weight_decay: Decoupled weight decay, per unit of learning rate.
        layer_groups: Number of groups, see `Network.layer_groups`.
    """
    groups = model.layer_groups(layer_groups)
    ratios = layer_ratios(body_lr_ratio, layer_groups)
    return torch.optim.AdamW(
        [{"params": g, "lr_ratio": ratio} for g, ratio in zip(groups, ratios, strict=True)],
        eps=EPS,
        weight_decay=weight_decay,
        fused=True,  # one pass over the parameters: 3 times faster on a CPU
    )
