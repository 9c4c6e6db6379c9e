#!/usr/bin/env python
"""Train a diffusion model, or one of its relatives (--system). See --help.

python scripts/train.py --config configs/digits.yaml
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from ms_ddpm.cli.train import main

if __name__ == "__main__":
    run(main)
