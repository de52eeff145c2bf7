"""Parsing of documents, with one-line errors.

Stores are not trusted. Only JSON of the expected form is accepted, and only what the schemas allow
is made of it.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from featurestore.errors import NewerError, first_problem
from featurestore.store.fingerprint import digest, fingerprint, manifest_digest, meaning
from schemas import FORMAT_VERSION, Schema, StoreManifest, StoreMark

T = TypeVar("T", bound=Schema)

Document = Mapping[str, Any]
"""A parsed zarr.json."""
DOCUMENT = "zarr.json"
"""File name of the metadata of a group or array."""
MARK = "featurestore"
"""Attribute that marks the root of a store as ours."""
MANIFEST_SIGN = "clips_sha256"
"""Attribute that only the groups of our datasets have."""
_ZARR_FORMAT = 3
_VERSION = "format_version"
_MOST_CHARS = 20


def parsed(data: bytes) -> Document:
    """Parse a zarr.json.

    Raises:
        ValueError: It is not a zarr.json; the message has one line.
    """
    try:
        document = json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("no JSON of ours: nested too deeply") from error
    if not isinstance(document, dict) or document.get("zarr_format") != _ZARR_FORMAT:
        raise ValueError(f"not the metadata of Zarr v{_ZARR_FORMAT}")
    return document


def attributes_in(document: Document) -> Mapping[str, Any]:
    """Return the attributes in a document.

    Raises:
        ValueError: They are not a mapping.
    """
    attributes = document.get("attributes")
    if not isinstance(attributes, dict):
        raise ValueError("attributes: are no mapping")  # noqa: TRY004  (of what was read)
    return attributes


def copies_in(document: Document) -> Mapping[str, Document]:
    """Return the copies of other documents in the root's document, by key without zarr.json."""
    consolidated = document.get("consolidated_metadata")
    copies = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    if not isinstance(copies, dict):
        return {}
    return {key: copy for key, copy in copies.items() if isinstance(copy, dict)}


def is_manifest(attributes: object) -> bool:
    """Return whether attributes are a manifest, possibly damaged."""
    return isinstance(attributes, dict) and MANIFEST_SIGN in attributes


def parse_mark(mark: object) -> StoreMark:
    """Parse the mark in the attributes of a root.

    Raises:
        NewerError: A newer version made it.
        ValueError: It is damaged.
    """
    _refuse_newer(mark)
    try:
        return _parse_strictly(StoreMark, mark)
    except ValidationError as error:
        raise ValueError(f"{MARK}.{first_problem(error)}") from error


def parse_manifest(attributes: Mapping[str, Any], dataset: str) -> StoreManifest:
    """Return the manifest in a dataset's attributes, which may contain other keys.

    Args:
        attributes: Attributes of the dataset's group.
        dataset: Name of the dataset's group.

    Raises:
        NewerError: A newer version made it.
        ValueError: It is damaged; the message has one line.
    """
    _refuse_newer(attributes)
    fields = {k: value for k, value in attributes.items() if k in StoreManifest.model_fields}
    if fields.get(_VERSION) == 1:
        fields.pop("digest", None)  # not ours in that version
    try:
        manifest = _parse_strictly(StoreManifest, fields)
    except ValidationError as error:
        _refuse_unknown_settings(error, fields)
        raise ValueError(first_problem(error)) from error
    if manifest.card.name != dataset:
        raise ValueError(f"card.name: is {manifest.card.name}")
    if manifest.format_version > 1 and manifest.digest != manifest_digest(manifest):
        raise ValueError("digest: is not that of the rest")
    spec, clips, version = manifest.spec, manifest.clips_sha256, manifest.extractor_version
    if manifest.fingerprint != fingerprint(spec, clips, version, manifest.libraries):
        raise ValueError("fingerprint: is not that of the spec, the clips and the extractor")
    return manifest


def _refuse_newer(says: object) -> None:
    version = says.get(_VERSION) if isinstance(says, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT_VERSION:
        raise NewerError(
            f"it has format version {_short(version)}, and this program knows those up to "
            f"{FORMAT_VERSION}: install the version that made it"
        )


def _refuse_unknown_settings(error: ValidationError, fields: Mapping[str, Any]) -> None:
    """Tell fields that a newer version has added from ones that damage has made."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if any(problem["type"] != "extra_forbidden" for problem in problems):
        return
    if fields.get("digest") == digest({k: v for k, v in fields.items() if k != "digest"}):
        raise NewerError(
            f"it was made with settings that this program does not know ({first_problem(error)}): "
            "install the version that made it"
        )


def _parse_strictly(kind: type[T], values: object) -> T:
    """Parse JSON values as a model, strictly: nothing defaulted, nothing converted."""
    model = kind.model_validate_json(json.dumps(values))
    for name, value in meaning(model).items():
        if not (isinstance(values, dict) and name in values):
            raise ValueError(f"{name}: is missing")
        if not same(values[name], value):
            raise ValueError(f"{name}: is not written as this format writes it")
    return model


def same(one: object, other: object) -> bool:
    """Return whether two JSON values are equal; 1 equals 1.0, but neither equals true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
