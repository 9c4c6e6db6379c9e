#!/usr/bin/env python
"""Measure samples against the images they should look like. See --help.

python scripts/evaluate.py --samples runs/quickstart
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from ms_ddpm.cli.evaluate import main

if __name__ == "__main__":
    run(main)
