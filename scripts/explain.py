#!/usr/bin/env python
"""Draw what the parts of a convolutional network, and the kinds of noise, do to an image. See --help.

python scripts/explain.py --dataset digits28 --index 7
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from ms_ddpm.cli.explain import main

if __name__ == "__main__":
    run(main)
