"""Does a zarr.json say what the manifest demands? What other tools may add to it is no damage.

They may write it with other spaces or in another order, add attributes, add groups and arrays next
to ours and copies of their metadata to the root's, and leave Zarr to fill in what has a default.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from featurestore.store.metadata import zarr_meaning
from featurestore.store.parsing import Document, copies_in, is_manifest, parsed, same
from schemas import StoreManifest

_ATTRIBUTES, _COPIES = "attributes", "consolidated_metadata"
_OURS = ("scale_factor",)
"""Attributes of arrays that change what their values mean: there or not there as demanded."""
_NEVER_FOREIGN = {*_OURS, *StoreManifest.model_fields}
_APART = (_ATTRIBUTES, _COPIES)
_DEFAULTED = {"configuration", "endian", "storage_transformers", "dimension_names", "attributes"}
"""Keys that some versions of Zarr write and others leave out, where they have their default."""


def agrees(found: Document, expected: Document) -> bool:
    """Whether a document says what is expected, and nothing that contradicts it."""
    return (
        _attributes_agree(found.get(_ATTRIBUTES), expected.get(_ATTRIBUTES, {}))
        and _copies_agree(found, expected)
        and (_plainly_agrees(found, expected) or _agrees_to_zarr(found, expected))
    )


def _attributes_agree(found: object, expected: Mapping[str, Any]) -> bool:
    if not isinstance(found, dict):
        return False
    ours = {*expected, *_OURS}
    return all(same(found.get(key), expected.get(key)) for key in ours)


def _copies_agree(found: Document, expected: Document) -> bool:
    if _COPIES not in expected:
        return True
    copies = copies_in(found)
    return all(
        key in copies and agrees(copies[key], document)
        for key, document in copies_in(expected).items()
    )


def _plainly_agrees(found: Document, expected: Document) -> bool:
    ours = {key: value for key, value in expected.items() if key not in _APART}
    more = found.keys() - ours.keys() - set(_APART)
    return not any(map(_must_be_understood, map(found.get, more))) and all(
        key in found and same(found[key], value) for key, value in ours.items()
    )


def _must_be_understood(value: object) -> bool:
    return not isinstance(value, dict) or value.get("must_understand") is not False


def _agrees_to_zarr(found: Document, expected: Document) -> bool:
    one, other = (zarr_meaning(_bare(document)) for document in (found, expected))
    if one is None or other is None or not _keys(_bare(found)) <= _keys(expected) | _DEFAULTED:
        return False  # a key that Zarr does not know it ignores, and takes the default
    return all(key in one and same(_listed(one[key]), _listed(other[key])) for key in other)


def _keys(value: object) -> set[str]:
    """The keys of a JSON value and of all in it, but for what need not be understood."""
    if isinstance(value, list):
        return set().union(*map(_keys, value))
    if not isinstance(value, dict) or not _must_be_understood(value):
        return set()
    return set(value).union(*map(_keys, value.values()))


def _bare(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != _COPIES} | {_ATTRIBUTES: {}}


def _listed(value: object) -> object:
    """Zarr's tuples as lists, and whatever else it has in them as text."""
    return json.loads(json.dumps(value, default=str))


def with_additions(data: bytes, old: bytes | None, datasets: tuple[str, ...] = ()) -> bytes:
    """A document with what others had added to the one that it replaces.

    Args:
        data: The new one.
        old: The one that is there, if any; where it is unreadable nothing of it is kept.
        datasets: That the new one names, of a root: of ours that it does not name no copy is kept.
    """
    try:
        was = parsed(old or b"")
    except ValueError:
        return data
    new = parsed(data)
    attributes = {
        key: value
        for key, value in _more(was.get(_ATTRIBUTES), new[_ATTRIBUTES])
        if key not in _NEVER_FOREIGN
    }
    copies = {
        key: copy
        for key, copy in _more(copies_in(was), copies_in(new))
        if key.split("/")[0] in datasets or not _is_ours(copies_in(was), key)
    }
    extensions = {k: v for k, v in was.items() if k not in new and not _must_be_understood(v)}
    if _COPIES not in new:
        copies = {}
        extensions.pop(_COPIES, None)  # of before the change, and of no use to us
    if not (attributes or copies or extensions):
        return data
    merged = {**new, _ATTRIBUTES: {**new[_ATTRIBUTES], **attributes}, **extensions}
    if copies:
        merged[_COPIES] = {**new[_COPIES], "metadata": {**copies_in(new), **copies}}
    return json.dumps(merged, indent=2).encode()


def _more(was: object, new: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(was, dict):
        yield from ((key, value) for key, value in was.items() if key not in new)


def _is_ours(copies: Mapping[str, Document], key: str) -> bool:
    """Whether a copy is of a dataset of ours, or of something in one."""
    return is_manifest(copies.get(key.split("/")[0], {}).get(_ATTRIBUTES))
