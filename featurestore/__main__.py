"""Run the `featurestore` program, also by `python -m featurestore`."""

import sys

from featurestore.stopping import load_and_run


def main() -> int:
    """Run the program; returns its exit code."""
    return load_and_run("featurestore.cli")


if __name__ == "__main__":
    sys.exit(main())
