"""The command line of the comparison: scripts/compare.py."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from ms_ddpm.cli import Parser, command_line, output_directory
from ms_ddpm.config import FIELDS, add_options, resolve
from ms_ddpm.errors import UserError
from portparity.errors import AGREE, DIFFER, HarnessError

DESCRIPTION = """MindSpore and PyTorch side by side: one recipe, trained and sampled in both.

  python scripts/compare.py --config configs/digits.yaml
  python scripts/compare.py --config configs/digits.yaml --steps 1000 --num_samples 1000 --output_dir runs/compare
  python scripts/compare.py --config configs/cifar10.yaml --dropout 0 --dim 32 --train_batch_size 16 --steps 50

Both start from the same weights and get the same batches, times and noise; then they sample from the same noise. They
agree if MindSpore's loss and gradient norm stay, step by step, within what PyTorch's own float32 arithmetic strays from
float64 (PyTorch also runs in float64, with other kernels, and with inputs moved by one unit in the last place), and so
does a sampling chain of equal weights. Two processes compute by turns of a few steps, so that times are comparable.

Written to --output_dir: compare.html (one file, to open or to send), summary.md, compare.json, and the sample grids
mindspore.png and torch.png.

Exit codes: 0 they agree, 1 they do not (the page says at which step and layer), 2 bad input or a process died, 3 a
framework is not installed, 130 Ctrl-C.
"""

OTHERS = (  # keys of a recipe that say nothing here, or that have a flag of their own above
    "source", "train_num_steps", "output_dir", "save_and_sample_every", "num_samples", "keep_checkpoint_max",
    "log_every", "tensorboard", "resume", "max_nonfinite", "workers", "dropout", "amp_level",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The parser of scripts/compare.py."""
    parser = Parser(prog="compare.py", description=DESCRIPTION)
    parser.add_argument("--config", metavar="FILE", help="YAML file, as for train.py")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="optimizer steps [200]")
    parser.add_argument("--num_samples", type=int, default=200, metavar="N", help="images that each side draws [200]")
    parser.add_argument("--output_dir", default="runs/compare", metavar="DIR", help="[runs/compare]")
    parser.add_argument(
        "--layers", action=argparse.BooleanOptionalAction, default=True, help="compare every layer, too [yes]"
    )
    parser.add_argument(
        "--spoil", choices=("noise", "weights"),
        help="give PyTorch wrong ones from the middle of the run on, to see that it is noticed",
    )  # fmt: skip
    names = [name for name in FIELDS if name not in OTHERS]
    group = parser.add_argument_group("options of the recipe, with their defaults (as in the YAML file)")
    add_options(group, [*names, "dropout", "amp_level"])
    return parser


def _terminated(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Compares and writes the pages; the exit code is the verdict."""
    flags = vars(build_parser().parse_args(argv))
    own = {name: flags.pop(name) for name in ("steps", "num_samples", "layers", "spoil", "output_dir")}
    for name in ("steps", "num_samples"):
        if own[name] < 1:
            raise UserError(f"--{name} is {own[name]}, expected at least 1")
    config = resolve(flags, flags.pop("config"))
    command = command_line("compare", sys.argv[1:] if argv is None else argv)
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        return _compare(config, own, command)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        signal.signal(signal.SIGTERM, previous)


def _compare(config: object, own: dict, command: str) -> int:
    from portparity.bundles import versions

    from . import run, words, write

    run.check_frameworks()
    run.sides.check(config)
    folder = output_directory(own["output_dir"])
    found = run.compare(
        config, steps=own["steps"], num_samples=own["num_samples"], look_at_layers=own["layers"], spoil=own["spoil"],
        environment=versions,
    )  # fmt: skip
    found.results["command"] = command
    written = write.write(found, folder)
    print(words.terminal(found.results))
    print("  ".join(str(path) for path in written))
    return AGREE if found.results["verdict"] == "agree" else DIFFER
