"""Reading, writing and locking files in untrusted directories.

A directory received from others can contain anything under an expected name: a link to a file
elsewhere, a pipe, a device, a file of 50 GB. So nothing is opened through a link, only plain files
are read, locked or appended to, all reads are bounded, and files are written atomically, replacing
whatever had the name. Both programs use this package for all such files.

Failures are OSError with the reason in words in `strerror`; callers add the context.
"""

from featurestore.files.locking import LockedError, is_at, lock_descriptor, locked
from featurestore.files.opening import (
    UnusableFileError,
    open_own,
    open_regular,
    read_regular,
    write_all,
)
from featurestore.files.writing import (
    TEMPORARY,
    check_output,
    create_file,
    flush_directory,
    is_temporary,
    replace_file,
    replacing,
    write_output,
)

__all__ = [
    "TEMPORARY",
    "LockedError",
    "UnusableFileError",
    "check_output",
    "create_file",
    "flush_directory",
    "is_at",
    "is_temporary",
    "lock_descriptor",
    "locked",
    "open_own",
    "open_regular",
    "read_regular",
    "replace_file",
    "replacing",
    "write_all",
    "write_output",
]
