"""`python -m featurestore`: the same as the program `featurestore`."""

import sys

from featurestore.cli import main

if __name__ == "__main__":
    sys.exit(main())
