"""The reference: the trainer's network, optimiser and step over ready tensors, and no more."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.train.setting import Setting, refuse
from schemas import Acceleration
from trainer.model import Network
from trainer.training.acceleration import Fallbacks, Forward, Step, accelerate
from trainer.training.step import make_optimizer

Batches = Sequence[tuple[Tensor, Tensor]]


def ready_batches(shape: tuple[int, int], how: Setting, num_classes: int) -> Batches:
    """Return an epoch of batches on the device: float32 (b, 1, bands, frames), int64 (b,)."""
    images = torch.rand(how.steps * how.batch, 1, *shape, device=how.device)
    labels = torch.randint(num_classes, (len(images),), device=how.device)
    images = images.to(memory_format=torch.channels_last)
    return list(zip(torch.split(images, how.batch), torch.split(labels, how.batch), strict=True))


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class BareLoop:
    """A network in training, without schedule, metrics and data loading."""

    def __init__(self, how: Setting, acceleration: Acceleration, network: Network) -> None:
        self._how = how
        network = network.to(how.device).to(memory_format=torch.channels_last).train()
        self._optimizer = make_optimizer(network, 1.0, 0.1)
        for group in self._optimizer.param_groups:
            group["lr"] = 1e-4
        self._step = accelerate(self._make, network, acceleration, Fallbacks(refuse))

    def _make(self, network: Forward) -> Step:
        bf16 = self._how.precision == "bf16"

        def step(images: Tensor, labels: Tensor) -> None:
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(
                images.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False
            ):
                loss = cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]

        return step

    def __call__(self, batches: Batches) -> None:
        """Do a step on every batch, and wait for the device."""
        for images, labels in batches:
            self.step(images, labels)
        wait(self._how.device)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Do one step, without waiting for the device."""
        self._step(images, labels)
        self._optimizer.step()
