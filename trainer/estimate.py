"""How long a run will take, from its first steps on this machine, and what would shorten it.

A step's time is taken to grow with the points of an image, which holds for convolutions.
"""

import math
import time
from collections.abc import Callable, Mapping

from schemas import RunConfig

_EVALUATION = 1 / 3
"""Cost of a clip that is only evaluated, in clips trained on: backward costs two forward passes."""
_GFLOPS = {"resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09}
"""Forward passes of 224×224. Source: torchvision's table of models."""
_WARM_UP = 2
"""Steps that are not counted: they allocate memory, and choose and compile kernels."""
_LEAST_STEPS, _LEAST_S = 5, 5.0
_LONG_S = 3600.0
_SHORT_SCALE = 0.1


class Estimator:
    """Times the first steps of a run, and says once how long all of it will take, if that is long.

    Args:
        config: Config of the run.
        steps: Steps per epoch by held-out fold.
        evaluated: Clips evaluated after each epoch, by held-out fold.
        points: Bands × frames by array.
        clock: Returns seconds.
    """

    def __init__(
        self,
        config: RunConfig,
        steps: Mapping[int, int],
        evaluated: Mapping[int, int],
        points: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._points = config, points
        # In steps of training per epoch, over all folds.
        self._work = sum(steps.values()) + _EVALUATION * sum(evaluated.values()) / config.batch_size
        self._clock = clock
        self._counted = -_WARM_UP
        self._since = 0.0
        self._done = False

    def stop(self) -> None:
        """Count no more: what follows is no first step."""
        self._done = True

    def step(self) -> str:
        """Count a step of the first stage; return a line once the estimate is known, else "".

        A line is returned for long runs only.
        """
        if self._done:
            return ""
        self._counted += 1
        if self._counted == 0:
            self._since = self._clock()
        passed = self._clock() - self._since
        if self._counted < _LEAST_STEPS or passed < _LEAST_S:
            return ""
        self.stop()
        seconds = self.whole(passed / self._counted)
        return self._line(seconds) if seconds >= _LONG_S else ""

    def whole(self, step_s: float) -> float:
        """Return seconds for all folds, if a step of the first stage comes every `step_s`.

        The evaluation after each epoch is included.

        Folds in parallel share the machine: their steps come in turn.
        """
        first = self._points[self._config.stages[0].array]
        cost = sum(s.epochs * self._points[s.array] / first for s in self._config.stages)
        return step_s * cost * self._work

    def _line(self, seconds: float) -> str:
        text = f"about {duration(seconds)} in all, by the first steps"
        config, less = self._config, 1.0
        options = []
        if (ratio := _GFLOPS["resnet18"] / _GFLOPS[config.arch]) < 1:
            options.append("--arch resnet18")
            less *= ratio
        if config.epochs_scale > _SHORT_SCALE:
            options.append(f"--epochs-scale {_SHORT_SCALE}")
            less *= _SHORT_SCALE / config.epochs_scale
        if not options:
            return text
        return f"{text}; with {' '.join(options)} about {duration(seconds * less)}"


def duration(seconds: float) -> str:
    """Return a time in words, such as 40 s, 12 min, 4 h, 2.5 days."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{max(1, math.floor(seconds / size + 0.5))} {unit}"
    return f"{seconds / 86400:.1f} days"
