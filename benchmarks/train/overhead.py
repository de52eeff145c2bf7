"""The cost of a trainer's step in addition to the network: found where nothing else is timed.

Steps of the trainer and of the bare loop are timed in pairs, one right after the other, so that a
busy machine slows both. With a network that costs next to nothing what is left is the overhead.
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
"""Epochs of pairs per round: single ones differ by a tenth where nothing does."""


class Tiny(Network):
    """The mean of an image through two small layers; it takes the noise and ignores it."""

    def __init__(self, num_classes: int) -> None:
        nn.Module.__init__(self)
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 8))
        self.head = nn.Linear(8, num_classes)  # type: ignore[assignment]
        self.noise_size = 1536

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the logits of a batch."""
        logits: Tensor = self.head(self.body(x))
        return logits


def paired_steps(bench: Bench, array: str) -> dict[str, float]:
    """Return the time of a trainer's step over that of the bare loop, same network, on a CPU.

    Raises:
        RuntimeError: On a GPU, which steps do not wait for: whole epochs are compared there.
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
    """Measure the milliseconds of this thread that a trainer's step takes more than a bare one."""
    classes = len(bench.dataset.class_names)
    pairs = _pairs(bench, array, lambda: Tiny(classes), _EPOCHS_OF_TINY, time.thread_time)
    return {
        "overhead_ms_a_step": 1000 * median(ours - bare for ours, bare in pairs),
        "bare_ms_of_tiny_network": 1000 * median(bare for _, bare in pairs),
    }


def _pairs(
    bench: Bench,
    array: str,
    network: Callable[[], Network],
    epochs: int,
    clock: Callable[[], float],
) -> list[tuple[float, float]]:
    """Measure seconds of a trainer's step, and of the bare step after it, eagerly."""
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
