"""Lightning over a store: python examples/lightning_module.py STORE [EPOCHS]."""

import sys

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

import featurestore
from trainer import BlockSampler, ZarrDataset

BATCH = 16


class Classifier(LightningModule):
    """A small CNN for images of any size: (b, 1, bands, frames) → (b, num_classes)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes)),
        )

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return functional.cross_entropy(self.net(images), labels)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        right = (self.net(images).argmax(1) == labels).float().mean()
        self.log("accuracy", right, batch_size=len(labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(path: str, epochs: int = 2) -> None:
    """Hold the first fold out, train on the others, print the accuracy."""
    seed_everything(0)
    store = featurestore.open_store(path)
    held_out, *others = store.folds
    train = ZarrDataset(path, store.arrays[0], folds=others)
    test = ZarrDataset(path, store.arrays[0], folds=[held_out])
    order = BatchSampler(BlockSampler(train, seed=0), BATCH, drop_last=False)
    in_turn = BatchSampler(SequentialSampler(test), BATCH, drop_last=False)

    trainer = Trainer(max_epochs=epochs, devices=1, logger=False, enable_checkpointing=False)
    model = Classifier(len(store.class_names))
    trainer.fit(model, DataLoader(train, sampler=order, batch_size=None))
    [found] = trainer.test(model, DataLoader(test, sampler=in_turn, batch_size=None), verbose=False)
    print(f"fold {held_out} held out: accuracy {found['accuracy']:.1%}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
