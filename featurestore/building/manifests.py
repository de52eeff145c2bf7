"""The manifest of a store about to be built, and its differences from an existing one."""

import importlib.metadata
from collections.abc import Iterable

import numpy as np
import soundfile
from pydantic import ValidationError

from featurestore.datasets.base import Dataset
from featurestore.datasets.table import quoted
from featurestore.errors import CorruptError, DatasetError, FingerprintError, first_problem
from featurestore.store import plan
from featurestore.store.arrays import StoredArrays
from featurestore.store.cliptable import stored_clips
from featurestore.store.fingerprint import clip_differences, clips_sha256, differences, fingerprint
from featurestore.text import is_unicode
from schemas import (
    EXTRACTOR_VERSION,
    FORMAT_VERSION,
    PLAIN_VERSION,
    FeatureSpec,
    Fold,
    StoreManifest,
)

_LIBRARIES = ("numpy", "scipy", "soxr", "soundfile", "zarr", "numcodecs")
_OF_FEATURES = ("librosa", "numba")
_MAX_CLASS_NAME = 1000
"""Maximum number of characters of a class name: captions may be long."""


def plan_manifest(
    dataset: Dataset, spec: FeatureSpec, *, coordinates: bool = False
) -> StoreManifest:
    """Return the manifest of a store about to be built.

    Datasets with librosa features always get coordinates: nothing else describes their axes.

    Raises:
        DatasetError: The store format cannot hold it, such as too many folds or too long a name.
    """
    _check_texts(dataset)
    try:
        return _manifest(dataset, spec, coordinates=coordinates)
    except ValidationError as error:
        raise DatasetError(
            f"{dataset.root}: no store can hold it: {first_problem(error)}"
        ) from error


def _check_texts(dataset: Dataset) -> None:
    """Refuse texts that cannot be encoded, and class names that are too long for one."""
    card = dataset.card
    if long := next((name for name in card.class_names if len(name) > _MAX_CLASS_NAME), None):
        raise DatasetError(
            f"{dataset.root}: the class {quoted(long)} has {len(long):,} characters, expected "
            f"at most {_MAX_CLASS_NAME:,}; name another column with --columns class=COLUMN, "
            "or shorten it"
        )
    texts = {name: getattr(card, name) for name in ("title", "licence", "citation", "url")}
    for name, text in [*texts.items(), *(("class", name) for name in card.class_names)]:
        if not is_unicode(text):
            raise DatasetError(
                f"{dataset.root}: the {name} {text[:80]!a} is not valid Unicode text"
            )


def _manifest(dataset: Dataset, spec: FeatureSpec, *, coordinates: bool) -> StoreManifest:
    coordinates = coordinates or bool(spec.features)
    numbers, counts = np.unique(dataset.clips.fold, return_counts=True)
    sizes = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    chunk = min(plan.chunk_clips(sizes.values()), plan.most_clips(spec))
    block = plan.block_clips(spec, len(dataset.clips), chunk)
    clips = clips_sha256(dataset.clips, dataset.card.class_names)
    names = dataset.fold_names
    libraries = _library_versions(spec)
    folds = tuple(
        Fold(fold=fold, num_clips=size, name=names.get(fold, "")) for fold, size in sizes.items()
    )
    return StoreManifest(
        format_version=FORMAT_VERSION if dataset.is_new or coordinates else PLAIN_VERSION,
        extractor_version=EXTRACTOR_VERSION,
        fingerprint=fingerprint(spec, clips, libraries=libraries),
        clips_sha256=clips,
        spec=spec,
        card=dataset.card,
        folds=folds,
        num_clips=len(dataset.clips),
        chunk_clips=chunk,
        block_clips=block,
        order_seed=plan.ORDER_SEED,
        libraries=libraries,
        state="building",
        collection=dataset.collection,
        parts=dataset.has_parts,
        shards=dataset.has_shards,
        run_clips=block if dataset.in_groups else 0,
        multilabel=dataset.is_multilabel,
        official_clips=dataset.official_clips,
        spec_name=dataset.spec_name,
        coordinates=coordinates,
    )


def _library_versions(spec: FeatureSpec) -> dict[str, str]:
    names = _LIBRARIES + (_OF_FEATURES if spec.features else ())
    versions = {name: importlib.metadata.version(name) for name in names}
    return versions | {"libsndfile": soundfile.__libsndfile_version__}


def refuse_other(arrays: StoredArrays, planned: StoreManifest, dataset: Dataset) -> None:
    """Refuse to continue a store of other features or other clips.

    Raises:
        FingerprintError: They differ; the message says in what, and what to do.
    """
    if arrays.manifest.fingerprint == planned.fingerprint:
        return
    differing = list(differences(arrays.manifest, planned))
    if arrays.manifest.clips_sha256 != planned.clips_sha256:
        differing.append(_clip_differences(arrays, dataset))
    if not differing:
        differing.append(
            f"its fingerprint is {arrays.manifest.fingerprint[:12]}…, that of the same settings is "
            f"{planned.fingerprint[:12]}… here, so another version of this program made it"
        )
    raise FingerprintError(
        f"{arrays.storage} already contains {dataset.card.name}, but built with different "
        f"settings: {'; '.join(differing)}. Restore what it was built from, name another "
        "--store or delete it"
    )


def _clip_differences(arrays: StoredArrays, dataset: Dataset) -> str:
    try:
        return clip_differences(stored_clips(arrays), dataset.clips)
    except CorruptError:  # perhaps the other build has just started
        return "the clips are others"


def library_warnings(stored: StoreManifest, planned: StoreManifest) -> Iterable[str]:
    """Yield a warning if the versions of numerical libraries differ from the store's."""
    differing = [
        f"{name} {version} (now {planned.libraries.get(name)})"
        for name, version in stored.libraries.items()
        if planned.libraries.get(name) != version
    ]
    if differing:
        yield (
            f"the store was started with other library versions: {', '.join(differing)}. Clips "
            "built now may differ from the others in the last digits"
        )
