"""Cost of a trainer's step in addition to the network.

Steps of the trainer and of the bare loop are timed in pairs, one right after the other, so that a
busy machine slows both. With a network that costs next to nothing, what remains is the overhead.
"""

import time
from collections.abc import Callable
from statistics import median, quantiles

from torch import Tensor, nn

from benchmarks.train.bare import BareLoop, ready_batches
from benchmarks.train.setting import Bench
from trainer.model import Network

_EPOCHS_OF_TINY = 20
_EPOCHS_A_ROUND = 5
"""Epochs of pairs per round: single pairs differ by a tenth, though nothing else does."""


class Tiny(Network):
    """A network of two small layers on an image's mean, which ignores the noise for dropout."""

    def __init__(self, num_classes: int) -> None:
        nn.Module.__init__(self)
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 8))
        self.head = nn.Linear(8, num_classes)  # type: ignore[assignment]
        self.noise_size = 1536

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the logits (b, classes) of images (b, 1, bands, frames)."""
        logits: Tensor = self.head(self.body(x))
        return logits


def paired_steps(bench: Bench, array: str) -> dict[str, float]:
    """Measure the processor time of a trainer's step over that of a bare one, on a CPU.

    Raises:
        RuntimeError: The device is a GPU, which steps do not wait for: see `against_bare`.
    """
    if bench.how.on_gpu:
        raise RuntimeError("steps are not timed one by one on a GPU; see the epochs")
    epochs = _EPOCHS_A_ROUND * bench.how.rounds
    pairs = _pairs(bench, array, bench.network, epochs, time.process_time)
    found = [ours / bare for ours, bare in pairs]
    low, _, high = quantiles(found, n=4)
    return {
        "trainer_step_over_bare": median(found),
        "low_quartile": low,
        "high_quartile": high,
        "pairs": len(found),
        "bare_ms": 1000 * median(bare for _, bare in pairs),
    }


def overhead(bench: Bench, array: str) -> dict[str, float]:
    """Measure by how many ms of thread time a trainer's step exceeds a bare one."""
    classes = len(bench.dataset.class_names)
    pairs = _pairs(bench, array, lambda: Tiny(classes), _EPOCHS_OF_TINY, time.thread_time)
    return {
        "overhead_ms_per_step": 1000 * median(ours - bare for ours, bare in pairs),
        "bare_ms_of_tiny_network": 1000 * median(bare for _, bare in pairs),
    }


def _pairs(
    bench: Bench,
    array: str,
    network: Callable[[], Network],
    epochs: int,
    clock: Callable[[], float],
) -> list[tuple[float, float]]:
    """Measure pairs of seconds: of a trainer's step, and of the bare step after it, eagerly."""
    how, shape = bench.how, bench.dataset.shape(array)
    order = bench.order()
    trainer = bench.trainer(bench.data(array), "eager", network())
    loop = BareLoop(how, "eager", network())
    ready = ready_batches(shape, how, len(bench.dataset.class_names))[0]
    found: list[tuple[float, float]] = []
    mark = 0.0

    def bare_step() -> None:
        nonlocal mark
        between = clock()
        loop.step(*ready)
        after = clock()
        found.append((between - mark, after - between))
        mark = clock()

    for epoch in range(1, epochs + 2):
        if epoch == 2:
            found.clear()  # warm by now
        mark = clock()
        trainer.run_epoch(order.windows(epoch), 0, bare_step)
    return found
