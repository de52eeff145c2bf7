"""fastai over a store: python examples/fastai_learner.py STORE [EPOCHS]."""

import sys

import fastai.callback.all  # noqa: F401  (gives a Learner fit_one_cycle and no_bar)
from fastai.basics import DataLoaders, Learner, accuracy, set_seed
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

import featurestore
from trainer import BlockSampler, ZarrDataset

BATCH = 16


def network(num_classes: int) -> nn.Sequential:
    """A small CNN for images of any size: (b, 1, bands, frames) → (b, num_classes)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes)),
    )


def main(path: str, epochs: int = 2) -> None:
    """Hold the first fold out, train on the others, print the accuracy."""
    set_seed(0)
    store = featurestore.open_store(path)
    held_out, *others = store.folds
    train = ZarrDataset(path, store.arrays[0], folds=others)
    test = ZarrDataset(path, store.arrays[0], folds=[held_out])
    order = BatchSampler(BlockSampler(train, seed=0), BATCH, drop_last=False)
    in_turn = BatchSampler(SequentialSampler(test), BATCH, drop_last=False)
    loaders = DataLoaders(
        DataLoader(train, sampler=order, batch_size=None),
        DataLoader(test, sampler=in_turn, batch_size=None),
    )
    model = network(len(store.class_names))
    learner = Learner(loaders, model, loss_func=nn.CrossEntropyLoss(), metrics=accuracy)
    with learner.no_bar():
        learner.fit_one_cycle(epochs, 1e-2)
        _, found = learner.validate()
    print(f"fold {held_out} held out: accuracy {found:.1%}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
