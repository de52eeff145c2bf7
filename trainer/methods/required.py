"""Whether a store has what a method's stages need, and else how to build one that has."""

from typing import get_args

from featurestore import StoredDataset
from featurestore.errors import UnknownNameError
from schemas import FeatureSpec, Stage, Variant
from trainer.errors import ConfigError

_KNOWN = frozenset(get_args(Variant))


def check_arrays(dataset: StoredDataset, method: str, schedule: tuple[Stage, ...]) -> None:
    """Refuse a schedule over arrays that the store lacks, or that cannot alternate.

    Args:
        dataset: Of the store.
        method: Name of the method.
        schedule: Its stages.

    Raises:
        featurestore.errors.UnknownNameError: The store lacks an array; says how to build it.
        ConfigError: Two arrays alternate that differ in shape.
    """
    needed = [a for stage in schedule for a in (stage.array, stage.alternate) if a is not None]
    missing = list(dict.fromkeys(array for array in needed if array not in dataset.arrays))
    if missing:
        hint = f"The method {method!r} needs it: {_how_to_build(dataset, missing)}"
        raise UnknownNameError("array", missing[0], dataset.arrays, hint)
    for stage in schedule:
        if stage.alternate and dataset.shape(stage.array) != dataset.shape(stage.alternate):
            shapes = (f"{a} {dataset.shape(a)}" for a in (stage.array, stage.alternate))
            raise ConfigError(
                f"the method {method!r} alternates arrays that differ in (bands, frames): "
                f"{' and '.join(shapes)}"
            )


def _how_to_build(dataset: StoredDataset, missing: list[str]) -> str:
    """The command for a store like this one with more variants, where variants are all it lacks."""
    pairs = [array.split("/") for array in missing]
    variants = list(dict.fromkeys(variant for _, variant in pairs))
    if not {r for r, _ in pairs} <= set(dataset.resolutions[:-1]) or not set(variants) <= _KNOWN:
        return "no --variant adds it; build a store with a --spec that has that resolution"
    spec, default = dataset.manifest.spec, FeatureSpec()
    extra = [variant for variant in spec.variants if variant not in default.variants]
    options, remark = [*extra, *variants], ""
    command = f"featurestore build --dataset {dataset.name}"
    if spec != default.model_copy(update={"variants": (*default.variants, *extra)}):
        options, remark = variants, ", where SPEC is the spec file of this one"
        command += " --spec SPEC"
    command += "".join(f" --variant {variant}" for variant in options)
    name = "-".join([dataset.name, *variants])
    return f"build another store, `{command} --store {name}.zarr`{remark}"
