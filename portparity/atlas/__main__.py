"""The command: portparity operators."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import AGREE, HarnessError
from ..files import read_text, write_atomically
from . import differences, entries, page, rows, worst
from .run import DTYPES, MODES, run

DESCRIPTION = """Whose float32 is right? Every operator of MindSpore's that networks use, beside PyTorch's.

  portparity operators --output_dir atlas          all of it, some minutes; atlas/atlas.html is the page
  portparity operators --output_dir atlas --only ops.exp --only 'mint.*'       a few operators, in seconds
  portparity operators --output_dir atlas --dtype float32 --mode graph
  portparity operators --list                      the operators and questions, one a line

Each operator is given ordinary, tiny, huge and special numbers (NaN, Inf, -0, ties), empty and one-element tensors, and
both frameworks' results and gradients are held against PyTorch's in float64. The unit is the ulp: how many floats lie
between a result and the float64 value rounded once. PyTorch is measured by the same rule and stands beside it.

Verdicts:
{verdicts}

Written to the output directory: atlas.html (to sort and search, a reproducer for each offender), atlas.json (the rows),
worst.md (the twenty worst). An operator that ends the process is a row, and the rest goes on.
Exit codes: 0 the atlas is written, whatever it says; 2 it could not be made; 3 no operator has that name.
"""


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    verdicts = "\n".join(f"  {verdict:<11} {meaning}" for verdict, meaning in rows.VERDICTS.items())
    made = argparse.ArgumentParser(
        prog="portparity operators", description=DESCRIPTION.format(verdicts=verdicts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--output_dir", type=Path, default=Path("atlas"), metavar="DIR", help="(default: atlas)")
    made.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="an operator or a pattern (*, ?); may be repeated"
    )
    made.add_argument(
        "--dtype", action="append", choices=DTYPES, help="only this precision; may be repeated (default: all three)"
    )
    made.add_argument("--mode", choices=MODES, help="only how MindSpore runs it so (default: both)")
    made.add_argument("--page", type=Path, metavar="FILE.md", help="write the worst between this page's two marks, too")
    made.add_argument("--list", action="store_true", help="name the operators and questions, and ask nothing")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code."""
    options = parser().parse_args(arguments)
    if options.list:
        print("\n".join(e.name for e in entries.table()))
        print("\n".join(f"{d.operator}: {d.about}" for d in differences.table()))
        return AGREE
    try:
        return _make(options)
    except HarnessError as error:
        print(f"atlas: {error}", file=sys.stderr)
        return error.exit_code


def _make(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    modes = (options.mode,) if options.mode else MODES
    dtypes = tuple(options.dtype or DTYPES)
    bar = _Bar()
    found = run(options.only, dtypes, modes, progress=bar)
    bar.close()
    environment = {name: _version(name) for name in ("mindspore", "torch", "numpy")} | {
        "python": platform.python_version(), "device": f"CPU, {_processor()}",
        "precisions": ", ".join(dtypes), "modes": ", ".join(modes),
        "took": f"{time.perf_counter() - began:.0f} s",
    }  # fmt: skip
    text = json.dumps({"format": 1, "environment": environment, "rows": [row.as_json() for row in found]}, indent=1)
    write_atomically(options.output_dir / "atlas.json", text.encode())
    write_atomically(options.output_dir / "atlas.html", page.page(found, environment).encode())
    write_atomically(options.output_dir / "worst.md", (worst.markdown(found) + "\n").encode())
    if options.page:
        write_atomically(options.page, worst.into(read_text(options.page), found).encode())
    counts = Counter(row.verdict for row in found)
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in rows.VERDICTS if counts[verdict]))
    print(f"{options.output_dir / 'atlas.html'}")
    return AGREE


class _Bar:
    """tqdm where it is installed, and nothing where it is not."""

    def __init__(self):
        self.bar = None

    def __call__(self, done: int, total: int, name: str) -> None:
        if self.bar is None:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(total=total, unit="operator", disable=None)
        self.bar.set_postfix_str(name)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Ends the bar's line."""
        if self.bar is not None:
            self.bar.close()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name, where the system says it."""
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
