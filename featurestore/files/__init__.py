"""Reading, writing and locking files in directories that somebody else may have made.

A directory that was received can hold anything under the names that are used in it: a link to a
file elsewhere, a pipe, a device, a file of 50 GB. So nothing is opened through a link, nothing but
a plain file is read, locked or appended to, nothing is read without a bound, and what is written
appears whole or not at all, in place of whatever had the name. Both programs use this module, and
nothing else, for that.

What goes wrong is an OSError, of which `strerror` says in words what is the matter; callers know
the rest of the sentence.
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
