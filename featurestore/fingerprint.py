"""What identifies a dataset's features: a digest, and the words for how two differ. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator

from featurestore.extractor import EXTRACTOR_VERSION
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
    """In words, each thing in which a store differs from what was asked for."""
    old, new = (m.spec.model_dump(mode="json") for m in (found, wanted))
    for name in new:
        if old[name] != new[name]:
            yield f"{name} is {_short(old[name])}, asked for {_short(new[name])}"
    if found.extractor_version != wanted.extractor_version:
        yield (
            f"the extractor's version is {found.extractor_version}, "
            f"this program's {wanted.extractor_version}"
        )
    if found.clips_sha256 != wanted.clips_sha256:
        yield (
            f"the clip list differs ({found.num_clips} clips in the store, "
            f"{wanted.num_clips} in the dataset's table)"
        )


def _short(value: object) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
