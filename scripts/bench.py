"""How fast, how large: MindSpore against PyTorch on the same weights and inputs. See --help.

python scripts/bench.py --quick
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from ms_ddpm_bench.speed.cli import main

if __name__ == "__main__":
    run(main)
