"""The `featurestore` program. Its own errors become one line and exit code 1.

Each command imports what it needs when it runs, so that `--help` and usage errors do not wait for
NumPy, Zarr and Dask.
"""

import sys
from collections.abc import Sequence

from featurestore.commands.browsing import browse
from featurestore.commands.building import build, repair
from featurestore.commands.datasets import datasets, download
from featurestore.commands.sharing import diff, export, ls
from featurestore.commands.stores import info, plot, verify
from featurestore.errors import FeatureStoreError
from featurestore.program import Program
from featurestore.safepath import safe_children
from featurestore.stopping import stoppable
from featurestore.terminal import harden, print_error, print_os_error

app = Program(
    name="featurestore",
    help="Turn a sound collection into multi-resolution mel-spectrograms, once.",
)
app.add(build, "featurestore build esc10 --root ~/data/ESC-50")
app.add(info, "featurestore info esc10.zarr")
app.add(verify, "featurestore verify esc10.zarr --root ~/data/ESC-50")
app.add(download, "featurestore download urbansound8k --root /big/disk/UrbanSound8K --yes")
app.add(repair, "featurestore repair esc10.zarr --root ~/data/ESC-50")
app.add(datasets, "featurestore datasets --json")
app.add(plot, "featurestore plot esc10.zarr --clip 1-100032-A-0.wav --out dog.png")
app.add(ls, "featurestore ls . s3://bucket/esc50.zarr")
app.add(diff, "featurestore diff esc10.zarr copy.zarr")
app.add(export, "featurestore export esc10.zarr --fold 1 --format npz --out fold1.npz")
app.add(browse, "featurestore browse esc10.zarr --root ~/data/ESC-50")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns:
        The exit code: 0 on success, 1 after an error the user can fix, 2 after wrong usage, 130
        after Ctrl-C, 143 after SIGTERM.
    """
    harden()
    with safe_children():
        return stoppable(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    try:
        app(args=None if argv is None else list(argv))
    except FeatureStoreError as error:
        print_error(error)
        return 1
    except OSError as error:
        print_os_error(error)
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
