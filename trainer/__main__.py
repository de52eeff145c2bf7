"""Run the `trainer` program, also by `python -m trainer`."""

import sys

from featurestore.stopping import load_and_run


def main() -> int:
    """Run the program; returns its exit code."""
    return load_and_run("trainer.cli")


if __name__ == "__main__":
    sys.exit(main())
