"""The command ``ms-ddpm NAME ...``, which ``pip install`` puts beside python; ``python -m ms_ddpm.cli`` is the same.

Each command is the ``main`` of a module, which is imported when it is called.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence

from ..errors import UserError, quoted
from . import Parser, by_command, run

COMMANDS = {  # name -> its module, and what it does
    "train": ("ms_ddpm.cli.train", "train a diffusion model, or one of its relatives"),
    "sample": ("ms_ddpm.cli.sample", "draw images from a trained model"),
    "evaluate": ("ms_ddpm.cli.evaluate", "measure samples against the images they should look like"),
    "explain": ("ms_ddpm.cli.explain", "draw what the parts of a network, and the kinds of noise, do to an image"),
    "convert": ("ms_ddpm.cli.convert", "move a model between PyTorch, or another MindSpore port, and ms_ddpm"),
    "doctor": ("ms_ddpm.doctor.__main__", "what this machine has, lacks and needs for CPU, GPU and Ascend"),
    "verify": ("ms_ddpm.verify", "check every checkpoint of a run against its checksums"),
    "parity": ("parity_tests.cli", "does MindSpore compute what PyTorch computes, and if not, where does it stop"),
    "bench": ("ms_ddpm_bench.speed.cli", "how fast, how large: MindSpore against PyTorch"),
    "compare": ("ms_ddpm_bench.compare.cli", "one recipe trained and sampled in both frameworks, on one page"),
}

DESCRIPTION = """Diffusion models in MindSpore that compute what PyTorch computes.

  ms-ddpm train --config digits
  ms-ddpm sample --checkpoint runs/digits
  ms-ddpm COMMAND --help
"""


def build_parser() -> Parser:
    """The options of ms-ddpm itself; what follows the command is the command's."""
    listed = "\n".join(f"  {name:<10} {does}" for name, (_, does) in COMMANDS.items())
    parser = Parser(prog="ms-ddpm", usage="ms-ddpm COMMAND ...", description=DESCRIPTION, epilog=f"commands:\n{listed}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=argparse.SUPPRESS)
    return parser


def imported(name: str):
    """The module of the command ``name``. Raises UserError where its package was not installed with the library."""
    module = COMMANDS[name][0]
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{name} needs the package {package}, which is not installed here; a clone of the repository has it, and "
            f"this command as python scripts/{name}.py"
        )
    return importlib.import_module(module)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names with the others; its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    if not argv or argv[0].startswith("-"):
        parser.parse_args(argv)
        parser.error(f"no command; expected one of: {', '.join(COMMANDS)}")
    name, *rest = argv
    if name not in COMMANDS:
        near = difflib.get_close_matches(name[:50], COMMANDS, 1)
        hint = f"did you mean {near[0]}" if near else f"expected one of: {', '.join(COMMANDS)}"
        parser.error(f"there is no command {quoted(name)}; {hint}")
    called = imported(name)
    with by_command():
        return called.main(rest) or 0


def console() -> None:
    """What the installed command calls."""
    run(main)


if __name__ == "__main__":
    console()
