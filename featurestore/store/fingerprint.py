"""What identifies a dataset's features: a digest, and the words for how two differ. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from featurestore.extraction.extractor import EXTRACTOR_VERSION
from schemas import Clip, FeatureSpec, StoreManifest


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def clips_sha256(clips: Iterable[Clip], class_names: Iterable[str]) -> str:
    """Digest of the clip list: every field of every row, in table order, and the classes' names."""
    rows = [[c.clip_id, c.path, c.fold, c.class_id, c.source] for c in clips]
    return digest([rows, list(class_names)])


def fingerprint(spec: FeatureSpec, clips: str, version: int = EXTRACTOR_VERSION) -> str:
    """Digest of all that determines the features: the spec, the clip list, the extractor.

    Args:
        spec: Of the features.
        clips: As `clips_sha256` gives it.
        version: Of the extractor.
    """
    return digest({"spec": spec.model_dump(mode="json"), "clips": clips, "extractor": version})


def differences(found: StoreManifest, wanted: StoreManifest) -> Iterator[str]:
    """In words, how a store's features differ from those asked for, but for the clip list."""
    old, new = (m.spec.model_dump(mode="json") for m in (found, wanted))
    for name in new:
        if old[name] != new[name]:
            yield f"{name} is {_short(old[name])}, asked for {_short(new[name])}"
    if found.extractor_version != wanted.extractor_version:
        yield (
            f"the extractor's version is {found.extractor_version}, "
            f"this program's {wanted.extractor_version}"
        )


_NAMED = 3
"""Clips of each kind of change that are named."""


def clip_differences(found: Iterable[Clip], wanted: Iterable[Clip]) -> str:
    """In words, how a store's clips differ from the dataset's."""
    old, new = ({clip.clip_id: clip for clip in clips} for clips in (found, wanted))
    kinds = {
        "gone": [key for key in old if key not in new],
        "new": [key for key in new if key not in old],
        "listed otherwise (path, fold, class or source)": [
            key for key in old if key in new and old[key] != new[key]
        ],
    }
    told = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds.items() if keys]
    changed = " and ".join(told) or "their order or the names of the classes changed"
    return f"{len(old)} clips in the store, {len(new)} in the dataset: {changed}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _short(value: object) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
