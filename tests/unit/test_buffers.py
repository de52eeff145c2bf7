"""Copies to a GPU, as far as a CPU can tell: pinned, without waiting, never during a recording."""

import threading
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data import buffers
from trainer.oom import release
from trainer.training.device import alone_on_gpu

GPU = torch.device("cuda")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A record, in order, of the calls to CUDA, none of which does anything."""
    done: list[str] = []

    class Stream:
        def synchronize(self) -> None:
            done.append("synchronised")

    def pinned(tensor: Tensor) -> Tensor:
        done.append("pinned")
        return tensor

    def to(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        done.append(f"copied to {device}{' without waiting' if non_blocking else ''}")
        return tensor

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(Tensor, "pin_memory", pinned)
    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(buffers, "_loading_stream", buffers._loading_stream.__wrapped__)
    return done


@pytest.mark.parametrize("values", [np.arange(3), torch.arange(3)])
def test_what_is_uploaded_is_pinned_and_the_host_does_not_wait(
    calls: list[str], values: NDArray[np.int64] | Tensor
) -> None:
    buffers.upload(values, GPU)
    assert calls == ["pinned", "copied to cuda without waiting"]


def load() -> None:
    with buffers.loading_onto(GPU):
        buffers.upload(np.arange(3), GPU)


@pytest.mark.parametrize("use", [load, lambda: release(ValueError())])
def test_nothing_is_loaded_or_released_while_a_step_is_recorded(
    calls: list[str], use: Callable[[], None]
) -> None:
    thread = threading.Thread(target=use, daemon=True)
    with alone_on_gpu() as alone:
        assert alone
        thread.start()
        thread.join(0.05)
        assert calls == []
    thread.join(60)
    assert calls in (["pinned", "copied to cuda without waiting", "synchronised"], ["emptied"])
