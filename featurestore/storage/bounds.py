"""Default upper bounds of the size of objects."""

import errno
from pathlib import PurePosixPath

from featurestore.files import UnusableFileError

MOST_DOCUMENT_BYTES = 64 << 20
"""Maximum size in bytes of a zarr.json; for 20 datasets, 50 classes and 10 folds it has 2 MB."""
MOST_BYTES = 1 << 30
"""Maximum size in bytes of other objects; a block of the largest accepted features is smaller."""


def most_bytes(key: str, max_bytes: int | None) -> int:
    """Return the maximum size of an object: the caller's bound, or the default of its kind."""
    if max_bytes is not None:
        return max_bytes
    return MOST_DOCUMENT_BYTES if PurePosixPath(key).name == "zarr.json" else MOST_BYTES


def too_large(key: str, num_bytes: int | str, most: int) -> UnusableFileError:
    """Return the error for an object that is larger than allowed."""
    size_text = num_bytes if isinstance(num_bytes, str) else f"{num_bytes:,}"
    return UnusableFileError(
        errno.EFBIG, f"it has {size_text} bytes, where at most {most:,} make sense", key
    )


def check_part(key: str, start: int, size: int) -> None:
    """Refuse a range that no object can have, before memory is allocated for it.

    Raises:
        UnusableFileError: The range starts before the object, or is too large.
    """
    if start < 0 or size < 0 or start > 1 << 62:
        raise UnusableFileError(errno.EINVAL, f"it has no bytes {start} to {start + size}", key)
    if size > MOST_BYTES:
        raise too_large(key, size, MOST_BYTES)
