"""Agreement of a zarr.json with the manifest, in which additions by other tools are not damage.

Tools may change whitespace and order, add attributes, add groups and arrays next to ours and copies
of their metadata to the root's, and omit what has a default in Zarr.
"""

import json
from collections.abc import Mapping
from typing import Any

from featurestore.store.metadata import zarr_meaning
from featurestore.store.parsing import Document, copies_in, is_manifest, parsed, same
from schemas import StoreManifest

_ATTRIBUTES, _COPIES = "attributes", "consolidated_metadata"
_OURS = ("scale_factor",)
"""Attributes that change the meaning of values: they must be present or absent as expected."""
_NEVER_FOREIGN = {*_OURS, *StoreManifest.model_fields}
_APART = (_ATTRIBUTES, _COPIES)
_DEFAULTED = {"configuration", "endian", "storage_transformers", "dimension_names", "attributes"}
"""Keys that some versions of Zarr write and others omit if they have their default."""


def agrees(stored: Document, expected: Document) -> bool:
    """Return whether a document says what is expected and does not contradict it."""
    return (
        _attributes_agree(stored.get(_ATTRIBUTES), expected.get(_ATTRIBUTES, {}))
        and _copies_agree(stored, expected)
        and (_plainly_agrees(stored, expected) or _agrees_to_zarr(stored, expected))
    )


def _attributes_agree(stored: object, expected: Mapping[str, Any]) -> bool:
    if not isinstance(stored, dict):
        return False
    our_keys = {*expected, *_OURS}
    return all(same(stored.get(key), expected.get(key)) for key in our_keys)


def _copies_agree(stored: Document, expected: Document) -> bool:
    if _COPIES not in expected:
        return True
    copies = copies_in(stored)
    return all(
        key in copies and agrees(copies[key], document)
        for key, document in copies_in(expected).items()
    )


def _plainly_agrees(stored: Document, expected: Document) -> bool:
    our_fields = {key: value for key, value in expected.items() if key not in _APART}
    more = stored.keys() - our_fields.keys() - set(_APART)
    return not any(map(_must_be_understood, map(stored.get, more))) and all(
        key in stored and same(stored[key], value) for key, value in our_fields.items()
    )


def _must_be_understood(value: object) -> bool:
    return not isinstance(value, dict) or value.get("must_understand") is not False


def _agrees_to_zarr(stored: Document, expected: Document) -> bool:
    one, other = (zarr_meaning(_bare(document)) for document in (stored, expected))
    if one is None or other is None or not _keys(_bare(stored)) <= _keys(expected) | _DEFAULTED:
        return False  # a key that Zarr does not know it ignores, and takes the default
    return all(key in one and same(_listed(one[key]), _listed(other[key])) for key in other)


def _keys(value: object) -> set[str]:
    """Return the keys of a JSON value and of all in it, but for what need not be understood."""
    if isinstance(value, list):
        return set().union(*map(_keys, value))
    if not isinstance(value, dict) or not _must_be_understood(value):
        return set()
    return set(value).union(*map(_keys, value.values()))


def _bare(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != _COPIES} | {_ATTRIBUTES: {}}


def _listed(value: object) -> object:
    """Return Zarr's tuples as lists, and whatever else it has in them as text."""
    return json.loads(json.dumps(value, default=str))


def with_additions(data: bytes, old: bytes | None, datasets: tuple[str, ...] = ()) -> bytes:
    """Return a document with the additions that others made to the one it replaces.

    Args:
        data: New document.
        old: Existing document, if any; ignored if unreadable.
        datasets: For a root, the datasets that the new document names; copies of the metadata
            of our other datasets are dropped.
    """
    try:
        was = parsed(old or b"")
    except ValueError:
        return data
    new = parsed(data)
    merged: dict[str, Any] = _extended(new, was)
    if _COPIES in new:
        mine, old_copies = copies_in(new), copies_in(was)
        copies: dict[str, Document] = {
            key: _extended(copy, old_copies.get(key, {})) for key, copy in mine.items()
        }
        copies |= {
            key: copy
            for key, copy in old_copies.items()
            if key not in mine and (key.split("/")[0] in datasets or not _is_ours(old_copies, key))
        }
        if copies != mine:
            merged[_COPIES] = {**new[_COPIES], "metadata": _in_order(copies)}
    return data if merged == new else json.dumps(merged, indent=2).encode()


def _extended(new: Document, was: Document) -> dict[str, Any]:
    """Return a document with the attributes and extensions that another one had in addition.

    Not with copies of others: of before the change, these are of no use.
    """
    attributes, had = new[_ATTRIBUTES], was.get(_ATTRIBUTES)
    if isinstance(had, dict):
        attributes = {k: v for k, v in had.items() if k not in _NEVER_FOREIGN} | attributes
    more = {
        key: value
        for key, value in was.items()
        if key not in new and key not in _APART and not _must_be_understood(value)
    }
    return {**new, _ATTRIBUTES: attributes, **more}


def _in_order(copies: Mapping[str, Document]) -> dict[str, Document]:
    """Return groups before what is in them, as zarr-python demands, and nothing outside a group."""
    ordered: dict[str, Document] = {}
    for key in sorted(copies, key=lambda key: (key.count("/"), key)):
        group = key.rpartition("/")[0]
        if not group or group in ordered:
            ordered[key] = copies[key]
    return ordered


def _is_ours(copies: Mapping[str, Document], key: str) -> bool:
    """Return whether a copy is of a dataset of ours, or of something in one."""
    return is_manifest(copies.get(key.split("/")[0], {}).get(_ATTRIBUTES))
