"""``python -m portparity``."""

import sys

from .cli import main

if __name__ == "__main__":  # processes of their own import this module too
    sys.exit(main())
