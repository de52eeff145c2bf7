"""A comparison of runs by what they would compute, however their settings are spelled.

It compares the stages, and the effect of every other setting on them. Runs by different rules
(`carry`, `best_of`) are different even if both pick the same epochs, as each table of a report has
runs by one rule, and needs every method.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import get_args

from trainer.config import TrainingOptions
from trainer.errors import ConfigError
from trainer.plan import Plan
from trainer.selection import carrying, trained_arrays, unused_settings
from trainer.training.augment import most_masked
from trainer.training.device import Precision
from trainer.weights import INITS

Shape = Callable[[str], tuple[int, ...]]

_NOT_COMPARED = {
    # What results from them is compared instead.
    *("dataset", "method", "epochs_scale", "max_lr_from", "stages", "validation_share"),
    *("carry", "best_of", "freq_mask", "time_mask", "batch_size"),
    # They change no number, or, for the machine's, are the same in a whole sweep.
    *("allow_duplicates", "device", "acceleration", "threads"),
    # `auto` may become either: see `_may_be_equal`.
    *("init", "precision"),
}


@dataclass(frozen=True)
class Planned:
    """A run to compare with others.

    Args:
        name: Name of its directory.
        options: Options as given.
        plan: Its plan. On a cluster `init` and `precision` of the config may be `auto`; `init` is
            the digest of a file.
    """

    name: str
    options: TrainingOptions
    plan: Plan


def refuse_same(shape: Shape, runs: Collection[Planned]) -> None:
    """Refuse runs that would give the same numbers, which a report may take for several runs.

    Args:
        shape: Shape of each array of the dataset.
        runs: Runs to compare.

    Raises:
        ConfigError: Two of them would, or may: `auto` weights are ImageNet's or random, and another
            machine chooses the precision.
    """
    seen: dict[Hashable, list[Planned]] = defaultdict(list)
    for run in runs:
        alike = seen[computed(shape, run.plan)]
        for other in alike:
            one, two = other.plan.config, run.plan.config
            if _may_be_equal(one.init, two.init, INITS) and _may_be_equal(
                one.precision, two.precision, get_args(Precision)
            ):
                raise _refused(other, run)
        alike.append(run)


def computed(shape: Shape, plan: Plan) -> Hashable:
    """Return what a run computes, except for its initial weights and precision.

    Plans of one machine with equal results give the same numbers.
    """
    config, splits = plan.config, plan.splits.values()
    plain = config.model_dump(exclude=_NOT_COMPARED | unused_settings(config))
    stages = [(trained_arrays(s), s.epochs, s.max_lr, s.body_lr_ratio) for s in config.stages]
    # Rates that are not measured yet depend on other splits, too, and on where the tests end.
    is_measured = config.max_lr_from == "measured"
    batch = config.batch_size
    measured = (batch, config.validation_share, plan.sweep_end) if is_measured else None
    # A batch has no more clips than there are.
    clips = [max(split.num_train, split.num_valid, split.num_test) for split in splits]
    apart = [b"" if split.apart is None else split.apart.tobytes() for split in splits]
    shapes = [shape(array) for arrays, *_ in stages for array in arrays]
    shares = config.freq_mask, config.time_mask
    masks = [
        most_masked(share, n) for shape in shapes for share, n in zip(shares, shape, strict=True)
    ]
    # With any of these, dropout has other random numbers.
    noisy = any((config.mixup, *shares))
    return (
        *(tuple(plain.items()), tuple(stages), measured),
        *(min(batch, max(clips, default=batch)), sha256(b"".join(apart)).hexdigest()),
        *(tuple(masks), noisy, carrying(config)),
    )


def _may_be_equal(one: str, other: str, choices: Collection[str]) -> bool:
    """Return whether two values are equal, or may be once `auto` is one of the choices."""
    both = {one, other}
    return len(both) == 1 or ("auto" in both and both <= {"auto", *choices})


def _refused(first: Planned, second: Planned) -> ConfigError:
    names = [field.name for field in fields(TrainingOptions) if field.name != "own_methods"]
    values = {name: (getattr(first.options, name), getattr(second.options, name)) for name in names}
    differing = [f"{name}={a} and {name}={b}" for name, (a, b) in values.items() if a != b]
    apart = (
        "; if another method needs both values, sweep that method by itself, into the same --out"
        if first.options.method == second.options.method
        else ""
    )
    return ConfigError(
        f"{first.name} and {second.name} would be the same run: {', '.join(differing)} make no "
        f"difference there; leave one of them out{apart}"
    )
