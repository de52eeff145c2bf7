import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from trainer.training.step import batch_sums, totals


def test_batches_of_any_size_add_up_to_the_means_over_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(37, 5, generator=generator)
    labels = torch.randint(0, 5, (37,), generator=generator)
    sums = sum(
        batch_sums(cross_entropy(x, y), x, y)
        for x, y in zip(logits.split(16), labels.split(16), strict=True)
    )
    found = totals(sums)
    assert found.num_samples == 37
    assert found.loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-6)
    assert found.accuracy == (logits.argmax(1) == labels).float().mean().double().item() or (
        found.accuracy == pytest.approx((logits.argmax(1) == labels).sum().item() / 37)
    )
    assert found.finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_batch_makes_the_epoch_not_finite(bad: float) -> None:
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    sums = batch_sums(torch.tensor(bad), logits, labels)
    sums += batch_sums(torch.tensor(1.0), logits, labels)
    assert not totals(sums).finite


def test_many_small_losses_are_added_without_loss_of_precision() -> None:
    logits, labels = torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)
    one = batch_sums(torch.tensor(0.1), logits, labels)
    assert totals(one * 10_000_000).loss == pytest.approx(torch.tensor(0.1).item(), rel=1e-12)
