#!/usr/bin/env python
"""Move a model between PyTorch or another MindSpore port and ms_ddpm. See --help.

python scripts/convert.py from-torch model-100.pt --image_size 64 --output_dir runs/ported
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ms_ddpm.cli import run
from ms_ddpm.cli.convert import main

if __name__ == "__main__":
    run(main)
