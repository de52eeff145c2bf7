"""A plain PyTorch loop over a store: python examples/plain_pytorch.py STORE [EPOCHS]."""

import sys

import torch
from torch import nn
from torch.nn import functional
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
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store = featurestore.open_store(path)
    held_out, *others = store.folds
    train = ZarrDataset(path, store.arrays[0], folds=others)
    test = ZarrDataset(path, store.arrays[0], folds=[held_out])

    # The dataset makes whole batches (batch_size=None); each pass of the sampler is a new order.
    # Worker processes are optional; over a remote store they must be spawned, not forked.
    order = BatchSampler(BlockSampler(train, seed=0), BATCH, drop_last=False)
    start = "spawn" if "://" in path else None
    workers = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": start}
    train_loader = DataLoader(train, sampler=order, batch_size=None, **workers)
    in_turn = BatchSampler(SequentialSampler(test), BATCH, drop_last=False)
    test_loader = DataLoader(test, sampler=in_turn, batch_size=None)

    model = network(len(store.class_names)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            loss = functional.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        said = torch.cat([model(images.to(device)).argmax(1).cpu() for images, _ in test_loader])
    accuracy = (said.numpy() == test.labels).mean()
    print(f"fold {held_out} held out: accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
