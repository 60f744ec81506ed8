"""`python -m blockjac` is the command line."""

import sys

from blockjac.cli import main

if __name__ == "__main__":
    sys.exit(main())
