"""The parity harness: does MindSpore compute what PyTorch computes? See --help.

python scripts/parity.py check
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from parity_tests.cli import main

if __name__ == "__main__":
    run(main)
