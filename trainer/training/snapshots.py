"""Copies of what training changes, in memory that is used again.

After every epoch the network and the optimiser's state are copied, some 600 tensors. A clone of
each would take a GPU longer than a short epoch's steps; here one call copies all of a dtype.
"""

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

Path = tuple[Any, ...]
"""Keys that lead to a tensor in a state dict."""


class Snapshots:
    """Copies of a state dict, which is the same at each call but for what its tensors hold."""

    def __init__(self) -> None:
        self._buffers: list[dict[Path, Tensor]] = []

    def take(self, state: Mapping[Any, Any], in_use: Collection[int] = ()) -> dict[Any, Any]:
        """Return a deep copy of a state dict.

        Args:
            state: Tensors and plain values, also in dictionaries within.
            in_use: `id` of each tensor of earlier copies that must stay as it is; the memory of
                others is used again.
        """
        tensors = dict(tensors_in(state))
        for copies in self._buffers:
            free = not any(id(tensor) in in_use for tensor in copies.values())
            if free and copies.keys() == tensors.keys():
                break
        else:
            copies = {path: torch.empty_like(tensor) for path, tensor in tensors.items()}
            self._buffers.append(copies)
        _copy(tensors, copies)
        return _replaced(state, copies)


def tensors_in(state: Mapping[Any, Any], path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield the tensors of a state dict with their paths."""
    for name, value in state.items():
        if isinstance(value, Tensor):
            yield (*path, name), value
        elif isinstance(value, Mapping):
            yield from tensors_in(value, (*path, name))


@torch.no_grad()
def _copy(tensors: Mapping[Path, Tensor], to: Mapping[Path, Tensor]) -> None:
    # In one call if all are of one dtype, else one by one: batch normalisation's counters are
    # whole numbers.
    by_dtype = sorted(tensors, key=lambda path: str(tensors[path].dtype))
    for _, group in groupby(by_dtype, key=lambda path: tensors[path].dtype):
        paths = list(group)
        torch._foreach_copy_([to[p] for p in paths], [tensors[p] for p in paths])


def _replaced(
    state: Mapping[Any, Any], tensors: Mapping[Path, Tensor], path: Path = ()
) -> dict[Any, Any]:
    """Return a state dict with other tensors, and copies of all else."""
    copy = {}
    for name, value in state.items():
        place = (*path, name)
        if place in tensors:
            copy[name] = tensors[place]
        elif isinstance(value, Mapping):
            copy[name] = _replaced(value, tensors, place)
        else:
            copy[name] = deepcopy(value)
    return copy
