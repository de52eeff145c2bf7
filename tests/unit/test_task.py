"""Learning tasks: one class per clip as ever, or several labels by binary cross-entropy."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from trainer.data.split import validation_clips
from trainer.task import TASKS
from trainer.training.augment import Mixed, mix, mixup_shares, training_loss
from trainer.training.step import batch_sums

ONE, SEVERAL = TASKS["multiclass"], TASKS["multilabel"]
LOGITS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
HOT = (torch.rand(8, 5, generator=torch.Generator().manual_seed(1)) < 0.4).to(torch.uint8)
HOT[:5] |= torch.eye(5, dtype=torch.uint8)  # each class occurs


def test_one_class_per_clip_keeps_its_loss_to_the_bit() -> None:
    labels = torch.arange(8) % 5
    assert ONE.loss(LOGITS, labels, 0.1).equal(cross_entropy(LOGITS, labels, label_smoothing=0.1))
    assert ONE.probabilities(LOGITS).equal(torch.softmax(LOGITS, dim=1))
    loss = cross_entropy(LOGITS, labels)
    correct = (LOGITS.argmax(dim=1) == labels).sum()
    assert batch_sums(loss, LOGITS, labels).tolist() == [loss.item() * 8, correct.item(), 8]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_several_labels_have_binary_cross_entropy(smoothing: float) -> None:
    targets = HOT.float() * (1 - smoothing) + smoothing / 2
    expected = binary_cross_entropy_with_logits(LOGITS, targets)
    torch.testing.assert_close(training_loss(LOGITS, HOT, smoothing, SEVERAL), expected)
    assert SEVERAL.probabilities(LOGITS).equal(torch.sigmoid(LOGITS))


def test_mixed_clips_of_several_labels_have_the_mixed_targets() -> None:
    share = torch.linspace(0.5, 1, 8)
    mixed = Mixed(HOT, HOT.roll(1, 0), share)
    targets = HOT * share[:, None] + HOT.roll(1, 0) * (1 - share[:, None])
    expected = binary_cross_entropy_with_logits(LOGITS, targets)
    torch.testing.assert_close(training_loss(LOGITS, mixed, 0.0, SEVERAL), expected)
    images = torch.rand(8, 1, 4, 4)
    _, found = mix(images, HOT, mixup_shares(0.4), torch.rand(8, 2))
    assert found.other.shape == HOT.shape


def test_the_score_of_several_labels_is_macro_ap_over_all_batches() -> None:
    probabilities = SEVERAL.probabilities(LOGITS)
    parts = [list(tensor.split(3)) for tensor in (probabilities, HOT)]
    expected = average_precision_score(HOT.numpy(), probabilities.numpy(), average="macro")
    assert SEVERAL.score(0.0, *parts) == pytest.approx(expected)
    assert ONE.score(0.25, [], []) == 0.25


def test_validation_clips_of_several_labels_are_a_share_of_each_and_of_those_without() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((600, 6)) < np.geomspace(0.5, 0.03, 6)).astype(np.uint8)
    groups = [str(number // 2) for number in range(600)]
    apart = validation_clips(groups, labels, 0.2, 0)
    with_none = np.column_stack([labels, ~labels.any(axis=1)]).astype(int)
    assert (abs(with_none[apart].sum(axis=0) - 0.2 * with_none.sum(axis=0)) <= 3).all()
    assert np.array_equal(apart[::2], apart[1::2])
