"""Draw images from a trained model. The checkpoint holds its own configuration, so a directory is all that is needed.

  python scripts/sample.py --checkpoint runs/digits --num 64
  python scripts/sample.py --checkpoint runs/digits --sampler ddim --sampling_steps 50 --eta 0.5 --gif
  python scripts/sample.py --checkpoint runs/digits --interpolate 8 --dataset digits
  python scripts/sample.py --checkpoint runs/score_classes --labels 3 7 --guidance_scale 2 --sampler pc
  python scripts/sample.py --checkpoint runs/corruption_digits --sampling_steps 100 --amounts 0.2 0.6 1
  python scripts/sample.py --checkpoint runs/latent_autoencoder

Writes grid.png and samples.npz (arr_0, uint8, NHWC; what the model was trained on, for evaluate.py), and samples.gif
or interpolation.png where asked for. Of a class-conditional model also classes.png, a row for each class, class-K.png,
embedding.png, and labels in samples.npz.
Of a corruption model also restorations.png (images, the same with noise, and what the network makes of them) and
history.png (the steps of sampling). Of an autoencoder reconstructions.png, images above what it gives back, and these
in samples.npz.
Image i of a seed is the same picture whatever --num and --batch_size are.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from .. import registry
from ..errors import UserError, quoted
from ..systems import Option
from . import Parser, add_machine_options, start_machine


@cache
def options_of_systems() -> dict[str, tuple[Option, str]]:
    """The options that systems add: flag -> the option and, for help, what each system has to say of it."""
    found: dict[str, dict[str, list[str]]] = {}
    first: dict[str, Option] = {}
    for name in registry.names():
        system = registry.get(name)
        for option in (*system.sampling, *system.looking):
            known = first.setdefault(option.flag, option)
            choices = tuple(dict.fromkeys((*known.choices, *option.choices)))
            first[option.flag] = dataclasses.replace(known, choices=choices)
            found.setdefault(option.flag, {}).setdefault(option.help, []).append(name)
    return {
        flag: (first[flag], "; ".join(f"{', '.join(names)}: {help}" for help, names in helps.items()))
        for flag, helps in found.items()
    }


def build_parser() -> Parser:
    """The options of sample.py."""
    parser = Parser(prog="sample.py", description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="output directory of train.py, or a step-... in it"
    )
    parser.add_argument(
        "--which", choices=("last", "best"), default="last", help="which checkpoint of an output directory [last]"
    )
    parser.add_argument("--weights", choices=("ema", "model"), help="averaged or raw weights [ema; autoencoder: model]")
    parser.add_argument("--output_dir", metavar="DIR", help="where to write [DIR of --checkpoint]/samples-STEP")
    parser.add_argument("--labels", type=int, nargs="+", metavar="K", help="classes to draw, in turn [all]")
    parser.add_argument("--num", type=int, default=64, metavar="N", help="how many images [64]")
    parser.add_argument("--batch_size", type=int, default=250, metavar="B", help="images at a time [250]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--grid", type=int, metavar="COLUMNS", help="columns of grid.png [nearly square]")
    parser.add_argument("--gif", action="store_true", help="also samples.gif: the first 16 images being denoised")
    parser.add_argument("--npz", metavar="FILE", help="name of the .npz [samples.npz in --output_dir]")
    parser.add_argument(
        "--dataset",
        help="where --interpolate and the pictures of autoencoders and corruption models take their images [the one "
        "trained on; the latter two: what was held out of it]",
    )
    group = parser.add_argument_group("what the systems' models take besides")
    for flag, (option, help) in options_of_systems().items():
        settings = {"help": help, "metavar": option.metavar, "type": option.kind, "choices": option.choices or None}
        if option.kind is bool:
            settings = {"help": help, "action": argparse.BooleanOptionalAction}
        elif option.many:
            settings["nargs"] = "+"
        group.add_argument(f"--{flag}", **settings)
    add_machine_options(parser)
    return parser


def check_ranges(args: dict) -> None:
    """Raises UserError for a number that is out of its range."""
    ranges = {"num": (1, None), "batch_size": (1, None), "seed": (0, None), "grid": (1, 10000)}
    ranges |= {flag: (option.least, option.most) for flag, (option, _) in options_of_systems().items()}
    for name, (low, high) in ranges.items():
        if args[name] is not None and low is not None and args[name] < low:
            raise UserError(f"--{name} is {quoted(args[name])}, expected at least {low}")
        if args[name] is not None and high is not None and args[name] > high:
            raise UserError(f"--{name} is {quoted(args[name])}, expected at most {high}")


def main(argv: Sequence[str] | None = None) -> int:
    """Samples and writes the pictures."""
    args = vars(build_parser().parse_args(argv))
    check_ranges(args)
    from ..pictures import looking
    from ..storage import checkpoint

    looking.check_amounts(args["amounts"] or ())
    path = checkpoint.locate(Path(args["checkpoint"]), args["which"])
    state = checkpoint.read_state(path)
    start_machine(args)

    from ..systems import recipes, sizes
    from ..systems.sample import Sampling

    config = recipes.config_of(path)
    config.device_target = args.get("device_target", "CPU")
    run = Sampling(path, state, config, args)
    sizes.check_sampling(config, args["num"], min(args["batch_size"], args["num"]))
    run.system.sample(run)
    return 0
