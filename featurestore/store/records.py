"""Records of the committed blocks of an unfinished build.

A complete dataset has checksums of all chunks, whose digest is in the manifest. Until then, each
block has a record with the checksums of its chunks and of the paths it was built from, written
before its commit. So a chunk that is exchanged or changed while a build is interrupted, or a clip
table that changed during extraction, is detected before the dataset is completed. Records exist
from format version 2 on, and are removed on completion.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptError, cause
from featurestore.storage import Storage, overlap
from featurestore.store import chunks
from featurestore.store.checksums import checksums_key
from featurestore.store.layout import CHECKSUMS, column, first_checksums, written_arrays
from featurestore.store.plan import Block
from schemas import StoreManifest

Ends = Mapping[str, bytes]
"""Checksums of a block's chunks, four bytes each, joined by array, and of its paths (`PATHS`)."""
PATHS = "path"
"""Name of the checksum of paths in a record."""
_NAME = re.compile(r"fold\d+/block\d+")


def record_key(manifest: StoreManifest, block: Block) -> str:
    """Return the key of a block's record."""
    return f"{checksums_key(manifest, block.fold)}/block{block.start // manifest.block_clips}"


def record_object(manifest: StoreManifest, block: Block, ends: Ends) -> tuple[str, bytes]:
    """Return key and content of a block's record."""
    values = np.frombuffer(b"".join(ends[name] for name in (PATHS, *block_arrays(manifest))), "<u4")
    return record_key(manifest, block), chunks.encode_chunk(values, len(values), 0)


def read_record(storage: Storage, manifest: StoreManifest, block: Block) -> dict[str, bytes] | None:
    """Return the content of a block's record; None if there is none.

    Raises:
        CorruptError: The record is damaged.
    """
    counts = {PATHS: 1}
    counts |= {name: _num_chunks(manifest, name, block) for name in block_arrays(manifest)}
    values = np.empty(sum(counts.values()), "<u4")
    key = record_key(manifest, block)
    try:
        chunks.decode_chunk(storage.read(key, values.nbytes + chunks.OVERHEAD_BYTES), values)
    except FileNotFoundError:
        return None
    except (OSError, CorruptError) as error:
        raise CorruptError(f"{key}: {cause(error)}") from error
    data, ends, start = values.tobytes(), {}, 0
    for name, count in counts.items():
        ends[name] = data[start : start + count * chunks.CHECKSUM_BYTES]
        start += count * chunks.CHECKSUM_BYTES
    return ends


def recorded_end(
    storage: Storage, manifest: StoreManifest, fold: int, name: str, chunk: int
) -> bytes | None:
    """Return the checksum that a chunk of an unfinished build must have; None if unknown.

    Raises:
        CorruptError: The record is damaged.
    """
    if name not in block_arrays(manifest):
        return None
    rows = _chunk_rows(manifest, name)
    start = chunk * rows // manifest.block_clips * manifest.block_clips
    sizes = {part.fold: part.num_clips for part in manifest.folds}
    block = Block(fold, start, min(start + manifest.block_clips, sizes[fold]))
    ends = read_record(storage, manifest, block)
    if ends is None:
        return None
    at = chunks.CHECKSUM_BYTES * (chunk - start // rows)
    return ends[name][at : at + chunks.CHECKSUM_BYTES]


def changed_blocks(
    storage: Storage,
    manifest: StoreManifest,
    blocks: Iterable[Block],
    ends_of: Callable[[Block], Ends],
) -> list[Block]:
    """Return the committed blocks of an unfinished build that differ from what was committed.

    Blocks without a record are included, as they cannot be checked.

    Args:
        storage: Storage of the store.
        manifest: Manifest of the dataset.
        blocks: Committed blocks.
        ends_of: Returns the current checksums of a block.
    """

    def changed(block: Block) -> bool:
        try:
            record = read_record(storage, manifest, block)
            return record is None or record != ends_of(block)
        except CorruptError:
            return True

    todo = list(blocks)
    return [
        block for block, is_so in zip(todo, overlap(storage, changed, todo), strict=True) if is_so
    ]


def end_of_paths(paths: Iterable[str]) -> bytes:
    """Return the checksum (four bytes) of the paths of a block's clips."""
    return chunks.checksum("\0".join(paths).encode())


def sealed_ends(
    manifest: StoreManifest, block: Block, values: NDArray[np.uint32]
) -> dict[str, bytes]:
    """Return the checksums of a block's chunks, selected from those of all chunks of its fold.

    Args:
        manifest: Manifest of the dataset.
        block: Block.
        values: (n,) uint32, in the order of `checksums`.
    """
    sizes = {part.fold: part.num_clips for part in manifest.folds}
    first = first_checksums(manifest, sizes[block.fold])
    ends = {}
    for name in block_arrays(manifest):
        start = first[name] + block.start // _chunk_rows(manifest, name)
        stop = start + _num_chunks(manifest, name, block)
        ends[name] = values[start:stop].astype("<u4").tobytes()
    return ends


def has_records(storage: Storage, manifest: StoreManifest) -> bool:
    """Return whether there are records of blocks."""
    return any(_keys(storage, manifest))


def remove_records(storage: Storage, manifest: StoreManifest) -> None:
    """Remove all records of a complete dataset."""
    overlap(storage, storage.remove, list(_keys(storage, manifest)))


def _keys(storage: Storage, manifest: StoreManifest) -> Iterator[str]:
    prefix = f"{manifest.card.name}/{CHECKSUMS}"
    for key, _ in storage.sizes(prefix) if storage.listable else ():
        if _NAME.fullmatch(key[len(prefix) + 1 :]):
            yield key


def block_arrays(manifest: StoreManifest) -> tuple[str, ...]:
    """Return the arrays that blocks write, in the order of their records."""
    return written_arrays(manifest)


def _chunk_rows(manifest: StoreManifest, name: str) -> int:
    return column(manifest, name, 0).chunk_clips


def _num_chunks(manifest: StoreManifest, name: str, block: Block) -> int:
    return -(-len(block) // _chunk_rows(manifest, name))
