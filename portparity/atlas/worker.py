"""The process in which operators are asked: jobs in, rows out, a line of JSON each.

    python -m portparity.atlas.worker JOBS.json ROWS.jsonl

Before each step a line says which, so that whoever reads knows what ended the process.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from . import differences, judge
from .asked import MindSpore, Torch
from .entries import Entry


def main(jobs: str, out: str) -> None:
    """Does all jobs."""
    folder = Path(tempfile.mkdtemp(prefix="atlas-"))
    os.chdir(folder)  # MindSpore writes rank_0/ where it is when a graph cannot be parsed
    ours, torch = MindSpore(folder), Torch()
    with open(out, "w", encoding="utf-8") as file:

        def write(**line) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        for number, job in enumerate(json.loads(Path(jobs).read_text(encoding="utf-8"))):

            def tell(step: str, number=number) -> None:
                write(job=number, step=step)

            tell("")
            if "difference" in job:
                difference = differences.Difference(**job["difference"])
                rows = differences.rows_of(difference, job["modes"], ours, torch, job["skip"], tell)
            else:
                entry = Entry(**job["entry"])
                rows = judge.rows_of(entry, job["dtype"], job["modes"], ours, torch, job["skip"], tell)
            write(job=number, rows=[row.as_json() for row in rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # MindSpore may hang or crash while it is taken down
