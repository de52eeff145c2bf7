"""Regularisers of a training step: mixup, SpecAugment, label smoothing. Pure functions of tensors.

Random numbers are an argument, so that a step can be compiled and recorded, and depends only on the
epoch's seed. Nothing waits for the device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from schemas import RunConfig
from trainer.task import TASKS, Task

_CELLS = 1024
"""Size of the table of mixing weights; a power of two, so that x < 1 gives x * size < size."""
_MIXING, _BANDS, _FRAMES = slice(0, 2), slice(2, 4), slice(4, 6)
_NOISE_SIZE = 6


@dataclass(frozen=True)
class Mixed:
    """Targets of a batch of mixed clips.

    Args:
        own: Labels of the clips themselves, from a `Source`.
        other: Labels of their partners.
        share: (b,) weight of the clip itself, in [0.5, 1].
    """

    own: Tensor
    other: Tensor
    share: Tensor


class Augmentation:
    """Augmentation of a training batch: clips are mixed first, then masked.

    Each kind has its own columns of random numbers, so that enabling one does not change those of
    the others.

    Args:
        config: Config with α of mixup, and the maximum fractions of masks.
        device: Device of the batches.

    Attributes:
        noise_size: Number of random numbers per clip; 0 if everything is disabled.
    """

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self._freq_mask, self._time_mask = config.freq_mask, config.time_mask
        self._shares = mixup_shares(config.mixup).to(device) if config.mixup else None
        used = config.mixup or config.freq_mask or config.time_mask
        self.noise_size = _NOISE_SIZE if used else 0

    def __call__(
        self, images: Tensor, labels: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor | Mixed]:
        """Return augmented images and their targets; the given ones if everything is off.

        Args:
            images: (b, 1, bands, frames) in [0, 1]; left as they are.
            labels: (b,) int64, or (b, classes) uint8.
            noise: (b, at least `noise_size`) in [0, 1), independent; the last columns are used.
        """
        if not self.noise_size:
            return images, labels
        targets: Tensor | Mixed = labels
        noise = noise[:, -self.noise_size :]
        if self._shares is not None:
            images, targets = mix(images, labels, self._shares, noise[:, _MIXING])
        if self._freq_mask or self._time_mask:
            hidden = _hidden(images.shape[2], self._freq_mask, noise[:, _BANDS])[:, None, :, None]
            hidden = (
                hidden | _hidden(images.shape[3], self._time_mask, noise[:, _FRAMES])[:, None, None]
            )
            images = torch.where(hidden, images.mean(dim=(1, 2, 3), keepdim=True), images)
        return images, targets


def training_loss(
    logits: Tensor,
    targets: Tensor | Mixed,
    smoothing: float = 0.0,
    task: Task = TASKS["multiclass"],
) -> Tensor:
    """Return the mean loss () in nats, weighted for mixed clips.

    Args:
        logits: (b, classes).
        targets: Labels from a `Source`, or targets of mixed clips.
        smoothing: Label smoothing factor, in [0, 1).
        task: Task that defines the loss.
    """
    if isinstance(targets, Tensor):
        return task.loss(logits, targets, smoothing)
    own, other = (task.losses(logits, of, smoothing) for of in (targets.own, targets.other))
    return torch.lerp(other, own, targets.share).mean()


def mixup_shares(alpha: float) -> Tensor:
    """Return quantiles of the larger of the two weights of a Beta(α, α) distribution.

    Returns:
        (n,) float32, increasing from 0.5 to 1, at evenly spaced probabilities from 0 to 1.
    """
    # The distribution is symmetric: the larger share's quantile of p is its own of (1 + p) / 2.
    quantiles = stats.beta.ppf(np.linspace(0.5, 1, _CELLS + 1), alpha, alpha)
    return torch.from_numpy(quantiles.astype(np.float32))


def mix(images: Tensor, labels: Tensor, shares: Tensor, noise: Tensor) -> tuple[Tensor, Mixed]:
    """Mix each clip with another of the batch: share · own + (1 - share) · other.

    Source: Zhang et al. 2018, with one weight per clip, of which its own is the larger, as in
    fastai.

    Args:
        images: (b, 1, bands, frames).
        labels: (b,) int64, or (b, classes) uint8.
        shares: Quantiles from `mixup_shares`.
        noise: (b, 2) in [0, 1).
    """
    position = noise[:, 0] * _CELLS
    below = position.long()
    share = torch.lerp(shares[below], shares[below + 1], position - below)
    num = len(labels)
    # A partner 1 … num - 1 places on, so never the clip itself.
    steps = 1 + (noise[:, 1] * (num - 1)).long()
    partner = (torch.arange(num, device=labels.device) + steps) % num
    mixed = torch.lerp(images[partner], images, share[:, None, None, None])
    return mixed, Mixed(labels, labels[partner], share)


def most_masked(share: float, size: int) -> int:
    """Return the maximum number of masked bands, or frames, of an image that has `size` of them."""
    return int(share * size)


def _hidden(size: int, most: float, noise: Tensor) -> Tensor:
    """Return one masked span for each image, of length 0 … most · size, all equally likely.

    Source: Park et al. 2019, SpecAugment.

    Args:
        size: Number of bands, or of frames.
        most: Largest fraction of them to mask, in [0, 1].
        noise: (b, 2) in [0, 1).

    Returns:
        (b, size) bool.
    """
    length = (noise[:, :1] * (most_masked(most, size) + 1)).long()
    start = (noise[:, 1:] * (size - length + 1)).long()
    index = torch.arange(size, device=noise.device)
    return (index >= start) & (index < start + length)
