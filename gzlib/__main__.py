"""``python -m gzlib``: the command line of :mod:`gzlib.cli`."""

import sys

from gzlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
