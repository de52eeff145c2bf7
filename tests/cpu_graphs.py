"""A recorder of steps with the rules of CUDA graphs, on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.training.acceleration import Replay, Step

_WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
"""Operations for which the host waits, which a recording does not permit."""


class _Tape(TorchDispatchMode):
    """The operations of a step, with the memory they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.made: set[int] = set()
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        if func in _WAITS:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            place = tensor.untyped_storage().data_ptr()
            if place not in self.made and place not in self.before:
                self.before[place] = (tensor, tensor.clone())
        result = func(*args, **kwargs)
        outputs = _tensors(result)
        known = self.made | self.before.keys()
        new = [out for out in outputs if out.untyped_storage().data_ptr() not in known]
        self.made.update(out.untyped_storage().data_ptr() for out in new)
        self.calls.append((func, args, kwargs, outputs))
        return result


def record_on_cpu(step: Step, inputs: tuple[Tensor, ...]) -> Replay:
    """Record a step for given tensors without any effect, as `record_graph` does.

    A replay repeats the step's operations in the memory of the recording, without its Python code.
    """
    tape = _Tape()
    with tape:
        step(*inputs)
    with torch.no_grad():
        # What a recorded operation computes is in its memory after a replay only.
        for *_, outputs in tape.calls:
            for out in outputs:
                if out.untyped_storage().data_ptr() in tape.made and out.is_floating_point():
                    out.fill_(torch.nan)
        for tensor, content in tape.before.values():
            tensor.copy_(content)

    def replay() -> None:
        with torch.no_grad():
            for func, args, kwargs, outputs in tape.calls:
                for out, value in zip(outputs, _tensors(func(*args, **kwargs)), strict=True):
                    out.copy_(value)

    return replay


def _tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
