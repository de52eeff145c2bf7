"""Training methods, each a name and a list of cycles: the paper's, variations, the user's.

Source: PROTOCOL section 2, the table of 1cycles (the paper's Table 1 and text).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from featurestore import yamlfile
from featurestore.errors import UnknownNameError, cause, problem_text
from featurestore.text import did_you_mean
from featurestore.yamlfile import YamlError
from schemas import Cycle, FeatureSpec, MethodsFile, ResizeOperator, Stage, Variant
from schemas.feature_parts import FEATURES
from trainer.errors import ConfigError, UnknownMethodError
from trainer.recipes import ESC50, URBANSOUND8K, stage_rates

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from featurestore import StoredDataset

Methods = Mapping[str, tuple[Cycle, ...]]
"""Cycles of each method by its name."""
MAX_SCALE = 1000
_IMAGE_AXES = 2
_VARIANTS = frozenset(get_args(Variant))

WHOLE, DISCRIMINATIVE = 1.0, 1 / 3
"""Ratio of the body's learning rate to the head's."""


@dataclass(frozen=True)
class Method:
    """A named schedule.

    Args:
        name: Name of the method.
        cycles: Cycles of the schedule, at least one.
    """

    name: str
    cycles: tuple[Cycle, ...]


def _cycle(
    array: str,
    epochs: int,
    ratio: float,
    urbansound8k: float,
    esc50: float,
    alternate: str | None = None,
) -> Cycle:
    return Cycle(
        array=array,
        alternate=alternate,
        epochs=epochs,
        body_lr_ratio=ratio,
        max_lr={URBANSOUND8K: urbansound8k, ESC50: esc50},
    )


def _progressive(
    r1: str, r2: str, r3: str, other: str | None = None, last: int = 70
) -> tuple[Cycle, ...]:
    """Return the schedule of `mel` and `resize` over any three arrays.

    Args:
        r1: Array of the first two cycles.
        r2: Array of the third and fourth.
        r3: Array of the fifth and sixth.
        other: A variant that alternates with those of `r1` and `r2`.
        last: Epochs of the sixth cycle.
    """
    second = {array: f"{array.split('/')[0]}/{other}" if other else None for array in (r1, r2)}
    return (
        _cycle(r1, 20, WHOLE, 1e-2, 5e-3, second[r1]),
        _cycle(r1, 20, DISCRIMINATIVE, 1e-3, 5e-4, second[r1]),
        _cycle(r2, 20, WHOLE, 5e-3, 5e-3, second[r2]),
        _cycle(r2, 20, DISCRIMINATIVE, 5e-6, 5e-6, second[r2]),
        _cycle(r3, 20, WHOLE, 5e-3, 5e-3),
        _cycle(r3, last, DISCRIMINATIVE, 5e-6, 5e-6),
    )


MATCHED = 70 + 20
"""Epochs of the last cycle for a progressive schedule of the baseline's 190 instead of 170."""

METHODS: Methods = {
    "baseline": (
        _cycle("R3/full", 20, WHOLE, 1e-2, 5e-3),
        _cycle("R3/full", 50, DISCRIMINATIVE, 5e-6, 1e-4),
        _cycle("R3/full", 120, DISCRIMINATIVE, 1e-6, 1e-6),
    ),
    "mel": _progressive("R1/mel", "R2/mel", "R3/full"),
    "resize": _progressive("R1/resize", "R2/resize", "R3/full"),
    # From here on not the paper's (PROTOCOL section 4). What the schedule gains on its own:
    "control": _progressive("R3/full", "R3/full", "R3/full"),
    # `mel` changes the number of filters and the field of view; here each on its own.
    "mel-bands": _progressive("R1/mel-bands", "R2/mel-bands", "R3/full"),
    "mel-time": _progressive("R1/mel-time", "R2/mel-time", "R3/full"),
    # Both methods' images in turn, epoch by epoch.
    "alternate": _progressive("R1/mel", "R2/mel", "R3/full", other="resize"),
    # As many epochs as the baseline, so that the number of epochs explains no difference.
    "mel-matched": _progressive("R1/mel", "R2/mel", "R3/full", last=MATCHED),
    "resize-matched": _progressive("R1/resize", "R2/resize", "R3/full", last=MATCHED),
    "control-matched": _progressive("R3/full", "R3/full", "R3/full", last=MATCHED),
}

LEAST_SCALE = max(len(cycles) / sum(c.epochs for c in cycles) for cycles in METHODS.values())
"""Minimum scale of the epochs: the shortest schedule then has one epoch per stage."""


def find_method(
    name: str,
    methods_file: Path | str | None = None,
    resize_operator: ResizeOperator | None = None,
    own: Methods | None = None,
) -> Method:
    """Return a built-in or user-defined method, optionally with another resize operator.

    Args:
        name: A key of `METHODS`, or of the file.
        methods_file: YAML file with methods, see `own_methods`.
        resize_operator: Resize operator; unless bilinear, it becomes part of the name.
        own: Result of `own_methods` for the file, which is then not read again; or methods given
            from Python.

    Raises:
        UnknownMethodError: There is no such method.
        ConfigError: The file or a name in it is invalid, both are given, or the method has no
            resized images.
    """
    if own and methods_file:
        raise ConfigError("methods_file and own_methods are given: give one of them")
    if own:
        given = dict(own)
        own = _checked("own_methods", lambda: MethodsFile.model_validate(given))
    elif methods_file:
        own = own_methods(methods_file)
    methods = {**METHODS, **(own or {})}
    if name not in methods:
        raise UnknownMethodError(
            f"no method {name!r}; there are: {', '.join(methods)}{did_you_mean(name, methods)}"
        )
    if resize_operator is None:
        return Method(name, methods[name])
    if not _resizes(methods[name]):
        able = ", ".join(n for n, cycles in methods.items() if _resizes(cycles))
        raise ConfigError(
            f"resize operator {resize_operator!r}: the method {name!r} uses no resized image; "
            f"{able} do"
        )
    if resize_operator == "bilinear":
        return Method(name, methods[name])
    cycles = tuple(_resized_by(resize_operator, cycle) for cycle in methods[name])
    return Method(f"{name}-{resize_operator}", cycles)


def resizes(name: str, own: Methods | None = None) -> bool:
    """Return whether a method uses resized images, so that a resize operator applies.

    Raises:
        UnknownMethodError, ConfigError: See `find_method`.
    """
    return _resizes(find_method(name, own=own).cycles)


def _reserved_names() -> set[str]:
    """Return the names a file may not use: ours, also with an operator's name appended."""
    resizing = (name for name, cycles in METHODS.items() if _resizes(cycles))
    operators = get_args(ResizeOperator)
    return METHODS.keys() | {f"{n}-{o}" for n in resizing for o in operators}


def _is_resized(array: str | None) -> bool:
    return array is not None and array.endswith("/resize")


def _resizes(cycles: tuple[Cycle, ...]) -> bool:
    return any(_is_resized(c.array) or _is_resized(c.alternate) for c in cycles)


def _resized_by(operator: str, cycle: Cycle) -> Cycle:
    arrays = {"array": cycle.array, "alternate": cycle.alternate}
    return cycle.model_copy(
        update={field: f"{a}-{operator}" for field, a in arrays.items() if _is_resized(a)}
    )


def stages(
    method: Method, dataset: str, epochs_scale: float = 1.0, max_lr: str | None = None
) -> tuple[Stage, ...]:
    """Return the stages of a method on a dataset.

    Args:
        method: A method from `find_method`.
        dataset: Dataset whose learning rates are used, or ESC-50's if the method has none for it.
        epochs_scale: Factor for the epochs, in (0, MAX_SCALE]; see `scaled_epochs`.
        max_lr: Learning rates that replace the method's, one per stage, separated by commas; or
            `auto`, in which case all are `UNMEASURED` until a range test has been run.

    Raises:
        ConfigError: The scale is out of range, the method has no rate for the dataset, or `max_lr`
            is not a number above 0 for each stage.
    """
    if not 0 < epochs_scale <= MAX_SCALE:
        raise ConfigError(
            f"epochs_scale {epochs_scale}: expected a number above 0 and up to {MAX_SCALE}"
        )
    epochs = scaled_epochs([cycle.epochs for cycle in method.cycles], epochs_scale)
    rates = stage_rates(method.name, method.cycles, dataset, max_lr)
    return tuple(
        Stage(
            array=cycle.array,
            alternate=cycle.alternate,
            epochs=scaled,
            max_lr=rate,
            body_lr_ratio=cycle.body_lr_ratio,
        )
        for cycle, scaled, rate in zip(method.cycles, epochs, rates, strict=True)
    )


def scaled_epochs(epochs: Sequence[int], scale: float) -> list[int]:
    """Return the epochs of each stage of a shortened or lengthened schedule.

    Ratios are preserved as closely as integers allow. Between methods: the sum is rounded, not each
    stage, and the scale is at least `LEAST_SCALE`. Between stages: each gets its fraction of the
    sum, rounded down, but at least one epoch; the rest goes to the largest remainders.

    Args:
        epochs: Epochs of each stage of the whole schedule.
        scale: Factor for the epochs, above 0.
    """
    whole = sum(epochs)
    total = max(len(epochs), math.floor(whole * max(scale, LEAST_SCALE) + 0.5))
    shares = [total * part / whole for part in epochs]
    counts = [max(1, math.floor(share)) for share in shares]
    while (left := total - sum(counts)) != 0:
        # The stage that is furthest from its share, of those that can change.
        able = [at for at, count in enumerate(counts) if left > 0 or count > 1]
        worst = max(able, key=lambda at: (shares[at] - counts[at]) * left)
        counts[worst] += 1 if left > 0 else -1
    return counts


def scale_warning(scale: float, epochs: Sequence[int] = ()) -> str | None:
    """Return a warning if a schedule cannot be as short as requested.

    Args:
        scale: Factor for the epochs.
        epochs: Epochs of each stage of the whole schedule.
    """
    if len(epochs) > math.floor(sum(epochs) * max(scale, LEAST_SCALE) + 0.5):
        return (
            f"epochs_scale {scale:g} leaves fewer epochs than the method has stages: it is trained "
            f"for {len(epochs)}, one per stage, which is not its ratio to other methods"
        )
    if scale < LEAST_SCALE:
        return (
            f"epochs_scale {scale:g} is below {LEAST_SCALE:.3g}, at which every stage of the "
            "paper's methods has an epoch: all methods are trained as with that, in their ratio"
        )
    return None


def read_yaml(path: Path) -> object:
    """Read a user's YAML or JSON file; see `featurestore.yamlfile`.

    Raises:
        ConfigError: The file cannot be read, or is not valid YAML.
    """
    try:
        return yamlfile.read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {cause(error)}") from error
    except YamlError as error:
        raise ConfigError(f"{path}: is no YAML that is taken: {error}") from error


def own_methods(path: Path | str) -> dict[str, tuple[Cycle, ...]]:
    """Read user-defined methods from a YAML file, which maps names to lists of `schemas.Cycle`.

    Raises:
        ConfigError: The file cannot be read, a name is that of a built-in method, or a field is
            unknown or invalid; the message names the method, the stage and the field.
    """
    content = read_yaml(Path(path))
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: expected the names of methods, each with a list of stages")
    text = json.dumps(content)
    return _checked(path, lambda: MethodsFile.model_validate_json(text, strict=True))


def _checked(where: object, parse: Callable[[], MethodsFile]) -> dict[str, tuple[Cycle, ...]]:
    """Return the user's methods, none of which has the name of a built-in one.

    Raises:
        ConfigError: One has, or is invalid.
    """
    try:
        methods = parse().root
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{where}: {_problem(first)}") from error
    if repeated := sorted(methods.keys() & _reserved_names()):
        raise ConfigError(
            f"{where}: {', '.join(repeated)}: is a method already; give it another name"
        )
    return methods


def _problem(details: "ErrorDetails") -> str:
    """Describe a validation error with the method, the stage from 1, and the field."""
    method, *rest = (part for part in details["loc"] if part != "[key]")
    where = [str(method)]
    if rest and isinstance(rest[0], int):
        where.append(f"stage {int(rest.pop(0)) + 1}")
    if rest[:1] == ["max_lr"] and details["type"] != "missing":
        return f"{', '.join(where)}, max_lr: expected a number above 0, or one for each dataset"
    if details["type"] == "extra_forbidden":
        known = ", ".join(Cycle.model_fields)
        return f"{', '.join(where)}: no field {rest[0]!r}; there are: {known}"
    return f"{', '.join([*where, *map(str, rest)])}: {problem_text(details)}"


def check_arrays(dataset: "StoredDataset", method: str, schedule: tuple[Stage, ...]) -> None:
    """Check that the store has the arrays of a schedule, and that they can alternate.

    Args:
        dataset: An open store's dataset.
        method: Name of the method.
        schedule: Stages of the method.

    Raises:
        featurestore.errors.UnknownNameError: The store lacks an array; the message says how to
            build it.
        ConfigError: Two alternating arrays differ in shape, or one is not an image.
    """
    needed = [a for stage in schedule for a in (stage.array, stage.alternate) if a is not None]
    missing = list(dict.fromkeys(array for array in needed if array not in dataset.arrays))
    if missing:
        hint = f"The method {method!r} needs it: {_how_to_build(dataset, missing)}"
        raise UnknownNameError("array", missing[0], dataset.arrays, hint)
    for array in needed:
        if len(dataset.shape(array)) != _IMAGE_AXES:
            raise ConfigError(
                f"the method {method!r} trains on {array}, which is {dataset.shape(array)[0]} "
                "samples per clip: networks take arrays of (bands, frames), such as "
                f"{dataset.arrays[0]}"
            )
    for stage in schedule:
        if stage.alternate and dataset.shape(stage.array) != dataset.shape(stage.alternate):
            shapes = (f"{a} {dataset.shape(a)}" for a in (stage.array, stage.alternate))
            raise ConfigError(
                f"the method {method!r} alternates arrays that differ in (bands, frames): "
                f"{' and '.join(shapes)}"
            )


def _how_to_build(dataset: "StoredDataset", missing: list[str]) -> str:
    """Return the command for a store like this one with more variants, if that is all it lacks."""
    if lacking := [array for array in missing if array.startswith(f"{FEATURES}/")]:
        names = ", ".join(array.partition("/")[2] for array in lacking)
        return f"build another store with a --spec that has {names} under `features:`"
    pairs = [array.split("/") for array in missing]
    variants = list(dict.fromkeys(variant for _, variant in pairs))
    if not {r for r, _ in pairs} <= set(dataset.resolutions[:-1]) or not set(variants) <= _VARIANTS:
        return "no --variant adds it; build a store with a --spec that has that resolution"
    spec, default = dataset.manifest.spec, FeatureSpec()
    extra = [variant for variant in spec.variants if variant not in default.variants]
    options, remark = [*extra, *variants], ""
    command = f"featurestore build --dataset {dataset.dataset_name}"
    if spec != default.model_copy(update={"variants": (*default.variants, *extra)}):
        options, remark = variants, ", where SPEC is the spec file of this one"
        command += " --spec SPEC"
    command += "".join(f" --variant {variant}" for variant in options)
    name = "-".join([dataset.dataset_name, *variants])
    return f"build another store, `{command} --store {name}.zarr`{remark}"
