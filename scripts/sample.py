#!/usr/bin/env python
"""Draw images from a trained model. See --help.

python scripts/sample.py --checkpoint runs/digits --num 64
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from ms_ddpm.cli.sample import main

if __name__ == "__main__":
    run(main)
