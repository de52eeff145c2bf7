"""What a network says of a split: the pass that training's own accuracy is made of."""

from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray

from schemas import RunConfig
from trainer.data.interface import Split, as_float32
from trainer.network.model import Network
from trainer.training.device import autocast


@torch.inference_mode()
def answers(model: Network, split: Split, config: RunConfig) -> NDArray[np.float32]:
    """Probabilities (n, classes), rows of sum 1, in the split's order.

    Args:
        model: On the split's device; it is left in eval mode.
        split: Whatever is asked about.
        config: Gives precision and batch size, so that the bits are those of validation.
    """
    model.eval()
    found = []
    with closing(split.in_order(config.batch_size)) as batches:
        for images, _ in batches:
            with autocast(config.precision, images.device):
                logits = model(as_float32(images, split.scale))
            found.append(torch.softmax(logits.float(), dim=1))
    return torch.cat(found).cpu().numpy()
