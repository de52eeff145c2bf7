"""Run the `featurestore` program by `python -m featurestore`."""

import sys

from featurestore.cli import main

if __name__ == "__main__":
    sys.exit(main())
