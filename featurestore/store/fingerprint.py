"""Identity of a dataset's features: digests, and descriptions of differences. Pure.

All fields that a schema had when it was added to the format are digested, and later fields only if
they differ from their default. So a new field with a default does not change existing digests.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from featurestore.cliplist import ITEM, LABELS, NO_ITEM, SPAN, ClipList
from featurestore.text import quantity
from schemas import (
    EXTRACTOR_VERSION,
    Clip,
    DatasetCard,
    FeatureSpec,
    Fold,
    Resolution,
    Schema,
    StoreManifest,
    TrimSpec,
)
from schemas.librosa_features import (
    ChromaCqt,
    ChromaStft,
    Cqt,
    LogStft,
    Mfcc,
    Pcen,
    SpectralContrast,
    Waveform,
)

_FIRST_NAMES: Mapping[type[Schema], str] = {
    FeatureSpec: "sample_rate resampler max_duration_s trim n_fft win_length hop_length window "
    "pad_mode power mel_scale mel_norm fmin fmax amin top_db short_clips resolutions variants "
    "dtype",
    TrimSpec: "top_db frame_length pad_ms",
    Resolution: "name n_mels num_frames",
    Clip: "clip_id path fold class_id source",
    DatasetCard: "name title class_names licence citation url",
    Fold: "fold num_clips",
    StoreManifest: "format_version extractor_version fingerprint clips_sha256 spec card folds "
    "num_clips chunk_clips block_clips order_seed libraries state counts",
    # Since format version 3:
    Waveform: "name kind sample_rate num_samples",
    Mfcc: "name num_frames hop_length pad_mode n_fft win_length window n_mels fmin fmax "
    "htk mel_norm mel_power ref amin top_db kind n_mfcc dct_type norm lifter",
    Pcen: "name num_frames hop_length pad_mode n_fft win_length window n_mels fmin fmax "
    "htk mel_norm mel_power kind scale gain bias power time_constant eps max_size",
    LogStft: "name num_frames hop_length pad_mode n_fft win_length window ref amin top_db kind",
    SpectralContrast: "name num_frames hop_length pad_mode n_fft win_length window kind fmin "
    "n_bands quantile linear",
    ChromaStft: "name num_frames hop_length pad_mode n_fft win_length window norm tuning "
    "n_chroma kind ctroct octwidth base_c",
    Cqt: "name num_frames hop_length pad_mode fmin ref amin top_db kind n_bins "
    "bins_per_octave tuning filter_scale norm sparsity window scale res_type "
    "decibels",
    ChromaCqt: "name num_frames hop_length pad_mode fmin norm tuning n_chroma kind threshold "
    "n_octaves bins_per_octave cqt_mode",
}
"""For each schema in a store, the fields it had when it was added to the format; never extended."""
_LATER_FIELDS = (*SPAN, ITEM, LABELS)
LIBROSA = "librosa"
"""Name of the library whose version is part of a fingerprint."""
_CLIP_FIELDS = tuple(_FIRST_NAMES[Clip].split())
_FIRST_FIELDS = {model: frozenset(names.split()) for model, names in _FIRST_NAMES.items()}


def digest(value: object) -> str:
    """Return the SHA-256 digest (hex) of a JSON value in canonical form."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def meaning(model: Schema) -> dict[str, Any]:
    """Return a model as JSON values, without later fields that have their default.

    Later fields are those not in `_FIRST_NAMES`.
    """
    values = model.model_dump(mode="json")
    return {
        name: _meaning(getattr(model, name), values[name])
        for name in _telling(model, type(model).model_fields)
    }


def _meaning(value: object, json_value: Any) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(value, Schema):
        return meaning(value)
    if isinstance(value, list | tuple):
        return [_meaning(*pair) for pair in zip(value, json_value, strict=True)]
    if isinstance(value, dict):
        pairs = zip(value.values(), json_value.items(), strict=True)
        return {key: _meaning(part, json_part) for part, (key, json_part) in pairs}
    return json_value


def _telling(model: Schema, names: Iterable[str]) -> Iterator[str]:
    """Yield those fields that the schema had at first or that differ from their default."""
    kind = type(model)
    first = next((_FIRST_FIELDS[c] for c in kind.__mro__ if c in _FIRST_FIELDS), frozenset[str]())
    for name in names:
        default = kind.model_fields[name].get_default(call_default_factory=True)
        if name in first or getattr(model, name) != default:
            yield name


def clips_sha256(clips: Iterable[Clip], class_names: Iterable[str]) -> str:
    """Return the digest of the clip list (all fields, in table order) and the class names."""
    sha256, comma = hashlib.sha256(b"[["), ""
    columns = ClipList.of(clips)
    for batch in columns.batches(tuple(columns.columns())):
        later = {name: batch.pop(name) for name in _LATER_FIELDS if name in batch}
        rows = list(zip(*(batch[name] for name in _CLIP_FIELDS), strict=True))
        if later:
            values = zip(*later.values(), strict=True)
            rows = [(*row, *_later(later, of)) for row, of in zip(rows, values, strict=True)]
        sha256.update(f"{comma}{_canonical(rows)[1:-1]}".encode())
        comma = ","
    sha256.update(f"],{_canonical(list(class_names))}]".encode())
    return sha256.hexdigest()


def _later(names: Iterable[str], values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield what a clip says in fields that format version 1 did not have, if anything."""
    pairs = zip(names, values, strict=True)
    # NaN is the only value that differs from itself.
    known = {k: v for k, v in pairs if v == v and not (k == ITEM and v == NO_ITEM)}
    if known:
        yield known


def fingerprint(
    spec: FeatureSpec,
    clips: str,
    version: int = EXTRACTOR_VERSION,
    libraries: Mapping[str, str] | None = None,
) -> str:
    """Return the digest of everything that determines the features: spec, clip list, extractor.

    Args:
        spec: Spec of the features.
        clips: Digest from `clips_sha256`.
        version: Version of the extractor.
        libraries: Versions of libraries; that of librosa is used if the spec has features of it.
    """
    values: dict[str, object] = {"spec": meaning(spec), "clips": clips, "extractor": version}
    if spec.features:
        values[LIBROSA] = (libraries or {}).get(LIBROSA)
    return digest(values)


def manifest_digest(manifest: StoreManifest) -> str:
    """Return the digest of a manifest, without its own field for the digest."""
    return digest({k: value for k, value in meaning(manifest).items() if k != "digest"})


def signed(manifest: StoreManifest) -> StoreManifest:
    """Return a manifest with its digest; unchanged for format version 1, which has none."""
    if manifest.format_version == 1:
        return manifest
    return manifest.model_copy(update={"digest": manifest_digest(manifest)})


def differences(stored: StoreManifest, planned: StoreManifest) -> Iterator[str]:
    """Yield phrases on how a store's features differ from those requested, except the clip list."""
    old, new = (m.spec.model_dump(mode="json") for m in (stored, planned))
    for name in old | new:
        if old.get(name) != new.get(name):
            yield f"{name} is {_short(old.get(name))}, asked for {_short(new.get(name))}"
    versions = [m.libraries.get(LIBROSA, "not used") for m in (stored, planned)]
    if stored.spec.features and planned.spec.features and len(set(versions)) > 1:
        yield "librosa's version is {}, here {}".format(*versions)
    if stored.extractor_version != planned.extractor_version:
        yield (
            f"the extractor's version is {stored.extractor_version}, "
            f"this program's {planned.extractor_version}"
        )


_NAMED = 3
"""Maximum number of clips named per kind of change."""


def clip_differences(stored: Iterable[Clip], planned: Iterable[Clip]) -> str:
    """Return a phrase on how a store's clips differ from the dataset's."""
    old, new = (_by_id(ClipList.of(clips)) for clips in (stored, planned))
    kinds = {
        "gone": [key for key in old if key not in new],
        "new": [key for key in new if key not in old],
        "listed differently (path, fold, class or source)": [
            key for key in old if key in new and old[key] != new[key]
        ],
    }
    sentences = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys]
    changed = " and ".join(sentences) or "their order or the names of the classes changed"
    return f"{quantity(len(old), 'clip')} in the store, {len(new)} in the dataset: {changed}"


def _by_id(clips: ClipList) -> dict[str, tuple[Any, ...]]:
    """Return the row of each clip by its id."""
    rows = (row for b in clips.batches() for row in zip(*b.values(), strict=True))
    return {row[0]: tuple(map(repr, row)) for row in rows}


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _short(value: object) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
