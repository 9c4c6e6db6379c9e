#!/usr/bin/env python
"""MindSpore and PyTorch side by side: trains and samples one recipe in both, writes one page. See --help.

python scripts/compare.py --config configs/digits.yaml --steps 200
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from ms_ddpm_bench.compare.cli import main

if __name__ == "__main__":
    run(main)
